//! What has changed since the last commit.

use std::collections::HashSet;
use std::ops::Range;

use super::dropper::Snapshot;
use super::ranked::Ranked;
use super::text::Text;

/// A large string is stored in parts of so many bytes. With a name of up to about 500 bytes, a part fits into 64 KB, which
/// redb allocates for it. With a longer name it gets 128 KB.
pub const PART: usize = 65_000;

/// The name of an element of a list or of a part of a string: its number without a sign, so that names are in the order
/// of the numbers.
pub fn element_name(number: i64) -> [u8; 8] {
    number.wrapping_sub(i64::MIN).to_be_bytes()
}

/// The number in such a name.
pub fn element_number(name: &[u8]) -> Option<i64> {
    let number = i64::from_be_bytes(name.try_into().ok()?);
    Some(number.wrapping_add(i64::MIN))
}

/// What the disk has to learn of a key.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// Everything.
    Whole,
    /// These elements of a collection, or parts of a large string.
    Elements(Elements),
}

#[derive(Debug, Default, PartialEq)]
pub struct Elements {
    /// Whether the expiry, the name of the key or the length of a string has changed.
    pub is_key_changed: bool,
    /// The numbers of elements that were removed from a list. Later ones with the same numbers are in `changed`.
    pub removed: Vec<Range<i64>>,
    /// Many members that were removed from a sorted set at once. Later ones with the same names are in `changed`.
    pub taken: Vec<Snapshot<Ranked>>,
    /// The names of their rows.
    pub changed: HashSet<Text>,
}

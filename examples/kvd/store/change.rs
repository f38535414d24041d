//! What has changed since the last commit.

use std::collections::HashSet;
use std::ops::Range;

use super::text::Text;

/// A large string is stored in parts of so many bytes. With a name of up to about 500 bytes, a part fits into 64 KB, which
/// redb allocates for it. With a longer name it gets 128 KB.
pub const PART: usize = 65_000;

/// The name of an element of a list or of a part of a string: its number without a sign, so that names are in the order
/// of the numbers.
pub fn element_name(number: i64) -> [u8; 8] {
    number.wrapping_sub(i64::MIN).to_be_bytes()
}

/// What the disk has to learn of a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Everything.
    Whole,
    /// These elements of a collection, or parts of a large string.
    Elements(Elements),
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Elements {
    /// Whether the expiry, the name of the key or the length of a string has changed.
    pub is_key_changed: bool,
    /// The numbers of elements that were removed from a list. Later ones with the same numbers are in `changed`.
    pub removed: Vec<Range<i64>>,
    /// The names of their rows.
    pub changed: HashSet<Text>,
}

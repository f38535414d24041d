//! What has changed since the last commit.

use std::collections::HashSet;
use std::ops::Range;

use super::text::Text;

/// What the disk has to learn of a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Everything.
    Whole,
    /// The type, the expiry, and these elements of a collection.
    Elements(Elements),
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Elements {
    /// The numbers of elements that were removed from a list. Later ones with the same numbers are in `changed`.
    pub removed: Vec<Range<i64>>,
    /// The names of their rows.
    pub changed: HashSet<Text>,
}

//! What comparisons cost. Commands that do many of them cut their work by this, not by the number of elements: one element may have
//! hundreds of megabytes.

/// How much of this is done at a time.
pub const PART: usize = 64 * 1024;

/// An element counts as so many bytes more: some thousand short ones are a part.
const OVERHEAD: usize = 32;

/// So much each byte of a name counts that is compared with a pattern. It is bounded by the product of the lengths, so
/// commands that compare many names count both. A byte costs one step for each of the pattern at most, and about eight steps
/// take as long as what is done anyway for a byte.
pub fn cost_per_byte(pattern: &[u8]) -> usize {
    1 + pattern.len() / 8
}

/// What it costs to look for a name in so many tables. 500 look-ups of a short one are a part.
pub fn cost_of_look_ups(name: &[u8], tables: usize) -> usize {
    tables.max(1) * (4 * OVERHEAD + name.len())
}

/// What it costs to see whether two strings are equal. The bytes are read only if there are as many of them.
pub fn cost_of_equality(a: &[u8], b: &[u8]) -> usize {
    OVERHEAD + if a.len() == b.len() { a.len() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_other_lengths_are_not_read() {
        assert_eq!(cost_of_equality(b"abc", b"abd"), OVERHEAD + 3);
        assert_eq!(cost_of_equality(b"abc", b"ab"), OVERHEAD);
    }
}

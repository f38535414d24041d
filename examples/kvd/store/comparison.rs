//! What a comparison with a pattern costs. It is bounded by the product of the lengths, so commands that compare many names
//! count both.

/// So much each byte of a name counts that is compared with this pattern. A byte costs one step for each of the pattern at
/// most, and about eight steps take as long as what is done anyway for a byte.
pub fn cost_per_byte(pattern: &[u8]) -> usize {
    1 + pattern.len() / 8
}

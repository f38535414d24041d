//! The fast path for whole CR LF lines, the most frequent kind of record.

use memchr::memchr;

use super::search::examined;

/// Takes whole lines from the front of the input. A driver uses it in its inner loop while the
/// splitter's state cannot change: no record is incomplete and the terminator is plain
/// [`crlf`](crate::Terminator::crlf). See [`Splitter::lines`](super::Splitter::lines).
#[derive(Debug)]
pub struct Lines {
    limit: u64,
    /// The last search found no LF in the whole input. [`Splitter::next_after`] does not repeat it.
    ///
    /// [`Splitter::next_after`]: super::Splitter::next_after
    pub(super) searched: bool,
}

impl Lines {
    /// `limit`: the maximum length of a line in bytes, without its CR LF.
    pub(super) fn new(limit: u64) -> Self {
        Lines {
            limit,
            searched: false,
        }
    }

    /// Takes the line at the front of `input` and returns it without its CR LF.
    ///
    /// `None` means that this fast path does not apply: the line is incomplete, is longer than the
    /// limit, or contains a lone LF. The input is unchanged then, and
    /// [`Splitter::next_after`](super::Splitter::next_after) decides.
    // Otherwise it is a call for each line in a program with more than one type of session.
    #[inline(always)]
    pub fn next<'i>(&mut self, input: &mut &'i [u8]) -> Option<&'i [u8]> {
        let Some(lf) = find_lf(input) else {
            examined(input.len());
            self.searched = true;
            return None;
        };
        examined(lf + 1);
        let (line, rest) = input.split_at_checked(lf + 1)?;
        let line = line.strip_suffix(b"\r\n")?;
        if line.len() as u64 > self.limit {
            return None;
        }
        *input = rest;
        Some(line)
    }
}

/// Returns the index of the first LF.
///
/// Most lines are short. For these, comparing a few blocks here costs less than the set-up of `memchr`.
#[inline(always)]
fn find_lf(hay: &[u8]) -> Option<usize> {
    const NEAR: usize = 64;
    let Some((near, far)) = hay.split_at_checked(NEAR) else {
        return memchr(b'\n', hay);
    };
    for (n, block) in near.as_chunks::<BLOCK>().0.iter().enumerate() {
        // `|` and not `||` or `any`: the compiler makes one vector comparison of it.
        let found = block
            .iter()
            .fold(false, |found, &byte| found | (byte == b'\n'));
        if found {
            return Some(n * BLOCK + first_lf_in(*block));
        }
    }
    memchr(b'\n', far).map(|lf| lf + NEAR)
}

const BLOCK: usize = 16;

/// Returns the index of the first LF in a block that contains one.
#[inline(always)]
fn first_lf_in(block: [u8; BLOCK]) -> usize {
    const ONES: u128 = u128::MAX / 0xff;
    const HIGH_BITS: u128 = ONES << 7;
    const LF: u128 = ONES * b'\n' as u128;
    // A byte of `zero` is zero where the block has an LF. The subtraction sets the high bit of each
    // such byte. It can also set that of bytes above the first one, which do not matter.
    let zero = u128::from_le_bytes(block) ^ LF;
    let found = zero.wrapping_sub(ONES) & !zero & HIGH_BITS;
    found.trailing_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lf_is_found_at_every_index() {
        // Bytes that differ from LF in one bit, or that make the subtraction borrow.
        for filling in [0x00, 0x0b, 0x09, 0x8a, 0x4a, 0x0d, 0x7f, 0xff] {
            for len in 0..150 {
                let mut hay = vec![filling; len];
                assert_eq!(find_lf(&hay), None);
                for at in (0..len).rev() {
                    hay[at] = b'\n';
                    assert_eq!(find_lf(&hay), Some(at), "{filling:#x}, {len}");
                }
            }
        }
    }
}

//! The fast path for whole CR LF lines, the most frequent kind of record.

use memchr::memchr;

use super::search::examined;
use crate::sys::positions::{BLOCK, positions_of};

/// Takes whole lines from the front of one input. A driver uses it in its inner loop while the
/// splitter's state cannot change: no record is incomplete and the terminator is plain
/// [`crlf`](crate::Terminator::crlf). See [`Splitter::lines`](super::Splitter::lines).
///
/// One search finds all LFs of a block of 64 bytes. The next lines of this block need no search.
#[derive(Debug)]
pub struct Lines<'i> {
    /// The input that has not been taken.
    rest: &'i [u8],
    /// At most 2 GiB, so that the sum with the length of the CR LF does not overflow.
    limit: u32,
    /// The LFs of the current block whose lines have not been taken. Bit n stands for byte n of the block.
    found: u64,
    /// How long the line would be, without its CR LF, that ends with the first byte of the block. The front of the rest
    /// moves past the beginning of the block when a line is taken, so the number wraps below zero.
    base: usize,
    /// The last search found no LF in the rest.
    searched: bool,
}

impl<'i> Lines<'i> {
    /// `limit`: the maximum length of a line in bytes, without its CR LF.
    pub(super) fn new(limit: u64, input: &'i [u8]) -> Self {
        Lines {
            rest: input,
            limit: limit.min(i32::MAX as u64) as u32,
            found: 0,
            // The first search begins after this block, at the front.
            base: 0_usize.wrapping_sub(1 + BLOCK),
            searched: false,
        }
    }

    /// Takes the line at the front of the rest of the input and returns it without its CR LF.
    ///
    /// `None` means that this fast path does not apply: the line is incomplete, is longer than the
    /// limit, or contains a lone LF. The rest of the input is unchanged then, and
    /// [`Splitter::next_after`](super::Splitter::next_after) decides.
    // Otherwise it is a call for each line in a program with more than one type of session.
    #[inline(always)]
    pub fn next(&mut self) -> Option<&'i [u8]> {
        if self.found == 0 && !self.search() {
            return None;
        }
        let lf = self.found.trailing_zeros() as usize;
        // It wraps to a number above the limit if the LF is the first byte of the rest.
        let len = self.base.wrapping_add(lf);
        if len > self.limit as usize {
            return None;
        }
        let end = len + 2;
        let (line, rest) = self.rest.split_at_checked(end)?;
        let line = line.strip_suffix(b"\r\n")?;
        self.found &= self.found - 1;
        self.base = self.base.wrapping_sub(end);
        self.rest = rest;
        Some(line)
    }

    /// The input that has not been taken.
    #[inline]
    pub fn rest(&self) -> &'i [u8] {
        self.rest
    }

    /// Whether the rest is known to contain no LF.
    #[inline]
    pub fn is_searched(&self) -> bool {
        self.searched
    }

    /// Finds the first LF after the current block, and others that are close to it. Returns whether there is one.
    #[inline(always)]
    fn search(&mut self) -> bool {
        self.base = self.base.wrapping_add(BLOCK);
        let unsearched = self.rest.get(self.base.wrapping_add(1)..);
        let Some((block, far)) = unsearched.and_then(|unsearched| unsearched.split_first_chunk())
        else {
            let tail = unsearched.unwrap_or_default();
            self.found = positions_in_tail(tail);
            examined(tail.len());
            self.searched = self.found == 0;
            return self.found != 0;
        };
        self.found = positions_of(b'\n', block);
        examined(BLOCK);
        if self.found != 0 {
            return true;
        }
        // Most lines are short. For these, to search a block here costs less than the set-up of `memchr`.
        let Some(lf) = find_lf(far) else {
            self.searched = true;
            return false;
        };
        // It counts as the last byte of a block, so that the next search begins after it.
        self.found = 1 << (BLOCK - 1);
        self.base = self.base.wrapping_add(lf + 1);
        true
    }
}

/// Returns where the first LF is.
#[inline(never)]
fn find_lf(far: &[u8]) -> Option<usize> {
    let found = memchr(b'\n', far);
    examined(found.map_or(far.len(), |lf| lf + 1));
    found
}

/// Returns where LF occurs in less than a block.
#[inline(always)]
fn positions_in_tail(tail: &[u8]) -> u64 {
    if tail.is_empty() {
        return 0;
    }
    let mut block = [0; BLOCK];
    if let Some(begin) = block.get_mut(..tail.len()) {
        begin.copy_from_slice(tail);
    }
    positions_of(b'\n', &block)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines that are taken from `input`, and how many bytes are left.
    fn lines(input: &[u8]) -> (Vec<&[u8]>, usize) {
        let mut lines = Lines::new(u64::MAX, input);
        let taken = std::iter::from_fn(|| lines.next()).collect();
        (taken, lines.rest().len())
    }

    #[test]
    fn a_line_is_found_wherever_its_lf_is() {
        // Bytes that differ from LF in one bit.
        for filling in [0x00, 0x0b, 0x09, 0x8a, 0x4a, 0x0d, 0x7f, 0xff] {
            for len in 2..400 {
                let mut input = vec![filling; len];
                assert_eq!(lines(&input), (vec![], len));
                for lf in (1..len).rev() {
                    input[lf - 1..=lf].copy_from_slice(b"\r\n");
                    let (taken, left) = lines(&input);
                    assert_eq!(taken[0], &input[..lf - 1], "{filling:#x}, {len}");
                    assert!(left < len - lf);
                    input[lf - 1..=lf].fill(filling);
                }
            }
        }
    }

    #[test]
    fn lines_of_all_lengths_follow_each_other() {
        let line = [b'.'; 300];
        for first in 0..300 {
            for second in (0..300).step_by(7) {
                let mut input = Vec::new();
                let lengths = [first, second, 0, first, 0, 0, second];
                for n in lengths {
                    input.extend_from_slice(&line[..n]);
                    input.extend_from_slice(b"\r\n");
                }
                input.extend_from_slice(&line[..second]);
                let (taken, left) = lines(&input);
                assert!(taken.iter().map(|line| line.len()).eq(lengths));
                assert_eq!(left, second);
            }
        }
    }
}

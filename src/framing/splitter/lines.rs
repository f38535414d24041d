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
pub struct Lines {
    limit: u64,
    /// The LFs of the current block whose lines have not been taken. Bit n stands for byte n of the block.
    found: u64,
    /// Where the block begins, relative to the front of the input. The front moves past this point when a line
    /// is taken, so the number wraps below zero. Its sum with the position of an LF is always in the input.
    block: usize,
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
            found: 0,
            // The first search begins after this block, at the front.
            block: 0_usize.wrapping_sub(BLOCK),
            searched: false,
        }
    }

    /// Takes the line at the front of `input` and returns it without its CR LF. Between two calls only this
    /// function may consume input.
    ///
    /// `None` means that this fast path does not apply: the line is incomplete, is longer than the
    /// limit, or contains a lone LF. The input is unchanged then, and
    /// [`Splitter::next_after`](super::Splitter::next_after) decides.
    // Otherwise it is a call for each line in a program with more than one type of session.
    #[inline(always)]
    pub fn next<'i>(&mut self, input: &mut &'i [u8]) -> Option<&'i [u8]> {
        if self.found == 0 && !self.search(input) {
            return None;
        }
        let lf = self
            .block
            .wrapping_add(self.found.trailing_zeros() as usize);
        let (line, rest) = input.split_at_checked(lf + 1)?;
        let line = line.strip_suffix(b"\r\n")?;
        if line.len() as u64 > self.limit {
            return None;
        }
        self.found &= self.found - 1;
        self.block = self.block.wrapping_sub(lf + 1);
        *input = rest;
        Some(line)
    }

    /// Finds the first LF after the current block, and others that are close to it. Returns whether there is one.
    #[inline(always)]
    fn search(&mut self, input: &[u8]) -> bool {
        let from = self.block.wrapping_add(BLOCK);
        let unsearched = input.get(from..).unwrap_or_default();
        if let Some(block) = unsearched.first_chunk() {
            let found = positions_of(b'\n', block);
            if found != 0 {
                examined(BLOCK);
                self.found = found;
                self.block = from;
                return true;
            }
        }
        self.search_far(from, unsearched)
    }

    /// Finds the first LF in what is shorter than a block, or begins with a block that has none. It begins at `from`.
    #[inline(always)]
    fn search_far(&mut self, from: usize, unsearched: &[u8]) -> bool {
        if unsearched.is_empty() {
            return false;
        }
        let Some(lf) = find_far(unsearched) else {
            self.searched = true;
            return false;
        };
        // It counts as the last byte of a block, so that the next search begins after it.
        self.found = 1 << (BLOCK - 1);
        self.block = (from + lf + 1).wrapping_sub(BLOCK);
        true
    }
}

/// Returns the index of the first LF in what is shorter than a block, or begins with a block that has none.
#[inline(never)]
fn find_far(input: &[u8]) -> Option<usize> {
    let skipped = if input.len() < BLOCK { 0 } else { BLOCK };
    let found = memchr(b'\n', input.get(skipped..).unwrap_or_default());
    examined(skipped + found.map_or(input.len() - skipped, |lf| lf + 1));
    found.map(|lf| lf + skipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines that are taken from `input`, and how many bytes are left.
    fn lines(mut input: &[u8]) -> (Vec<&[u8]>, usize) {
        let mut lines = Lines::new(u64::MAX);
        let taken = std::iter::from_fn(|| lines.next(&mut input)).collect();
        (taken, input.len())
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

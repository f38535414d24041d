//! A delimiter prepared for searching, also across the boundary of two segments of input.

use memchr::memmem::Finder;

/// The bytes of a delimiter, at least one, with the tables for two searches: `memmem` within one
/// segment, and Knuth-Morris-Pratt (SIAM J. Comput. 6, 1977) from one segment to the next.
pub(crate) struct Needle {
    finder: Finder<'static>,
    /// The failure function: `borders[i]` is the length of the longest proper prefix of the first
    /// `i` bytes that is also their suffix.
    borders: Box<[usize]>,
}

impl Needle {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut borders = vec![0, 0];
        let mut matched = 0;
        for &byte in bytes.iter().skip(1) {
            matched = extend(bytes, &borders, matched, byte);
            borders.push(matched);
        }
        Self {
            finder: Finder::new(bytes).into_owned(),
            borders: borders.into(),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.finder.needle()
    }

    /// Returns the start of the leftmost match in `hay`.
    pub(crate) fn find(&self, hay: &[u8]) -> Option<usize> {
        self.finder.find(hay)
    }

    /// Returns how many of `matched` matched bytes may begin another match after a mismatch.
    pub(crate) fn border(&self, matched: usize) -> usize {
        self.borders.get(matched).copied().unwrap_or(0)
    }

    /// Returns how many bytes at the end of `hay`, which contains no match, may begin one.
    pub(crate) fn partial_match(&self, hay: &[u8]) -> usize {
        let longest = self.bytes().len().saturating_sub(1);
        let tail = hay.get(hay.len().saturating_sub(longest)..).unwrap_or(hay);
        tail.iter().fold(0, |matched, &byte| {
            extend(self.bytes(), &self.borders, matched, byte)
        })
    }
}

impl PartialEq for Needle {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Needle {}

/// One step of Knuth-Morris-Pratt: returns how many bytes of `needle` match after `byte`, given
/// that `matched` bytes matched before it.
fn extend(needle: &[u8], borders: &[usize], mut matched: usize, byte: u8) -> usize {
    loop {
        if needle.get(matched) == Some(&byte) {
            return matched + 1;
        }
        if matched == 0 {
            return 0;
        }
        matched = borders.get(matched).copied().unwrap_or(0);
    }
}

//! Searches for the end of a record in one segment of input.
//!
//! Each search reports the bytes it has examined to [`examined`], so that a test can prove that the
//! cost of splitting is linear.

use std::sync::LazyLock;

use memchr::{memchr, memmem};

use crate::framing::needle::Needle;

/// Returns the start of the first CR LF.
#[inline]
pub(super) fn find_crlf(hay: &[u8]) -> Option<usize> {
    // The search is for LF and not for CR, because the byte before an LF is known, while the byte
    // after a CR may not have arrived yet.
    let mut from = 0;
    let found = loop {
        // Not `memchr_iter`: its set-up costs as much as the search of a short line.
        let Some(lf) = memchr(b'\n', hay.get(from..).unwrap_or_default()) else {
            break None;
        };
        from += lf + 1;
        match from.checked_sub(2) {
            Some(cr) if hay.get(cr) == Some(&b'\r') => break Some(cr),
            _ => {}
        }
    };
    examined(found.map_or(hay.len(), |cr| cr + 2));
    found
}

/// Returns the start and the length of the first line ending, LF or CR LF.
#[inline]
pub(super) fn find_line_ending(hay: &[u8]) -> Option<(usize, usize)> {
    let found = memchr(b'\n', hay);
    examined(found.map_or(hay.len(), |lf| lf + 1));
    found.map(|lf| match lf.checked_sub(1) {
        Some(cr) if hay.get(cr) == Some(&b'\r') => (cr, 2),
        _ => (lf, 1),
    })
}

/// Returns the start of the first match of `needle`.
pub(super) fn find_needle(needle: &Needle, hay: &[u8]) -> Option<usize> {
    let len = needle.bytes().len();
    if hay.len() < len {
        return None;
    }
    let found = needle.find(hay);
    examined(found.map_or(hay.len(), |at| at + len));
    found
}

/// Returns how many bytes at the end of `hay`, which contains no match, may begin one.
pub(super) fn partial_match(needle: &Needle, hay: &[u8]) -> usize {
    examined(hay.len().min(needle.bytes().len() - 1));
    needle.partial_match(hay)
}

/// Returns the start of the first line that begins with a dot, not counting the line at the front of
/// `hay`.
pub(super) fn find_dot_line(hay: &[u8]) -> Option<usize> {
    static DOT_LINE: LazyLock<memmem::Finder<'static>> =
        LazyLock::new(|| memmem::Finder::new(b"\r\n."));
    let found = DOT_LINE.find(hay).map(|cr| cr + 2);
    examined(found.map_or(hay.len(), |line| line + 1));
    found
}

/// Counts examined bytes for the tests of linear cost. Does nothing in other builds.
#[inline(always)]
pub(super) fn examined(_bytes: usize) {
    #[cfg(test)]
    EXAMINED.set(EXAMINED.get() + _bytes);
}

#[cfg(test)]
thread_local! {
    pub(super) static EXAMINED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

//! Where in a record the input stands, and the search for its end. See the parent module.

use std::sync::LazyLock;

use memchr::{memchr, memmem};

use crate::framing::terminator::{Kind, Needle};

/// Where in a record the input stands. The default is its beginning.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The bytes known to be content so far.
    pub(super) length: u64,
    /// The bytes held back: so much of the terminator has been seen, which is shorter than 4 GiB.
    matched: u32,
    /// The same for dot blocks, whose terminator depends on what precedes it.
    line: Line,
}

/// Where in a line of a dot block.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Line {
    #[default]
    Start,
    /// After a dot at the start, which is held back.
    Dot,
    /// After a dot at the start and a CR, which are held back.
    DotCr,
    Text,
    /// After a CR, which is content whatever follows.
    Cr,
}

/// What a scan found: first bytes that had been held back and are content after all, then, at the
/// front of the input, content, and bytes that are no content, or perhaps none.
///
/// Nothing at all means that there was no input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// There is none together with `content`, nor with `end`.
    pub(super) lead: usize,
    pub(super) content: usize,
    /// The terminator, or what may become it, or a dot that is removed. Whatever it is, it can
    /// only follow where a terminator can begin: see [`Cursor::rewind`].
    pub(super) tail: usize,
    /// `tail` is, or completes, the terminator.
    pub(super) end: bool,
}

impl Step {
    fn end(content: usize, tail: usize) -> Self {
        Self {
            content,
            tail,
            end: true,
            ..Self::default()
        }
    }

    fn more(content: usize, tail: usize) -> Self {
        Self {
            content,
            tail,
            ..Self::default()
        }
    }

    fn lead(lead: usize, tail: usize) -> Self {
        Self {
            lead,
            tail,
            ..Self::default()
        }
    }
}

impl Cursor {
    /// Looks at the front of `hay` and moves behind what the step says. All but `length`, which
    /// is the caller's to keep, since it decides what to do with the content.
    #[inline]
    pub(super) fn scan(&mut self, kind: &Kind, hay: &[u8]) -> Step {
        let Some(&first) = hay.first() else {
            let done = matches!(*kind, Kind::Count(n) if n == self.length);
            return Step {
                end: done,
                ..Step::default()
            };
        };
        match kind {
            Kind::Crlf | Kind::Line if self.matched > 0 => {
                scanned(1);
                self.matched = 0;
                if first == b'\n' {
                    Step::end(0, 1)
                } else {
                    Step::lead(1, 0)
                }
            }
            Kind::Crlf => match find_crlf(hay) {
                Some(cr) => Step::end(cr, 2),
                None => self.past(hay),
            },
            Kind::Line => match find_lf(hay) {
                Some((content, ending)) => Step::end(content, ending),
                None => self.hold(hay, usize::from(hay.ends_with(b"\r"))),
            },
            Kind::Bytes(needle) if self.matched > 0 => self.carry(needle, hay),
            Kind::Bytes(needle) => match find_needle(needle, hay) {
                Some(at) => Step::end(at, needle.bytes().len()),
                None => self.hold(hay, find_begun(needle, hay)),
            },
            Kind::Count(n) => {
                let left = n.saturating_sub(self.length);
                match usize::try_from(left) {
                    Ok(left) if left <= hay.len() => Step::end(left, 0),
                    _ => Step::more(hay.len(), 0),
                }
            }
            Kind::Everything | Kind::IdleGap(_) => Step::more(hay.len(), 0),
            Kind::DotBlock => self.scan_block(first, hay),
        }
    }

    /// The step over `hay` where a search for CR LF, at the beginning of a record, went in vain.
    pub(super) fn past(&mut self, hay: &[u8]) -> Step {
        self.hold(hay, usize::from(hay.ends_with(b"\r")))
    }

    /// All of `hay` is content but its last `held` bytes.
    fn hold(&mut self, hay: &[u8], held: usize) -> Step {
        self.hold_back(held);
        Step::more(hay.len().saturating_sub(held), held)
    }

    /// The front of `hay` after `matched` bytes that were held back.
    fn carry(&mut self, needle: &Needle, hay: &[u8]) -> Step {
        let held = self.matched as usize;
        let mut matched = held;
        self.matched = 0;
        for (taken, &byte) in hay.iter().enumerate() {
            scanned(1);
            if needle.bytes().get(matched) != Some(&byte) {
                let still = needle.border(matched);
                if still > taken {
                    self.hold_back(still);
                    return Step::lead(matched - still, taken);
                }
                // What may still match begins in `hay`, where the fast search finds it: going
                // on here could release a byte at a time for the whole of it ("aab" in "aaa..").
                return Step::lead(held, 0);
            }
            matched += 1;
            if matched == needle.bytes().len() {
                return Step::end(0, taken + 1);
            }
        }
        self.hold_back(matched);
        Step::more(0, hay.len())
    }

    fn scan_block(&mut self, first: u8, hay: &[u8]) -> Step {
        match (self.line, first) {
            (Line::Start, b'.') => {
                if hay.starts_with(b".\r\n") {
                    return Step::end(0, 3);
                }
                self.line = Line::Dot;
                return Step::more(0, 1);
            }
            (Line::Dot, b'\r') => {
                self.line = Line::DotCr;
                return Step::more(0, 1);
            }
            (Line::DotCr, b'\n') => {
                self.line = Line::Start;
                return Step::end(0, 1);
            }
            (Line::DotCr, _) => {
                self.line = Line::Cr;
                return Step::lead(1, 0);
            }
            (Line::Cr, b'\n') => {
                self.line = Line::Start;
                return Step::more(1, 0);
            }
            _ => {}
        }
        let Some(line) = find_dot_line(hay) else {
            self.line = match hay {
                [.., b'\r', b'\n'] => Line::Start,
                [.., b'\r'] => Line::Cr,
                _ => Line::Text,
            };
            return Step::more(hay.len(), 0);
        };
        if hay
            .get(line..)
            .is_some_and(|rest| rest.starts_with(b".\r\n"))
        {
            self.line = Line::Start;
            return Step::end(line, 3);
        }
        self.line = Line::Dot;
        Step::more(line, 1)
    }

    fn hold_back(&mut self, bytes: usize) {
        self.matched = bytes as u32;
    }

    /// Back over a step's tail: nothing is matched yet where a terminator can begin.
    pub(super) fn rewind(&mut self) {
        self.matched = 0;
        self.line = Line::Start;
    }

    /// The bytes held back.
    #[inline]
    pub(super) fn held<'k>(&self, kind: &'k Kind) -> &'k [u8] {
        match (kind, self.line) {
            (Kind::DotBlock, Line::Dot) => b".",
            (Kind::DotBlock, Line::DotCr) => b".\r",
            _ => Self::lead(kind, self.matched as usize),
        }
    }

    /// The bytes of a step's lead. They are the front of the terminator, but the dot, which is
    /// never content.
    #[inline]
    pub(super) fn lead(kind: &Kind, len: usize) -> &[u8] {
        let terminator = match kind {
            Kind::Bytes(needle) => needle.bytes(),
            _ => b"\r",
        };
        terminator.get(..len).unwrap_or_default()
    }
}

/// Where the first CR LF begins.
#[inline]
fn find_crlf(hay: &[u8]) -> Option<usize> {
    // LF is looked for and not CR: what precedes it has been read, what follows a CR may not be
    // there yet.
    let mut from = 0;
    let found = loop {
        // Not `memchr_iter`, whose set-up costs as much as the search of a short line.
        let Some(lf) = memchr(b'\n', hay.get(from..).unwrap_or_default()) else {
            break None;
        };
        from += lf + 1;
        match from.checked_sub(2) {
            Some(cr) if hay.get(cr) == Some(&b'\r') => break Some(cr),
            _ => {}
        }
    };
    scanned(found.map_or(hay.len(), |cr| cr + 2));
    found
}

/// Whole lines of at most so many bytes.
pub struct Lines {
    limit: u64,
    /// The last search went to the end of the input, in vain: it need not be made again.
    pub(super) in_vain: bool,
}

impl Lines {
    pub(super) fn of(limit: u64) -> Self {
        Lines {
            limit,
            in_vain: false,
        }
    }

    /// The line at the front of `input`, if it is there whole, at the cost of little more than the
    /// search for it. `None` says nothing, but that the splitter has to look closer.
    #[inline]
    pub fn next<'i>(&mut self, input: &mut &'i [u8]) -> Option<&'i [u8]> {
        let Some(lf) = lf_in(input) else {
            scanned(input.len());
            self.in_vain = true;
            return None;
        };
        scanned(lf + 1);
        let (line, rest) = input.split_at_checked(lf + 1)?;
        let line = line.strip_suffix(b"\r\n")?;
        if line.len() as u64 > self.limit {
            return None;
        }
        *input = rest;
        Some(line)
    }
}

/// Where the first LF is. That of most lines is near: eight bytes at a time take less than `memchr`
/// does to set up.
#[inline]
fn lf_in(hay: &[u8]) -> Option<usize> {
    const NEAR: usize = 64;
    const EACH: u64 = u64::MAX / 0xff;
    const LF: u64 = EACH * 0x0a;
    let Some((near, far)) = hay.split_at_checked(NEAR) else {
        return memchr(b'\n', hay);
    };
    for (n, word) in near.as_chunks::<8>().0.iter().enumerate() {
        // Where it has an LF this has a zero byte; the lowest such is found, and no other before it.
        let zero = u64::from_le_bytes(*word) ^ LF;
        let found = zero.wrapping_sub(EACH) & !zero & (EACH << 7);
        if found != 0 {
            return Some(n * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    memchr(b'\n', far).map(|lf| lf + NEAR)
}

/// Where the first LF, or CR LF, begins, and its length.
#[inline]
fn find_lf(hay: &[u8]) -> Option<(usize, usize)> {
    let found = memchr(b'\n', hay);
    scanned(found.map_or(hay.len(), |lf| lf + 1));
    found.map(|lf| match lf.checked_sub(1) {
        Some(cr) if hay.get(cr) == Some(&b'\r') => (cr, 2),
        _ => (lf, 1),
    })
}

fn find_needle(needle: &Needle, hay: &[u8]) -> Option<usize> {
    let len = needle.bytes().len();
    if hay.len() < len {
        return None;
    }
    let found = needle.find(hay);
    scanned(found.map_or(hay.len(), |at| at + len));
    found
}

fn find_begun(needle: &Needle, hay: &[u8]) -> usize {
    scanned(hay.len().min(needle.bytes().len() - 1));
    needle.begun(hay)
}

/// Where the first line begins, not the one in hand, that begins with a dot.
fn find_dot_line(hay: &[u8]) -> Option<usize> {
    static DOT_LINE: LazyLock<memmem::Finder<'static>> =
        LazyLock::new(|| memmem::Finder::new(b"\r\n."));
    let found = DOT_LINE.find(hay).map(|cr| cr + 2);
    scanned(found.map_or(hay.len(), |line| line + 1));
    found
}

/// For the test of linearity: how many bytes have been looked at.
#[inline(always)]
fn scanned(_bytes: usize) {
    #[cfg(test)]
    SCANNED.set(SCANNED.get() + _bytes);
}

#[cfg(test)]
thread_local! {
    pub(super) static SCANNED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lf_is_found_wherever_it_is() {
        // What differs from LF in one bit, or makes a subtraction borrow.
        for filling in [0x00, 0x0b, 0x09, 0x8a, 0x4a, 0x0d, 0x7f, 0xff] {
            for len in 0..150 {
                let mut hay = vec![filling; len];
                assert_eq!(lf_in(&hay), None);
                for at in (0..len).rev() {
                    hay[at] = b'\n';
                    assert_eq!(lf_in(&hay), Some(at), "{filling:#x}, {len}");
                }
            }
        }
    }
}

//! The position within a record, and the scan that moves it.

use super::search::{
    examined, find_crlf, find_dot_line, find_line_ending, find_needle, partial_match,
};
use crate::framing::needle::Needle;
use crate::framing::terminator::Kind;

/// The position within a record. The default is the beginning of a record.
///
/// A cursor stores no bytes. Bytes that may belong to the terminator are equal to the terminator's
/// first bytes, so their number is enough to restore them.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// How many bytes of content precede the position. The caller of [`scan`](Self::scan) updates it,
    /// because the caller decides whether the content is delivered.
    pub(super) length: u64,
    /// How many bytes of the terminator match before the position. A terminator is shorter than 4 GiB.
    matched: u32,
    /// The same for a dot block, whose terminator depends on the position within the line.
    line: Line,
}

/// The position within a line of a dot block.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Line {
    #[default]
    Start,
    /// After a dot at the start of the line. The dot is pending.
    Dot,
    /// After a dot at the start of the line and a CR. Both are pending.
    DotCr,
    Text,
    /// After a CR, which is content whatever follows.
    Cr,
}

/// The result of a scan. In the order of the stream it is: pending bytes of earlier input that have
/// turned out to be content, then content at the front of the input, then bytes that are not content.
///
/// The default, which covers no bytes, means that the input is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// How many pending bytes are content after all. If it is not 0, `content` is 0 and `end` is false.
    pub(super) released: usize,
    pub(super) content: usize,
    /// How many bytes follow the content that are the terminator, or may begin it, or are a dot that
    /// is removed. A terminator can begin at the first of them, see [`Cursor::rewind`].
    pub(super) tail: usize,
    /// The tail completes the terminator.
    pub(super) end: bool,
}

impl Scan {
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

    fn release(released: usize, tail: usize) -> Self {
        Self {
            released,
            tail,
            ..Self::default()
        }
    }
}

impl Cursor {
    /// Examines the front of `hay` and moves behind the bytes that the scan covers. `length` does not
    /// change.
    #[inline]
    pub(super) fn scan(&mut self, kind: &Kind, hay: &[u8]) -> Scan {
        let Some(&first) = hay.first() else {
            let complete = matches!(*kind, Kind::Count(n) if n == self.length);
            return Scan {
                end: complete,
                ..Scan::default()
            };
        };
        match kind {
            Kind::Crlf | Kind::Line if self.matched > 0 => {
                examined(1);
                self.matched = 0;
                if first == b'\n' {
                    Scan::end(0, 1)
                } else {
                    Scan::release(1, 0)
                }
            }
            Kind::Crlf => match find_crlf(hay) {
                Some(cr) => Scan::end(cr, 2),
                None => self.pass_without_lf(hay),
            },
            Kind::Line => match find_line_ending(hay) {
                Some((content, ending)) => Scan::end(content, ending),
                None => self.pass_without_lf(hay),
            },
            Kind::Bytes(needle) if self.matched > 0 => self.continue_match(needle, hay),
            Kind::Bytes(needle) => match find_needle(needle, hay) {
                Some(at) => Scan::end(at, needle.bytes().len()),
                None => self.pass(hay, partial_match(needle, hay)),
            },
            Kind::Count(n) => {
                let left = n.saturating_sub(self.length);
                match usize::try_from(left) {
                    Ok(left) if left <= hay.len() => Scan::end(left, 0),
                    _ => Scan::more(hay.len(), 0),
                }
            }
            Kind::Everything | Kind::IdleGap(_) => Scan::more(hay.len(), 0),
            Kind::DotBlock => self.scan_block(first, hay),
        }
    }

    /// Like [`scan`](Self::scan), for a record that includes its terminator: all bytes that the scan covers
    /// are content. None is pending, so none is released.
    // Not inlined, so that `scan` is inlined into the other loops.
    #[inline(never)]
    pub(super) fn scan_inclusive(&mut self, kind: &Kind, hay: &[u8]) -> Scan {
        loop {
            let scan = self.scan(kind, hay);
            let content = scan.content + scan.tail;
            if content > 0 || scan.end || hay.is_empty() {
                return Scan {
                    content,
                    end: scan.end,
                    ..Scan::default()
                };
            }
            // The scan has released bytes of earlier input. The next one covers bytes of this input.
        }
    }

    /// Moves over all of `hay`, in which a search has found no line ending.
    pub(super) fn pass_without_lf(&mut self, hay: &[u8]) -> Scan {
        self.pass(hay, usize::from(hay.ends_with(b"\r")))
    }

    /// Moves over all of `hay`. Its last `matched` bytes may begin the terminator, the others are
    /// content.
    fn pass(&mut self, hay: &[u8], matched: usize) -> Scan {
        self.set_matched(matched);
        Scan::more(hay.len().saturating_sub(matched), matched)
    }

    /// Continues a match of `needle` that began in earlier input.
    fn continue_match(&mut self, needle: &Needle, hay: &[u8]) -> Scan {
        let before = self.matched as usize;
        let mut matched = before;
        self.matched = 0;
        for (taken, &byte) in hay.iter().enumerate() {
            examined(1);
            if needle.bytes().get(matched) != Some(&byte) {
                let still = needle.border(matched);
                if still > taken {
                    // The shorter match begins in earlier input too.
                    self.set_matched(still);
                    return Scan::release(matched - still, taken);
                }
                // A shorter match can only begin in `hay`, where the fast search finds it. Going on
                // byte by byte could take a step for each byte of a long input ("aab" in "aaaa...").
                return Scan::release(before, 0);
            }
            matched += 1;
            if matched == needle.bytes().len() {
                return Scan::end(0, taken + 1);
            }
        }
        self.set_matched(matched);
        Scan::more(0, hay.len())
    }

    /// Scans a multi-line block (RFC 3977 section 3.1.1, RFC 5321 section 4.5.2).
    fn scan_block(&mut self, first: u8, hay: &[u8]) -> Scan {
        match (self.line, first) {
            (Line::Start, b'.') => {
                if hay.starts_with(b".\r\n") {
                    return Scan::end(0, 3);
                }
                self.line = Line::Dot;
                return Scan::more(0, 1);
            }
            (Line::Dot, b'\r') => {
                self.line = Line::DotCr;
                return Scan::more(0, 1);
            }
            (Line::DotCr, b'\n') => {
                self.line = Line::Start;
                return Scan::end(0, 1);
            }
            (Line::DotCr, _) => {
                // The dot is removed, the CR is content.
                self.line = Line::Cr;
                return Scan::release(1, 0);
            }
            (Line::Cr, b'\n') => {
                self.line = Line::Start;
                return Scan::more(1, 0);
            }
            _ => {}
        }
        let Some(line) = find_dot_line(hay) else {
            self.line = match hay {
                [.., b'\r', b'\n'] => Line::Start,
                [.., b'\r'] => Line::Cr,
                _ => Line::Text,
            };
            return Scan::more(hay.len(), 0);
        };
        if hay
            .get(line..)
            .is_some_and(|rest| rest.starts_with(b".\r\n"))
        {
            self.line = Line::Start;
            return Scan::end(line, 3);
        }
        self.line = Line::Dot;
        Scan::more(line, 1)
    }

    fn set_matched(&mut self, bytes: usize) {
        self.matched = bytes as u32;
    }

    /// Moves back over the tail of a scan, to where a terminator can begin.
    pub(super) fn rewind(&mut self) {
        self.matched = 0;
        self.line = Line::Start;
    }

    /// Returns the pending bytes: those before the position that may begin the terminator.
    #[inline]
    pub(super) fn pending<'k>(&self, kind: &'k Kind) -> &'k [u8] {
        match (kind, self.line) {
            (Kind::DotBlock, Line::Dot) => b".",
            (Kind::DotBlock, Line::DotCr) => b".\r",
            _ => Self::released(kind, self.matched as usize),
        }
    }

    /// Returns the bytes that a scan has released. They are the first bytes of the terminator. In a dot
    /// block it is the CR, because the dot before it is removed.
    #[inline]
    pub(super) fn released(kind: &Kind, len: usize) -> &[u8] {
        let terminator = match kind {
            Kind::Bytes(needle) => needle.bytes(),
            _ => b"\r",
        };
        terminator.get(..len).unwrap_or_default()
    }
}

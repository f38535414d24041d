//! Receives a body with the terminators of a connection.

use asynchat::Terminator;

use super::chunked;
use super::framing::Framing;
use super::status::Rejected;

/// A body that is being received.
///
/// The session sets the [`terminator`](Body::terminator), passes each record to
/// [`found_terminator`](Body::found_terminator), and sets the terminator again. Content is streamed: what the session's
/// `collect_incoming_data` receives is content, and nothing else is.
#[derive(Debug)]
pub struct Body {
    next: Next,
    /// The bytes that are left for lines which are no content.
    overhead: u64,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// So many bytes of content, the last ones.
    Content(u64),
    /// Content, up to the end of the connection.
    UntilClose,
    /// The line before a chunk.
    ChunkLine,
    /// So many bytes of content.
    Chunk(u64),
    /// The CRLF behind a chunk.
    ChunkEnd,
    /// A trailer field, or the empty line that ends them.
    Trailer,
    /// Nothing: the body is complete.
    Complete,
}

impl Body {
    pub fn new(framing: Framing) -> Body {
        Body {
            next: match framing {
                Framing::Empty => Next::Complete,
                Framing::Length(length) => Next::Content(length),
                Framing::Chunked => Next::ChunkLine,
                Framing::UntilClose => Next::UntilClose,
            },
            overhead: chunked::MOST_OVERHEAD,
        }
    }

    pub fn next(&self) -> Next {
        self.next
    }

    pub fn is_complete(&self) -> bool {
        self.next == Next::Complete
    }

    /// The terminator of the next record, or `None` if the body is complete.
    ///
    /// A record that is too long is an invalid line of a chunked body: `handle_overflow` replies 400.
    pub fn terminator(&self) -> Option<Terminator> {
        Some(match self.next {
            Next::Content(length) | Next::Chunk(length) => Terminator::count(length).streamed(),
            Next::UntilClose => Terminator::none(),
            Next::ChunkLine => Terminator::crlf().limit(chunked::LONGEST_LINE),
            // Its bytes are checked: a parser that skips them finds another chunk (CVE-2025-43859).
            Next::ChunkEnd => Terminator::count(2),
            Next::Trailer => Terminator::crlf().limit(chunked::LONGEST_TRAILER),
            Next::Complete => return None,
        })
    }

    /// The record is complete.
    pub fn found_terminator(&mut self, record: &[u8]) -> Result<(), Rejected> {
        self.next = match self.next {
            Next::Content(_) => Next::Complete,
            Next::ChunkLine => {
                let length = chunked::length(record)?;
                let permitted = length.saturating_mul(2).saturating_add(16);
                self.count_overhead(record.len() as u64, permitted)?;
                match length {
                    0 => Next::Trailer,
                    length => Next::Chunk(length),
                }
            }
            Next::Chunk(_) => Next::ChunkEnd,
            Next::ChunkEnd if record == b"\r\n" => Next::ChunkLine,
            Next::ChunkEnd => return Err(Rejected::bad("a chunk is longer than its length")),
            Next::Trailer if record.is_empty() => Next::Complete,
            Next::Trailer => {
                chunked::check_trailer(record)?;
                self.count_overhead(record.len() as u64, 0)?;
                Next::Trailer
            }
            Next::UntilClose | Next::Complete => Next::Complete,
        };
        Ok(())
    }

    /// Each chunk permits some bytes, at most up to the initial number.
    fn count_overhead(&mut self, used: u64, permitted: u64) -> Result<(), Rejected> {
        let left = self.overhead.saturating_add(permitted);
        match left.checked_sub(used) {
            Some(left) => self.overhead = left.min(chunked::MOST_OVERHEAD),
            None => return Err(Rejected::bad("the body has more framing than content")),
        }
        Ok(())
    }
}

use std::fmt;
use std::io;

use bytes::Bytes;
use memchr::memmem;

use super::converted::{Conversion, Converted};
use super::{More, Producer};

/// Sends the output of another producer as the multi-line block of NNTP (RFC 3977, 3.1.1), SMTP (RFC 5321,
/// 4.5.2) and POP3 (RFC 1939, 3): a dot at the start of a line is doubled, and a line with a single dot ends
/// the block.
///
/// If the body does not end with CRLF, CRLF is added before the final dot. An empty body becomes the final
/// dot alone. A chunk in which no dot is doubled is not copied.
///
/// A line starts at the beginning of the body and after each CRLF, and nowhere else. A bare CR or LF is
/// content and is sent unchanged: doubling a dot behind it would change what a strict reader receives. But
/// a lax reader ends a line there, and may see the end of the block where the sender sees content. This is
/// SMTP smuggling (CVE-2023-51764). RFC 5321, 2.3.8 forbids bare CR and LF, so refuse or repair a body of
/// unknown origin first. A [`CrlfProducer`](super::CrlfProducer) converts the LF lines of a stored file.
///
/// # Errors
///
/// Those of the inner producer. Then the final dot is not sent.
///
/// ```
/// use asynchat::{DotStuffer, LinesProducer, More, Producer};
///
/// let mut producer = DotStuffer::new(LinesProducer::new(["one", ".two"]));
/// assert_eq!(producer.more(65536)?, More::Chunk("one\r\n..two\r\n".into()));
/// assert_eq!(producer.more(65524)?, More::Chunk(".\r\n".into()));
/// assert_eq!(producer.more(65521)?, More::Done);
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "a producer does nothing until it is pushed"]
pub struct DotStuffer<P>(Converted<P, Position>);

impl<P: Producer> DotStuffer<P> {
    /// A producer of the block with this body.
    pub fn new(producer: P) -> Self {
        Self(Converted::new(producer, Position::LineStart))
    }
}

impl<P> fmt::Debug for DotStuffer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DotStuffer").field(&self.0).finish()
    }
}

impl<P: Producer> Producer for DotStuffer<P> {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        self.0.more(budget)
    }
}

/// Where in a line the next byte is.
#[derive(Clone, Copy)]
enum Position {
    LineStart,
    AfterCr,
    InLine,
}

impl Conversion for Position {
    fn convert(&mut self, piece: Bytes) -> Bytes {
        let first = match (*self, &*piece) {
            (Position::LineStart, [b'.', ..]) => Some(0),
            (Position::AfterCr, [b'\n', b'.', ..]) => Some(1),
            _ => None,
        };
        *self = self.after(&piece);

        let dots = memmem::find_iter(&piece, b"\r\n.").map(|i| i + 2);
        let mut stuffed = Vec::new();
        let mut copied = 0;
        for dot in first.into_iter().chain(dots) {
            stuffed.extend_from_slice(piece.get(copied..dot).unwrap_or_default());
            stuffed.push(b'.');
            copied = dot;
        }
        if stuffed.is_empty() {
            return piece;
        }
        stuffed.extend_from_slice(piece.get(copied..).unwrap_or_default());
        stuffed.into()
    }

    fn end(&mut self) -> &'static [u8] {
        match self {
            Position::LineStart => b".\r\n",
            Position::AfterCr | Position::InLine => b"\r\n.\r\n",
        }
    }
}

impl Position {
    fn after(self, bytes: &[u8]) -> Position {
        match (self, bytes) {
            (Position::AfterCr, [b'\n']) | (_, [.., b'\r', b'\n']) => Position::LineStart,
            (_, [.., b'\r']) => Position::AfterCr,
            _ => Position::InLine,
        }
    }
}

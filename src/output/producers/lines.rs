use std::io;
use std::iter::Fuse;

use bytes::BytesMut;
use memchr::memchr2;

use super::iter::MAX_ITEMS;
use super::{More, Producer};
use crate::user_code;

/// Sends the items of an iterator as lines, each followed by CRLF.
///
/// The lines are gathered up to the budget. As with [`IterProducer`](super::IterProducer), one call takes
/// at most 8 items. Inside a [`DotStuffer`](super::DotStuffer) this makes the multi-line reply of NNTP and
/// POP3.
///
/// # Errors
///
/// An item that contains CR or LF is an [`InvalidInput`](io::ErrorKind::InvalidInput) error, after the
/// lines before it have been produced. It would let the author of the item send lines of the protocol, as
/// in CVE-2020-8794, where the text of a remote server's reply became lines of a mail envelope. Items that
/// end with their own CRLF belong in an [`IterProducer`](super::IterProducer).
///
/// ```
/// use asynchat::{LinesProducer, More, Producer};
///
/// let mut producer = LinesProducer::new(["250-example.org", "250 8BITMIME"]);
/// assert_eq!(producer.more(20)?, More::Chunk("250-example.org\r\n250".into()));
/// assert_eq!(producer.more(65536)?, More::Chunk(" 8BITMIME\r\n".into()));
/// assert_eq!(producer.more(65536)?, More::Done);
///
/// let mut forged = LinesProducer::new(["no such user\r\n250 OK"]);
/// assert!(forged.more(65536).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct LinesProducer<I: Iterator> {
    lines: Fuse<I>,
    buffer: BytesMut,
    /// An item contained CR or LF. The error is returned when the buffer is empty.
    is_refused: bool,
}

impl<I: Iterator<Item: AsRef<[u8]>>> LinesProducer<I> {
    /// A producer of these lines.
    pub fn new(lines: impl IntoIterator<IntoIter = I>) -> Self {
        Self {
            lines: lines.into_iter().fuse(),
            buffer: BytesMut::new(),
            is_refused: false,
        }
    }
}

impl<I: Iterator<Item: AsRef<[u8]>>> Producer for LinesProducer<I> {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        let budget = budget.max(1);
        let mut taken = 0;
        while self.buffer.len() < budget && taken < MAX_ITEMS && !self.is_refused {
            taken += 1;
            let Some(line) = self.lines.next() else {
                break;
            };
            // If it panics when it is read, it may panic when it is dropped, too.
            let (line, ()) = user_code::with(line, |line| {
                let line = line.as_ref();
                if memchr2(b'\r', b'\n', line).is_some() {
                    self.is_refused = true;
                } else {
                    self.buffer.extend_from_slice(line);
                    self.buffer.extend_from_slice(b"\r\n");
                }
            });
            drop(line);
        }
        if self.buffer.is_empty() && self.is_refused {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a line to send contains CR or LF",
            ));
        }
        if self.buffer.is_empty() {
            return Ok(More::Done);
        }
        let fits = budget.min(self.buffer.len());
        Ok(More::Chunk(self.buffer.split_to(fits).freeze()))
    }
}

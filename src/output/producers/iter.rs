use std::io;
use std::iter::Fuse;

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

use super::{More, Producer};

/// From this size on an item is sent as it is: copying more than a page costs more than one more
/// slice in a gathered write.
const LARGE: usize = 4096;

/// How many items one call of `more` takes from its iterator. The iterator is the user's code, and
/// may work long for little output: a filter over a large table, for one.
const ITEMS: usize = 8;

/// The items of an iterator, one after the other, with nothing in between.
///
/// Small items are gathered up to the budget, so that a thousand of them cost one write; items of
/// 4 KiB and more are not copied. The iterator is advanced by the loop, no further than the budget
/// needs and by at most 8 items in a call, so it may compute its items or look them up, as long as
/// it does not block. An iterator that has to skip much between two items (a filter) should yield
/// empty items meanwhile, so that other connections get their turn.
///
/// ```
/// use asynchat::{IterProducer, More, Producer};
///
/// let mut producer = IterProducer::new((1..=3).map(|n| format!("{n};")));
/// assert_eq!(producer.more(65536)?, More::Chunk("1;2;3;".into()));
/// assert_eq!(producer.more(65536)?, More::Done);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct IterProducer<I: Iterator> {
    items: Fuse<I>,
    /// What the budget left of the last item.
    item: Bytes,
    buffer: BytesMut,
}

impl<I: Iterator<Item: Into<Bytes>>> IterProducer<I> {
    /// A producer of these items.
    pub fn new(items: impl IntoIterator<IntoIter = I>) -> Self {
        Self {
            items: items.into_iter().fuse(),
            item: Bytes::new(),
            buffer: BytesMut::new(),
        }
    }
}

impl<I: Iterator<Item: Into<Bytes>>> Producer for IterProducer<I> {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        let budget = budget.max(1);
        let mut taken = 0;
        while self.buffer.len() < budget {
            if self.item.is_empty() {
                if taken == ITEMS {
                    return Ok(More::Chunk(self.buffer.split().freeze()));
                }
                taken += 1;
                match self.items.next() {
                    Some(item) => self.item = item.into(),
                    None => break,
                }
            } else if self.item.len() < LARGE {
                let fits = self.item.len().min(budget - self.buffer.len());
                self.buffer.extend_from_slice(&self.item.split_to(fits));
            } else if self.buffer.is_empty() {
                return self.item.more(budget);
            } else {
                break;
            }
        }
        if self.buffer.is_empty() {
            return Ok(More::Done);
        }
        Ok(More::Chunk(self.buffer.split().freeze()))
    }
}

/// The items of an iterator as lines, each followed by CRLF, gathered up to the budget and at most
/// 8 in a call.
///
/// An item is one line: a CR or LF inside it is an [`InvalidInput`](io::ErrorKind::InvalidInput)
/// error, told when the lines before it have been produced. It would let whoever wrote the item
/// write lines of the protocol, as in CVE-2020-8794, where the text of a remote server's reply
/// became lines of a mail envelope. Items that end with their own CRLF go into an [`IterProducer`].
///
/// In a [`DotStuffer`](super::DotStuffer) it makes the multi-line reply of NNTP and POP3.
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
    /// Met a CR or LF; told when the lines before it are on their way, whatever the budget.
    refused: bool,
}

impl<I: Iterator<Item: AsRef<[u8]>>> LinesProducer<I> {
    /// A producer of these lines.
    pub fn new(lines: impl IntoIterator<IntoIter = I>) -> Self {
        Self {
            lines: lines.into_iter().fuse(),
            buffer: BytesMut::new(),
            refused: false,
        }
    }
}

impl<I: Iterator<Item: AsRef<[u8]>>> Producer for LinesProducer<I> {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        let budget = budget.max(1);
        let mut taken = 0;
        while self.buffer.len() < budget && taken < ITEMS && !self.refused {
            taken += 1;
            let Some(line) = self.lines.next() else {
                break;
            };
            let line = line.as_ref();
            if memchr2(b'\r', b'\n', line).is_some() {
                self.refused = true;
            } else {
                self.buffer.extend_from_slice(line);
                self.buffer.extend_from_slice(b"\r\n");
            }
        }
        if self.buffer.is_empty() && self.refused {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a line to be sent contains a CR or LF",
            ));
        }
        if self.buffer.is_empty() {
            return Ok(More::Done);
        }
        let fits = budget.min(self.buffer.len());
        Ok(More::Chunk(self.buffer.split_to(fits).freeze()))
    }
}

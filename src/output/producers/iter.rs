use std::fmt;
use std::io;
use std::iter::Fuse;
use std::mem;

use bytes::{Bytes, BytesMut};

use super::{More, Producer};
use crate::user_code::discard;

/// An item of at least this size is sent as it is: copying a page costs more than another part of a
/// gathered write.
const LARGE: usize = 4096;

/// How many items one call of `more` takes. The iterator is user code, and may work long for little output:
/// a filter over a large table, for example.
pub(super) const MAX_ITEMS: usize = 8;

/// Sends the items of an iterator, one after another, with nothing in between.
///
/// Small items are gathered up to the budget, so that a thousand of them share one write. Items of 4,096
/// bytes and more are not copied.
///
/// The loop advances the iterator no further than the budget needs, and by at most 8 items in a call. So
/// the iterator may compute its items or look them up, as long as it does not block. An iterator that
/// skips much between two items, such as a filter, should yield empty items meanwhile, so that other
/// connections get their turn. Calling `more` does not fail.
///
/// ```
/// use asynchat::{IterProducer, More, Producer};
///
/// let mut producer = IterProducer::new((1..=3).map(|n| format!("{n};")));
/// assert_eq!(producer.more(65536)?, More::Chunk("1;2;3;".into()));
/// assert_eq!(producer.more(65536)?, More::Done);
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "a producer does nothing until it is pushed"]
pub struct IterProducer<I: Iterator> {
    items: Fuse<I>,
    /// The part of the last item that was over the budget.
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

impl<I: Iterator> fmt::Debug for IterProducer<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IterProducer")
            .field("buffered", &(self.item.len() + self.buffer.len()))
            .finish_non_exhaustive()
    }
}

impl<I: Iterator<Item: Into<Bytes>>> Producer for IterProducer<I> {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        let budget = budget.max(1);
        let mut taken = 0;
        while self.buffer.len() < budget {
            if self.item.is_empty() {
                if taken == MAX_ITEMS {
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

impl<I: Iterator> Drop for IterProducer<I> {
    fn drop(&mut self) {
        // Its destructor is user code, and so is that of the iterator. If both panicked in one unwinding, the
        // process would abort.
        discard(mem::take(&mut self.item));
    }
}

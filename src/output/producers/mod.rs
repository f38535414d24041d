//! Producers: output that is made while it is sent, and not before.
//!
//! Pushed bytes stay in memory until the peer has read them. A producer is asked for its next piece when
//! the queue has come to it, and for no more than a turn sends. So a file of any size takes one piece of
//! memory and delays no other connection.

mod chunked;
mod composite;
mod converted;
mod crlf;
mod dot_stuffer;
mod hooked;
mod iter;
mod lines;
mod pool;
mod read;
mod simple;

use std::fmt;
use std::io;

use bytes::Bytes;

pub use chunked::ChunkedProducer;
pub use composite::CompositeProducer;
pub use crlf::CrlfProducer;
pub use dot_stuffer::DotStuffer;
pub use hooked::{HookedProducer, Produced};
pub use iter::IterProducer;
pub use lines::{FallibleLines, LinesProducer};
pub use read::ReadProducer;
pub use simple::SimpleProducer;

/// A source of output that the loop asks for one piece at a time, when there is room for it.
///
/// A producer is queued like any push. The loop asks it for the first time when everything before it has
/// been sent, or fits into the same write. What was pushed after it waits until it is
/// [`Done`](More::Done). All calls are made by the loop, on its thread. Later records may have been handled by
/// then. A producer that has to send the state at the time of its push needs a snapshot of that state.
///
/// Dropping a producer is its cleanup. The loop drops it as soon as it is done, when it fails, and when its
/// connection ends first: a file is closed, a worker notices that the receiver of its channel is gone. To
/// distinguish these cases, wrap the producer in a [`HookedProducer`].
///
/// [`Bytes`], `String`, `Vec<u8>`, `&'static str`, `&'static [u8]` and a `Box` of any producer are
/// producers. A `String` or `Vec<u8>` cannot be split without a copy, so it is one chunk, whatever the
/// budget; so are the two static ones. To send a large one piece by piece, make it a [`SimpleProducer`],
/// which copies nothing. All other producers of this crate keep to the budget.
///
/// ```
/// use asynchat::{More, Producer};
///
/// /// Counts down, one line per chunk.
/// struct Countdown(u32);
///
/// impl Producer for Countdown {
///     fn more(&mut self, _budget: usize) -> std::io::Result<More> {
///         if self.0 == 0 {
///             return Ok(More::Done);
///         }
///         self.0 -= 1;
///         Ok(More::Chunk(format!("{}\r\n", self.0).into()))
///     }
/// }
///
/// let mut countdown = Countdown(2);
/// assert_eq!(countdown.more(65536)?, More::Chunk("1\r\n".into()));
/// assert_eq!(countdown.more(65533)?, More::Chunk("0\r\n".into()));
/// assert_eq!(countdown.more(65530)?, More::Done);
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait Producer {
    /// Returns the next piece of output.
    ///
    /// `budget` is the number of bytes wanted now, at least 1. (The producers of this crate take 0 as 1.)
    /// A longer chunk is accepted, but the part that does not fit stays in memory until there is room.
    ///
    /// The loop makes at most 64 calls in a turn of a connection, calls of hooks included. All other
    /// connections wait while a call runs: it should take at most about 100 microseconds, and must not
    /// block.
    ///
    /// The loop does not call it again after [`More::Done`] or an error.
    ///
    /// # Errors
    ///
    /// An error ends the connection, because the peer could not tell what follows from the bytes that are
    /// missing. What came before the error is sent, and then the connection is reset, so that the peer can
    /// tell that its input is incomplete. An error of kind [`WouldBlock`](io::ErrorKind::WouldBlock) is no
    /// failure: it means the same as [`More::Pending`].
    fn more(&mut self, budget: usize) -> io::Result<More>;
}

/// How many bytes of a chunk its `Debug` output shows.
const SHOWN: usize = 64;

/// The answer of a [`Producer`].
///
/// It has no further variants, now and later, so it is not `non_exhaustive` as most enums of the crate are. A
/// producer that changes the output of another one has to treat each answer in its own way. With a variant that
/// it did not know, it could only guess whether bytes follow.
#[derive(Clone, PartialEq, Eq)]
pub enum More {
    /// Bytes to send. A producer that searches returns an empty chunk when it has found nothing yet.
    ///
    /// After an empty chunk, the loop calls no producer and no hook of this connection in the same turn.
    /// The same holds after two chunks in a row that are shorter than 512 bytes and than the budget. The
    /// loop does not sleep in between, so this is no way to wait: return [`Pending`](More::Pending)
    /// for that.
    Chunk(Bytes),
    /// Nothing now, more later. The queue waits, with everything behind this producer, until
    /// [`Chat::resume_producing`](crate::Chat::resume_producing) is called.
    Pending,
    /// The end of the output. The producer is dropped.
    Done,
}

/// Shows the beginning of a chunk, and its length if that is not all.
impl fmt::Debug for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            More::Chunk(chunk) => match chunk.get(..SHOWN) {
                Some(start) if chunk.len() > SHOWN => {
                    let start = start.escape_ascii();
                    write!(f, "Chunk(b\"{start}\"..., {} bytes)", chunk.len())
                }
                _ => write!(f, "Chunk(b\"{}\")", chunk.escape_ascii()),
            },
            More::Pending => f.write_str("Pending"),
            More::Done => f.write_str("Done"),
        }
    }
}

impl Producer for Bytes {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        if self.is_empty() {
            return Ok(More::Done);
        }
        Ok(More::Chunk(self.split_to(budget.clamp(1, self.len()))))
    }
}

/// One chunk, whatever the budget.
impl Producer for Vec<u8> {
    fn more(&mut self, _budget: usize) -> io::Result<More> {
        Ok(whole(self))
    }
}

/// One chunk, whatever the budget.
impl Producer for String {
    fn more(&mut self, _budget: usize) -> io::Result<More> {
        Ok(whole(self))
    }
}

/// One chunk, whatever the budget.
impl Producer for &'static [u8] {
    fn more(&mut self, _budget: usize) -> io::Result<More> {
        Ok(whole(self))
    }
}

/// One chunk, whatever the budget.
impl Producer for &'static str {
    fn more(&mut self, _budget: usize) -> io::Result<More> {
        Ok(whole(self))
    }
}

impl<P: Producer + ?Sized> Producer for Box<P> {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        (**self).more(budget)
    }
}

fn whole<T: Default + Into<Bytes>>(source: &mut T) -> More {
    let all = std::mem::take(source).into();
    if all.is_empty() {
        return More::Done;
    }
    More::Chunk(all)
}

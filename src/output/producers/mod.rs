//! Producers: output that is made as it is sent, not before.
//!
//! What is pushed as bytes sits in memory until the peer has read it. A producer instead is asked
//! for the next piece when the queue has come to it, and never for more than the turn's budget, so
//! that a file of any size costs one piece of memory and delays no other connection.

mod chunked;
mod composite;
mod dot_stuffer;
mod hooked;
mod iter;
mod read;

use std::io;

use bytes::Bytes;

pub use chunked::ChunkedProducer;
pub use composite::CompositeProducer;
pub use dot_stuffer::DotStuffer;
pub use hooked::{HookedProducer, Produced};
pub use iter::{IterProducer, LinesProducer};
pub use read::ReadProducer;

/// A source of output that is asked for its bytes piece by piece, when there is room for them.
///
/// A producer takes its place in the queue of a connection like any push: it is asked for the first
/// time when everything before it is on its way, and what was pushed after it waits until it is
/// [`Done`](More::Done). All calls come from the loop, on its thread.
///
/// Dropping a producer is its cleanup. It is dropped as soon as it is done, when it fails, and when
/// its connection goes away half-way through: a file closes itself, a worker notices that its
/// channel is gone. Wrap it in a [`HookedProducer`] to tell these cases apart.
///
/// [`Bytes`], `String`, `Vec<u8>`, `&'static str`, `&'static [u8]` and a `Box` of any producer are
/// producers. `String` and `Vec<u8>` can not be cut without copying, so they come as a single chunk,
/// whatever the budget, and so do their static kin. To send a large one piece by piece make it a
/// [`SimpleProducer`], which copies nothing. All other producers of this crate keep to the budget.
///
/// ```
/// use asynchat::{More, Producer};
///
/// /// Counts down, a line at a time.
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
    /// The next piece of output.
    ///
    /// `budget` is how many bytes are wanted in this turn, at least one (the producers of this crate
    /// take 0 as 1). To hand over more is legal, and wasteful: the queue keeps what does not fit, in
    /// memory, until there is room.
    ///
    /// It is called at most 64 times in a turn, hooks of the same connection included, and the loop
    /// waits for it: a call should take no longer than other connections can wait, some 100
    /// microseconds.
    ///
    /// It is not called again after it returned [`More::Done`] or an error.
    ///
    /// # Errors
    ///
    /// An error closes the connection: the peer was promised bytes that will not come, and nothing
    /// sent after them could be told from them. What was sent before is delivered, and then the
    /// connection is reset, so that the peer can tell that something is missing.
    fn more(&mut self, budget: usize) -> io::Result<More>;
}

/// What a [`Producer`] answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum More {
    /// Bytes to send. An empty chunk, or a second chunk in a row of fewer than 512 bytes where more was
    /// asked for, ends the asking in this turn: the other connections come first, then the producer is
    /// asked again. An empty chunk is how a producer that searches says that it has found nothing yet.
    /// It is no way to wait, for the loop does not sleep: use [`Pending`](More::Pending) for that.
    Chunk(Bytes),
    /// Nothing now, more later. The queue rests, along with all that was pushed behind this producer,
    /// until `Chat::resume_producing` is called.
    Pending,
    /// All is said; the producer is dropped.
    Done,
}

impl Producer for Bytes {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        if self.is_empty() {
            return Ok(More::Done);
        }
        Ok(More::Chunk(self.split_to(budget.clamp(1, self.len()))))
    }
}

/// One chunk, whatever the budget: see [`Producer`].
impl Producer for Vec<u8> {
    fn more(&mut self, _budget: usize) -> io::Result<More> {
        Ok(whole(self))
    }
}

/// One chunk, whatever the budget: see [`Producer`].
impl Producer for String {
    fn more(&mut self, _budget: usize) -> io::Result<More> {
        Ok(whole(self))
    }
}

/// One chunk, whatever the budget: see [`Producer`].
impl Producer for &'static [u8] {
    fn more(&mut self, _budget: usize) -> io::Result<More> {
        Ok(whole(self))
    }
}

/// One chunk, whatever the budget: see [`Producer`].
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

/// Bytes that are already in memory, sent without copying them again.
///
/// This is what asynchat's `push` used, in pieces of 512 bytes. Here each piece is as large as the
/// turn allows, unless [`chunk_size`](SimpleProducer::chunk_size) makes it smaller.
///
/// ```
/// use asynchat::{More, Producer, SimpleProducer};
///
/// let mut producer = SimpleProducer::new("220 welcome\r\n").chunk_size(8);
/// assert_eq!(producer.more(65536)?, More::Chunk("220 welc".into()));
/// assert_eq!(producer.more(3)?, More::Chunk("ome".into()));
/// assert_eq!(producer.more(65536)?, More::Chunk("\r\n".into()));
/// assert_eq!(producer.more(65536)?, More::Done);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SimpleProducer {
    data: Bytes,
    chunk_size: usize,
}

impl SimpleProducer {
    /// A producer of these bytes.
    pub fn new(data: impl Into<Bytes>) -> Self {
        Self {
            data: data.into(),
            chunk_size: usize::MAX,
        }
    }

    /// Hands over at most `size` bytes at a time; 0 is taken as 1. Without it, the budget alone
    /// decides. Inside a [`ChunkedProducer`] this sets the size of the HTTP chunks.
    pub fn chunk_size(mut self, size: usize) -> Self {
        self.chunk_size = size.max(1);
        self
    }
}

impl Producer for SimpleProducer {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        self.data.more(budget.min(self.chunk_size))
    }
}

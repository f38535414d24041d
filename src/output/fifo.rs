//! The output queue of a connection: bytes, producers, hooks and marks, sent in the order in which
//! they were queued.
//!
//! Sans-IO. Handles fill the queue (`fill.rs`). The loop drains it (`pump.rs`, `drain.rs`) into a
//! [`Sink`], which is the socket or a test.
//!
//! The queue is a head followed by a tail. The head is one buffer, and small pushes are copied into
//! it: a system call for each, or even an `IoSlice` for each, costs more than the copy. On pipelined
//! lines, one send per push takes a hundred times as long, and a gathered write of 64 boxed chunks
//! takes four times as long. Everything else is an item of the tail. Large [`Bytes`] are queued as
//! they are and sent without a copy.
//!
//! Producers, hooks and destructors are user code, and may push to the same queue. No borrow of the
//! queue is held while user code runs.

mod drain;
mod ending;
mod fill;
mod level;
mod pump;
pub(crate) mod spare;
mod tail;

use std::fmt;
use std::mem;

use bytes::Bytes;

use crate::error::Close;
use crate::limits::CompactLimit;
use crate::output::producers::Producer;
use crate::sys::append::append;

pub use pump::{PumpError, Pumped, Sink, pump};

use tail::Tail;

/// A push of fewer bytes is copied. A larger one is queued as it is.
pub(crate) const COPIED: usize = 4096;

/// Unused capacity up to this size stays with its buffer.
pub(crate) const SLACK: usize = 8192;

/// A rest of a large push is copied up to this size. The queue of a peer that reads slowly holds as much in any case.
const REST: usize = 64 * 1024;

/// The output queue of one connection.
pub struct Fifo {
    /// Small pushes, one after another: the front of the queue.
    head: Vec<u8>,
    /// A push that does not take the head beyond this length is copied without further checks: the
    /// queue is open, its tail is empty, and it stays under its mark. Otherwise 0.
    head_limit: usize,
    /// What comes after the head.
    tail: Tail,
    // Each idle connection has a queue, so these two have four bytes each. The head may be longer.
    /// How many bytes of the head have been sent.
    sent: u32,
    /// More queued bytes than this stop the input of the connection.
    high_water: CompactLimit,
    intake: Intake,
    stream: Stream,
    asking: Asking,
    /// No backlog is charged against the high-water mark.
    ignores_backlog: bool,
}

/// Whether the queue accepts items. The states follow each other in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intake {
    /// It takes pushes.
    Open,
    /// It takes hooks and a close only: the end of the sending side is queued, or was sent.
    Finished,
    /// It takes nothing more: its close is queued, or the channel has ended.
    Sealed,
    /// The pump has reached the close: all output before it has been sent.
    Closed,
}

/// Whether the queued bytes are sent. [`Stream::Cut`] and [`Stream::Failed`] are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    /// Everything queued is sent.
    Whole,
    /// A producer has failed: its bytes are missing, and nothing behind them may be sent.
    Cut,
    /// A send has failed: pushes are counted and dropped.
    Failed,
}

/// Whether the first producer may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asking {
    /// It may be asked.
    Ready,
    /// It may be asked, and may be asked again if the answer under way is "pending": the producer
    /// was resumed since it was last asked.
    Resumed,
    /// It has answered "pending" and was not resumed since.
    Pending,
}

/// A part of the tail.
pub enum Item {
    /// Small pushes behind another item.
    Small(Vec<u8>),
    /// A large push.
    Large(Bytes),
    /// Makes its bytes when all before it has been sent, or nearly so.
    Producer(Box<dyn Producer>),
    /// The place of a producer while it is being asked.
    Asked,
    /// Is called when all before it has been sent.
    Hook(Box<dyn FnOnce()>),
    /// Ends the sending side only.
    ShutdownWrite,
    /// TLS begins here: what follows waits for the handshake.
    StartTls,
    /// Ends the channel for this reason.
    Close(Close),
}

impl fmt::Debug for Fifo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fifo")
            .field("queued", &self.queued())
            .field("intake", &self.intake)
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Item::Small(_) => "Small",
            Item::Large(_) => "Large",
            Item::Producer(_) => "Producer",
            Item::Asked => "Asked",
            Item::Hook(_) => "Hook",
            Item::ShutdownWrite => "ShutdownWrite",
            Item::StartTls => "StartTls",
            Item::Close(_) => "Close",
        })
    }
}

impl Fifo {
    /// An empty queue whose high-water mark is `high_water` bytes.
    pub fn new(high_water: usize) -> Self {
        let high_water = CompactLimit::new(high_water);
        Fifo {
            head: Vec::new(),
            head_limit: high_water.bytes(),
            tail: Tail::default(),
            sent: 0,
            high_water,
            intake: Intake::Open,
            stream: Stream::Whole,
            asking: Asking::Ready,
            ignores_backlog: false,
        }
    }

    /// How many bytes are queued and not yet sent. Bytes that a producer has yet to make do not count.
    pub fn queued(&self) -> usize {
        self.unsent_head() + self.tail.bytes()
    }

    fn unsent_head(&self) -> usize {
        self.head.len() - self.sent()
    }

    fn sent(&self) -> usize {
        self.sent as usize
    }

    /// How many bytes of memory the queue takes, sent bytes included, without what its producers and hooks hold.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.head.capacity() + self.tail.bytes() + self.tail.memory()
    }

    /// Makes an empty buffer that has grown before the buffer of the head, unless the head has one.
    pub fn adopt_buffer(&mut self, buffer: &mut Vec<u8>) {
        if self.head.capacity() == 0 {
            mem::swap(&mut self.head, buffer);
        }
    }

    /// Gives the buffer of an empty head away, so that an idle connection holds none, and frees what the tail does
    /// not need.
    #[inline]
    pub fn release_buffer(&mut self) -> Vec<u8> {
        self.tail.free_unused(self.head.is_empty());
        if self.head.is_empty() {
            mem::take(&mut self.head)
        } else {
            Vec::new()
        }
    }

    /// Frees memory that is not needed while the bytes wait, which may be long. Returns what the caller has to drop
    /// when the queue is not borrowed: the destructor may be user code.
    #[must_use]
    pub fn trim(&mut self) -> Option<Bytes> {
        let copied = self.copy_rest();
        self.tail.free_unused(self.head.is_empty());
        if self.head.capacity() - self.head.len() > SLACK {
            self.compact(self.sent());
            self.head.shrink_to_fit();
            self.update_head_limit();
        }
        copied
    }

    /// Copies a short rest of a large push into the head. Until all of a push has been sent, its whole memory is
    /// occupied, and the queue counts only the rest. Memory that has other references is not freed by that, and the
    /// next chunk of a producer follows soon.
    fn copy_rest(&mut self) -> Option<Bytes> {
        let is_freed = match self.tail.front() {
            Some(Item::Large(rest)) => rest.len() <= REST && rest.is_unique(),
            _ => false,
        };
        let is_chunk = matches!(self.tail.iter().nth(1), Some(Item::Producer(_)));
        if !is_freed || is_chunk || !self.head.is_empty() {
            return None;
        }
        let rest = self.tail.pop_bytes()?;
        self.extend_head(&[&rest]);
        self.update_head_limit();
        Some(rest)
    }

    /// Copies these parts to the end of the head.
    #[inline(always)] // The compiler then knows how many parts there are.
    fn extend_head(&mut self, parts: &[&[u8]]) {
        append(&mut self.head, parts, spare::take);
    }

    /// Notes that the first `sent` bytes of the head have been sent, and removes them once they are more than half of it.
    /// So each byte is moved at most once on average. More than 4 GiB are removed in any case.
    #[inline(never)] // Most sends empty the head.
    fn compact(&mut self, sent: usize) {
        match u32::try_from(sent) {
            Ok(few) if sent <= self.head.len() / 2 => self.sent = few,
            _ => {
                self.head.drain(..sent);
                self.sent = 0;
            }
        }
    }
}

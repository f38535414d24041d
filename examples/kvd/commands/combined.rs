//! Replies whose elements are combined before the first one is sent: those of sets, and of sorted sets.

use std::io;

use asynchat::bytes::Bytes;
use asynchat::{More, Producer};

use super::long::{Chunks, PARTS_AT_ONCE};
use crate::resp::reply::Reply;
use crate::server::progress::Progress;
use crate::server::results::ResultMemory;

/// What is combined a part at a time, and then sent a part at a time.
pub(super) trait Combined {
    /// Combines some more, if there is something.
    fn combine_some(&mut self) -> Progress;

    /// The bytes of memory of the result, about.
    fn size(&self) -> usize;

    /// Begins the reply, when everything is combined.
    fn begin(&self, reply: &mut Reply);

    /// Encodes a part of the result, from this position on. Returns the position behind it, or `None` if there is no more.
    fn encode_some(&self, reply: &mut Reply, from: usize) -> Option<usize>;
}

pub(super) struct Sending<T> {
    combined: T,
    memory: ResultMemory,
    resp3: bool,
    /// Where the next part of the result begins. `None` before the reply has begun.
    next: Option<usize>,
    chunks: Chunks,
}

impl<T: Combined> Sending<T> {
    pub(super) fn new(combined: T, memory: ResultMemory, resp3: bool) -> Sending<T> {
        Sending {
            combined,
            memory,
            resp3,
            next: None,
            chunks: Chunks::default(),
        }
    }
}

impl<T: Combined> Producer for Sending<T> {
    fn more(&mut self, _: usize) -> io::Result<More> {
        if let Some(more) = self.chunks.next() {
            return Ok(more);
        }
        let mut reply = Reply {
            resp3: self.resp3,
            ..Reply::default()
        };
        let Some(from) = self.next else {
            for _ in 0..PARTS_AT_ONCE {
                if self.combined.combine_some() == Progress::Complete {
                    self.combined.begin(&mut reply);
                    self.next = Some(0);
                    break;
                }
            }
            self.memory.note_use(self.combined.size())?;
            return Ok(More::Chunk(reply.buffer.into()));
        };
        self.memory.note_use(self.combined.size())?;
        self.next = self.combined.encode_some(&mut reply, from);
        if self.next.is_none() {
            // It is not asked again.
            return Ok(More::Done);
        }
        let more = self.chunks.first(reply);
        Ok(more.unwrap_or(More::Chunk(Bytes::new())))
    }
}

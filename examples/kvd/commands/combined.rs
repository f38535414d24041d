//! Replies whose elements are combined before the first one is sent: those of sets, of sorted sets, and of LPOS.

use std::io;
use std::sync::{Arc, Mutex};

use asynchat::bytes::Bytes;
use asynchat::{More, Producer};

use super::Context;
use super::long::{Chunks, LongResult, PARTS_AT_ONCE, make_later};
use crate::resp::reply::Reply;
use crate::server::progress::Progress;
use crate::server::results::ResultMemory;
use crate::server::shared::lock;

/// What is combined a part at a time, and then sent a part at a time.
pub(super) trait Combined: Send + 'static {
    /// Combines some more, if there is something.
    fn combine_some(&mut self) -> Progress;

    /// The bytes of memory of the result, about.
    fn size(&self) -> usize;

    /// Begins the reply, when everything is combined.
    fn begin(&self, reply: &mut Reply);

    /// Encodes a part of the result, from this position on. Returns the position behind it, or `None` if there is no more.
    fn encode_some(&self, reply: &mut Reply, from: usize) -> Option<usize>;
}

/// Combines in the next turns. The reply begins when everything is combined.
pub(super) fn reply_later<T: Combined>(context: &mut Context<'_>, combined: T) {
    let combining = Combining {
        combined,
        memory: context.result_memory(),
        is_complete: false,
    };
    let sending = Sending {
        combining: make_later(context, combining),
        resp3: context.reply.resp3,
        next: None,
        chunks: Chunks::default(),
    };
    context.reply.produce(sending);
}

struct Combining<T> {
    combined: T,
    memory: ResultMemory,
    is_complete: bool,
}

impl<T: Combined> Combining<T> {
    fn note_use(&mut self) -> io::Result<()> {
        self.memory.note_use(self.combined.size())
    }
}

impl<T: Combined> LongResult for Combining<T> {
    fn turn(&mut self) -> io::Result<Progress> {
        let mut parts = (0..PARTS_AT_ONCE).map(|_| self.combined.combine_some());
        self.is_complete = parts.any(|it| it == Progress::Complete);
        self.note_use()?;
        Ok(Progress::more_if(!self.is_complete))
    }
}

struct Sending<T> {
    combining: Arc<Mutex<Combining<T>>>,
    resp3: bool,
    /// Where the next part of the result begins. `None` before the reply has begun.
    next: Option<usize>,
    chunks: Chunks,
}

impl<T: Combined> Producer for Sending<T> {
    fn more(&mut self, _: usize) -> io::Result<More> {
        if let Some(more) = self.chunks.next() {
            return Ok(more);
        }
        let combining = &mut *lock(&self.combining);
        if !combining.is_complete {
            return Ok(More::Pending);
        }
        combining.note_use()?;
        let mut reply = Reply {
            resp3: self.resp3,
            ..Reply::default()
        };
        let Some(from) = self.next else {
            combining.combined.begin(&mut reply);
            self.next = Some(0);
            return Ok(More::Chunk(reply.buffer.into()));
        };
        self.next = combining.combined.encode_some(&mut reply, from);
        if self.next.is_none() {
            // It is not asked again.
            return Ok(More::Done);
        }
        let more = self.chunks.first(reply);
        Ok(more.unwrap_or(More::Chunk(Bytes::new())))
    }
}

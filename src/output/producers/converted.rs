use std::fmt;
use std::io;
use std::mem;

use bytes::Bytes;

use super::{More, Producer};
use crate::user_code::discard_each;

/// A conversion of a stream that arrives in pieces.
pub(super) trait Conversion {
    /// Converts the next piece, which is not empty. A piece that does not change is returned as it is.
    fn convert(&mut self, piece: Bytes) -> Bytes;

    /// What follows the last piece.
    fn end(&mut self) -> &'static [u8];
}

/// The output of a producer, converted.
pub(super) struct Converted<P, C> {
    producer: P,
    conversion: C,
    /// Output of the inner producer that is not yet converted. Only as much as the budget is converted at a
    /// time: a chunk of megabytes must not take a turn of megabytes.
    raw: Bytes,
    /// Converted output that was over the budget.
    ready: Bytes,
    ended: bool,
}

impl<P, C> Converted<P, C> {
    pub(super) fn new(producer: P, conversion: C) -> Self {
        Self {
            producer,
            conversion,
            raw: Bytes::new(),
            ready: Bytes::new(),
            ended: false,
        }
    }
}

impl<P, C> fmt::Debug for Converted<P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Converted")
            .field("buffered", &(self.raw.len() + self.ready.len()))
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl<P: Producer, C: Conversion> Producer for Converted<P, C> {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        let budget = budget.max(1);
        loop {
            if !self.ready.is_empty() {
                return self.ready.more(budget);
            }
            if !self.raw.is_empty() {
                let piece = self.raw.split_to(budget.min(self.raw.len()));
                self.ready = self.conversion.convert(piece);
                continue;
            }
            if self.ended {
                return Ok(More::Done);
            }
            match self.producer.more(budget)? {
                More::Chunk(chunk) if chunk.is_empty() => return Ok(More::Chunk(chunk)),
                More::Chunk(chunk) => self.raw = chunk,
                More::Pending => return Ok(More::Pending),
                More::Done => {
                    self.ended = true;
                    self.ready = Bytes::from_static(self.conversion.end());
                }
            }
        }
    }
}

impl<P, C> Drop for Converted<P, C> {
    fn drop(&mut self) {
        // The destructors of the chunk and of its producer are user code. If both panicked in one unwinding,
        // the process would abort.
        discard_each([mem::take(&mut self.raw), mem::take(&mut self.ready)]);
    }
}

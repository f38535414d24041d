//! How the queue is drained: one step of the pump.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem;

use bytes::Buf;

use super::{Asking, COPIED, Fifo, Intake, Item, Sink, Stream};
use crate::error::Close;
use crate::output::producers::{More, Producer};
use crate::user_code;

/// The most parts of a gathered write. Linux takes 1,024, but the bytes of a turn's budget fill far
/// fewer.
const MAX_PARTS: usize = 64;

/// The parts of a gathered write from a short queue, the common case: an array of [`MAX_PARTS`] takes
/// a hundred instructions to initialise.
const FEW_PARTS: usize = 4;

/// A turn exceeds its budget by at most a sixteenth, where that empties the queue.
const EXCESS: usize = 16;

/// What the pump has to do for the front of the queue, if that is not bytes.
pub(super) enum PumpStep {
    /// This producer is to be asked for this number of bytes.
    Ask(Box<dyn Producer>, usize),
    /// This hook is to be called.
    Call(Box<dyn FnOnce()>),
    /// The sending side is to be shut down.
    ShutdownWrite,
    /// TLS is to begin.
    StartTls,
    /// The queue has reached its close.
    Close(Close),
    /// The first producer is pending.
    Pending,
    /// A producer or a hook is due, and may not be called in this turn any more.
    NoCalls,
    /// The queue is empty.
    Drained,
}

/// The outcome of one write.
pub(super) struct Sent {
    /// How many bytes the sink has taken.
    pub(super) bytes: usize,
    /// Whether the sink has taken fewer bytes than it was offered.
    pub(super) is_short: bool,
    /// Whether nothing is left in the queue, for certain.
    pub(super) is_last: bool,
}

/// Items that are used up. Their destructors are user code, and run without a borrow of the queue.
#[must_use]
pub(crate) enum Used {
    None,
    /// The most that nearly every step uses up: it needs no allocation.
    One(Item),
    Many(Vec<Item>),
}

impl Fifo {
    /// Whether the pump has something to do: bytes to send, a producer to ask, a mark to act on.
    #[inline]
    pub fn is_actionable(&self) -> bool {
        self.unsent_head() > 0
            || match self.tail.front() {
                Some(Item::Producer(_)) => self.asking != Asking::Pending,
                first => first.is_some(),
            }
    }

    /// Whether nothing is queued at all.
    pub fn is_empty(&self) -> bool {
        self.head.is_empty() && self.tail.is_empty()
    }

    /// Whether bytes that were pushed now would be sent before all others.
    pub fn is_ready_for_bytes(&self) -> bool {
        self.is_empty() && self.takes_pushes() && self.stream == Stream::Whole
    }

    /// The first producer may have something again.
    pub fn resume(&mut self) {
        self.asking = Asking::Resumed;
    }

    /// What comes before the next write, for which `budget` is left. `None` if bytes are to be sent now. No producer is
    /// asked and no hook called unless `may_call` is true. A mark is due when the sink has passed on everything that it
    /// has taken.
    #[inline(always)]
    pub(super) fn step(
        &mut self,
        sink: &mut impl Sink,
        budget: usize,
        may_call: bool,
    ) -> io::Result<Option<PumpStep>> {
        // The common case: nothing but small pushes.
        if self.tail.is_empty() && !self.head.is_empty() {
            Ok(None)
        } else {
            self.next_call(sink, budget, may_call)
        }
    }

    #[inline(never)] // A queue of small pushes does not need it.
    fn next_call(
        &mut self,
        sink: &mut impl Sink,
        budget: usize,
        may_call: bool,
    ) -> io::Result<Option<PumpStep>> {
        loop {
            let unsent = self.unsent_head();
            if unsent >= budget {
                return Ok(None);
            }
            let nothing_before = unsent == 0;
            let due = match self.tail.front() {
                None => PumpStep::Drained,
                Some(Item::Small(data)) if nothing_before || data.len() < COPIED => {
                    self.move_into_head();
                    continue;
                }
                Some(Item::Small(_) | Item::Large(_)) => return Ok(None),
                Some(Item::Producer(_)) if self.asking == Asking::Pending => PumpStep::Pending,
                Some(Item::Producer(_) | Item::Hook(_)) if !may_call => PumpStep::NoCalls,
                // A producer is asked ahead of its turn, so that its bytes share a write with those
                // before it. But no more is made for a peer that takes nothing.
                Some(Item::Producer(_)) if nothing_before || self.queued() < self.mark() => {
                    return Ok(self.ask(budget - unsent));
                }
                Some(_) if !nothing_before => return Ok(None),
                Some(Item::ShutdownWrite | Item::Close(_)) => {
                    sink.finish(self.stream != Stream::Cut)?;
                    return Ok(self.take_mark());
                }
                Some(_) => {
                    sink.flush()?;
                    return Ok(self.take_mark());
                }
            };
            return Ok(nothing_before.then_some(due));
        }
    }

    /// Moves the small item at the front of the tail into the head. One that has grown large becomes
    /// the head, which is empty then.
    fn move_into_head(&mut self) {
        if let Some(Item::Small(data)) = self.tail.pop_front() {
            if data.len() < COPIED {
                self.extend_head(&[&data]);
            } else {
                self.head = data;
            }
        }
    }

    /// Takes the first producer out to be asked for at most `budget` bytes.
    fn ask(&mut self, budget: usize) -> Option<PumpStep> {
        let wanted = self.producer_budget().min(budget);
        self.asking = Asking::Ready;
        match mem::replace(self.tail.front_mut()?, Item::Asked) {
            Item::Producer(producer) => Some(PumpStep::Ask(producer, wanted)),
            _ => None,
        }
    }

    fn take_mark(&mut self) -> Option<PumpStep> {
        match self.tail.pop_front()? {
            Item::Hook(hook) => Some(PumpStep::Call(hook)),
            Item::ShutdownWrite => Some(PumpStep::ShutdownWrite),
            Item::StartTls => Some(PumpStep::StartTls),
            Item::Close(why) => {
                self.intake = Intake::Closed;
                Some(PumpStep::Close(why))
            }
            _ => None,
        }
    }

    /// Whether the queue is open, and there is nothing in it but small pushes.
    #[inline]
    pub(crate) fn has_only_a_head(&self) -> bool {
        self.head_limit > 0 && !self.head.is_empty()
    }

    /// Sends a queue that has only a head in one write, if it has no more than `budget` bytes. Returns whether all was sent.
    #[inline]
    pub(crate) fn send_head(&mut self, sink: &mut impl Sink, budget: usize) -> io::Result<bool> {
        if self.unsent_head() > budget {
            return Ok(false);
        }
        let sent = self.send(sink, budget, &mut Used::None)?;
        Ok(sent.is_last)
    }

    /// Sends the bytes at the front of the queue in one write, without asking a producer or calling a hook. Returns the
    /// items that are used up. `None` if a producer or a mark comes first.
    #[cold]
    #[inline(never)] // Turns that only send must not pay for it.
    pub(crate) fn send_bytes(
        &mut self,
        sink: &mut impl Sink,
        budget: usize,
    ) -> io::Result<Option<Used>> {
        let are_next = self.unsent_head() > 0
            || matches!(self.tail.front(), Some(Item::Small(_) | Item::Large(_)));
        if !are_next {
            return Ok(None);
        }
        // Not `send`, which the compiler would no longer inline into the turns that need it.
        let (bytes, _) = self.send_gathered::<MAX_PARTS>(sink, budget)?;
        self.tail.count_sent(bytes);
        let left = bytes - self.advance_head(bytes);
        let used = self.advance_tail(left);
        self.update_head_limit();
        Ok(Some(used))
    }

    /// Offers the front of the queue to the sink in one write: at most `budget` bytes, or all bytes if a few more empty
    /// the queue. Sets `used` to the items that are used up, if there are any.
    #[inline(always)]
    pub(super) fn send(
        &mut self,
        sink: &mut impl Sink,
        budget: usize,
        used: &mut Used,
    ) -> io::Result<Sent> {
        let head = self.head.get(self.sent()..).unwrap_or_default();
        let (bytes, offered) = if self.tail.is_empty() || head.len() >= budget {
            let head = if head.len() > budget {
                head.get(..self.most(budget, sink)).unwrap_or(head)
            } else {
                head
            };
            (sink.send(head)?, head.len())
        } else if self.tail.len() < FEW_PARTS {
            self.send_gathered::<FEW_PARTS>(sink, budget)?
        } else {
            self.send_gathered::<MAX_PARTS>(sink, budget)?
        };
        self.tail.count_sent(bytes);
        let left = bytes - self.advance_head(bytes);
        if left > 0 {
            *used = self.advance_tail(left);
        }
        self.update_head_limit();
        Ok(Sent {
            bytes,
            is_short: bytes < offered,
            // The destructors of used items may push.
            is_last: left == 0 && self.is_empty(),
        })
    }

    /// How many bytes to offer for a budget of `budget`. A reply is often a power of two with a status line or a CRLF
    /// around it: without the exception these few bytes would take a turn and a write of their own.
    #[cold]
    fn most(&self, budget: usize, sink: &impl Sink) -> usize {
        let queued = self.queued();
        // A producer, a hook or the end of the sending side needs another turn anyway.
        let is_few = queued.saturating_sub(budget) <= budget / EXCESS && self.tail.counted() == 0;
        if is_few && sink.takes_excess() {
            queued
        } else {
            budget
        }
    }

    /// Sends at most `PARTS` parts in one write, and at most [`most`](Fifo::most) bytes. Returns how many bytes were sent and how many offered.
    // Not inlined: a queue without a tail must not pay for the array.
    #[inline(never)]
    fn send_gathered<const PARTS: usize>(
        &self,
        sink: &mut impl Sink,
        budget: usize,
    ) -> io::Result<(usize, usize)> {
        let budget = if self.queued() > budget {
            self.most(budget, sink)
        } else {
            budget
        };
        let head = self.head.get(self.sent()..).unwrap_or_default();
        let tail = self.tail.iter().map_while(|item| match item {
            Item::Small(data) => Some(&data[..]),
            Item::Large(data) => Some(&data[..]),
            _ => None,
        });
        let segments = std::iter::once(head).chain(tail);
        let mut parts = [IoSlice::new(&[]); PARTS];
        let (mut count, mut offered) = (0, 0);
        for (part, data) in parts
            .iter_mut()
            .zip(segments.filter(|data| !data.is_empty()))
        {
            let data = data.get(..budget - offered).unwrap_or(data);
            *part = IoSlice::new(data);
            count += 1;
            offered += data.len();
            if offered == budget {
                break;
            }
        }
        let sent = sink.send_gathered(parts.get(..count).unwrap_or_default())?;
        Ok((sent, offered))
    }

    /// Removes at most the first `sent` bytes from the head. Returns how many it has removed.
    #[inline]
    fn advance_head(&mut self, sent: usize) -> usize {
        let removed = sent.min(self.unsent_head());
        let sent = self.sent() + removed;
        if sent == self.head.len() {
            self.head.clear();
            self.sent = 0;
        } else {
            // A producer may fill the head as fast as it is sent, so that it is never empty.
            self.compact(sent);
        }
        removed
    }

    /// Removes the first `left` bytes from the tail.
    fn advance_tail(&mut self, mut left: usize) -> Used {
        let mut used = Used::None;
        while left > 0
            && let Some(mut data) = self.tail.pop_bytes()
        {
            let from_this = left.min(data.len());
            left -= from_this;
            if from_this < data.len() {
                data.advance(from_this);
                self.tail.push_bytes_front(data);
            } else {
                used = used.and(Item::Large(data));
            }
        }
        used
    }

    /// Takes the answer of the producer that was asked.
    pub(super) fn answer(&mut self, producer: Box<dyn Producer>, more: More) -> Used {
        let Some(place @ Item::Asked) = self.tail.front_mut() else {
            // The queue was discarded meanwhile, and may have been filled anew.
            let used = Used::One(Item::Producer(producer));
            return match more {
                More::Chunk(chunk) => used.and(Item::Large(chunk)),
                More::Pending | More::Done => used,
            };
        };
        if let More::Done = more {
            self.tail.pop_front();
            return Used::One(Item::Producer(producer));
        }
        *place = Item::Producer(producer);
        match more {
            More::Chunk(chunk) if chunk.len() < COPIED => {
                self.extend_head(&[&chunk]);
                return Used::One(Item::Large(chunk));
            }
            More::Chunk(chunk) => self.tail.push_bytes_front(chunk),
            More::Pending if self.asking == Asking::Ready => self.asking = Asking::Pending,
            More::Pending | More::Done => {}
        }
        Used::None
    }
}

impl Used {
    fn and(self, item: Item) -> Used {
        match self {
            Used::None => Used::One(item),
            Used::One(first) => Used::Many(vec![first, item]),
            Used::Many(mut items) => {
                items.push(item);
                Used::Many(items)
            }
        }
    }

    pub(crate) fn into_items(self) -> VecDeque<Item> {
        match self {
            Used::None => VecDeque::new(),
            Used::One(item) => VecDeque::from([item]),
            Used::Many(items) => items.into(),
        }
    }

    /// Drops each item. If a destructor panics, the others are dropped before the panic goes on.
    #[inline]
    pub(super) fn drop_each(self) {
        match self {
            Used::None => {}
            Used::One(item) => drop(item),
            Used::Many(items) => user_code::drop_each(items),
        }
    }
}

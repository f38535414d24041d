//! The way out: a queue of bytes, producers and marks, drained in the order it was filled.
//!
//! Sans-IO. [`Fifo`] is the queue, [`pump`] drains it into a [`Sink`]: the socket, or a test.
//!
//! Small pushes are copied together into one buffer at the head, because a system call, or even
//! an `IoSlice`, for each costs more than the copy: on pipelined lines, one send for each push
//! was measured at a hundred times this, and a gathered write of sixty-four boxed chunks at four
//! times. Large [`Bytes`] are queued as they are and gathered without a copy.
//!
//! Producers and hooks are the user's code, and may push to this very queue. So [`pump`] never
//! holds a borrow of the queue while it calls one.

mod items;
mod pump;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem;

use bytes::{Buf, Bytes};

use crate::error::Close;
use crate::output::producers::{More, Producer};
use crate::user_code;

pub use pump::{PumpError, Pumped, Sink, pump};

use items::Items;

/// Pushes under this size are copied into the buffer at the end of the queue.
pub(crate) const COPIED: usize = 4096;

/// Room in a buffer that is not worth giving back.
pub(crate) const SLACK: usize = 8 * 1024;

/// More producers, hooks and parts than this are over the high-water mark, however few bytes are at
/// hand: a producer may hold a file, and a peer that reads nothing can ask for one with each line.
const MANY: usize = 64;

/// Down to this many, input goes on.
const FEW: usize = 16;

/// What a producer is asked for all the same when more than the mark waits behind it.
const PIECE: usize = 16 * 1024;

/// How many parts one gathered write has at most. Linux takes 1,024, but the bytes of a turn's
/// budget fill far fewer.
const GATHERED: usize = 64;

/// Output in waiting.
pub struct Fifo {
    /// The front of the queue: small pushes, one after another.
    head: Vec<u8>,
    /// Up to this length the head takes a push without further ado: nothing is behind it, the
    /// queue is open, and has room. Zero where any of that is not so.
    plain: usize,
    /// How much of the head is sent.
    sent: usize,
    /// What comes after the head.
    rest: Items,
    /// Bytes in the rest, without what producers have yet to make.
    behind: usize,
    high_water: usize,
    /// The first producer has nothing for now.
    parked: bool,
    /// It was told to go on since it was last asked.
    resumed: bool,
    /// Nothing more is taken: its close is queued, or the channel has ended.
    sealed: bool,
    /// Nothing can be sent any more. What is pushed is counted, in `behind`, and dropped.
    failed: bool,
    /// A producer has failed: what was to come is missing.
    cut: bool,
    /// Its close has been reached: all before it is sent.
    closed: bool,
}

/// What is queued behind the head.
pub enum Item {
    /// Small pushes behind something else.
    Small(Vec<u8>),
    /// A large push.
    Large(Bytes),
    /// Makes its bytes when their turn comes.
    Producer(Box<dyn Producer>),
    /// The place of a producer that is being asked.
    Asked,
    /// Called when all before it is out.
    Hook(Box<dyn FnOnce()>),
    /// Ends the sending side, and nothing else.
    ShutdownWrite,
    /// Ends the channel, with this reason.
    Close(Close),
}

impl Fifo {
    /// An empty queue that is over its mark when more than `high_water` bytes are in it.
    pub fn new(high_water: usize) -> Self {
        Fifo {
            head: Vec::new(),
            plain: high_water,
            sent: 0,
            rest: Items::default(),
            behind: 0,
            high_water,
            parked: false,
            resumed: false,
            sealed: false,
            failed: false,
            cut: false,
            closed: false,
        }
    }

    /// Moves the high-water mark.
    pub fn set_high_water(&mut self, bytes: usize) {
        self.high_water = bytes;
        self.settle();
    }

    /// So much waits beside the queue, and leaves it the less room.
    pub fn set_beside(&mut self, bytes: usize) {
        if self.rest.beside() != bytes {
            self.rest.set_beside(bytes);
            self.settle();
        }
    }

    /// Queues a copy of `data`; says whether the queue is [full](Fifo::is_full).
    #[inline]
    pub fn push_slice(&mut self, data: &[u8]) -> bool {
        if data.len() <= self.plain.saturating_sub(self.head.len()) {
            self.head.extend_from_slice(data);
            return false;
        }
        self.push_behind(data)
    }

    /// Queues a copy of all these, one after another; says whether the queue is
    /// [full](Fifo::is_full).
    #[inline(always)]
    pub fn push_slices(&mut self, parts: &[&[u8]]) -> bool {
        let room = self.plain.saturating_sub(self.head.len());
        let total = parts
            .iter()
            .fold(0, |total: usize, part| total.saturating_add(part.len()));
        if total > room {
            return parts.iter().fold(false, |_, part| self.push_behind(part));
        }
        for part in parts {
            self.head.extend_from_slice(part);
        }
        false
    }

    /// Queues `data`, without a copy if it is large; says whether the queue is
    /// [full](Fifo::is_full).
    #[inline]
    pub fn push_bytes(&mut self, data: &Bytes) -> bool {
        if data.len() < COPIED {
            return self.push_slice(data);
        }
        self.push_large(data)
    }

    fn push_large(&mut self, data: &Bytes) -> bool {
        if self.sealed {
            return false;
        }
        self.behind = self.behind.saturating_add(data.len());
        if !self.failed {
            self.rest.push_back(Item::Large(data.clone()));
        }
        self.settle();
        self.is_full()
    }

    /// A push that is not plain.
    #[cold]
    #[inline(never)]
    fn push_behind(&mut self, data: &[u8]) -> bool {
        if self.sealed {
            return false;
        }
        match self.rest.back_mut() {
            _ if self.failed => self.behind = self.behind.saturating_add(data.len()),
            None => {
                self.compact();
                self.head.extend_from_slice(data);
            }
            Some(Item::Small(tail)) => {
                tail.extend_from_slice(data);
                self.behind += data.len();
            }
            Some(_) => {
                self.rest.push_back(Item::Small(data.to_vec()));
                self.behind += data.len();
            }
        }
        self.settle();
        self.is_full()
    }

    /// Whether it has more than there is room for, or is over its mark.
    pub fn is_full(&self) -> bool {
        self.is_crowded() || self.is_over()
    }

    /// Whether it has more than there is room for, for something waits beside it. Not while a producer
    /// holds it up, for which the way on may be in what waits.
    pub fn is_crowded(&self) -> bool {
        let waits = self.parked || self.failed;
        self.rest.beside() > 0 && !waits && self.queued() > self.mark().max(COPIED)
    }

    /// Whether it is over its high-water mark, in bytes or in items.
    pub fn is_over(&self) -> bool {
        self.queued() > self.high_water || self.rest.len() > MANY
    }

    /// Whether it has fallen to its low-water mark.
    pub fn is_low(&self, low_water: usize) -> bool {
        self.queued() <= low_water && self.rest.len() <= FEW
    }

    /// What it holds against the output limit: its bytes, and where there are many, [`COPIED`] for
    /// each producer and hook, since these hold something, too.
    pub fn weight(&self) -> usize {
        let callable = match self.rest.len() > MANY {
            true => self.rest.callable(),
            false => 0,
        };
        self.queued()
            .saturating_add(callable.saturating_mul(COPIED))
    }

    /// The weight so far does not count against the output limit, until it is sent.
    pub fn exempt(&mut self) {
        let weight = self.weight();
        self.rest.set_exempt(weight);
    }

    /// What of the [weight](Fifo::weight) counts against the output limit.
    pub fn excess(&self) -> usize {
        self.weight().saturating_sub(self.rest.exempt())
    }

    /// Sees anew how far the head takes plain pushes.
    fn settle(&mut self) {
        self.plain = if self.sealed || self.failed || !self.rest.is_empty() {
            0
        } else {
            self.sent.saturating_add(self.mark())
        };
    }

    /// Queues a producer, a hook or a mark; gives it back if nothing more is taken.
    pub fn push(&mut self, item: Item) -> Option<Item> {
        if self.sealed {
            return Some(item);
        }
        if self.failed {
            self.behind = self.behind.saturating_add(self.item_weight());
            return Some(item);
        }
        self.sealed = matches!(item, Item::Close(_));
        // No more is added to what is before it: that need not keep room.
        if let Some(Item::Small(tail)) = self.rest.back_mut() {
            tail.shrink_to_fit();
        }
        self.rest.push_back(item);
        self.settle();
        None
    }

    /// Bytes queued and not yet sent. What a producer has yet to make does not count.
    pub fn queued(&self) -> usize {
        self.at_hand() + self.behind
    }

    /// How many bytes of memory the queue keeps for what is at hand, sent or not.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.head.capacity() + self.behind
    }

    /// Whether there is anything to do: bytes to send, a producer to ask, a mark to act on.
    pub fn is_actionable(&self) -> bool {
        self.sent < self.head.len()
            || match self.rest.front() {
                Some(Item::Producer(_)) => !self.parked,
                first => first.is_some(),
            }
    }

    /// The producer at the front may have something again.
    pub fn resume(&mut self) {
        self.parked = false;
        self.resumed = true;
    }

    /// Empties the queue, but for its close. What was in it is handed out, to be dropped where
    /// user code may run.
    pub fn discard(&mut self) -> VecDeque<Item> {
        self.head = Vec::new();
        self.sent = 0;
        // What was pushed since the output has failed still counts.
        if !self.failed {
            self.behind = 0;
        }
        self.parked = false;
        let close = self.take_close();
        let discarded = self.rest.take();
        if let Some(why) = close {
            self.rest.push_back(Item::Close(why));
        }
        self.settle();
        discarded
    }

    /// Nothing can be sent any more. What is in the queue is handed out, to be dropped where user code
    /// may run. It still counts, as does what is pushed from now on, up to the high-water mark: a
    /// session must not be able to start more work for a peer that is gone than for one that does not
    /// read.
    pub fn fail(&mut self) -> VecDeque<Item> {
        let items = self.rest.len().saturating_mul(self.item_weight());
        let counted = self.queued().saturating_add(items);
        let lost = self.discard();
        self.behind = counted;
        self.failed = true;
        self.settle();
        lost
    }

    /// What an item counts for that is dropped because nothing can be sent: so many as are over the mark
    /// by their number are over it by their weight.
    fn item_weight(&self) -> usize {
        self.high_water.div_ceil(MANY).max(1)
    }

    /// Closes for this reason when all is sent that still can be: behind a producer that has failed,
    /// nothing. A close that is queued already gives way. What is not sent is handed out, to be dropped
    /// where user code may run.
    pub fn close_now(&mut self, why: Close) -> VecDeque<Item> {
        let mut lost = VecDeque::new();
        // Its producer has panicked, and will not answer.
        if let Some(Item::Asked) = self.rest.front() {
            self.give_up();
        }
        if self.cut {
            lost = self.rest.take();
            self.behind = 0;
            self.parked = false;
        } else {
            lost.extend(self.take_close().map(Item::Close));
        }
        self.rest.push_back(Item::Close(why));
        self.seal();
        lost
    }

    /// Takes the reason out of the close that is queued.
    pub fn take_close(&mut self) -> Option<Close> {
        match self.rest.pop_back()? {
            Item::Close(why) => Some(why),
            other => {
                self.rest.push_back(other);
                None
            }
        }
    }

    /// Whether a producer has failed, so that what is sent breaks off.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Whether its close has been reached: its peer is to receive all that was sent.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether there is output left that could be sent.
    pub fn is_unfinished(&self) -> bool {
        let produces = |item: &Item| matches!(item, Item::Producer(_) | Item::Asked);
        !self.failed && (self.cut || self.queued() > 0 || self.rest.iter().any(produces))
    }

    /// Whether nothing more is taken.
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// Takes nothing more from now on.
    pub fn seal(&mut self) {
        self.sealed = true;
        self.settle();
    }

    /// Gives the head a buffer to fill, if it has none of its own.
    pub fn adopt_buffer(&mut self, spare: &mut Vec<u8>) {
        if self.head.capacity() == 0 {
            mem::swap(&mut self.head, spare);
        }
    }

    /// Takes the head's buffer back once it is empty, so that an idle connection keeps none.
    pub fn release_buffer(&mut self) -> Vec<u8> {
        if self.head.is_empty() {
            mem::take(&mut self.head)
        } else {
            Vec::new()
        }
    }

    /// Gives back the room in the head's buffer beyond what waits in it: that may be long.
    pub fn trim(&mut self) {
        if self.head.capacity() - self.head.len() > SLACK {
            self.compact();
            self.head.shrink_to_fit();
            self.settle();
        }
    }

    /// Drops what is sent off the head once that is the larger part of it: amortised, each byte
    /// moves at most once.
    fn compact(&mut self) {
        if self.sent * 2 > self.head.len() {
            self.head.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// How far it may be filled.
    fn mark(&self) -> usize {
        self.high_water.saturating_sub(self.rest.beside())
    }

    /// How much producers may fill in. A few bytes behind them (the line that ends what they make)
    /// take none of it, or they would be asked for a few bytes less than a turn sends, and a turn
    /// would be two writes.
    fn room(&self) -> usize {
        self.mark()
            .saturating_add(COPIED)
            .saturating_sub(self.queued())
    }

    fn at_hand(&self) -> usize {
        self.head.len() - self.sent
    }

    /// What the front of the queue calls for, with `budget` bytes left to send. No producer is asked
    /// and no hook called unless `may_call` says so.
    fn front(&mut self, budget: usize, may_call: bool) -> Front {
        let front = self.look(budget, may_call);
        self.settle();
        front
    }

    fn look(&mut self, budget: usize, may_call: bool) -> Front {
        loop {
            if self.at_hand() >= budget {
                return Front::Send;
            }
            let nothing_before = self.at_hand() == 0;
            let Some(item) = self.rest.pop_front() else {
                return if nothing_before {
                    Front::Drained
                } else {
                    Front::Send
                };
            };
            match item {
                // Into the head with it, unless it has grown too large to be worth the copy.
                Item::Small(data) if data.len() < COPIED => {
                    self.behind -= data.len();
                    self.head.extend_from_slice(&data);
                }
                Item::Small(data) if nothing_before => {
                    self.behind -= data.len();
                    self.head = data;
                }
                Item::Small(data) => {
                    self.rest.push_front(Item::Large(data.into()));
                    return Front::Send;
                }
                Item::Producer(_) | Item::Hook(_) if !may_call && !self.parked => {
                    self.rest.push_front(item);
                    return match nothing_before {
                        true => Front::NoCalls,
                        false => Front::Send,
                    };
                }
                // Not into memory what is over the mark already, for a peer that takes nothing.
                Item::Producer(producer)
                    if !self.parked && (nothing_before || self.queued() < self.mark()) =>
                {
                    self.rest.push_front(Item::Asked);
                    self.resumed = false;
                    let least = if self.rest.beside() == 0 {
                        PIECE
                    } else {
                        COPIED
                    };
                    let room = self.room().max(least);
                    return Front::Ask(producer, room.min(budget - self.at_hand()));
                }
                Item::Hook(hook) if nothing_before => return Front::Run(hook),
                Item::ShutdownWrite if nothing_before => return Front::ShutdownWrite,
                Item::Close(why) if nothing_before => {
                    self.closed = true;
                    return Front::Close(why);
                }
                Item::Producer(_) if nothing_before => {
                    self.rest.push_front(item);
                    return Front::Parked;
                }
                // A large push, or a mark or a parked producer that waits for what is before it.
                item => {
                    self.rest.push_front(item);
                    return Front::Send;
                }
            }
        }
    }

    /// Takes a producer's answer; gives back what has to be dropped outside the borrow.
    fn answer(&mut self, producer: Box<dyn Producer>, more: More) -> Spent {
        match self.rest.pop_front() {
            Some(Item::Asked) => {}
            // The queue was discarded meanwhile, and may have been filled anew.
            other => {
                if let Some(item) = other {
                    self.rest.push_front(item);
                }
                return Spent(Some(producer), Some(more));
            }
        }
        match more {
            More::Done => return Spent(Some(producer), None),
            More::Pending => {
                self.parked = !self.resumed;
                self.rest.push_front(Item::Producer(producer));
            }
            More::Chunk(chunk) if chunk.len() < COPIED => {
                self.rest.push_front(Item::Producer(producer));
                self.head.extend_from_slice(&chunk);
                return Spent(None, Some(More::Chunk(chunk)));
            }
            More::Chunk(chunk) => {
                self.rest.push_front(Item::Producer(producer));
                self.behind += chunk.len();
                self.rest.push_front(Item::Large(chunk));
            }
        }
        Spent(None, None)
    }

    /// Takes the place of a producer that failed out of the queue.
    fn give_up(&mut self) {
        self.cut = true;
        if let Some(Item::Asked) = self.rest.front() {
            self.rest.pop_front();
        }
    }

    /// Offers the front of the queue, at most `budget` bytes, in one write; says how much was
    /// taken and how much offered.
    fn send_front(&self, sink: &mut impl Sink, budget: usize) -> io::Result<(usize, usize)> {
        let head = self.head.get(self.sent..).unwrap_or_default();
        let head = head.get(..budget).unwrap_or(head);
        if self.rest.is_empty() || head.len() == budget {
            let sent = sink.send(&[IoSlice::new(head)])?;
            return Ok((sent, head.len()));
        }
        let mut parts = [IoSlice::new(&[]); GATHERED];
        let (count, offered) = self.gather(&mut parts, budget);
        let sent = sink.send(parts.get(..count).unwrap_or_default())?;
        Ok((sent, offered))
    }

    /// The parts of one write: at most `budget` bytes.
    fn gather<'a>(&'a self, parts: &mut [IoSlice<'a>; GATHERED], budget: usize) -> (usize, usize) {
        let head = self.head.get(self.sent..).unwrap_or_default();
        let behind = self.rest.iter().map_while(|item| match item {
            Item::Small(data) => Some(&data[..]),
            Item::Large(data) => Some(&data[..]),
            _ => None,
        });
        let (mut count, mut total) = (0, 0);
        let segments = std::iter::once(head).chain(behind);
        for (part, data) in parts
            .iter_mut()
            .zip(segments.filter(|data| !data.is_empty()))
        {
            let data = data.get(..budget - total).unwrap_or(data);
            *part = IoSlice::new(data);
            count += 1;
            total += data.len();
            if total == budget {
                break;
            }
        }
        (count, total)
    }

    /// Forgets `sent` bytes at the front; gives back what has to be dropped outside the borrow.
    fn advance(&mut self, mut sent: usize) -> Vec<Bytes> {
        let mut spent = Vec::new();
        self.rest.sent(sent);
        let from_head = sent.min(self.at_hand());
        self.sent += from_head;
        sent -= from_head;
        if self.sent == self.head.len() {
            self.head.clear();
            self.sent = 0;
        } else {
            // A producer may fill the head as fast as it is sent, so that it is never empty.
            self.compact();
        }
        while sent > 0 {
            let mut data = match self.rest.pop_front() {
                Some(Item::Large(data)) => data,
                Some(Item::Small(data)) => data.into(),
                // Not reached: only these two are gathered.
                Some(other) => {
                    self.rest.push_front(other);
                    break;
                }
                None => break,
            };
            let from_this = sent.min(data.len());
            sent -= from_this;
            self.behind -= from_this;
            if from_this < data.len() {
                data.advance(from_this);
                self.rest.push_front(Item::Large(data));
            } else {
                spent.push(data);
            }
        }
        self.settle();
        spent
    }
}

/// What a producer's turn has used up. Dropping it runs the user's destructors.
#[must_use]
struct Spent(Option<Box<dyn Producer>>, Option<More>);

impl Spent {
    /// Drops both, so that a panic of the one is not met by one of the other.
    fn drop_each(self) {
        let Spent(producer, more) = self;
        let (more, ()) = user_code::with(more, |_| drop(producer));
        drop(more);
    }
}

enum Front {
    Send,
    Ask(Box<dyn Producer>, usize),
    Run(Box<dyn FnOnce()>),
    ShutdownWrite,
    Close(Close),
    Parked,
    /// A producer or a hook, which may not be called in this turn any more.
    NoCalls,
    Drained,
}

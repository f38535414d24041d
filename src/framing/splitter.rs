//! Cuts the input of one connection into records.
//!
//! [`Splitter::next`] takes bytes from the front of the input and reports what they are. The result
//! depends only on the bytes, not on how they were segmented. Three parts work together:
//!
//! * A [`Cursor`] is the position within a record. Its `scan` examines the input once and reports which
//!   bytes are content and which belong to the terminator, or may belong to it. The latter are
//!   *pending*. They equal the first bytes of the terminator, so the cursor stores only their number.
//! * The [`Splitter`] handles the content as the terminator demands: it collects it, delivers it in
//!   chunks, compares its length with the limit, or skips it.
//! * [`Lines`] is a fast path for whole CR LF lines.
//!
//! A record that is whole in the input is borrowed from the input. Any other whole record is copied
//! into a buffer, which the next record uses again unless the driver takes it. An owned record is copied in
//! either case, and becomes its buffer.

mod chunks;
mod current;
mod cursor;
mod lines;
mod search;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::error::{Error, LimitSource, RecordLimit, Result};
use crate::framing::terminator::{Delivery, Kind, Terminator};
use crate::limits::CompactLimit;

use current::Current;
use cursor::{Cursor, Scan};
pub(crate) use lines::Lines;

/// What [`Splitter::next`] has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole record.
    Record(&'a [u8]),
    /// A whole record under [`Terminator::owned`].
    Owned(Bytes),
    /// The next bytes of a streamed record, at least one.
    Chunk(&'a [u8]),
    /// The end of a streamed record.
    End,
    /// The current record is longer than its limit. The splitter drops all further input unless
    /// [`Splitter::discard`] is called.
    Overflow,
}

/// The input state of one connection. See the documentation of the module.
pub struct Splitter {
    phase: Phase,
    /// Properties of the terminator, stored because each record needs them.
    delivery: Delivery,
    plain_crlf: bool,
    cursor: Cursor,
    terminator: Current,
    /// The content of a whole record so far. Between the last chunk of a streamed record and its
    /// `Overflow`: the content above the limit.
    buffer: Vec<u8>,
    /// The buffer belongs to the driver, which takes it back with [`Splitter::release_buffer`], or with
    /// [`Splitter::take_delivered`].
    adopted: bool,
    default_limit: CompactLimit,
}

impl fmt::Debug for Splitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Splitter")
            .field("terminator", &*self.terminator)
            .field("buffered", &self.buffer.len())
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Reading,
    /// The buffer holds a record that has been delivered.
    Delivered,
    /// `count(0)` is set and has not delivered its record.
    Due,
    /// `count(0)` has delivered its record.
    Spent,
    /// All chunks of an inclusive record are delivered. `End` is the next event.
    Ended,
    /// `Overflow` is the next event.
    Overflowing,
    /// `Overflow` has been delivered. Input is dropped.
    Overflowed,
    /// `Overflow` has been delivered. Input is dropped up to the end of the record.
    Discarding,
}

impl Splitter {
    /// Creates a splitter at the beginning of a stream. `default_limit` is the maximum length in bytes
    /// of a whole record whose terminator sets no limit.
    pub fn new(terminator: Terminator, default_limit: usize) -> Self {
        let mut splitter = Self {
            phase: Phase::Reading,
            delivery: Delivery::Borrowed,
            plain_crlf: true,
            cursor: Cursor::default(),
            terminator: Current::default(),
            buffer: Vec::new(),
            adopted: false,
            default_limit: CompactLimit::new(default_limit),
        };
        // Most connections begin with the default one, whose properties these are.
        if !terminator.is_default() {
            splitter.install(terminator);
        }
        splitter
    }

    /// Returns the next event and consumes its bytes from the front of `input`.
    ///
    /// `None` means that all input is consumed and more is needed. Call it until then, even with empty
    /// input: `count(0)` and the end of a streamed count need none.
    ///
    /// A chunk consumes its own bytes only. A terminator that is set while the chunk is handled
    /// therefore applies from the byte after it.
    ///
    /// # Errors
    ///
    /// Fails if there is input and `count(0)` has delivered its record and is still set: the input
    /// belongs to no record.
    #[inline]
    pub fn next<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Event<'a>>, Error> {
        let mut is_searched = false;
        if let Some(mut lines) = self.lines(input) {
            if let Some(line) = lines.next() {
                *input = lines.rest();
                return Ok(Some(Event::Record(line)));
            }
            is_searched = lines.is_searched();
        }
        self.next_after(is_searched, input)
    }

    /// Returns the fast path if it applies: the terminator is plain [`crlf`](Terminator::crlf), and the
    /// input is at the beginning of a record. It takes the same lines as [`next`](Splitter::next), and is
    /// valid until another method of the splitter is called.
    #[inline]
    pub fn lines<'i>(&self, input: &'i [u8]) -> Option<Lines<'i>> {
        let plain =
            self.plain_crlf && self.phase == Phase::Reading && self.cursor == Cursor::default();
        plain.then(|| Lines::new(self.limit(), input))
    }

    /// Like [`next`](Splitter::next), without the fast path. `is_searched`: the fast path has found that this input
    /// contains no LF.
    ///
    /// # Errors
    ///
    /// As for `next`.
    pub fn next_after<'a, 'i: 'a>(
        &'a mut self,
        is_searched: bool,
        input: &mut &'i [u8],
    ) -> Result<Option<Event<'a>>, Error> {
        if self.phase != Phase::Reading {
            let event = self.leave_phase(input)?;
            if event.is_some() || self.phase != Phase::Reading {
                return Ok(event);
            }
        }
        Ok(match self.delivery {
            Delivery::Streamed if self.terminator.is_inclusive() => {
                self.next_inclusive_chunk(input)
            }
            Delivery::Streamed => self.next_chunk(input),
            Delivery::Borrowed | Delivery::Owned => self.next_record(input, is_searched),
        })
    }

    /// Sets the terminator for all bytes that have not been delivered.
    ///
    /// Between two records this is a few stores. Within a record it returns the bytes that have been
    /// consumed and not delivered. Pass them to `next` again, before the rest of the input. Dots that
    /// [`Terminator::dot_block`] has removed are not restored.
    ///
    /// Between [`Event::Overflow`] and the end of the discarded record, the new terminator takes effect
    /// at that end. Under [`Terminator::none`], which has no end, it takes effect at once.
    #[must_use = "the bytes must be passed to `next` again"]
    #[inline]
    pub fn set_terminator(&mut self, terminator: Terminator) -> Option<Vec<u8>> {
        if self.is_overflowed() && !self.is_endless() {
            self.terminator.queue(terminator);
            return None;
        }
        self.clear_delivered();
        let pending = pending(self.cursor, &self.terminator);
        let undelivered = if self.buffer.is_empty() && pending.is_empty() {
            None
        } else {
            self.buffer.extend_from_slice(pending);
            self.adopted = false;
            Some(std::mem::take(&mut self.buffer))
        };
        self.install(terminator);
        undelivered
    }

    /// Sets the maximum length in bytes of whole records whose terminator sets no limit. It applies to
    /// the current record too.
    pub fn set_default_limit(&mut self, limit: usize) {
        self.clear_delivered();
        self.default_limit = CompactLimit::new(limit);
        let undecided = matches!(self.phase, Phase::Reading | Phase::Overflowing);
        if undecided && self.cursor == Cursor::default() {
            self.begin();
        }
    }

    /// Answers [`Event::Overflow`]: the rest of the current record is dropped, and the record after it
    /// is delivered. Does nothing if there was no overflow.
    pub fn discard(&mut self) {
        if self.phase == Phase::Overflowed {
            self.phase = Phase::Discarding;
        }
    }

    /// Returns the duration of silence that ends the current record. It is `Some` under
    /// [`Terminator::idle_gap`] within a record, also one that is being discarded.
    pub fn idle_gap(&self) -> Option<Duration> {
        match self.terminator.kind() {
            Kind::IdleGap(gap) if self.cursor.length > 0 => Some(*gap),
            _ => None,
        }
    }

    /// Ends the current record because no input has arrived for the duration of
    /// [`idle_gap`](Splitter::idle_gap). Does nothing if that is `None`.
    pub fn gap_elapsed(&mut self) -> Option<Event<'_>> {
        self.clear_delivered();
        self.idle_gap()?;
        match self.phase {
            Phase::Reading if self.delivery == Delivery::Streamed => {
                self.begin();
                Some(Event::End)
            }
            Phase::Reading => Some(self.deliver_buffer()),
            Phase::Discarding => {
                self.end_discarding();
                None
            }
            _ => None,
        }
    }

    /// Takes the bytes that have been consumed and not delivered, for use at the end of the stream. They
    /// include pending bytes. A record above its limit has none.
    pub fn take_partial(&mut self) -> &[u8] {
        self.clear_delivered();
        if self.is_overflowed() {
            return &[];
        }
        let pending = pending(self.cursor, &self.terminator);
        self.cursor = Cursor::default();
        if self.buffer.is_empty() {
            return pending;
        }
        self.buffer.extend_from_slice(pending);
        self.phase = Phase::Delivered;
        &self.buffer
    }

    /// Returns whether the next event needs no input: `count(0)` is set, or a count above its limit.
    pub fn is_due(&self) -> bool {
        matches!(self.phase, Phase::Due | Phase::Overflowing)
    }

    /// Returns the limit that the current record exceeds, after [`Event::Overflow`].
    pub fn exceeded(&self) -> RecordLimit {
        RecordLimit {
            bytes: self.limit(),
            announced: match *self.terminator.kind() {
                Kind::Count(n) => Some(n),
                _ => None,
            },
            source: if self.terminator.has_limit() {
                LimitSource::Terminator
            } else {
                LimitSource::Limits
            },
        }
    }

    /// Returns whether part of a record has arrived and its end has not. It is false under
    /// [`Terminator::none`], whose record has no end.
    pub fn is_in_record(&self) -> bool {
        !self.is_idle() && !self.is_endless()
    }

    /// Returns whether the input is at the beginning of a record.
    pub fn is_idle(&self) -> bool {
        self.cursor == Cursor::default() && !self.is_overflowed()
    }

    /// If the splitter has no buffer, empties `buffer` and takes it, so that none is allocated. Otherwise
    /// `buffer` is unchanged. [`release_buffer`](Splitter::release_buffer) returns it.
    ///
    /// An owned record becomes its buffer, so it has one of its own: an adopted buffer is returned.
    pub fn adopt_buffer(&mut self, buffer: &mut Vec<u8>) {
        if self.delivery == Delivery::Owned {
            self.clear_delivered();
            if self.adopted && self.buffer.is_empty() {
                *buffer = std::mem::take(&mut self.buffer);
                self.adopted = false;
            }
        } else if self.buffer.capacity() == 0 {
            buffer.clear();
            std::mem::swap(&mut self.buffer, buffer);
            self.adopted = true;
        }
    }

    /// Takes the record of the last event, a [`Record`](Event::Record) that was not whole in the input. It is the
    /// buffer, without what was unused if that was much.
    pub fn take_delivered(&mut self) -> Vec<u8> {
        debug_assert!(self.phase == Phase::Delivered, "the record is in the input");
        self.phase = Phase::Reading;
        self.adopted = false;
        let mut record = std::mem::take(&mut self.buffer);
        shrink(&mut record);
        record
    }

    /// Returns the buffer, adopted or allocated. The result has no capacity if there is no buffer, or
    /// if it contains part of a record.
    ///
    /// The splitter itself frees an empty buffer that it has allocated, when `next` returns `None`.
    pub fn release_buffer(&mut self) -> Vec<u8> {
        self.clear_delivered();
        if !self.buffer.is_empty() {
            return Vec::new();
        }
        self.adopted = false;
        std::mem::take(&mut self.buffer)
    }

    /// Reads a whole record. `searched`: the input contains no LF.
    #[inline]
    fn next_record<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
        mut searched: bool,
    ) -> Option<Event<'a>> {
        let (limit, terminator) = (self.limit(), &*self.terminator);
        let (kind, inclusive) = (terminator.kind(), terminator.is_inclusive());
        loop {
            let hay = *input;
            let before = self.cursor;
            // The fast path has searched this input for an LF already.
            let scan = if std::mem::take(&mut searched) && !hay.is_empty() {
                self.cursor.pass_without_lf(hay)
            } else if inclusive {
                self.cursor.scan_inclusive(kind, hay)
            } else {
                self.cursor.scan(kind, hay)
            };
            let length = self.cursor.length + (scan.released + scan.content) as u64;
            if length > limit {
                if inclusive {
                    // The terminator may have begun in earlier input, and ends the discarding.
                    self.cursor = before;
                } else {
                    // The terminator stays in the input, because it ends the discarding.
                    let tail = if scan.end { 0 } else { scan.tail };
                    take(input, scan.content + tail);
                    self.cursor.length = length;
                }
                return Some(self.overflow());
            }
            let content = take(input, scan.content);
            take(input, scan.tail);
            if scan.end && self.cursor.length == 0 {
                return Some(match self.delivery {
                    Delivery::Owned => Event::Owned(Bytes::copy_from_slice(content)),
                    _ => Event::Record(content),
                });
            }
            if scan == Scan::default() {
                self.free_if_empty();
                return None;
            }
            let content = match scan.released {
                0 => content,
                released => Cursor::released(kind, released),
            };
            append(&mut self.buffer, content, kind, limit);
            self.cursor.length = length;
            if scan.end {
                return Some(self.deliver_buffer());
            }
        }
    }

    /// Delivers the record that the buffer holds.
    fn deliver_buffer(&mut self) -> Event<'_> {
        self.cursor = Cursor::default();
        if self.delivery == Delivery::Owned {
            self.adopted = false;
            let mut record = std::mem::take(&mut self.buffer);
            shrink(&mut record);
            return Event::Owned(record.into());
        }
        self.phase = Phase::Delivered;
        Event::Record(&self.buffer)
    }

    /// Does what a phase other than `Reading` requires before input can be read.
    fn leave_phase(&mut self, input: &mut &[u8]) -> Result<Option<Event<'static>>, Error> {
        match self.phase {
            Phase::Reading => Ok(None),
            Phase::Delivered => {
                self.clear_delivered();
                Ok(None)
            }
            Phase::Due => {
                self.phase = Phase::Spent;
                Ok(Some(match self.delivery {
                    Delivery::Borrowed => Event::Record(b""),
                    Delivery::Owned => Event::Owned(Bytes::new()),
                    Delivery::Streamed => Event::End,
                }))
            }
            Phase::Ended => {
                self.begin();
                Ok(Some(Event::End))
            }
            Phase::Spent if input.is_empty() => {
                self.free_if_empty();
                Ok(None)
            }
            Phase::Spent => Err(Error::new(
                "input after the record of count(0): found_terminator must set another terminator",
            )),
            Phase::Overflowing => Ok(Some(self.overflow())),
            Phase::Overflowed => {
                *input = &[];
                Ok(None)
            }
            Phase::Discarding => {
                self.skip(input);
                if self.phase == Phase::Discarding {
                    return Ok(None);
                }
                self.leave_phase(input)
            }
        }
    }

    /// Drops input up to the end of the record that is being discarded.
    fn skip(&mut self, input: &mut &[u8]) {
        loop {
            let scan = self.cursor.scan(self.terminator.kind(), input);
            take(input, scan.content + scan.tail);
            self.cursor.length += (scan.released + scan.content) as u64;
            if scan.end {
                return self.end_discarding();
            }
            if scan == Scan::default() {
                return;
            }
        }
    }

    fn end_discarding(&mut self) {
        match self.terminator.take_queued() {
            Some(terminator) => self.install(terminator),
            None => self.begin(),
        }
    }

    #[inline]
    fn install(&mut self, terminator: Terminator) {
        self.delivery = terminator.delivery();
        self.plain_crlf = self.delivery == Delivery::Borrowed
            && !terminator.is_inclusive()
            && matches!(terminator.kind(), Kind::Crlf);
        self.terminator.set(terminator);
        self.begin();
    }

    /// Begins a record. Only a count can be decided before its first byte.
    #[inline]
    fn begin(&mut self) {
        self.cursor = Cursor::default();
        self.phase = match *self.terminator.kind() {
            Kind::Count(0) => Phase::Due,
            Kind::Count(n) if n > self.limit() => Phase::Overflowing,
            _ => Phase::Reading,
        };
    }

    /// Returns the maximum length of a record in bytes.
    #[inline]
    fn limit(&self) -> u64 {
        self.terminator.limit_or(self.default_limit.bytes())
    }

    /// Forgets a record that was delivered from the buffer.
    #[inline]
    fn clear_delivered(&mut self) {
        if self.phase == Phase::Delivered {
            self.buffer.clear();
            self.phase = Phase::Reading;
        }
    }

    fn overflow(&mut self) -> Event<'static> {
        self.phase = Phase::Overflowed;
        self.buffer.clear();
        self.free_if_empty();
        Event::Overflow
    }

    /// Returns whether the current record is above its limit and this has been reported.
    #[inline]
    fn is_overflowed(&self) -> bool {
        matches!(self.phase, Phase::Overflowed | Phase::Discarding)
    }

    /// Returns whether the terminator is [`Terminator::none`].
    #[inline]
    pub fn is_endless(&self) -> bool {
        matches!(self.terminator.kind(), Kind::Everything)
    }

    /// Frees the buffer if it is empty and not adopted, so that an idle connection has none.
    fn free_if_empty(&mut self) {
        if self.buffer.is_empty() && !self.adopted {
            self.buffer = Vec::new();
        }
    }
}

/// Returns the bytes that have been consumed, are not in the buffer, and have not been delivered.
fn pending(cursor: Cursor, terminator: &Terminator) -> &[u8] {
    if terminator.is_inclusive() {
        &[]
    } else {
        cursor.pending(terminator.kind())
    }
}

/// Takes `len` bytes from the front of `input`.
#[inline]
fn take<'a>(input: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at_checked(len).unwrap_or((input, &[]));
    *input = rest;
    taken
}

/// Appends `bytes`.
#[inline]
fn append(buffer: &mut Vec<u8>, bytes: &[u8], kind: &Kind, limit: u64) {
    if bytes.len() > buffer.capacity() - buffer.len() {
        grow(buffer, bytes.len(), kind, limit);
    }
    buffer.extend_from_slice(bytes);
}

/// Makes room for `more` bytes. The capacity grows geometrically as with `Vec`, but not above the length of
/// the longest record. It does not depend on what the peer has announced: it is at most twice what has
/// arrived.
#[cold]
fn grow(buffer: &mut Vec<u8>, more: usize, kind: &Kind, limit: u64) {
    let longest = match *kind {
        Kind::Count(n) => limit.min(n),
        _ => limit,
    };
    let longest = usize::try_from(longest).unwrap_or(usize::MAX);
    let amortised = buffer.capacity().saturating_mul(2).max(64).min(longest);
    let needed = buffer.len().saturating_add(more);
    buffer.reserve_exact(needed.max(amortised) - buffer.len());
}

/// Frees the unused capacity of a record that leaves the splitter if it is more than a quarter of the record: the
/// program may keep many records, and the capacity that has doubled for bytes which did not come would be half of their
/// memory. The common allocators shorten a large block in its place, and copy a small one. The record of a count has no
/// unused capacity.
fn shrink(record: &mut Vec<u8>) {
    if record.capacity() - record.len() > record.len() / 4 {
        record.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests;

//! Cuts a stream of bytes into records: the input half of a connection, without the connection.
//!
//! [`Splitter::next`] takes bytes from the front of the input and says what they are. What it
//! says depends on the bytes alone, never on how they were cut on their way. Two parts work
//! together:
//!
//! * A [`Cursor`] knows where in the record the input stands. Its `scan` looks at the input once
//!   and says which bytes are content and which are, or may yet be, the terminator. The latter
//!   are held back, and since they equal the beginning of the terminator, it is enough to
//!   remember how many they are.
//! * The [`Splitter`] does with the content what the terminator asks for: collects it, hands it
//!   on in chunks, counts it against the limit, or skips it.
//!
//! A record that lies whole in the input is borrowed from there. Only one that does not is
//! copied, into a buffer that exists no longer than the record.

mod cursor;

use std::time::Duration;

use crate::Result;
use crate::framing::terminator::{Kind, Terminator};

pub(crate) use cursor::Lines;
use cursor::{Cursor, Step};

/// What [`Splitter::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole record, without its terminator.
    Record(&'a [u8]),
    /// The next bytes of a streamed record, at least one.
    Chunk(&'a [u8]),
    /// The end of a streamed record.
    End,
    /// The record in hand is longer than its limit. The splitter delivers nothing more unless
    /// [`Splitter::discard`] is called.
    Overflow,
}

/// The state of one connection's input. See the module's documentation.
pub struct Splitter {
    phase: Phase,
    /// Of the terminator: kept, because they are asked for with every record.
    streamed: bool,
    whole_crlf: bool,
    cursor: Cursor,
    terminator: Terminator,
    /// A whole record's bytes so far. Of a streamed record: bytes over the limit, for the moment
    /// between the last chunk and `Overflow`.
    buffer: Vec<u8>,
    lent: bool,
    default_limit: usize,
    /// Takes the place of `terminator` when the record that is being discarded has ended.
    queued: Option<Box<Terminator>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Reading,
    /// The buffer holds a record that has been delivered.
    Delivered,
    /// `count(0)` is set and has not fired yet.
    Due,
    /// `count(0)` has fired.
    Spent,
    /// `Overflow` is the next event.
    Overflowing,
    /// `Overflow` has been delivered.
    Overflowed,
    Discarding,
}

impl Splitter {
    /// A splitter at the beginning of a stream. `default_limit`: the most bytes of a whole record
    /// whose terminator has no limit of its own.
    pub fn new(terminator: Terminator, default_limit: usize) -> Self {
        let mut splitter = Self {
            phase: Phase::Reading,
            streamed: false,
            whole_crlf: false,
            cursor: Cursor::default(),
            terminator: Terminator::crlf(),
            buffer: Vec::new(),
            lent: false,
            default_limit,
            queued: None,
        };
        splitter.install(terminator);
        splitter
    }

    /// The next event, for which bytes are consumed from the front of `input`.
    ///
    /// `None`: the input is used up and more is needed. Call it until then; `count(0)` and the
    /// end of a streamed count come without any input.
    ///
    /// The bytes of a chunk are consumed, but not what follows them, so that a terminator set
    /// while the chunk is handled holds from the byte after it.
    ///
    /// # Errors
    ///
    /// There is input, and `count(0)` is still set and has fired: the byte belongs to no record.
    #[inline]
    pub fn next<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Result<Option<Event<'a>>> {
        let mut lines = self.lines();
        if let Some(line) = lines.as_mut().and_then(|lines| lines.next(input)) {
            return Ok(Some(Event::Record(line)));
        }
        self.next_after(lines, input)
    }

    /// The plain case, where whole lines are awaited and none is begun. What it says of them
    /// [`next`](Splitter::next) would say too, until anything else is asked of the splitter.
    #[inline]
    pub fn lines(&self) -> Option<Lines> {
        let plain =
            self.whole_crlf && self.phase == Phase::Reading && self.cursor == Cursor::default();
        plain.then(|| Lines::of(self.limit()))
    }

    /// [`next`](Splitter::next), for input at whose front these lines, if any, have found no other.
    ///
    /// # Errors
    ///
    /// Those of `next`.
    pub fn next_after<'a, 'i: 'a>(
        &'a mut self,
        lines: Option<Lines>,
        input: &mut &'i [u8],
    ) -> Result<Option<Event<'a>>> {
        if self.phase != Phase::Reading {
            let event = self.leave_phase(input)?;
            if event.is_some() || self.phase != Phase::Reading {
                return Ok(event);
            }
        }
        Ok(if self.streamed {
            self.next_chunk(input)
        } else {
            let searched = lines.is_some_and(|lines| lines.in_vain);
            self.next_record(input, searched)
        })
    }

    /// Sets the terminator for everything that has not been delivered.
    ///
    /// Between two records this is a few stores. With a record in hand (a whole one from a timer,
    /// a streamed one at any time), the bytes that have arrived and have not been delivered are
    /// returned: feed them again before what is left of the input. The dots that
    /// [`Terminator::dot_block`] has removed are not put back.
    ///
    /// Between [`Event::Overflow`] and the end of the discarded record the new terminator waits
    /// for that end, except where none would come, under [`Terminator::none`].
    #[must_use = "the bytes have to be fed again"]
    #[inline]
    pub fn set_terminator(&mut self, terminator: Terminator) -> Option<Vec<u8>> {
        if self.is_overflowed() && *self.terminator.kind() != Kind::Everything {
            self.queued = Some(Box::new(terminator));
            return None;
        }
        self.settle();
        let held = self.cursor.held(self.terminator.kind());
        let undelivered = if self.buffer.is_empty() && held.is_empty() {
            None
        } else {
            self.buffer.extend_from_slice(held);
            self.lent = false;
            Some(std::mem::take(&mut self.buffer))
        };
        self.install(terminator);
        undelivered
    }

    /// The terminator in force. While a record is discarded: that record's.
    pub fn terminator(&self) -> &Terminator {
        &self.terminator
    }

    /// Sets the limit of whole records whose terminator has none of its own, from the record in
    /// hand on.
    pub fn set_default_limit(&mut self, limit: usize) {
        self.settle();
        self.default_limit = limit;
        let undecided = matches!(self.phase, Phase::Reading | Phase::Overflowing);
        if undecided && self.cursor == Cursor::default() {
            self.begin();
        }
    }

    /// The answer to [`Event::Overflow`]: skips to the end of the record in hand, of which nothing
    /// more is heard. Without an overflow it does nothing.
    pub fn discard(&mut self) {
        if self.phase == Phase::Overflowed {
            self.phase = Phase::Discarding;
        }
    }

    /// How much silence ends the record in hand: `Some` under [`Terminator::idle_gap`] while there
    /// is one, be it that it is being discarded.
    pub fn idle_gap(&self) -> Option<Duration> {
        match self.terminator.kind() {
            Kind::IdleGap(gap) if self.cursor.length > 0 => Some(*gap),
            _ => None,
        }
    }

    /// Tells that the silence has happened. Ends the record in hand, if there is one and its
    /// terminator is [`Terminator::idle_gap`].
    pub fn gap(&mut self) -> Option<Event<'_>> {
        self.settle();
        self.idle_gap()?;
        match self.phase {
            Phase::Reading if self.streamed => {
                self.begin();
                Some(Event::End)
            }
            Phase::Reading => {
                self.cursor = Cursor::default();
                self.phase = Phase::Delivered;
                Some(Event::Record(&self.buffer))
            }
            Phase::Discarding => {
                self.end_discarding();
                None
            }
            _ => None,
        }
    }

    /// At the end of the stream: the bytes that have arrived and have not been delivered, those
    /// included that might have become the terminator. Of a record over its limit there are none.
    /// They count as delivered by this.
    pub fn partial(&mut self) -> &[u8] {
        self.settle();
        if self.is_overflowed() {
            return &[];
        }
        let held = self.cursor.held(self.terminator.kind());
        self.cursor = Cursor::default();
        if self.buffer.is_empty() {
            return held;
        }
        self.buffer.extend_from_slice(held);
        self.phase = Phase::Delivered;
        &self.buffer
    }

    /// Whether a record is begun that has an end to wait for.
    pub fn is_in_record(&self) -> bool {
        !self.is_idle() && *self.terminator.kind() != Kind::Everything
    }

    /// Whether nothing of a record is in hand.
    pub fn is_idle(&self) -> bool {
        self.cursor == Cursor::default() && !self.is_overflowed()
    }

    /// Lends a buffer to a splitter that has none: what it makes of it is the lender's, who is to take
    /// it back.
    pub fn adopt_buffer(&mut self, spare: &mut Vec<u8>) {
        if self.buffer.capacity() == 0 {
            spare.clear();
            std::mem::swap(&mut self.buffer, spare);
            self.lent = true;
        }
    }

    /// Takes the buffer back, lent or not, unless bytes of a record are in it: then, and where
    /// there is none, the result is without capacity.
    ///
    /// A buffer of its own making the splitter frees by itself when `next` finds nothing more and
    /// nothing is in it.
    pub fn release_buffer(&mut self) -> Vec<u8> {
        self.settle();
        if !self.buffer.is_empty() {
            return Vec::new();
        }
        self.lent = false;
        std::mem::take(&mut self.buffer)
    }

    #[inline]
    fn next_record<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
        mut searched: bool,
    ) -> Option<Event<'a>> {
        let limit = self.limit();
        loop {
            let hay = *input;
            let step = match std::mem::take(&mut searched) && !hay.is_empty() {
                true => self.cursor.past(hay),
                false => self.cursor.scan(self.terminator.kind(), hay),
            };
            let length = self.cursor.length + (step.lead + step.content) as u64;
            if length > limit {
                // The terminator stays in the input: it ends the discarding.
                let tail = if step.end { 0 } else { step.tail };
                take(input, step.content + tail);
                self.cursor.length = length;
                return Some(self.overflow());
            }
            let content = take(input, step.content);
            take(input, step.tail);
            if step.end && self.cursor.length == 0 {
                return Some(Event::Record(content));
            }
            if step == Step::default() {
                self.free_if_empty();
                return None;
            }
            let lead = Cursor::lead(self.terminator.kind(), step.lead);
            append(&mut self.buffer, lead, limit);
            append(&mut self.buffer, content, limit);
            self.cursor.length = length;
            if step.end {
                self.cursor = Cursor::default();
                self.phase = Phase::Delivered;
                break;
            }
        }
        Some(Event::Record(&self.buffer))
    }

    fn next_chunk<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Option<Event<'a>> {
        let (lead, room) = loop {
            // No more is looked at than may be delivered, so the cursor never stands beyond it.
            // With no room left, a byte at a time shows whether the terminator follows.
            let room = self.limit().saturating_sub(self.cursor.length);
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            let hay = input.get(..room.max(1)).unwrap_or(input);
            let before = self.cursor;
            let step = self.cursor.scan(self.terminator.kind(), hay);
            if step.lead > 0 {
                take(input, step.tail);
                if room == 0 {
                    return Some(self.overflow());
                }
                break (step.lead, room);
            }
            if step.content > room {
                self.cursor = before;
                return Some(self.overflow());
            }
            if step.content > 0 {
                if step.tail > 0 {
                    self.cursor.rewind();
                }
                self.cursor.length += step.content as u64;
                return Some(Event::Chunk(take(input, step.content)));
            }
            take(input, step.tail);
            if step.end {
                self.cursor = Cursor::default();
                return Some(Event::End);
            }
            if step == Step::default() {
                self.free_if_empty();
                return None;
            }
        };
        let lead = Cursor::lead(self.terminator.kind(), lead);
        let (chunk, over) = lead.split_at_checked(room).unwrap_or((lead, &[]));
        self.cursor.length += chunk.len() as u64;
        if !over.is_empty() {
            self.buffer.extend_from_slice(over);
            self.phase = Phase::Overflowing;
        }
        Some(Event::Chunk(chunk))
    }

    /// What there is to do before the next record can be read, or goes on to be.
    fn leave_phase(&mut self, input: &mut &[u8]) -> Result<Option<Event<'static>>> {
        match self.phase {
            Phase::Reading => Ok(None),
            Phase::Delivered => {
                self.settle();
                Ok(None)
            }
            Phase::Due => {
                self.phase = Phase::Spent;
                Ok(Some(if self.streamed {
                    Event::End
                } else {
                    Event::Record(b"")
                }))
            }
            Phase::Spent if input.is_empty() => {
                self.free_if_empty();
                Ok(None)
            }
            Phase::Spent => Err("more input, but the terminator is still count(0), \
                                 which has fired: found_terminator has to set another one"
                .into()),
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

    fn skip(&mut self, input: &mut &[u8]) {
        loop {
            let step = self.cursor.scan(self.terminator.kind(), input);
            take(input, step.content + step.tail);
            self.cursor.length += (step.lead + step.content) as u64;
            if step.end {
                return self.end_discarding();
            }
            if step == Step::default() {
                return;
            }
        }
    }

    fn end_discarding(&mut self) {
        match self.queued.take() {
            Some(terminator) => self.install(*terminator),
            None => self.begin(),
        }
    }

    #[inline]
    fn install(&mut self, terminator: Terminator) {
        self.streamed = terminator.is_streamed();
        self.whole_crlf = !self.streamed && *terminator.kind() == Kind::Crlf;
        self.terminator = terminator;
        self.begin();
    }

    /// Counts can be decided before their first byte; everything else is read.
    #[inline]
    fn begin(&mut self) {
        self.cursor = Cursor::default();
        self.phase = match *self.terminator.kind() {
            Kind::Count(0) => Phase::Due,
            Kind::Count(n) if n > self.limit() => Phase::Overflowing,
            _ => Phase::Reading,
        };
    }

    /// The most bytes of a record.
    #[inline]
    fn limit(&self) -> u64 {
        self.terminator.limit_or(self.default_limit)
    }

    #[inline]
    fn settle(&mut self) {
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

    #[inline]
    fn is_overflowed(&self) -> bool {
        matches!(self.phase, Phase::Overflowed | Phase::Discarding)
    }

    fn free_if_empty(&mut self) {
        if self.buffer.is_empty() && !self.lent {
            self.buffer = Vec::new();
        }
    }
}

#[inline]
fn take<'a>(input: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at_checked(len).unwrap_or((input, &[]));
    *input = rest;
    taken
}

/// Appends with amortised growth, like `Vec`'s own but never beyond the limit.
fn append(buffer: &mut Vec<u8>, bytes: &[u8], limit: u64) {
    let needed = buffer.len().saturating_add(bytes.len());
    if needed > buffer.capacity() {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let amortised = buffer.capacity().saturating_mul(2).max(64).min(limit);
        buffer.reserve_exact(needed.max(amortised) - buffer.len());
    }
    buffer.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::cursor::SCANNED;
    use super::*;

    /// Feeds `input` in segments of `size`; returns the records and the bytes looked at.
    fn cost(terminator: Terminator, input: &[u8], size: usize) -> (usize, usize) {
        SCANNED.set(0);
        let mut splitter = Splitter::new(terminator.unlimited(), 0);
        let mut ends = 0;
        for mut segment in input.chunks(size) {
            while let Some(event) = splitter.next(&mut segment).unwrap() {
                ends += usize::from(matches!(event, Event::Record(_) | Event::End));
            }
        }
        (ends, SCANNED.get())
    }

    #[test]
    fn a_megabyte_line_in_single_bytes_is_looked_at_once() {
        let line = vec![b'x'; 1 << 20];
        assert_eq!(cost(Terminator::crlf(), &line, 1), (0, line.len()));
    }

    #[test]
    fn a_buffer_of_empty_lines_is_looked_at_once() {
        let lines = b"\r\n".repeat(1 << 15);
        assert_eq!(
            cost(Terminator::crlf(), &lines, lines.len()),
            (1 << 15, 1 << 16)
        );
    }

    /// Three times is a byte that is in the last bytes of its segment and of those in the next
    /// one that decide what has been held back.
    #[test]
    fn no_byte_is_looked_at_more_than_three_times() {
        const LEN: usize = 1 << 16;
        let terminators = [
            Terminator::crlf(),
            Terminator::line(),
            Terminator::bytes(b"\r\n.\r\n"),
            Terminator::bytes(b"aaaaaaab"),
            Terminator::dot_block(),
        ];
        let inputs: [&[u8]; 6] = [b"x", b"a", b"\r", b"\n", b"\r\n", b"\r\n.a"];
        for pattern in inputs {
            let input = pattern.repeat(LEN / pattern.len());
            for size in [1, 2, 3, 7, 8, 9, 1000, LEN] {
                for whole in &terminators {
                    for terminator in [whole.clone(), whole.clone().streamed()] {
                        let (_, scanned) = cost(terminator.clone(), &input, size);
                        assert!(
                            scanned <= 3 * LEN,
                            "{terminator:?}, {} in segments of {size}: {scanned}",
                            pattern.escape_ascii()
                        );
                    }
                }
            }
        }
    }
}

//! The delivery of input to the session: records, what stops them, and silence.

use std::rc::Rc;
use std::time::Instant;

use super::{ChatDriver, has_input, may_read};
use crate::chat::session::{AsyncChat, Overflow};
use crate::error::{Close, Result};
use crate::framing::splitter::{Event, Splitter};
use crate::log::log_throttled;
use crate::runtime::driver::Turn;
use crate::state::{ChannelState, Flag, Request};
use crate::time::deadlines::PartialInput;

/// How much unparsed input does not count against a queue. More than this reduces the room for output.
/// The two together are what a peer costs that asks for much and reads nothing. To read less at once
/// instead costs a third more on pipelined lines.
const UNCOUNTED: usize = 16 * 1024;

/// The shortest record that pushes refer to. To copy a shorter one costs less.
const LONG: usize = 32 * 1024;

impl<S: AsyncChat> ChatDriver<S> {
    /// Delivers the records in `input` until it is used up, the turn's budget is, or a request stops
    /// them.
    pub(super) fn deliver(&mut self, turn: &mut Turn<'_>, input: &mut &[u8]) -> Result {
        let state = turn.state;
        state
            .out
            .borrow_mut()
            .adopt_buffer(&mut turn.buffers.output);
        let mut budget = turn.budget.records;
        let records_before = state.records_in.get();
        let is_long = beside(input.len()) > 0;
        if is_long {
            charge(state, input.len());
            if state.out.borrow().is_crowded() {
                state.requests.add(Request::CHECK);
            }
        }
        // The splitter itself is not used where all of the input is whole lines.
        let mut has_split = false;
        let outcome = loop {
            if !state.requests.is_empty() && !self.attend(state, input) {
                break Ok(());
            }
            if state.flags.has(Flag::PIPED) {
                break self.pass_on(state, input);
            }
            // Between two lines there is nothing to look at but whether something was requested.
            let mut is_searched = false;
            if let Some(mut lines) = self.splitter.lines(input) {
                let mut called = Ok(());
                while budget > 0
                    && state.requests.is_empty()
                    && let Some(line) = lines.next()
                {
                    budget -= 1;
                    state.count_record();
                    called = self.session.found_terminator(line);
                    if called.is_err() {
                        break;
                    }
                }
                *input = lines.rest();
                is_searched = lines.is_searched();
                if called.is_err() {
                    break called;
                }
                if !state.requests.is_empty() {
                    continue;
                }
                if input.is_empty() {
                    break Ok(());
                }
            }
            if budget == 0 {
                state.requests.add(Request::PARSE);
                break Ok(());
            }
            has_split = true;
            self.splitter.adopt_buffer(&mut turn.buffers.record);
            let received = input.as_ptr_range();
            let called = match self.splitter.next_after(is_searched, input) {
                Ok(Some(Event::Record(record))) => {
                    state.count_record();
                    if record.len() < LONG || received.contains(&record.as_ptr()) {
                        self.session.found_terminator(record)
                    } else {
                        self.deliver_long(turn)
                    }
                }
                Ok(Some(Event::Owned(record))) => {
                    state.count_record();
                    self.session.found_record(record)
                }
                Ok(Some(Event::Chunk(chunk))) => self.session.collect_incoming_data(chunk),
                Ok(Some(Event::End)) => {
                    state.count_record();
                    self.session.found_terminator(b"")
                }
                Ok(Some(Event::Overflow)) => self.overflow(state),
                // An ask that finds nothing is not counted.
                Ok(None) => break Ok(()),
                Err(error) => Err(error.into()),
            };
            budget -= 1;
            if called.is_err() {
                break called;
            }
        };
        turn.budget.records = budget;
        if state.is_timed() {
            self.time_records(state, records_before);
        }
        if is_long {
            charge(state, input.len());
        }
        if has_split {
            turn.buffers.reuse_record(self.splitter.release_buffer());
            self.watch_for_gap(turn);
        }
        outcome
    }

    /// Delivers the long record that is in the splitter's buffer, so that pushes can refer to it.
    #[cold]
    fn deliver_long(&mut self, turn: &mut Turn<'_>) -> Result {
        let buffer = self.splitter.take_delivered();
        let call = |record: &[u8]| self.session.found_terminator(record);
        let (called, record) = turn.runtime.agenda.deliver(buffer, call);
        turn.buffers.keep_delivered(record);
        called
    }

    /// Updates the clocks: records may have ended, and another may have begun. A part of a TLS record is a part of
    /// what it contains, although it is of no use before its rest arrives.
    #[inline(never)]
    pub(super) fn time_records(&self, state: &ChannelState, records_before: u64) {
        let is_between = || self.splitter.is_idle() && !state.has_partial_secured();
        let begun = if state.is_closing() || state.flags.has(Flag::PIPED) || is_between() {
            PartialInput::Nothing
        } else if self.splitter.is_endless() {
            PartialInput::Stream
        } else {
            PartialInput::Record
        };
        if begun == PartialInput::Nothing {
            return state.put_off(|clocks, _| clocks.end_record());
        }
        let completed = state.records_in.get() > records_before;
        state.time(|clocks, now| clocks.parsed(now, completed, begun, state.bytes_in()));
    }

    /// Does what was requested since the last record. Returns whether the next may be delivered.
    fn attend(&mut self, state: &Rc<ChannelState>, input: &mut &[u8]) -> bool {
        state.requests.take(Request::CHECK);
        if !state.is_up() || state.is_closing() {
            return false;
        }
        state.requests.take(Request::PARSE);
        self.check_upgrade(state, input);
        if state.flags.has(Flag::UPGRADING) {
            // Nothing is parsed before TLS is up. If there is input, the connection has ended.
            *input = &[];
            return false;
        }
        let limit = state.limit(|limits| limits.record);
        if state.requests.take(Request::DISCARD) {
            self.splitter = Splitter::new(state.terminator(), limit);
            self.backlog = None;
            *input = &[];
            state.requests.take(Request::TERMINATOR);
        }
        self.splitter.set_default_limit(limit);
        if state.requests.take(Request::TERMINATOR)
            && let Some(unread) = self.splitter.set_terminator(state.terminator())
        {
            self.backlog.get_or_insert_default().put_in_front(&unread);
            state.requests.add(Request::PARSE);
            return false;
        }
        // The rest of the input waits for `resume_reading`, for the low-water mark, for room in the queue, or for
        // `handle_shutdown`, which is called before the next record, or for the session that replaces this one.
        let waits =
            state.flags.stop_reading() || state.is_shutdown_due() || state.is_replacement_due();
        charge(state, input.len());
        if waits || is_input_throttled(state) {
            state.requests.add(Request::PARSE);
            return false;
        }
        true
    }

    /// Passes all of the input on to the other end of the pipe. If nothing is queued there, the input is sent from
    /// the buffer that it was received into, and only what the kernel does not take is copied into the queue.
    fn pass_on(&mut self, state: &ChannelState, input: &mut &[u8]) -> Result {
        let chunk = std::mem::take(input);
        let Some(to) = state.piped_to().filter(|_| !chunk.is_empty()) else {
            return Ok(());
        };
        let (sent, failure) = match to.send_at_once(chunk) {
            Ok(sent) => (sent, None),
            Err(error) => (0, Some(error)),
        };
        let rest = chunk.get(sent..).unwrap_or_default();
        if !rest.is_empty() {
            // The session itself seldom pushes while it is piped. The queue that is pushed to takes its buffer.
            let mut buffer = state.out.borrow_mut().release_buffer();
            to.out.borrow_mut().adopt_buffer(&mut buffer);
            state.out.borrow_mut().adopt_buffer(&mut buffer);
            let full = to.out.borrow_mut().push_slice(rest);
            to.pushed(full, || rest.len());
        }
        if let Some(error) = failure {
            // What it has not taken is in its queue by now, and counts as lost.
            to.fail_sending(error);
        }
        self.session.handle_piped(chunk)
    }

    fn overflow(&mut self, state: &Rc<ChannelState>) -> Result {
        let exceeded = self.splitter.exceeded();
        if exceeded.announced.is_some() {
            // Often the limit was forgotten, and the program ought to set one.
            log_throttled!(warn, "{exceeded}");
        }
        match self.session.handle_overflow(&exceeded)? {
            Overflow::Discard => self.splitter.discard(),
            Overflow::CloseWhenDone => state.close_when_done(Close::InputLimit(exceeded)),
        }
        Ok(())
    }

    // ---- records that silence ends

    /// Sets the timer that looks for silence, if silence ends the current record.
    fn watch_for_gap(&self, turn: &Turn<'_>) {
        if let Some(gap) = self.splitter.idle_gap() {
            turn.state.await_silence(gap, turn.runtime.now());
        }
    }

    /// The timer has fired. Ends the current record, if no input has come `since` then for the length of the gap.
    pub(super) fn look_for_gap(&mut self, state: &Rc<ChannelState>, since: Instant) -> Result {
        // The rest of the record may have been received already, or its terminator may have been
        // replaced, its input discarded or the connection piped in this turn of the loop. The next turn
        // of the connection decides, and looks for silence again.
        let waits = has_input(state) || !may_read(state);
        let (Some(agenda), Some(gap)) = (state.agenda(), self.splitter.idle_gap()) else {
            return Ok(());
        };
        if waits {
            // Nothing is delivered now. The silence is checked again when delivery resumes.
            state.requests.add(Request::PARSE);
            return Ok(());
        }
        let now = agenda.now();
        if now.saturating_duration_since(since) < gap {
            state.await_silence_since(since, gap, now);
            return Ok(());
        }
        let event = self.splitter.gap_elapsed();
        if event.is_none() {
            return Ok(());
        }
        let records_before = state.records_in.get();
        state.count_record();
        match event {
            Some(Event::Record(record)) => self.session.found_terminator(record)?,
            Some(Event::Owned(record)) => self.session.found_record(record)?,
            _ => self.session.found_terminator(b"")?,
        }
        if state.is_timed() {
            self.time_records(state, records_before);
        }
        drop(self.splitter.release_buffer());
        Ok(())
    }
}

/// Input waits on this side, so no silence of the peer can be observed. When input is delivered again, the gap
/// begins again.
pub(super) fn suspend_gap(state: &ChannelState) {
    if state.forget_silence() {
        state.requests.add(Request::PARSE);
    }
}

/// Whether input has to wait: for the session's own queue, that of its replies, or for the queue that a pipe
/// leads to.
#[inline]
pub(super) fn is_input_throttled(state: &ChannelState) -> bool {
    if state.flags.has(Flag::PIPED) {
        state.is_pipe_full()
    } else {
        state.flags.has(Flag::BACK_PRESSURED) || state.out.borrow().is_crowded()
    }
}

/// Charges `backlog` bytes of unparsed input against the queue's limit. A push that leaves no room then adds a
/// request.
pub(super) fn charge(state: &ChannelState, backlog: usize) {
    state.out.borrow_mut().set_backlog(beside(backlog));
}

/// How much of the queue's room this much unparsed input takes.
fn beside(backlog: usize) -> usize {
    backlog.saturating_sub(UNCOUNTED)
}

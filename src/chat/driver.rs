//! Layer 2, on layer 1: a dispatcher whose input goes through a splitter to its session, and whose
//! output comes from the queue.

use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::Instant;

use crate::chat::handle::{AsyncChat, Chat, Eof, Overflow, Shutdown};
use crate::error::{Close, Error, Result};
use crate::framing::splitter::{Event, Splitter};
use crate::output::fifo::{PumpError, Pumped, SLACK, Sink, pump};
use crate::runtime::Runtime;
use crate::state::ChannelState;
use crate::time::deadlines::Clocks;
use crate::time::timer::TimerId;
use crate::{Channel, Dispatcher};

/// How much input may wait beside a queue that is at its high-water mark; of more than that, the
/// less the fuller the queue is. The two together are what a peer costs who asks for much and reads
/// nothing. To read less at once instead costs a third more on pipelined lines.
const KEPT: usize = 16 * 1024;

/// Drives a session. In goes `recv`, splitter, `found_terminator`; out comes `push`, FIFO, `send`.
// No bound on `S` here, so that a visit can look for a `ChatDispatcher<C>` of any `C`.
pub(crate) struct ChatDispatcher<S> {
    session: S,
    chat: Chat,
    splitter: Splitter,
    backlog: Option<Box<Backlog>>,
    /// Of records that silence ends.
    silence: Option<Box<Silence>>,
}

/// When input last came, and the timer that looks how long ago that was.
struct Silence {
    since: Instant,
    timer: Option<TimerId>,
}

/// Input that has been received and not yet parsed: more than the turn's budget of records, or
/// more than the session, paused or over its high-water mark, can take now.
#[derive(Default)]
struct Backlog {
    data: Vec<u8>,
    /// How much of it is parsed.
    parsed: usize,
}

impl<S> ChatDispatcher<S> {
    /// What it drives.
    pub(crate) fn session(&mut self) -> &mut S {
        &mut self.session
    }
}

impl<S: AsyncChat> ChatDispatcher<S> {
    pub(crate) fn new(chat: Chat, session: S) -> Self {
        let splitter = Splitter::new(chat.terminator(), chat.limits().record);
        chat.0.chat.terminator_set.set(false);
        ChatDispatcher {
            session,
            chat,
            splitter,
            backlog: None,
            silence: None,
        }
    }

    fn state(&self) -> Rc<ChannelState> {
        Rc::clone(&self.chat.0)
    }

    /// Parses what was left over, under what has been set since.
    fn resume(&mut self, state: &Rc<ChannelState>, runtime: &Runtime) -> Result {
        state.held.set(false);
        // Behind the end, which is only read when nothing is left, no terminator has anything to
        // end: not even a count of nothing, or of too much.
        if state.eof.get() {
            return Ok(());
        }
        let Backlog { data, parsed } = self.backlog.take().map_or_else(Backlog::default, |it| *it);
        let mut input = data.get(parsed..).unwrap_or_default();
        self.deliver(state, runtime, &mut input)?;
        let parsed = data.len() - input.len();
        self.keep(state, Backlog { data, parsed });
        Ok(())
    }

    /// Reads once, and parses what came.
    fn receive(&mut self, state: &Rc<ChannelState>, runtime: &Runtime) -> Result {
        let mut buffer = runtime.lend_read_buffer();
        let outcome = self.receive_into(state, runtime, &mut buffer);
        runtime.return_read_buffer(buffer);
        outcome
    }

    fn receive_into(
        &mut self,
        state: &Rc<ChannelState>,
        runtime: &Runtime,
        buffer: &mut [u8],
    ) -> Result {
        let most = state
            .limit(|limits| limits.turn_read)
            .clamp(1, buffer.len());
        let buffer = buffer.get_mut(..most).unwrap_or_default();
        let count = match state.recv(buffer) {
            Ok(0) => return self.end_of_input(state),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => {
                state.end(Close::from_io(state.take_send_error().unwrap_or(error)));
                return Ok(());
            }
        };
        let mut input = buffer.get(..count).unwrap_or_default();
        self.deliver(state, runtime, &mut input)?;
        if let Some(silence) = &mut self.silence {
            silence.since = runtime.now();
        }
        if !input.is_empty() || state.held.get() {
            let data = input.to_vec();
            self.keep(state, Backlog { data, parsed: 0 });
        }
        Ok(())
    }

    /// Delivers the records in `input`, until it is used up, the turn's budget is, or something
    /// was set that stops them.
    fn deliver(
        &mut self,
        state: &Rc<ChannelState>,
        runtime: &Runtime,
        input: &mut &[u8],
    ) -> Result {
        let mut spare = runtime.spare_output.lend();
        state.out.borrow_mut().lend(&mut spare);
        runtime.spare_output.take_back(spare);
        let mut spare = runtime.spare_input.lend();
        self.splitter.lend(&mut spare);
        runtime.spare_input.take_back(spare);

        let mut records = 0;
        let outcome = self.deliver_turn(state, input, &mut records);
        state.records_in.set(state.records_in.get() + records);
        state.time(|clocks, now| {
            let waits = !input.is_empty() || state.held.get();
            let begun = self.splitter.is_in_record() && !state.chat.closing.get();
            clocks.parsed(now, records > 0, begun && !waits);
        });
        runtime.spare_input.take_back(self.splitter.take_buffer());
        let idle = state.out.borrow_mut().reclaim();
        runtime.spare_output.take_back(idle);
        self.watch_for_gap(runtime);
        outcome
    }

    /// Its records, counted, and what else there is.
    fn deliver_turn(
        &mut self,
        state: &Rc<ChannelState>,
        input: &mut &[u8],
        records: &mut u64,
    ) -> Result {
        let mut budget = state.limit(|limits| limits.turn_records).max(1);
        if leaves_no_room(state, input.len()) {
            state.attention.set(true);
        }
        loop {
            if state.attention.get() && !self.attend(state, input) {
                return Ok(());
            }
            if state.is_piped() {
                return self.pass_on(state, input);
            }
            // Between two lines there is nothing to look at but whether something was asked for.
            let mut lines = self.splitter.lines();
            if let Some(lines) = &mut lines {
                while budget > 0
                    && !state.attention.get()
                    && let Some(line) = lines.next(input)
                {
                    budget -= 1;
                    *records += 1;
                    self.session.found_terminator(line)?;
                }
                if state.attention.get() {
                    continue;
                }
            }
            if budget == 0 {
                state.held.set(true);
                return Ok(());
            }
            budget -= 1;
            match self.splitter.next_after(lines, input)? {
                Some(Event::Record(record)) => {
                    *records += 1;
                    self.session.found_terminator(record)?;
                }
                Some(Event::Chunk(chunk)) => self.session.collect_incoming_data(chunk)?,
                Some(Event::End) => {
                    *records += 1;
                    self.session.found_terminator(b"")?;
                }
                Some(Event::Overflow) => self.overflow(state)?,
                None => return Ok(()),
            }
        }
    }

    /// Sees to what was asked for since the last record; says whether the next may be delivered.
    fn attend(&mut self, state: &Rc<ChannelState>, input: &mut &[u8]) -> bool {
        state.attention.set(false);
        if state.is_ending() || state.chat.closing.get() {
            return false;
        }
        let limit = state.limit(|limits| limits.record);
        if state.chat.input_discarded.replace(false) {
            self.splitter = Splitter::new(state.chat.terminator(), limit);
            self.backlog = None;
            *input = &[];
            state.chat.terminator_set.set(false);
            state.held.set(false);
        }
        self.splitter.set_default_limit(limit);
        if state.chat.terminator_set.replace(false) {
            let terminator = state.chat.terminator();
            state.held.set(false);
            if let Some(unread) = self.splitter.set_terminator(terminator) {
                self.backlog.get_or_insert_default().put_in_front(&unread);
                state.held.set(true);
                return false;
            }
        }
        // What is left waits for `resume_reading`, for the low-water mark, or for room in the queue;
        // and for `handle_shutdown`, which comes before the next record.
        let waits = state.paused.get() || state.chat.shutdown_due.get();
        if waits || is_held_up(state, input.len()) {
            state.held.set(true);
            return false;
        }
        true
    }

    /// Pushes all of the input to the other end of the pipe.
    fn pass_on(&mut self, state: &ChannelState, input: &mut &[u8]) -> Result {
        let chunk = std::mem::take(input);
        let Some(to) = state.piped_to().filter(|_| !chunk.is_empty()) else {
            return Ok(());
        };
        // The buffer that was lent for what this session would push is of more use over there.
        let mut spare = state.out.borrow_mut().reclaim();
        to.out.borrow_mut().lend(&mut spare);
        state.out.borrow_mut().lend(&mut spare);
        Chat::of(Channel(to)).push_slice(chunk);
        self.session.handle_piped(chunk)
    }

    /// Keeps what could not be parsed in this turn, behind what has to be parsed again.
    fn keep(&mut self, state: &Rc<ChannelState>, mut rest: Backlog) {
        state.chat.has_backlog.set(false);
        if state.is_ending() || state.chat.closing.get() {
            self.backlog = None;
            state.held.set(false);
            return;
        }
        if let Some(again) = self.backlog.take() {
            rest.put_in_front(&again.data);
        }
        if rest.parsed < rest.data.len() {
            state.held.set(true);
            state.chat.has_backlog.set(true);
            self.backlog = Some(Box::new(rest));
        }
    }

    /// How much input waits.
    fn left(&self) -> usize {
        self.backlog.as_ref().map_or(0, |backlog| backlog.left())
    }

    /// Keeps no more room than it takes, where it may take it for long.
    fn trim(&mut self, state: &ChannelState) {
        if state.blocked.get() {
            state.out.borrow_mut().trim();
            self.backlog.iter_mut().for_each(|backlog| backlog.trim());
        }
    }

    fn overflow(&mut self, state: &Rc<ChannelState>) -> Result {
        match self.session.handle_overflow() {
            Overflow::Discard => self.splitter.discard(),
            Overflow::Close => state.close_when_done(Close::InputLimit),
        }
        Ok(())
    }

    fn end_of_input(&mut self, state: &Rc<ChannelState>) -> Result {
        // With two descriptors, the session is still called for the end of its input.
        if !state.has_lost_output() && state.end_with_send_error() {
            return Ok(());
        }
        // From here on it is for the session and its queue to say when it closes.
        state.half_open.set(true);
        state.time(|clocks, _| clocks.record_over());
        if state.is_piped() {
            state.pass_on_eof();
            return self.session.handle_piped(&[]);
        }
        let outcome = self.session.handle_eof(self.splitter.partial());
        // It was given away: a terminator that is set from now on has nothing to end.
        let limit = state.limit(|limits| limits.record);
        self.splitter = Splitter::new(self.chat.terminator(), limit);
        match outcome? {
            // It may have been piped just now.
            Eof::CloseWhenDone if !state.is_piped() => state.close_when_done(Close::Eof),
            Eof::CloseWhenDone | Eof::StayOpen => {}
        }
        Ok(())
    }

    /// Sets the timer that looks for silence, if silence ends the record in hand. One timer, not
    /// moved with each piece of input: it looks when the last came, and sleeps on for the rest.
    fn watch_for_gap(&mut self, runtime: &Runtime) {
        let Some(gap) = self.splitter.idle_gap() else {
            return;
        };
        let silence = self.silence.get_or_insert_with(|| {
            let (since, timer) = (runtime.now(), None);
            Box::new(Silence { since, timer })
        });
        if silence.timer.is_none() {
            silence.since = runtime.now();
            silence.timer = Some(self.chat.call_later(gap));
        }
    }

    fn look_for_gap(&mut self, state: &Rc<ChannelState>) -> Result {
        let (Some(silence), Some(runtime)) = (&mut self.silence, state.runtime()) else {
            return Ok(());
        };
        silence.timer = None;
        let Some(gap) = self.splitter.idle_gap() else {
            return Ok(());
        };
        let lasted = runtime.now().saturating_duration_since(silence.since);
        if state.paused.get() || state.chat.closing.get() || state.chat.choked.get() {
            // Nothing is delivered now; when input goes on, the silence is looked for again.
            state.held.set(true);
            return Ok(());
        }
        if lasted < gap {
            silence.timer = Some(self.chat.call_later(gap - lasted));
            return Ok(());
        }
        match self.splitter.gap() {
            Some(Event::Record(record)) => self.session.found_terminator(record)?,
            Some(_) => self.session.found_terminator(b"")?,
            None => return Ok(()),
        }
        state.records_in.set(state.records_in.get() + 1);
        state.time(|clocks, _| clocks.record_over());
        drop(self.splitter.take_buffer());
        Ok(())
    }
}

impl<S: AsyncChat> Dispatcher for ChatDispatcher<S> {
    fn channel(&self) -> &Channel {
        &self.chat
    }

    fn readable(&self) -> bool {
        let state = &self.chat.0;
        !state.chat.closing.get() && !is_held_up(state, self.left())
    }

    fn writable(&self) -> bool {
        let state = &self.chat.0;
        // At the low-water mark there is something to do even if nothing is left to send.
        state.out.borrow().is_actionable() || state.is_relieved()
    }

    fn handle_connect(&mut self) -> Result {
        self.session.handle_connect()
    }

    fn handle_read(&mut self) -> Result {
        let state = self.state();
        let Some(runtime) = state.runtime() else {
            return Ok(());
        };
        if state.held.get() {
            self.resume(&state, &runtime)?;
        } else {
            self.receive(&state, &runtime)?;
        }
        self.trim(&state);
        Ok(())
    }

    fn handle_write(&mut self) -> Result {
        let state = self.state();
        let budget = state.limit(|limits| limits.turn_write);
        state.out.borrow_mut().set_beside(beside(self.left()));
        match pump(&state.out, &mut ToSocket(&state), budget.max(1)) {
            Ok(Pumped::Closed(why)) => state.end(why),
            Ok(_) => {}
            Err(PumpError::Producer(error)) => {
                return Err(Error::from(error).context("a producer failed"));
            }
            Err(PumpError::Sink(error)) if state.chat.closing.get() => {
                state.end(Close::from_io(error));
            }
            Err(PumpError::Sink(error)) => state.fail_sending(error),
        }
        self.trim(&state);
        let idle = state.out.borrow_mut().reclaim();
        if let Some(runtime) = state.runtime() {
            runtime.spare_output.take_back(idle);
        }
        if state.is_relieved() && !state.is_ending() {
            state.chat.choked.set(false);
            if let Some(from) = state.piped_to() {
                from.touch();
            }
            if !state.paused.get() {
                state.time(Clocks::resume);
            }
            self.session.handle_low_water()?;
        }
        Ok(())
    }

    fn handle_timer(&mut self, timer: TimerId) -> Result {
        let of_silence = self.silence.as_ref().and_then(|silence| silence.timer);
        if of_silence == Some(timer) {
            return self.look_for_gap(&self.state());
        }
        self.session.handle_timer(timer)
    }

    fn begin_shutdown(&mut self) -> Result {
        let state = self.state();
        // What a piped connection has to send is what the other end receives, and that ends by itself.
        // To close it in good order would have its peer take a part for the whole.
        if state.chat.closing.get() || state.is_piped() {
            return Ok(());
        }
        match self.session.handle_shutdown()? {
            // It may have been piped just now.
            Shutdown::CloseWhenDone if !state.is_piped() => state.close_when_done(Close::Shutdown),
            Shutdown::CloseWhenDone | Shutdown::Stay => {}
        }
        Ok(())
    }

    fn handle_close(&mut self, why: &Close) {
        self.session.handle_close(why);
    }
}

/// The socket of a chat, as the queue's sink.
struct ToSocket<'a>(&'a Rc<ChannelState>);

impl Sink for ToSocket<'_> {
    fn send(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let outcome = self.0.on_output(|output| match parts {
            [only] => output.send(only),
            parts => output.send_vectored(parts),
        });
        self.0
            .sent(outcome, parts.iter().map(|part| part.len()).sum())
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.shutdown_write()
    }

    fn is_open(&self) -> bool {
        !self.0.is_ending()
    }
}

/// Whether input has to wait, and this much of it does: for the session's own queue, that of its
/// answers, or for the queue that a pipe leads to.
#[inline]
fn is_held_up(state: &ChannelState, waiting: usize) -> bool {
    match state.is_piped() {
        true => state.is_pipe_full(),
        false => state.chat.choked.get() || leaves_no_room(state, waiting),
    }
}

/// Tells the queue how much input waits; says whether beside it no more may be queued before some of
/// the output is out. If not, a push after which that may have changed asks for attention.
fn leaves_no_room(state: &ChannelState, waiting: usize) -> bool {
    let mut out = state.out.borrow_mut();
    out.set_beside(beside(waiting));
    out.is_crowded()
}

/// How much of the queue's room is taken by so much input in waiting.
fn beside(waiting: usize) -> usize {
    waiting.saturating_sub(KEPT)
}

impl Backlog {
    fn left(&self) -> usize {
        self.data.len() - self.parsed
    }

    /// Gives back the room of what is parsed, for what is left may stay long.
    fn trim(&mut self) {
        if self.parsed > SLACK {
            self.data.drain(..self.parsed);
            self.data.shrink_to_fit();
            self.parsed = 0;
        }
    }

    fn put_in_front(&mut self, again: &[u8]) {
        self.data.splice(..self.parsed, again.iter().copied());
        self.parsed = 0;
    }
}

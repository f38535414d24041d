//! Drives a session: input goes from the socket through the splitter to `found_terminator`, and what was
//! pushed goes from the queue to the socket.

mod delivery;

#[cfg(feature = "sim")]
use std::any::Any;
use std::error::Error as StdError;
use std::io;
use std::rc::Rc;

use super::backlog::Backlog;
use super::replace::replaced;
use super::session::{AsyncChat, AtShutdown, Eof};
use crate::error::{Close, Error, Result, WithSources};
use crate::framing::splitter::Splitter;
use crate::log::{Escaped, log_throttled};
use crate::output::fifo::{PumpError, Pumped, pump};
use crate::runtime::driver::{Budget, Driver, Turn};
use crate::state::agenda::HandlerCall;
use crate::state::{ChannelState, Flag, Phase, Request, ToSocket};
use crate::sys::interest::{Interest, Ready};
use crate::time::timer::TimerId;
use crate::user_code::discard;

use delivery::{charge, is_input_throttled, suspend_gap};

/// The driver of a session.
pub(crate) struct ChatDriver<S> {
    session: S,
    splitter: Splitter,
    backlog: Option<Box<Backlog>>,
}

impl<S: AsyncChat> Driver for ChatDriver<S> {
    fn turn(&mut self, turn: &mut Turn<'_>) -> Result {
        let (state, ready) = (turn.state, turn.ready);
        if state.phase.get() == Phase::Arrived || !state.requests.is_empty() {
            self.begin(state)?;
            self.check_upgrade(state, &[]);
        }
        if ready.has(Ready::URGENT) {
            // Urgent data that is not received inline is discarded: a session has no callback for it.
            state.discard_urgent();
        }
        turn.budget = state.limit(|limits| Budget {
            records: limits.turn_records.max(1),
            read: limits.turn_read.max(1),
            write: limits.turn_write.max(1),
        });
        // What follows `handle_connect` is for the session that has replaced this one.
        let stays = !state.is_replacement_due();
        let reads = stays && state.is_up() && may_read(state);
        let is_at_end = state.flags.has(Flag::EOF);
        if reads && !turn.has_received && has_input(state) {
            let had_backlog = state.flags.has(Flag::BACKLOG);
            self.resume(turn)?;
            // Requests alone do not replace receiving: they may be made in every turn.
            let is_done = !had_backlog && !has_input(state) && turn.budget.records > 0;
            let stays = !state.is_replacement_due();
            if ready.has(Ready::READ)
                && !is_at_end
                && is_done
                && stays
                && state.is_up()
                && may_read(state)
            {
                self.receive(turn)?;
            }
        } else if reads && !turn.has_received && ready.has(Ready::READ) && !is_at_end {
            self.receive(turn)?;
        } else if stays
            && ready.has(Ready::HUNG_UP)
            && (!reads || is_at_end)
            && state.is_up()
            && state.can_hang_up()
        {
            state.hang_up(self.splitter.is_in_record());
        }
        if ready.has(Ready::WRITE) {
            state.flags.set(Flag::BLOCKED, false);
        }
        if state.is_up() && !state.flags.has(Flag::BLOCKED) && writes(state) {
            self.send(turn)?;
        }
        // An idle connection keeps no buffer.
        let unused = state.out.borrow_mut().release_buffer();
        turn.buffers.reuse_output(unused);
        if state.is_up() {
            if state.flags.has(Flag::BLOCKED) {
                self.trim(state);
            }
            turn.interest = Self::wait(turn);
        }
        Ok(())
    }

    #[inline]
    fn begin(&mut self, state: &Rc<ChannelState>) -> Result {
        if state.phase.get() == Phase::Arrived {
            state.phase.set(Phase::Open);
            // `close_with` may have ended it before its first callback.
            if !state.flags.has(Flag::FAILED) {
                self.session.handle_connect()?;
            }
        }
        if state.requests.take(Request::SECURED) {
            self.secured(state)?;
        }
        let stays = !state.is_replacement_due();
        // It waits for a handshake in progress.
        if stays && state.is_up() && state.requests.take(Request::SHUTDOWN) {
            self.shut_down(state)?;
        }
        Ok(())
    }

    fn timer(&mut self, state: &Rc<ChannelState>, timer: TimerId) -> Result {
        match state.silence_looked_for(timer) {
            Some(since) => self.look_for_gap(state, since),
            None => self.session.handle_timer(timer),
        }
    }

    /// A session has no callback for errors: the close has the reason. It is logged all the same.
    fn error(&mut self, error: &(dyn StdError + Send + Sync + 'static)) {
        log_throttled!(warn, error = %Escaped(WithSources(error)), "a callback failed");
    }

    fn close(&mut self, why: &Close) {
        self.session.handle_close(why);
    }

    fn replaced(self: Box<Self>, state: &Rc<ChannelState>) -> Box<dyn Driver> {
        let (old, driver) = replaced(state, *self);
        discard(old);
        driver
    }

    fn call(&mut self, _: &Rc<ChannelState>, call: HandlerCall) -> Result {
        call(&mut self.session)
    }

    #[cfg(feature = "sim")]
    fn into_handler(self: Box<Self>) -> Option<Box<dyn Any>> {
        Some(Box::new(self.session))
    }
}

impl<S> ChatDriver<S> {
    /// The session, and the driver with another one in its place.
    pub(super) fn exchange<T>(self, session: T) -> (S, ChatDriver<T>) {
        let driver = ChatDriver {
            session,
            splitter: self.splitter,
            backlog: self.backlog,
        };
        (self.session, driver)
    }
}

impl<S: AsyncChat> ChatDriver<S> {
    pub(crate) fn new(state: &ChannelState, session: S) -> Self {
        let splitter = Splitter::new(state.terminator(), state.limit(|limits| limits.record));
        state.requests.take(Request::TERMINATOR);
        if splitter.is_due() {
            state.requests.add(Request::PARSE);
        }
        ChatDriver {
            session,
            splitter,
            backlog: None,
        }
    }

    /// What the channel waits for.
    fn wait(turn: &mut Turn<'_>) -> Interest {
        let state = turn.state;
        let (reads, writes) = (may_read(state), writes(state));
        if state.has_failed_sending() && state.end_if_useless(reads || state.is_held()) {
            return Interest::NONE;
        }
        // It does not wait for the kernel any more: when it sends again, it just tries.
        if !writes {
            state.flags.set(Flag::BLOCKED, false);
        }
        if !reads {
            suspend_gap(state);
        }
        let is_blocked = state.flags.has(Flag::BLOCKED);
        turn.has_more =
            (reads && has_input(state)) || (writes && !is_blocked) || state.is_shutdown_due();
        let receives = reads && !state.flags.has(Flag::EOF);
        if state.is_timed() {
            state.time_wait(receives && !has_input(state), writes);
        }
        let interest = Interest::new(receives, writes && is_blocked);
        if interest.is_none() && state.can_hang_up() {
            Interest::HANG_UP
        } else {
            interest
        }
    }

    /// TLS is up.
    #[cold]
    #[inline(never)]
    fn secured(&mut self, state: &ChannelState) -> Result {
        if !state.is_up() || state.flags.has(Flag::FAILED) {
            return Ok(());
        }
        // A terminator that was set for the records in clear begins anew.
        let limit = state.limit(|limits| limits.record);
        self.splitter = Splitter::new(state.terminator(), limit);
        self.session.handle_tls()
    }

    // ---- input

    /// Receives once, and delivers what came.
    fn receive(&mut self, turn: &mut Turn<'_>) -> Result {
        let state = turn.state;
        let mut buffer = turn.buffers.take_read();
        let most = turn.budget.read.min(buffer.len());
        let outcome = match state.recv(buffer.get_mut(..most).unwrap_or_default()) {
            Ok(0) => self.end_of_input(state),
            Ok(count) => {
                let mut input = buffer.get(..count).unwrap_or_default();
                let outcome = self.deliver(turn, &mut input);
                state.end_silence(|| turn.runtime.now());
                if !input.is_empty() || state.requests.has(Request::INPUT) {
                    self.set_backlog(state, Backlog::new(input.to_vec()));
                }
                outcome
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // A part of a TLS record may have arrived.
                if state.is_timed() {
                    self.time_records(state, state.records_in.get());
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                state.end_truncated();
                Ok(())
            }
            Err(error) => {
                let why = Close::from_io(state.take_send_error().unwrap_or(error));
                state.end(why);
                Ok(())
            }
        };
        turn.buffers.return_read(buffer);
        outcome
    }

    /// Delivers the backlog, under the terminator that is set by now. Not inlined, so that the turns
    /// without a backlog stay short.
    #[inline(never)]
    fn resume(&mut self, turn: &mut Turn<'_>) -> Result {
        let state = turn.state;
        // After the end of the input there is nothing to parse: the end is received only when no input is
        // left. A new terminator has no effect then, not even `count(0)` or one that is an error.
        if state.flags.has(Flag::EOF) {
            state.requests.take(Request::INPUT);
            return Ok(());
        }
        loop {
            let mut backlog = self.backlog.take().map_or_else(Backlog::default, |it| *it);
            let mut input = backlog.unparsed();
            let outcome = self.deliver(turn, &mut input);
            let left = input.len();
            backlog.parsed_down_to(left);
            self.set_backlog(state, backlog);
            // If all was parsed, a backlog is the beginning of a record that a new terminator has
            // returned. It is parsed in this turn: a terminator may be set in every turn, and input
            // is only received when there is no backlog. Each repetition follows a callback that has
            // set another terminator, and the budget bounds these.
            if outcome.is_err() || left > 0 || !state.flags.has(Flag::BACKLOG) {
                return outcome;
            }
        }
    }

    /// Notes what could not be parsed in this turn, behind what has to be parsed again.
    fn set_backlog(&mut self, state: &Rc<ChannelState>, mut rest: Backlog) {
        let before = self.backlog.take();
        if state.has_ended() || state.is_closing() {
            state.flags.set(Flag::BACKLOG, false);
            state.requests.take(Request::INPUT);
            return charge(state, 0);
        }
        if let Some(before) = before {
            rest.put_in_front(before.unparsed());
        }
        let is_left = rest.len() > 0;
        state.flags.set(Flag::BACKLOG, is_left);
        charge(state, rest.len());
        if is_left {
            self.backlog = Some(Box::new(rest));
        }
    }

    fn backlog_len(&self) -> usize {
        self.backlog.as_ref().map_or(0, |backlog| backlog.len())
    }

    fn end_of_input(&mut self, state: &Rc<ChannelState>) -> Result {
        // With two descriptors, the session is still called for the end of its input.
        if !state.has_lost_output() && state.end_with_send_error() {
            return Ok(());
        }
        state.time(|clocks, _| clocks.end_record());
        if state.flags.has(Flag::PIPED) {
            state.pass_on_eof();
            return self.session.handle_piped(&[]);
        }
        let outcome = self.session.handle_eof(self.splitter.take_partial());
        // The partial record was delivered: a terminator that is set from now on has nothing to end.
        let limit = state.limit(|limits| limits.record);
        self.splitter = Splitter::new(state.terminator(), limit);
        match outcome? {
            // It may have been piped just now.
            Eof::CloseWhenDone if !state.flags.has(Flag::PIPED) => {
                state.close_when_done(Close::Eof);
            }
            Eof::CloseWhenDone | Eof::StayOpen => {}
        }
        Ok(())
    }

    /// If TLS is about to begin: input that has been received in clear and was not delivered would be taken for input
    /// that TLS has protected (CVE-2011-0411). The connection ends before it is used.
    fn check_upgrade(&mut self, state: &Rc<ChannelState>, input: &[u8]) {
        if !state.requests.take(Request::UPGRADE) {
            return;
        }
        let is_left = !input.is_empty()
            || self.backlog_len() > 0
            || self.splitter.is_in_record()
            || !self.splitter.take_partial().is_empty(); // of a record without an end
        if is_left && state.is_up() {
            let error = "plaintext was received after the command that begins TLS (CVE-2011-0411)";
            state.end(Close::Tls(error.into()));
        }
    }

    fn shut_down(&mut self, state: &Rc<ChannelState>) -> Result {
        // A piped connection sends the stream of the other end, which ends by itself. An orderly close before
        // that would make a part of the stream look complete.
        if state.is_closing() || state.flags.has(Flag::PIPED) {
            return Ok(());
        }
        match self.session.handle_shutdown()? {
            // It may have been piped just now.
            AtShutdown::CloseWhenDone if !state.flags.has(Flag::PIPED) => {
                state.close_when_done(Close::Shutdown);
            }
            AtShutdown::CloseWhenDone | AtShutdown::Stay => {}
        }
        Ok(())
    }

    // ---- output

    /// Sends what is queued, as much as the turn's budget allows and the kernel takes.
    fn send(&mut self, turn: &Turn<'_>) -> Result {
        let state = turn.state;
        let budget = state.output_budget(turn.budget.write);
        match pump(&state.out, &mut ToSocket(state), budget) {
            Ok(Pumped::Closed(why)) => state.end(why),
            Ok(Pumped::StartTls) => {
                // What the pump calls may have requested it: a hook, a producer, a destructor.
                self.check_upgrade(state, &[]);
                state.begin_upgrade();
            }
            Ok(_) => {}
            Err(PumpError::Producer(error)) => {
                return Err(Error::from(error).context("a producer failed").into());
            }
            Err(PumpError::Sink(error)) if state.is_closing() => {
                state.end(Close::from_io(error));
            }
            Err(PumpError::Sink(error)) => state.fail_sending(error),
        }
        let stays = !state.is_replacement_due();
        if state.is_relieved() && state.is_up() && stays {
            state.flags.set(Flag::BACK_PRESSURED, false);
            if let Some(from) = state.piped_to() {
                from.schedule();
            }
            self.session.handle_low_water()?;
        }
        Ok(())
    }

    /// Frees memory that is not needed while the connection waits, which may be long.
    fn trim(&mut self, state: &ChannelState) {
        let unused = state.out.borrow_mut().trim();
        discard(unused);
        self.backlog.iter_mut().for_each(|backlog| backlog.trim());
    }
}

/// Whether input may be received and delivered now.
#[inline(always)] // A turn asks three times.
fn may_read(state: &ChannelState) -> bool {
    !state.flags.stop_reading() && !state.is_closing() && !is_input_throttled(state)
}

/// Whether there is output to send, or the session is to be called at the low-water mark.
#[inline]
fn writes(state: &ChannelState) -> bool {
    state.out.borrow().is_actionable() || (state.flags.may_write() && writes_an_empty_queue(state))
}

#[cold]
#[inline(never)]
fn writes_an_empty_queue(state: &ChannelState) -> bool {
    state.is_relieved() || state.holds_output()
}

/// Whether the splitter has to be asked although nothing new has come.
#[inline]
fn has_input(state: &ChannelState) -> bool {
    state.flags.has(Flag::BACKLOG) || state.requests.has(Request::INPUT)
}

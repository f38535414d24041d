//! The turn of the loop.
//!
//! A turn has seven steps:
//!
//! 1. The run queue, so that everything pushed since the last turn is sent before the loop sleeps.
//! 2. The wait.
//! 3. The channels of the events.
//! 4. The run queue: what the budgets of the last turn left over, and what this turn has pushed.
//! 5. Posts.
//! 6. Timers. They follow the events, so that data which has arrived in time is handled before its deadline is
//!    checked.
//! 7. Deferred calls.
//!
//! Each step handles what was there when it began, never what it adds itself, and at most its budget. Thus no
//! step can starve the others. What is left over is handled in the next turn, before which the loop does not
//! sleep.
//!
//! In a turn of the loop a channel receives once and delivers records once. If something is pushed to it later
//! in the same turn, it joins the run queue again, and then only sends. A channel that has used up a budget of
//! its own waits for the next turn.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::Runtime;
use super::driver::{Budget, Turn};
use crate::error::{Close, Error, Result};
use crate::log::log_throttled;
use crate::state::agenda::Deferred;
use crate::state::inbox::Post;
use crate::state::{ChannelState, Flag, Phase};
use crate::sys::interest::{Event, Interest, Ready};
use crate::user_code::contain;

/// How many posts, timers and deferred calls a turn handles at most, of each. The number is large, so that the
/// wait is a small part of the cost of a turn, and small enough that connections are served in between.
const TURN_CALLS: usize = 1024;

/// How many waits may fail in a row before `run` returns the error: about ten seconds. A wait that failed because
/// memory ran out succeeds later. A wait that fails every time must not keep the loop spinning.
const FAILED_WAITS: u32 = 100;

/// The longest pause after a failed wait. The first pause is 2 ms, and each is twice the previous one.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// How many of so many posts or deferred calls one turn makes. An eighth of a long queue is more than the
/// budget: otherwise a queue to which each turn adds more than that would grow for ever.
fn share_of(count: usize) -> usize {
    count.min(TURN_CALLS.max(count / 8))
}

impl Runtime {
    /// Takes one turn, and sleeps in it no longer than `timeout`.
    pub(crate) fn turn(self: &Rc<Self>, timeout: Option<Duration>) -> Result<(), Error> {
        self.agenda.forget_time();
        self.run_queued();
        // This may have ended the last channel. Then there is nothing to wait for.
        let timeout = match self.has_work() {
            true => timeout,
            false => Some(Duration::ZERO),
        };
        let timeout = match (self.next_timeout(), timeout) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let mut events = self.events.take();
        events.clear();
        let outcome = self.poller.wait(&mut events, timeout);
        self.agenda.forget_time();
        self.turn.set(self.turn.get().wrapping_add(1));
        self.begin_next_turn();
        self.counters.turns.add(1);
        self.counters.wakeups.add((!events.is_empty()).into());
        self.counters.events.add(events.len() as u64);
        for event in &events {
            if let Some(state) = self.note(event) {
                self.take_turn(&state, event.ready);
            }
        }
        self.events.set(events);
        self.run_queued();
        self.make_earlier_calls();
        self.run_posts(share_of);
        self.make_earlier_calls();
        self.run_timers(TURN_CALLS);
        self.run_deferred(share_of);
        self.agenda.turn_has_ended();
        self.judge(outcome)
    }

    /// Moves the channels that used up a budget in the last turn to the run queue.
    #[inline]
    fn begin_next_turn(&self) {
        let mut waiting = self.next_turn.borrow_mut();
        if !waiting.is_empty() {
            self.agenda.run_queue.borrow_mut().append(&mut waiting);
        }
    }

    /// Notes an event. Returns its channel, unless the channel gets its turn from the run queue.
    fn note(self: &Rc<Self>, event: &Event) -> Option<Rc<ChannelState>> {
        let state = self.registry.borrow().by_key(event.key).map(Rc::clone);
        let Some(state) = state else {
            self.report_lingering(event);
            return None;
        };
        state.reported();
        // A channel with two descriptors may have two events. It gets one turn for both.
        if state.flags.has(Flag::QUEUED) || state.has_own_output() {
            state.pending.set(state.pending.get().union(event.ready));
            state.schedule();
            return None;
        }
        Some(state)
    }

    /// Gives a turn to each channel that is in the run queue now. Channels that are added meanwhile wait, so
    /// that two handlers which push to each other do not delay the others.
    pub(crate) fn run_queued(self: &Rc<Self>) {
        let count = self.agenda.run_queue.borrow().len();
        for _ in 0..count {
            let Some(state) = self.agenda.run_queue.borrow_mut().pop_front() else {
                break;
            };
            state.flags.set(Flag::QUEUED, false);
            let ready = state.pending.take();
            self.take_turn(&state, ready);
        }
    }

    /// Gives a channel its turn, then registers with the poller what the channel waits for.
    pub(super) fn take_turn(self: &Rc<Self>, state: &Rc<ChannelState>, ready: Ready) {
        self.make_earlier_calls();
        if state.flags.has(Flag::AWAITS_HANDLER) {
            return;
        }
        match state.phase.get() {
            Phase::Ending => return self.finish(state),
            Phase::Closed => return,
            Phase::Connecting => {
                let new_key = || self.poll_key(state.id.get());
                if !state.advance_connection(&self.poller, &new_key) {
                    return;
                }
            }
            _ => {}
        }
        let turn = self.turn.get();
        let only_sends = state.last_turn.replace(turn) == turn;
        let mut buffers = self.buffers.take().unwrap_or_default();
        let mut turn = Turn {
            runtime: self,
            state,
            buffers: &mut buffers,
            ready,
            only_sends,
            budget: Budget::default(),
            has_more: false,
        };
        state.flags.set(Flag::IN_TURN, true);
        let interest = self.call(state, |driver| driver.turn(&mut turn));
        state.flags.set(Flag::IN_TURN, false);
        if turn.has_more && !state.flags.replace(Flag::QUEUED, true) {
            self.next_turn.borrow_mut().push_back(Rc::clone(state));
        }
        self.buffers.set(Some(buffers));
        if let Some(interest) = interest {
            self.watch(state, interest);
        }
    }

    fn watch(&self, state: &Rc<ChannelState>, interest: Interest) {
        let id = state.id.get();
        let watched = state.watch(
            &self.poller,
            interest,
            || self.poll_key(id),
            || self.shared_poll_key(id),
        );
        let Err(error) = watched else { return };
        match state.phase.get() {
            // The poller may have run out of memory for now. A listener waits for it.
            Phase::Listening => self.pause_accepting(state, &error),
            _ => state.end(Close::Io(error)),
        }
    }

    /// Makes the calls that other threads have posted: a share of them.
    pub(super) fn run_posts(self: &Rc<Self>, share: impl FnOnce(usize) -> usize) {
        if !self.agenda.inbox.is_filled() {
            return;
        }
        for post in self.agenda.inbox.fetch(share) {
            // Posts keep their order: they follow one that waits for its handler.
            match self.waiting_calls.get() {
                0 => self.run_post(post),
                waiting => {
                    self.waiting_calls.set(waiting + 1);
                    self.agenda.defer(Deferred::Post(post));
                }
            }
        }
    }

    fn run_post(self: &Rc<Self>, post: Post) {
        match post {
            Post::Call(call) => contain(call),
            Post::CallHandler(id, call) => self.call_handler(id, call),
            Post::ResumeProducing(id) => {
                if let Some(state) = self.state(id) {
                    state.resume_producing();
                }
            }
            Post::Resolved(id, addrs) => {
                if let Some(state) = self.state(id) {
                    state.resolved(addrs);
                }
            }
            #[cfg(feature = "signal")]
            Post::Signal(signal) => self.signals.run_calls(signal),
            Post::Stop => self.stop(),
            Post::Shutdown(grace) => self.shut_down(grace),
            Post::CloseChannels => self.close_channels_in_order(),
        }
    }

    /// Makes a share of the deferred calls.
    pub(super) fn run_deferred(self: &Rc<Self>, share: impl FnOnce(usize) -> usize) {
        let count = share(self.agenda.deferred.borrow().len());
        for _ in 0..count {
            let Some(call) = self.agenda.deferred.borrow_mut().pop_front() else {
                break;
            };
            match call {
                Deferred::Call(call) => contain(call),
                Deferred::CallHandler(id, call) => self.call_handler(id, call),
                Deferred::AwaitHandler(id, call) => {
                    self.waiting_calls.set(self.waiting_calls.get() - 1);
                    self.call_handler(id, call);
                }
                Deferred::Post(post) => {
                    self.waiting_calls.set(self.waiting_calls.get() - 1);
                    self.run_post(post);
                }
                Deferred::CloseChannels => self.close_channels(),
                Deferred::StopLingering => self.stop_lingering(),
            }
        }
    }

    /// Handles the outcome of the wait. After a failure the loop pauses and continues, because the cause (a lack
    /// of memory) may end. Repeated failures end `run` with the error.
    fn judge(&self, outcome: io::Result<()>) -> Result<(), Error> {
        let Err(error) = outcome else {
            self.failed_waits.set(0);
            return Ok(());
        };
        let failed = self.failed_waits.get() + 1;
        self.failed_waits.set(failed);
        // A simulated loop reports a deadlock when no event can ever wake it: another wait would not either.
        if failed < FAILED_WAITS && error.kind() != io::ErrorKind::Deadlock {
            log_throttled!(warn, %error, "waiting for events failed");
            let pause = Duration::from_millis(1 << failed.min(10));
            self.poller.clock().sleep(pause.min(LONGEST_PAUSE));
            return Ok(());
        }
        Err(Error::from(error).context("wait for events"))
    }
}

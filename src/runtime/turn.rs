//! The turn of the loop.
//!
//! A turn has eight steps:
//!
//! 1. The run queue, so that everything pushed since the last turn is sent before the loop sleeps.
//! 2. The wait.
//! 3. The channels of the events.
//! 4. The run queue: what the budgets of the last turn left over, and what this turn has pushed.
//! 5. TLS handshakes: a few of those whose peer has sent something.
//! 6. Posts.
//! 7. Timers. They follow the events, so that data which has arrived in time is handled before its deadline is
//!    checked.
//! 8. Deferred calls.
//!
//! Each step handles what was there when it began, never what it adds itself, and at most its budget. Thus no
//! step can starve the others. What is left over is handled in the next turn, before which the loop does not
//! sleep. Where no work is waiting after the events, the steps 4 to 6 are left out, and without timers the rest.
//!
//! A turn may have a time limit (`run_for`). When the time is up, the turn is cut after the call that was being
//! made, and the next one continues it there, with what is left of the same step. A turn that is cut a hundred
//! times therefore serves everything in the order of a turn that is never cut, and each exactly once.
//!
//! In a turn of the loop a channel receives once and delivers records once. If something is pushed to it later
//! in the same turn, it joins the run queue again, and then only sends. A channel that has used up a budget of
//! its own waits for the next turn.

use std::io;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Runtime;
use super::driver::{Budget, Turn};
use super::handshakes::Prepared;
use super::send::send_pushed;
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

/// How many posts or deferred calls a turn makes of the `count` that are queued: at most the budget, or an eighth of a
/// long queue. Otherwise a queue to which each turn adds more than the budget would grow for ever.
fn share_of(count: usize) -> usize {
    count.min(TURN_CALLS.max(count / 8))
}

/// The steps of a turn that may be cut. The wait is between the first two.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TurnStep {
    Pushed,
    Events,
    Queued,
    Handshakes,
    Posts,
    Timers,
    Deferred,
}

/// Where a turn was cut.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    step: TurnStep,
    /// How many channels or calls of the step are left.
    left: usize,
}

impl Runtime {
    /// Takes one turn, and sleeps in it no longer than `timeout`. Continues the turn that was cut, if one was.
    pub(crate) fn turn(self: &Rc<Self>, timeout: Option<Duration>) -> Result<(), Error> {
        self.agenda.forget_time();
        let mut outcome = None;
        let mut now = None;
        let mut take_steps = || {
            let queued = || self.agenda.run_queue.borrow().len();
            self.step(TurnStep::Pushed, queued, |_| self.take_next_turn())?;
            if self.cut.get().is_none() {
                outcome = Some(self.wait(timeout));
            }
            self.step(
                TurnStep::Events,
                || self.event_count(),
                |left| {
                    let Some(event) = self.event(left) else {
                        return false;
                    };
                    if let Some(state) = self.note(&event) {
                        self.take_turn(&state, event.ready);
                    }
                    true
                },
            )?;
            // In most turns these steps would find nothing, and often there are no timers.
            if self.is_busy() {
                self.step(TurnStep::Queued, queued, |_| self.take_next_turn())?;
                let handshakes = || match self.handshakes.borrow().len() {
                    0 => 0,
                    count => self.begin_handshakes(count),
                };
                self.step(TurnStep::Handshakes, handshakes, |_| {
                    self.advance_next_handshake()
                })?;
                self.make_earlier_calls();
                let posts = || {
                    if self.agenda.inbox.is_filled() {
                        self.fetch_posts(share_of)
                    } else {
                        0
                    }
                };
                self.step(TurnStep::Posts, posts, |_| self.run_next_post())?;
                self.make_earlier_calls();
            } else if self.agenda.timers.borrow().is_empty() {
                return ControlFlow::Continue(());
            }
            let timers = || self.agenda.timers.borrow().len().min(TURN_CALLS);
            self.step(TurnStep::Timers, timers, |_| {
                let now = now.get_or_insert_with(|| self.begin_timers());
                self.fire_next_timer(*now)
            })?;
            let deferred = || share_of(self.agenda.deferred.borrow().len());
            self.step(TurnStep::Deferred, deferred, |_| self.make_next_call())
        };
        let _ = take_steps();
        self.agenda.end_turn();
        match outcome {
            Some(outcome) => self.handle_wait_outcome(outcome),
            None => Ok(()),
        }
    }

    /// Takes turns without sleeping until nothing is left to do, or until the time is up.
    pub(crate) fn turns_until(self: &Rc<Self>, until: Instant) -> Result<(), Error> {
        self.until.set(Some(until));
        loop {
            self.turn(Some(Duration::ZERO))?;
            let is_idle =
                !self.may_have_events.get() && self.next_timeout() != Some(Duration::ZERO);
            if self.agenda.is_stopping() {
                // As `run` does: what was pushed in this turn is sent before it returns.
                self.run_queued();
                return Ok(());
            }
            if is_idle || !self.has_work() || self.is_time_up() {
                return Ok(());
            }
        }
    }

    /// Makes the calls of a step: as many as `count` returns, or those that a cut has left. `act` makes one call. It gets
    /// the number of calls that follow, and returns false when no call was left. Breaks when the time is up.
    #[inline]
    fn step(
        &self,
        step: TurnStep,
        count: impl FnOnce() -> usize,
        mut act: impl FnMut(usize) -> bool,
    ) -> ControlFlow<()> {
        let count = match self.cut.get() {
            None => count(),
            Some(cut) => match self.resume(cut, step) {
                Some(left) => left,
                None => return ControlFlow::Continue(()),
            },
        };
        for left in (0..count).rev() {
            if !act(left) {
                break;
            }
            if self.is_time_up() {
                let is_over = step == TurnStep::Deferred && left == 0;
                self.cut.set((!is_over).then_some(Cut { step, left }));
                // The rest of the turn does not wait. An outer loop may take the next edge for the cause of it.
                self.may_have_events.set(true);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    /// Continues the turn that was cut, if that was in this step. Returns how many calls are left to it. The steps before
    /// it have been taken.
    #[cold]
    fn resume(&self, cut: Cut, step: TurnStep) -> Option<usize> {
        (cut.step == step).then(|| {
            self.cut.set(None);
            cut.left
        })
    }

    #[inline]
    fn is_time_up(&self) -> bool {
        let until = self.until.get();
        until.is_some_and(|until| self.poller.clock().now() >= until)
    }

    /// Waits for events, which `event` returns.
    fn wait(&self, timeout: Option<Duration>) -> io::Result<()> {
        // What ran before the wait may have taken long, and the deadlines need to know.
        self.agenda.forget_time();
        let timeout = match timeout {
            Some(Duration::ZERO) => timeout,
            timeout => self.longest_wait(timeout),
        };
        let mut events = self.events.take();
        events.clear();
        let outcome = self.poller.wait(&mut events, timeout);
        self.agenda.end_wait(timeout != Some(Duration::ZERO));
        self.turn.set(self.turn.get().wrapping_add(1));
        self.begin_next_turn();
        self.counters.turns.add(1);
        self.counters.wakeups.add((!events.is_empty()).into());
        self.counters.events.add(events.len() as u64);
        self.may_have_events
            .set(!events.is_empty() || outcome.is_err());
        self.events.replace(events);
        outcome
    }

    /// How long the loop may sleep, if it is asked to sleep no longer than `timeout`.
    fn longest_wait(&self, timeout: Option<Duration>) -> Option<Duration> {
        // What ran before the wait may have ended the last channel. Then there is nothing to wait for.
        if !self.has_work() {
            return Some(Duration::ZERO);
        }
        match (self.next_timeout(), timeout) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn event_count(&self) -> usize {
        self.events.borrow().len()
    }

    /// The event that `left` others follow.
    #[inline]
    fn event(&self, left: usize) -> Option<Event> {
        let events = self.events.borrow();
        let index = events.len().checked_sub(left + 1)?;
        events.get(index).copied()
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
            self.take_next_turn();
        }
    }

    /// Gives a turn to the first channel of the run queue. Returns whether there was one.
    fn take_next_turn(self: &Rc<Self>) -> bool {
        let Some(state) = self.agenda.run_queue.borrow_mut().pop_front() else {
            return false;
        };
        state.flags.set(Flag::QUEUED, false);
        let ready = state.pending.take();
        self.take_turn(&state, ready);
        true
    }

    /// Gives a channel its turn, then registers with the poller what the channel waits for.
    pub(super) fn take_turn(self: &Rc<Self>, state: &Rc<ChannelState>, mut ready: Ready) {
        self.make_earlier_calls();
        if state.flags.need_preparation() {
            match Runtime::prepare_turn(state, &mut ready) {
                Prepared::AwaitsHandler => return,
                Prepared::Securing => return self.queue_handshake(state, ready),
                Prepared::Ready => {}
            }
        }
        match state.phase.get() {
            Phase::Ending => return self.finish(state),
            Phase::Closed => return,
            Phase::Connecting => {
                let new_key = || self.poll_key(state.id.get());
                if !state.advance_connection(&self.poller, &new_key) {
                    return;
                }
                if state.phase.get() == Phase::Securing {
                    return self.queue_handshake(state, ready);
                }
            }
            _ => {}
        }
        let interest = if ready.is_none() && state.only_sends() && send_pushed(state) {
            Some(Interest::READ)
        } else {
            let turn = self.turn.get();
            let has_received = state.last_turn.replace(turn) == turn;
            let mut buffers = self.buffers.take().unwrap_or_default();
            let mut turn = Turn {
                runtime: self,
                state,
                buffers: &mut buffers,
                ready,
                has_received,
                budget: Budget::default(),
                interest: Interest::NONE,
                has_more: false,
            };
            self.called.set(state.id.get());
            state.flags.set(Flag::IN_TURN, true);
            let is_done = self.call(state, |driver| driver.turn(&mut turn));
            let mut interest = is_done.then_some(turn.interest);
            state.flags.set(Flag::IN_TURN, false);
            if state.flags.has(Flag::STAGED) {
                self.finish_turn_with_tls(state, &mut interest, &mut turn.has_more);
            }
            let has_more = turn.has_more;
            if has_more && !state.flags.replace(Flag::QUEUED, true) {
                self.next_turn.borrow_mut().push_back(Rc::clone(state));
            }
            if buffers.delivered.is_some() {
                buffers.reuse_delivered();
            }
            self.buffers.set(Some(buffers));
            // It has its next turn before the loop sleeps. To stop watching it until then, and to begin again,
            // would be two system calls.
            interest.filter(|interest| !has_more || interest.reads() || interest.writes())
        };
        if let Some(interest) = interest {
            self.watch(state, interest);
        }
        state.free_unused();
    }

    fn watch(&self, state: &Rc<ChannelState>, interest: Interest) {
        let watched = state.watch(
            &self.poller,
            interest,
            || self.poll_key(state.id.get()),
            || self.shared_poll_key(state.id.get()),
        );
        let Err(error) = watched else { return };
        match state.phase.get() {
            // The poller may have run out of memory for now. A listener waits for it.
            Phase::Listening => self.pause_accepting(state, &error),
            _ => state.end(Close::Io(error)),
        }
    }

    /// Fetches what other threads have posted: a share of it. Returns how many posts there are to run.
    fn fetch_posts(&self, share: impl FnOnce(usize) -> usize) -> usize {
        let mut fetched = self.agenda.inbox.fetch(share);
        let mut posts = self.posts.borrow_mut();
        if posts.is_empty() {
            *posts = fetched;
        } else {
            posts.append(&mut fetched);
        }
        posts.len()
    }

    /// Runs all posts.
    pub(super) fn run_all_posts(self: &Rc<Self>) {
        for _ in 0..self.fetch_posts(|count| count) {
            self.run_next_post();
        }
    }

    /// Runs the first of the fetched posts. Returns whether there was one.
    fn run_next_post(self: &Rc<Self>) -> bool {
        let Some(post) = self.posts.borrow_mut().pop_front() else {
            return false;
        };
        // Posts keep their order: they follow one that waits for its handler.
        match self.waiting_calls.get() {
            0 => self.run_post(post),
            waiting => {
                self.waiting_calls.set(waiting + 1);
                self.agenda.defer(Deferred::Post(post));
            }
        }
        true
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
            Post::ShutdownOfService(grace) => self.shut_down_for_service(grace),
            Post::CloseAllOfService => self.close_all_for_service(),
            Post::ResumeAccepting => self.resume_accepting(),
            Post::CloseChannels => self.close_channels_in_order(),
        }
    }

    /// Makes the calls that are deferred by now.
    pub(super) fn make_all_calls(self: &Rc<Self>) {
        let count = self.agenda.deferred.borrow().len();
        for _ in 0..count {
            self.make_next_call();
        }
    }

    /// Makes the first of the deferred calls. Returns whether there was one.
    fn make_next_call(self: &Rc<Self>) -> bool {
        let Some(call) = self.agenda.deferred.borrow_mut().pop_front() else {
            return false;
        };
        let earlier = &self.agenda.calls_before_shutdown;
        earlier.set(earlier.get().saturating_sub(1));
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
        true
    }

    /// Handles the outcome of the wait. After a failure the loop pauses and continues, because the cause (a lack
    /// of memory) may end. Repeated failures end `run` with the error.
    fn handle_wait_outcome(&self, outcome: io::Result<()>) -> Result<(), Error> {
        let Err(error) = outcome else {
            self.failed_waits.set(0);
            return Ok(());
        };
        let failed = self.failed_waits.get() + 1;
        self.failed_waits.set(failed);
        // A simulated loop reports a deadlock when no event can ever wake it: another wait would not either.
        if failed < FAILED_WAITS && error.kind() != io::ErrorKind::Deadlock {
            log_throttled!(warn, %error, "waiting for events failed");
            if self.poller.may_have_lost_events() {
                self.reregister_all();
            }
            let pause = Duration::from_millis(1 << failed.min(10));
            self.poller.clock().sleep(pause.min(LONGEST_PAUSE));
            return Ok(());
        }
        Err(Error::from(error).context("wait for events"))
    }
}

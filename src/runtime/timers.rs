//! What the loop does at a time: the tasks of its timers.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Runtime;
use crate::error::Close;
use crate::log::log_throttled;
use crate::runtime::registry::ChannelId;
use crate::state::ChannelState;
use crate::sys::interest::Ready;
use crate::time::timer::{Expired, TimerId};
use crate::user_code::{contain, discard};

/// How long accepting pauses for want of descriptors or memory, unless a channel ends before.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What a timer does.
pub(crate) enum Task {
    Call(Box<dyn FnOnce()>),
    Every(Box<dyn FnMut()>, Duration),
    /// `handle_timer` of a channel, once or periodically.
    Channel(ChannelId, Option<Duration>),
    /// Has a deadline of the channel passed?
    Deadline(ChannelId),
    /// Has a byte of the channel moved since the count was this? Its output or its handler has failed.
    Progress(ChannelId, Option<u64>),
    /// The channel is to try the next of its addresses.
    Attempt(ChannelId),
    /// Has the socket of this poll key lingered long enough?
    Linger(usize),
    /// Accepting may work again.
    Accept,
    /// A shutdown's grace is over.
    Grace,
}

impl Runtime {
    pub(crate) fn set_timer(&self, delay: Duration, task: Task) -> TimerId {
        self.set_timer_at(deadline_after(self.now(), delay), task)
    }

    pub(crate) fn set_timer_at(&self, deadline: Instant, task: Task) -> TimerId {
        self.timers.borrow_mut().insert(deadline, task)
    }

    pub(crate) fn reset_timer(&self, id: TimerId, delay: Duration) -> bool {
        self.reset_timer_at(id, deadline_after(self.now(), delay))
    }

    pub(crate) fn reset_timer_at(&self, id: TimerId, deadline: Instant) -> bool {
        self.timers.borrow_mut().reset(id, deadline)
    }

    /// Cancels a timer that holds nothing of the user's.
    pub(crate) fn forget_timer(&self, id: TimerId) {
        let task = self.timers.borrow_mut().cancel(id);
        drop(task);
    }

    /// Cancels any timer. What it holds is dropped by the loop, not here: the destructor of what
    /// a closure has captured is user code.
    pub(crate) fn cancel_timer(&self, id: TimerId) -> bool {
        let Some(task) = self.timers.borrow_mut().cancel(id) else {
            return false;
        };
        match task {
            Some(Task::Channel(channel, _)) => {
                if let Some(state) = self.state(channel) {
                    state.remove_timer(id);
                }
            }
            Some(task) => self.call_soon(Box::new(move |_| drop(task))),
            None => {}
        }
        true
    }

    /// Fires what is due, the earliest first, and no more than the budget.
    pub(super) fn run_timers(self: &Rc<Self>, budget: usize) {
        let count = self.timers.borrow().len();
        if count == 0 {
            return;
        }
        let now = self.now();
        // The grace of a shutdown is over when it is over, however many timers were due before.
        if let Some(id) = self.shutdown.get() {
            let expired = self.timers.borrow_mut().expire_one(id, now);
            if let Some(expired) = expired {
                self.run_timer(expired, now);
            }
        }
        for _ in 0..count.min(budget) {
            let Some(expired) = self.timers.borrow_mut().expire(now) else {
                break;
            };
            self.run_timer(expired, now);
        }
    }

    fn run_timer(self: &Rc<Self>, expired: Expired<Task>, now: Instant) {
        let Expired {
            id,
            deadline,
            value,
        } = expired;
        let next = |period| next_period(deadline, period, now);
        let finish = || self.timers.borrow_mut().finish(id);
        // Gives up a timer that was cancelled while it fired, and says so.
        let restore = |deadline, task| {
            let restored = self.timers.borrow_mut().restore(id, deadline, task);
            let cancelled = restored.is_err();
            discard(restored);
            !cancelled
        };
        match value {
            Task::Call(call) => {
                finish();
                contain(call);
            }
            Task::Every(mut call, period) => {
                contain(&mut call);
                let _ = restore(next(period), Task::Every(call, period));
            }
            Task::Channel(channel, every) => {
                let state = self.state(channel);
                let Some(state) = state.filter(|state| !state.is_ending()) else {
                    return finish();
                };
                // Its handler is about to be made: then it shall have it.
                if state.unborn.get() {
                    let _ = restore(now, Task::Channel(channel, every));
                    return;
                }
                if every.is_none() {
                    finish();
                    state.remove_timer(id);
                }
                self.visit(&state, |driven| driven.timer(id));
                if let Some(period) = every
                    && !restore(next(period), Task::Channel(channel, every))
                {
                    state.remove_timer(id);
                }
            }
            Task::Deadline(channel) => {
                let state = self.state(channel);
                // The kernel reports room when a good part of its buffer is free, which can be
                // megabytes. What it would take by now counts as taken, so it is offered once more.
                if let Some(state) = &state
                    && state.blocked.replace(false)
                {
                    self.take_turn(state, Ready::NONE);
                }
                match state.and_then(|state| state.look_at_clocks(now)) {
                    Some(deadline) => {
                        let _ = restore(deadline, Task::Deadline(channel));
                    }
                    None => finish(),
                }
            }
            Task::Progress(channel, since) => {
                finish();
                if let Some(state) = self.state(channel).filter(|state| !state.is_ending()) {
                    state.remove_timer(id);
                    state.look_for_progress(since);
                }
            }
            Task::Attempt(channel) => {
                finish();
                if let Some(state) = self.state(channel) {
                    state.attempt_is_due(self, id);
                }
            }
            Task::Linger(key) => match self.look_at_lingering(key) {
                Some(deadline) => {
                    let _ = restore(deadline, Task::Linger(key));
                }
                None => finish(),
            },
            Task::Accept => {
                finish();
                self.resume_accepting();
            }
            Task::Grace => {
                finish();
                for state in self.channels() {
                    if !state.own.get() {
                        state.reset_on_close();
                    }
                    state.end(Close::Shutdown);
                }
                self.stop_lingering();
            }
        }
    }

    /// Stops a listener for which there is no descriptor or memory. What lingers has to go for it.
    pub(crate) fn pause_accepting(&self, state: &Rc<ChannelState>, error: &io::Error) {
        log_throttled!(warn, %error, "accepting pauses");
        state.starved.set(true);
        self.accepting_paused.borrow_mut().push(Rc::clone(state));
        if self.accept_timer.get().is_none() {
            let timer = self.set_timer(ACCEPT_PAUSE, Task::Accept);
            self.accept_timer.set(Some(timer));
        }
        // Last, for each that goes has accepting resumed.
        self.stop_lingering();
    }

    pub(super) fn resume_accepting(&self) {
        if let Some(timer) = self.accept_timer.take() {
            self.forget_timer(timer);
            for state in self.accepting_paused.take() {
                state.starved.set(false);
                state.touch();
            }
        }
    }
}

/// A delay beyond the clock's reach means never: a century is as good.
pub(super) fn deadline_after(start: Instant, delay: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
    start
        .checked_add(delay)
        .or_else(|| start.checked_add(CENTURY))
        .unwrap_or(start)
}

/// When a periodic timer is due again: in step with its first time, and later than now. Periods
/// that were missed are skipped, not made up for in a burst.
fn next_period(deadline: Instant, period: Duration, now: Instant) -> Instant {
    let late = now.saturating_duration_since(deadline);
    let into_period = late.as_nanos() % period.as_nanos().max(1);
    let left = period.as_nanos().max(1) - into_period;
    let left = Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX));
    deadline_after(now, left)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(100);

    /// When a timer is due again that is called this late, both counted from when it was due.
    fn due_after(late: Duration) -> Duration {
        let deadline = Instant::now();
        next_period(deadline, PERIOD, deadline + late) - deadline
    }

    #[test]
    fn a_periodic_timer_that_is_called_in_time_is_due_a_period_later() {
        assert_eq!(due_after(Duration::ZERO), PERIOD);
    }

    #[test]
    fn a_late_call_does_not_put_a_periodic_timer_out_of_step() {
        assert_eq!(due_after(PERIOD / 3), PERIOD);
        assert_eq!(due_after(PERIOD - Duration::from_nanos(1)), PERIOD);
    }

    #[test]
    fn periods_that_were_missed_are_one_call_and_no_burst() {
        assert_eq!(due_after(PERIOD), PERIOD * 2);
        assert_eq!(due_after(PERIOD * 5 / 2), PERIOD * 3);
        assert_eq!(due_after(PERIOD * 1000), PERIOD * 1001);
    }

    #[test]
    fn a_period_of_nothing_is_due_in_a_later_turn_and_one_without_end_never() {
        let now = Instant::now();
        assert!(next_period(now, Duration::ZERO, now) > now);
        let century = Duration::from_secs(100 * 365 * 86_400);
        assert!(next_period(now, Duration::MAX, now) >= now + century);
    }
}

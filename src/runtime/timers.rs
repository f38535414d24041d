//! The timers that are due.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Runtime;
use crate::error::{Close, Deadline};
use crate::state::agenda::{ONE_TURN, Task, deadline_after};
use crate::state::{ChannelState, Flag, Kind};
use crate::sys::interest::Ready;
use crate::time::deadlines::Passed;
use crate::time::timer::Expired;
use crate::user_code::{contain, discard};

impl Runtime {
    /// Begins to fire the timers that are due: returns the time by which they are.
    pub(super) fn begin_timers(self: &Rc<Self>) -> Instant {
        let now = self.now();
        // The end of the grace is outside the budget: it must not wait for the timers that were due before.
        if let Some(id) = self.agenda.shutdown.get() {
            let expired = self.agenda.timers.borrow_mut().expire_one(id, now);
            if let Some(expired) = expired {
                self.run_timer(expired, now);
            }
        }
        now
    }

    /// Fires the earliest timer that is due. Returns whether there was one.
    pub(super) fn fire_next_timer(self: &Rc<Self>, now: Instant) -> bool {
        self.make_earlier_calls();
        let expired = self.agenda.timers.borrow_mut().expire(now);
        let is_due = expired.is_some();
        if let Some(expired) = expired {
            self.run_timer(expired, now);
        }
        is_due
    }

    fn run_timer(self: &Rc<Self>, expired: Expired<Task>, now: Instant) {
        let Expired {
            id,
            deadline,
            value,
        } = expired;
        let timers = &self.agenda.timers;
        let finish = || timers.borrow_mut().finish(id);
        // Arms the timer again, unless it was cancelled while it fired. Returns whether it is armed.
        let restore = |deadline, task| {
            let restored = timers.borrow_mut().restore(id, deadline, task);
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
                let next = next_period(deadline, period, now);
                let _ = restore(next, Task::Every(call, period));
            }
            Task::Channel(state, _) if state.has_ended() => finish(),
            // The handler is about to be made. The timer fires then.
            Task::Channel(state, every) if state.flags.has(Flag::AWAITS_HANDLER) => {
                let _ = restore(now, Task::Channel(state, every));
            }
            Task::Channel(state, None) => {
                finish();
                state.remove_timer(id);
                self.call_between_turns(&state, |driver| driver.timer(&state, id));
            }
            Task::Channel(state, Some(period)) => {
                self.call_between_turns(&state, |driver| driver.timer(&state, id));
                let next = next_period(deadline, period, now);
                if !restore(next, Task::Channel(Rc::clone(&state), Some(period))) {
                    state.remove_timer(id);
                }
            }
            Task::Deadline(channel) => {
                let state = self.state(channel);
                match state.and_then(|state| self.check_deadlines(&state, now)) {
                    Some(deadline) => {
                        let _ = restore(deadline, Task::Deadline(channel));
                    }
                    None => finish(),
                }
            }
            Task::Progress(channel, since) => {
                finish();
                if let Some(state) = self.state(channel).filter(|state| !state.has_ended()) {
                    state.remove_timer(id);
                    state.look_for_progress(since);
                }
            }
            Task::Attempt(channel) => {
                finish();
                if let Some(state) = self.state(channel) {
                    state.connect_timer_fired(id);
                }
            }
            Task::Handshake(channel) => {
                let state = self.state(channel);
                match state.and_then(|state| self.check_handshake(&state, id)) {
                    Some(later) => {
                        let _ = restore(deadline_after(now, later), Task::Handshake(channel));
                    }
                    None => finish(),
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
                // Without a grace the shutdown may have reached the channels in this very turn: their sessions
                // are called for it, and what they and the posts before it have pushed is sent.
                self.run_queued();
                for state in self.channels() {
                    if state.kind.get() != Kind::Internal {
                        state.reset_on_close();
                    }
                    // The reset destroys what the kernel has accepted and not delivered.
                    state.end(Close::Interrupted);
                }
                self.stop_lingering();
            }
        }
    }

    /// Ends a channel if one of its deadlines has passed. Otherwise returns when to check again.
    ///
    /// What the kernel has not reported yet is looked for first. It reports room for output only when a large part
    /// of its buffer is free, which may be megabytes, and one wait reports a limited number of channels. A channel
    /// in the run queue gets its turn as well: a call on its handle may have cleared the flag so that the next turn
    /// sends.
    fn check_deadlines(self: &Rc<Self>, state: &Rc<ChannelState>, now: Instant) -> Option<Instant> {
        let Some(passed) = state.overdue(now) else {
            return state.look_at_clocks(now);
        };
        // A turn that is cut may go on much later, without having polled again.
        let polled = self.agenda.polled().unwrap_or(now);
        if state.overdue(polled).is_none() {
            return Some(state.look_at_clocks_later(now + ONE_TURN));
        }
        let is_idle = passed == Passed::Deadline(Deadline::Idle);
        let reads = (is_idle || is_of_input(passed)) && state.has_unread();
        if reads || state.flags.has(Flag::BLOCKED) || state.flags.has(Flag::QUEUED) {
            self.take_turn(state, Ready::WRITE.union(Ready::READ.when(reads)));
        }
        // A peer is not late while its bytes wait for this side: for the rest of a budget, or for the next turn.
        if state.overdue(now).is_some_and(is_of_input) && state.has_unread() {
            Some(state.look_at_clocks_later(now + ONE_TURN))
        } else {
            state.look_at_clocks(now)
        }
    }
}

/// Whether it passes only while this side waits for input.
fn is_of_input(passed: Passed) -> bool {
    matches!(passed, Passed::Deadline(Deadline::Record | Deadline::Input))
}

/// When a periodic timer is due next: a whole number of periods after `deadline`, and later than `now`.
/// Missed periods are skipped, so that they do not follow in a burst.
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

    /// When a timer that is called this late is due again. Both times count from when it was due.
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

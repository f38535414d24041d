//! Busy polling: the loop asks for events for a while before it sleeps.
//!
//! To wake a thread that sleeps costs its peer some microseconds, on a virtual machine more. A client on the same
//! machine that is itself the limit therefore gets more done if the server does not sleep between its requests.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::Runtime;
use crate::state::agenda::deadline_after;

#[derive(Default)]
pub(super) struct BusyPoll {
    /// For how long after the last events. Zero: not at all.
    time: Cell<Duration>,
    until: Cell<Option<Instant>>,
}

impl BusyPoll {
    fn set(&self, time: Duration) {
        self.time.set(time);
        // The next event begins the new time. The old one may be long.
        self.until.set(None);
    }

    /// Whether the loop asks once more before it sleeps. `found`: its last question found events.
    fn goes_on(&self, found: bool, now: impl FnOnce() -> Instant) -> bool {
        let time = self.time.get();
        if time.is_zero() || (!found && self.until.get().is_none()) {
            return false;
        }
        let now = now();
        if found {
            self.until.set(Some(deadline_after(now, time)));
            return true;
        }
        let is_over = self.until.get().is_none_or(|until| now >= until);
        if is_over {
            self.until.set(None);
        }
        !is_over
    }
}

impl Runtime {
    pub(crate) fn set_busy_poll(&self, time: Duration) {
        // Virtual time stands still while a loop polls, so it would poll for ever.
        if self.poller.clock().is_system() {
            self.busy_poll.set(time);
        }
    }

    /// The longest wait of the next turn of `run`.
    #[inline]
    pub(crate) fn longest_sleep(&self) -> Option<Duration> {
        let found = self.may_have_events.get();
        let goes_on = self.busy_poll.goes_on(found, || self.poller.clock().now());
        goes_on.then_some(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loop_asks_for_a_while_after_the_last_events() {
        let begin = Instant::now();
        let at = |micros| move || begin + Duration::from_micros(micros);
        let unread = || -> Instant { panic!("the clock is read") };
        let busy = BusyPoll::default();
        assert!(!busy.goes_on(true, unread), "by default it sleeps at once");
        busy.set(Duration::from_micros(20));
        assert!(!busy.goes_on(false, unread), "nothing has happened yet");
        assert!(busy.goes_on(true, at(0)));
        assert!(busy.goes_on(false, at(19)));
        // Each event begins the time anew.
        assert!(busy.goes_on(true, at(19)));
        assert!(busy.goes_on(false, at(38)));
        assert!(!busy.goes_on(false, at(39)));
        assert!(!busy.goes_on(false, unread), "it has slept");
        // A time that no clock reaches never ends.
        busy.set(Duration::MAX);
        assert!(busy.goes_on(true, at(40)));
        assert!(busy.goes_on(false, at(50)));
        busy.set(Duration::from_micros(20));
        assert!(!busy.goes_on(false, unread), "the old time is over");
    }
}

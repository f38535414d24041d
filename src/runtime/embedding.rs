//! A loop inside another one, which watches its descriptor and asks how long it may sleep.

use std::time::Duration;

use super::Runtime;

impl Runtime {
    /// How long the outer loop may sleep. `None`: until the descriptor is readable.
    ///
    /// A turn has budgets, and the wait takes a limited number of events. What the kernel still has to report then
    /// keeps the descriptor readable, but is no new event for it: an outer loop that is edge-triggered would never
    /// hear of it. So the kernel is asked, once after a turn that had events.
    pub(crate) fn outer_timeout(&self) -> Option<Duration> {
        let timeout = self.next_timeout();
        let is_known = !self.agenda.is_embedded() || !self.may_have_events.get();
        if timeout == Some(Duration::ZERO) || is_known || self.is_running() {
            return timeout;
        }
        // If there are none now, those that come are new ones.
        self.may_have_events.set(self.poller.has_events());
        if self.may_have_events.get() {
            Some(Duration::ZERO)
        } else {
            timeout
        }
    }

    /// The outer loop gets the descriptor. It may wait for it before it asks for anything.
    #[allow(dead_code, reason = "on some systems a loop has no descriptor")]
    pub(crate) fn embed(&self) {
        if self.agenda.embed(self.is_running()) && self.is_busy() {
            self.agenda.wake_outer();
        }
    }
}

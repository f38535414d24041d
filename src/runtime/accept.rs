//! Pauses accepting when descriptors or memory run out, and resumes it.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::Runtime;
use crate::log::log_throttled;
use crate::state::agenda::Task;
use crate::state::{ChannelState, Flag};

/// The longest pause. Accepting resumes earlier if a socket is closed.
const PAUSE: Duration = Duration::from_secs(1);

impl Runtime {
    /// Pauses a listener whose accept or registration has failed because descriptors or memory have run out.
    /// Closes the lingering sockets, to free their descriptors.
    pub(crate) fn pause_accepting(&self, state: &Rc<ChannelState>, error: &io::Error) {
        log_throttled!(warn, %error, "accepting pauses");
        state.flags.set(Flag::STARVED, true);
        self.accepting_paused.borrow_mut().push(Rc::clone(state));
        if self.accept_timer.get().is_none() {
            let timer = self.agenda.set_timer(PAUSE, Task::Accept);
            self.accept_timer.set(Some(timer));
        }
        // Last, because each socket that is closed resumes accepting.
        self.stop_lingering();
    }

    pub(super) fn resume_accepting(&self) {
        if let Some(timer) = self.accept_timer.take() {
            self.agenda.forget_timer(timer);
            for state in self.accepting_paused.take() {
                state.flags.set(Flag::STARVED, false);
                state.schedule();
            }
        }
        self.resume_accepting_for_worker();
    }
}

//! Sessions that get no records because they push more to the groups of another worker than that worker takes.

use std::rc::Rc;

use super::Runtime;
use crate::state::{ChannelState, Flag, Request};

impl Runtime {
    /// Holds the session that is being called. Returns false if none is: a call that was posted cannot wait, and a listener
    /// must not.
    pub(crate) fn hold_called(&self) -> bool {
        let is_called =
            |state: &Rc<ChannelState>| state.is_chat() && state.flags.has(Flag::IN_TURN);
        let Some(state) = self.state(self.called.get()).filter(is_called) else {
            return false;
        };
        if !state.flags.replace(Flag::AWAITS_WORKER, true) {
            state.stop_input_clocks();
            state.requests.add(Request::CHECK);
            state.schedule();
            self.held.borrow_mut().push(state.id.get());
        }
        true
    }

    /// A worker has caught up. If another one has not, the next push holds its session again.
    pub(crate) fn release_held(self: &Rc<Self>) {
        for id in self.held.take() {
            if let Some(state) = self.state(id) {
                state.flags.set(Flag::AWAITS_WORKER, false);
                state.schedule();
            }
        }
    }
}

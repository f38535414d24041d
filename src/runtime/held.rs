//! Sessions that get no records because they push more to the groups of another worker than that worker takes.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::Runtime;
use crate::state::{ChannelId, ChannelState, Flag, Request};

/// A session, and a worker for which it waits. A session that has pushed to the groups of two workers may wait for both.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    id: ChannelId,
    worker: usize,
}

impl Runtime {
    /// Holds the session that is being called until [`release_held`](Runtime::release_held) is called for this worker. Returns
    /// false if no session is called: a call that was posted cannot wait, and a listener must not.
    pub(crate) fn hold_called(&self, worker: usize) -> bool {
        let is_called =
            |state: &Rc<ChannelState>| state.is_chat() && state.flags.has(Flag::IN_TURN);
        let Some(state) = self.state(self.called.get()).filter(is_called) else {
            return false;
        };
        let id = state.id.get();
        let held = Held { id, worker };
        let was_held = state.flags.replace(Flag::AWAITS_WORKER, true);
        if !was_held {
            state.stop_input_clocks();
            state.requests.add(Request::CHECK);
            state.schedule();
        }
        // A callback may push often.
        if !was_held || !self.held.borrow().contains(&held) {
            self.held.borrow_mut().push(held);
        }
        true
    }

    /// A worker has caught up.
    pub(crate) fn release_held(self: &Rc<Self>, worker: usize) {
        let held = self.held.take();
        let (over, left): (Vec<_>, Vec<_>) = held.into_iter().partition(|it| it.worker == worker);
        let waiting: BTreeSet<ChannelId> = left.iter().map(|it| it.id).collect();
        self.held.replace(left);
        for Held { id, .. } in over {
            if let Some(state) = self.state(id).filter(|_| !waiting.contains(&id)) {
                state.flags.set(Flag::AWAITS_WORKER, false);
                // A hang-up that was reported meanwhile is to be reported once more.
                state.flags.set(Flag::HUNG_UP, false);
                state.schedule();
            }
        }
    }
}

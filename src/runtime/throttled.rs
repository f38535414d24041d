//! Sessions that get no records because they push more to the groups of another worker than that worker takes.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::Runtime;
use crate::state::{ChannelId, ChannelState, Flag, Request};
use crate::time::deadlines::Clocks;

/// A session, and a worker for which it waits. A session that has pushed to the groups of two workers may wait for both.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Throttled {
    id: ChannelId,
    worker: usize,
}

impl Runtime {
    /// Throttles the session that is being called until [`release_throttled`](Runtime::release_throttled) is called for this worker. Returns
    /// false if no session is called: a call that was posted cannot wait, and a listener must not.
    pub(crate) fn throttle_called(&self, worker: usize) -> bool {
        let is_called =
            |state: &Rc<ChannelState>| state.is_chat() && state.flags.has(Flag::IN_TURN);
        let Some(state) = self.state(self.called.get()).filter(is_called) else {
            return false;
        };
        let id = state.id.get();
        let throttled = Throttled { id, worker };
        let was_throttled = state.flags.replace(Flag::AWAITS_WORKER, true);
        if !was_throttled {
            state.stop_input_clocks();
            state.requests.add(Request::CHECK);
            state.schedule();
        }
        // A callback may push often.
        if !was_throttled || !self.throttled.borrow().contains(&throttled) {
            self.throttled.borrow_mut().push(throttled);
        }
        true
    }

    /// A worker has caught up.
    pub(crate) fn release_throttled(self: &Rc<Self>, worker: usize) {
        let throttled = self.throttled.take();
        let (over, left): (Vec<_>, Vec<_>) =
            throttled.into_iter().partition(|it| it.worker == worker);
        let waiting: BTreeSet<ChannelId> = left.iter().map(|it| it.id).collect();
        self.throttled.replace(left);
        for Throttled { id, .. } in over {
            if let Some(state) = self.state(id).filter(|_| !waiting.contains(&id)) {
                state.flags.set(Flag::AWAITS_WORKER, false);
                // The peer may have waited, too.
                state.time(Clocks::moved);
                // A hang-up that was reported meanwhile is to be reported once more.
                state.flags.set(Flag::HUNG_UP, false);
                state.schedule();
            }
        }
    }
}

//! TLS handshakes: a step of the loop's turn, with a budget of its own.
//!
//! A handshake computes for as long as thousands of records take. A turn therefore completes a few of them, in the
//! order in which their input has arrived, and then serves the other connections. A step that only receives a
//! part of a message costs little, and is not counted.

use std::rc::Rc;

use super::Runtime;
use crate::error::Close;
use crate::log::{Escaped, log_throttled};
use crate::state::secure::Handshake;
use crate::state::{ChannelState, Flag, Phase};
use crate::sys::interest::Ready;
use crate::user_code::in_span;

/// How many steps that compute with keys a turn takes: a few milliseconds.
const EXPENSIVE_STEPS: usize = 8;

impl Runtime {
    /// Puts a channel whose handshake can be advanced behind the others.
    pub(super) fn queue_handshake(&self, state: &Rc<ChannelState>, ready: Ready) {
        state.pending.set(state.pending.get().union(ready));
        if !state.flags.replace(Flag::QUEUED, true) {
            self.handshakes.borrow_mut().push_back(Rc::clone(state));
        }
    }

    /// Begins the step of the handshakes: returns how many wait.
    pub(super) fn begin_handshakes(&self) -> usize {
        self.handshake_budget.set(EXPENSIVE_STEPS);
        self.handshakes.borrow().len()
    }

    /// Advances the handshake that has waited longest. Returns whether the turn may advance another one.
    pub(super) fn advance_next_handshake(self: &Rc<Self>) -> bool {
        if self.handshake_budget.get() == 0 {
            return false;
        }
        let Some(state) = self.handshakes.borrow_mut().pop_front() else {
            return false;
        };
        state.flags.set(Flag::QUEUED, false);
        let ready = state.pending.take();
        if state.phase.get() != Phase::Securing {
            self.take_turn(&state, ready);
            return true;
        }
        if ready.urgent {
            state.discard_urgent();
        }
        let (handshake, is_expensive) = in_span(state.span(), || state.advance_handshake(ready));
        if is_expensive {
            self.handshake_budget.set(self.handshake_budget.get() - 1);
        }
        match handshake {
            Handshake::Waits(interest) => self.watch(&state, interest),
            Handshake::Complete => {
                self.counters.handshakes.add(1);
                self.replace_driver(&state);
                // What came behind the handshake is delivered in this turn.
                self.take_turn(&state, Ready::NONE);
            }
            Handshake::Failed(why) => {
                state.end(why);
                self.take_turn(&state, Ready::NONE);
            }
        }
        true
    }

    /// A channel ends whose handshake was not completed. One without a session would end unnoticed.
    #[cold]
    pub(super) fn count_failed_handshake(&self, state: &ChannelState, why: &Close, never_up: bool) {
        self.counters.handshakes_failed.add(1);
        if !never_up || why.is_local() {
            return;
        }
        let peer = state.peer().map(|peer| Escaped(peer).to_string());
        in_span(state.span(), || {
            log_throttled!(warn, peer, why = %Escaped(why), "a TLS handshake failed");
        });
    }

    /// Lets a driver that waited for the connection be replaced by that of a session.
    fn replace_driver(&self, state: &Rc<ChannelState>) {
        let driver = self.registry.borrow_mut().take_driver(state.id.get());
        let Some(driver) = driver else { return };
        let driver = in_span(state.span(), || driver.replaced(state));
        self.set_driver(state, driver);
    }
}

//! What a caller does with an outgoing connection before the loop has called the factory of its session.
//!
//! `connect` returns a chat at once, and the loop calls the factory later: no method of a handle calls user code.
//! In the order that the caller sees, the factory comes first. Its output is therefore sent before the output
//! that was pushed to the returned chat, and a terminator, limits or deadlines that were set on the returned chat
//! replace those of the factory.

use std::rc::Rc;

use super::{ChannelState, Flag, Request};
use crate::framing::terminator::Terminator;
use crate::limits::Limits;
use crate::output::fifo::Fifo;
use crate::time::deadlines::Deadlines;
use crate::user_code::discard;

/// What was done with a connection between its registration and the call of the factory.
pub(crate) struct Early {
    output: Option<Fifo>,
    terminator: Option<Terminator>,
    limits: Option<Rc<Limits>>,
    deadlines: Option<Deadlines>,
}

impl ChannelState {
    /// Takes what the caller has pushed and set. The factory is called next, and finds an empty queue.
    pub(crate) fn take_early(&self) -> Early {
        let terminator = self.requests.has(Request::TERMINATOR);
        // The queue of a connection that has ended takes nothing, also not from the factory.
        let is_filled = !self.has_ended() && !self.out.borrow().is_empty();
        Early {
            output: is_filled.then(|| self.out.replace(Fifo::new(self.output_mark()))),
            terminator: terminator.then(|| self.terminator()),
            limits: if self.flags.has(Flag::LIMITS_SET) {
                self.shared_limits()
            } else {
                None
            },
            deadlines: if self.flags.has(Flag::DEADLINES_SET) {
                Some(self.deadlines())
            } else {
                None
            },
        }
    }

    /// Puts it behind what the factory has pushed and set.
    pub(crate) fn put_back_early(self: &Rc<Self>, early: Early) {
        if let Some(terminator) = early.terminator {
            self.set_terminator(terminator);
        }
        if let Some(limits) = early.limits {
            self.set_limits(Some(limits));
            self.requests.add(Request::CHECK);
        }
        if let Some(deadlines) = early.deadlines {
            self.set_deadlines(deadlines);
        }
        let Some(output) = early.output else { return };
        if self.has_ended() || self.flags.has(Flag::FAILED) {
            return self.lose(output);
        }
        let weight = output.weight();
        let (dropped, is_full) = {
            let mut out = self.out.borrow_mut();
            (out.append(output), out.is_full())
        };
        self.drop_later(dropped);
        self.pushed(is_full, || weight);
    }

    /// The factory has closed the connection, or has failed: the output is not sent.
    fn lose(&self, mut output: Fifo) {
        if self.has_ended() {
            // It remains queued until the channel is taken apart, which finds out that not all was sent.
            output.seal();
            output = self.out.replace(output);
        }
        self.drop_later(output.discard());
        discard(output.take_close());
    }
}

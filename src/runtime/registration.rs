//! How channels and their handlers come to a loop.

use std::any::TypeId;
use std::rc::Rc;

use super::Runtime;
use super::driver::Driver;
use crate::error::{Close, Error, Result};
use crate::log::{Escaped, log_throttled};
use crate::state::{ChannelId, ChannelState, Flag, Kind};
use crate::user_code::{discard, enter, in_span};

impl Runtime {
    /// Registers a channel. Its driver may follow, if making it is the user's code.
    pub(crate) fn register(
        self: &Rc<Self>,
        state: &Rc<ChannelState>,
        handler: fn() -> TypeId,
    ) -> Result<ChannelId> {
        if state.has_ended() {
            return Err(Error::new("the channel is closed"));
        }
        if state.is_registered() {
            return Err(Error::new("the channel is registered already"));
        }
        if self.agenda.is_shutting_down() {
            return Err(Error::new("the loop is shutting down"));
        }
        state.can_be_watched(&self.poller)?;
        state.adopt_limits(self.limits());
        let id = self
            .registry
            .borrow_mut()
            .insert(state)
            .ok_or_else(|| Error::new("the loop has as many channels as it can tell apart"))?;
        state.handler.set(handler);
        state.flags.set(Flag::AWAITS_HANDLER, true);
        state.set_agenda(&self.agenda);
        state.start_clocks();
        if state.kind.get() != Kind::Internal {
            self.counters.opened.add(1);
        }
        state.schedule();
        Ok(id)
    }

    /// Has a factory make the driver of a channel that was registered. The driver gets to know even of a
    /// connection that was closed before. A panic of the factory ends that channel.
    pub(crate) fn make_driver<D: Driver + 'static>(
        &self,
        state: &Rc<ChannelState>,
        make: impl FnOnce() -> D,
    ) {
        // What the factory logs belongs to its connection, not to the listener.
        match in_span(state.span(), || enter(make)) {
            Ok(driver) => self.set_driver(state, Box::new(driver)),
            Err(message) => {
                state.flags.set(Flag::AWAITS_HANDLER, false);
                let id = state.id.get();
                log_throttled!(error, %id, panic = %Escaped(&message), "a factory panicked");
                state.end(Close::Panic(message));
                state.schedule();
            }
        }
    }

    /// Gives a channel that was registered its driver.
    pub(crate) fn set_driver(&self, state: &Rc<ChannelState>, driver: Box<dyn Driver>) {
        let unused = self
            .registry
            .borrow_mut()
            .put_driver(state.id.get(), driver);
        discard(unused);
        state.flags.set(Flag::AWAITS_HANDLER, false);
        state.schedule();
    }
}

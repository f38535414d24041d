//! Registers channels with a loop, and gives them their drivers.

use std::any::TypeId;
use std::rc::Rc;

use super::Runtime;
use super::driver::Driver;
use crate::error::{Close, Error, Result};
use crate::log::{Escaped, log_throttled};
use crate::state::{ChannelId, ChannelState, Flag, Kind};
use crate::user_code::{discard, enter, in_span};

impl Runtime {
    /// Registers a channel. Its driver follows later where a factory, which is user code, makes it.
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
            .ok_or_else(|| Error::new("the loop has as many channels as it can distinguish"))?;
        state.handler.set(handler);
        state.flags.set(Flag::AWAITS_HANDLER, true);
        state.set_agenda(&self.agenda);
        state.start_clocks();
        state.start_timers();
        if state.kind.get() != Kind::Internal {
            self.counters.opened.add(1);
        }
        state.schedule();
        Ok(id)
    }

    /// Calls a factory to make the driver of a registered channel, also if its connection was closed in the
    /// meantime: the handler then gets the reason in `handle_close`. A panic of the factory ends this
    /// channel only.
    pub(crate) fn make_driver<D: Driver + 'static>(
        &self,
        state: &Rc<ChannelState>,
        make: impl FnOnce() -> D,
    ) {
        // What the factory pushes is the session's own output, as in a turn.
        state.flags.set(Flag::IN_TURN, true);
        // The events that the factory logs belong to its connection, not to the listener.
        let made = in_span(state.span(), || enter(make));
        state.flags.set(Flag::IN_TURN, false);
        match made {
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

    /// Gives a registered channel its driver.
    pub(crate) fn set_driver(&self, state: &Rc<ChannelState>, driver: Box<dyn Driver>) {
        let unused = self
            .registry
            .borrow_mut()
            .put_driver(state.id.get(), driver);
        if unused.is_some() {
            discard(unused);
        }
        state.flags.set(Flag::AWAITS_HANDLER, false);
        state.schedule();
    }
}

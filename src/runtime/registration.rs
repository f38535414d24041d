//! Registers channels with a loop, and gives them their drivers.

use std::any::TypeId;
use std::rc::Rc;

use super::Runtime;
use super::driver::Driver;
use crate::error::{Close, Error, Result};
use crate::log::{Escaped, log_throttled};
use crate::state::{ChannelId, ChannelState, Flag, Kind, Request};
use crate::user_code::{discard, enter, in_span};

impl Runtime {
    /// Registers a channel. Its driver follows later where a factory, which is user code, makes it.
    pub(crate) fn register(
        self: &Rc<Self>,
        state: &Rc<ChannelState>,
        handler: fn() -> TypeId,
    ) -> Result<ChannelId, Error> {
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

    /// Calls the factory of a registered channel, also if its connection was closed in the meantime: the handler
    /// then gets the reason in `handle_close`. Returns what the factory made. If the factory returns an error or
    /// panics, this channel ends, as after a failed callback, and no other.
    pub(crate) fn call_factory<T>(
        state: &Rc<ChannelState>,
        factory: impl FnOnce() -> Result<T>,
    ) -> Option<T> {
        // What the factory pushes is the session's own output, as in a turn.
        state.flags.set(Flag::IN_TURN, true);
        // The events that the factory logs belong to its connection, not to the listener.
        let made = in_span(state.span(), || {
            let made = enter(factory);
            let id = state.id.get();
            let peer = || state.peer().map(|peer| Escaped(peer).to_string());
            match &made {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    log_throttled!(warn, %id, peer = peer(), error = %Escaped(error), "a factory failed");
                }
                Err(panic) => {
                    log_throttled!(error, %id, peer = peer(), panic = %Escaped(panic), "a factory panicked");
                }
            }
            made
        });
        state.flags.set(Flag::IN_TURN, false);
        let why = match made {
            Ok(Ok(made)) => return Some(made),
            Ok(Err(error)) => Close::Handler(error),
            Err(panic) => Close::Panic(panic),
        };
        // There is no session that another one could replace.
        state.requests.take(Request::REPLACE);
        state.fail(why);
        None
    }

    /// Gives a registered channel its driver.
    pub(crate) fn set_driver(&self, state: &Rc<ChannelState>, driver: Box<dyn Driver>) {
        let unused = self.registry.borrow_mut().put_driver(state, driver);
        if unused.is_some() {
            discard(unused);
        }
        state.flags.set(Flag::AWAITS_HANDLER, false);
        state.schedule();
    }
}

//! How channels and their handlers come to a loop, and how a handler is visited.

use std::any::TypeId;
use std::rc::Rc;

use super::Runtime;
use crate::channel::dispatcher::{Driven, make_callback};
use crate::chat::driver::ChatDispatcher;
use crate::error::{Close, Error, Result};
use crate::log::{Escaped, log, log_throttled};
use crate::runtime::registry::ChannelId;
use crate::state::{ChannelState, Phase};
use crate::user_code::{discard, enter, in_span};

impl Runtime {
    /// Takes a channel in; its dispatcher may follow, if making it is the user's code.
    pub(crate) fn register(
        self: &Rc<Self>,
        state: &Rc<ChannelState>,
        mut driven: Option<Box<dyn Driven>>,
        handler: fn() -> TypeId,
    ) -> Result<ChannelId> {
        if state.phase.get() == Phase::Closed || state.is_ending() {
            return Err(Error::new("the channel is closed"));
        }
        if state.runtime().is_some() {
            return Err(Error::new("the channel is registered already"));
        }
        if self.is_shutting_down() {
            return Err(Error::new("the loop is shutting down"));
        }
        state.can_be_watched(&self.poller)?;
        state.adopt_limits(self.limits());
        let id = self
            .registry
            .borrow_mut()
            .insert(Rc::clone(state), &mut driven, handler)
            .ok_or_else(|| Error::new("the loop has as many channels as it can tell apart"))?;
        state.settle_in(self);
        state.start_clocks();
        if !state.own.get() {
            self.counters.opened.add(1);
        }
        state.touch();
        Ok(id)
    }

    /// Has a factory make the handler of a channel that was registered without, which gets to know
    /// even of a connection closed before. A panic in it ends that channel.
    pub(crate) fn make_handler<D: Driven>(
        &self,
        state: &Rc<ChannelState>,
        make: impl FnOnce() -> D,
    ) {
        // What the factory logs is its connection's, not the listener's.
        match in_span(state.span.get().map(|span| &**span), || enter(make)) {
            Ok(dispatcher) => self.install(state, Box::new(dispatcher)),
            Err(message) => {
                state.unborn.set(false);
                log_throttled!(error, id = %state.id.get(), panic = %Escaped(&message), "a factory panicked");
                state.end(Close::Panic(message));
                state.touch();
            }
        }
    }

    /// Hands over the dispatcher of a channel that was registered without.
    pub(crate) fn install(&self, state: &Rc<ChannelState>, driven: Box<dyn Driven>) {
        let left = match self.registry.borrow_mut().get_mut(state.id.get()) {
            Some(slot) => slot.driven.replace(driven),
            None => Some(driven),
        };
        discard(left);
        state.unborn.set(false);
        state.touch();
    }

    /// Queues a visit to the handler of channel `id`.
    pub(crate) fn post_to<C: 'static>(
        &self,
        id: ChannelId,
        visit: impl FnOnce(&mut C) -> Result + 'static,
    ) -> Result {
        match self.registry.borrow().get(id) {
            None => return Err(Error::new("the channel has ended").context(id)),
            Some(slot) if (slot.handler)() != TypeId::of::<C>() => {
                let wanted = std::any::type_name::<C>();
                let error = Error::new(format!("its handler is not a {wanted}"));
                return Err(error.context(id));
            }
            Some(_) => {}
        }
        self.call_soon(Box::new(move |runtime| runtime.deliver(id, visit)));
        Ok(())
    }

    /// Makes a visit to the handler of channel `id`, if it is still there and is a `C`.
    pub(crate) fn deliver<C: 'static>(
        self: &Rc<Self>,
        id: ChannelId,
        visit: impl FnOnce(&mut C) -> Result + 'static,
    ) {
        let Some(state) = self.state(id).filter(|state| !state.is_ending()) else {
            return log!(debug, channel = %id, "a visit came too late");
        };
        if state.unborn.get() {
            // Its handler is made by a call that is queued already.
            return self.call_soon(Box::new(move |runtime| runtime.deliver(id, visit)));
        }
        self.visit(&state, |driven| match handler_of(driven) {
            Some(handler) => visit(handler),
            None => {
                log_throttled!(warn, "a visit to a handler of another type");
                Ok(())
            }
        });
    }

    /// A callback that the kernel has no part in. A handler that has not been told that it is up
    /// is told first. What it leads to waits for the channel's turn, for there is one budget in a
    /// turn, however many visits.
    pub(super) fn visit(
        self: &Rc<Self>,
        state: &Rc<ChannelState>,
        callback: impl FnOnce(&mut dyn Driven) -> Result,
    ) {
        if state.failed.get() {
            return;
        }
        // What a session that is not over its mark pushes now may be a reply that a worker has made.
        state.has_turn.set(!state.chat.choked.get());
        self.call(state, |driven| {
            driven.announce(state)?;
            if !state.is_ending() {
                make_callback(state, || callback(driven))?;
            }
            Ok(None)
        });
        state.has_turn.set(false);
        if state.phase.get() != Phase::Closed {
            state.touch();
        }
    }
}

/// The user's own handler: a dispatcher, or the session inside the one that drives it.
fn handler_of<C: 'static>(driven: &mut dyn Driven) -> Option<&mut C> {
    let handler = driven.handler();
    if handler.is::<C>() {
        return handler.downcast_mut();
    }
    Some(handler.downcast_mut::<ChatDispatcher<C>>()?.session())
}

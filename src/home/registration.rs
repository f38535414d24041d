//! How channels and their handlers come to a loop, and how a handler is visited.

use std::any::TypeId;
use std::rc::Rc;

use super::Home;
use crate::chat_dispatcher::ChatDispatcher;
use crate::contain::{discard, enter, in_span};
use crate::dispatcher::{Driven, make_callback};
use crate::error::{Close, Error, Result};
use crate::registry::ChannelId;
use crate::state::{Core, Phase};
use crate::told::{Escaped, log, told};

impl Home {
    /// Takes a channel in; its dispatcher may follow, if making it is the user's code.
    pub(crate) fn register(
        self: &Rc<Self>,
        core: &Rc<Core>,
        mut driven: Option<Box<dyn Driven>>,
        handler: fn() -> TypeId,
    ) -> Result<ChannelId> {
        if core.phase.get() == Phase::Closed || core.is_ending() {
            return Err(Error::new("the channel is closed"));
        }
        if core.home().is_some() {
            return Err(Error::new("the channel is registered already"));
        }
        if self.is_shutting_down() {
            return Err(Error::new("the loop is shutting down"));
        }
        core.can_be_watched(&self.poller)?;
        core.adopt_limits(self.limits());
        let id = self
            .registry
            .borrow_mut()
            .insert(Rc::clone(core), &mut driven, handler)
            .ok_or_else(|| Error::new("the loop has as many channels as it can tell apart"))?;
        core.settle_in(self);
        core.start_clocks();
        if !core.own.get() {
            self.counters.opened.add(1);
        }
        core.touch();
        Ok(id)
    }

    /// Has a factory make the handler of a channel that was registered without, which gets to know
    /// even of a connection closed before. A panic in it ends that channel.
    pub(crate) fn make_handler<D: Driven>(&self, core: &Rc<Core>, make: impl FnOnce() -> D) {
        // What the factory logs is its connection's, not the listener's.
        match in_span(core.span.get().map(|span| &**span), || enter(make)) {
            Ok(dispatcher) => self.install(core, Box::new(dispatcher)),
            Err(message) => {
                core.unborn.set(false);
                told!(error, id = %core.id.get(), panic = %Escaped(&message), "a factory panicked");
                core.end(Close::Panic(message));
                core.touch();
            }
        }
    }

    /// Hands over the dispatcher of a channel that was registered without.
    pub(crate) fn install(&self, core: &Rc<Core>, driven: Box<dyn Driven>) {
        let left = match self.registry.borrow_mut().get_mut(core.id.get()) {
            Some(slot) => slot.driven.replace(driven),
            None => Some(driven),
        };
        discard(left);
        core.unborn.set(false);
        core.touch();
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
        self.call_soon(Box::new(move |home| home.deliver(id, visit)));
        Ok(())
    }

    /// Makes a visit to the handler of channel `id`, if it is still there and is a `C`.
    pub(crate) fn deliver<C: 'static>(
        self: &Rc<Self>,
        id: ChannelId,
        visit: impl FnOnce(&mut C) -> Result + 'static,
    ) {
        let Some(core) = self.core(id).filter(|core| !core.is_ending()) else {
            return log!(debug, channel = %id, "a visit came too late");
        };
        if core.unborn.get() {
            // Its handler is made by a call that is queued already.
            return self.call_soon(Box::new(move |home| home.deliver(id, visit)));
        }
        self.visit(&core, |driven| match handler_of(driven) {
            Some(handler) => visit(handler),
            None => {
                told!(warn, "a visit to a handler of another type");
                Ok(())
            }
        });
    }

    /// A callback that the kernel has no part in. A handler that has not been told that it is up
    /// is told first. What it leads to waits for the channel's turn, for there is one budget in a
    /// turn, however many visits.
    pub(super) fn visit(
        self: &Rc<Self>,
        core: &Rc<Core>,
        callback: impl FnOnce(&mut dyn Driven) -> Result,
    ) {
        if core.failed.get() {
            return;
        }
        // What a session that is not over its mark pushes now may be a reply that a worker has made.
        core.has_turn.set(!core.chat.choked.get());
        self.call(core, |driven| {
            driven.announce(core)?;
            if !core.is_ending() {
                make_callback(core, || callback(driven))?;
            }
            Ok(None)
        });
        core.has_turn.set(false);
        if core.phase.get() != Phase::Closed {
            core.touch();
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

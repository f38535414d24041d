//! Closing without losing what was said last.
//!
//! Closing a socket with input that nobody has read, or one whose peer goes on sending, makes the
//! kernel reset the connection: what the peer has not received yet is destroyed, and on some
//! systems what it has received and not read too. So a connection that is to be closed when done
//! shuts its sending side down, and a dispatcher of the crate's own takes its socket over and reads
//! on into nothing, for a while, until the peer has closed as well.

use std::any::TypeId;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::Home;
use crate::Channel;
use crate::deadlines::Deadlines;
use crate::dispatcher::Dispatcher;
use crate::error::{Close, Error, Result};
use crate::poller::Source;
use crate::registry::{ChannelId, Slot};
use crate::socket::Socket;
use crate::state::{Core, Phase};

/// How much is read for nothing. More than what is on its way when a peer that sent all it could
/// is told: its kernel and this one hold some megabytes each.
const MOST: usize = 16 << 20;

/// How many linger at a time. When one more does, the oldest is closed.
const PLACES: usize = 1024;

/// How many of those who were refused: they have had no reply that could be lost, and a flood of
/// them must not take the places of those who have.
const REFUSED: usize = 64;

/// Reads on, into nothing.
struct Lingering {
    channel: Channel,
    left: usize,
}

impl Dispatcher for Lingering {
    fn channel(&self) -> &Channel {
        &self.channel
    }

    fn handle_read(&mut self) -> Result {
        let core = &self.channel.0;
        let Some(home) = core.home() else {
            return Ok(());
        };
        let mut buffer = home.lend_read_buffer();
        let outcome = self.channel.recv(&mut buffer);
        home.return_read_buffer(buffer);
        self.left = self.left.saturating_sub(outcome?);
        if self.left == 0 {
            self.channel.close();
        }
        Ok(())
    }

    fn handle_expt(&mut self) -> Result {
        Ok(())
    }

    fn handle_error(&mut self, error: &Error) {
        tracing::debug!(%error, "while lingering");
    }
}

impl Home {
    /// Ends the connection that `socket` was for, once its peer has heard the last of it.
    pub(crate) fn let_linger(self: &Rc<Self>, socket: Socket, time: Duration) {
        if time.is_zero() || socket.shutdown_write().is_err() {
            return;
        }
        let core = Rc::new(Core::new(
            Some(Source::new(socket.into_halves().0)),
            Phase::Open,
        ));
        let lingering = Box::new(Lingering::new(&core));
        let handler = TypeId::of::<Lingering>;
        let mut registry = self.registry.borrow_mut();
        if let Some(id) = registry.insert(Rc::clone(&core), Some(lingering), handler) {
            drop(registry);
            self.attend_lingering(&core, time);
            self.keep(&self.refused, REFUSED, id);
        }
    }

    /// Takes an ending channel's slot out of the registry. If the channel is one to linger, another
    /// takes over its socket, and its place in the poller as it is.
    pub(super) fn replace_or_remove(self: &Rc<Self>, core: &Core) -> Option<Slot> {
        let time = core.deadlines().linger;
        let heir = match core.lingers.get() && !core.eof.get() && !time.is_zero() {
            true => core.pass_socket_on(),
            false => None,
        };
        let Some(heir) = heir else {
            return self.registry.borrow_mut().remove(core.id.get());
        };
        let lingering = Box::new(Lingering::new(&heir));
        let handler = TypeId::of::<Lingering>;
        let mut registry = self.registry.borrow_mut();
        let (slot, id) = registry.replace(core.id.get(), Rc::clone(&heir), lingering, handler)?;
        drop(registry);
        self.attend_lingering(&heir, time);
        self.keep(&self.lingering, PLACES, id);
        Some(slot)
    }

    fn attend_lingering(self: &Rc<Self>, core: &Rc<Core>, time: Duration) {
        core.settle_in(self);
        core.lingering.set(true);
        core.set_deadlines(Deadlines::default().lifetime(time));
        core.touch();
    }

    fn keep(&self, places: &RefCell<VecDeque<ChannelId>>, most: usize, id: ChannelId) {
        let mut places = places.borrow_mut();
        places.push_back(id);
        // Those that are gone already count as long as they are behind one that is not.
        while places.len() > most || places.front().is_some_and(|id| self.core(*id).is_none()) {
            if let Some(oldest) = places.pop_front().and_then(|id| self.core(id)) {
                oldest.end(Close::Local);
            }
        }
    }

    /// Closes all that linger: their descriptors are needed.
    pub(super) fn stop_lingering(&self) {
        let all = self.refused.take().into_iter().chain(self.lingering.take());
        for core in all.filter_map(|id| self.core(id)) {
            core.end(Close::Local);
        }
    }
}

impl Lingering {
    fn new(core: &Rc<Core>) -> Self {
        Lingering {
            channel: Channel(Rc::clone(core)),
            left: MOST,
        }
    }
}

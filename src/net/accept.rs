//! The driver of a server's listener: it admits or refuses each connection, and makes the session.

use std::any::TypeId;
use std::mem;
use std::rc::Rc;

use bytes::Bytes;

use super::endpoint::{Settings, make_session};
use crate::Addr;
use crate::channel::accept::accept;
use crate::channel::handle::Channel;
use crate::chat::handle::Chat;
use crate::chat::into_session::IntoSession;
use crate::error::{Close, Error, Result};
use crate::limits::Limits;
use crate::log::{Escaped, log, log_throttled};
use crate::runtime::Runtime;
use crate::runtime::driver::{Driver, Turn};
use crate::state::ChannelState;
use crate::state::agenda::HandlerCall;
use crate::state::quota::{Exceeded, Quota};
use crate::sys::interest::Interest;
use crate::sys::socket::Socket;
use crate::time::timer::TimerId;
use crate::user_code::discard;

/// The driver of a server's listening socket.
pub(super) struct Acceptor<F> {
    settings: Settings,
    refusal: Bytes,
    quota: Rc<Quota>,
    factory: F,
}

impl<I: IntoSession, F: FnMut(Chat) -> I + 'static> Driver for Acceptor<F> {
    fn turn(&mut self, turn: &mut Turn<'_>) -> Result<Interest> {
        let runtime = turn.runtime;
        accept(
            turn,
            self,
            |_| true,
            |acceptor, socket, peer| acceptor.admit(runtime, socket, peer),
        )
    }

    fn begin(&mut self, _: &Rc<ChannelState>) -> Result {
        Ok(())
    }

    fn timer(&mut self, _: &Rc<ChannelState>, _: TimerId) -> Result {
        Ok(())
    }

    fn error(&mut self, error: &Error) {
        log_throttled!(warn, error = %Escaped(error), "accepting failed");
    }

    fn close(&mut self, _: &Close) {}

    /// A listener has no handler of the user's that could be asked for.
    fn call(&mut self, _: &Rc<ChannelState>, call: HandlerCall) -> Result {
        discard(call);
        Ok(())
    }
}

impl<I: IntoSession, F: FnMut(Chat) -> I + 'static> Acceptor<F> {
    pub(super) fn new(settings: Settings, refusal: Bytes, factory: F) -> Self {
        Acceptor {
            settings,
            refusal,
            quota: Rc::default(),
            factory,
        }
    }

    /// Calls the factory for an accepted connection, unless the connection would exceed the quota.
    fn admit(&mut self, runtime: &Rc<Runtime>, socket: Socket, peer: Addr) {
        let limits = self.settings.limits.as_deref().unwrap_or(&Limits::DEFAULT);
        let admission = match self.quota.admit(&peer, limits) {
            Ok(admission) => admission,
            Err(exceeded) => return self.refuse(runtime, socket, &peer, exceeded),
        };
        let channel = Channel::adopt_accepted(socket);
        channel.0.set_peer(peer);
        channel.0.set_admission(admission);
        let chat = match self
            .settings
            .register(runtime, channel, TypeId::of::<I::Session>)
        {
            Ok(chat) => chat,
            Err(error) => return log!(debug, %error, "an accepted connection is dropped"),
        };
        make_session(runtime, chat, &mut self.factory);
    }

    /// Sends the refusal to a client above the quota, and closes the connection.
    fn refuse(&self, runtime: &Rc<Runtime>, socket: Socket, peer: &Addr, exceeded: Exceeded) {
        runtime.counters.refused.add(1);
        let peer = Escaped(peer);
        log_throttled!(warn, %peer, limit = ?exceeded, "a connection was refused: too many connections");
        if self.refusal.is_empty() {
            return;
        }
        // The send buffer of a new connection has room for a line.
        match socket.send(&self.refusal) {
            Ok(_) => runtime.linger_for_refused(socket, self.settings.deadlines),
            Err(error) => log!(debug, %error, "a refusal could not be sent"),
        }
    }
}

impl<F> Drop for Acceptor<F> {
    fn drop(&mut self) {
        // Its destructor may be the user's (`Bytes::from_owner`), as that of the factory. Two panics of
        // destructors must not meet.
        discard(mem::take(&mut self.refusal));
    }
}

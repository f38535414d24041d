//! The driver of a server's listener: it admits or refuses each connection, and makes the session.

use std::any::TypeId;
use std::error::Error as StdError;
use std::mem;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::endpoint::Settings;
use super::preamble::{Factory, Preamble};
use crate::Addr;
use crate::channel::accept::accept;
use crate::channel::handle::Channel;
use crate::chat::handle::Chat;
use crate::chat::into_session::IntoSession;
use crate::error::{Close, Deadline, Result, WithSources};
use crate::limits::Limits;
use crate::log::{Escaped, log, log_throttled};
use crate::runtime::Runtime;
use crate::runtime::driver::{Driver, Turn};
use crate::state::ChannelState;
use crate::state::agenda::HandlerCall;
use crate::state::quota::{Exceeded, Quota};
use crate::sys::interest::Interest;
use crate::sys::socket::{Configure, Socket};
use crate::time::timer::TimerId;
use crate::user_code::{discard, enter};

/// The driver of a server's listening socket.
pub(super) struct Acceptor<F> {
    settings: Settings,
    rules: Rules,
    quota: Rc<Quota>,
    /// The timer of the only connection of the listener.
    deadline: Option<TimerId>,
    factory: Factory<F>,
}

type AcceptIf = Box<dyn FnMut(&Addr) -> bool>;
type OnClose = Box<dyn FnOnce(&Close)>;

/// How a server treats the connections that it accepts.
#[derive(Default)]
pub(super) struct Rules {
    pub(super) refusal: Bytes,
    pub(super) accept_if: Option<AcceptIf>,
    pub(super) configure: Option<Configure>,
    /// It listens for one connection, and waits for so long.
    pub(super) once: Option<Duration>,
    pub(super) on_close: Option<OnClose>,
}

impl<I: IntoSession, F: FnMut(Chat) -> I + 'static> Driver for Acceptor<F> {
    fn turn(&mut self, turn: &mut Turn<'_>) -> Result<Interest> {
        let (runtime, state) = (turn.runtime, turn.state);
        accept(
            turn,
            self,
            |_| true,
            |acceptor, socket, peer| {
                let is_served = acceptor.admit(runtime, socket, peer);
                if is_served && acceptor.rules.once.is_some() {
                    state.end(Close::Local);
                }
            },
        )
    }

    fn begin(&mut self, _: &Rc<ChannelState>) -> Result {
        Ok(())
    }

    fn timer(&mut self, state: &Rc<ChannelState>, timer: TimerId) -> Result {
        if self.deadline == Some(timer) {
            state.end(Close::Timeout(Deadline::Accept));
        }
        Ok(())
    }

    fn error(&mut self, error: &(dyn StdError + Send + Sync + 'static)) {
        log_throttled!(warn, error = %Escaped(WithSources(error)), "accepting failed");
    }

    fn close(&mut self, why: &Close) {
        if let Some(on_close) = self.rules.on_close.take() {
            on_close(why);
        }
    }

    fn replaced(self: Box<Self>, _: &Rc<ChannelState>) -> Box<dyn Driver> {
        self
    }

    /// A listener has no handler of the user's that could be asked for.
    fn call(&mut self, _: &Rc<ChannelState>, call: HandlerCall) -> Result {
        discard(call);
        Ok(())
    }
}

impl<I: IntoSession, F: FnMut(Chat) -> I + 'static> Acceptor<F> {
    pub(super) fn new(settings: Settings, rules: Rules, factory: F) -> Self {
        Acceptor {
            settings,
            rules,
            quota: Rc::default(),
            deadline: None,
            factory: Factory::new(factory),
        }
    }

    /// Begins to wait, if the listener, which is registered by now, waits for one connection.
    pub(super) fn begin_waiting(&mut self, listener: &Channel) {
        self.deadline = self.rules.once.map(|wait| listener.call_later(wait));
        if self.deadline.is_some() {
            self.factory.serve_once(&listener.0);
        }
    }

    /// Calls the factory for an accepted connection, unless the connection is refused. With TLS the factory is
    /// called after the handshake. Returns whether there is a session.
    fn admit(&mut self, runtime: &Rc<Runtime>, socket: Socket, peer: Addr) -> bool {
        if !self.is_accepted(&peer) || !self.is_configured(&socket, &peer) {
            runtime.counters.refused.add(1);
            return false;
        }
        let limits = self.settings.limits.as_deref().unwrap_or(&Limits::DEFAULT);
        let admission = match self.quota.admit(&peer, limits) {
            Ok(admission) => admission,
            Err(exceeded) => {
                self.refuse(runtime, socket, &peer, exceeded);
                return false;
            }
        };
        let channel = Channel::adopt_accepted(socket);
        channel.0.set_peer(peer);
        channel.0.set_admission(admission);
        let session = TypeId::of::<I::Session>;
        let chat = match self.settings.register(runtime, channel, session) {
            Ok(chat) => chat,
            Err(error) => {
                log!(debug, %error, "an accepted connection is dropped");
                return false;
            }
        };
        let state = Rc::clone(chat.state());
        let (driver, is_served) = match self.settings.stage {
            None => match self.factory.call(chat) {
                Some(made) => made,
                None => return false,
            },
            Some(_) => {
                let factory = self.factory.clone();
                // A handshake that is never completed must not take the place of the only session.
                (
                    Box::new(Preamble { chat, factory }) as Box<dyn Driver>,
                    false,
                )
            }
        };
        runtime.set_driver(&state, driver);
        is_served
    }

    fn is_accepted(&mut self, peer: &Addr) -> bool {
        let Some(accept_if) = &mut self.rules.accept_if else {
            return true;
        };
        match enter(|| accept_if(peer)) {
            Ok(true) => true,
            Ok(false) => {
                log!(debug, peer = %Escaped(peer), "accept_if has refused a connection");
                false
            }
            Err(panic) => {
                log_throttled!(error, peer = %Escaped(peer), panic = %Escaped(panic), "accept_if panicked");
                false
            }
        }
    }

    fn is_configured(&self, socket: &Socket, peer: &Addr) -> bool {
        let Some(configure) = &self.rules.configure else {
            return true;
        };
        match socket.configure(configure) {
            Ok(()) => true,
            Err(error) => {
                log_throttled!(warn, peer = %Escaped(peer), error = %Escaped(error), "configure has failed");
                false
            }
        }
    }

    /// Sends the refusal to a client above the quota, and closes the connection.
    fn refuse(&self, runtime: &Rc<Runtime>, socket: Socket, peer: &Addr, exceeded: Exceeded) {
        runtime.counters.refused.add(1);
        let peer = Escaped(peer);
        log_throttled!(warn, %peer, limit = ?exceeded, "a connection was refused: too many connections");
        if self.rules.refusal.is_empty() {
            return;
        }
        // The send buffer of a new connection has room for a line.
        match socket.send(&self.rules.refusal) {
            Ok(_) => runtime.linger_for_refused(socket, self.settings.deadlines),
            Err(error) => log!(debug, %error, "a refusal could not be sent"),
        }
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        // The destructors are the user's (`Bytes::from_owner`), as that of the factory. Two panics of
        // destructors must not meet.
        discard(mem::take(&mut self.refusal));
        discard(self.accept_if.take());
        discard(self.on_close.take());
    }
}

//! The driver of a server's listener: it admits or refuses each connection, and makes the session.

use std::any::TypeId;
use std::error::Error as StdError;
use std::rc::Rc;
use std::time::Duration;

use super::endpoint::Settings;
#[cfg(feature = "proxy-protocol")]
use super::identification::Identification;
use super::policy::Policy;
use super::preamble::{Factory, Preamble};
use crate::Addr;
use crate::channel::accept::accept;
use crate::channel::handle::Channel;
use crate::chat::handle::Chat;
use crate::chat::into_session::IntoSession;
use crate::error::{Close, Deadline, Result, WithSources};
use crate::limits::Limits;
use crate::log::{Escaped, log, log_throttled};
#[cfg(feature = "proxy-protocol")]
use crate::proxy_protocol::Network;
use crate::runtime::Runtime;
use crate::runtime::driver::{Driver, Turn};
use crate::state::ChannelState;
use crate::state::load::Place;
use crate::state::quota::{Exceeded, Quota};
use crate::sys::socket::{Configure, Socket};
use crate::time::timer::TimerId;
use crate::user_code::discard;

/// The driver of a server's listening socket.
pub(super) struct ListenerDriver<F> {
    settings: Settings,
    rules: Rules,
    policy: Rc<Policy>,
    /// The timer of the only connection of the listener.
    deadline: Option<TimerId>,
    factory: Factory<F>,
}

type OnClose = Box<dyn FnOnce(&Close)>;

/// How a server treats the connections that it accepts.
#[derive(Default)]
pub(super) struct Rules {
    pub(super) configure: Option<Configure>,
    /// It listens for one connection, and waits for it no longer than this.
    pub(super) once: Option<Duration>,
    pub(super) on_close: Option<OnClose>,
    /// The networks of the proxies, if it is a server of the PROXY protocol.
    #[cfg(feature = "proxy-protocol")]
    pub(super) proxies: Option<Box<[Network]>>,
}

impl<I: IntoSession, F: FnMut(Chat) -> I + 'static> Driver for ListenerDriver<F> {
    fn turn(&mut self, turn: &mut Turn<'_>) -> Result {
        let (runtime, state) = (turn.runtime, turn.state);
        accept(
            turn,
            self,
            |_| true,
            |acceptor, socket, peer| {
                runtime.counters.accepted.add(1);
                let is_served = acceptor.admit(runtime, socket, peer);
                if is_served && acceptor.rules.once.is_some() {
                    state.end(Close::Local);
                }
            },
        );
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
}

impl<I: IntoSession, F: FnMut(Chat) -> I + 'static> ListenerDriver<F> {
    pub(super) fn new(settings: Settings, rules: Rules, policy: Policy, factory: F) -> Self {
        ListenerDriver {
            settings,
            rules,
            policy: Rc::new(policy),
            deadline: None,
            factory: Factory::new(factory),
        }
    }

    /// Counts its connections in this quota. It has none yet.
    pub(super) fn set_quota(&mut self, quota: Quota) {
        if let Some(policy) = Rc::get_mut(&mut self.policy) {
            policy.quota = Rc::new(quota);
        }
    }

    /// Admits or refuses a connection that another loop has accepted for this one.
    pub(super) fn admit_arrival(
        &mut self,
        runtime: &Rc<Runtime>,
        socket: Socket,
        peer: Addr,
        place: Place,
    ) {
        let policy = Rc::clone(&self.policy);
        policy.quota.arriving(place, || {
            self.admit(runtime, socket, peer);
        });
    }

    /// Sends the refusal on a connection that comes too late for a session.
    pub(super) fn refuse_late(&self, runtime: Option<&Runtime>, socket: Socket, peer: &Addr) {
        let deadlines = self.settings.deadlines;
        self.policy.refuse_late(runtime, socket, peer, deadlines);
    }

    /// Whether it is a server of the PROXY protocol without a proxy.
    #[cfg(feature = "proxy-protocol")]
    pub(super) fn trusts_nobody(&self) -> bool {
        let proxies = self.rules.proxies.as_ref();
        proxies.is_some_and(|proxies| proxies.is_empty())
    }

    /// Begins to wait, if the listener, which is registered by now, waits for one connection.
    pub(super) fn begin_waiting(&mut self, listener: &Channel) {
        self.deadline = self.rules.once.map(|wait| listener.call_later(wait));
        if self.deadline.is_some() {
            self.factory.serve_once(&listener.0);
        }
    }

    /// Calls the factory for an accepted connection, unless the connection is refused. With TLS, and behind a proxy,
    /// the factory is called later. Returns whether there is a session.
    fn admit(&mut self, runtime: &Rc<Runtime>, socket: Socket, peer: Addr) -> bool {
        #[cfg(feature = "proxy-protocol")]
        if let Some(proxies) = &self.rules.proxies {
            let is_trusted = proxies.iter().any(|network| network.contains(&peer));
            self.admit_proxy(runtime, socket, peer, is_trusted);
            return false;
        }
        if !self.policy.accepts(&peer) || !self.is_configured(&socket, &peer) {
            runtime.counters.refused.add(1);
            return false;
        }
        let limits = self.settings.limits.as_deref().unwrap_or(&Limits::DEFAULT);
        let admission = match self.policy.quota.admit(&peer, limits) {
            Ok(admission) => admission,
            Err(exceeded) => {
                self.refuse(runtime, socket, &peer, exceeded);
                return false;
            }
        };
        let channel = Channel::adopt_accepted(socket);
        channel.0.set_peer(peer);
        channel.0.set_admission(admission);
        let Some(chat) = self.register(runtime, channel) else {
            return false;
        };
        let state = Rc::clone(chat.state());
        let (driver, is_served) = match self.settings.stage {
            None => match self.factory.call(chat) {
                Some(made) => made,
                None => return false,
            },
            Some(_) => {
                // A handshake that is never completed must not take the place of the only session.
                let preamble = Preamble {
                    chat,
                    factory: self.factory.clone(),
                    #[cfg(feature = "proxy-protocol")]
                    identification: None,
                };
                (Box::new(preamble) as Box<dyn Driver>, false)
            }
        };
        runtime.set_driver(&state, driver);
        is_served
    }

    /// Begins to wait for the PROXY header of an accepted connection, if it is that of a proxy. The client is admitted
    /// when the header has named it.
    #[cfg(feature = "proxy-protocol")]
    #[cold]
    #[inline(never)]
    fn admit_proxy(&self, runtime: &Rc<Runtime>, socket: Socket, proxy: Addr, is_trusted: bool) {
        if !is_trusted {
            let peer = Escaped(&proxy);
            log_throttled!(warn, %peer, "a connection was refused: it is from no trusted proxy");
        }
        if !is_trusted || !self.is_configured(&socket, &proxy) {
            runtime.counters.refused.add(1);
            return;
        }
        let limits = self.settings.limits.as_deref().unwrap_or(&Limits::DEFAULT);
        let admission = match self.policy.quota.admit_unknown(limits) {
            Ok(admission) => admission,
            Err(exceeded) => {
                return self.refuse(runtime, socket, &proxy, exceeded);
            }
        };
        let channel = Channel::adopt_accepted(socket);
        channel.0.set_admission(admission);
        channel.0.await_header(proxy.clone());
        let Some(chat) = self.register(runtime, channel) else {
            return;
        };
        let state = Rc::clone(chat.state());
        let policy = Rc::clone(&self.policy);
        let preamble = Preamble {
            chat,
            factory: self.factory.clone(),
            identification: Some(Identification::begin(&state, proxy, policy)),
        };
        runtime.set_driver(&state, Box::new(preamble));
    }

    #[inline(always)] // It has two callers, and few servers have the second one.
    fn register(&self, runtime: &Rc<Runtime>, channel: Channel) -> Option<Chat> {
        let session = TypeId::of::<I::Session>;
        match self.settings.register(runtime, channel, session) {
            Ok(chat) => Some(chat),
            Err(error) => {
                log!(debug, %error, "an accepted connection is dropped");
                None
            }
        }
    }

    #[inline]
    fn is_configured(&self, socket: &Socket, peer: &Addr) -> bool {
        match &self.rules.configure {
            Some(configure) => Self::configure(configure, socket, peer),
            None => true,
        }
    }

    #[inline(never)]
    fn configure(configure: &Configure, socket: &Socket, peer: &Addr) -> bool {
        match socket.configure(configure) {
            Ok(()) => true,
            Err(error) => {
                log_throttled!(warn, peer = %Escaped(peer), error = %Escaped(error), "configure has failed");
                false
            }
        }
    }

    fn refuse(&self, runtime: &Runtime, socket: Socket, peer: &Addr, exceeded: Exceeded) {
        runtime.counters.refused.add(1);
        let deadlines = self.settings.deadlines;
        self.policy
            .refuse(runtime, socket, peer, exceeded, deadlines);
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        // Its destructor is the user's, as that of the factory. Two panics of destructors must not meet.
        discard(self.on_close.take());
    }
}

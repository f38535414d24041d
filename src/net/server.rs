//! Serving: a listening socket that makes a chat of each connection.

use std::any::TypeId;
use std::mem;
use std::rc::Rc;

use bytes::Bytes;

use crate::chat::driver::ChatDispatcher;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::log::{Escaped, log, log_throttled};
use crate::net::quota::{Full, Places};
use crate::runtime::Runtime;
use crate::sys::socket::{ListenOptions, Socket};
use crate::target::Target;
use crate::time::deadlines::Deadlines;
use crate::user_code::discard;
use crate::{Addr, AsyncChat, Channel, Chat, Dispatcher, EventLoop};

/// A service to be: where to listen, and under what limits. [`listen`](Server::listen) starts it.
///
/// ```
/// use asynchat::{Limits, Server};
/// # fn main() -> asynchat::Result {
/// let listener = Server::new("127.0.0.1:0")
///     .backlog(64)
///     .limits(Limits::default().record(512))
///     .listen(|chat| move |line: &[u8]| {
///         chat.push_slice(line);
///         chat.push("\r\n");
///         Ok(())
///     })?;
/// # listener.close();
/// asynchat::run()
/// # }
/// ```
#[must_use = "a server serves once `listen` is called"]
pub struct Server {
    place: Place,
    options: ListenOptions,
    limits: Option<Limits>,
    deadlines: Deadlines,
    last_words: Bytes,
}

enum Place {
    To(Target),
    Inherited(Socket),
}

impl Server {
    /// To listen on the first of these addresses that can be bound. A host name is looked up by
    /// [`listen`](Server::listen), which waits for it.
    pub fn new(addr: impl Into<Target>) -> Self {
        Server::at(Place::To(addr.into()))
    }

    /// To serve a socket that listens already: a `TcpListener`, on Unix also a `UnixListener`;
    /// inherited, or made with options that this builder does not have. Of the socket options set
    /// here only [`nodelay`](Server::nodelay) is applied to it.
    pub fn adopt(listener: impl Into<Socket>) -> Self {
        Server::at(Place::Inherited(listener.into()))
    }

    fn at(place: Place) -> Self {
        Server {
            place,
            options: ListenOptions::default(),
            limits: None,
            deadlines: Deadlines::default(),
            last_words: Bytes::new(),
        }
    }

    /// How many connections the system may hold that are not accepted yet. Default 4,096; the
    /// system has a cap of its own.
    pub fn backlog(mut self, connections: i32) -> Self {
        self.options.backlog = connections;
        self
    }

    /// Whether output is sent without waiting for the acknowledgement of what was sent before
    /// (TCP_NODELAY). Default true: output is gathered once a turn as it is.
    pub fn nodelay(mut self, on: bool) -> Self {
        self.options.nodelay = on;
        self
    }

    /// Whether an IPv6 address takes IPv6 clients alone. Default false: `[::]` serves IPv4 too,
    /// and tells their addresses in the IPv4 form.
    pub fn only_v6(mut self, on: bool) -> Self {
        self.options.only_v6 = on;
        self
    }

    /// Whether several processes or threads may listen on the same port, the system spreading the
    /// connections over them (SO_REUSEPORT). Default false. Windows has no such thing: there it
    /// does nothing, and the second one's `listen` fails.
    pub fn reuse_port(mut self, on: bool) -> Self {
        self.options.reuse_port = on;
        self
    }

    /// The limits of each connection, and on how many there are. Default:
    /// [those of the loop](EventLoop::set_limits).
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// The deadlines of each connection. Default: [`Deadlines::default`], which sets none: a
    /// server on an open network wants some.
    pub fn deadlines(mut self, deadlines: Deadlines) -> Self {
        self.deadlines = deadlines;
        self
    }

    /// What a client is told that is over [`Limits::connections`] or [`Limits::per_address`],
    /// before it is closed: what the protocol has for that, with its line's end. Default: nothing.
    ///
    /// ```
    /// # use asynchat::{Limits, Server};
    /// let server = Server::new("[::]:119")
    ///     .limits(Limits::default().connections(500).per_address(20))
    ///     .last_words("400 too many connections\r\n"); // RFC 3977 section 5.1.1
    /// # drop(server);
    /// ```
    pub fn last_words(mut self, reply: impl Into<Bytes>) -> Self {
        self.last_words = reply.into();
        self
    }

    /// Starts serving on this thread's loop. `factory` is called for each connection, by the
    /// loop; a panic in it ends that connection alone.
    ///
    /// # Errors
    /// When the address can not be resolved or bound, with the address and the reason.
    pub fn listen<S: AsyncChat>(self, factory: impl FnMut(Chat) -> S + 'static) -> Result<Channel> {
        self.listen_on(&EventLoop::current()?, factory)
    }

    /// Starts serving on the loop given.
    ///
    /// # Errors
    /// As [`listen`](Server::listen).
    pub fn listen_on<S: AsyncChat>(
        self,
        event_loop: &EventLoop,
        factory: impl FnMut(Chat) -> S + 'static,
    ) -> Result<Channel> {
        let channel = match self.place {
            Place::Inherited(socket) if !socket.is_listening() => {
                return Err(Error::new("the socket to serve does not listen"));
            }
            Place::Inherited(socket) => {
                let channel = Channel::adopt(socket)?;
                if !self.options.nodelay {
                    channel.0.on_socket(|socket| socket.set_nodelay(false))?;
                }
                channel
            }
            Place::To(target) => {
                let system = event_loop.0.poller.system();
                Channel::listen_with(&target, |addr| system.listen(addr, &self.options))?
            }
        };
        // Accepted sockets inherit it: no call for each.
        channel.0.set_urgent_inline();
        let limits = self.limits.map(Rc::new).or_else(|| event_loop.0.limits());
        channel.0.set_limits(limits.clone());
        event_loop.register(Acceptor {
            channel: channel.clone(),
            limits,
            deadlines: self.deadlines,
            last_words: self.last_words,
            places: Rc::default(),
            factory,
        })?;
        Ok(channel)
    }
}

/// The dispatcher of a listening socket.
struct Acceptor<F> {
    channel: Channel,
    limits: Option<Rc<Limits>>,
    deadlines: Deadlines,
    last_words: Bytes,
    places: Rc<Places>,
    factory: F,
}

impl<S: AsyncChat, F: FnMut(Chat) -> S + 'static> Dispatcher for Acceptor<F> {
    fn channel(&self) -> &Channel {
        &self.channel
    }

    fn handle_accepted(&mut self, socket: Socket, peer: Addr) -> Result {
        let Some(runtime) = self.channel.0.runtime() else {
            return Ok(());
        };
        let limits = self.limits.as_deref().unwrap_or(&Limits::DEFAULT);
        let place = match self.places.take(&peer, limits) {
            Ok(place) => place,
            Err(full) => {
                self.refuse(&runtime, socket, &peer, full);
                return Ok(());
            }
        };
        let channel = Channel::adopt_accepted(socket);
        let state = &channel.0;
        state.set_peer(peer);
        state.place.set(Some(place));
        state.announce.set(true);
        state.set_deadlines(self.deadlines);
        let chat = Chat::new(channel.clone(), self.limits.clone());
        if let Err(error) = runtime.register(state, None, TypeId::of::<S>) {
            log!(debug, %error, "a connection came too late");
            return Ok(());
        }
        state.open_span();
        // Here, so that a panic is that of the one connection and not of the listener.
        runtime.make_handler(state, || {
            ChatDispatcher::new(chat.clone(), (self.factory)(chat))
        });
        Ok(())
    }
}

impl<F> Drop for Acceptor<F> {
    fn drop(&mut self) {
        // Apart from the factory: the destructors of both may be the user's.
        discard(mem::take(&mut self.last_words));
    }
}

impl<F> Acceptor<F> {
    /// Sends a client away for whom there is no place.
    fn refuse(&self, runtime: &Rc<Runtime>, socket: Socket, peer: &Addr, full: Full) {
        runtime.counters.refused.add(1);
        log_throttled!(warn, peer = %Escaped(peer), ?full, "too many connections: refused");
        if self.last_words.is_empty() {
            return;
        }
        // The kernel's buffer for a connection that is new has room for a line.
        match socket.send(&self.last_words) {
            Ok(_) => runtime.linger_for_refused(socket, self.deadlines),
            Err(error) => log!(debug, %error, "the last words could not be sent"),
        }
    }
}

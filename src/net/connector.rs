//! Connecting: a chat to a name or an address.

use std::any::TypeId;
use std::rc::Rc;
use std::time::Duration;

use crate::chat::driver::ChatDispatcher;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::net::attempts::{ATTEMPT_DELAY, Connecting};
use crate::net::reconnect::{Reconnect, Retrying};
use crate::runtime::Runtime;
use crate::state::Phase;
use crate::sys::socket::Socket;
use crate::target::Target;
use crate::time::backoff::Backoff;
use crate::time::deadlines::Deadlines;
use crate::{AsyncChat, Channel, Chat, EventLoop};

#[derive(Debug)]
enum Place {
    To(Target),
    Connected(Socket),
}

/// A connection to be: where to, how long it may take, under what limits.
/// [`connect`](Connector::connect) starts it, once; [`reconnect`](Connector::reconnect) starts it
/// again whenever it has ended.
///
/// Several addresses are tried as RFC 8305 has it ("Happy Eyeballs"): the families in turn, in their
/// order otherwise; the next as soon as one has failed, or has not answered for an
/// [`attempt_delay`](Connector::attempt_delay). The first to be up is the connection, the other
/// attempts are dropped. However many there are, there is one outcome.
///
/// A host name is looked up by the system's resolver, on other threads: up to four for each loop, and a
/// name that several connections wait for is looked up once. A name that is not answered within the
/// [connect deadline](Connector::connect_timeout), or within 30 seconds where there is none, is a
/// failed connection. A resolver that hangs cannot be interrupted: while four names hang, others wait,
/// and fail at their deadline. Up to 1,024 names wait; one more fails at once.
///
/// ```no_run
/// use std::time::Duration;
/// use asynchat::Connector;
/// # fn main() -> asynchat::Result {
/// let chat = Connector::new("news.example.org:119")
///     .connect_timeout(Duration::from_secs(10))
///     .connect(|chat| move |line: &[u8]| {
///         println!("{}", String::from_utf8_lossy(line));
///         Ok(())
///     })?;
/// asynchat::run()
/// # }
/// ```
#[must_use = "a connector connects once `connect` or `reconnect` is called"]
#[derive(Debug)]
pub struct Connector {
    place: Place,
    manner: Manner,
}

/// How a connection is made, and what it is given.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    deadlines: Deadlines,
    limits: Option<Rc<Limits>>,
    attempt_delay: Duration,
    nodelay: bool,
}

impl Connector {
    /// To connect to this target.
    pub fn new(target: impl Into<Target>) -> Self {
        Connector::at(Place::To(target.into()))
    }

    /// To talk through a socket that is connected already: a `TcpStream`, on Unix also a
    /// `UnixStream`. asynchat's `async_chat(sock)`. It is up already, so the deadline means
    /// nothing, and its TCP_NODELAY is left as it is.
    ///
    /// ```
    /// # fn main() -> asynchat::Result {
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let addr = listener.local_addr()?;
    /// let stream = std::net::TcpStream::connect(addr)?;
    /// let chat = asynchat::Connector::adopt(stream).connect(|chat| move |line: &[u8]| {
    ///     chat.push_slice(line);
    ///     Ok(())
    /// })?;
    /// # chat.close();
    /// # asynchat::run()
    /// # }
    /// ```
    pub fn adopt(socket: impl Into<Socket>) -> Self {
        Connector::at(Place::Connected(socket.into()))
    }

    fn at(place: Place) -> Self {
        Connector {
            place,
            manner: Manner {
                deadlines: Deadlines::default(),
                limits: None,
                attempt_delay: ATTEMPT_DELAY,
                nodelay: true,
            },
        }
    }

    /// How long coming up may take: the same as setting [`Deadlines::connect`].
    pub fn connect_timeout(mut self, after: Duration) -> Self {
        self.manner.deadlines.connect = Some(after);
        self
    }

    /// The deadlines of the connection. Default: [`Deadlines::default`], which leaves it to the
    /// system how long [coming up](Deadlines::connect) may take: minutes.
    pub fn deadlines(mut self, deadlines: Deadlines) -> Self {
        self.manner.deadlines = deadlines;
        self
    }

    /// The limits of the connection. Default: [those of the loop](EventLoop::set_limits).
    pub fn limits(mut self, limits: Limits) -> Self {
        self.manner.limits = Some(Rc::new(limits));
        self
    }

    /// As [`Server::nodelay`](crate::Server::nodelay). Default true.
    pub fn nodelay(mut self, on: bool) -> Self {
        self.manner.nodelay = on;
        self
    }

    /// How long an address has to answer before the next is tried beside it: RFC 8305's Connection
    /// Attempt Delay. At least 10 ms; default 250 ms, as it recommends. [`Duration::MAX`] is one
    /// address after another, each until it fails.
    pub fn attempt_delay(mut self, delay: Duration) -> Self {
        self.manner.attempt_delay = delay;
        self
    }

    /// Starts connecting on this thread's loop. See [`EventLoop::connect`].
    ///
    /// # Errors
    /// As [`EventLoop::connect`].
    pub fn connect<S: AsyncChat>(self, factory: impl FnOnce(Chat) -> S + 'static) -> Result<Chat> {
        self.connect_on(&EventLoop::current()?, factory)
    }

    /// Starts connecting on the loop given.
    ///
    /// # Errors
    /// As [`EventLoop::connect`].
    pub fn connect_on<S: AsyncChat>(
        self,
        event_loop: &EventLoop,
        factory: impl FnOnce(Chat) -> S + 'static,
    ) -> Result<Chat> {
        let runtime = &event_loop.0;
        let chat = match self.place {
            Place::Connected(socket) if socket.is_listening() => {
                return Err(Error::new("the socket to talk through listens"));
            }
            Place::Connected(socket) if !socket.is_stream() => {
                return Err(Error::new(
                    "records are cut from a stream: datagrams are for a Dispatcher",
                ));
            }
            Place::Connected(socket) => {
                let channel = Channel::adopt(socket)?;
                channel.0.set_urgent_inline();
                self.manner.take_in(runtime, channel, TypeId::of::<S>)?
            }
            Place::To(target) => self.manner.start(runtime, &target, TypeId::of::<S>)?,
        };
        let handle = chat.clone();
        runtime.call_soon(Box::new(move |runtime| {
            make_session(runtime, handle, factory)
        }));
        Ok(chat)
    }

    /// Connects on this thread's loop, and again whenever the connection has ended or could not be
    /// made, after a pause that grows while it does not last: see [`Backoff`]. Each time the factory
    /// makes a fresh session, with a fresh [`Chat`]; both are told of their own connection alone, as
    /// with [`connect`](Connector::connect), also when it does not come up.
    ///
    /// It ends
    ///
    /// * when this side has closed the connection: [`Close::Local`](crate::Close::Local), by
    ///   [`close`](crate::Channel::close) or [`close_when_done`](Chat::close_when_done);
    /// * when the loop is shut down, or [closes all](EventLoop::close_all);
    /// * when it is told to [`stop`](Reconnect::stop).
    ///
    /// Whatever else ends a connection does not end it, not even a callback that fails or panics: a
    /// session that wants another try returns an error. The factory is dropped when it ends. Until
    /// then [`run`](crate::run) does not return.
    ///
    /// ```no_run
    /// use asynchat::{AsyncChat, Backoff, Chat, Connector, Result};
    ///
    /// struct Reader { chat: Chat }
    ///
    /// impl AsyncChat for Reader {
    ///     fn handle_connect(&mut self) -> Result {
    ///         self.chat.push("SUBSCRIBE news\r\n");
    ///         Ok(())
    ///     }
    ///     fn found_terminator(&mut self, line: &[u8]) -> Result {
    ///         println!("{}", String::from_utf8_lossy(line));
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() -> Result {
    /// Connector::new("feed.example.org:7007").reconnect(Backoff::default(), |chat| Reader { chat })?;
    /// asynchat::run()
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`EventLoop::connect`], of the first connection; and when there is nothing to connect to
    /// again, because the connector [adopts](Connector::adopt) a socket.
    pub fn reconnect<S: AsyncChat>(
        self,
        backoff: Backoff,
        factory: impl FnMut(Chat) -> S + 'static,
    ) -> Result<Reconnect> {
        self.reconnect_on(&EventLoop::current()?, backoff, factory)
    }

    /// As [`reconnect`](Connector::reconnect), on the loop given.
    ///
    /// # Errors
    /// As [`reconnect`](Connector::reconnect).
    pub fn reconnect_on<S: AsyncChat>(
        self,
        event_loop: &EventLoop,
        backoff: Backoff,
        mut factory: impl FnMut(Chat) -> S + 'static,
    ) -> Result<Reconnect> {
        let Place::To(target) = self.place else {
            return Err(Error::new(
                "a socket that was adopted can not be connected again",
            ));
        };
        let (runtime, manner) = (&event_loop.0, self.manner);
        let start = move |runtime: &Rc<Runtime>| manner.start(runtime, &target, TypeId::of::<S>);
        let make = move |runtime: &Runtime, chat| make_session(runtime, chat, &mut factory);
        Retrying::begin(runtime, backoff, Box::new(start), Box::new(make))
    }
}

impl Manner {
    /// Begins a connection, whose handler is still to be made.
    fn start(
        &self,
        runtime: &Rc<Runtime>,
        target: &Target,
        handler: fn() -> TypeId,
    ) -> Result<Chat> {
        let (delay, nodelay) = (self.attempt_delay, self.nodelay);
        let resolving = || Connecting::resolving(target.to_string(), delay, nodelay);
        if let Some((host, port)) = target.to_look_up() {
            let chat = self.take_in(runtime, Channel::connecting(resolving()), handler)?;
            chat.0.look_up(runtime, host, port);
            return Ok(chat);
        }
        match target.addrs() {
            Ok(addrs) if addrs.is_empty() => Err(Error::new("no address to connect to")),
            Ok(addrs) => {
                let connecting = Connecting::new(addrs, delay, nodelay);
                self.take_in(runtime, Channel::connecting(connecting), handler)
            }
            Err(error) => {
                let chat = self.take_in(runtime, Channel::connecting(resolving()), handler)?;
                chat.0.resolved(Err(error));
                Ok(chat)
            }
        }
    }

    fn take_in(
        &self,
        runtime: &Rc<Runtime>,
        channel: Channel,
        handler: fn() -> TypeId,
    ) -> Result<Chat> {
        let state = Rc::clone(&channel.0);
        state.announce.set(state.phase.get() == Phase::Open);
        state.set_deadlines(self.deadlines);
        let chat = Chat::new(channel, self.limits.clone().or_else(|| runtime.limits()));
        runtime.register(&state, None, handler)?;
        state.unborn.set(true);
        state.open_span();
        Ok(chat)
    }
}

/// Has the factory make the session of a chat, here, in the loop.
fn make_session<S: AsyncChat>(runtime: &Runtime, chat: Chat, factory: impl FnOnce(Chat) -> S) {
    let state = Rc::clone(&chat.0);
    runtime.make_handler(&state, || ChatDispatcher::new(chat.clone(), factory(chat)));
}

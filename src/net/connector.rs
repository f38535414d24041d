//! Connecting: a chat to a host name or an address.

use std::any::TypeId;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::channel::attempts::{Attempts, Options};
use crate::channel::handle::{Channel, local_addrs};
use crate::channel::unix_attempt::UnixAttempt;
use crate::chat::handle::Chat;
use crate::chat::into_session::IntoSession;
use crate::error::{Error, Result};
use crate::event_loop::EventLoop;
use crate::limits::Limits;
use crate::log::log;
#[cfg(feature = "proxy-protocol")]
use crate::net::announcement::Announcement;
use crate::net::endpoint::{Endpoint, PendingSession, Settings};
use crate::net::reconnect::{Reconnect, Retrier};
#[cfg(feature = "proxy-protocol")]
use crate::proxy_protocol::Header;
use crate::runtime::Runtime;
#[cfg(feature = "tls-no-provider")]
use crate::stage::client::Client;
use crate::state::connect::Connect;
use crate::state::inbox::Post;
use crate::state::{ChannelId, ChannelState, Phase};
use crate::sys::socket::{Configure, Socket};
use crate::sys::system::Resolution;
use crate::target::Target;
use crate::time::backoff::Backoff;
use crate::time::deadlines::Deadlines;

/// A builder for outgoing connections: the target, the deadlines and the limits.
/// [`connect`](Connector::connect) makes one connection. [`reconnect`](Connector::reconnect) makes
/// another each time that a connection has ended.
///
/// Several addresses are tried as in RFC 8305 ("Happy Eyeballs"). The address families alternate, and
/// within a family the order stays. The next address is tried as soon as an attempt has failed, or when
/// the [attempt delay](Connector::attempt_delay) is over. The first attempt that succeeds is the
/// connection, and the others are closed. The session gets exactly one outcome.
///
/// The system's resolver looks host names up, on up to four threads of the loop. A name that several
/// connections wait for is looked up once. A connection fails if its name has not been resolved within
/// the [connect deadline](Connector::connect_timeout), or within 30 seconds if there is none. A call of
/// the resolver cannot be interrupted: while four names get no answer, other names wait, and their
/// connections fail at their own deadlines. At most 1,024 names wait; a connection to one more fails at
/// once.
///
/// ```no_run
/// use std::time::{Duration, Instant};
/// use asynchat::Connector;
/// # fn main() -> asynchat::Result {
/// let chat = Connector::new("news.example.org:119")
///     .connect_timeout(Duration::from_secs(10))
///     .connect(|chat| move |line: &[u8]| {
///         println!("{}", String::from_utf8_lossy(line));
///         Ok(())
///     })?;
/// asynchat::run()?;
/// Ok(())
/// # }
/// ```
#[must_use = "a connector does nothing until `connect` or `reconnect` is called"]
#[derive(Debug)]
pub struct Connector {
    endpoint: Endpoint,
    settings: Settings,
    options: Options,
    /// The local addresses, which are parsed when the connection is begun.
    local: Option<Target>,
    #[cfg(feature = "tls-no-provider")]
    tls: Option<Client>,
    #[cfg(feature = "proxy-protocol")]
    proxy_header: Option<Header>,
}

impl Connector {
    /// Connects to this target: an address, several addresses, a host name with a port, or the path of a
    /// Unix-domain socket.
    pub fn new(target: impl Into<Target>) -> Self {
        Connector::with(Endpoint::Target(target.into()))
    }

    /// Uses a socket that is connected already: a `TcpStream`, on Unix also a `UnixStream` and
    /// whatever else a [`Socket`] is made from. Python: `async_chat(sock)`. For a socket whose connect is still
    /// in progress, see [`Socket::connecting`].
    ///
    /// The connect deadline applies only to a socket that is connecting. The attempt delay does not apply, and [`nodelay`](Connector::nodelay)
    /// does not change the socket's TCP_NODELAY. The loop calls
    /// [`handle_connect`](crate::AsyncChat::handle_connect) in its next turn.
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
    /// # asynchat::run()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn adopt(socket: impl Into<Socket>) -> Self {
        Connector::with(Endpoint::Adopted(socket.into()))
    }

    fn with(endpoint: Endpoint) -> Self {
        Connector {
            endpoint,
            settings: Settings {
                limits: None,
                deadlines: Deadlines::default(),
                stage: None,
            },
            options: Options::for_chat(),
            local: None,
            #[cfg(feature = "tls-no-provider")]
            tls: None,
            #[cfg(feature = "proxy-protocol")]
            proxy_header: None,
        }
    }

    /// Sets how long connecting may take, the look-up of the host name included. The same as
    /// [`Deadlines::connect`]. `None`, the default, sets no deadline, so that the system's own applies, which is
    /// minutes.
    pub fn connect_timeout(mut self, after: impl Into<Option<Duration>>) -> Self {
        self.settings.deadlines.connect = after.into();
        self
    }

    /// Sets the deadlines of the connection. Default: [`Deadlines::default`], which sets none. A
    /// [`connect_timeout`](Connector::connect_timeout) stays, unless these have a connect deadline.
    pub fn deadlines(mut self, deadlines: Deadlines) -> Self {
        let connect = deadlines.connect.or(self.settings.deadlines.connect);
        self.settings.deadlines = deadlines.connect(connect);
        self
    }

    /// Sets the limits of the connection. Default: [the limits of the loop](EventLoop::set_limits).
    pub fn limits(mut self, limits: Limits) -> Self {
        self.settings.limits = Some(Rc::new(limits));
        self
    }

    /// Sets TCP_NODELAY: whether output is sent at once, without waiting for the acknowledgement of
    /// earlier output. Default true, as for [`Server::nodelay`](crate::Server::nodelay).
    pub fn nodelay(mut self, on: bool) -> Self {
        self.options.socket.nodelay = on;
        self
    }

    /// Sets the address to connect from: an IP address of this host, and a port, which is 0 for any free port.
    /// A name is not looked up. With several addresses the first of each address family is used. Default: the
    /// system chooses.
    ///
    /// Addresses of the target whose family has no local address are skipped. If all of them are, the connection
    /// fails, and its error says so. A port that is not 0 is bound with SO_REUSEADDR (not on Windows), because
    /// connections of this port to other peers may exist.
    ///
    /// ```no_run
    /// # use asynchat::Connector;
    /// # fn main() -> asynchat::Result {
    /// // The data connection of an FTP server in active mode comes from port 20 (RFC 959 section 3.2).
    /// let chat = Connector::new("192.0.2.7:5001")
    ///     .bind("192.0.2.1:20")
    ///     .connect(|_| |_: &[u8]| Ok(()))?;
    /// # Ok(()) }
    /// ```
    pub fn bind(mut self, local: impl Into<Target>) -> Self {
        self.local = Some(local.into());
        self
    }

    /// Sets a function that sets options of each new socket before it is bound and connected: a device, a
    /// traffic class, the size of buffers. [`SockRef`] has all options that the system has. A connection may
    /// try several addresses, each with a socket of its own.
    ///
    /// If the function returns an error or panics, that attempt fails. The function is not called for an
    /// [adopted](Connector::adopt) socket, whose options can be set before, and not in the
    /// [simulator](crate::sim), whose sockets have none.
    ///
    /// ```no_run
    /// # use asynchat::Connector;
    /// # fn main() -> asynchat::Result {
    /// let chat = Connector::new("news.example.org:119")
    ///     .configure(|socket| {
    ///         socket.set_recv_buffer_size(1 << 20)?;
    ///         socket.set_keepalive(true)
    ///     })
    ///     .connect(|_| |_: &[u8]| Ok(()))?;
    /// # Ok(()) }
    /// ```
    pub fn configure(
        mut self,
        configure: impl Fn(&SockRef<'_>) -> io::Result<()> + 'static,
    ) -> Self {
        self.options.socket.configure = Some(Configure::new(configure));
        self
    }

    /// Uses TLS on the connection. Takes an `Arc<ClientConfig>`, or a [`tls::Client`](crate::tls::Client) with a name.
    /// The certificate of the server has to be for that name; without one, for the host name or the address of the
    /// target. The loop calls [`handle_connect`](crate::AsyncChat::handle_connect) when the handshake is complete. What was
    /// pushed before is sent then. If the handshake fails, the reason is
    /// [`Close::ConnectFailed`](crate::Close::ConnectFailed), whose error says why, and with which address. A failed
    /// handshake is final: further addresses of the target are not tried.
    ///
    /// Needs the feature `tls` or `tls-no-provider`.
    ///
    /// With TLS 1.3 a client does not wait for the server's opinion of its certificate. A server that demands one and
    /// does not accept it therefore ends the connection after `handle_connect`, with
    /// [`Close::Tls`](crate::Close::Tls). Wait for the first reply before you report success.
    ///
    /// ```no_run
    /// use asynchat::{Connector, tls};
    ///
    /// # fn main() -> asynchat::Result {
    /// let roots = tls::roots_from_file("/etc/ssl/certs/ca-certificates.crt")?;
    /// let chat = Connector::new("news.example.org:563")
    ///     .tls(tls::client_config(roots)?)
    ///     .connect(|chat| move |line: &[u8]| {
    ///         println!("{}", String::from_utf8_lossy(line));
    ///         Ok(())
    ///     })?;
    /// # drop(chat);
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "tls-no-provider")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn tls(mut self, client: impl Into<Client>) -> Self {
        self.tls = Some(client.into());
        self
    }

    /// Sends this PROXY header before TLS and before everything that is pushed. A proxy tells the server with it who
    /// the client is: the server has to [expect it](crate::Server::proxy_protocol). With
    /// [`reconnect`](Connector::reconnect) each connection has it. The connection is up when the kernel has accepted
    /// the header, which the [connect deadline](Connector::connect_timeout) includes. Its bytes do not count in any
    /// statistics. An [adopted](Connector::adopt) socket has to be a stream socket.
    ///
    /// Needs the feature `proxy-protocol`.
    ///
    /// ```no_run
    /// use asynchat::proxy_protocol::{Header, Version};
    /// use asynchat::{Chat, Connector, Result};
    ///
    /// /// Connects to the server for this client.
    /// fn forward(client: &Chat) -> Result<Chat> {
    ///     let (Some(from), Some(to)) = (client.peer_addr(), client.local_addr()) else {
    ///         return Err("the client is gone".into());
    ///     };
    ///     Ok(Connector::new("10.0.0.1:119")
    ///         .proxy_protocol(Header::new(Version::V2, from, to))
    ///         .connect(|_| |_: &[u8]| Ok(()))?)
    /// }
    /// # fn main() {}
    /// ```
    #[cfg(feature = "proxy-protocol")]
    #[cfg_attr(docsrs, doc(cfg(feature = "proxy-protocol")))]
    pub fn proxy_protocol(mut self, header: Header) -> Self {
        self.proxy_header = Some(header);
        self
    }

    /// Prepares TLS, for the name of the target if no other was given.
    #[cfg_attr(
        not(feature = "tls-no-provider"),
        allow(
            unused_mut,
            clippy::unnecessary_wraps,
            reason = "without TLS there is nothing to prepare"
        )
    )]
    fn prepared(mut self) -> Result<Self, Error> {
        #[cfg(feature = "tls-no-provider")]
        if let Some(client) = self.tls.take() {
            let name = match &self.endpoint {
                Endpoint::Target(target) => target.certificate_name(),
                Endpoint::Adopted(_) => None,
            };
            self.settings.stage = Some(client.prepare(name.as_deref())?);
        }
        Ok(self)
    }

    /// Sets how long an attempt may take before the next address is tried as well: the Connection
    /// Attempt Delay of RFC 8305 section 5. Default 250 ms, as recommended there; less than 10 ms counts
    /// as 10 ms. With [`Duration::MAX`] the next address is tried only after an attempt has failed.
    pub fn attempt_delay(mut self, delay: Duration) -> Self {
        self.options.delay = delay;
        self
    }

    /// Begins to connect, on this thread's loop. Otherwise as [`EventLoop::connect`].
    ///
    /// # Errors
    /// As [`connect_on`](Connector::connect_on), and as [`EventLoop::current`].
    pub fn connect<I: IntoSession>(
        self,
        factory: impl FnOnce(Chat) -> I + 'static,
    ) -> Result<Chat, Error> {
        self.connect_on(&EventLoop::current()?, factory)
    }

    /// Begins to connect, on the loop given. Otherwise as [`EventLoop::connect`].
    ///
    /// # Errors
    /// When the loop is shutting down, when the target is no address at all (a text without a port, an empty list),
    /// when the
    /// [local address](Connector::bind) is not an IP address with a port, or the target is a path, or when the
    /// adopted socket listens, is a datagram socket, or cannot be made non-blocking. Whatever goes wrong later is
    /// the outcome of the connection: [`Close::ConnectFailed`](crate::Close::ConnectFailed).
    pub fn connect_on<I: IntoSession>(
        self,
        event_loop: &EventLoop,
        factory: impl FnOnce(Chat) -> I + 'static,
    ) -> Result<Chat, Error> {
        let runtime = &event_loop.0;
        let session = TypeId::of::<I::Session>;
        let connector = self.prepared()?;
        let options = bound(connector.options, connector.local.as_ref())?;
        let settings = connector.settings;
        #[cfg(feature = "proxy-protocol")]
        let header = connector.proxy_header;
        let chat = match connector.endpoint {
            Endpoint::Target(target) => connect_to(runtime, &target, &settings, options, session)?,
            Endpoint::Adopted(socket) => {
                #[cfg(feature = "proxy-protocol")]
                let socket = match &header {
                    Some(_) if !socket.can_connect() => {
                        return Err(Error::new("a PROXY header needs a stream socket"));
                    }
                    // It is up when the header is sent.
                    Some(_) => Socket::connecting(socket),
                    None => socket,
                };
                settings.register(runtime, adopt(socket)?, session)?
            }
        };
        #[cfg(feature = "proxy-protocol")]
        announce(&chat, header.as_ref());
        let pending = PendingSession(chat.clone());
        runtime.call_soon(move |runtime| pending.make_session(runtime, factory));
        Ok(chat)
    }

    /// Connects on this thread's loop, and connects again each time that the connection has ended or
    /// could not be made. Between two connections there is a pause, which grows as long as no connection
    /// lasts: see [`Backoff`]. The factory makes a new session with a new [`Chat`] for each connection.
    /// Each session gets the callbacks of its own connection, as with [`connect`](Connector::connect);
    /// if the connection does not come up, that is `handle_close` alone.
    ///
    /// There is no further connection after
    ///
    /// * this side has closed one ([`Close::Local`](crate::Close::Local) or
    ///   [`Close::Dropped`](crate::Close::Dropped)), with
    ///   [`close`](crate::Chat::close) or [`close_when_done`](Chat::close_when_done);
    /// * [`close`](crate::Chat::close) was called in `handle_close`, because the reason is one that another connection
    ///   cannot change;
    /// * the loop was shut down, or [all its channels were closed](EventLoop::close_all);
    /// * a call of [`Reconnect::stop`];
    /// * as many failed connections in a row as [`Backoff::tries`] allows.
    ///
    /// [`Reconnect::outcome`] tells whether it gave up, and [`Reconnect::on_end`] calls a function then.
    ///
    /// Any other end is followed by a new connection, also that of a callback that has failed or panicked.
    /// A session that wants a new connection therefore returns an error. The loop drops the factory after
    /// the last connection. Until then [`run`](crate::run) does not return.
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
    /// asynchat::run()?;
    /// Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`reconnect_on`](Connector::reconnect_on), and as [`EventLoop::current`].
    pub fn reconnect<I: IntoSession>(
        self,
        backoff: Backoff,
        factory: impl FnMut(Chat) -> I + 'static,
    ) -> Result<Reconnect, Error> {
        self.reconnect_on(&EventLoop::current()?, backoff, factory)
    }

    /// As [`reconnect`](Connector::reconnect), on the loop given.
    ///
    /// # Errors
    /// Those of [`connect_on`](Connector::connect_on), for the first connection only; and when the
    /// connector [adopts](Connector::adopt) a socket, which cannot be connected again.
    pub fn reconnect_on<I: IntoSession>(
        self,
        event_loop: &EventLoop,
        backoff: Backoff,
        mut factory: impl FnMut(Chat) -> I + 'static,
    ) -> Result<Reconnect, Error> {
        let connector = self.prepared()?;
        let Endpoint::Target(target) = connector.endpoint else {
            return Err(Error::new("an adopted socket cannot be connected again"));
        };
        let settings = connector.settings;
        let options = bound(connector.options, connector.local.as_ref())?;
        #[cfg(feature = "proxy-protocol")]
        let header = connector.proxy_header;
        let connect = move |runtime: &Rc<Runtime>| {
            let session = TypeId::of::<I::Session>;
            let chat = connect_to(runtime, &target, &settings, options.clone(), session)?;
            #[cfg(feature = "proxy-protocol")]
            announce(&chat, header.as_ref());
            Ok(chat)
        };
        let make = move |runtime: &Runtime, pending: PendingSession| {
            pending.make_session(runtime, &mut factory);
        };
        Retrier::start(&event_loop.0, backoff, Box::new(connect), Box::new(make))
    }
}

impl EventLoop {
    /// Connects to `target`. The loop calls `factory`, which returns the [session](IntoSession). When the
    /// connection is up, the loop calls the session's `handle_connect`. If the connection fails, it calls
    /// `handle_close` with [`Close::ConnectFailed`](crate::Close::ConnectFailed). [`Connector`] has options.
    ///
    /// The returned chat may be used at once, although the factory is called later, in the next turn. What is
    /// pushed to it is sent when the connection is up, after everything that the factory has pushed. A
    /// terminator, limits or deadlines that are set on it replace those that the factory has set.
    ///
    /// # Errors
    /// When the loop is shutting down, or `target` is no address at all: a text without a port, or an empty list.
    pub fn connect<I: IntoSession>(
        &self,
        target: impl Into<Target>,
        factory: impl FnOnce(Chat) -> I + 'static,
    ) -> Result<Chat, Error> {
        Connector::new(target).connect_on(self, factory)
    }
}

/// [`EventLoop::connect`] on this thread's loop.
///
/// ```no_run
/// # fn main() -> asynchat::Result {
/// let chat = asynchat::connect("news.example.org:119", |chat| move |line: &[u8]| {
///     println!("{}", String::from_utf8_lossy(line));
///     Ok(())
/// })?;
/// chat.push("DATE\r\nQUIT\r\n");
/// asynchat::run()?;
/// Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`EventLoop::connect`].
pub fn connect<I: IntoSession>(
    target: impl Into<Target>,
    factory: impl FnOnce(Chat) -> I + 'static,
) -> Result<Chat, Error> {
    EventLoop::current()?.connect(target, factory)
}

fn bound(mut options: Options, local: Option<&Target>) -> Result<Options, Error> {
    if let Some(local) = local {
        options.socket.local = local_addrs(local)?;
    }
    Ok(options)
}

/// A channel for a connected stream.
fn adopt(socket: Socket) -> Result<Channel, Error> {
    if socket.is_listening() {
        return Err(Error::new("a listening socket has no peer to talk to"));
    }
    if !socket.is_stream() {
        return Err(Error::new(
            "a chat needs a stream: register a Dispatcher for a datagram socket",
        ));
    }
    if socket.is_connecting()
        && let Err(error) = socket.set_urgent_inline()
    {
        log!(debug, %error, "SO_OOBINLINE is not set");
    }
    let channel = Channel::adopt(socket)?;
    channel.0.set_urgent_inline();
    Ok(channel)
}

/// Begins a connection, whose session is still to be made.
fn connect_to(
    runtime: &Rc<Runtime>,
    target: &Target,
    settings: &Settings,
    options: Options,
    session: fn() -> TypeId,
) -> Result<Chat, Error> {
    let context = |error| Error::new(error).context(format_args!("connect to {target}"));
    target.check().map_err(context)?;
    let channel = Channel(Rc::new(ChannelState::new(None, Phase::Connecting)));
    #[cfg(feature = "tls-no-provider")]
    channel.0.set_target_name(target.certificate_name());
    if let Some(name) = target.unix() {
        let attempt = UnixAttempt::new(name, options)?;
        let chat = settings.register(runtime, channel, session)?;
        chat.state().begin_connecting(Box::new(attempt));
        return Ok(chat);
    }
    let mut attempts = attempts_for(target, runtime.now(), options)?;
    let chat = settings.register(runtime, channel, session)?;
    if let Some((host, port)) = target.to_look_up() {
        look_up(runtime, chat.id(), host, port, &mut attempts);
    }
    chat.state().begin_connecting(Box::new(attempts));
    Ok(chat)
}

/// Sends a header on the connection when it has been made.
#[cfg(feature = "proxy-protocol")]
fn announce(chat: &Chat, header: Option<&Header>) {
    if let Some(header) = header {
        let wrap = |attempts| Box::new(Announcement::new(attempts, header)) as _;
        chat.state().wrap_connect(wrap);
    }
}

fn attempts_for(target: &Target, now: Instant, options: Options) -> Result<Attempts, Error> {
    if target.to_look_up().is_some() {
        return Ok(Attempts::resolving(target.to_string(), now, options));
    }
    match target.addrs() {
        Ok(addrs) if addrs.is_empty() => Err(Error::new("no address to connect to")),
        Ok(addrs) => Ok(Attempts::new(addrs, options)),
        Err(error) => {
            let mut failed = Attempts::resolving(target.to_string(), now, options);
            failed.resolved(Err(error));
            Ok(failed)
        }
    }
}

/// Makes the resolver look up a host name for the attempts of channel `id`.
fn look_up(runtime: &Runtime, id: ChannelId, host: &str, port: u16, attempts: &mut Attempts) {
    let inbox = Arc::clone(&runtime.agenda.inbox);
    let reply = move |outcome: io::Result<Vec<SocketAddr>>| {
        let outcome = outcome.map(|mut addrs| {
            addrs.iter_mut().for_each(|addr| addr.set_port(port));
            addrs
        });
        // It fails if the loop is gone. Then the connection is gone as well.
        let _ = inbox.send(Post::Resolved(id, outcome));
    };
    match runtime.poller.system().resolve(host, port) {
        Resolution::AskResolver => match runtime.resolver.look_up(host, Box::new(reply)) {
            Ok(ticket) => attempts.set_ticket(ticket),
            Err(error) => attempts.resolved(Err(error)),
        },
        Resolution::Known(outcome) => attempts.resolved(outcome),
        Resolution::NoAnswer => {}
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    use super::*;
    use crate::runtime::Runtime;
    use crate::sys::poller::Poller;
    use crate::sys::resolver::Resolver;
    use crate::{AsyncChat, Close, Connector, EventLoop, Result};

    type Ends = Rc<RefCell<Vec<String>>>;

    struct Ending(&'static str, Ends);

    impl AsyncChat for Ending {
        fn found_terminator(&mut self, _: &[u8]) -> Result {
            Ok(())
        }
        fn handle_close(&mut self, why: &Close) {
            self.1.borrow_mut().push(format!("{}: {why}", self.0));
        }
    }

    /// A resolver that hangs has four threads, however many names there are. A connection that waits
    /// for it fails at its deadline, and a connection that is closed ends at once.
    #[test]
    fn a_resolver_that_hangs_delays_no_connection_beyond_its_deadline() -> Result {
        let ((hung, hangs), begun) = (channel::<()>(), Arc::new(AtomicUsize::new(0)));
        let (hangs, begin) = (std::sync::Mutex::new(hangs), Arc::clone(&begun));
        let resolver = Resolver::new(move |_| {
            begin.fetch_add(1, Ordering::SeqCst);
            // Until the end of the test.
            drop(hangs.lock().map(|hangs| hangs.recv()));
            Ok(Vec::new())
        });
        let event_loop = EventLoop(Runtime::with_resolver(Poller::new()?, resolver));
        let ends = Ends::default();
        let connect = |host: &'static str, n: usize, after: u64| {
            let connector = Connector::new((format!("{host}{n}"), 119))
                .connect_timeout(Duration::from_millis(after));
            let ending = Ending(host, Rc::clone(&ends));
            connector.connect_on(&event_loop, |_| ending)
        };
        let mut hanging = Vec::new();
        for n in 0..100 {
            hanging.push(connect("hung", n, 3_600_000)?);
        }
        let closed = connect("closed", 0, 3_600_000)?;
        let _late = connect("late", 0, 50)?;
        closed.close();
        while ends.borrow().len() < 2 {
            event_loop.run_once(None)?;
        }
        let late = "late: could not connect: look up late0:119: timed out";
        assert_eq!(
            *ends.borrow(),
            [
                "closed: closed by this side before everything was sent",
                late
            ]
        );
        event_loop.close_all();
        event_loop.run()?;
        assert_eq!(ends.borrow().len(), 102);
        assert!(begun.load(Ordering::SeqCst) <= 4);
        drop(hung);
        Ok(())
    }
}

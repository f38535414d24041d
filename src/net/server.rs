//! Serving: a listening socket whose connections become chats.

use std::any::TypeId;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use socket2::SockRef;

use crate::Addr;
use crate::channel::handle::Channel;
use crate::chat::handle::Chat;
use crate::chat::into_session::IntoSession;
use crate::error::{Close, Error, Result};
use crate::event_loop::EventLoop;
use crate::limits::Limits;
use crate::net::accept::{ListenerDriver, Rules};
use crate::net::endpoint::{Endpoint, Settings};
use crate::net::policy::Policy;
use crate::net::receiver::{Arriving, Receiver};
#[cfg(feature = "proxy-protocol")]
use crate::proxy_protocol::Network;
use crate::runtime::Runtime;
use crate::runtime::driver::Driver;
#[cfg(feature = "tls-no-provider")]
use crate::stage::acceptor::Acceptor as TlsAcceptor;
use crate::state::quota::Quota;
use crate::sys::socket::{Configure, ListenOptions, Socket};
use crate::target::Target;
use crate::time::deadlines::Deadlines;

/// A builder for a listening socket and the connections that it accepts: options, limits and
/// deadlines. [`listen`](Server::listen) starts it.
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
/// asynchat::run()?;
/// Ok(())
/// # }
/// ```
#[must_use = "a server does nothing until `listen` is called"]
pub struct Server {
    endpoint: Endpoint,
    options: ListenOptions,
    settings: Settings,
    rules: Rules,
    policy: Policy,
}

impl Server {
    /// Listens on the first of the target's addresses that can be bound. Port 0 is a free port, which
    /// the [`local_addr`](Channel::local_addr) of the listening channel names. If the target is a host
    /// name, [`listen`](Server::listen) blocks while it is looked up.
    ///
    /// The file of a Unix-domain socket is removed when the listener closes, unless its path has another file by
    /// then. A file that a process left behind which was killed is replaced: nobody listens on it. If somebody
    /// does, or if the file is no socket, `listen` fails.
    pub fn new(addr: impl Into<Target>) -> Self {
        Server::with(Endpoint::Target(addr.into()))
    }

    /// Uses a socket that listens already: a `TcpListener`, on Unix also a `UnixListener`. It may be
    /// inherited, or have options that this builder does not offer. Of the socket options of this
    /// builder only [`nodelay`](Server::nodelay) is applied to it.
    pub fn adopt(listener: impl Into<Socket>) -> Self {
        Server::with(Endpoint::Adopted(listener.into()))
    }

    fn with(endpoint: Endpoint) -> Self {
        Server {
            endpoint,
            options: ListenOptions::default(),
            settings: Settings {
                limits: None,
                deadlines: Deadlines::default(),
                stage: None,
            },
            rules: Rules::default(),
            policy: Policy::default(),
        }
    }

    /// Sets the backlog: how many connections may wait in the kernel to be accepted. Default 4,096. The
    /// system lowers it to a bound of its own (on Linux `net.core.somaxconn`).
    pub fn backlog(mut self, connections: u32) -> Self {
        self.options.backlog = i32::try_from(connections).unwrap_or(i32::MAX);
        self
    }

    /// Sets the mode of the file of a Unix-domain socket, for example `0o660`. It is set before the first
    /// client can connect, and never through a symbolic link. On Linux and macOS a client needs write
    /// permission. Default: what the umask of the process leaves of `0o777`. A mode that the umask would not leave
    /// needs `/proc` on Linux: without it `listen` fails. TCP and abstract names have no file.
    #[cfg(unix)]
    #[cfg_attr(docsrs, doc(cfg(unix)))]
    pub fn socket_mode(mut self, mode: u32) -> Self {
        self.options.unix_mode = Some(mode);
        self
    }

    /// Sets TCP_NODELAY on the accepted connections: whether output is sent at once, without waiting for
    /// the acknowledgement of earlier output (Nagle's algorithm). Default true: the output of a turn is
    /// gathered in any case.
    pub fn nodelay(mut self, on: bool) -> Self {
        self.options.nodelay = on;
        self
    }

    /// Sets IPV6_V6ONLY: whether an IPv6 address accepts IPv6 clients only. Default false: `[::]` accepts
    /// IPv4 clients as well, and their [`Addr`](crate::Addr) is an IPv4 address. OpenBSD and DragonFly have no
    /// sockets of both families: there an IPv6 address accepts IPv6 clients only, whatever this setting is.
    pub fn only_v6(mut self, on: bool) -> Self {
        self.options.only_v6 = on;
        self
    }

    /// Sets SO_REUSEPORT (on FreeBSD SO_REUSEPORT_LB): whether several processes or threads may listen on the
    /// same port. Default false. Linux, Android, FreeBSD and DragonFly spread the connections over them. macOS,
    /// OpenBSD and NetBSD give all connections to one of them. Windows, Solaris and illumos have no such option:
    /// there this setting has no effect, and `listen` fails for the second listener.
    pub fn reuse_port(mut self, on: bool) -> Self {
        self.options.reuse_port = on;
        self
    }

    /// Sets the limits of each connection, and on the number of connections. Default:
    /// [the limits of the loop](EventLoop::set_limits) when `listen` is called. A listener that is open keeps its limits.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.settings.limits = Some(Rc::new(limits));
        self
    }

    /// Sets the deadlines of each connection. Default: [`Deadlines::default`], which sets none. A server
    /// on an open network needs some.
    pub fn deadlines(mut self, deadlines: Deadlines) -> Self {
        self.settings.deadlines = deadlines;
        self
    }

    /// Sets the reply to a client above [`Limits::connections`] or [`Limits::per_address`], which is sent
    /// before the connection is closed: the protocol's own reply for this case, with its line ending.
    /// Default: none, the connection is closed at once.
    ///
    /// With [TLS](Server::tls) the reply would be in clear, and the client expects a handshake. It gets the alert
    /// `internal_error` instead, if any refusal is set.
    ///
    /// ```
    /// # use asynchat::{Limits, Server};
    /// let server = Server::new("[::]:119")
    ///     .limits(Limits::default().connections(500).per_address(20))
    ///     .refusal("400 too many connections\r\n"); // RFC 3977 section 5.1.1
    /// # drop(server);
    /// ```
    pub fn refusal(mut self, reply: impl Into<Bytes>) -> Self {
        self.policy.refusal = reply.into();
        self
    }

    /// Sets which clients are accepted: the loop calls `accepts` with the address of each. The connection of a
    /// client for which it returns false is closed at once, without a session and without the
    /// [refusal](Server::refusal), which is the reply to too many connections. The client sees that its
    /// connection came up and ended. Such a connection does not count for [`Limits`];
    /// [`LoopStats::refused`](crate::LoopStats::refused) counts it. If `accepts` panics, that connection is
    /// refused. Default: all clients.
    ///
    /// To send a reply before the close, accept the client, and let the factory push the reply and return an
    /// error: see [`IntoSession`].
    ///
    /// Behind a proxy (`proxy_protocol`) `accepts` is called when the client is known, with its address.
    ///
    /// ```
    /// # use asynchat::Server;
    /// // Only hosts of the local network.
    /// let server = Server::new("[::]:7007").accept_if(|peer| match peer.ip() {
    ///     Some(std::net::IpAddr::V4(ip)) => ip.is_private() || ip.is_loopback(),
    ///     Some(std::net::IpAddr::V6(ip)) => ip.is_unique_local() || ip.is_loopback(),
    ///     None => false,
    /// });
    /// # drop(server);
    /// ```
    pub fn accept_if(self, accepts: impl FnMut(&Addr) -> bool + 'static) -> Self {
        self.policy.accept_if.set(Some(Box::new(accepts)));
        self
    }

    /// Sets a function that sets options of each accepted socket, before its session is made. [`SockRef`] has
    /// all options that the system has. If the function returns an error or panics, that connection is
    /// closed, and the kind and the text of the error are logged. It is not called in the [simulator](crate::sim),
    /// whose sockets have no options. The blocking mode is not an option of yours: it is set again afterwards.
    ///
    /// On most systems an accepted socket inherits its options from the listening one. Options that are the
    /// same for all connections cost no system call for each if they are set on a socket that is
    /// [adopted](Server::adopt).
    ///
    /// ```
    /// use std::time::Duration;
    /// use asynchat::Server;
    /// use socket2::TcpKeepalive;
    /// let server = Server::new("[::]:7007").configure(|socket| {
    ///     socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(600)))
    /// });
    /// # drop(server);
    /// ```
    pub fn configure(
        mut self,
        configure: impl Fn(&SockRef<'_>) -> io::Result<()> + 'static,
    ) -> Self {
        self.rules.configure = Some(Configure::new(configure));
        self
    }

    /// Listens for one connection only, and at most for the time `wait`: the passive port of an FTP server.
    /// The listener closes as soon as there is a session ([`Close::Local`]), or when the time is over
    /// ([`Close::Timeout`] with [`Deadline::Accept`](crate::Deadline::Accept)). [`on_close`](Server::on_close) tells
    /// which it was.
    ///
    /// Connections that [`accept_if`](Server::accept_if) or a limit refuses, whose socket cannot be
    /// [configured](Server::configure), or whose factory fails, do not count: the listener waits for another one. With
    /// [TLS](crate::tls) the first connection that completes its handshake counts, and behind a proxy the first one whose
    /// header is valid, within the same time. Others that are not ready by then are closed.
    ///
    /// The guide has [an example](https://docs.rs/crate/asynchat/latest/source/docs/guide.md).
    pub fn once(mut self, wait: Duration) -> Self {
        self.rules.once = Some(wait);
        self
    }

    /// Uses TLS on each connection. Takes an `Arc<ServerConfig>` or a [`tls::Acceptor`](crate::tls::Acceptor), whose
    /// configuration can be replaced while the server runs. The loop calls the factory when the handshake is
    /// complete, so that [`Chat::tls`] has its outcome there. The handshake has a
    /// [deadline](Deadlines#structfield.handshake) of 10 seconds.
    ///
    /// Needs the feature `tls` or `tls-no-provider`.
    ///
    /// A connection whose handshake fails has no session. It is counted in
    /// [`LoopStats::handshakes_failed`](crate::LoopStats::handshakes_failed), and logged as a warning. One that ends before
    /// its first byte, such as a health check, is neither counted there nor a warning. A connection
    /// above a limit is closed before TLS begins, with an alert if there is a [refusal](Server::refusal). A server for
    /// [one connection](Server::once) closes when a handshake is complete.
    ///
    /// ```no_run
    /// use asynchat::{Server, tls};
    ///
    /// # fn main() -> asynchat::Result {
    /// Server::new("[::]:563")
    ///     .tls(tls::server_config_from_files("fullchain.pem", "privkey.pem")?)
    ///     .listen(|chat| move |line: &[u8]| {
    ///         chat.push_slice(line);
    ///         chat.push("\r\n");
    ///         Ok(())
    ///     })?;
    /// asynchat::run()?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "tls-no-provider")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn tls(mut self, acceptor: impl Into<TlsAcceptor>) -> Self {
        self.settings.stage = Some(acceptor.into().prepare());
        self
    }

    /// Reads a PROXY header of version 1 or 2 from each connection: see [`proxy_protocol`](crate::proxy_protocol). The
    /// address of the client in it is then [`Chat::peer_addr`], also in the factory, in the log, in
    /// [`accept_if`](Server::accept_if) and for [`Limits::per_address`]. TLS follows the header, and the loop calls the
    /// factory after both.
    ///
    /// Needs the feature `proxy-protocol`.
    ///
    /// Connections come from proxies in these networks only. A connection from another address is closed, because it
    /// could claim any address. It is counted in [`LoopStats::refused`](crate::LoopStats::refused), and logged as a
    /// warning. Trust no network that clients can connect from themselves. A proxy has to send the header: a connection
    /// that begins with anything else is closed with [`Close::ProxyHeader`], and so is one whose header is longer than
    /// 107 bytes (version 1) or 4,096 bytes (version 2), or not complete after the
    /// [handshake deadline](Deadlines#structfield.handshake) of 10 seconds. None of them gets a session. TLS has the
    /// same time again.
    ///
    /// Connections that the proxy makes for itself (`LOCAL`), and those whose client it does not know (`UNKNOWN`), have
    /// the address of the proxy. `accept_if` should accept it if the proxy checks in this way whether the server is
    /// alive.
    ///
    /// Until the header is complete, a connection counts for [`Limits::connections`] only. Its bytes do not count
    /// in any statistics.
    ///
    /// ```
    /// use asynchat::Server;
    /// # fn main() -> asynchat::Result {
    /// let listener = Server::new("127.0.0.1:0")
    ///     .proxy_protocol(["10.0.0.0/8".parse()?, "::1".parse()?])
    ///     .listen(|chat| {
    ///         let client = chat.peer_addr();
    ///         move |_: &[u8]| {
    ///             write!(chat, "your address is {client:?}\r\n");
    ///             Ok(())
    ///         }
    ///     })?;
    /// # listener.close();
    /// # asynchat::run()?;
    /// # Ok(()) }
    /// ```
    ///
    /// Without a network, [`listen`](Server::listen) fails.
    #[cfg(feature = "proxy-protocol")]
    #[cfg_attr(docsrs, doc(cfg(feature = "proxy-protocol")))]
    pub fn proxy_protocol(mut self, trusted: impl IntoIterator<Item = Network>) -> Self {
        self.rules.proxies = Some(trusted.into_iter().collect());
        self
    }

    /// Sets a function that the loop calls once, when the listener has closed, with the reason. That is
    /// [`Close::Local`] if this side has closed it, [`Close::Shutdown`] at the end of the loop,
    /// [`Close::Io`] if the listening socket has failed, or [`Close::Timeout`] if nobody came in the time of
    /// [`once`](Server::once).
    pub fn on_close(mut self, call: impl FnOnce(&Close) + 'static) -> Self {
        self.rules.on_close = Some(Box::new(call));
        self
    }

    /// Starts to serve on this thread's loop. For each accepted connection the loop calls `factory` and
    /// then the session's [`handle_connect`](crate::AsyncChat::handle_connect). The factory returns a session
    /// or a `Result` with one: see [`IntoSession`]. If it fails, only that connection ends. A factory that serves
    /// several addresses sees in [`Chat::local_addr`] to which of them the client has connected.
    ///
    /// The returned channel is the listening one: closing it stops accepting, and leaves the connections open.
    /// It has no handler of yours, so its timers and deadlines have no effect, and [`Channel::post`] fails.
    ///
    /// # Errors
    /// As [`listen_on`](Server::listen_on), and as [`EventLoop::current`].
    pub fn listen<I: IntoSession>(
        self,
        factory: impl FnMut(Chat) -> I + 'static,
    ) -> Result<Channel, Error> {
        self.listen_on(&EventLoop::current()?, factory)
    }

    /// As [`listen`](Server::listen), on the loop given.
    ///
    /// # Errors
    /// When the address cannot be resolved, or no address can be bound: the error names the address and
    /// the reason. When the adopted socket does not listen, or cannot be made non-blocking. When the loop
    /// is shutting down. When a server of the PROXY protocol trusts no network.
    pub fn listen_on<I: IntoSession>(
        self,
        event_loop: &EventLoop,
        factory: impl FnMut(Chat) -> I + 'static,
    ) -> Result<Channel, Error> {
        self.listen_with(event_loop, factory, |opening| {
            let channel = open(opening.endpoint, opening.options, &event_loop.0)?;
            Ok((Source::Listener(channel), None))
        })
    }

    /// Starts to serve what `open` provides.
    pub(crate) fn listen_with<I: IntoSession>(
        self,
        event_loop: &EventLoop,
        factory: impl FnMut(Chat) -> I + 'static,
        open: impl FnOnce(Opening<'_>) -> Result<(Source, Option<Quota>), Error>,
    ) -> Result<Channel, Error> {
        let runtime = &event_loop.0;
        let settings = Settings {
            limits: self.settings.limits.or_else(|| runtime.limits()),
            ..self.settings
        };
        let limits = settings.limits.clone();
        let policy = self.policy;
        #[cfg(feature = "tls-no-provider")]
        let policy = match settings.stage {
            Some(_) => policy.refusing_with_alert(),
            None => policy,
        };
        let is_once = self.rules.once.is_some();
        // Made first: where this function fails, it drops the refusal and the factory one at a time.
        let mut driver = ListenerDriver::new(settings, self.rules, policy, factory);
        #[cfg(feature = "proxy-protocol")]
        if driver.trusts_nobody() {
            return Err(Error::new(
                "proxy_protocol without a trusted network would refuse every connection",
            ));
        }
        let (source, quota) = open(Opening {
            endpoint: self.endpoint,
            options: &self.options,
            limits: limits.as_deref().unwrap_or(&Limits::DEFAULT),
            is_once,
        })?;
        if let Some(quota) = quota {
            driver.set_quota(quota);
        }
        let channel = match &source {
            Source::Listener(channel) => channel.clone(),
            Source::Acceptor(_) => Channel::without_socket(),
        };
        channel.0.set_limits(limits);
        runtime.register(&channel.0, TypeId::of::<Acceptance>)?;
        let local = match &source {
            Source::Listener(_) => None,
            Source::Acceptor(arriving) => Some(&arriving.addr),
        };
        channel.0.open_span_at(local);
        driver.begin_waiting(&channel);
        let driver: Box<dyn Driver> = match source {
            Source::Listener(_) => Box::new(driver),
            Source::Acceptor(arriving) => Box::new(Receiver::new(driver, arriving, runtime)),
        };
        runtime.set_driver(&channel.0, driver);
        Ok(channel)
    }
}

/// Where the connections of a server come from.
pub(crate) enum Source {
    /// A listening socket of its own.
    Listener(Channel),
    /// The acceptor of another loop.
    Acceptor(Arriving),
}

/// What a server is to listen on.
pub(crate) struct Opening<'a> {
    pub(crate) endpoint: Endpoint,
    pub(crate) options: &'a ListenOptions,
    pub(crate) limits: &'a Limits,
    /// It is a server for one connection.
    pub(crate) is_once: bool,
}

/// Makes a listening socket, or takes over the one that is adopted.
pub(crate) fn open(
    endpoint: Endpoint,
    options: &ListenOptions,
    runtime: &Runtime,
) -> Result<Channel, Error> {
    let channel = match endpoint {
        Endpoint::Target(target) => {
            Channel::listen_with(&target, &runtime.poller.system(), options)?
        }
        Endpoint::Adopted(socket) if !socket.is_listening() => {
            return Err(Error::new("the adopted socket does not listen"));
        }
        Endpoint::Adopted(socket) => {
            let channel = Channel::adopt(socket)?;
            if !options.nodelay {
                channel.0.on_socket(|socket| socket.set_nodelay(false))?;
            }
            channel
        }
    };
    // Accepted sockets inherit the option, which saves a system call for each.
    channel.0.set_urgent_inline();
    Ok(channel)
}

/// The type of a listener's handler, as far as posts can tell: no program can name it.
pub(crate) enum Acceptance {}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("endpoint", &self.endpoint)
            .field("options", &self.options)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl EventLoop {
    /// Listens on `addr`. For each accepted connection the loop calls `factory` with the connection's
    /// [`Chat`], and `factory` returns the handler. [`Server`] has options. Returns the listening channel:
    /// [`local_addr`](Channel::local_addr) is its address, and [`close`](Channel::close) stops accepting.
    /// Accepted connections stay open then.
    ///
    /// # Errors
    /// When the address cannot be resolved or bound.
    pub fn listen<I: IntoSession>(
        &self,
        addr: impl Into<Target>,
        factory: impl FnMut(Chat) -> I + 'static,
    ) -> Result<Channel, Error> {
        Server::new(addr).listen_on(self, factory)
    }
}

/// [`EventLoop::listen`] on this thread's loop.
///
/// ```
/// # fn main() -> asynchat::Result {
/// let listener = asynchat::listen("127.0.0.1:0", |chat| move |line: &[u8]| {
///     chat.push_slice(line);
///     chat.push("\r\n");
///     Ok(())
/// })?;
/// println!("listening on {}", listener.local_addr().expect("it listens"));
/// # listener.close();
/// asynchat::run()?;
/// Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`EventLoop::listen`].
pub fn listen<I: IntoSession>(
    addr: impl Into<Target>,
    factory: impl FnMut(Chat) -> I + 'static,
) -> Result<Channel, Error> {
    EventLoop::current()?.listen(addr, factory)
}

//! Connecting: a chat to a name or an address.

use std::any::TypeId;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use crate::chat_dispatcher::ChatDispatcher;
use crate::connecting::Connecting;
use crate::deadlines::Deadlines;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::remote::Remote;
use crate::socket::Socket;
use crate::state::{Core, Phase};
use crate::{AsyncChat, Channel, Chat, EventLoop};

/// Where to connect to: an address, several, or a host name with a port.
///
/// A name is looked up on a thread of its own, so that a slow resolver does not hold the loop up;
/// what it resolves to is tried address by address.
///
/// ```
/// use asynchat::Target;
/// let by_name = Target::from("news.example.org:119");
/// let by_name_too = Target::from(("news.example.org", 119));
/// let by_address = Target::from("[2001:db8::1]:119".parse::<std::net::SocketAddr>().unwrap());
/// ```
#[derive(Clone, Debug)]
pub struct Target(Named);

#[derive(Clone, Debug)]
enum Named {
    /// `host:port`
    Name(String),
    /// A host that may have colons of its own: `fe80::1%eth0`.
    Host(String, u16),
    Addrs(Vec<SocketAddr>),
}

impl Named {
    /// Host and port, where there is something to look up.
    fn parts(&self) -> Option<(&str, u16)> {
        match self {
            Named::Name(name) => {
                let (host, port) = name.rsplit_once(':')?;
                Some((host, port.parse().ok()?))
            }
            Named::Host(host, port) => Some((host, *port)),
            Named::Addrs(_) => None,
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Named::Name(name) => f.write_str(name),
            Named::Host(host, port) => write!(f, "{host}, port {port}"),
            Named::Addrs(addrs) => write!(f, "{addrs:?}"),
        }
    }
}

#[derive(Debug)]
enum Place {
    To(Target),
    Connected(Socket),
}

impl From<&str> for Target {
    fn from(host_and_port: &str) -> Self {
        match host_and_port.parse() {
            Ok(addr) => Target(Named::Addrs(vec![addr])),
            Err(_) => Target(Named::Name(host_and_port.to_owned())),
        }
    }
}

impl From<&String> for Target {
    fn from(host_and_port: &String) -> Self {
        Target::from(host_and_port.as_str())
    }
}

impl From<String> for Target {
    fn from(host_and_port: String) -> Self {
        Target::from(&*host_and_port)
    }
}

impl From<(&str, u16)> for Target {
    fn from((host, port): (&str, u16)) -> Self {
        match host.parse::<IpAddr>() {
            Ok(ip) => Target::from(SocketAddr::new(ip, port)),
            Err(_) => Target(Named::Host(host.to_owned(), port)),
        }
    }
}

impl From<SocketAddr> for Target {
    fn from(addr: SocketAddr) -> Self {
        Target(Named::Addrs(vec![addr]))
    }
}

impl From<(IpAddr, u16)> for Target {
    fn from(addr: (IpAddr, u16)) -> Self {
        Target::from(SocketAddr::from(addr))
    }
}

impl From<Vec<SocketAddr>> for Target {
    fn from(addrs: Vec<SocketAddr>) -> Self {
        Target(Named::Addrs(addrs))
    }
}

/// A connection to be: where to, how long it may take, under what limits.
/// [`connect`](Connector::connect) starts it.
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
#[must_use = "a connector connects once `connect` is called"]
#[derive(Debug)]
pub struct Connector {
    place: Place,
    deadlines: Deadlines,
    limits: Option<Limits>,
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
            deadlines: Deadlines::default(),
            limits: None,
            nodelay: true,
        }
    }

    /// How long coming up may take: the same as setting [`Deadlines::connect`].
    pub fn connect_timeout(mut self, after: Duration) -> Self {
        self.deadlines.connect = Some(after);
        self
    }

    /// The deadlines of the connection. Default: [`Deadlines::default`], which leaves it to the
    /// system how long [coming up](Deadlines::connect) may take: minutes.
    pub fn deadlines(mut self, deadlines: Deadlines) -> Self {
        self.deadlines = deadlines;
        self
    }

    /// The limits of the connection. Default: [those of the loop](EventLoop::set_limits).
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// As [`Server::nodelay`](crate::Server::nodelay). Default true.
    pub fn nodelay(mut self, on: bool) -> Self {
        self.nodelay = on;
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
        let home = &event_loop.0;
        let (channel, name) = match self.place {
            Place::Connected(socket) if socket.is_listening() => {
                return Err(Error::new("the socket to talk through listens"));
            }
            Place::Connected(socket) if !socket.is_stream() => {
                return Err(Error::new(
                    "records are cut from a stream: datagrams are for a Dispatcher",
                ));
            }
            Place::Connected(socket) => (Channel::adopt(socket)?, None),
            Place::To(Target(Named::Addrs(addrs))) if addrs.is_empty() => {
                return Err(Error::new("no address to connect to"));
            }
            Place::To(Target(Named::Addrs(addrs))) => {
                let connecting = Connecting::new(addrs.into(), self.nodelay);
                (Channel::connecting(connecting), None)
            }
            Place::To(Target(name)) => {
                let mut connecting = Connecting::new(VecDeque::new(), self.nodelay);
                connecting.resolving = true;
                (Channel::connecting(connecting), Some(name))
            }
        };
        let core = Rc::clone(&channel.0);
        core.announce.set(core.phase.get() == Phase::Open);
        core.set_deadlines(self.deadlines);
        let limits = self.limits.map(Rc::new).or_else(|| home.limits());
        let chat = Chat::new(channel, limits);
        home.register(&core, None, TypeId::of::<S>)?;
        core.unborn.set(true);
        core.open_span();
        if let Some(name) = name {
            let known = name.parts();
            match known.and_then(|(host, port)| home.poller.resolve(host, port)) {
                Some(outcome) => core.resolved(&name.to_string(), outcome),
                None => look_up(&name, &core, event_loop.remote()),
            }
        }
        let make = Rc::clone(&core);
        let handle = chat.clone();
        home.call_soon(Box::new(move |home| {
            home.make_handler(&make, || {
                ChatDispatcher::new(handle.clone(), factory(handle))
            });
        }));
        Ok(chat)
    }
}

/// Resolves a name on a thread of its own: the system's resolver blocks.
fn look_up(name: &Named, core: &Rc<Core>, remote: Remote) {
    let id = core.id.get();
    let looked_up = name.clone();
    let spawned = thread::Builder::new()
        .name("asynchat-resolve".to_owned())
        .spawn(move || {
            let outcome = match &looked_up {
                Named::Name(name) => name.to_socket_addrs().map(Iterator::collect),
                Named::Host(host, port) => {
                    (&**host, *port).to_socket_addrs().map(Iterator::collect)
                }
                Named::Addrs(addrs) => Ok(addrs.clone()),
            };
            // Nobody waits for it any more if the loop is gone.
            let _ = remote.send(Box::new(move |home| {
                if let Some(core) = home.core(id) {
                    core.resolved(&looked_up.to_string(), outcome);
                }
            }));
        });
    if let Err(error) = spawned {
        let error = io::Error::new(error.kind(), format!("no thread to do it: {error}"));
        core.resolved(&name.to_string(), Err(error));
    }
}

//! A network in memory with virtual time, for tests of handlers. Needs the feature `sim`.
//!
//! A [`Network`] makes event loops that have its sockets, its clock and its kernel in place of the
//! operating system's. Everything else is the real code: [`Server`](crate::Server),
//! [`Connector`](crate::Connector), limits, deadlines and your handler run as they do in production, on
//! ordinary addresses. Time is virtual, so a test of a year of timers takes a millisecond. Everything
//! random comes from a seed: the same seed gives the same run.
//!
//! There are three ways to use it, from the shortest to the most flexible:
//!
//! * [`drive`] plays a script to one handler, and returns what happened.
//! * [`drive_every_segmentation`] plays one input to a handler, cut in different ways, and finds the cut that
//!   makes a difference.
//! * A [`Network`] with its [`Peer`]s, its [`Conditions`] and its clock: several connections, servers
//!   and clients, faults.
//!
//! ```
//! use std::time::Duration;
//! use asynchat::sim::Network;
//!
//! # fn main() -> asynchat::Result {
//! let network = Network::new(42);
//! let event_loop = network.event_loop()?;
//! event_loop.listen("127.0.0.1:7007", |chat| move |line: &[u8]| {
//!     chat.push(line.to_ascii_uppercase());
//!     chat.push("\r\n");
//!     Ok(())
//! })?;
//! event_loop.call_later(Duration::from_secs(365 * 86_400), || println!("happy new year"));
//!
//! let peer = network.connect("127.0.0.1:7007")?;
//! peer.send("hel");
//! network.settle(&event_loop)?;
//! assert_eq!(peer.received(), b"");
//! peer.send("lo\r\n");
//! network.settle(&event_loop)?;
//! assert_eq!(peer.received(), b"HELLO\r\n");
//!
//! network.advance(&event_loop, Duration::from_secs(366 * 86_400))?;
//! assert_eq!(network.elapsed().as_secs(), 366 * 86_400);
//! # Ok(()) }
//! ```
//!
//! # The loop of the free functions
//!
//! A [`listen`](crate::listen) or another free function that is called outside of a callback acts on the
//! thread's default loop, which is not simulated: it binds a real port. Use the methods of the simulated
//! [`EventLoop`] and functions that take a loop, such as [`Server::listen_on`](crate::Server::listen_on), or
//! start the server with [`EventLoop::call_soon`]. In callbacks the free functions act on the simulated loop.
//!
//! # What is simulated
//!
//! TCP as a program sees it:
//!
//! * Connections come up, are refused, or are never answered.
//! * Sent bytes are on their way until the loop waits next. Buffers have a size.
//! * There are ends of streams, half-closes, resets and urgent bytes.
//! * A socket that is closed with unread input resets its peer, which loses what it had not read. A
//!   lingering close prevents that.
//! * When a peer resets the connection, the loop can still read what had arrived, as on Linux.
//!
//! Time passes only while the loop sleeps. There is no latency, no packet loss and no other process.
//! Threads are real: a simulated loop does not wait for a thread that [posts](crate::Remote) to it.

mod drive;
mod peer;
mod segmentation;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

pub use crate::sys::simulated::{Call, Conditions, Ended};
pub use drive::{Script, Transcript, drive};
pub use peer::{Listener, Peer};
pub use segmentation::{Divergence, drive_every_segmentation, every_segmentation};

use crate::error::{Error, Result};
use crate::event_loop::EventLoop;
use crate::runtime::Runtime;
use crate::sys::poller;
use crate::sys::simulated::{Owner, Poller, SharedNet, Socket};
use crate::sys::socket::Fd;

/// The most turns in a row without virtual time passing. A loop that takes more will never be idle.
const TURNS: u32 = 100_000;

/// A network in memory, with a clock of its own. See the [module](self).
///
/// It is a handle: clones are the same network. Everything random in it comes from its seed.
#[derive(Clone)]
pub struct Network(SharedNet);

impl Network {
    /// A new network, with perfect [`Conditions`].
    pub fn new(seed: u64) -> Self {
        Network(SharedNet::new(seed))
    }

    /// A new event loop on this network. Pass it to functions that take a loop: see
    /// [the loop of the free functions](crate::sim#the-loop-of-the-free-functions).
    ///
    /// [`EventLoop::run`] goes from one timer to the next without waiting. It fails when nothing can
    /// happen any more while something is still registered. If scripts are to act in between, call
    /// [`settle`](Network::settle) and [`advance`](Network::advance) instead.
    ///
    /// # Errors
    /// When the operating system has no descriptor left: a loop is `AsFd`.
    pub fn event_loop(&self) -> Result<EventLoop, Error> {
        match Poller::new(&self.0) {
            Ok(poller) => Ok(EventLoop(Runtime::new(poller::Poller::Simulated(poller)))),
            Err(error) => Err(Error::from(error).context("create a simulated event loop")),
        }
    }

    // ---- peers, sockets and hosts

    /// A client that connects to `addr`, from a free port of the local host. If nobody listens at
    /// `addr`, the connection has [ended](Peer::ended) already.
    ///
    /// # Errors
    /// When `addr` is not an address.
    pub fn connect(&self, addr: impl ToSocketAddrs) -> Result<Peer, Error> {
        self.connect_from(None, addr)
    }

    /// A client that connects to `addr` from the address `from`. Port 0 stands for a free port.
    ///
    /// # Errors
    /// When `addr` is not an address.
    pub fn connect_from(
        &self,
        from: impl Into<Option<SocketAddr>>,
        addr: impl ToSocketAddrs,
    ) -> Result<Peer, Error> {
        let addr = first(&addr)?;
        let mut net = self.0.lock();
        let id = net.connect(from.into(), addr, Owner::Peer);
        net.progress();
        let local = net.end(id)?.local;
        Ok(Peer::new(&self.0, id, local, addr))
    }

    /// A server for a loop to connect to. Port 0 stands for a free port.
    ///
    /// # Errors
    /// When `addr` is not an address, or is in use.
    pub fn listen(&self, addr: impl ToSocketAddrs) -> Result<Listener, Error> {
        let addr = first(&addr)?;
        let mut net = self.0.lock();
        let listening = net.listen(addr, false, usize::MAX, Owner::Peer);
        let id = listening.map_err(|error| Error::from(error).context(addr))?;
        let addr = net.listening_at(id)?;
        Ok(Listener::new(&self.0, id, addr))
    }

    /// A connection that is up: a socket for a channel to [adopt](crate::Channel::adopt), and the peer
    /// at the other end.
    ///
    /// ```
    /// use asynchat::{Channel, sim::Network};
    /// # fn main() -> asynchat::Result {
    /// let (socket, peer) = Network::new(1).pair();
    /// let channel = Channel::adopt(socket)?;
    /// channel.send(b"hello")?;
    /// assert_eq!(peer.received(), b"hello");
    /// # Ok(()) }
    /// ```
    ///
    /// Two pairs make a connection of two descriptors whose directions end independently, like the pipes
    /// of a child process: see [`Socket::halves`](crate::Socket::halves).
    pub fn pair(&self) -> (crate::Socket, Peer) {
        let (socket, peer, addrs) = self.0.lock().pair(Owner::Loop, Owner::Peer);
        let socket = Socket::new(&self.0, socket, false);
        (
            Fd::Simulated(socket).into(),
            Peer::new(&self.0, peer, addrs.0, addrs.1),
        )
    }

    /// A listening socket for a channel of layer 1 to [adopt](crate::Channel::adopt).
    ///
    /// It replaces [`Channel::listen`](crate::Channel::listen), which does not know the loop and always
    /// makes a real socket. A [`Server`](crate::Server) and everything that connects know their loop, and
    /// need no replacement.
    ///
    /// # Errors
    /// When `addr` is not an address, or is in use.
    pub fn listening_socket(&self, addr: impl ToSocketAddrs) -> Result<crate::Socket, Error> {
        let addr = first(&addr)?;
        let mut net = self.0.lock();
        let listening = net.listen(addr, false, usize::MAX, Owner::Loop);
        let id = listening.map_err(|error| Error::from(error).context(addr))?;
        Ok(Fd::Simulated(Socket::new(&self.0, id, true)).into())
    }

    /// Gives a host name these addresses, for loops that connect to it.
    pub fn add_host(&self, name: &str, addrs: impl IntoIterator<Item = IpAddr>) {
        let addrs = addrs.into_iter().collect();
        self.0.lock().hosts.insert(name.to_owned(), addrs);
    }

    /// Makes look-ups of this host name hang, as when no name server can be reached. See
    /// [`Connector`](crate::Connector) for how long a loop waits for a look-up.
    pub fn add_silent_host(&self, name: &str) {
        self.0.lock().silent_hosts.insert(name.to_owned());
    }

    /// Makes connects to this address hang: they are neither accepted nor refused. Test connect
    /// deadlines with it.
    pub fn add_black_hole(&self, addr: SocketAddr) {
        self.0.lock().black_holes.insert(addr);
    }

    // ---- conditions, faults, counters

    /// Sets the conditions that apply from now on.
    pub fn set_conditions(&self, conditions: Conditions) {
        self.0.lock().conditions = conditions;
    }

    /// The current conditions.
    pub fn conditions(&self) -> Conditions {
        self.0.lock().conditions
    }

    /// Makes the next such call of a loop fail with this error. Called again, it makes the call after
    /// that fail too, and so on.
    ///
    /// ```
    /// use asynchat::sim::{Call, Network};
    /// # #[cfg(unix)]
    /// # fn main() -> asynchat::Result {
    /// # use std::{io, time::Duration};
    /// let network = Network::new(1);
    /// let event_loop = network.event_loop()?;
    /// event_loop.listen("127.0.0.1:7007", |_| |_: &[u8]| Ok(()))?;
    /// network.fail(Call::Accept, io::Error::from_raw_os_error(24)); // EMFILE
    /// let peer = network.connect("127.0.0.1:7007")?;
    /// network.settle(&event_loop)?;
    /// assert_eq!(event_loop.len(), 1); // the listener pauses
    /// network.advance(&event_loop, Duration::from_secs(1))?;
    /// assert_eq!(event_loop.len(), 2); // and has tried again
    /// # Ok(()) }
    /// # #[cfg(not(unix))]
    /// # fn main() {}
    /// ```
    pub fn fail(&self, call: Call, error: impl Into<io::Error>) {
        self.0.lock().fail(call, error.into());
    }

    /// How many sockets the loops of this network have open.
    pub fn sockets(&self) -> usize {
        self.0.lock().sockets()
    }

    /// How many sockets the loops of this network watch.
    pub fn registrations(&self) -> usize {
        self.0.lock().registrations()
    }

    // ---- time

    /// How much virtual time has passed since the network was made.
    pub fn elapsed(&self) -> Duration {
        self.0.lock().elapsed
    }

    /// Runs the loop until nothing more can happen without time passing, or until it is stopped.
    ///
    /// # Errors
    /// When the loop fails or belongs to another network, and when it still has work after 100,000 turns
    /// in which no time passed: then a handler gives itself work without end.
    pub fn settle(&self, event_loop: &EventLoop) -> Result<(), Error> {
        self.poller_of(event_loop)?;
        for _ in 0..TURNS {
            if !event_loop.run_once(Duration::ZERO)? || self.is_at_rest(event_loop)? {
                return Ok(());
            }
        }
        Err(Error::new(format!(
            "the loop still has work after {TURNS} turns in which no time passed"
        )))
    }

    /// Whether nothing more can happen without time passing: a turn of the loop would find no work.
    ///
    /// # Errors
    /// When the loop belongs to another network.
    pub fn is_at_rest(&self, event_loop: &EventLoop) -> Result<bool, Error> {
        let poller = self.poller_of(event_loop)?;
        let busy = event_loop.next_timeout() == Some(Duration::ZERO);
        Ok(!busy && !poller.has_events())
    }

    /// Lets this much virtual time pass. At each timer of the loop it stops, and
    /// [settles](Network::settle) the loop.
    ///
    /// # Errors
    /// Those of [`settle`](Network::settle).
    pub fn advance(&self, event_loop: &EventLoop, time: Duration) -> Result<(), Error> {
        let end = self.elapsed().saturating_add(time);
        self.settle(event_loop)?;
        loop {
            let left = end.saturating_sub(self.elapsed());
            match event_loop.next_timeout() {
                Some(next) if next <= left && !next.is_zero() => self.wait(event_loop, next),
                _ => break,
            }
            self.settle(event_loop)?;
        }
        let left = end.saturating_sub(self.elapsed());
        self.wait(event_loop, left);
        Ok(())
    }

    /// Lets time pass that the loop would have waited for.
    fn wait(&self, event_loop: &EventLoop, time: Duration) {
        self.0.lock().sleep(time);
        event_loop.0.agenda.note_passed_time();
    }

    /// Lets this much virtual time pass in a callback, as a callback that is slow does. Between two turns, it
    /// passes as for a host that does not run its loop. The loop does not poll meanwhile.
    ///
    /// ```
    /// use std::time::Duration;
    /// use asynchat::sim::Network;
    /// # fn main() -> asynchat::Result {
    /// let network = Network::new(1);
    /// let event_loop = network.event_loop()?;
    /// for _ in 0..3 {
    ///     let network = network.clone();
    ///     event_loop.call_soon(move || network.spend(Duration::from_millis(3)));
    /// }
    /// event_loop.run_for(Duration::from_millis(4))?; // the time is up in the second call
    /// assert_eq!(network.elapsed(), Duration::from_millis(6));
    /// # Ok(()) }
    /// ```
    pub fn spend(&self, time: Duration) {
        self.0.lock().sleep(time);
    }

    fn poller_of<'a>(&self, event_loop: &'a EventLoop) -> Result<&'a Poller, Error> {
        match &*event_loop.0.poller {
            poller::Poller::Simulated(poller) if poller.net().is(&self.0) => Ok(poller),
            _ => Err(Error::new("the loop does not belong to this network")),
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("elapsed", &self.elapsed())
            .field("sockets", &self.sockets())
            .finish_non_exhaustive()
    }
}

fn first(addr: &impl ToSocketAddrs) -> Result<SocketAddr, Error> {
    let first = addr.to_socket_addrs()?.next();
    first.ok_or_else(|| Error::new("no address is given"))
}

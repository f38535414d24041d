//! A network in memory with virtual time, to test handlers on. Needs the feature `sim`.
//!
//! A [`Network`] makes event loops whose sockets, clock and kernel are its own. Everything else is
//! the real thing: [`Server`](crate::Server), [`Connector`](crate::Connector), limits, deadlines and
//! your handler run as they do in production, on ordinary addresses. Nothing is real time, so a test
//! of a year of timers takes a millisecond. And nothing is left to chance: the same seed gives the
//! same run.
//!
//! Three ways to use it, from the shortest:
//!
//! * [`drive`] plays a script to one handler, and tells what came of it.
//! * [`drive_every_segmentation`] cuts one input in every way, and says which cut makes a
//!   difference.
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
//! # What is simulated
//!
//! TCP as a program sees it: connections that come up, are refused or never answered; bytes that are
//! on their way until the loop waits next; buffers of a size; the end of the stream, half-closes,
//! resets and urgent bytes. A socket closed with unread input resets its peer, who loses what it had
//! not read: this is what a lingering close is for. A peer that reset the connection leaves what had
//! arrived to be read, as on Linux. Time passes only while the loop sleeps. There is no latency, no
//! loss and no other process; a thread that [posts](crate::Remote) is real, and a simulated loop does
//! not wait for it.

mod conditions;
mod drive;
mod end;
mod net;
mod peer;
mod poller;
mod rng;
mod segmentation;
mod socket;
mod watching;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use conditions::{Call, Conditions};
pub use drive::{Script, Transcript, drive};
pub use end::Ended;
pub use peer::{Peer, Service};
pub(crate) use poller::{Poller, Waker};
pub use segmentation::{Divergence, drive_every_segmentation, every_segmentation};
pub(crate) use socket::Socket;

use crate::EventLoop;
use crate::error::{Error, Result};
use crate::runtime::Runtime;
use crate::sys::poller as seam;
use end::Owner;
use net::Net;

/// How many turns in a row may pass without time doing so. What goes on for longer never ends.
const TURNS: u32 = 100_000;

/// A network in memory, with a clock of its own. See the [module](self).
///
/// It is a handle: clones are the same network. All that is random in it comes from its seed.
#[derive(Clone)]
pub struct Network(Shared);

impl Network {
    /// A new network, with perfect [`Conditions`].
    pub fn new(seed: u64) -> Self {
        Network(Shared(Arc::new(Mutex::new(Net::new(seed)))))
    }

    /// A loop on it: [`EventLoop::run`] goes from one timer to the next without waiting, and fails
    /// when nothing can happen any more while something is still registered. To let scripts act in
    /// between, [`settle`](Network::settle) and [`advance`](Network::advance) it instead.
    ///
    /// # Errors
    /// When the system has no descriptor left: a loop is `AsFd`.
    pub fn event_loop(&self) -> Result<EventLoop> {
        match Poller::new(&self.0) {
            Ok(poller) => Ok(EventLoop(Runtime::new(seam::Poller::Network(poller)))),
            Err(error) => Err(Error::from(error).context("create a simulated event loop")),
        }
    }

    // ---- who is out there

    /// A client outside that connects to `addr`, from a port of its own on the local host. If nobody
    /// listens there it has [ended](Peer::ended) already.
    ///
    /// # Errors
    /// When `addr` is no address.
    pub fn connect(&self, addr: impl ToSocketAddrs) -> Result<Peer> {
        self.connect_from(None, addr)
    }

    /// The same from an address of yours; port 0 picks one.
    ///
    /// # Errors
    /// When `addr` is no address.
    pub fn connect_from(
        &self,
        from: impl Into<Option<SocketAddr>>,
        addr: impl ToSocketAddrs,
    ) -> Result<Peer> {
        let addr = first(&addr)?;
        let mut net = self.0.lock();
        let id = net.connect(from.into(), addr, Owner::Peer);
        net.progress();
        let local = net.end(id)?.local;
        Ok(Peer::new(&self.0, id, local, addr))
    }

    /// A server outside, for a loop to connect to. Port 0 picks a free one.
    ///
    /// # Errors
    /// When `addr` is no address, or in use.
    pub fn listen(&self, addr: impl ToSocketAddrs) -> Result<Service> {
        let addr = first(&addr)?;
        let mut net = self.0.lock();
        let listening = net.listen(addr, false, usize::MAX, Owner::Peer);
        let id = listening.map_err(|error| Error::from(error).context(addr))?;
        let addr = net.listening_at(id)?;
        Ok(Service::new(&self.0, id, addr))
    }

    /// A connection that is up: a socket for a channel to [adopt](crate::Channel::adopt), and the peer
    /// at its other end.
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
    /// Two pairs make a connection of two descriptors, such as a child's pipes, whose directions end
    /// independently: `Socket::halves(input, output)`, see [`Socket::halves`](crate::Socket::halves).
    pub fn pair(&self) -> (crate::Socket, Peer) {
        let (socket, peer, addrs) = self.0.lock().pair(Owner::Loop, Owner::Peer);
        let socket = Socket::new(&self.0, socket, false);
        (socket.into(), Peer::new(&self.0, peer, addrs.0, addrs.1))
    }

    /// A socket that listens, for a channel of layer 1 to [adopt](crate::Channel::adopt): the
    /// simulated counterpart of [`Channel::listen`](crate::Channel::listen), which knows no loop to
    /// ask. A [`Server`](crate::Server) needs none, nor does anything that connects.
    ///
    /// # Errors
    /// When `addr` is no address, or in use.
    pub fn listening_socket(&self, addr: impl ToSocketAddrs) -> Result<crate::Socket> {
        let addr = first(&addr)?;
        let mut net = self.0.lock();
        let listening = net.listen(addr, false, usize::MAX, Owner::Loop);
        let id = listening.map_err(|error| Error::from(error).context(addr))?;
        Ok(Socket::new(&self.0, id, true).into())
    }

    /// Makes a host known by its name, to whoever connects to it from a loop.
    pub fn add_host(&self, name: &str, addrs: impl IntoIterator<Item = IpAddr>) {
        let addrs = addrs.into_iter().collect();
        self.0.lock().hosts.insert(name.to_owned(), addrs);
    }

    /// Has nobody answer what the addresses of this host are, as when no name server can be reached. See
    /// [`Connector`](crate::Connector) for how long a name is looked up.
    pub fn add_silent_host(&self, name: &str) {
        self.0.lock().silent_hosts.insert(name.to_owned());
    }

    /// Has nobody answer at this address, neither yes nor no: what a connect deadline is for.
    pub fn add_black_hole(&self, addr: SocketAddr) {
        self.0.lock().black_holes.insert(addr);
    }

    // ---- what it is like

    /// Sets the conditions from now on.
    pub fn set_conditions(&self, conditions: Conditions) {
        self.0.lock().conditions = conditions;
    }

    /// The conditions now.
    pub fn conditions(&self) -> Conditions {
        self.0.lock().conditions
    }

    /// Has the next such call of a loop's fail with this error; called again, the one after it too.
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
    /// assert_eq!(event_loop.len(), 1); // accepting pauses
    /// network.advance(&event_loop, Duration::from_secs(1))?;
    /// assert_eq!(event_loop.len(), 2); // and goes on
    /// # Ok(()) }
    /// # #[cfg(not(unix))]
    /// # fn main() {}
    /// ```
    pub fn fail(&self, call: Call, error: impl Into<io::Error>) {
        self.0.lock().fail(call, error.into());
    }

    /// How many sockets its loops have open.
    pub fn sockets(&self) -> usize {
        self.0.lock().sockets()
    }

    /// How many sockets its loops watch.
    pub fn registrations(&self) -> usize {
        self.0.lock().registrations()
    }

    // ---- time

    /// How much time has passed on it since it was made.
    pub fn elapsed(&self) -> Duration {
        self.0.lock().elapsed
    }

    /// Runs the loop until nothing can happen any more without time passing, or until it is stopped.
    ///
    /// # Errors
    /// When the loop fails, belongs to another network, or never comes to rest: 100,000 turns in
    /// which no time passed, because a handler keeps giving itself work.
    pub fn settle(&self, event_loop: &EventLoop) -> Result {
        self.poller_of(event_loop)?;
        for _ in 0..TURNS {
            if !event_loop.run_once(Duration::ZERO)? || self.is_at_rest(event_loop)? {
                return Ok(());
            }
        }
        Err(Error::new(format!(
            "the loop did not come to rest in {TURNS} turns"
        )))
    }

    /// Whether nothing can happen any more without time passing: a turn of the loop would find nothing
    /// to do.
    ///
    /// # Errors
    /// When the loop belongs to another network.
    pub fn is_at_rest(&self, event_loop: &EventLoop) -> Result<bool> {
        let poller = self.poller_of(event_loop)?;
        let busy = event_loop.next_timeout() == Some(Duration::ZERO);
        Ok(!busy && !poller.has_news())
    }

    /// Lets this much time pass, from one timer of the loop to the next, and settles it at each.
    ///
    /// # Errors
    /// As [`settle`](Network::settle).
    pub fn advance(&self, event_loop: &EventLoop, time: Duration) -> Result {
        let end = self.elapsed().saturating_add(time);
        self.settle(event_loop)?;
        loop {
            let left = end.saturating_sub(self.elapsed());
            match event_loop.next_timeout() {
                Some(next) if next <= left && !next.is_zero() => self.0.lock().sleep(next),
                _ => break,
            }
            self.settle(event_loop)?;
        }
        let left = end.saturating_sub(self.elapsed());
        self.0.lock().sleep(left);
        Ok(())
    }

    fn poller_of<'a>(&self, event_loop: &'a EventLoop) -> Result<&'a Poller> {
        match &*event_loop.0.poller {
            seam::Poller::Network(poller) if poller.is_of(&self.0) => Ok(poller),
            _ => Err(Error::new("the loop is not one of this network's")),
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

fn first(addr: &impl ToSocketAddrs) -> Result<SocketAddr> {
    let first = addr.to_socket_addrs()?.next();
    first.ok_or_else(|| Error::new("no address at all"))
}

/// The network, as its loops, sockets and peers share it. Behind a lock, so that a simulated socket
/// is as `Send` as a real one.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Net>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Net> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is(&self, other: &Shared) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

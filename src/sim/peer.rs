//! The peers of a simulated loop, which a test controls.

use std::fmt;
use std::net::SocketAddr;

use crate::sys::simulated::{Ended, Id, Net, Outside, Owner, SharedNet, State};

/// The other end of a connection to a simulated loop: a client or a server that a test controls.
///
/// Its writes never block. It reads everything that arrives, until [`stop_reading`](Peer::stop_reading).
/// Its actions take effect at once, and the loop notices them in its next turn: act, then
/// [settle](super::Network::settle).
///
/// Dropping it closes it, as the end of a program does. If it has unread data, that resets the
/// connection; otherwise it finishes sending.
///
/// ```
/// use asynchat::sim::{Ended, Network};
/// # fn main() -> asynchat::Result {
/// let network = Network::new(1);
/// let event_loop = network.event_loop()?;
/// event_loop.listen("127.0.0.1:7007", |chat| move |line: &[u8]| {
///     chat.push_slice(line);
///     chat.push("\r\n");
///     Ok(())
/// })?;
/// let peer = network.connect("127.0.0.1:7007")?;
/// peer.send("hello\r\n");
/// peer.finish();
/// network.settle(&event_loop)?;
/// assert_eq!(peer.take_received(), b"hello\r\n");
/// assert_eq!(peer.ended(), Some(Ended::Finished));
/// # Ok(()) }
/// ```
pub struct Peer {
    net: SharedNet,
    id: Id,
    addr: SocketAddr,
    peer_addr: SocketAddr,
}

impl Peer {
    pub(super) fn new(net: &SharedNet, id: Id, addr: SocketAddr, peer_addr: SocketAddr) -> Self {
        let net = net.clone();
        Peer {
            net,
            id,
            addr,
            peer_addr,
        }
    }

    /// The address of this end.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The address of the other end, which is the loop's.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer_addr
    }

    /// Writes `data`. What does not fit into the kernel's buffer follows as the loop reads. After
    /// [`finish`](Peer::finish), and on a connection that has ended, it does nothing.
    pub fn send(&self, data: impl AsRef<[u8]>) {
        self.act(|net, id| {
            if let Ok(end) = net.end(id)
                && !end.outside.finishing
                && end.state != State::Dead
            {
                end.outside.outbox.extend(data.as_ref());
            }
        });
    }

    /// Finishes sending (TCP FIN) after everything that was written, and goes on reading.
    pub fn finish(&self) {
        self.act(|net, id| {
            if let Ok(end) = net.end(id) {
                end.outside.finishing = true;
            }
        });
    }

    /// Resets the connection (TCP RST). Sent data that has not reached the loop's kernel is lost, and so
    /// is received data that this peer has not read.
    pub fn reset(&self) {
        self.act(|net, id| {
            net.reset(id);
            if let Ok(end) = net.end(id) {
                end.bytes.clear();
                end.arrived = 0;
                end.outside.outbox.clear();
                end.outside.ended.get_or_insert(Ended::Reset);
            }
        });
    }

    /// Sends an urgent byte (TCP urgent data, MSG_OOB). It overtakes all data that is not read yet, and
    /// replaces an earlier urgent byte that is not read yet.
    pub fn send_urgent(&self, byte: u8) {
        self.act(|net, id| net.send_urgent(id, byte));
    }

    /// Takes the urgent byte that the loop has sent with [`Channel::send_urgent`](crate::Channel::send_urgent),
    /// if there is one. It is no part of [`received`](Peer::received).
    pub fn take_urgent(&self) -> Option<u8> {
        let mut urgent = None;
        self.act(|net, id| {
            if let Ok(end) = net.end(id) {
                urgent = end.urgent.take();
            }
        });
        urgent
    }

    /// Stops reading. The loop's output then fills the kernel's buffer, and after that the session's
    /// queue.
    pub fn stop_reading(&self) {
        self.start_reading(0);
    }

    /// Reads at most `count` more bytes; `usize::MAX` stands for everything.
    pub fn start_reading(&self, count: usize) {
        self.act(|net, id| {
            if let Ok(end) = net.end(id) {
                end.outside.window = count;
            }
        });
    }

    /// Shuts the receiving side down. Each later send of the loop fails with `BrokenPipe`, while data
    /// from this peer still arrives.
    ///
    /// A Unix-domain peer does that with `shutdown(SHUT_RD)`, and the reader of a pipe by closing it. TCP
    /// has no message for it.
    ///
    /// ```
    /// use asynchat::{Channel, sim::Network};
    /// # fn main() -> asynchat::Result {
    /// let (socket, peer) = Network::new(1).pair();
    /// let channel = Channel::adopt(socket)?;
    /// peer.shutdown_read();
    /// peer.send("still here");
    /// assert_eq!(channel.send(b"hello").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    /// assert_eq!(channel.recv(&mut [0; 64])?, 10);
    /// # Ok(()) }
    /// ```
    pub fn shutdown_read(&self) {
        self.act(|net, id| {
            let Ok(end) = net.end(id) else { return };
            end.outside.window = 0;
            if let Some(other) = end.other
                && let Ok(other) = net.end(other)
            {
                other.no_receiver = true;
            }
        });
    }

    /// What this peer has read, without what was [taken](Peer::take_received).
    pub fn received(&self) -> Vec<u8> {
        self.look(|end| end.received.clone())
    }

    /// Takes what this peer has read so far.
    pub fn take_received(&self) -> Vec<u8> {
        self.look(|end| std::mem::take(&mut end.received))
    }

    /// How the connection has ended for this peer; `None` while it can still receive something.
    pub fn ended(&self) -> Option<Ended> {
        self.look(|end| end.ended)
    }

    /// Whether the connection has ended for this peer, in any way.
    pub fn has_ended(&self) -> bool {
        self.ended().is_some()
    }

    /// How many written bytes are not in the kernel's buffer yet, for lack of room.
    pub fn unsent(&self) -> usize {
        self.look(|end| end.outbox.len())
    }

    fn look<R: Default>(&self, look: impl FnOnce(&mut Outside) -> R) -> R {
        let mut found = R::default();
        self.act(|net, id| {
            if let Ok(end) = net.end(id) {
                found = look(&mut end.outside);
            }
        });
        found
    }

    /// Lets earlier actions take effect, acts, and lets that take effect at once.
    fn act(&self, act: impl FnOnce(&mut Net, Id)) {
        let mut net = self.net.lock();
        net.progress();
        act(&mut net, self.id);
        net.progress();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.act(|net, id| net.close(id, false));
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("addr", &self.addr).finish()
    }
}

/// A server that a test controls, for the [`Connector`](crate::Connector)s of a loop:
/// [`Network::listen`](super::Network::listen).
///
/// Dropping it stops listening, and resets the connections that were not accepted.
pub struct Listener {
    net: SharedNet,
    id: Id,
    addr: SocketAddr,
}

impl Listener {
    pub(super) fn new(net: &SharedNet, id: Id, addr: SocketAddr) -> Self {
        let net = net.clone();
        Listener { net, id, addr }
    }

    /// The address that it listens at.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Accepts the next connection, if there is one. As with a real backlog, the loop may see the
    /// connection up before it is accepted.
    pub fn accept(&self) -> Option<Peer> {
        let mut net = self.net.lock();
        net.progress();
        let (id, _) = net.accept(self.id, Owner::Peer).ok()?;
        let end = net.end(id).ok()?;
        let (addr, peer_addr) = (end.local, end.remote);
        Some(Peer::new(&self.net, id, addr, peer_addr))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.net.lock().close(self.id, false);
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("addr", &self.addr)
            .finish()
    }
}

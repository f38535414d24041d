//! The other side of the simulated network: peers played by a script.

use std::fmt;
use std::net::SocketAddr;

use super::Shared;
use super::end::{Ended, Owner, State};
use super::net::{Id, Net};

/// A client or server outside, played by a script: the other end of a connection to a simulated loop.
///
/// It writes without ever blocking and, unless told otherwise, reads whatever comes. What it does
/// takes effect at once; the loop notices in its next turn, so do something, then
/// [settle](super::Network::settle). Dropping it closes it, as the end of a program does: with
/// something unread it resets the connection, else it finishes it.
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
    net: Shared,
    id: Id,
    addr: SocketAddr,
    peer_addr: SocketAddr,
}

impl Peer {
    pub(super) fn new(net: &Shared, id: Id, addr: SocketAddr, peer_addr: SocketAddr) -> Self {
        let net = net.clone();
        Peer {
            net,
            id,
            addr,
            peer_addr,
        }
    }

    /// Its own address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The address of the other end, the loop's.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer_addr
    }

    /// Writes. What the kernel's buffer has no room for follows as the loop reads. After
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

    /// Finishes sending (TCP FIN), after what was written; it goes on reading.
    pub fn finish(&self) {
        self.act(|net, id| {
            if let Ok(end) = net.end(id) {
                end.outside.finishing = true;
            }
        });
    }

    /// Resets the connection (TCP RST). What had not reached the loop's kernel is lost, and so is
    /// what this peer had not read.
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

    /// Sends a byte out of band (TCP urgent data), past everything that is still to be read. Only
    /// the last one is kept.
    pub fn send_urgent(&self, byte: u8) {
        self.act(|net, id| {
            let other = net.end(id).ok().filter(|end| end.is_up());
            if let Some(other) = other.and_then(|end| end.other)
                && let Ok(other) = net.end(other)
                && other.owner != Owner::Nobody
            {
                other.urgent = Some(byte);
            }
        });
    }

    /// Reads nothing more: the loop's output piles up in the kernel's buffer, and then in its
    /// queue.
    pub fn stop_reading(&self) {
        self.start_reading(0);
    }

    /// Reads on, `count` bytes more at most; `usize::MAX` is all that comes.
    pub fn start_reading(&self, count: usize) {
        self.act(|net, id| {
            if let Ok(end) = net.end(id) {
                end.outside.window = count;
            }
        });
    }

    /// Shuts its receiving side down and stays: each later send of the loop's fails with
    /// `BrokenPipe`, and what this peer sends still arrives. A Unix-domain peer can do that with
    /// `shutdown(SHUT_RD)`, and the reader of a pipe by closing it. TCP has no such message.
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

    /// What it has read so far, and not been [taken](Peer::take_received).
    pub fn received(&self) -> Vec<u8> {
        self.look(|end| end.received.clone())
    }

    /// Takes what it has read so far.
    pub fn take_received(&self) -> Vec<u8> {
        self.look(|end| std::mem::take(&mut end.received))
    }

    /// How the connection has ended for it; `None` while it can still receive something.
    pub fn ended(&self) -> Option<Ended> {
        self.look(|end| end.ended)
    }

    /// Whether the connection has ended for it, in whatever way.
    pub fn has_ended(&self) -> bool {
        self.ended().is_some()
    }

    /// How many bytes it has written that the loop's kernel has had no room for so far.
    pub fn unsent(&self) -> usize {
        self.look(|end| end.outbox.len())
    }

    fn look<R: Default>(&self, look: impl FnOnce(&mut super::end::Outside) -> R) -> R {
        let mut found = R::default();
        self.act(|net, id| {
            if let Ok(end) = net.end(id) {
                found = look(&mut end.outside);
            }
        });
        found
    }

    /// What was done before has taken effect before it does something, and what it does at once.
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

/// A server outside, played by a script, that a loop's [`Connector`](crate::Connector) reaches:
/// [`Network::listen`](super::Network::listen). Dropping it ends the service, and resets who has
/// not been accepted.
pub struct Service {
    net: Shared,
    id: Id,
    addr: SocketAddr,
}

impl Service {
    pub(super) fn new(net: &Shared, id: Id, addr: SocketAddr) -> Self {
        let net = net.clone();
        Service { net, id, addr }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The next connection, if there is one. For the loop it may be up before.
    pub fn accept(&self) -> Option<Peer> {
        let mut net = self.net.lock();
        net.progress();
        let (id, _) = net.accept(self.id, Owner::Peer).ok()?;
        let end = net.end(id).ok()?;
        let (addr, peer_addr) = (end.local, end.remote);
        Some(Peer::new(&self.net, id, addr, peer_addr))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.net.lock().close(self.id, false);
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("addr", &self.addr).finish()
    }
}

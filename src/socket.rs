//! The socket seam: what a channel asks of its socket, and who does it.
//!
//! It is the system (`socket/kernel.rs`), and that alone unless the feature `sim` is on: then an
//! enum of one arm, which costs nothing. The other arm is a socket of the simulated network.

mod kernel;

pub(crate) use kernel::is_protocol_error;

use std::fmt;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::Addr;
#[cfg(feature = "sim")]
use crate::sim;

/// A connected or listening socket on its way into a [`Channel`](crate::Channel).
///
/// A [`Dispatcher`](crate::Dispatcher) that listens is handed one for each accepted connection.
/// The types of the standard library convert into it; it is made non-blocking when a channel
/// adopts it. Dropping it closes it.
///
/// ```no_run
/// # fn main() -> asynchat::Result {
/// let stream = std::net::TcpStream::connect("127.0.0.1:7007")?;
/// let channel = asynchat::Channel::adopt(stream)?;
/// # Ok(()) }
/// ```
pub struct Socket(Of);

enum Of {
    Kernel(kernel::Socket),
    #[cfg(feature = "sim")]
    Network(sim::Socket),
}

/// Calls the one that it is.
macro_rules! forward {
    ($socket:expr, $inner:ident => $call:expr) => {
        match &$socket.0 {
            Of::Kernel($inner) => $call,
            #[cfg(feature = "sim")]
            Of::Network($inner) => $call,
        }
    };
}

impl Socket {
    /// The other end.
    ///
    /// # Errors
    /// `NotConnected` when it is gone already, or the socket listens.
    pub fn peer_addr(&self) -> io::Result<Addr> {
        forward!(self, socket => socket.peer_addr())
    }

    /// This end.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn local_addr(&self) -> io::Result<Addr> {
        forward!(self, socket => socket.local_addr())
    }

    /// Whether small writes are sent at once instead of waiting for an acknowledgement
    /// (TCP_NODELAY). A [`Server`](crate::Server) and a [`Connector`](crate::Connector) turn it
    /// on: their output is gathered once a turn, so holding it back would only add delay.
    ///
    /// # Errors
    /// When the socket is not a TCP one.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        forward!(self, socket => socket.set_nodelay(on))
    }

    /// A new listening socket, of the system's.
    pub(crate) fn listen(addr: SocketAddr, options: &ListenOptions) -> io::Result<Self> {
        Ok(Socket(Of::Kernel(kernel::Socket::listen(addr, options)?)))
    }

    /// A new socket, of the system's, whose connection to `addr` is under way.
    pub(crate) fn connect(addr: SocketAddr, nodelay: bool) -> io::Result<Self> {
        Ok(Socket(Of::Kernel(kernel::Socket::connect(addr, nodelay)?)))
    }

    /// The outcome of a connection under way: up with this peer, not known yet, or failed.
    pub(crate) fn connected(&self) -> io::Result<Option<Addr>> {
        forward!(self, socket => socket.connected())
    }

    /// Made ready for a channel: non-blocking, and never a source of SIGPIPE.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        forward!(self, socket => socket.prepare())
    }

    pub(crate) fn is_listening(&self) -> bool {
        forward!(self, socket => socket.is_listening())
    }

    pub(crate) fn accept(&self) -> io::Result<(Socket, Addr)> {
        forward!(self, socket => {
            let (accepted, peer) = socket.accept()?;
            Ok((accepted.into(), peer))
        })
    }

    pub(crate) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        forward!(self, socket => socket.recv(buffer))
    }

    /// Throws the urgent byte away, if there is one: left where it is, it would wake the loop
    /// again and again.
    pub(crate) fn drop_out_of_band(&self) {
        forward!(self, socket => socket.drop_out_of_band());
    }

    pub(crate) fn send(&self, data: &[u8]) -> io::Result<usize> {
        forward!(self, socket => socket.send(data))
    }

    pub(crate) fn send_gathered(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        forward!(self, socket => socket.send_gathered(parts))
    }

    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        forward!(self, socket => socket.shutdown_write())
    }

    /// Makes the close to come a reset: what is queued in the kernel is thrown away.
    pub(crate) fn reset_on_close(&self) -> io::Result<()> {
        forward!(self, socket => socket.reset_on_close())
    }

    /// What the system's poller registers.
    ///
    /// # Errors
    /// When it is none of the system's.
    pub(crate) fn of_kernel(&self) -> io::Result<&socket2::Socket> {
        match &self.0 {
            Of::Kernel(socket) => Ok(socket.source()),
            #[cfg(feature = "sim")]
            Of::Network(_) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a simulated socket works only on a loop of its network",
            )),
        }
    }

    /// What the simulated poller registers.
    ///
    /// # Errors
    /// When it is the system's.
    #[cfg(feature = "sim")]
    pub(crate) fn of_network(&self) -> io::Result<&sim::Socket> {
        match &self.0 {
            Of::Network(socket) => Ok(socket),
            Of::Kernel(_) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a socket of the system's does not work on a simulated loop",
            )),
        }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        forward!(self, socket => socket.fmt(f))
    }
}

impl From<kernel::Socket> for Socket {
    fn from(socket: kernel::Socket) -> Self {
        Socket(Of::Kernel(socket))
    }
}

#[cfg(feature = "sim")]
impl From<sim::Socket> for Socket {
    fn from(socket: sim::Socket) -> Self {
        Socket(Of::Network(socket))
    }
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        kernel::Socket::of(stream, false).into()
    }
}

impl From<TcpListener> for Socket {
    fn from(listener: TcpListener) -> Self {
        kernel::Socket::of(listener, true).into()
    }
}

#[cfg(unix)]
impl From<std::os::unix::net::UnixStream> for Socket {
    fn from(stream: std::os::unix::net::UnixStream) -> Self {
        kernel::Socket::of(stream, false).into()
    }
}

#[cfg(unix)]
impl From<std::os::unix::net::UnixListener> for Socket {
    fn from(listener: std::os::unix::net::UnixListener) -> Self {
        kernel::Socket::of(listener, true).into()
    }
}

/// How a listening socket is made.
#[derive(Clone, Debug)]
pub(crate) struct ListenOptions {
    pub(crate) backlog: i32,
    pub(crate) nodelay: bool,
    pub(crate) only_v6: bool,
    pub(crate) reuse_port: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        ListenOptions {
            // The kernel caps it (net.core.somaxconn, 4,096 on Linux since 5.4); a short queue
            // only turns a burst of clients into retries one second apart.
            backlog: 4096,
            nodelay: true,
            only_v6: false,
            reuse_port: false,
        }
    }
}

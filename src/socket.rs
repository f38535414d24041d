//! The socket seam: every system call on a socket is made here.
//!
//! What differs between platforms (a send without SIGPIPE, an accept that is non-blocking from
//! its first instant) is in the two modules at the end; the rest is `socket2`.

use std::fmt;
use std::io::{self, IoSlice, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, Type};

use crate::Addr;

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
pub struct Socket {
    inner: socket2::Socket,
    listening: bool,
}

impl Socket {
    /// The other end.
    ///
    /// # Errors
    /// `NotConnected` when it is gone already, or the socket listens.
    pub fn peer_addr(&self) -> io::Result<Addr> {
        self.inner.peer_addr().map(|addr| Addr::from_sock(&addr))
    }

    /// This end.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn local_addr(&self) -> io::Result<Addr> {
        self.inner.local_addr().map(|addr| Addr::from_sock(&addr))
    }

    /// Whether small writes are sent at once instead of waiting for an acknowledgement
    /// (TCP_NODELAY). A [`Server`](crate::Server) and a [`Connector`](crate::Connector) turn it
    /// on: their output is gathered once a turn, so holding it back would only add delay.
    ///
    /// # Errors
    /// When the socket is not a TCP one.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.inner.set_tcp_nodelay(on)
    }

    /// A new listening socket.
    pub(crate) fn listen(addr: SocketAddr, options: &ListenOptions) -> io::Result<Self> {
        let inner = tcp(addr)?;
        if addr.is_ipv6() {
            inner.set_only_v6(options.only_v6)?;
        }
        // On Windows SO_REUSEADDR lets a second program take the port over; without it a port
        // in TIME_WAIT can be bound there, which is all that Unix servers want it for.
        #[cfg(not(windows))]
        inner.set_reuse_address(true)?;
        #[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos"))))]
        if options.reuse_port {
            inner.set_reuse_port(true)?;
        }
        // Accepted sockets inherit it where that is so (Linux, the BSDs): no call for each.
        inner.set_tcp_nodelay(options.nodelay)?;
        inner.bind(&addr.into())?;
        inner.listen(options.backlog)?;
        Ok(Socket {
            inner,
            listening: true,
        })
    }

    /// A new socket whose connection to `addr` is under way.
    pub(crate) fn connect(addr: SocketAddr, nodelay: bool) -> io::Result<Self> {
        let inner = tcp(addr)?;
        inner.set_tcp_nodelay(nodelay)?;
        match inner.connect(&addr.into()) {
            Ok(()) => {}
            Err(error) if connecting(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(Socket {
            inner,
            listening: false,
        })
    }

    /// The outcome of a connection under way: up with this peer, not known yet, or failed.
    pub(crate) fn connected(&self) -> io::Result<Option<Addr>> {
        if let Some(error) = self.inner.take_error()? {
            return Err(error);
        }
        let peer = match self.inner.peer_addr() {
            Ok(peer) => peer,
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(None),
            Err(error) => return Err(error),
        };
        // A port in the ephemeral range that nobody listens on can be handed to the very socket
        // that connects to it (simultaneous open, RFC 9293 3.5): it then talks to itself.
        if self.inner.local_addr()? == peer {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "the socket connected to itself: nobody listens on that port",
            ));
        }
        Ok(Some(Addr::from_sock(&peer)))
    }

    /// Made ready for a channel: non-blocking, and never a source of SIGPIPE.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        self.inner.set_nonblocking(true)?;
        sending::no_sigpipe(&self.inner)
    }

    pub(crate) fn is_listening(&self) -> bool {
        self.listening
    }

    pub(crate) fn accept(&self) -> io::Result<(Socket, Addr)> {
        let (inner, peer) = accepting::accept(&self.inner)?;
        let listening = false;
        Ok((Socket { inner, listening }, peer))
    }

    pub(crate) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        retry(|| (&self.inner).read(buffer))
    }

    /// Throws the urgent byte away, if there is one: left where it is, it would wake the loop
    /// again and again.
    pub(crate) fn drop_out_of_band(&self) {
        let mut byte = [std::mem::MaybeUninit::new(0)];
        // It fails when nothing is there any more (the handler took it): that is the aim.
        let _ = self.inner.recv_out_of_band(&mut byte);
    }

    pub(crate) fn send(&self, data: &[u8]) -> io::Result<usize> {
        retry(|| sending::send(&self.inner, data))
    }

    pub(crate) fn send_gathered(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match parts {
            [only] => self.send(only),
            parts => retry(|| sending::send_gathered(&self.inner, parts)),
        }
    }

    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        self.inner.shutdown(std::net::Shutdown::Write)
    }

    /// Makes the close to come a reset: what is queued in the kernel is thrown away.
    pub(crate) fn reset_on_close(&self) -> io::Result<()> {
        self.inner.set_linger(Some(Duration::ZERO))
    }

    /// What the poller registers.
    pub(crate) fn source(&self) -> &socket2::Socket {
        &self.inner
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        let inner = stream.into();
        let listening = false;
        Socket { inner, listening }
    }
}

impl From<TcpListener> for Socket {
    fn from(listener: TcpListener) -> Self {
        let inner = listener.into();
        let listening = true;
        Socket { inner, listening }
    }
}

#[cfg(unix)]
impl From<std::os::unix::net::UnixStream> for Socket {
    fn from(stream: std::os::unix::net::UnixStream) -> Self {
        let inner = stream.into();
        let listening = false;
        Socket { inner, listening }
    }
}

#[cfg(unix)]
impl From<std::os::unix::net::UnixListener> for Socket {
    fn from(listener: std::os::unix::net::UnixListener) -> Self {
        let inner = listener.into();
        let listening = true;
        Socket { inner, listening }
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

fn tcp(addr: SocketAddr) -> io::Result<socket2::Socket> {
    let socket =
        socket2::Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// What a non-blocking connect reports while it is under way: EINPROGRESS, on Windows WOULDBLOCK.
fn connecting(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) {
        return true;
    }
    error.kind() == io::ErrorKind::WouldBlock
}

/// A signal may interrupt a call before it moved anything: then it is made again.
fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// Sending without SIGPIPE.
///
/// A write to a reset connection would otherwise kill a process that left SIGPIPE at its default;
/// `writev` can not be told, so gathered output goes through `sendmsg`.
#[cfg(all(unix, not(any(target_vendor = "apple", target_os = "redox"))))]
mod sending {
    use std::io::{self, IoSlice};

    use rustix::net::{SendAncillaryBuffer, SendFlags};
    use socket2::Socket;

    pub(super) fn no_sigpipe(_: &Socket) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn send(socket: &Socket, data: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(socket, data, SendFlags::NOSIGNAL)?)
    }

    pub(super) fn send_gathered(socket: &Socket, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut control = SendAncillaryBuffer::default();
        let flags = SendFlags::NOSIGNAL;
        Ok(rustix::net::sendmsg(socket, parts, &mut control, flags)?)
    }
}

/// Apple's systems refuse SIGPIPE by a socket option, Windows has none.
#[cfg(not(all(unix, not(any(target_vendor = "apple", target_os = "redox")))))]
mod sending {
    use std::io::{self, IoSlice};

    use socket2::Socket;

    pub(super) fn no_sigpipe(_socket: &Socket) -> io::Result<()> {
        #[cfg(target_vendor = "apple")]
        _socket.set_nosigpipe(true)?;
        Ok(())
    }

    pub(super) fn send(socket: &Socket, data: &[u8]) -> io::Result<usize> {
        socket.send(data)
    }

    pub(super) fn send_gathered(socket: &Socket, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        socket.send_vectored(parts)
    }
}

/// Accepting in one call, where accept4 exists.
///
/// The address is the one that accept itself gives: asked for later, a peer that is gone already
/// would have none.
#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly"
))]
mod accepting {
    use std::io;
    use std::net::SocketAddr;

    use rustix::net::{SocketAddrUnix, SocketFlags};
    use socket2::Socket;

    use crate::Addr;

    pub(super) fn accept(socket: &Socket) -> io::Result<(Socket, Addr)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (accepted, peer) = rustix::net::acceptfrom_with(socket, flags)?;
        let addr = match peer {
            Some(peer) => match SocketAddr::try_from(peer.clone()) {
                Ok(inet) => Addr::from(inet),
                Err(_) => Addr::Unix(
                    SocketAddrUnix::try_from(peer)
                        .ok()
                        .as_ref()
                        .and_then(unix_path),
                ),
            },
            None => Addr::Unix(None),
        };
        Ok((accepted.into(), addr))
    }

    fn unix_path(addr: &SocketAddrUnix) -> Option<std::path::PathBuf> {
        use std::os::unix::ffi::OsStringExt;
        let bytes = addr.path()?.to_bytes().to_vec();
        (!bytes.is_empty()).then(|| std::ffi::OsString::from_vec(bytes).into())
    }
}

/// Everywhere else.
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly"
)))]
mod accepting {
    use std::io;

    use socket2::Socket;

    use crate::Addr;

    pub(super) fn accept(socket: &Socket) -> io::Result<(Socket, Addr)> {
        let (accepted, peer) = socket.accept()?;
        accepted.set_nonblocking(true)?;
        Ok((accepted, Addr::from_sock(&peer)))
    }
}

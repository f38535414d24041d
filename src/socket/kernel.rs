//! The system's own sockets: every system call on a socket is made here.
//!
//! What differs between platforms (a send without SIGPIPE, an accept that is non-blocking from
//! its first instant) is in the two modules at the end; the rest is `socket2`.

use std::fmt;
use std::io::{self, IoSlice, Read};
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Type};

use super::ListenOptions;
use crate::Addr;

/// A socket of the system's.
pub(super) struct Socket {
    inner: socket2::Socket,
    listening: bool,
}

impl Socket {
    /// One that was made elsewhere.
    pub(super) fn of(socket: impl Into<socket2::Socket>, listening: bool) -> Self {
        let inner = socket.into();
        Socket { inner, listening }
    }

    pub(super) fn peer_addr(&self) -> io::Result<Addr> {
        self.inner.peer_addr().map(|addr| Addr::from_sock(&addr))
    }

    pub(super) fn local_addr(&self) -> io::Result<Addr> {
        self.inner.local_addr().map(|addr| Addr::from_sock(&addr))
    }

    pub(super) fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.inner.set_tcp_nodelay(on)
    }

    /// A new listening socket.
    pub(super) fn listen(addr: SocketAddr, options: &ListenOptions) -> io::Result<Self> {
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
    pub(super) fn connect(addr: SocketAddr, nodelay: bool) -> io::Result<Self> {
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
    pub(super) fn connected(&self) -> io::Result<Option<Addr>> {
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
    pub(super) fn prepare(&self) -> io::Result<()> {
        self.inner.set_nonblocking(true)?;
        sending::no_sigpipe(&self.inner)
    }

    pub(super) fn is_listening(&self) -> bool {
        self.listening
    }

    pub(super) fn accept(&self) -> io::Result<(Socket, Addr)> {
        let (inner, peer) = accepting::accept(&self.inner)?;
        let listening = false;
        Ok((Socket { inner, listening }, peer))
    }

    pub(super) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        retry(|| (&self.inner).read(buffer))
    }

    /// Throws the urgent byte away, if there is one: left where it is, it would wake the loop
    /// again and again.
    pub(super) fn drop_out_of_band(&self) {
        let mut byte = [std::mem::MaybeUninit::new(0)];
        // It fails when nothing is there any more (the handler took it): that is the aim.
        let _ = self.inner.recv_out_of_band(&mut byte);
    }

    pub(super) fn send(&self, data: &[u8]) -> io::Result<usize> {
        retry(|| sending::send(&self.inner, data))
    }

    pub(super) fn send_gathered(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match parts {
            [only] => self.send(only),
            parts => retry(|| sending::send_gathered(&self.inner, parts)),
        }
    }

    pub(super) fn shutdown_write(&self) -> io::Result<()> {
        self.inner.shutdown(std::net::Shutdown::Write)
    }

    /// Makes the close to come a reset: what is queued in the kernel is thrown away.
    pub(super) fn reset_on_close(&self) -> io::Result<()> {
        self.inner.set_linger(Some(Duration::ZERO))
    }

    /// What the poller registers.
    pub(super) fn source(&self) -> &socket2::Socket {
        &self.inner
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
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

/// Whether an error is EPROTO, for which the standard library has no kind: accept(2) passes it on
/// from the connection.
#[cfg(unix)]
pub(crate) fn is_protocol_error(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::PROTO.raw_os_error())
}

#[cfg(not(unix))]
pub(crate) fn is_protocol_error(_: &io::Error) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens by chance to a client of a port that nobody listens on.
    #[test]
    fn a_connection_to_itself_is_none() {
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let inner = tcp(any).unwrap();
        inner.bind(&any.into()).unwrap();
        match inner.connect(&inner.local_addr().unwrap()) {
            Ok(()) => {}
            Err(error) => assert!(connecting(&error), "{error}"),
        }
        let outcome = Socket::of(inner, false).connected();
        let refused = Some(io::ErrorKind::ConnectionRefused);
        assert_eq!(outcome.err().map(|error| error.kind()), refused);
    }
}

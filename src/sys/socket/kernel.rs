//! The system's own sockets: every system call on a socket is made here.
//!
//! What differs between platforms (a send without SIGPIPE, an accept that is non-blocking from
//! its first instant) is in the two modules at the end; the rest is `socket2`.

use std::fmt;
use std::io::{self, IoSlice, Read};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;
#[cfg(unix)]
use std::{fs::File, os::fd::OwnedFd, os::unix::net::UnixDatagram};

use socket2::{Domain, Protocol, SockRef, Type};

use super::ListenOptions;
use super::datagram::Datagram;
#[cfg(unix)]
use super::descriptor::{Descriptor, is_socket};
#[cfg(unix)]
use super::standard::Standard;
use crate::Addr;
use crate::log::log;

/// A descriptor of the system's.
pub(super) enum Socket {
    Stream(socket2::Socket),
    Listener(socket2::Socket),
    Datagram(Datagram),
    #[cfg(unix)]
    Descriptor(Descriptor),
}

impl Socket {
    pub(super) fn stream(socket: impl Into<socket2::Socket>) -> Self {
        Socket::Stream(socket.into())
    }

    pub(super) fn listener(socket: impl Into<socket2::Socket>) -> Self {
        Socket::Listener(socket.into())
    }

    pub(super) fn udp(socket: UdpSocket) -> Self {
        Socket::Datagram(Datagram::Udp(socket))
    }

    #[cfg(unix)]
    pub(super) fn unix_datagram(socket: UnixDatagram) -> Self {
        Socket::Datagram(Datagram::Unix(socket))
    }

    /// Whatever it is: an inherited descriptor says so itself.
    #[cfg(unix)]
    pub(super) fn descriptor(fd: impl Into<OwnedFd>) -> Self {
        let file = File::from(fd.into());
        let (is_socket, fd) = (is_socket(&file), OwnedFd::from(file));
        if !is_socket {
            return Socket::Descriptor(Descriptor::new(fd));
        }
        let socket = socket2::Socket::from(fd);
        let is = |kind: Type| socket.r#type().is_ok_and(|it| it == kind);
        let inet = socket
            .local_addr()
            .is_ok_and(|addr| addr.as_socket().is_some());
        match () {
            () if is(Type::DGRAM) && inet => Socket::udp(socket.into()),
            () if is(Type::DGRAM) => Socket::unix_datagram(socket.into()),
            () if listens(&socket) => Socket::Listener(socket),
            () => Socket::Stream(socket),
        }
    }

    /// The standard input of this process.
    #[cfg(unix)]
    pub(super) fn standard_input(fd: OwnedFd) -> io::Result<Self> {
        Socket::standard(fd, Standard::input)
    }

    /// The standard output of this process.
    #[cfg(unix)]
    pub(super) fn standard_output(fd: OwnedFd) -> io::Result<Self> {
        Socket::standard(fd, Standard::output)
    }

    /// A socket there is one that others have as well, and treated as any other file. One of another
    /// kind than streams is what it is, and refused.
    #[cfg(unix)]
    fn standard(
        fd: OwnedFd,
        make: impl FnOnce(OwnedFd) -> io::Result<Standard>,
    ) -> io::Result<Self> {
        let standard = match Socket::descriptor(fd) {
            Socket::Descriptor(Descriptor::Own(fd)) => make(fd)?,
            Socket::Stream(socket) => make(socket.into())?,
            other => return Ok(other),
        };
        Ok(Socket::Descriptor(Descriptor::Standard(Box::new(standard))))
    }

    /// A view of it as a socket: for its addresses and options, and for the poller.
    pub(super) fn view(&self) -> SockRef<'_> {
        match self {
            Socket::Stream(socket) | Socket::Listener(socket) => SockRef::from(socket),
            Socket::Datagram(socket) => socket.view(),
            #[cfg(unix)]
            Socket::Descriptor(descriptor) => descriptor.view(),
        }
    }

    pub(super) fn peer_addr(&self) -> io::Result<Addr> {
        self.view().peer_addr().map(|addr| Addr::from_sock(&addr))
    }

    pub(super) fn local_addr(&self) -> io::Result<Addr> {
        self.view().local_addr().map(|addr| Addr::from_sock(&addr))
    }

    pub(super) fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.view().set_tcp_nodelay(on)
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
        // Accepted sockets inherit it, which saves a call for each: see `accepting`.
        inner.set_tcp_nodelay(options.nodelay)?;
        inner.bind(&addr.into())?;
        inner.listen(options.backlog)?;
        Ok(Socket::Listener(inner))
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
        Ok(Socket::Stream(inner))
    }

    /// The outcome of a connection under way: up with this peer, not known yet, or failed.
    pub(super) fn connected(&self) -> io::Result<Option<Addr>> {
        let socket = self.view();
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        let peer = match socket.peer_addr() {
            Ok(peer) => peer,
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(None),
            Err(error) => return Err(error),
        };
        // A port in the ephemeral range that nobody listens on can be handed to the very socket
        // that connects to it (simultaneous open, RFC 9293 3.5): it then talks to itself.
        if socket.local_addr()? == peer {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "the socket connected to itself: nobody listens on that port",
            ));
        }
        Ok(Some(Addr::from_sock(&peer)))
    }

    /// Made ready for a channel: non-blocking, and never a source of SIGPIPE.
    pub(super) fn prepare(&self) -> io::Result<()> {
        match self {
            Socket::Stream(socket) => {
                socket.set_nonblocking(true)?;
                sending::no_sigpipe(socket)
            }
            Socket::Listener(socket) => {
                socket.set_nonblocking(true)?;
                // For the sockets that it accepts. One that is not of TCP has no such option.
                if let Err(error) = socket.set_tcp_nodelay(true) {
                    log!(debug, %error, "TCP_NODELAY is not set on a listener");
                }
                Ok(())
            }
            Socket::Datagram(socket) => socket.view().set_nonblocking(true),
            #[cfg(unix)]
            Socket::Descriptor(descriptor) => descriptor.prepare(),
        }
    }

    pub(super) fn prepare_output(&self) -> io::Result<()> {
        match self {
            #[cfg(unix)]
            Socket::Descriptor(descriptor) => descriptor.unblock(),
            other => other.prepare(),
        }
    }

    /// Whether it takes output at any time, or fails: there is nothing to wait for.
    pub(super) fn is_always_writable(&self) -> bool {
        match self {
            #[cfg(unix)]
            Socket::Descriptor(descriptor) => descriptor.is_always_writable(),
            _ => false,
        }
    }

    pub(super) fn is_listening(&self) -> bool {
        matches!(self, Socket::Listener(_))
    }

    /// Whether it is a stream of bytes, with an end.
    pub(super) fn can_be_reset(&self) -> bool {
        matches!(self, Socket::Stream(_))
    }

    pub(super) fn is_stream(&self) -> bool {
        match self {
            Socket::Stream(_) => true,
            Socket::Listener(_) | Socket::Datagram(_) => false,
            #[cfg(unix)]
            Socket::Descriptor(_) => true,
        }
    }

    pub(super) fn accept(&self) -> io::Result<(Socket, Addr)> {
        let (accepted, peer) = accepting::accept(&self.view())?;
        Ok((Socket::Stream(accepted), peer))
    }

    pub(super) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        retry(|| match self {
            Socket::Stream(socket) | Socket::Listener(socket) => (&*socket).read(buffer),
            Socket::Datagram(socket) => socket.recv(buffer),
            #[cfg(unix)]
            Socket::Descriptor(descriptor) => descriptor.recv(buffer),
        })
    }

    #[cfg(unix)]
    pub(super) fn has_hung_up(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};

        let view = self.view();
        let mut polled = [PollFd::new(&*view, PollFlags::empty())];
        let found = poll(&mut polled, Some(&Timespec::default()));
        let [polled] = polled;
        let hung_up = PollFlags::HUP | PollFlags::ERR;
        found.is_ok() && polled.revents().intersects(hung_up)
    }

    #[cfg(not(unix))]
    pub(super) fn has_hung_up(&self) -> bool {
        false
    }

    pub(super) fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.view().take_error()
    }

    pub(super) fn peek(&self) -> io::Result<usize> {
        let mut byte = [std::mem::MaybeUninit::new(0)];
        retry(|| self.view().peek(&mut byte))
    }

    pub(super) fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, Addr)> {
        match self {
            Socket::Datagram(socket) => retry(|| socket.recv_from(buffer)),
            _ => Err(no_datagrams()),
        }
    }

    pub(super) fn send_to(&self, data: &[u8], addr: &Addr) -> io::Result<usize> {
        match self {
            Socket::Datagram(socket) => retry(|| socket.send_to(data, addr)),
            _ => Err(no_datagrams()),
        }
    }

    /// Has urgent data received in its place in the stream, here and on what is accepted here.
    pub(super) fn set_urgent_inline(&self) -> io::Result<()> {
        match self {
            #[cfg(not(target_os = "redox"))]
            Socket::Stream(socket) | Socket::Listener(socket) => {
                socket.set_out_of_band_inline(true)
            }
            _ => Ok(()),
        }
    }

    /// Throws the urgent byte away, if there is one: left where it is, it would wake the loop
    /// again and again.
    pub(super) fn drop_out_of_band(&self) {
        let mut byte = [std::mem::MaybeUninit::new(0)];
        // It fails when nothing is there any more (the handler took it, or it is received inline):
        // that is the aim.
        let _ = self.view().recv_out_of_band(&mut byte);
    }

    pub(super) fn send(&self, data: &[u8]) -> io::Result<usize> {
        retry(|| match self {
            Socket::Stream(socket) | Socket::Listener(socket) => sending::send(socket, data),
            Socket::Datagram(socket) => socket.send(data),
            #[cfg(unix)]
            Socket::Descriptor(descriptor) => descriptor.send(data),
        })
    }

    pub(super) fn send_gathered(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match (self, parts) {
            (_, [only]) => self.send(only),
            #[cfg(unix)]
            (Socket::Descriptor(descriptor), parts) => retry(|| descriptor.send_gathered(parts)),
            (_, parts) => retry(|| sending::send_gathered(&self.view(), parts)),
        }
    }

    pub(super) fn shutdown_write(&self) -> io::Result<()> {
        match self {
            // It has no side to shut down, and its end is its close: unless it is a socket that others
            // have as well (inetd's).
            #[cfg(unix)]
            Socket::Descriptor(_) if self.view().r#type().is_err() => Ok(()),
            other => other.view().shutdown(std::net::Shutdown::Write),
        }
    }

    /// Makes the close to come a reset: what is queued in the kernel is thrown away.
    pub(super) fn reset_on_close(&self) -> io::Result<()> {
        self.view().set_linger(Some(Duration::ZERO))
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

fn no_datagrams() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "the socket is not one of datagrams",
    )
}

/// Whether an inherited socket listens.
#[cfg(unix)]
fn listens(socket: &socket2::Socket) -> bool {
    #[cfg(any(target_os = "android", target_os = "freebsd", target_os = "linux"))]
    return socket.is_listener().unwrap_or(false);
    // Where the system does not tell: it is connected to nobody.
    #[cfg(not(any(target_os = "android", target_os = "freebsd", target_os = "linux")))]
    return socket.peer_addr().is_err();
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
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
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

/// Accepting in one call, where accept4 exists. On these systems the socket inherits the options of
/// its listener.
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
                Err(_) => {
                    SocketAddrUnix::try_from(peer).map_or(Addr::Unix(None), |it| unix_addr(&it))
                }
            },
            None => Addr::Unix(None),
        };
        Ok((accepted.into(), addr))
    }

    fn unix_addr(addr: &SocketAddrUnix) -> Addr {
        use std::os::unix::ffi::OsStringExt;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(name) = addr.abstract_name().filter(|it| !it.is_empty()) {
            return Addr::Abstract(name.into());
        }
        let path = addr.path().map(|path| path.to_bytes().to_vec());
        let path = path.filter(|path| !path.is_empty());
        Addr::Unix(path.map(|path| std::ffi::OsString::from_vec(path).into()))
    }
}

/// Everywhere else. Not all of these systems say that options are inherited.
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
        inherit_options(socket, &accepted);
        Ok((accepted, Addr::from_sock(&peer)))
    }

    /// An option that the listener does not have (it is of the Unix domain) is none of the socket's,
    /// and one that cannot be set costs speed, or an urgent byte, but no connection.
    fn inherit_options(listener: &Socket, accepted: &Socket) {
        if listener.tcp_nodelay().unwrap_or(false) {
            let _ = accepted.set_tcp_nodelay(true);
        }
        #[cfg(not(target_os = "redox"))]
        if listener.out_of_band_inline().unwrap_or(false) {
            let _ = accepted.set_out_of_band_inline(true);
        }
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
        let outcome = Socket::Stream(inner).connected();
        let refused = Some(io::ErrorKind::ConnectionRefused);
        assert_eq!(outcome.err().map(|error| error.kind()), refused);
    }
}

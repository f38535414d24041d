//! One descriptor: all calls on sockets, pipes, terminals and simulated sockets.

use std::fmt;
use std::io::{self, IoSlice};
use std::mem;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;
#[cfg(unix)]
use std::{fs::File, os::fd::AsFd, os::fd::OwnedFd, os::unix::net::UnixDatagram};

#[cfg(unix)]
use rustix::io::retry_on_intr;
#[cfg(unix)]
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use socket2::SockRef;

use super::accept::accept;
use super::address::from_socket2;
#[cfg(unix)]
use super::credentials::{Credentials, peer_credentials};
use super::datagram::Datagram;
use super::descriptor::Descriptor;
#[cfg(unix)]
use super::descriptor::is_socket;
#[cfg(unix)]
use super::listens::listens;
#[cfg(unix)]
use super::standard_stream::StandardStream;
use super::tcp::{self, ConnectOptions, ListenOptions};
use super::unnamed::named;
use super::unsent::unsent;
use super::{Socket, ended, retry_interrupted};
use crate::addr::Addr;
use crate::log::log;
#[cfg(feature = "sim")]
use crate::sys::simulated;

/// One descriptor of the operating system, or a simulated socket.
pub(crate) enum Fd {
    Stream(socket2::Socket),
    /// A stream whose connection had ended in both directions when it was adopted: see `ended.rs`.
    Ended(socket2::Socket),
    Listener(socket2::Socket),
    Datagram(Datagram),
    /// No socket: a pipe, a terminal, a standard stream. On Windows only a standard stream.
    Descriptor(Descriptor),
    #[cfg(feature = "sim")]
    Simulated(simulated::Socket),
    /// Nothing: what is left where a socket was taken out, until it is dropped.
    Released,
}

/// A write to a connection that was reset raises SIGPIPE, which kills a process that has left the
/// signal at its default. This flag prevents it; Apple's systems have a socket option instead
/// ([`Fd::prepare`]). `writev` takes no flags, so gathered output goes through `sendmsg`.
#[cfg(all(unix, not(any(target_vendor = "apple", target_os = "redox"))))]
const NO_SIGPIPE: SendFlags = SendFlags::NOSIGNAL;
#[cfg(all(unix, any(target_vendor = "apple", target_os = "redox")))]
const NO_SIGPIPE: SendFlags = SendFlags::empty();

/// Returns what a simulated socket answers, if `$fd` is one.
macro_rules! if_simulated {
    ($fd:expr, $socket:pat => $answer:expr) => {
        #[cfg(feature = "sim")]
        if let Fd::Simulated($socket) = $fd {
            return $answer;
        }
    };
}

impl Fd {
    // ---- making one

    /// A new TCP socket that listens.
    pub(crate) fn listen(addr: SocketAddr, options: &ListenOptions) -> io::Result<Self> {
        Ok(Fd::Listener(tcp::listen(addr, options)?))
    }

    /// A new TCP socket whose connection to `addr` is in progress.
    pub(crate) fn connect(addr: SocketAddr, options: &ConnectOptions) -> io::Result<Self> {
        Ok(Fd::Stream(tcp::connect(addr, options)?))
    }

    /// A new UDP socket.
    pub(crate) fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = tcp::for_both(addr, socket2::Type::DGRAM, false)?;
        socket.bind(&addr.into())?;
        Ok(Fd::udp(socket.into()))
    }

    pub(super) fn stream(socket: impl Into<socket2::Socket>) -> Self {
        Fd::Stream(socket.into())
    }

    pub(super) fn listener(socket: impl Into<socket2::Socket>) -> Self {
        Fd::Listener(socket.into())
    }

    pub(super) fn udp(socket: UdpSocket) -> Self {
        Fd::Datagram(Datagram::udp(socket))
    }

    #[cfg(unix)]
    pub(super) fn unix_datagram(socket: UnixDatagram) -> Self {
        Fd::Datagram(Datagram::Unix(socket))
    }

    /// An inherited descriptor of any kind. The system says which kind it is.
    #[cfg(unix)]
    pub(super) fn inherited(fd: impl Into<OwnedFd>) -> Self {
        let file = File::from(fd.into());
        let (is_socket, fd) = (is_socket(&file), OwnedFd::from(file));
        if !is_socket {
            return Fd::Descriptor(Descriptor::new(fd));
        }
        let socket = socket2::Socket::from(fd);
        let is_datagram = socket
            .r#type()
            .is_ok_and(|kind| kind == socket2::Type::DGRAM);
        let is_inet = || {
            let local = socket.local_addr();
            local.is_ok_and(|addr| addr.as_socket().is_some())
        };
        if is_datagram && is_inet() {
            Fd::udp(socket.into())
        } else if is_datagram {
            Fd::unix_datagram(socket.into())
        } else if listens(&socket) {
            Fd::Listener(socket)
        } else {
            Fd::Stream(socket)
        }
    }

    /// The standard input of this process, duplicated.
    #[cfg(unix)]
    pub(super) fn standard_input() -> io::Result<Self> {
        let fd = io::stdin().as_fd().try_clone_to_owned()?;
        Fd::standard(fd, StandardStream::input)
    }

    /// The standard input of this process.
    #[cfg(not(unix))]
    pub(super) fn standard_input() -> io::Result<Self> {
        Descriptor::standard_input().map(Fd::Descriptor)
    }

    /// The standard output of this process, duplicated.
    #[cfg(unix)]
    pub(super) fn standard_output() -> io::Result<Self> {
        let fd = io::stdout().as_fd().try_clone_to_owned()?;
        Fd::standard(fd, StandardStream::output)
    }

    /// The standard output of this process.
    #[cfg(not(unix))]
    pub(super) fn standard_output() -> io::Result<Self> {
        Descriptor::standard_output().map(Fd::Descriptor)
    }

    /// A stream socket that is a standard stream is shared with other processes, and is treated like
    /// any other file. A listener or a datagram socket stays what it is, and is refused later.
    #[cfg(unix)]
    fn standard(
        fd: OwnedFd,
        new: impl FnOnce(OwnedFd) -> io::Result<StandardStream>,
    ) -> io::Result<Self> {
        let stream = match Fd::inherited(fd) {
            Fd::Descriptor(Descriptor::Owned(fd)) => new(fd)?,
            Fd::Stream(socket) => new(socket.into())?,
            other => return Ok(other),
        };
        Ok(Fd::Descriptor(Descriptor::Standard(Box::new(stream))))
    }

    // ---- receiving and sending
    //
    // TCP and Unix-domain streams are the hot path. The calls for the other kinds are not inlined, so
    // that these functions need no stack, and no table of jumps.

    #[inline]
    pub(crate) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            #[cfg(unix)]
            Fd::Stream(socket) => {
                let mut receive = || rustix::net::recv(socket, &mut *buffer, RecvFlags::empty());
                Ok(retry_on_intr(&mut receive).map_err(named)?.0)
            }
            #[cfg(not(unix))]
            Fd::Stream(socket) => {
                retry_interrupted(|| io::Read::read(&mut &*socket, buffer)).map_err(named)
            }
            _ => self.recv_from_other(buffer),
        }
    }

    #[inline(never)]
    fn recv_from_other(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Fd::Ended(socket) => ended::recv(socket, buffer),
            Fd::Datagram(socket) => socket.recv(buffer),
            Fd::Descriptor(descriptor) => descriptor.recv(buffer),
            #[cfg(feature = "sim")]
            Fd::Simulated(socket) => socket.recv(buffer),
            Fd::Stream(_) | Fd::Listener(_) | Fd::Released => {
                Err(io::ErrorKind::NotConnected.into())
            }
        }
    }

    #[inline]
    pub(crate) fn send(&self, data: &[u8]) -> io::Result<usize> {
        match self {
            #[cfg(unix)]
            Fd::Stream(socket) => {
                retry_on_intr(|| rustix::net::send(socket, data, NO_SIGPIPE)).map_err(named)
            }
            #[cfg(not(unix))]
            Fd::Stream(socket) => retry_interrupted(|| socket.send(data)).map_err(named),
            _ => self.send_to_other(data),
        }
    }

    #[inline(never)]
    fn send_to_other(&self, data: &[u8]) -> io::Result<usize> {
        match self {
            Fd::Ended(_) => Err(io::ErrorKind::BrokenPipe.into()),
            Fd::Datagram(socket) => socket.send(data),
            Fd::Descriptor(descriptor) => descriptor.send(data),
            #[cfg(feature = "sim")]
            Fd::Simulated(socket) => socket.send(data),
            Fd::Stream(_) | Fd::Listener(_) | Fd::Released => {
                Err(io::ErrorKind::NotConnected.into())
            }
        }
    }

    /// Sends several parts in one call. For a single part, [`send`](Fd::send) is cheaper.
    pub(crate) fn send_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            #[cfg(unix)]
            Fd::Stream(socket) | Fd::Listener(socket) => {
                let mut no_control = SendAncillaryBuffer::default();
                let mut send = || rustix::net::sendmsg(socket, parts, &mut no_control, NO_SIGPIPE);
                retry_on_intr(&mut send).map_err(named)
            }
            #[cfg(not(unix))]
            Fd::Stream(socket) | Fd::Listener(socket) => {
                retry_interrupted(|| socket.send_vectored(parts)).map_err(named)
            }
            Fd::Ended(_) => Err(io::ErrorKind::BrokenPipe.into()),
            Fd::Datagram(socket) => retry_interrupted(|| socket.view().send_vectored(parts)),
            Fd::Descriptor(descriptor) => descriptor.send_vectored(parts),
            #[cfg(feature = "sim")]
            Fd::Simulated(socket) => socket.send_vectored(parts),
            Fd::Released => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    pub(crate) fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, Addr)> {
        match self {
            Fd::Datagram(socket) => socket.recv_from(buffer),
            _ => Err(not_a_datagram_socket()),
        }
    }

    pub(crate) fn send_to(&self, data: &[u8], addr: &Addr) -> io::Result<usize> {
        match self {
            Fd::Datagram(socket) => socket.send_to(data, addr),
            _ => Err(not_a_datagram_socket()),
        }
    }

    /// Returns 1 if a byte can be received, without receiving it, and 0 at the end of the stream. If there is
    /// neither, the error is `WouldBlock`.
    pub(crate) fn peek(&self) -> io::Result<usize> {
        if_simulated!(self, socket => socket.peek());
        let mut byte = [mem::MaybeUninit::new(0)];
        retry_interrupted(|| self.view()?.peek(&mut byte)).map_err(named)
    }

    /// Sets SO_OOBINLINE: urgent data is received in its place in the stream. Sockets that a listener accepts
    /// inherit the option. A simulated socket has no such option and delivers urgent data separately.
    pub(crate) fn set_urgent_inline(&self) -> io::Result<()> {
        match self {
            #[cfg(not(target_os = "redox"))]
            Fd::Stream(socket) | Fd::Listener(socket) => socket.set_out_of_band_inline(true),
            _ => Ok(()),
        }
    }

    /// Sends `data`, of which the last byte is urgent (MSG_OOB).
    pub(crate) fn send_urgent(&self, data: &[u8]) -> io::Result<usize> {
        if_simulated!(self, socket => socket.send_urgent(data));
        match self {
            #[cfg(unix)]
            Fd::Stream(socket) => {
                let send = || rustix::net::send(socket, data, NO_SIGPIPE | SendFlags::OOB);
                retry_on_intr(send).map_err(named)
            }
            #[cfg(not(unix))]
            Fd::Stream(socket) => {
                retry_interrupted(|| socket.send_out_of_band(data)).map_err(named)
            }
            Fd::Ended(_) => Err(io::ErrorKind::BrokenPipe.into()),
            _ => Err(has_no_urgent_data()),
        }
    }

    /// Receives the urgent byte (MSG_OOB). Without one the error is `WouldBlock`.
    pub(crate) fn recv_urgent(&self) -> io::Result<u8> {
        if_simulated!(self, socket => socket.recv_urgent());
        match self {
            #[cfg(unix)]
            Fd::Stream(socket) | Fd::Ended(socket) => {
                let mut byte = [0];
                let mut receive = || rustix::net::recv(socket, &mut byte[..], RecvFlags::OOB);
                match retry_on_intr(&mut receive) {
                    Ok((1, _)) => Ok(byte[0]),
                    // It was received already, or there has been none, or it is inline.
                    Ok(_) | Err(rustix::io::Errno::INVAL) => Err(io::ErrorKind::WouldBlock.into()),
                    Err(error) => Err(named(error)),
                }
            }
            _ => Err(has_no_urgent_data()),
        }
    }

    /// Discards the urgent byte, if there is one. The poller reports it again and again until it is read.
    pub(crate) fn discard_urgent(&self) {
        if_simulated!(self, socket => socket.discard_urgent());
        let mut byte = [mem::MaybeUninit::new(0)];
        // It fails if there is no such byte any more: the handler has received it, or it is inline.
        let _ = self
            .view()
            .and_then(|socket| socket.recv_out_of_band(&mut byte));
    }

    // ---- connections

    pub(crate) fn accept(&self) -> io::Result<(Socket, Addr)> {
        match self {
            Fd::Listener(listener) => {
                let (accepted, peer) = accept(listener)?;
                Ok((accepted.into(), peer))
            }
            #[cfg(feature = "sim")]
            Fd::Simulated(listener) => {
                let (accepted, peer) = listener.accept()?;
                Ok((Fd::Simulated(accepted).into(), peer))
            }
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// The outcome of a connect: the address of the peer, `None` while it is still in progress, or why
    /// it failed.
    pub(crate) fn connected(&self) -> io::Result<Option<Addr>> {
        if_simulated!(self, socket => socket.connected());
        tcp::connected(&self.view()?).map_err(named)
    }

    /// The error that has ended the connection. The system reports it once.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        if_simulated!(self, socket => socket.take_error());
        let error = self.view()?.take_error().map_err(named)?;
        Ok(error.map(named))
    }

    /// Whether nobody receives what is sent here any more, where the system says so.
    pub(crate) fn has_hung_up(&self) -> bool {
        if_simulated!(self, socket => socket.has_hung_up());
        self.view().is_ok_and(|socket| has_hung_up(&socket))
    }

    /// How many sent bytes the kernel holds that the peer's kernel has not acknowledged. Zero where
    /// the system does not say.
    pub(crate) fn unsent(&self) -> usize {
        if_simulated!(self, socket => socket.unsent());
        let unsent = self.view().ok().and_then(|socket| unsent(&socket));
        unsent.unwrap_or(0)
    }

    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        if_simulated!(self, socket => socket.shutdown_write());
        match self {
            // A pipe has no sending side to shut down; its close is its end. The descriptor may be a
            // socket all the same: a standard stream under inetd.
            Fd::Descriptor(descriptor) if descriptor.view().and_then(|it| it.r#type()).is_err() => {
                Ok(())
            }
            _ => self.view()?.shutdown(std::net::Shutdown::Write),
        }
    }

    /// Makes the later close a reset. The kernel then discards what it has not sent yet.
    pub(crate) fn reset_on_close(&self) -> io::Result<()> {
        if_simulated!(self, socket => socket.reset_on_close());
        self.view()?.set_linger(Some(Duration::ZERO))
    }

    // ---- kinds, addresses, options

    pub(crate) fn is_listening(&self) -> bool {
        if_simulated!(self, socket => socket.is_listening());
        matches!(self, Fd::Listener(_))
    }

    /// Whether it is a stream of bytes, which has an end.
    pub(crate) fn is_stream(&self) -> bool {
        !matches!(self, Fd::Listener(_) | Fd::Datagram(_))
    }

    /// Whether a close with unread input destroys output that is on its way.
    pub(crate) fn can_be_reset(&self) -> bool {
        if_simulated!(self, _ => true);
        matches!(self, Fd::Stream(_))
    }

    /// Whether a send that meets a reset tells if the peer had finished sending before: EPIPE if it had, and ECONNRESET
    /// otherwise (TCP on Linux, `tcp_reset` in net/ipv4/tcp_input.c). Other systems report ECONNRESET for both.
    pub(crate) fn reports_reset_after_end(&self) -> bool {
        if_simulated!(self, _ => true);
        matches!(self, Fd::Stream(_)) && cfg!(any(target_os = "linux", target_os = "android"))
    }

    /// Whether it takes output at any time, or fails: there is nothing to wait for.
    pub(crate) fn is_always_writable(&self) -> bool {
        match self {
            Fd::Descriptor(descriptor) => descriptor.is_always_writable(),
            _ => false,
        }
    }

    pub(crate) fn peer_addr(&self) -> io::Result<Addr> {
        if_simulated!(self, socket => socket.peer_addr());
        Ok(from_socket2(&self.view()?.peer_addr()?))
    }

    pub(crate) fn local_addr(&self) -> io::Result<Addr> {
        if_simulated!(self, socket => socket.local_addr());
        Ok(from_socket2(&self.view()?.local_addr()?))
    }

    #[cfg(unix)]
    pub(crate) fn peer_credentials(&self) -> io::Result<Credentials> {
        peer_credentials(&self.view()?)
    }

    pub(crate) fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.set_option(|socket| socket.set_tcp_nodelay(on))
    }

    /// Sets a socket option. A simulated socket has none, and ignores it.
    pub(crate) fn set_option(
        &self,
        set: impl FnOnce(&socket2::Socket) -> io::Result<()>,
    ) -> io::Result<()> {
        if_simulated!(self, _ => Ok(()));
        set(&*self.view()?)
    }

    /// Makes it ready for a channel: non-blocking, and without SIGPIPE.
    pub(crate) fn prepare(&mut self) -> io::Result<()> {
        match self {
            Fd::Stream(socket) => {
                let outcome = ended::prepare(socket);
                self.prepared(outcome, ended::REFUSES_OPTIONS)
            }
            Fd::Ended(_) => Ok(()),
            Fd::Listener(socket) => {
                socket.set_nonblocking(true)?;
                // Accepted sockets inherit the option. Only TCP has it.
                if let Err(error) = socket.set_tcp_nodelay(true) {
                    log!(debug, %error, "TCP_NODELAY is not set on a listener");
                }
                Ok(())
            }
            Fd::Datagram(socket) => socket.view().set_nonblocking(true),
            Fd::Descriptor(descriptor) => descriptor.prepare(),
            #[cfg(feature = "sim")]
            Fd::Simulated(_) => Ok(()),
            Fd::Released => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// The outcome of preparing a stream, on a system that may refuse it to a connection that has ended.
    pub(super) fn prepared(
        &mut self,
        outcome: io::Result<()>,
        refuses_options: bool,
    ) -> io::Result<()> {
        match outcome {
            Err(error) if refuses_options && error.kind() == io::ErrorKind::InvalidInput => {
                *self = match mem::replace(self, Fd::Released) {
                    Fd::Stream(socket) => Fd::Ended(socket),
                    other => other,
                };
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Makes it ready for output only. A regular file is allowed here, because writing to it never waits.
    pub(crate) fn prepare_output(&mut self) -> io::Result<()> {
        match self {
            Fd::Descriptor(descriptor) => descriptor.set_nonblocking(),
            other => other.prepare(),
        }
    }

    // ---- operating system or simulation

    /// A view as a socket of the operating system: for its addresses and options, and for the poller.
    ///
    /// # Errors
    /// When the socket is simulated.
    #[inline]
    pub(crate) fn view(&self) -> io::Result<SockRef<'_>> {
        match self {
            Fd::Stream(socket) | Fd::Ended(socket) | Fd::Listener(socket) => {
                Ok(SockRef::from(socket))
            }
            Fd::Datagram(socket) => Ok(socket.view()),
            Fd::Descriptor(descriptor) => descriptor.view(),
            #[cfg(feature = "sim")]
            Fd::Simulated(_) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a simulated socket works only on a loop of its network",
            )),
            Fd::Released => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Another descriptor of the same socket.
    pub(crate) fn duplicate(&self) -> io::Result<socket2::Socket> {
        self.view()?.try_clone()
    }

    /// The simulated socket.
    ///
    /// # Errors
    /// When it is one of the operating system.
    #[cfg(feature = "sim")]
    pub(crate) fn simulated(&self) -> io::Result<&simulated::Socket> {
        match self {
            Fd::Simulated(socket) => Ok(socket),
            _ => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a socket of the operating system does not work on a simulated loop",
            )),
        }
    }
}

impl fmt::Debug for Fd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if_simulated!(self, socket => socket.fmt(f));
        match self.view() {
            Ok(socket) => socket.fmt(f),
            Err(error) => error.fmt(f),
        }
    }
}

/// Neither socket2 nor the standard library has a safe function that receives urgent data on Windows.
fn has_no_urgent_data() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "no urgent data on this kind of socket, or on this system",
    )
}

fn not_a_datagram_socket() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "it is not a datagram socket")
}

#[cfg(unix)]
fn has_hung_up(socket: &socket2::Socket) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let mut polled = [PollFd::new(socket, PollFlags::empty())];
    let found = poll(&mut polled, Some(&Timespec::default()));
    let [polled] = polled;
    let hung_up = PollFlags::HUP | PollFlags::ERR;
    found.is_ok() && polled.revents().intersects(hung_up)
}

#[cfg(not(unix))]
fn has_hung_up(_: &socket2::Socket) -> bool {
    false
}

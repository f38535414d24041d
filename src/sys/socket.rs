//! The socket seam: what a channel asks of its socket, and who does it.
//!
//! It is the system (`socket/kernel.rs`; what is no stream in `socket/datagram.rs`, what is no socket in
//! `socket/descriptor.rs`), and that alone unless the feature `sim` is on: an enum of one arm, which
//! costs nothing. The other arm is a socket of the simulated network.

mod datagram;
#[cfg(unix)]
mod descriptor;
mod kernel;
#[cfg(unix)]
mod standard;
mod unsent;

pub(crate) use kernel::is_protocol_error;

use std::fmt;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use socket2::SockRef;

use crate::Addr;
#[cfg(feature = "sim")]
use crate::sim;

/// A socket, or another descriptor, on its way into a [`Channel`](crate::Channel).
///
/// A [`Dispatcher`](crate::Dispatcher) that listens is handed one for each accepted connection.
/// Whatever asyncore's `dispatcher` and `file_dispatcher` took converts into it: the sockets of the
/// standard library (TCP, UDP, on Unix those of the Unix domain, abstract names too), and on Unix an
/// [`OwnedFd`](std::os::fd::OwnedFd), a `File` that is a terminal, a serial line or a FIFO, a pipe, and
/// the standard streams of a child process. It is made non-blocking when a channel adopts it.
/// Dropping it closes it.
///
/// Options that a channel has no method for (multicast, broadcast) are set before:
///
/// ```
/// # fn main() -> asynchat::Result {
/// let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
/// socket.set_broadcast(true)?;
/// let channel = asynchat::Channel::adopt(socket)?;
/// # drop(channel);
/// # Ok(()) }
/// ```
pub struct Socket {
    fd: Fd,
    /// Where output goes, if that is another.
    output: Option<Box<Fd>>,
}

/// One descriptor of the system's, or one of the simulated network's.
pub(crate) struct Fd(Of);

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
    /// One that receives from `input` and sends to `output`: standard input and output, the pipes to
    /// and from a child, two FIFOs. Writing to a pipe that nobody reads raises SIGPIPE, which can not be
    /// turned off for one write as it is for sockets; a Rust program ignores that signal unless it says
    /// otherwise. A reader that is gone ends the output alone: what `input` brings is still delivered,
    /// unless the session is paused or its queue is over its high-water mark, and for as long as something
    /// comes within the [linger](crate::Deadlines::linger) time.
    /// `output` may be a regular file, too. [`shutdown_write`](crate::Channel::shutdown_write) closes
    /// `output`.
    ///
    /// ```
    /// # #[cfg(unix)]
    /// # fn main() -> asynchat::Result {
    /// use std::process::{Command, Stdio};
    ///
    /// use asynchat::{Connector, Socket};
    ///
    /// let mut sort = Command::new("sort").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    /// let (Some(output), Some(input)) = (sort.stdin.take(), sort.stdout.take()) else {
    ///     unreachable!("both are piped");
    /// };
    /// let chat = Connector::adopt(Socket::halves(input, output)).connect(|_| {
    ///     |line: &[u8]| {
    ///         println!("{}", String::from_utf8_lossy(line));
    ///         Ok(())
    ///     }
    /// })?;
    /// chat.set_terminator(asynchat::Terminator::line());
    /// chat.push("water\ngold\n");
    /// chat.shutdown_write();
    /// asynchat::run()?;
    /// sort.wait()?;
    /// # Ok(()) }
    /// # #[cfg(not(unix))]
    /// # fn main() {}
    /// ```
    pub fn halves(input: impl Into<Socket>, output: impl Into<Socket>) -> Self {
        let (input, output) = (input.into(), output.into());
        Socket {
            fd: input.fd,
            output: Some(output.output.unwrap_or_else(|| Box::new(output.fd))),
        }
    }

    /// This process's standard input and output, each duplicated: they stay open when the channel is
    /// closed, or shut down. An error of theirs says which of the two it is of.
    ///
    /// They are non-blocking from now on, also for others who have them: `println!` fails where the
    /// reader is slow, so write through the channel alone. When the socket is dropped, which the end of
    /// its channel does, they are as they were before. A program that is killed, or exits in between,
    /// leaves them non-blocking, which some shells mind: `sh` may then read nothing from its terminal
    /// until it is started anew.
    ///
    /// Input that cannot be waited for, which is a regular file or a device such as `/dev/null`, is read
    /// by a thread, some hundred kilobytes ahead at most. The thread ends with the file, or when it has
    /// read on after the channel has ended. Output to such a file is written at once, however long
    /// the disk takes.
    ///
    /// # Errors
    /// When one of them is closed, or cannot be duplicated or made non-blocking, and when there is no
    /// thread.
    #[cfg(unix)]
    pub fn stdio() -> io::Result<Self> {
        use std::os::fd::AsFd;
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        let output = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Socket::halves(
            Fd::from(kernel::Socket::standard_input(input)?),
            Fd::from(kernel::Socket::standard_output(output)?),
        ))
    }

    /// The other end.
    ///
    /// # Errors
    /// `NotConnected` when it is gone already, or the socket listens; another where there is no
    /// other end that has an address.
    pub fn peer_addr(&self) -> io::Result<Addr> {
        self.fd.peer_addr()
    }

    /// This end.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn local_addr(&self) -> io::Result<Addr> {
        self.fd.local_addr()
    }

    /// Whether small writes are sent at once instead of waiting for an acknowledgement
    /// (TCP_NODELAY). A [`Server`](crate::Server) and a [`Connector`](crate::Connector) turn it
    /// on: their output is gathered once a turn, so holding it back would only add delay.
    ///
    /// # Errors
    /// When the socket is not a TCP one.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.fd.set_nodelay(on)
    }

    /// Made ready for a channel: non-blocking, and never a source of SIGPIPE.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        self.fd.prepare()?;
        match &self.output {
            Some(output) => output.prepare_output(),
            None => Ok(()),
        }
    }

    pub(crate) fn has_fitting_halves(&self) -> bool {
        match &self.output {
            Some(output) => self.fd.is_stream() && output.is_stream(),
            None => true,
        }
    }

    pub(crate) fn into_halves(self) -> (Fd, Option<Box<Fd>>) {
        (self.fd, self.output)
    }

    pub(crate) fn is_listening(&self) -> bool {
        self.fd.is_listening()
    }

    /// Whether a chat can be on it.
    pub(crate) fn is_stream(&self) -> bool {
        self.fd.is_stream()
    }

    pub(crate) fn send(&self, data: &[u8]) -> io::Result<usize> {
        self.fd.send(data)
    }

    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        self.fd.shutdown_write()
    }
}

impl Fd {
    pub(crate) fn peer_addr(&self) -> io::Result<Addr> {
        forward!(self, socket => socket.peer_addr())
    }

    pub(crate) fn local_addr(&self) -> io::Result<Addr> {
        forward!(self, socket => socket.local_addr())
    }

    pub(crate) fn set_nodelay(&self, on: bool) -> io::Result<()> {
        forward!(self, socket => socket.set_nodelay(on))
    }

    /// A new listening socket, of the system's.
    pub(crate) fn listen(addr: SocketAddr, options: &ListenOptions) -> io::Result<Self> {
        Ok(Fd(Of::Kernel(kernel::Socket::listen(addr, options)?)))
    }

    /// A new socket, of the system's, whose connection to `addr` is under way.
    pub(crate) fn connect(addr: SocketAddr, nodelay: bool) -> io::Result<Self> {
        Ok(Fd(Of::Kernel(kernel::Socket::connect(addr, nodelay)?)))
    }

    /// The outcome of a connection under way: up with this peer, not known yet, or failed.
    pub(crate) fn connected(&self) -> io::Result<Option<Addr>> {
        forward!(self, socket => socket.connected())
    }

    /// Only to be written to: that never waits for a regular file.
    pub(crate) fn prepare_output(&self) -> io::Result<()> {
        match &self.0 {
            Of::Kernel(socket) => socket.prepare_output(),
            #[cfg(feature = "sim")]
            Of::Network(_) => Ok(()),
        }
    }

    /// Whether it takes output at any time, or fails: there is nothing to wait for.
    pub(crate) fn is_always_writable(&self) -> bool {
        match &self.0 {
            Of::Kernel(socket) => socket.is_always_writable(),
            #[cfg(feature = "sim")]
            Of::Network(_) => false,
        }
    }

    pub(crate) fn prepare(&self) -> io::Result<()> {
        forward!(self, socket => socket.prepare())
    }

    pub(crate) fn is_listening(&self) -> bool {
        forward!(self, socket => socket.is_listening())
    }

    pub(crate) fn accept(&self) -> io::Result<(Socket, Addr)> {
        forward!(self, socket => {
            let (accepted, peer) = socket.accept()?;
            Ok((Fd::from(accepted).into(), peer))
        })
    }

    /// Sets an option of the system's; a simulated socket has none.
    pub(crate) fn set_option(
        &self,
        call: impl FnOnce(&socket2::Socket) -> io::Result<()>,
    ) -> io::Result<()> {
        match &self.0 {
            Of::Kernel(socket) => call(&socket.view()),
            #[cfg(feature = "sim")]
            Of::Network(_) => Ok(()),
        }
    }

    /// Whether it is a stream of bytes, with an end, and no datagrams.
    pub(crate) fn is_stream(&self) -> bool {
        match &self.0 {
            Of::Kernel(socket) => socket.is_stream(),
            #[cfg(feature = "sim")]
            Of::Network(_) => true,
        }
    }

    /// Whether closing it with input unread destroys what was sent, too.
    pub(crate) fn can_be_reset(&self) -> bool {
        match &self.0 {
            Of::Kernel(socket) => socket.can_be_reset(),
            #[cfg(feature = "sim")]
            Of::Network(_) => true,
        }
    }

    pub(crate) fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, Addr)> {
        match &self.0 {
            Of::Kernel(socket) => socket.recv_from(buffer),
            #[cfg(feature = "sim")]
            Of::Network(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    pub(crate) fn send_to(&self, data: &[u8], addr: &Addr) -> io::Result<usize> {
        match &self.0 {
            Of::Kernel(socket) => socket.send_to(data, addr),
            #[cfg(feature = "sim")]
            Of::Network(_) => {
                let _ = (data, addr);
                Err(io::ErrorKind::Unsupported.into())
            }
        }
    }

    pub(crate) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        forward!(self, socket => socket.recv(buffer))
    }

    /// Whether nobody receives what is sent here any more, where the system says so.
    pub(crate) fn has_hung_up(&self) -> bool {
        forward!(self, socket => socket.has_hung_up())
    }

    /// The error that has ended its connection, once.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        forward!(self, socket => socket.take_error())
    }

    /// Whether there is something to receive: zero at the end, and not necessarily all of it.
    pub(crate) fn peek(&self) -> io::Result<usize> {
        forward!(self, socket => socket.peek())
    }

    /// Has urgent data received in its place in the stream, here and on what is accepted here. A
    /// simulated socket keeps it apart.
    pub(crate) fn set_urgent_inline(&self) -> io::Result<()> {
        match &self.0 {
            Of::Kernel(socket) => socket.set_urgent_inline(),
            #[cfg(feature = "sim")]
            Of::Network(_) => Ok(()),
        }
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

    /// How many bytes the kernel holds that the peer's has not taken. Zero where it does not say.
    pub(crate) fn unsent(&self) -> usize {
        match &self.0 {
            Of::Kernel(socket) => unsent::unsent(&socket.view()).unwrap_or(0),
            #[cfg(feature = "sim")]
            Of::Network(socket) => socket.unsent(),
        }
    }

    /// Makes the close to come a reset: what is queued in the kernel is thrown away.
    pub(crate) fn reset_on_close(&self) -> io::Result<()> {
        forward!(self, socket => socket.reset_on_close())
    }

    /// What the system's poller registers.
    ///
    /// # Errors
    /// When it is none of the system's.
    pub(crate) fn of_kernel(&self) -> io::Result<SockRef<'_>> {
        match &self.0 {
            Of::Kernel(socket) => Ok(socket.view()),
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
        forward!(&self.fd, socket => socket.fmt(f))
    }
}

impl From<Fd> for Socket {
    fn from(fd: Fd) -> Self {
        Socket { fd, output: None }
    }
}

impl From<kernel::Socket> for Fd {
    fn from(socket: kernel::Socket) -> Self {
        Fd(Of::Kernel(socket))
    }
}

#[cfg(feature = "sim")]
impl From<sim::Socket> for Fd {
    fn from(socket: sim::Socket) -> Self {
        Fd(Of::Network(socket))
    }
}

#[cfg(feature = "sim")]
impl From<sim::Socket> for Socket {
    fn from(socket: sim::Socket) -> Self {
        Fd::from(socket).into()
    }
}

/// What converts, by way of the kernel's.
macro_rules! from {
    ($($type:ty => $make:path),* $(,)?) => {
        $(impl From<$type> for Socket {
            fn from(from: $type) -> Self {
                Fd::from($make(from)).into()
            }
        })*
    };
}

from! {
    TcpStream => kernel::Socket::stream,
    TcpListener => kernel::Socket::listener,
    UdpSocket => kernel::Socket::udp,
}

#[cfg(unix)]
from! {
    std::os::unix::net::UnixStream => kernel::Socket::stream,
    std::os::unix::net::UnixListener => kernel::Socket::listener,
    std::os::unix::net::UnixDatagram => kernel::Socket::unix_datagram,
    std::os::fd::OwnedFd => kernel::Socket::descriptor,
    std::fs::File => kernel::Socket::descriptor,
    std::io::PipeReader => kernel::Socket::descriptor,
    std::io::PipeWriter => kernel::Socket::descriptor,
    std::process::ChildStdin => kernel::Socket::descriptor,
    std::process::ChildStdout => kernel::Socket::descriptor,
    std::process::ChildStderr => kernel::Socket::descriptor,
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

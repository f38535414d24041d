//! [`Socket`]: what a channel is made from.

mod accept;
mod address;
mod configure;
#[cfg(unix)]
mod credentials;
mod datagram;
#[cfg_attr(not(unix), path = "socket/windows_descriptor.rs")]
mod descriptor;
mod ended;
#[cfg(windows)]
mod exclusive;
mod fd;
#[cfg(unix)]
mod listens;
mod owned;
#[cfg(unix)]
mod path_lock;
mod reading_thread;
#[cfg(unix)]
mod socket_file;
#[cfg(unix)]
mod standard_stream;
mod tcp;
pub(crate) mod unix_domain;
mod unnamed;
mod unsent;

use std::fmt;
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};

use socket2::SockRef;

use crate::addr::Addr;

pub(crate) use accept::is_protocol_error;
#[cfg(feature = "proxy-protocol")]
pub(crate) use address::{path_bytes, path_from_bytes};
pub(crate) use configure::Configure;
#[cfg(unix)]
pub use credentials::Credentials;
pub(crate) use datagram::{is_lost, log_lost, skip_lost};
pub(crate) use fd::Fd;
pub(crate) use tcp::{ConnectOptions, ListenOptions, LocalAddrs, REUSE_PORT_SPREADS};
pub(crate) use unix_domain::SocketFile;

/// A socket, or another descriptor, to make a [`Channel`](crate::Channel) from.
///
/// A [`Dispatcher`](crate::Dispatcher) that listens receives one for each accepted connection.
/// Everything that asyncore's `dispatcher` and `file_dispatcher` took converts into it:
///
/// - the TCP and UDP sockets of the standard library;
/// - on Unix, its Unix-domain sockets (abstract names too), an
///   [`OwnedFd`](https://doc.rust-lang.org/std/os/fd/struct.OwnedFd.html), pipes, the standard streams of
///   a child process, and a `File` that is a terminal, a serial line or a FIFO.
///
/// The channel that adopts it makes it non-blocking. Dropping it closes it.
///
/// Set options that a channel has no method for (multicast, broadcast) before the conversion, or with
/// [`options`](Socket::options):
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
    /// The file of a Unix-domain listener. Removed before the socket closes: see `SocketFile`.
    file: Option<Box<SocketFile>>,
    fd: Fd,
    /// Where output goes, if not to `fd`.
    output: Option<Box<Fd>>,
    /// Its connect may still be in progress.
    is_connecting: bool,
}

impl Socket {
    /// Two descriptors as one socket, which receives from `input` and sends to `output`: standard input
    /// and output, the pipes to and from a child process, two FIFOs.
    ///
    /// `output` may also be a regular file. [`shutdown_write`](crate::Channel::shutdown_write) closes
    /// `output`.
    ///
    /// When the reader of `output` is gone, only the output ends. What arrives from `input` is still
    /// delivered, unless the session is paused or its queue is above the high-water mark, and only
    /// until nothing has arrived for the [linger](crate::Deadlines::linger) time.
    ///
    /// A write to a pipe without a reader raises SIGPIPE, which cannot be prevented for one write as it
    /// can for sockets. A Rust program ignores that signal unless it changes that.
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
            file: None,
            fd: input.fd,
            output: Some(output.output.unwrap_or_else(|| Box::new(output.fd))),
            is_connecting: false,
        }
    }

    /// A stream socket of your own whose non-blocking `connect` may still be in progress, for options that have
    /// to be set before the connect: a local port, a device, a mark, a type of service. The channel that adopts
    /// it has exactly one outcome, also if the connect is complete or has failed by then: `handle_connect`, or
    /// `handle_close` with [`Close::ConnectFailed`](crate::Close::ConnectFailed). That is so on both layers. The
    /// [connect deadline](crate::Deadlines#structfield.connect) applies. A socket on which `connect` was never called fails with `NotConnected`.
    ///
    /// A [`Connector`](crate::Connector) or [`Channel::connect`](crate::Channel::connect) needs none of this: it
    /// tries several addresses. The `socket2` crate makes such a socket:
    ///
    /// ```
    /// # #[cfg(unix)]
    /// # fn main() -> asynchat::Result {
    /// use std::net::SocketAddr;
    ///
    /// use asynchat::{Connector, Socket};
    /// use socket2::{Domain, Type};
    ///
    /// # let server = asynchat::listen("127.0.0.1:0", |_| |_: &[u8]| Ok(()))?;
    /// # let server_addr = server.local_addr().and_then(|addr| addr.inet()).ok_or("no address")?;
    /// let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None)?;
    /// socket.set_nonblocking(true)?;
    /// socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    /// // A connect in progress is an error here: EINPROGRESS, on Windows `WouldBlock`. After any other error the
    /// // channel fails, too, with `NotConnected`.
    /// let _ = socket.connect(&server_addr.into());
    /// let stream = std::net::TcpStream::from(socket);
    /// let chat = Connector::adopt(Socket::connecting(stream)).connect(|chat| {
    ///     chat.push("hello\r\n");
    ///     |_: &[u8]| Ok(())
    /// })?;
    /// # chat.close_when_done();
    /// # server.close();
    /// # asynchat::run()?;
    /// # Ok(()) }
    /// # #[cfg(not(unix))]
    /// # fn main() {}
    /// ```
    pub fn connecting(socket: impl Into<Socket>) -> Self {
        Socket {
            is_connecting: true,
            ..socket.into()
        }
    }

    /// The standard input and output of this process. Both are duplicated, so they stay open when the
    /// channel is closed or its output is shut down. An error names the stream that failed.
    ///
    /// Both become non-blocking, also for other processes that share them: `println!` then fails when
    /// the reader is slow, so write through the channel only. The end of the channel restores their
    /// mode. A program that is killed or exits before leaves them non-blocking, which confuses some
    /// shells: `sh` may read nothing from its terminal until it is restarted.
    ///
    /// Standard input may be a regular file or a device such as `/dev/null`, which no poller can wait
    /// for. A thread then reads it, at most some hundred kilobytes ahead. The thread ends at the end of
    /// the file, or at its next read after the channel has ended. Output to such a file is written at
    /// once, which blocks the loop for as long as the disk takes.
    ///
    /// On Windows a thread reads any standard input, and all output is written at once. That blocks the loop for as
    /// long as the reader of the output takes. The input of a console arrives as UTF-8; output is passed to a
    /// console as it is, and shown in the console's code page (`chcp 65001` selects UTF-8).
    ///
    /// # Errors
    /// When one of the streams is closed, or cannot be duplicated or made non-blocking, or when the
    /// system has no thread left.
    pub fn stdio() -> io::Result<Self> {
        Ok(Socket::halves(
            Fd::standard_input()?,
            Fd::standard_output()?,
        ))
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// `NotConnected` when the other end is gone already, or when the socket listens. Another error
    /// when it is not a socket: a pipe or a terminal has no address.
    pub fn peer_addr(&self) -> io::Result<Addr> {
        self.fd.peer_addr()
    }

    /// The address of this end.
    ///
    /// # Errors
    /// When it is not a socket: a pipe or a terminal has no address.
    pub fn local_addr(&self) -> io::Result<Addr> {
        self.fd.local_addr()
    }

    /// The user and the process at the other end of a Unix-domain connection.
    ///
    /// # Errors
    /// `Unsupported` when it is no Unix-domain socket, or when the system (Solaris, illumos) has no call for it.
    #[cfg(unix)]
    #[cfg_attr(docsrs, doc(cfg(unix)))]
    pub fn peer_credentials(&self) -> io::Result<Credentials> {
        self.fd.peer_credentials()
    }

    /// Sets TCP_NODELAY. With it, a small write is sent at once, and does not wait for the peer to
    /// acknowledge earlier data.
    ///
    /// A [`Server`](crate::Server) and a [`Connector`](crate::Connector) set it: they gather a turn's
    /// output into one write, so waiting would only add delay.
    ///
    /// # Errors
    /// When it is not a TCP socket.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.fd.set_nodelay(on)
    }

    /// A view of the socket that has all options, those of `socket2`. It is for options only: do not change the
    /// blocking mode.
    ///
    /// On layer 2, [`Server::configure`](crate::Server::configure) and
    /// [`Connector::configure`](crate::Connector::configure) are called with such a view.
    ///
    /// ```
    /// # fn main() -> asynchat::Result {
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let socket = asynchat::Socket::from(std::net::TcpStream::connect(listener.local_addr()?)?);
    /// socket.options()?.set_keepalive(true)?;
    /// let channel = asynchat::Channel::adopt(socket)?;
    /// # drop(channel);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the socket is simulated.
    pub fn options(&self) -> io::Result<SockRef<'_>> {
        self.fd.view()
    }

    /// Sets options with the user's function.
    pub(crate) fn configure(&self, configure: &Configure) -> io::Result<()> {
        configure.apply(&self.fd)
    }

    /// Makes it ready for a channel: non-blocking, and without SIGPIPE.
    pub(crate) fn prepare(&mut self) -> io::Result<()> {
        self.fd.prepare()?;
        match &mut self.output {
            Some(output) => output.prepare_output(),
            None => Ok(()),
        }
    }

    /// Whether both of its descriptors are streams, if it has two.
    pub(crate) fn has_fitting_halves(&self) -> bool {
        match &self.output {
            Some(output) => self.fd.is_stream() && output.is_stream(),
            None => true,
        }
    }

    pub(crate) fn from_parts(fd: Fd, output: Option<Fd>) -> Self {
        Socket {
            file: None,
            fd,
            output: output.map(Box::new),
            is_connecting: false,
        }
    }

    /// Gives it the file of the listener that it is.
    pub(crate) fn set_file(&mut self, file: Option<Box<SocketFile>>) {
        self.file = file;
    }

    /// The file of the listener that it is, which is removed when this is dropped.
    pub(crate) fn take_file(&mut self) -> Option<Box<SocketFile>> {
        self.file.take()
    }

    /// The descriptor of the input, and that of the output if it is another one.
    pub(crate) fn into_halves(self) -> (Fd, Option<Box<Fd>>) {
        (self.fd, self.output)
    }

    pub(crate) fn is_listening(&self) -> bool {
        self.fd.is_listening()
    }

    pub(crate) fn is_connecting(&self) -> bool {
        self.is_connecting
    }

    /// Whether it is one stream socket.
    pub(crate) fn can_connect(&self) -> bool {
        self.output.is_none() && self.fd.can_be_reset()
    }

    pub(crate) fn set_urgent_inline(&self) -> io::Result<()> {
        self.fd.set_urgent_inline()
    }

    /// Whether it is a stream of bytes, which a chat needs.
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

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fd.fmt(f)
    }
}

impl From<Fd> for Socket {
    fn from(fd: Fd) -> Self {
        Socket::from_parts(fd, None)
    }
}

macro_rules! from {
    ($($type:ty => $make:path),* $(,)?) => {
        $(impl From<$type> for Socket {
            fn from(from: $type) -> Self {
                $make(from).into()
            }
        })*
    };
}

from! {
    TcpStream => Fd::stream,
    TcpListener => Fd::listener,
    UdpSocket => Fd::udp,
}

#[cfg(unix)]
from! {
    std::os::unix::net::UnixStream => Fd::stream,
    std::os::unix::net::UnixListener => Fd::listener,
    std::os::unix::net::UnixDatagram => Fd::unix_datagram,
    std::os::fd::OwnedFd => Fd::inherited,
    std::fs::File => Fd::inherited,
    std::io::PipeReader => Fd::inherited,
    std::io::PipeWriter => Fd::inherited,
    std::process::ChildStdin => Fd::inherited,
    std::process::ChildStdout => Fd::inherited,
    std::process::ChildStderr => Fd::inherited,
}

/// Makes the call again when a signal has interrupted it before it moved any data (EINTR).
fn retry_interrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

//! `Channel`: the handle of a socket.

use std::any::TypeId;
use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use socket2::TcpKeepalive;

use crate::Addr;
use crate::channel::attempts::adopted::AdoptedAttempt;
use crate::channel::attempts::{Attempts, Options};
use crate::channel::dispatcher::Dispatcher;
use crate::channel::unix_attempt::UnixAttempt;
use crate::error::{BoxError, Close, Error, Result};
use crate::state::agenda::{Deferred, typed_call};
use crate::state::{ChannelId, ChannelState, Flag, Phase, Request, Side};
#[cfg(unix)]
use crate::sys::socket::Credentials;
use crate::sys::socket::{Fd, ListenOptions, LocalAddrs, Socket};
use crate::sys::system::System;
use crate::sys::watched_socket::WatchedSocket;
use crate::target::Target;
use crate::time::deadlines::Deadlines;
use crate::time::timer::{MIN_PERIOD, TimerId};
use crate::user_code::discard;

/// A handle to a socket that the loop watches: asyncore's `dispatcher` had the socket and these methods in
/// `self`. A [`Dispatcher`](crate::Dispatcher) owns it. The handle of layer 2 is [`Chat`](crate::Chat).
///
/// All clones of a handle are the same channel. No method makes a callback. A channel does nothing until its
/// dispatcher is [registered](crate::EventLoop::register). When it has closed, methods that return a `Result`
/// return an error, methods that return an `Option` mostly return `None`, and the others have no effect.
///
/// ```
/// use asynchat::{Addr, Channel, Close, Dispatcher, Result, Socket};
///
/// /// Sends a greeting and closes.
/// struct Greeter { channel: Channel }
///
/// impl Dispatcher for Greeter {
///     fn channel(&self) -> &Channel { &self.channel }
///     fn handle_accepted(&mut self, socket: Socket, peer: Addr) -> Result {
///         println!("a connection from {peer}");
///         let channel = Channel::adopt(socket)?;
///         channel.send(b"hello\r\n")?; // an error ends this connection only
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result {
/// let greeter = Greeter { channel: Channel::listen("127.0.0.1:0")? };
/// let channel = greeter.channel.clone();
/// asynchat::register(greeter)?;
/// println!("listening on {}", channel.local_addr().expect("it listens"));
/// # asynchat::stop();
/// asynchat::run()?;
/// Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Channel(pub(crate) Rc<ChannelState>);

/// Counters of one channel, from [`Channel::stats`]. They count from its creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelStats {
    /// Bytes received. With TLS, bytes of plaintext.
    pub bytes_in: u64,
    /// Bytes that the kernel has accepted for sending. With TLS, bytes of plaintext that were encrypted.
    pub bytes_out: u64,
    /// Records delivered to `found_terminator`.
    pub records_in: u64,
    /// Its turns, timers and posted calls. Counted modulo 2^32.
    pub turns: u64,
    /// Events that the kernel has reported for it. Counted modulo 2^32.
    pub wakeups: u64,
}

impl Channel {
    /// Creates a channel that listens on the first of the target's addresses that can be bound. Port 0 is a
    /// free port, which [`local_addr`](Channel::local_addr) returns.
    ///
    /// An IPv6 address accepts IPv4 clients as well, where the system allows it. [`Server`](crate::Server)
    /// has the backlog and other options. A host name is looked up before this returns, and blocks the
    /// thread.
    ///
    /// # Errors
    /// When no address can be bound, with the address and the reason.
    pub fn listen(addr: impl Into<Target>) -> Result<Self, Error> {
        Channel::listen_with(&addr.into(), &System::Os, &ListenOptions::default())
    }

    pub(crate) fn listen_with(
        target: &Target,
        system: &System,
        options: &ListenOptions,
    ) -> Result<Self, Error> {
        let Some(name) = target.unix() else {
            let socket = first_of(target, "listen on", |addr| system.listen(addr, options))?;
            return Ok(Channel::with_fd(socket, Phase::Listening));
        };
        let listening = system.listen_unix(name, options);
        let context = |error| Error::new(error).context(format_args!("listen on {name}"));
        let (socket, file) = listening.map_err(context)?;
        let channel = Channel::with_fd(socket, Phase::Listening);
        if let Some(file) = file {
            channel.0.set_socket_file(Box::new(file));
        }
        Ok(channel)
    }

    /// Creates a channel that connects to one of the target's addresses. The attempts are those of a
    /// [`Connector`](crate::Connector) (RFC 8305). They begin when the dispatcher is registered, and have
    /// exactly one outcome: `handle_connect`, or `handle_close` with [`Close::ConnectFailed`]. A TCP
    /// connection to itself is a failure.
    ///
    /// A host name is looked up before this returns, and blocks the thread; a
    /// [`Connector`](crate::Connector) looks it up on another thread.
    ///
    /// # Errors
    /// When the name cannot be looked up, or has no address.
    pub fn connect(addr: impl Into<Target>) -> Result<Self, Error> {
        Channel::connect_with(&addr.into(), Options::for_dispatcher())
    }

    /// As [`connect`](Channel::connect), from a local address: asyncore's `bind` before `connect`. It is bound as
    /// described at [`Connector::bind`](crate::Connector::bind).
    ///
    /// # Errors
    /// As [`connect`](Channel::connect), and when `local` is not an IP address with a port.
    pub fn connect_from(local: impl Into<Target>, addr: impl Into<Target>) -> Result<Self, Error> {
        let mut options = Options::for_dispatcher();
        options.socket.local = local_addrs(&local.into())?;
        Channel::connect_with(&addr.into(), options)
    }

    fn connect_with(target: &Target, options: Options) -> Result<Self, Error> {
        let state = Rc::new(ChannelState::new(None, Phase::Connecting));
        #[cfg(feature = "tls-no-provider")]
        state.set_target_name(target.certificate_name());
        if let Some(name) = target.unix() {
            state.begin_connecting(Box::new(UnixAttempt::new(name, options)?));
            return Ok(Channel(state));
        }
        let addrs = addrs_of(target, "connect to")?;
        if addrs.is_empty() {
            return Err(Error::new("no address to connect to"));
        }
        state.begin_connecting(Box::new(Attempts::new(addrs, options)));
        Ok(Channel(state))
    }

    /// Creates a channel for a socket that is connected or listens already, or for another descriptor that
    /// can be waited for: the socket that `handle_accepted` receives, and whatever else a [`Socket`] is made
    /// from. The socket becomes non-blocking. As in asyncore, `handle_connect` is not called for it. For a
    /// socket whose connect is still in progress, see [`Socket::connecting`].
    ///
    /// To adopt an inherited listening socket, create an `OwnedFd` or a `TcpListener` from its number. Under
    /// systemd the first of `LISTEN_FDS` is 3.
    ///
    /// # Errors
    /// When the socket cannot become non-blocking, when input and output are two descriptors and not both
    /// streams, and for a regular file, which cannot be waited for. To send a file, push a
    /// [`ReadProducer`](crate::ReadProducer) to a chat.
    pub fn adopt(socket: impl Into<Socket>) -> Result<Self, Error> {
        let mut socket = socket.into();
        if !socket.has_fitting_halves() {
            return Err(Error::new(
                "input and output on two descriptors have to be streams",
            ));
        }
        if socket.is_connecting() && !socket.can_connect() {
            return Err(Error::new("only a stream socket can be connecting"));
        }
        socket
            .prepare()
            .map_err(|error| Error::from(error).context("adopt a socket"))?;
        if socket.is_connecting() {
            return Ok(Channel::adopt_connecting(socket));
        }
        let peer = socket.peer_addr().ok();
        let channel = Channel::adopt_accepted(socket);
        if let Some(peer) = peer {
            channel.0.set_peer(peer);
        }
        Ok(channel)
    }

    /// Creates a channel for UDP datagrams, bound to the first of the target's addresses that can be bound.
    /// Port 0 is a free port. See [`recv_from`](Channel::recv_from) and [`send_to`](Channel::send_to). For
    /// multicast or a connected socket, configure a [`UdpSocket`](std::net::UdpSocket) and [`adopt`](Channel::adopt) it. Other
    /// options, such as SO_BROADCAST, can be set later: see [`configure`](Channel::configure). A host name is
    /// looked up before this returns.
    ///
    /// SO_REUSEADDR is not set, unlike on a listener: with it, a second socket could take the port, and the
    /// datagrams. Members of a multicast group that share a port set it on a socket of their own before they
    /// bind it.
    ///
    /// ```
    /// use asynchat::{Channel, Dispatcher, Result};
    ///
    /// /// Sends each datagram back (RFC 862).
    /// struct Echo { channel: Channel }
    ///
    /// impl Dispatcher for Echo {
    ///     fn channel(&self) -> &Channel { &self.channel }
    ///     fn handle_read(&mut self) -> Result {
    ///         let mut buffer = [0; 65_536];
    ///         let (count, peer) = self.channel.recv_from(&mut buffer)?;
    ///         // A datagram that cannot be sent is lost, as any datagram may be.
    ///         let _ = self.channel.send_to(&buffer[..count], &peer);
    ///         Ok(())
    ///     }
    /// }
    /// # fn main() -> Result {
    /// asynchat::register(Echo { channel: Channel::bind("127.0.0.1:0")? })?;
    /// # asynchat::close_all();
    /// # asynchat::run()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A socket that is bound to `[::]` receives from IPv4 addresses as well, but not on OpenBSD and DragonFly.
    ///
    /// # Errors
    /// When no address can be bound, with the address and the reason.
    pub fn bind(addr: impl Into<Target>) -> Result<Self, Error> {
        Channel::adopt(first_of(&addr.into(), "bind", Fd::bind)?)
    }

    fn adopt_connecting(socket: Socket) -> Self {
        let (fd, _) = socket.into_halves();
        let state = Rc::new(ChannelState::new(None, Phase::Connecting));
        state.begin_connecting(Box::new(AdoptedAttempt::new(fd)));
        Channel(state)
    }

    /// Creates a channel for a socket that is non-blocking already.
    pub(crate) fn adopt_accepted(mut socket: Socket) -> Self {
        let file = socket.take_file();
        let (fd, output) = socket.into_halves();
        let phase = if fd.is_listening() {
            Phase::Listening
        } else {
            Phase::Open
        };
        let channel = Channel::with_fd(fd, phase);
        if let Some(output) = output {
            channel.0.set_output(WatchedSocket::new(*output));
        }
        if let Some(file) = file {
            channel.0.set_socket_file(file);
        }
        channel
    }

    /// The listening channel of a server whose connections another loop accepts.
    pub(crate) fn without_socket() -> Self {
        Channel(Rc::new(ChannelState::new(None, Phase::Listening)))
    }

    fn with_fd(fd: Fd, phase: Phase) -> Self {
        Channel(Rc::new(ChannelState::new(
            Some(WatchedSocket::new(fd)),
            phase,
        )))
    }

    /// Receives what is there, at most the length of `buffer`. Returns the number of bytes. For a stream, 0
    /// means that the peer has finished sending.
    ///
    /// After the end of the input `handle_read` is not called again. The channel closes with [`Close::Eof`]
    /// as soon as its dispatcher is not [`writable`](crate::Dispatcher::writable), unless
    /// [`allow_half_open`](Channel::allow_half_open) is set.
    ///
    /// # Errors
    /// `WouldBlock` when there is no input yet: a callback may return it with `?`, which closes nothing.
    /// So it is during a TLS handshake that [`start_tls`](Channel::start_tls) has begun.
    /// `NotConnected` when the channel is closed or not up yet. Any other error is one of the
    /// connection. If a callback returns it, the channel ends for that reason, mostly [`Close::Reset`].
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let outcome = self.0.recv(buffer);
        self.0.note(&outcome, Side::Receiving);
        outcome
    }

    /// Sends `data`. The kernel may accept only a part; returns the number of bytes that it has accepted.
    ///
    /// With TLS, up to 64 KiB are encrypted and accepted at a time, and the next call waits until the kernel has
    /// accepted all of it. What was accepted is sent whatever the channel does next, as with the kernel: if the
    /// channel closes before, the loop sends the rest, for as long as the peer takes some of it within each
    /// [`linger`](Deadlines#structfield.linger) time. The loop has to [run](crate::EventLoop::run) for that. Only
    /// [`abort`](Channel::abort), a drain deadline or a lifetime that passes, and the end of the grace of a shutdown
    /// drop it.
    ///
    /// # Errors
    /// `WouldBlock` when the kernel accepts nothing now, and during a TLS handshake. `handle_write` is called
    /// when it does, if the dispatcher is [`writable`](crate::Dispatcher::writable). `BrokenPipe` after an
    /// earlier send has failed, and after [`shutdown_write`](Channel::shutdown_write). The others are as for [`recv`](Channel::recv).
    pub fn send(&self, data: &[u8]) -> io::Result<usize> {
        self.send_by(Fd::send, data)
    }

    pub(super) fn send_by(
        &self,
        send: impl FnOnce(&Fd, &[u8]) -> io::Result<usize>,
        data: &[u8],
    ) -> io::Result<usize> {
        if self.0.has_failed_sending() {
            // The bytes count towards the high-water mark, as those of a push do.
            self.0.out.borrow_mut().push_slice(data);
            let outcome = Err(io::ErrorKind::BrokenPipe.into());
            self.0.note(&outcome, Side::Sending);
            return outcome;
        }
        let outcome = if self.0.flags.has(Flag::STAGED) {
            self.0.send_secured(&[IoSlice::new(data)])
        } else {
            let outcome = self.0.on_output(|output| send(output, data));
            self.0.sent(outcome, data.len())
        };
        self.0.note(&outcome, Side::Sending);
        outcome
    }

    /// Receives one datagram. Returns its length and its sender. The bytes that do not fit into `buffer` are
    /// lost; on Windows the whole datagram is lost, and the next one is received. The largest UDP datagram
    /// over IPv4 has 65,507 bytes. A datagram of 0 bytes does not end the input.
    ///
    /// # Errors
    /// `WouldBlock` when there is none, as for [`recv`](Channel::recv). `Unsupported` when the channel is
    /// not one of datagrams. Any other error that a callback returns closes the channel. An error that
    /// concerns one datagram is rarely a reason for that: log it, and return `Ok`.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, Addr)> {
        self.0.recv_from(buffer)
    }

    /// Sends `data` as one datagram to this address, whole or not at all.
    ///
    /// # Errors
    /// `WouldBlock` as for [`send`](Channel::send). `InvalidInput` when the address is of another family
    /// than the socket. `Unsupported` when the channel is not one of datagrams.
    pub fn send_to(&self, data: &[u8], addr: &Addr) -> io::Result<usize> {
        let outcome = self.0.on_connected(|socket| socket.send_to(data, addr));
        let outcome = self.0.sent(outcome, data.len());
        self.0.schedule();
        outcome
    }

    /// Makes the loop call [`readable`](crate::Dispatcher::readable) and
    /// [`writable`](crate::Dispatcher::writable) again. Needed when something other than the dispatcher's
    /// own callbacks has changed the answer. [`send`](Channel::send) and [`recv`](Channel::recv) have the
    /// same effect.
    pub fn update_interest(&self) {
        self.0.schedule();
    }

    /// Closes the channel. No event and no record reaches the handler any more, not even of input that was
    /// already received. The loop calls `handle_close` with [`Close::Local`] in its next turn or at the end
    /// of this one, or with [`Close::Dropped`] if the connection was not up yet. What
    /// [`send`](Channel::send) has accepted is still sent; the queue of a chat is dropped
    /// ([`close_when_done`](crate::Chat::close_when_done) sends it first). A second call has no effect,
    /// except in `handle_close` of a connection that is [made again](crate::Connector::reconnect), which it ends.
    pub fn close(&self) {
        self.0.stop_retrying();
        self.0.end(Close::Local);
    }

    /// Closes the channel as [`close`](Channel::close) does, but with a reset (TCP RST): what the kernel has
    /// not sent yet is lost. The reason is [`Close::Dropped`].
    pub fn abort(&self) {
        self.0.abort();
    }

    /// Closes the channel with a reason, as if a callback of its handler had returned this error: `handle_close`
    /// receives [`Close::Handler`], and is the only callback that follows. What was pushed to a chat before is
    /// sent first; on layer 1 there is no queue, and the channel closes at once. `handle_error` is not called.
    /// A [reconnection](crate::Connector::reconnect) connects again. A channel that is closed or about to close
    /// keeps its reason.
    pub fn close_with(&self, error: impl Into<BoxError>) {
        let error = error.into();
        if self.is_open() {
            return self.0.fail(Close::Handler(error));
        }
        // Its destructor is user code.
        match self.0.agenda() {
            Some(agenda) => agenda.drop_later(error),
            None => discard(error),
        }
    }

    /// Ends the sending side (TCP FIN) at once, after what [`send`](Channel::send) has accepted. Receiving
    /// continues. With TLS the end is announced before (`close_notify`); a call during a handshake that
    /// `start_tls` has begun takes effect when TLS is up. A chat has a method of the same name that waits for its queue:
    /// [`Chat::shutdown_write`](crate::Chat::shutdown_write).
    ///
    /// # Errors
    /// `NotConnected` when the channel is closed or not up yet.
    pub fn shutdown_write(&self) -> io::Result<()> {
        self.0.shutdown_write()
    }

    /// Stops reading, and delivering what was received, until [`resume_reading`](Channel::resume_reading).
    /// The kernel's buffers fill, and TCP's flow control then stops the peer. A listening channel stops
    /// accepting. Pauses are not counted: one call of `resume_reading` ends them all.
    ///
    /// While a channel is paused, only a reset of the peer ends it, where the system reports one (kqueue and
    /// Windows do not), or the close of a Unix-domain peer when no input is left. Otherwise the end of the
    /// input is noticed when reading resumes.
    pub fn pause_reading(&self) {
        self.0.flags.set(Flag::PAUSED, true);
        self.0.stop_input_clocks();
        self.0.requests.add(Request::CHECK);
        self.0.schedule();
    }

    /// Resumes reading after [`pause_reading`](Channel::pause_reading).
    pub fn resume_reading(&self) {
        self.0.flags.set(Flag::PAUSED, false);
        self.0.schedule();
    }

    /// The address of the peer; `None` while there is none. It remains available after the connection has
    /// ended.
    pub fn peer_addr(&self) -> Option<Addr> {
        if let Some(peer) = self.0.peer() {
            return Some(peer);
        }
        #[cfg(feature = "proxy-protocol")]
        if self.0.is_unidentified() {
            // The peer of the socket is a proxy.
            return None;
        }
        let peer = self.0.on_socket(Fd::peer_addr).ok()?;
        self.0.set_peer(peer.clone());
        Some(peer)
    }

    /// The local address. `None` before the channel is up or listens, and after it has closed.
    pub fn local_addr(&self) -> Option<Addr> {
        self.0.on_socket(Fd::local_addr).ok()
    }

    /// The user and the process at the other end of a Unix-domain connection, while the channel is open.
    ///
    /// # Errors
    /// `NotConnected` when the channel is closed or not up yet. `Unsupported` when it is no Unix-domain
    /// connection, or when the system (Solaris, illumos) has no call for it.
    #[cfg(unix)]
    #[cfg_attr(docsrs, doc(cfg(unix)))]
    pub fn peer_credentials(&self) -> io::Result<Credentials> {
        if self.0.is_upgrading() {
            self.0.on_socket(Fd::peer_credentials)
        } else {
            self.0.on_connected(Fd::peer_credentials)
        }
    }

    /// Sets TCP_NODELAY: whether output is sent at once, without waiting for the acknowledgement of earlier
    /// output (Nagle's algorithm). Default true for connections that a [`Server`](crate::Server), a
    /// [`Connector`](crate::Connector) or [`Channel::connect`] makes.
    ///
    /// # Errors
    /// When the channel is closed, or no TCP connection.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.0.set_output_option(|output| output.set_nodelay(on))
    }

    /// Sets TCP keep-alive: after this time of silence the system probes whether the peer is still there.
    /// `None` turns it off. Default off. The system decides how often it probes before it gives the
    /// connection up. Keep-alive does not detect a peer that is alive and silent;
    /// [`set_idle_timeout`](Channel::set_idle_timeout) does.
    ///
    /// # Errors
    /// When the channel is closed, or no TCP connection.
    pub fn set_keepalive(&self, silence: impl Into<Option<Duration>>) -> io::Result<()> {
        let silence = silence.into();
        self.0.on_socket(|socket| {
            socket.set_option(|socket| match silence {
                Some(time) => socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(time)),
                None => socket.set_keepalive(false),
            })
        })
    }

    /// Sets SO_RCVBUF: how many bytes the kernel may hold that were received from the peer and not yet read.
    /// Default: the system's. The system rounds and bounds the value; Linux doubles it, for its own overhead
    /// (socket(7)).
    ///
    /// # Errors
    /// When the channel is closed, or its descriptor is no socket.
    pub fn set_recv_buffer_size(&self, bytes: usize) -> io::Result<()> {
        self.0
            .on_socket(|socket| socket.set_option(|socket| socket.set_recv_buffer_size(bytes)))
    }

    /// Sets SO_SNDBUF: how many bytes the kernel may hold that were sent and not yet acknowledged. Default
    /// and rounding are as for [`set_recv_buffer_size`](Channel::set_recv_buffer_size).
    ///
    /// # Errors
    /// When the channel is closed, or its descriptor is no socket.
    pub fn set_send_buffer_size(&self, bytes: usize) -> io::Result<()> {
        self.0.set_output_option(|output| {
            output.set_option(|socket| socket.set_send_buffer_size(bytes))
        })
    }

    /// The id of the channel, for [`EventLoop::chat`](crate::EventLoop::chat) and [`Remote::post_to`](crate::Remote::post_to). It
    /// names the channel from its creation until it closes. Ids are never used twice in a process.
    pub fn id(&self) -> ChannelId {
        self.0.id.get()
    }

    /// Whether the channel is neither closed nor about to close. An outgoing connection that is not up yet
    /// is open, and so is a listening channel. A chat whose callback has failed is not. A chat whose close is queued is open until its
    /// queue is sent.
    pub fn is_open(&self) -> bool {
        !self.0.has_ended() && !self.0.flags.has(Flag::FAILED)
    }

    /// Whether the connection is up and the channel is [open](Channel::is_open): asyncore's `connected`. A
    /// channel for datagrams, a pipe or a terminal is connected from the beginning, a listening one never.
    pub fn is_connected(&self) -> bool {
        self.0.is_up() && self.is_open()
    }

    /// Whether the channel is an outgoing connection that is not up yet: asyncore's `connecting`.
    pub fn is_connecting(&self) -> bool {
        self.0.phase.get() == Phase::Connecting || self.0.is_securing_at_first()
    }

    /// Whether the channel accepts connections: asyncore's `accepting`.
    pub fn is_listening(&self) -> bool {
        self.0.phase.get() == Phase::Listening
    }

    /// Sets [`Deadlines::idle`]: the channel closes with [`Close::Timeout`] when no byte has moved in either
    /// direction for this time. `None`, the default, sets no limit. The time counts from this call, or from
    /// when the connection is up.
    pub fn set_idle_timeout(&self, after: impl Into<Option<Duration>>) {
        self.set_deadlines(self.deadlines().idle(after));
    }

    /// Sets the deadlines of this connection. A deadline whose value changes is timed anew from this call.
    /// The exception is the [`lifetime`](Deadlines#structfield.lifetime): it counts from when the connection
    /// came up, or from when its first deadline was set.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # fn body_follows(chat: &asynchat::Chat) {
    /// // A body takes longer than a command.
    /// chat.set_deadlines(chat.deadlines().record(Duration::from_secs(600)));
    /// # }
    /// ```
    pub fn set_deadlines(&self, deadlines: Deadlines) {
        self.0.set_deadlines(deadlines);
        self.0.flags.set(Flag::DEADLINES_SET, true);
    }

    /// The deadlines of this connection. Default: [`Deadlines::default`].
    pub fn deadlines(&self) -> Deadlines {
        self.0.deadlines()
    }

    /// Sets a timer: the loop calls the handler's `handle_timer` once, after `delay`, unless the channel has
    /// closed by then. [`cancel`](Channel::cancel) and [`reschedule`](Channel::reschedule) change it. On a channel
    /// that is not registered yet the delay counts from its registration. On a channel that has ended this
    /// does nothing, and the id is that of no timer. So it is from the call of `handle_timer` on: to continue, set
    /// another timer.
    pub fn call_later(&self, delay: Duration) -> TimerId {
        self.0.set_timer(delay, None)
    }

    /// Sets a periodic timer: the loop calls the handler's `handle_timer` every `period`, first after one
    /// period, until the timer is cancelled or the channel has closed. A late call does not move the
    /// following ones. Periods that were missed are skipped. On a channel that is not registered yet the
    /// first period begins with its registration. A period below a millisecond is taken for a millisecond.
    pub fn call_every(&self, period: Duration) -> TimerId {
        let period = period.max(MIN_PERIOD);
        self.0.set_timer(period, Some(period))
    }

    /// Cancels a timer of this channel's loop. Returns whether it was pending. See
    /// [`EventLoop::cancel`](crate::EventLoop::cancel). Before the channel is registered, this and
    /// [`reschedule`](Channel::reschedule) are the only methods that find its timers.
    pub fn cancel(&self, timer: TimerId) -> bool {
        self.0.cancel_timer(timer)
    }

    /// Makes a timer of this channel's loop fire `delay` from now. Returns whether it was pending. See
    /// [`EventLoop::reschedule`](crate::EventLoop::reschedule).
    pub fn reschedule(&self, timer: TimerId, delay: Duration) -> bool {
        self.0.reset_timer(timer, delay)
    }

    /// Makes the loop call `callback` with this channel's dispatcher, which must be a `D`, in its next turn. An
    /// error that it returns closes the channel. If the channel ends before the call, it is dropped uncalled.
    /// [`Remote::post_to`](crate::Remote::post_to) does the same from another thread.
    ///
    /// ```
    /// # use asynchat::{Channel, Dispatcher, Result};
    /// # struct Device { channel: Channel, is_on: bool }
    /// # impl Dispatcher for Device { fn channel(&self) -> &Channel { &self.channel } }
    /// # fn switch(device: &Channel) {
    /// // Write the type of the dispatcher: the compiler does not infer it.
    /// let _ = device.post(|device: &mut Device| {
    ///     device.is_on = true;
    ///     Ok(())
    /// });
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the channel is not registered yet or has ended, or its dispatcher is not a `D`.
    pub fn post<D: Dispatcher>(
        &self,
        callback: impl FnOnce(&mut D) -> Result + 'static,
    ) -> Result<(), Error> {
        self.post_to_handler(callback)
    }

    /// Posts to a dispatcher or a session: the layers bound the type.
    pub(crate) fn post_to_handler<H: 'static>(
        &self,
        callback: impl FnOnce(&mut H) -> Result + 'static,
    ) -> Result<(), Error> {
        let state = &self.0;
        let Some(agenda) = state.agenda().filter(|_| self.is_open()) else {
            let reason = if self.is_open() && !state.is_registered() {
                "the channel is not registered"
            } else {
                "the connection has ended"
            };
            return Err(Error::new(reason).context(self.id()));
        };
        if (state.handler.get())() != TypeId::of::<H>() {
            let wanted = std::any::type_name::<H>();
            let error = Error::new(format!("its handler is not a {wanted}"));
            return Err(error.context(self.id()));
        }
        agenda.defer(Deferred::CallHandler(
            self.id(),
            Box::new(typed_call(callback)),
        ));
        Ok(())
    }

    /// Sets whether the channel stays open after its peer has finished sending, although the dispatcher is
    /// not [`writable`](crate::Dispatcher::writable). Default false. A chat decides with
    /// [`handle_eof`](crate::AsyncChat::handle_eof) instead.
    pub fn allow_half_open(&self, yes: bool) {
        self.0.flags.set(Flag::HALF_OPEN, yes);
        self.0.schedule();
    }

    /// What the channel has done so far. The counters remain available in `handle_close` and afterwards.
    pub fn stats(&self) -> ChannelStats {
        ChannelStats {
            bytes_in: self.0.bytes_in(),
            bytes_out: self.0.bytes_out(),
            records_in: self.0.records_in.get(),
            turns: self.0.turns.get().into(),
            wakeups: self.0.wakeups.get().into(),
        }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("id", &self.0.id.get())
            .field("phase", &self.0.phase.get())
            .field("peer", &self.0.peer())
            .finish()
    }
}

/// Makes a socket for the first address that allows it. The error is that of the last address.
fn first_of<T>(
    target: &Target,
    what: &str,
    make: impl Fn(SocketAddr) -> io::Result<T>,
) -> Result<T, Error> {
    let mut failed = Error::new(format!("no address to {what}"));
    for addr in addrs_of(target, what)? {
        match make(addr) {
            Ok(socket) => return Ok(socket),
            Err(error) => failed = Error::from(error).context(format_args!("{what} {addr}")),
        }
    }
    Err(failed)
}

/// The local addresses of outgoing connections. A name is not looked up.
pub(crate) fn local_addrs(target: &Target) -> Result<LocalAddrs, Error> {
    let addrs = match target.to_look_up() {
        Some(_) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a local address has to be an IP address with a port, which may be 0",
        )),
        None => target.addrs(),
    };
    let context = |error| Error::new(error).context(format_args!("bind to {target}"));
    addrs.map(LocalAddrs::new).map_err(context)
}

fn addrs_of(target: &Target, what: &str) -> Result<Vec<SocketAddr>, Error> {
    target
        .check()
        .map_err(|error| Error::from(error).context(format_args!("{what} {target}")))?;
    target
        .addrs()
        .map_err(|error| Error::from(error).context(format_args!("resolve {target} to {what}")))
}

//! A socket that a dispatcher owns, as its user holds it.

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::Duration;

use socket2::TcpKeepalive;

use crate::Addr;
use crate::channel::attempts::{Attempts, Options};
use crate::error::{Close, Error, Result};
use crate::state::agenda::Task;
use crate::state::{ChannelId, ChannelState, Flag, Phase, Request, Side};
use crate::sys::socket::{Fd, ListenOptions, Socket};
use crate::sys::watched_socket::WatchedSocket;
use crate::target::Target;
use crate::time::deadlines::{Clocks, Deadlines};
use crate::time::timer::TimerId;

/// A socket that a [`Dispatcher`](crate::Dispatcher) owns: what asyncore's `dispatcher` had as
/// `self.socket` and its methods.
///
/// It is a handle: cheap to clone, all clones are the same channel, and none of its methods ever
/// calls your code. It does nothing until its dispatcher is [registered](EventLoop::register);
/// from then on the loop calls the dispatcher when something happens to it. After it is closed,
/// methods that act do nothing and methods that return a value say so.
///
/// ```
/// use asynchat::{Addr, Channel, Close, Dispatcher, Result, Socket};
///
/// /// Greets and hangs up.
/// struct Greeter { channel: Channel }
///
/// impl Dispatcher for Greeter {
///     fn channel(&self) -> &Channel { &self.channel }
///     fn handle_accepted(&mut self, socket: Socket, peer: Addr) -> Result {
///         println!("a connection from {peer}");
///         let channel = Channel::adopt(socket)?;
///         channel.send(b"hello\r\n")?; // an error is that of this one connection
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
/// asynchat::run()
/// # }
/// ```
#[derive(Clone)]
pub struct Channel(pub(crate) Rc<ChannelState>);

/// What a channel has done so far. Plain numbers, no cost when unread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelStats {
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes handed to the kernel.
    pub bytes_out: u64,
    /// Records delivered to `found_terminator`.
    pub records_in: u64,
    /// How often its dispatcher was called: for its turn of the loop, a timer, a visit.
    pub turns: u64,
    /// Events that the kernel reported for it.
    pub wakeups: u64,
}

impl Channel {
    /// A channel that listens on the first of these addresses that can be bound; port 0 picks a
    /// free one, which [`local_addr`](Channel::local_addr) tells.
    ///
    /// An IPv6 address takes IPv4 clients too where the system allows it. For the backlog and
    /// other options see [`Server`](crate::Server). A host name is resolved here and now.
    ///
    /// # Errors
    /// When no address can be bound, with the address and the reason.
    pub fn listen(addr: impl Into<Target>) -> Result<Self> {
        let options = ListenOptions::default();
        Channel::listen_with(&addr.into(), |addr| Fd::listen(addr, &options))
    }

    pub(crate) fn listen_with(
        target: &Target,
        listen: impl Fn(SocketAddr) -> io::Result<Fd>,
    ) -> Result<Self> {
        let socket = first_of(target, "listen on", listen)?;
        Ok(Channel::with_fd(socket, Phase::Listening))
    }

    /// A channel that connects to the first of these addresses that answers, tried as a
    /// [`Connector`](crate::Connector) does. It begins when its dispatcher is registered, and has
    /// exactly one outcome: `handle_connect`, or `handle_close` with [`Close::ConnectFailed`]. A TCP
    /// connection to itself is a failure.
    ///
    /// A host name is resolved here and now; a [`Connector`](crate::Connector) does so without
    /// holding the loop up.
    ///
    /// # Errors
    /// When there is no address to connect to.
    pub fn connect(addr: impl Into<Target>) -> Result<Self> {
        let addrs = addrs_of(&addr.into(), "connect to")?;
        if addrs.is_empty() {
            return Err(Error::new("no address to connect to"));
        }
        let state = Rc::new(ChannelState::new(None, Phase::Connecting));
        state.begin_connecting(Box::new(Attempts::new(addrs, Options::FOR_DISPATCHER)));
        Ok(Channel(state))
    }

    /// A channel for a socket that is connected or listens already, or for another descriptor that
    /// can be waited for: what `handle_accepted` got, and whatever else a [`Socket`] is made from.
    /// It is made non-blocking. As in asyncore, `handle_connect` is not called for it.
    ///
    /// A listening socket that was inherited is an `OwnedFd` or a `TcpListener` made from its number:
    /// under systemd the first of `LISTEN_FDS` is 3.
    ///
    /// # Errors
    /// When it can not be made non-blocking, and for a regular file, which is always ready: push a
    /// [`ReadProducer`](crate::ReadProducer) of it.
    pub fn adopt(socket: impl Into<Socket>) -> Result<Self> {
        let socket = socket.into();
        if !socket.has_fitting_halves() {
            return Err(Error::new(
                "input and output on two descriptors have to be streams",
            ));
        }
        socket
            .prepare()
            .map_err(|error| Error::from(error).context("adopt a socket"))?;
        let peer = socket.peer_addr().ok();
        let channel = Channel::adopt_accepted(socket);
        if let Some(peer) = peer {
            channel.0.set_peer(peer);
        }
        Ok(channel)
    }

    /// A channel for the datagrams that come to the first of these addresses that can be bound (UDP);
    /// port 0 picks a free one. See [`recv_from`](Channel::recv_from) and
    /// [`send_to`](Channel::send_to). Options (broadcast, multicast), and a peer of its own, are for
    /// the [`UdpSocket`] that [`adopt`](Channel::adopt) takes.
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
    ///         // A datagram that can not be sent is lost, as any can be.
    ///         let _ = self.channel.send_to(&buffer[..count], &peer);
    ///         Ok(())
    ///     }
    /// }
    /// # fn main() -> Result {
    /// asynchat::register(Echo { channel: Channel::bind("127.0.0.1:0")? })?;
    /// # asynchat::close_all();
    /// # asynchat::run()
    /// # }
    /// ```
    ///
    /// # Errors
    /// When no address can be bound, with the address and the reason.
    pub fn bind(addr: impl Into<Target>) -> Result<Self> {
        Channel::adopt(first_of(&addr.into(), "bind", UdpSocket::bind)?)
    }

    /// For a socket that is non-blocking already.
    pub(crate) fn adopt_accepted(socket: Socket) -> Self {
        let (fd, output) = socket.into_halves();
        let phase = match fd.is_listening() {
            true => Phase::Listening,
            false => Phase::Open,
        };
        let channel = Channel::with_fd(fd, phase);
        if let Some(output) = output {
            channel.0.set_output(WatchedSocket::new(*output));
        }
        channel
    }

    fn with_fd(fd: Fd, phase: Phase) -> Self {
        Channel(Rc::new(ChannelState::new(
            Some(WatchedSocket::new(fd)),
            phase,
        )))
    }

    /// Receives into `buffer` what is there: a count of bytes over zero, or 0 once the peer has
    /// finished sending.
    ///
    /// After the 0 the channel is read no more, and closed with [`Close::Eof`] as soon as its
    /// dispatcher is not [`writable`](crate::Dispatcher::writable) either, unless
    /// [`allow_half_open`](Channel::allow_half_open) says otherwise.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there yet: a callback may return it with `?`, it then means
    /// no more than that. `NotConnected` on a channel that is closed or not up yet. Any other
    /// error is the connection's end: a callback that passes it on ends the channel for that reason,
    /// [`Close::Reset`] mostly. `Unsupported` on the channel of a [`Chat`](crate::Chat), whose
    /// input is its session's.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.refuse_chat("recv")?;
        let outcome = self.0.recv(buffer);
        self.0.note(&outcome, Side::Receiving);
        outcome
    }

    /// Hands `data` to the kernel, which may take only part of it: how much is returned.
    ///
    /// # Errors
    /// `WouldBlock` when the kernel takes nothing now; `handle_write` is called when it does
    /// again, if the dispatcher is [`writable`](crate::Dispatcher::writable). Otherwise as
    /// [`recv`](Channel::recv).
    pub fn send(&self, data: &[u8]) -> io::Result<usize> {
        self.0.refuse_chat("send")?;
        if self.0.has_failed_sending() {
            // It counts towards the high-water mark, as a push does.
            self.0.out.borrow_mut().push_slice(data);
            let outcome = Err(io::ErrorKind::BrokenPipe.into());
            self.0.note(&outcome, Side::Sending);
            return outcome;
        }
        let outcome = self.0.on_output(|output| output.send(data));
        let outcome = self.0.sent(outcome, data.len());
        self.0.note(&outcome, Side::Sending);
        outcome
    }

    /// Receives a datagram, and who sent it. What does not fit into `buffer` is lost, on Windows all of
    /// that datagram: one has 65,507 bytes at most, over IPv4. No bytes are a datagram, too, and not the
    /// end of anything.
    ///
    /// # Errors
    /// `WouldBlock` when there is none, as [`recv`](Channel::recv). `Unsupported` on a channel of
    /// something else than datagrams. An error that a callback passes on closes the channel: what
    /// happened to one datagram is mostly no reason to.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, Addr)> {
        self.0.recv_from(buffer)
    }

    /// Sends a datagram to this address: all of it or nothing.
    ///
    /// # Errors
    /// `WouldBlock` as [`send`](Channel::send). `InvalidInput` for an address of another family.
    /// Otherwise as [`recv_from`](Channel::recv_from). That it was sent does not say that it
    /// arrives.
    pub fn send_to(&self, data: &[u8], addr: &Addr) -> io::Result<usize> {
        let outcome = self.0.on_connected(|socket| socket.send_to(data, addr));
        let outcome = self.0.sent(outcome, data.len());
        self.0.schedule();
        outcome
    }

    /// Makes the loop ask the dispatcher again whether it is readable and writable. Call it when
    /// something other than the dispatcher's own callbacks has changed the answer.
    /// [`send`](Channel::send) and [`recv`](Channel::recv) have the same effect.
    pub fn update_interest(&self) {
        self.0.schedule();
    }

    /// Closes the channel: from now on nothing more reaches its dispatcher, not even what was
    /// read already, but `handle_close` with [`Close::Local`], which the loop calls soon. What
    /// the kernel has taken is still sent. Closing twice is closing once.
    pub fn close(&self) {
        self.0.end(Close::Local);
    }

    /// As [`close`](Channel::close), but at once and rudely: the peer sees a reset (TCP RST), and
    /// what the kernel has not sent yet is lost.
    pub fn abort(&self) {
        self.0.reset_on_close();
        self.close();
    }

    /// Ends the sending side (TCP FIN) at once, after what was sent; receiving goes on. A chat has
    /// one of its own, which waits for its queue: [`Chat::shutdown_write`](crate::Chat::shutdown_write).
    ///
    /// # Errors
    /// `NotConnected` when it is closed or not up yet.
    pub fn shutdown_write(&self) -> io::Result<()> {
        self.0.shutdown_write()
    }

    /// Stops reading, and delivering what has been read, until
    /// [`resume_reading`](Channel::resume_reading): the peer is held up by its own full buffers.
    /// What a paused channel's peer does is noticed when reading goes on, but for its reset, which
    /// ends the channel where the system reports it (not with kqueue, nor on Windows).
    pub fn pause_reading(&self) {
        self.0.flags.set(Flag::PAUSED, true);
        self.0.time(Clocks::pause);
        self.0.requests.add(Request::CHECK);
        self.0.schedule();
    }

    /// Goes on reading after [`pause_reading`](Channel::pause_reading).
    pub fn resume_reading(&self) {
        self.0.flags.set(Flag::PAUSED, false);
        if !self.0.flags.has(Flag::BACK_PRESSURED) {
            self.0.time(Clocks::resume);
        }
        self.0.schedule();
    }

    /// The address of the other end; `None` while there is none. It is remembered, and known
    /// still when the connection is gone.
    pub fn peer_addr(&self) -> Option<Addr> {
        if let Some(peer) = self.0.peer() {
            return Some(peer);
        }
        let peer = self.0.on_socket(Fd::peer_addr).ok()?;
        self.0.set_peer(peer.clone());
        Some(peer)
    }

    /// The address of this end, from when the channel is up or listens until it is closed.
    pub fn local_addr(&self) -> Option<Addr> {
        self.0.on_socket(Fd::local_addr).ok()
    }

    /// Whether small writes are sent at once instead of waiting for an acknowledgement
    /// (TCP_NODELAY).
    ///
    /// # Errors
    /// When it is closed, or no TCP connection.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.0.on_output(|output| output.set_nodelay(on))
    }

    /// Has the system ask the peer, after so long a silence, whether it is still there (TCP
    /// keep-alive); `None` turns that off. The system decides how often it asks before it gives the
    /// connection up. For a peer that is there and says nothing see
    /// [`set_idle_timeout`](Channel::set_idle_timeout).
    ///
    /// # Errors
    /// When it is closed, or no TCP connection.
    pub fn set_keepalive(&self, silence: Option<Duration>) -> io::Result<()> {
        self.0.on_socket(|socket| {
            socket.set_option(|socket| match silence {
                Some(time) => socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(time)),
                None => socket.set_keepalive(false),
            })
        })
    }

    /// How many bytes the system may hold that have come and not been received (SO_RCVBUF). It
    /// rounds, and has bounds of its own; Linux doubles it for its book-keeping.
    ///
    /// # Errors
    /// When it is closed, or no socket.
    pub fn set_recv_buffer_size(&self, bytes: usize) -> io::Result<()> {
        self.0
            .on_socket(|socket| socket.set_option(|socket| socket.set_recv_buffer_size(bytes)))
    }

    /// How many bytes the system may hold that were sent and have not been acknowledged
    /// (SO_SNDBUF), as [`set_recv_buffer_size`](Channel::set_recv_buffer_size).
    ///
    /// # Errors
    /// When it is closed, or no socket.
    pub fn set_send_buffer_size(&self, bytes: usize) -> io::Result<()> {
        self.0
            .on_output(|output| output.set_option(|socket| socket.set_send_buffer_size(bytes)))
    }

    /// Its name in the loop, for [`EventLoop::chat`] and
    /// [`Remote::post_to`](crate::Remote::post_to). Before it is registered, and after it is
    /// closed, nobody answers to it.
    pub fn id(&self) -> ChannelId {
        self.0.id.get()
    }

    /// Whether it is neither closed nor about to be: a connection under way is open. A chat whose
    /// callback has failed is not. One whose close is queued is open until its queue is sent.
    pub fn is_open(&self) -> bool {
        !self.0.has_ended() && !self.0.flags.has(Flag::FAILED)
    }

    /// Closes the channel with [`Close::Timeout`] when nothing has moved in either direction for
    /// this long; `None`, the default, never does. Counted from now, or from when the connection is
    /// up. One of the [`Deadlines`], and the same as setting it there.
    pub fn set_idle_timeout(&self, after: impl Into<Option<Duration>>) {
        self.set_deadlines(self.deadlines().idle(after));
    }

    /// Sets all deadlines of this connection. What a deadline that changes holds for is timed anew
    /// from now on, but for the [lifetime](Deadlines::lifetime) of a connection.
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
    }

    /// The deadlines of this connection.
    pub fn deadlines(&self) -> Deadlines {
        self.0.deadlines()
    }

    /// Calls the dispatcher's `handle_timer` once, after `delay`; never after the channel is
    /// closed. [`cancel`](Channel::cancel) and [`reset`](Channel::reset) act on it. On a channel that
    /// is not registered, or not any more, it does nothing: the id is then that of no timer.
    pub fn call_later(&self, delay: Duration) -> TimerId {
        self.set_timer(delay, None)
    }

    /// Calls the dispatcher's `handle_timer` every `period`, until it is cancelled or the channel
    /// is closed.
    pub fn call_every(&self, period: Duration) -> TimerId {
        self.set_timer(period, Some(period))
    }

    /// Cancels a timer of this channel's loop: [`EventLoop::cancel`].
    pub fn cancel(&self, timer: TimerId) -> bool {
        let agenda = self.0.agenda();
        agenda.is_some_and(|agenda| agenda.cancel_timer(timer))
    }

    /// Moves a timer of this channel's loop: [`EventLoop::reset`].
    pub fn reset(&self, timer: TimerId, delay: Duration) -> bool {
        let agenda = self.0.agenda();
        agenda.is_some_and(|agenda| agenda.reset_timer(timer, delay))
    }

    fn set_timer(&self, delay: Duration, every: Option<Duration>) -> TimerId {
        let state = &self.0;
        match state.agenda() {
            Some(agenda) if self.is_open() => {
                let id = agenda.set_timer(delay, Task::Channel(Rc::clone(state), every));
                state.add_timer(id);
                id
            }
            _ => TimerId::NEVER,
        }
    }

    /// Whether the channel stays open after its peer has finished sending, although its
    /// dispatcher has nothing to write for now. Off unless set.
    pub fn allow_half_open(&self, yes: bool) {
        self.0.flags.set(Flag::HALF_OPEN, yes);
        self.0.schedule();
    }

    /// What it has done so far; in `handle_close` and after, what it has done at all.
    pub fn stats(&self) -> ChannelStats {
        ChannelStats {
            bytes_in: self.0.bytes_in(),
            bytes_out: self.0.bytes_out(),
            records_in: self.0.records_in.get(),
            turns: self.0.turns.get(),
            wakeups: self.0.wakeups.get(),
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

/// The socket of the first address that one can be made for, or why there is none.
fn first_of<T>(
    target: &Target,
    what: &str,
    make: impl Fn(SocketAddr) -> io::Result<T>,
) -> Result<T> {
    let mut failed = Error::new(format!("no address to {what}"));
    for addr in addrs_of(target, what)? {
        match make(addr) {
            Ok(socket) => return Ok(socket),
            Err(error) => failed = Error::from(error).context(format_args!("{what} {addr}")),
        }
    }
    Err(failed)
}

fn addrs_of(target: &Target, what: &str) -> Result<Vec<SocketAddr>> {
    target
        .addrs()
        .map_err(|error| Error::from(error).context(format_args!("resolve the address to {what}")))
}

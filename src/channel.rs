//! A socket that a dispatcher owns, and the state that the loop keeps for it.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::ToSocketAddrs;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use tracing::Span;

use crate::connecting::Connecting;
use crate::error::{Close, Deadline, Error, Result};
use crate::fifo::Fifo;
use crate::home::{Home, Task};
use crate::limits::Limits;
use crate::poller::{Interest, Ready, Registration};
use crate::registry::ChannelId;
use crate::socket::{ListenOptions, Socket};
use crate::terminator::Terminator;
use crate::timer::TimerId;
use crate::{Addr, EventLoop};

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
pub struct Channel(pub(crate) Rc<Core>);

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
    pub fn listen(addr: impl ToSocketAddrs) -> Result<Self> {
        let addrs = addr
            .to_socket_addrs()
            .map_err(|error| Error::from(error).context("resolve the address to listen on"))?;
        Channel::listen_with(addrs, &ListenOptions::default())
    }

    pub(crate) fn listen_with(
        addrs: impl IntoIterator<Item = std::net::SocketAddr>,
        options: &ListenOptions,
    ) -> Result<Self> {
        let mut failed = Error::new("no address to listen on");
        for addr in addrs {
            match Socket::listen(addr, options) {
                Ok(socket) => return Ok(Channel::with_socket(socket, Phase::Listening)),
                Err(error) => failed = Error::from(error).context(format_args!("listen on {addr}")),
            }
        }
        Err(failed)
    }

    /// A channel that connects to these addresses, one after the other until one is up. It
    /// begins when its dispatcher is registered, and has exactly one outcome: `handle_connect`,
    /// or `handle_close` with [`Close::ConnectFailed`]. A TCP connection to itself is a failure.
    ///
    /// A host name is resolved here and now; a [`Connector`](crate::Connector) does so without
    /// holding the loop up.
    ///
    /// # Errors
    /// When there is no address to connect to.
    pub fn connect(addr: impl ToSocketAddrs) -> Result<Self> {
        let addrs = addr
            .to_socket_addrs()
            .map_err(|error| Error::from(error).context("resolve the address to connect to"))?;
        let connecting = Connecting::new(addrs.collect(), true);
        if connecting.is_exhausted() {
            return Err(Error::new("no address to connect to"));
        }
        Ok(Channel::connecting(connecting))
    }

    /// A channel for a socket that is connected or listens already: what `handle_accepted` got,
    /// a `TcpStream`, a `TcpListener`, and on Unix a `UnixStream` or a `UnixListener`. The
    /// socket is made non-blocking. As in asyncore, `handle_connect` is not called for it.
    ///
    /// # Errors
    /// When the socket can not be made non-blocking.
    pub fn adopt(socket: impl Into<Socket>) -> Result<Self> {
        let socket = socket.into();
        socket
            .prepare()
            .map_err(|error| Error::from(error).context("adopt a socket"))?;
        let peer = socket.peer_addr().ok();
        let channel = Channel::adopt_accepted(socket);
        channel.0.peer.replace(peer);
        Ok(channel)
    }

    /// For a socket that is non-blocking already.
    pub(crate) fn adopt_accepted(socket: Socket) -> Self {
        let phase = match socket.is_listening() {
            true => Phase::Listening,
            false => Phase::Open,
        };
        Channel::with_socket(socket, phase)
    }

    pub(crate) fn connecting(connecting: Connecting) -> Self {
        let core = Core::new(None, Phase::Connecting);
        core.connecting.replace(Some(Box::new(connecting)));
        Channel(Rc::new(core))
    }

    fn with_socket(socket: Socket, phase: Phase) -> Self {
        Channel(Rc::new(Core::new(Some(Rc::new(socket)), phase)))
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
        self.0.note(&outcome, Broken::Receiving);
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
        let outcome = self.0.connected()?.send(data);
        let outcome = self.0.sent(outcome, data.len());
        self.0.note(&outcome, Broken::Sending);
        outcome
    }

    /// Has the loop ask the dispatcher again whether it is readable and writable: for when
    /// something else than its own callbacks has changed that. [`send`](Channel::send) and
    /// [`recv`](Channel::recv) do so too.
    pub fn touch(&self) {
        self.0.touch();
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
        self.0.connected()?.shutdown_write()
    }

    /// Stops reading, and delivering what has been read, until
    /// [`resume_reading`](Channel::resume_reading): the peer is held up by its own full buffers.
    /// What a paused channel's peer does is noticed when reading goes on.
    pub fn pause_reading(&self) {
        self.0.paused.set(true);
        self.0.attention.set(true);
        self.0.touch();
    }

    /// Goes on reading after [`pause_reading`](Channel::pause_reading).
    pub fn resume_reading(&self) {
        self.0.paused.set(false);
        self.0.touch();
    }

    /// The address of the other end; `None` while there is none. It is remembered, and known
    /// still when the connection is gone.
    pub fn peer_addr(&self) -> Option<Addr> {
        if let Some(peer) = &*self.0.peer.borrow() {
            return Some(peer.clone());
        }
        let peer = self.0.socket().ok()?.peer_addr().ok()?;
        self.0.peer.replace(Some(peer.clone()));
        Some(peer)
    }

    /// The address of this end, while the channel is open.
    pub fn local_addr(&self) -> Option<Addr> {
        self.0.socket().ok()?.local_addr().ok()
    }

    /// Its name in the loop, for [`EventLoop::chat`] and
    /// [`Remote::post_to`](crate::Remote::post_to). Before it is registered, and after it is
    /// closed, nobody answers to it.
    pub fn id(&self) -> ChannelId {
        self.0.id.get()
    }

    /// Whether it is neither closed nor about to be: a connection under way is open.
    pub fn is_open(&self) -> bool {
        !self.0.is_ending() && self.0.phase.get() != Phase::Closed
    }

    /// Closes the channel with [`Close::Timeout`] when nothing has moved in either direction for
    /// this long; `None`, the default, never does. Counted from now, or from when the connection is
    /// up. One timer serves it, however much moves.
    pub fn set_idle_timeout(&self, after: impl Into<Option<Duration>>) {
        let core = &self.0;
        core.idle_timeout.set(after.into());
        if let Some(home) = core.home() {
            core.arm_idle_timer(&home);
        }
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
        let home = self.0.home();
        home.is_some_and(|home| home.cancel_timer(timer))
    }

    /// Moves a timer of this channel's loop: [`EventLoop::reset`].
    pub fn reset(&self, timer: TimerId, delay: Duration) -> bool {
        let home = self.0.home();
        home.is_some_and(|home| home.reset_timer(timer, delay))
    }

    fn set_timer(&self, delay: Duration, every: Option<Duration>) -> TimerId {
        let core = &self.0;
        match core.home() {
            Some(home) if self.is_open() => {
                let id = home.set_timer(delay, Task::Channel(core.id.get(), every));
                core.timers.borrow_mut().insert(id);
                id
            }
            _ => TimerId::NEVER,
        }
    }

    /// Whether the channel stays open after its peer has finished sending, although its
    /// dispatcher has nothing to write for now. Off unless set.
    pub fn allow_half_open(&self, yes: bool) {
        self.0.half_open.set(yes);
        self.0.touch();
    }

    /// What it has done so far; in `handle_close` and after, what it has done at all.
    pub fn stats(&self) -> ChannelStats {
        ChannelStats {
            bytes_in: self.0.bytes_in.get(),
            bytes_out: self.0.bytes_out.get(),
            records_in: self.0.records_in.get(),
        }
    }

    /// The loop it is registered with.
    pub fn event_loop(&self) -> Option<EventLoop> {
        self.0.home().map(EventLoop)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not borrowed while the formatter, whoever it is, writes.
        let peer = self.0.peer.borrow().clone();
        f.debug_struct("Channel")
            .field("id", &self.0.id.get())
            .field("phase", &self.0.phase.get())
            .field("peer", &peer)
            .finish()
    }
}

/// The side of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Receiving,
    Sending,
}

/// Where a channel is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// An outgoing connection that is not up yet.
    Connecting,
    /// A connection that is up.
    Open,
    /// It accepts connections.
    Listening,
    /// Its end has been told, or is being told.
    Closed,
}

/// The state of a channel, shared by its handles and its loop.
///
/// All of it is cells: a borrow never outlives one statement of the crate's own, so user code
/// can call any method of any handle at any time.
pub(crate) struct Core {
    home: RefCell<Weak<Home>>,
    pub(crate) id: Cell<ChannelId>,
    pub(crate) phase: Cell<Phase>,
    pub(crate) span: OnceCell<Span>,
    pub(crate) peer: RefCell<Option<Addr>>,

    socket: RefCell<Option<Rc<Socket>>>,
    registration: RefCell<Option<Registration>>,
    pub(crate) connecting: RefCell<Option<Box<Connecting>>>,
    /// Why it is about to end; the first reason stands.
    ending: RefCell<Option<Close>>,
    /// The error that ended its sending side while there may still be something to receive.
    send_error: RefCell<Option<io::Error>>,

    /// On the loop's list of those to look at, or being looked at.
    pub(crate) touched: Cell<bool>,
    /// On the loop's list of those to go on with in the next turn.
    pub(crate) again: Cell<bool>,
    /// What the kernel has reported since it was put there.
    pub(crate) news: Cell<Ready>,
    /// Its handler is still to be made; until then nothing can be told to it.
    pub(crate) unborn: Cell<bool>,
    /// It was accepted, and its handler is to be told that it is up.
    pub(crate) announce: Cell<bool>,
    /// Something happened that a handler's stream of records has to stop for.
    pub(crate) attention: Cell<bool>,
    pub(crate) paused: Cell<bool>,
    /// A listener for which there is no descriptor or memory.
    pub(crate) starved: Cell<bool>,
    pub(crate) eof: Cell<bool>,
    pub(crate) half_open: Cell<bool>,
    /// Input is at hand that the kernel will not report: `handle_read` is to be called for it.
    pub(crate) held: Cell<bool>,
    /// The kernel took less than it was offered; wait until it reports room.
    pub(crate) blocked: Cell<bool>,
    /// The loop is shutting down: close once nothing is left to write.
    pub(crate) draining: Cell<bool>,

    /// Which side of the socket has failed its dispatcher.
    pub(crate) broken: Cell<Option<Broken>>,

    pub(crate) timers: RefCell<BTreeSet<TimerId>>,
    idle_timeout: Cell<Option<Duration>>,
    idle_timer: Cell<Option<TimerId>>,
    last_moved: Cell<Instant>,

    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    pub(crate) records_in: Cell<u64>,

    /// What a [`Chat`](crate::Chat) adds.
    pub(crate) out: RefCell<Fifo>,
    pub(crate) chat: ChatState,
}

/// The part of a channel's state that only layer 2 uses.
pub(crate) struct ChatState {
    pub(crate) is_chat: Cell<bool>,
    /// The queue was over the high-water mark and has not fallen to the low one since.
    pub(crate) choked: Cell<bool>,
    pub(crate) limits: Cell<Limits>,
    pub(crate) terminator: RefCell<Terminator>,
    /// The terminator was set and the splitter does not know yet.
    pub(crate) terminator_set: Cell<bool>,
    /// What has been received and not delivered is to be thrown away.
    pub(crate) input_discarded: Cell<bool>,
    /// Its close is queued: input is not delivered any more.
    pub(crate) closing: Cell<bool>,
}

impl Core {
    fn new(socket: Option<Rc<Socket>>, phase: Phase) -> Self {
        Core {
            home: RefCell::new(Weak::new()),
            id: Cell::new(ChannelId::NOBODY),
            phase: Cell::new(phase),
            span: OnceCell::new(),
            peer: RefCell::new(None),
            socket: RefCell::new(socket),
            registration: RefCell::new(None),
            connecting: RefCell::new(None),
            ending: RefCell::new(None),
            send_error: RefCell::new(None),
            touched: Cell::new(false),
            again: Cell::new(false),
            news: Cell::new(Ready::NOTHING),
            unborn: Cell::new(false),
            announce: Cell::new(false),
            attention: Cell::new(false),
            paused: Cell::new(false),
            starved: Cell::new(false),
            eof: Cell::new(false),
            half_open: Cell::new(false),
            held: Cell::new(false),
            blocked: Cell::new(false),
            draining: Cell::new(false),
            broken: Cell::new(None),
            timers: RefCell::default(),
            idle_timeout: Cell::new(None),
            idle_timer: Cell::new(None),
            last_moved: Cell::new(Instant::now()),
            bytes_in: Cell::new(0),
            bytes_out: Cell::new(0),
            records_in: Cell::new(0),
            out: RefCell::new(Fifo::new(Limits::default().high_water)),
            chat: ChatState {
                is_chat: Cell::new(false),
                choked: Cell::new(false),
                limits: Cell::new(Limits::default()),
                terminator: RefCell::new(Terminator::crlf()),
                terminator_set: Cell::new(false),
                input_discarded: Cell::new(false),
                closing: Cell::new(false),
            },
        }
    }

    pub(crate) fn home(&self) -> Option<Rc<Home>> {
        self.home.borrow().upgrade()
    }

    pub(crate) fn settle_in(&self, home: &Rc<Home>, id: ChannelId) {
        self.home.replace(Rc::downgrade(home));
        self.id.set(id);
    }

    /// Opens the span that all its events are told in.
    pub(crate) fn open_span(&self) {
        // A root: a connection is no part of what its listener happens to be doing.
        let id = self.id.get();
        let span = match &*self.peer.borrow() {
            Some(peer) => tracing::debug_span!(parent: None, "channel", %id, %peer),
            None => tracing::debug_span!(parent: None, "channel", %id),
        };
        span.in_scope(|| tracing::debug!(phase = ?self.phase.get(), "opened"));
        // A channel is registered once, so this is the first and only one.
        let _ = self.span.set(span);
    }

    pub(crate) fn set_connect_deadline(&self, timer: TimerId) {
        self.timers.borrow_mut().insert(timer);
        if let Some(connecting) = &mut *self.connecting.borrow_mut() {
            connecting.deadline = Some(timer);
        }
    }

    pub(crate) fn socket(&self) -> io::Result<Rc<Socket>> {
        match &*self.socket.borrow() {
            Some(socket) if !self.is_ending() => Ok(Rc::clone(socket)),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Receives, and remembers the end of it.
    pub(crate) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.connected()?.recv(buffer)?;
        if count == 0 && !buffer.is_empty() {
            self.eof.set(true);
        }
        self.bytes_in.set(self.bytes_in.get() + count as u64);
        self.moved();
        Ok(count)
    }

    /// A chat's socket belongs to its splitter and its queue.
    fn refuse_chat(&self, what: &str) -> io::Result<()> {
        if self.chat.is_chat.get() {
            let why = format!("{what} would go past the chat's own queue and records");
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        Ok(())
    }

    /// Notes what a dispatcher's own call on the socket has come to.
    fn note(self: &Rc<Self>, outcome: &io::Result<usize>, side: Broken) {
        if let Err(error) = outcome
            && error.kind() != io::ErrorKind::WouldBlock
        {
            self.broken.set(Some(side));
        }
        self.touch();
    }

    /// Its socket, if the connection is up.
    pub(crate) fn connected(&self) -> io::Result<Rc<Socket>> {
        match self.phase.get() {
            Phase::Open => self.socket(),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Puts another socket in the place of the one before: the next address of a connection.
    pub(crate) fn replace_socket(&self, socket: Option<Socket>) {
        self.registration.replace(None);
        self.socket.replace(socket.map(Rc::new));
    }

    /// Has the loop look at this channel before it sleeps.
    #[inline]
    pub(crate) fn touch(self: &Rc<Self>) {
        if !self.touched.get() {
            self.touch_first();
        }
    }

    #[cold]
    #[inline(never)]
    fn touch_first(self: &Rc<Self>) {
        if let Some(home) = self.home() {
            self.touched.set(true);
            home.touched.borrow_mut().push_back(Rc::clone(self));
        }
    }

    /// Makes the close to come a reset.
    pub(crate) fn reset_on_close(&self) {
        if let Some(socket) = &*self.socket.borrow()
            && let Err(error) = socket.reset_on_close()
        {
            // A socket that can not be told is at least closed.
            tracing::debug!(%error, "a reset will be an ordinary close");
        }
    }

    pub(crate) fn bytes_in(&self) -> u64 {
        self.bytes_in.get()
    }

    pub(crate) fn bytes_out(&self) -> u64 {
        self.bytes_out.get()
    }

    /// Ends the channel for this reason, unless it is ending for another already.
    pub(crate) fn end(self: &Rc<Self>, why: Close) {
        if self.is_ending() || self.phase.get() == Phase::Closed {
            return;
        }
        self.ending.replace(Some(why));
        self.out.borrow_mut().seal();
        self.attention.set(true);
        self.touch();
        // Without a loop there is nobody to tell; the socket at least is closed.
        if self.home().is_none() {
            self.phase.set(Phase::Closed);
            self.replace_socket(None);
        }
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.borrow().is_some()
    }

    /// Takes the channel apart, and says why it ended.
    pub(crate) fn take_apart(&self) -> Close {
        self.phase.set(Phase::Closed);
        self.replace_socket(None);
        self.connecting.replace(None);
        self.out.borrow_mut().seal();
        if let Some(home) = self.home() {
            let timers = self.timers.take().into_iter();
            for timer in timers.chain(self.idle_timer.take()) {
                home.forget_timer(timer);
            }
        }
        self.ending.take().unwrap_or(Close::Local)
    }

    /// Sending failed. What the peer sent before is still to be delivered, so the channel ends
    /// only when it has been read to its end.
    pub(crate) fn fail_sending(self: &Rc<Self>, error: io::Error) {
        if self.eof.get() {
            return self.end(Close::from_io(error));
        }
        self.send_error.replace(Some(error));
    }

    pub(crate) fn has_failed_sending(&self) -> bool {
        self.send_error.borrow().is_some()
    }

    pub(crate) fn take_send_error(&self) -> Option<io::Error> {
        self.send_error.take()
    }

    /// Accounts for a send, and remembers whether the kernel wants more.
    pub(crate) fn sent(&self, outcome: io::Result<usize>, offered: usize) -> io::Result<usize> {
        match &outcome {
            Ok(count) => {
                self.bytes_out.set(self.bytes_out.get() + *count as u64);
                self.blocked.set(*count < offered);
                self.moved();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.blocked.set(true),
            Err(_) => {}
        }
        outcome
    }

    /// Watches the socket for this, and for nothing if it is nothing.
    pub(crate) fn watch(&self, home: &Rc<Home>, interest: Interest) -> io::Result<()> {
        if interest == Interest::NONE {
            self.registration.replace(None);
            return Ok(());
        }
        if let Some(registration) = &*self.registration.borrow() {
            return registration.set_interest(interest);
        }
        let Some(socket) = self.socket.borrow().clone() else {
            return Ok(());
        };
        let key = home.registry.borrow_mut().poll_key(self.id.get());
        let registration = home.poller.watch(socket, key, interest)?;
        self.registration.replace(Some(registration));
        Ok(())
    }

    /// An event was delivered for it.
    pub(crate) fn reported(&self) {
        if let Some(registration) = &*self.registration.borrow() {
            registration.reported();
        }
    }

    /// Bytes moved: it is not idle.
    fn moved(&self) {
        if self.idle_timeout.get().is_some() {
            self.last_moved.set(Instant::now());
        }
    }

    /// Begins to watch for idleness: from now, if the connection is up, or else when it is.
    pub(crate) fn arm_idle_timer(&self, home: &Home) {
        if let Some(timer) = self.idle_timer.take() {
            home.forget_timer(timer);
        }
        if let Some(timeout) = self.idle_timeout.get()
            && self.phase.get() == Phase::Open
            && !self.is_ending()
        {
            self.last_moved.set(Instant::now());
            let timer = home.set_timer(timeout, Task::Idle(self.id.get()));
            self.idle_timer.set(Some(timer));
        }
    }

    /// The idle timer fired: was it idle all the time? If not, when to look again.
    pub(crate) fn idle_at(self: &Rc<Self>, now: Instant) -> Option<Instant> {
        let deadline = self
            .last_moved
            .get()
            .checked_add(self.idle_timeout.get()?)?;
        if deadline > now {
            return Some(deadline);
        }
        self.idle_timer.set(None);
        self.end(Close::Timeout(Deadline::Idle));
        None
    }
}

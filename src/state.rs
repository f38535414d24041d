//! The state of a channel: what its handles and its loop share.

mod timing;

use std::cell::{Cell, OnceCell, RefCell, RefMut};
use std::collections::BTreeSet;
use std::io;
use std::rc::{Rc, Weak};
#[cfg(feature = "sim")]
use std::time::Instant;

use tracing::Span;

use crate::Addr;
use crate::connecting::Connecting;
use crate::deadlines::Clocks;
use crate::error::Close;
use crate::fifo::Fifo;
use crate::home::Home;
use crate::limits::Limits;
use crate::places::Place;
use crate::poller::{Interest, Ready, Registration};
use crate::registry::ChannelId;
use crate::socket::Socket;
use crate::terminator::Terminator;
use crate::timer::TimerId;
use crate::told::Escaped;

use timing::Timing;

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
    /// Absent where nobody subscribes to it.
    pub(crate) span: OnceCell<Box<Span>>,
    /// Why it ended, and when: for the transcript of a simulated run.
    #[cfg(feature = "sim")]
    pub(crate) why: RefCell<Option<(Close, Instant)>>,
    pub(crate) peer: RefCell<Option<Addr>>,

    socket: RefCell<Option<Rc<Socket>>>,
    registration: RefCell<Option<Registration>>,
    rare: RefCell<Option<Box<Rare>>>,
    timing: RefCell<Option<Box<Timing>>>,

    /// It is about to end, and has a reason to.
    ending: Cell<bool>,
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
    /// Its queue was emptied before its close: its peer is to hear all of it.
    pub(crate) lingers: Cell<bool>,
    /// It is the loop's own, and reads into nothing what comes after the close of another.
    pub(crate) lingering: Cell<bool>,
    /// The loop is shutting down: close once nothing is left to write.
    pub(crate) draining: Cell<bool>,

    /// Which side of the socket has failed its dispatcher.
    pub(crate) broken: Cell<Option<Broken>>,

    /// Shared by all connections that were given the same; the default ones if there are none.
    limits: RefCell<Option<Rc<Limits>>>,

    /// Its place at its listener, for as long as it lasts.
    pub(crate) place: Cell<Option<Place>>,
    pub(crate) turns: Cell<u64>,
    pub(crate) wakeups: Cell<u64>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    pub(crate) records_in: Cell<u64>,

    /// What a [`Chat`](crate::Chat) adds.
    pub(crate) out: RefCell<Fifo>,
    pub(crate) chat: ChatState,
}

/// What a connection has none of for most of its life, in one place so that it costs nothing then.
#[derive(Default)]
struct Rare {
    connecting: Option<Box<Connecting>>,
    /// Why it is about to end; the first reason stands.
    ending: Option<Close>,
    /// The error that ended its sending side while there may still be something to receive.
    send_error: Option<io::Error>,
    timers: BTreeSet<TimerId>,
}

/// The part of a channel's state that only layer 2 uses.
pub(crate) struct ChatState {
    pub(crate) is_chat: Cell<bool>,
    /// The queue was over the high-water mark and has not fallen to the low one since.
    pub(crate) choked: Cell<bool>,
    pub(crate) terminator: RefCell<Terminator>,
    /// The terminator was set and the splitter does not know yet.
    pub(crate) terminator_set: Cell<bool>,
    /// What has been received and not delivered is to be thrown away.
    pub(crate) input_discarded: Cell<bool>,
    /// Its close is queued: input is not delivered any more.
    pub(crate) closing: Cell<bool>,
}

impl Core {
    pub(crate) fn new(socket: Option<Rc<Socket>>, phase: Phase) -> Self {
        Core {
            home: RefCell::new(Weak::new()),
            id: Cell::new(ChannelId::NOBODY),
            phase: Cell::new(phase),
            span: OnceCell::new(),
            #[cfg(feature = "sim")]
            why: RefCell::new(None),
            peer: RefCell::new(None),
            socket: RefCell::new(socket),
            registration: RefCell::new(None),
            rare: RefCell::new(None),
            timing: RefCell::new(None),
            ending: Cell::new(false),
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
            lingers: Cell::new(false),
            lingering: Cell::new(false),
            draining: Cell::new(false),
            broken: Cell::new(None),
            limits: RefCell::new(None),
            place: Cell::new(None),
            turns: Cell::new(0),
            wakeups: Cell::new(0),
            bytes_in: Cell::new(0),
            bytes_out: Cell::new(0),
            records_in: Cell::new(0),
            out: RefCell::new(Fifo::new(Limits::DEFAULT.high_water)),
            chat: ChatState {
                is_chat: Cell::new(false),
                choked: Cell::new(false),
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
        // A root: a connection is no part of what its listener happens to be doing. At the level of
        // the worst that is told in it, which without the span would not say whose it is.
        let id = self.id.get();
        let span = match &*self.peer.borrow() {
            Some(peer) => tracing::error_span!(parent: None, "channel", %id, peer = %Escaped(peer)),
            None => tracing::error_span!(parent: None, "channel", %id),
        };
        span.in_scope(|| tracing::debug!(phase = ?self.phase.get(), "opened"));
        // A channel is registered once, so this is the first and only one.
        if !span.is_disabled() {
            let _ = self.span.set(Box::new(span));
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
        self.time(Clocks::moved);
        Ok(count)
    }

    /// A chat's socket belongs to its splitter and its queue.
    pub(crate) fn refuse_chat(&self, what: &str) -> io::Result<()> {
        if self.chat.is_chat.get() {
            let why = format!("{what} would go past the chat's own queue and records");
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        Ok(())
    }

    /// Notes what a dispatcher's own call on the socket has come to.
    pub(crate) fn note(self: &Rc<Self>, outcome: &io::Result<usize>, side: Broken) {
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

    /// Shuts the sending side of its socket down and gives the socket up, registered as it is, to a
    /// channel that is new. `None` when the connection is gone.
    pub(crate) fn pass_socket_on(&self) -> Option<Rc<Core>> {
        let socket = self.socket.borrow().clone()?;
        socket.shutdown_write().ok()?;
        let heir = Core::new(self.socket.take(), Phase::Open);
        heir.registration.replace(self.registration.take());
        if let Some(span) = self.span.get() {
            let _ = heir.span.set(span.clone());
        }
        Some(Rc::new(heir))
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
        self.ending.set(true);
        self.rarely(|rare| rare.ending = Some(why));
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
        self.ending.get()
    }

    /// Takes the channel apart, and says why it ended.
    pub(crate) fn take_apart(&self) -> Close {
        self.phase.set(Phase::Closed);
        self.replace_socket(None);
        self.place.take();
        self.out.borrow_mut().seal();
        let rare = self.rare.take().unwrap_or_default();
        let timing = self.timing.take();
        if let Some(home) = self.home() {
            let deadline_timer = timing.and_then(|timing| timing.timer);
            let timers = rare.timers.into_iter();
            for timer in timers.chain(deadline_timer.map(|(timer, _)| timer)) {
                home.forget_timer(timer);
            }
        }
        rare.ending.unwrap_or(Close::Local)
    }

    /// Sending failed. If that is because the connection is over, what the peer sent before is
    /// still to be delivered, so the channel ends only when it has been read to its end. Any other
    /// failure (ENOBUFS) says nothing of the receiving side: its end may never come.
    pub(crate) fn fail_sending(self: &Rc<Self>, error: io::Error) {
        if self.eof.get() || !is_over(&error) {
            return self.end(Close::from_io(error));
        }
        self.rarely(|rare| rare.send_error = Some(error));
    }

    pub(crate) fn has_failed_sending(&self) -> bool {
        let rare = self.rare.borrow();
        rare.as_ref().is_some_and(|rare| rare.send_error.is_some())
    }

    pub(crate) fn take_send_error(&self) -> Option<io::Error> {
        self.rare.borrow_mut().as_mut()?.send_error.take()
    }

    pub(crate) fn connecting(&self) -> Option<RefMut<'_, Box<Connecting>>> {
        let rare = self.rare.borrow_mut();
        RefMut::filter_map(rare, |rare| rare.as_mut()?.connecting.as_mut()).ok()
    }

    pub(crate) fn take_connecting(&self) -> Option<Box<Connecting>> {
        self.rare.borrow_mut().as_mut()?.connecting.take()
    }

    pub(crate) fn put_connecting(&self, connecting: Box<Connecting>) {
        self.rarely(|rare| rare.connecting = Some(connecting));
    }

    /// A timer of its own was set: it goes when the channel does.
    pub(crate) fn add_timer(&self, timer: TimerId) {
        self.rarely(|rare| rare.timers.insert(timer));
    }

    pub(crate) fn remove_timer(&self, timer: TimerId) {
        if let Some(rare) = &mut *self.rare.borrow_mut() {
            rare.timers.remove(&timer);
        }
    }

    fn rarely<T>(&self, change: impl FnOnce(&mut Rare) -> T) -> T {
        change(self.rare.borrow_mut().get_or_insert_default())
    }

    /// Accounts for a send, and remembers whether the kernel wants more.
    pub(crate) fn sent(&self, outcome: io::Result<usize>, offered: usize) -> io::Result<usize> {
        match &outcome {
            Ok(count) => {
                self.bytes_out.set(self.bytes_out.get() + *count as u64);
                self.blocked.set(*count < offered);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.blocked.set(true),
            Err(_) => return outcome,
        }
        let (all, sent) = (!self.blocked.get(), self.bytes_out.get());
        self.time(|clocks, now| {
            if outcome.is_ok() {
                clocks.moved(now);
            }
            clocks.offered(now, all, sent);
        });
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
        self.wakeups.set(self.wakeups.get() + 1);
        if let Some(registration) = &*self.registration.borrow() {
            registration.reported();
        }
    }

    // ---- limits

    /// Those of its loop, if it was given none of its own.
    pub(crate) fn adopt_limits(&self, of_loop: Option<Rc<Limits>>) {
        if of_loop.is_some() && self.limits.borrow().is_none() {
            self.set_limits(of_loop);
        }
    }

    /// Looks at its limits.
    #[inline]
    pub(crate) fn limit<T>(&self, of: impl FnOnce(&Limits) -> T) -> T {
        match &*self.limits.borrow() {
            Some(limits) => of(limits),
            None => of(&Limits::DEFAULT),
        }
    }

    pub(crate) fn set_limits(&self, limits: Option<Rc<Limits>>) {
        self.limits.replace(limits);
        // One mark for the queue to look out for; which it was, `choke` finds out.
        let mark = self.limit(|limits| limits.high_water.min(limits.output));
        self.out.borrow_mut().set_high_water(mark);
    }
}

/// Whether a send failed because the connection has ended, in both directions.
fn is_over(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::BrokenPipe
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::NotConnected
            | Kind::TimedOut
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
    )
}

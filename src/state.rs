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
use crate::addr::Kept;
use crate::connecting::Connecting;
use crate::deadlines::Clocks;
use crate::error::Close;
use crate::fifo::Fifo;
use crate::home::Home;
use crate::limits::Limits;
use crate::places::Place;
use crate::poller::{Interest, Poller, Ready, Source};
use crate::reconnect::Retrying;
use crate::registry::ChannelId;
use crate::socket::Fd;
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
    home: OnceCell<Weak<Home>>,
    pub(crate) id: Cell<ChannelId>,
    pub(crate) phase: Cell<Phase>,
    /// Absent where nobody subscribes to it.
    pub(crate) span: OnceCell<Box<Span>>,
    /// Why it ended, and when: for the transcript of a simulated run.
    #[cfg(feature = "sim")]
    pub(crate) why: RefCell<Option<(Close, Instant)>>,
    peer: OnceCell<Kept>,

    source: RefCell<Option<Source>>,
    rare: OnceCell<Box<RefCell<Rare>>>,
    timing: OnceCell<Box<RefCell<Timing>>>,

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
    /// It is the loop's own, and no connection: a shutdown lets it be.
    pub(crate) own: Cell<bool>,
    /// The loop is shutting down: close once nothing is left to write.
    pub(crate) draining: Cell<bool>,

    /// Which side of the socket has failed its dispatcher.
    pub(crate) broken: Cell<Option<Broken>>,

    /// Shared by all connections that were given the same; the default ones if there are none.
    limits: Cell<Option<Rc<Limits>>>,

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
    output: Output,
    /// The other end of its pipe. Weak, for each has the other.
    piped_to: Weak<Core>,
    connecting: Option<Box<Connecting>>,
    /// Why it is about to end, if that is not [`Close::Local`]; the first reason stands.
    ending: Option<Close>,
    /// The error that ended its sending side while there may still be something to receive.
    send_error: Option<io::Error>,
    timers: BTreeSet<TimerId>,
    /// Makes another connection when this one has ended.
    retrying: Option<Rc<Retrying>>,
}

/// Where a channel's output goes.
#[derive(Default)]
enum Output {
    /// Where its input comes from.
    #[default]
    Same,
    Apart(Source),
    /// It was shut down.
    Ended,
    /// It could not be sent to any more. What its input brings is another matter.
    Failed,
}

/// The part of a channel's state that only layer 2 uses.
pub(crate) struct ChatState {
    pub(crate) is_chat: Cell<bool>,
    /// The queue was over the high-water mark and has not fallen to the low one since.
    pub(crate) choked: Cell<bool>,
    /// None before the first is set: then it is the default.
    terminator: OnceCell<Box<RefCell<Terminator>>>,
    /// The terminator was set and the splitter does not know yet.
    pub(crate) terminator_set: Cell<bool>,
    /// What has been received and not delivered is to be thrown away.
    pub(crate) input_discarded: Cell<bool>,
    /// Its close is queued: input is not delivered any more.
    pub(crate) closing: Cell<bool>,
    /// Its input goes to another connection.
    pub(crate) is_piped: Cell<bool>,
}

impl ChatState {
    pub(crate) fn terminator(&self) -> Terminator {
        match self.terminator.get() {
            Some(terminator) => terminator.borrow().clone(),
            None => Terminator::default(),
        }
    }

    pub(crate) fn set_terminator(&self, terminator: Terminator) {
        self.terminator
            .get_or_init(Box::default)
            .replace(terminator);
        self.terminator_set.set(true);
    }
}

impl Core {
    pub(crate) fn new(source: Option<Source>, phase: Phase) -> Self {
        Core {
            home: OnceCell::new(),
            id: Cell::new(ChannelId::NOBODY),
            phase: Cell::new(phase),
            span: OnceCell::new(),
            #[cfg(feature = "sim")]
            why: RefCell::new(None),
            peer: OnceCell::new(),
            source: RefCell::new(source),
            rare: OnceCell::new(),
            timing: OnceCell::new(),
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
            own: Cell::new(false),
            draining: Cell::new(false),
            broken: Cell::new(None),
            limits: Cell::new(None),
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
                terminator: OnceCell::new(),
                terminator_set: Cell::new(false),
                input_discarded: Cell::new(false),
                closing: Cell::new(false),
                is_piped: Cell::new(false),
            },
        }
    }

    pub(crate) fn home(&self) -> Option<Rc<Home>> {
        self.home.get()?.upgrade()
    }

    pub(crate) fn settle_in(&self, home: &Rc<Home>) {
        // A channel is registered once, so this is the first and only one.
        let _ = self.home.set(Rc::downgrade(home));
    }

    pub(crate) fn peer(&self) -> Option<Addr> {
        self.peer.get().map(Addr::from)
    }

    /// Remembers its peer, which does not change.
    pub(crate) fn set_peer(&self, peer: Addr) {
        let _ = self.peer.set(peer.into());
    }

    /// Opens the span that all its events are told in.
    pub(crate) fn open_span(&self) {
        // A root: a connection is no part of what its listener happens to be doing. At the level of
        // the worst that is told in it, which without the span would not say whose it is.
        let id = self.id.get();
        let span = match self.peer() {
            Some(peer) => tracing::error_span!(parent: None, "channel", %id, peer = %Escaped(peer)),
            None => tracing::error_span!(parent: None, "channel", %id),
        };
        span.in_scope(|| tracing::debug!(phase = ?self.phase.get(), "opened"));
        if !span.is_disabled() {
            let _ = self.span.set(Box::new(span));
        }
    }

    /// Makes a call on its socket, if it has one.
    pub(crate) fn on_socket<T>(&self, call: impl FnOnce(&Fd) -> io::Result<T>) -> io::Result<T> {
        match &*self.source.borrow() {
            Some(source) if !self.is_ending() => call(source.socket()),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Makes a call on its socket, if the connection is up.
    pub(crate) fn on_connected<T>(&self, call: impl FnOnce(&Fd) -> io::Result<T>) -> io::Result<T> {
        match self.phase.get() {
            Phase::Open => self.on_socket(call),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Makes a call on where its output goes, if the connection is up.
    pub(crate) fn on_output<T>(&self, call: impl FnOnce(&Fd) -> io::Result<T>) -> io::Result<T> {
        if let Some(rare) = self.rare.get()
            && self.phase.get() == Phase::Open
            && !self.is_ending()
        {
            match &rare.borrow().output {
                Output::Same => {}
                Output::Apart(output) => return call(output.socket()),
                Output::Ended | Output::Failed => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
        self.on_connected(call)
    }

    /// Its output goes elsewhere than where its input comes from.
    pub(crate) fn set_output(&self, output: Source) {
        self.rarely(|rare| rare.output = Output::Apart(output));
    }

    /// Ends the sending side. Of one with two descriptors, that is the end of the one.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        if let Some(rare) = self.rare.get()
            && self.phase.get() == Phase::Open
        {
            let ended = match &mut rare.borrow_mut().output {
                Output::Same => None,
                output => Some(std::mem::replace(output, Output::Ended)),
            };
            // Not while it is borrowed: what is logged as it closes goes to the user's subscriber.
            if let Some(ended) = ended {
                drop(ended);
                return Ok(());
            }
        }
        self.on_connected(Fd::shutdown_write)
    }

    /// Whether its input is a stream of bytes, which has an end.
    pub(crate) fn is_stream(&self) -> bool {
        match &*self.source.borrow() {
            Some(source) => source.socket().is_stream(),
            None => true,
        }
    }

    pub(crate) fn drop_out_of_band(&self) {
        if let Some(source) = &*self.source.borrow() {
            source.socket().drop_out_of_band();
        }
    }

    /// Whether this poller can watch its socket, if it has one.
    ///
    /// # Errors
    /// When it can not.
    pub(crate) fn can_be_watched(&self, poller: &Poller) -> io::Result<()> {
        match &*self.source.borrow() {
            Some(source) => poller.can_watch(source.socket())?,
            None => return Ok(()),
        }
        match self.rare.get().map(|rare| rare.borrow()).as_deref() {
            Some(Rare {
                output: Output::Apart(output),
                ..
            }) => poller.can_watch(output.socket()),
            _ => Ok(()),
        }
    }

    /// Receives, and remembers the end of it.
    pub(crate) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.on_connected(|socket| socket.recv(buffer))?;
        if count == 0 && !buffer.is_empty() && self.is_stream() {
            self.eof.set(true);
        }
        self.bytes_in.set(self.bytes_in.get() + count as u64);
        self.time(Clocks::moved);
        Ok(count)
    }

    /// Receives a datagram.
    pub(crate) fn recv_from(self: &Rc<Self>, buffer: &mut [u8]) -> io::Result<(usize, Addr)> {
        let received = self.on_connected(|socket| socket.recv_from(buffer));
        self.touch();
        let (count, peer) = received?;
        self.bytes_in.set(self.bytes_in.get() + count as u64);
        self.time(Clocks::moved);
        Ok((count, peer))
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
            && self.is_stream()
        {
            self.broken.set(Some(side));
        }
        self.touch();
    }

    /// Shuts the sending side of its socket down and gives the socket up, watched as it is. `None`
    /// when the connection is gone.
    pub(crate) fn give_up_socket(&self) -> Option<Source> {
        let mut source = self.source.borrow_mut();
        source.as_ref()?.socket().shutdown_write().ok()?;
        source.take()
    }

    /// Gives it the socket of the attempt that has come up, or takes the one that it has.
    pub(crate) fn replace_source(&self, source: Option<Source>) {
        self.source.replace(source);
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
        if let Some(source) = &*self.source.borrow()
            && let Err(error) = source.socket().reset_on_close()
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
        // The commonest needs no room: it is what stands for none.
        if !matches!(why, Close::Local) {
            self.rarely(|rare| rare.ending = Some(why));
        }
        self.out.borrow_mut().seal();
        self.attention.set(true);
        self.touch();
        // Without a loop there is nobody to tell; the socket at least is closed.
        if self.home().is_none() {
            self.phase.set(Phase::Closed);
            self.replace_source(None);
            self.rarely(|rare| std::mem::replace(&mut rare.output, Output::Ended));
        }
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.get()
    }

    /// Takes the channel apart, and says why it ended.
    pub(crate) fn take_apart(&self) -> Close {
        self.phase.set(Phase::Closed);
        self.replace_source(None);
        self.place.take();
        self.out.borrow_mut().seal();
        let rare = self.rare.get().map(|rare| rare.take()).unwrap_or_default();
        if self.is_piped() {
            // The other end is still to be told.
            self.rarely(|kept| kept.piped_to = rare.piped_to.clone());
        }
        let deadline_timer = self.take_deadline_timer();
        if let Some(home) = self.home() {
            let timers = rare.timers.into_iter();
            for timer in timers.chain(deadline_timer) {
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
        if let Some(rare) = self.rare.get()
            && !matches!(rare.borrow().output, Output::Same)
        {
            tracing::debug!(%error, "its output has nobody to go to");
            let output = std::mem::replace(&mut rare.borrow_mut().output, Output::Failed);
            drop(output);
            return;
        }
        self.rarely(|rare| rare.send_error = Some(error));
    }

    /// Whether it has an output of its own that has failed.
    pub(crate) fn has_lost_output(&self) -> bool {
        let rare = self.rare.get();
        rare.is_some_and(|rare| matches!(rare.borrow().output, Output::Failed))
    }

    pub(crate) fn has_failed_sending(&self) -> bool {
        let rare = self.rare.get();
        rare.is_some_and(|rare| rare.borrow().send_error.is_some())
    }

    pub(crate) fn take_send_error(&self) -> Option<io::Error> {
        self.rare.get()?.borrow_mut().send_error.take()
    }

    pub(crate) fn connecting(&self) -> Option<RefMut<'_, Box<Connecting>>> {
        let rare = self.rare.get()?.borrow_mut();
        RefMut::filter_map(rare, |rare| rare.connecting.as_mut()).ok()
    }

    pub(crate) fn take_connecting(&self) -> Option<Box<Connecting>> {
        self.rare.get()?.borrow_mut().connecting.take()
    }

    pub(crate) fn put_connecting(&self, connecting: Box<Connecting>) {
        self.rarely(|rare| rare.connecting = Some(connecting));
    }

    pub(crate) fn retrying(&self) -> Option<Rc<Retrying>> {
        self.rare.get()?.borrow().retrying.clone()
    }

    pub(crate) fn take_retrying(&self) -> Option<Rc<Retrying>> {
        self.rare.get()?.borrow_mut().retrying.take()
    }

    pub(crate) fn set_retrying(&self, retrying: Rc<Retrying>) {
        self.rarely(|rare| rare.retrying = Some(retrying));
    }

    /// A timer of its own was set: it goes when the channel does.
    pub(crate) fn add_timer(&self, timer: TimerId) {
        self.rarely(|rare| rare.timers.insert(timer));
    }

    pub(crate) fn remove_timer(&self, timer: TimerId) {
        if let Some(rare) = self.rare.get() {
            rare.borrow_mut().timers.remove(&timer);
        }
    }

    /// The other end of its pipe, while there is one.
    pub(crate) fn piped_to(&self) -> Option<Rc<Core>> {
        match self.chat.is_piped.get() {
            true => self.rare.get()?.borrow().piped_to.upgrade(),
            false => None,
        }
    }

    pub(crate) fn pipe_to(&self, other: &Rc<Core>) {
        self.rarely(|rare| rare.piped_to = Rc::downgrade(other));
        self.chat.is_piped.set(true);
    }

    fn rarely<T>(&self, change: impl FnOnce(&mut Rare) -> T) -> T {
        change(&mut self.rare.get_or_init(Box::default).borrow_mut())
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
        let Some(source) = &mut *self.source.borrow_mut() else {
            return Ok(());
        };
        if let Some(rare) = self.rare.get()
            && let Output::Apart(output) = &mut rare.borrow_mut().output
        {
            // One key for both: a new one for the one would make that of the other stale.
            let key = || home.registry.borrow_mut().shared_poll_key(self.id.get());
            source.watch(&home.poller, interest.only_read(), key)?;
            return output.watch(&home.poller, interest.only_write(), key);
        }
        let key = || home.registry.borrow_mut().poll_key(self.id.get());
        source.watch(&home.poller, interest, key)
    }

    /// An event was delivered for it.
    pub(crate) fn reported(&self) {
        self.wakeups.set(self.wakeups.get() + 1);
        if let Some(source) = &mut *self.source.borrow_mut() {
            source.reported();
        } else if let Some(mut connecting) = self.connecting() {
            connecting.reported();
        }
        if let Some(rare) = self.rare.get()
            && let Output::Apart(output) = &mut rare.borrow_mut().output
        {
            output.reported();
        }
    }

    // ---- limits

    /// Those of its loop, if it was given none of its own.
    pub(crate) fn adopt_limits(&self, of_loop: Option<Rc<Limits>>) {
        let own = self.limits.take();
        match own {
            None if of_loop.is_some() => self.set_limits(of_loop),
            own => self.limits.set(own),
        }
    }

    /// Looks at its limits.
    #[inline]
    pub(crate) fn limit<T>(&self, of: impl FnOnce(&Limits) -> T) -> T {
        let limits = self.limits.take();
        let answer = of(limits.as_deref().unwrap_or(&Limits::DEFAULT));
        self.limits.set(limits);
        answer
    }

    pub(crate) fn set_limits(&self, limits: Option<Rc<Limits>>) {
        self.limits.set(limits);
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

//! What handles and the runtime share: the state of each channel, and the agenda of the loop.
//!
//! Everything is in cells, and no user code runs while one of them is borrowed. User code can therefore
//! call any method of any handle at any time. The one exception is [`ChannelState::watch`].

pub(crate) mod agenda;
mod clocks;
mod cold;
pub(crate) mod connect;
pub(crate) mod delivered;
pub(crate) mod early;
mod failure;
mod flags;
mod id;
pub(crate) mod inbox;
mod io;
pub(crate) mod load;
mod output;
mod pipe;
#[cfg(feature = "proxy-protocol")]
mod proxied;
pub(crate) mod quota;
pub(crate) mod secure;
mod silence;

#[cfg(feature = "sim")]
use std::any::Any;
use std::any::TypeId;
use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
#[cfg(feature = "sim")]
use std::time::Instant;

use tracing::Span;

use crate::Addr;
use crate::addr::CompactAddr;
use crate::error::Close;
use crate::framing::terminator::Terminator;
use crate::limits::Limits;
use crate::log::{Escaped, log};
use crate::output::fifo::Fifo;
use crate::sys::interest::Ready;
use crate::sys::socket::Fd;
use crate::sys::watched_socket::WatchedSocket;
use crate::user_code::{discard, enter};

pub(crate) use flags::{Flag, Flags, Request, Requests};
pub use id::ChannelId;
pub(crate) use id::NO_WORKER;
pub(crate) use io::{Side, ToSocket, no_urgent_data};

use agenda::Agenda;
use clocks::Timing;
use cold::Cold;
use quota::Admission;

/// Where a channel is in its life, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) enum Phase {
    /// An outgoing connection that is not up yet.
    Connecting,
    /// It accepts connections.
    Listening,
    /// An accepted connection whose PROXY header is not complete. Its client is not known.
    #[cfg(feature = "proxy-protocol")]
    Unidentified,
    /// A connection whose TLS handshake is not complete.
    Securing,
    /// A connection that is up. `handle_connect` is still to be called.
    Arrived,
    /// A connection that is up.
    Open,
    /// It has a reason to end. `handle_close` is still to be called.
    Ending,
    /// Its socket is closed, and `handle_close` has been called.
    Closed,
}

/// What a channel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Layer 1: its handler is a dispatcher.
    Dispatcher,
    /// Layer 2: its handler is a session.
    Chat,
    /// The crate's own, and no connection: a shutdown does not close it.
    Internal,
}

/// The state of a channel.
pub(crate) struct ChannelState {
    agenda: OnceCell<Rc<Agenda>>,
    pub(crate) id: Cell<ChannelId>,
    /// Set before the channel is registered.
    pub(crate) kind: Cell<Kind>,
    pub(crate) phase: Cell<Phase>,
    pub(crate) flags: Flags,
    pub(crate) requests: Requests,
    /// What the kernel has reported since it was put into the run queue.
    pub(crate) pending: Cell<Ready>,
    /// The turn of the loop in which it last had its own.
    pub(crate) last_turn: Cell<u32>,
    /// Which call of its dispatcher on the socket has failed in this callback, and how.
    pub(crate) failed_call: Cell<Option<(Side, std::io::ErrorKind)>>,
    /// The type of the handler. `Chat::post` accepts only a call for a handler of this type.
    pub(crate) handler: Cell<fn() -> TypeId>,
    /// Absent where nobody subscribes to it.
    span: OnceCell<Box<Span>>,
    peer: OnceCell<CompactAddr>,
    source: RefCell<Option<WatchedSocket>>,
    /// Absent where nothing is in it, and while it is looked at.
    cold: Cell<Option<Box<Cold>>>,
    /// Whether there is cold state. Each turn looks for it several times.
    has_cold: Cell<bool>,
    timing: OnceCell<Box<RefCell<Timing>>>,
    /// Shared by all connections that were given the same; the default ones if there are none.
    limits: Cell<Option<Rc<Limits>>>,
    /// Counts the connection for the quota of its listener, until it ends.
    admission: Cell<Option<Admission>>,
    /// The queue of a chat. A dispatcher's stays empty.
    pub(crate) out: RefCell<Fifo>,
    /// None before the first is set: then it is the default.
    terminator: OnceCell<Box<RefCell<Terminator>>>,

    // Only `stats` reports these two, so they have four bytes each, and wrap around.
    pub(crate) turns: Cell<u32>,
    pub(crate) wakeups: Cell<u32>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    pub(crate) records_in: Cell<u64>,
}

impl ChannelState {
    pub(crate) fn new(source: Option<WatchedSocket>, phase: Phase) -> Self {
        ChannelState {
            agenda: OnceCell::new(),
            id: Cell::new(ChannelId::new()),
            kind: Cell::new(Kind::Dispatcher),
            phase: Cell::new(phase),
            flags: Flags::default(),
            requests: Requests::default(),
            pending: Cell::new(Ready::NONE),
            last_turn: Cell::new(0),
            failed_call: Cell::new(None),
            handler: Cell::new(TypeId::of::<()>),
            span: OnceCell::new(),
            peer: OnceCell::new(),
            source: RefCell::new(source),
            cold: Cell::new(None),
            has_cold: Cell::new(false),
            timing: OnceCell::new(),
            limits: Cell::new(None),
            admission: Cell::new(None),
            out: RefCell::new(Fifo::new(Limits::DEFAULT.high_water)),
            terminator: OnceCell::new(),
            turns: Cell::new(0),
            wakeups: Cell::new(0),
            bytes_in: Cell::new(0),
            bytes_out: Cell::new(0),
            records_in: Cell::new(0),
        }
    }

    // ---- its life

    /// The agenda of its loop; `None` before it is registered, and when the loop is gone.
    #[inline]
    pub(crate) fn agenda(&self) -> Option<&Rc<Agenda>> {
        self.agenda.get().filter(|agenda| !agenda.is_closed())
    }

    pub(crate) fn is_registered(&self) -> bool {
        self.agenda.get().is_some()
    }

    pub(crate) fn set_agenda(&self, agenda: &Rc<Agenda>) {
        // A channel is registered once.
        let _ = self.agenda.set(Rc::clone(agenda));
    }

    pub(crate) fn is_chat(&self) -> bool {
        self.kind.get() == Kind::Chat
    }

    /// Whether it is not read because [another worker](Flag::AWAITS_WORKER) has to catch up. Its input must not be lost
    /// meanwhile, as that of a session may be that has paused its reading.
    #[inline]
    pub(crate) fn is_held(&self) -> bool {
        self.flags.has(Flag::AWAITS_WORKER) && !self.flags.has(Flag::PAUSED)
    }

    /// Whether the connection is up, and has no reason to end.
    #[inline]
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.phase.get(), Phase::Open | Phase::Arrived)
    }

    /// Whether it has a reason to end, or has ended.
    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.phase.get() >= Phase::Ending
    }

    /// Whether a turn without an event can do nothing but send bytes.
    #[inline]
    pub(crate) fn only_sends(&self) -> bool {
        self.out.borrow().has_only_a_head()
            && self.phase.get() == Phase::Open
            && self.flags.affect_no_turn()
            && self.requests.only_concern_records()
            && !self.has_cold.get()
    }

    /// Whether its close is queued: no more input is delivered.
    #[inline]
    pub(crate) fn is_closing(&self) -> bool {
        self.out.borrow().is_sealed()
    }

    /// Whether another session is to take the place of this one, before the next callback.
    #[inline]
    pub(crate) fn is_replacement_due(&self) -> bool {
        self.requests.has(Request::REPLACE)
    }

    /// Whether the loop has begun to shut down and its session has not been called for that yet.
    pub(crate) fn is_shutdown_due(&self) -> bool {
        self.requests.has(Request::SHUTDOWN)
    }

    /// Whether its session is to be called for a shutdown, or for TLS that is up, before anything else.
    pub(crate) fn is_begin_due(&self) -> bool {
        self.is_shutdown_due() || self.requests.has(Request::SECURED)
    }

    /// Adds the channel to the run queue, so that it gets a turn before the loop sleeps.
    #[inline]
    pub(crate) fn schedule(self: &Rc<Self>) {
        if !self.is_scheduled() {
            self.schedule_first();
        }
    }

    /// Whether it gets a turn before the loop sleeps.
    #[inline]
    pub(crate) fn is_scheduled(&self) -> bool {
        self.flags.has(Flag::QUEUED)
    }

    #[cold]
    #[inline(never)]
    fn schedule_first(self: &Rc<Self>) {
        if let Some(agenda) = self.agenda()
            && self.phase.get() != Phase::Closed
        {
            self.flags.set(Flag::QUEUED, true);
            agenda.schedule(self);
        }
    }

    /// Ends the channel for this reason, unless it is ending for another already.
    pub(crate) fn end(self: &Rc<Self>, why: Close) {
        if self.has_ended() {
            // The first reason stands. The error in this one may be the user's.
            return discard(why);
        }
        let mut why = self.first_reason(why);
        if self.phase.get() == Phase::Connecting {
            // The session would have pushed in `handle_connect`, so it must not take this for success. For
            // handshakes, `take_apart` does the same.
            why = why.incomplete();
        }
        self.phase.set(Phase::Ending);
        // `Local`, the most common reason, is not stored: no reason means `Local`.
        if !matches!(why, Close::Local) {
            self.with_cold(|cold| cold.ending = Some(why));
        }
        self.out.borrow_mut().seal();
        self.requests.add(Request::CHECK);
        if self.agenda().is_some() {
            return self.schedule();
        }
        self.end_without_loop();
    }

    /// Ends the channel with a reset.
    pub(crate) fn abort(self: &Rc<Self>) {
        self.reset_on_close();
        if self.flags.has(Flag::PIPED) && !self.has_ended() {
            self.with_cold(|cold| cold.aborted = true);
        }
        self.end(Close::Dropped);
    }

    /// Without a loop no callback is made. The socket at least is closed.
    #[cold]
    fn end_without_loop(&self) {
        self.remove_socket_file();
        let has_reason = self.cold(|cold| cold.ending.is_some());
        self.close_socket(has_reason == Some(true));
        self.end_output();
    }

    /// Removes the file of a Unix-domain listener, whose socket is still open: afterwards the file could be that
    /// of another process.
    #[cold]
    fn remove_socket_file(&self) {
        // Dropped after the borrow: it may log.
        drop(self.take_socket_file());
    }

    /// Closes the socket. If output was left and this side did not close the channel, the close is a reset, so
    /// that the peer does not take the stream for complete.
    #[inline]
    fn close_socket(&self, is_cut: bool) {
        self.phase.set(Phase::Closed);
        if is_cut && self.out.borrow().is_unfinished() {
            self.reset_on_close();
        }
        self.replace_source(None);
    }

    /// Closes the socket, gives up what the channel has, and returns why it ended.
    pub(crate) fn take_apart(&self) -> Close {
        let mut cold = self.take_cold();
        let mut is_incomplete = self.out.borrow().is_incomplete();
        let mut lacks_end = self.flags.has(Flag::STAGED) || cold.lacks_end;
        if let Some(mut secured) = cold.secured.take() {
            lacks_end = !secured.has_received_announcement();
            is_incomplete = self.end_secured(&mut secured, is_incomplete, cold.ending.as_ref());
            self.with_cold(|left| left.ended_tls = Some(secured));
        }
        #[cfg(feature = "proxy-protocol")]
        if let Some(proxied) = cold.proxied.take() {
            self.with_cold(|left| left.proxied = Some(proxied));
        }
        drop(cold.socket_file.take()); // `remove_socket_file`
        self.close_socket(cold.ending.is_some());
        self.admission.take();
        self.out.borrow_mut().seal();
        if self.flags.has(Flag::PIPED) {
            // Needed once more: `pass_on_end`.
            self.with_cold(|left| {
                left.piped_to = cold.piped_to.clone();
                left.aborted = cold.aborted;
                left.lacks_end = lacks_end;
            });
        }
        let deadline_timer = self.take_deadline_timer();
        if let Some(agenda) = self.agenda() {
            for timer in cold.timers.iter().copied().chain(deadline_timer) {
                agenda.forget_timer(timer);
            }
        }
        #[cfg(feature = "sim")]
        if cold.end_recorded {
            self.record_end();
        }
        let why = cold.ending.take().unwrap_or(Close::Local);
        if is_incomplete { why.incomplete() } else { why }
    }

    // ---- what it is known by

    pub(crate) fn peer(&self) -> Option<Addr> {
        self.peer.get().map(Addr::from)
    }

    /// Remembers its peer, which does not change.
    pub(crate) fn set_peer(&self, peer: Addr) {
        let _ = self.peer.set(peer.into());
    }

    /// The name that the certificate of its server has to be for, unless the program gives another one.
    #[cfg(feature = "tls-no-provider")]
    pub(crate) fn target_name(&self) -> Option<String> {
        self.cold(|cold| cold.target_name.clone())?
    }

    #[cfg(feature = "tls-no-provider")]
    pub(crate) fn set_target_name(&self, name: Option<String>) {
        if let Some(name) = name {
            self.with_cold(|cold| cold.target_name = Some(name));
        }
    }

    /// The span in which its events are logged.
    #[inline]
    pub(crate) fn span(&self) -> Option<&Span> {
        self.span.get().map(|span| &**span)
    }

    /// Opens the span in which its events are logged.
    pub(crate) fn open_span(&self) {
        self.open_span_at(None);
    }

    /// The same, of a listener for which the socket of another loop listens at this address.
    pub(crate) fn open_span_at(&self, local: Option<&Addr>) {
        // Many programs have no subscriber. To ask for the span takes 400 instructions in any case.
        if !tracing::dispatcher::has_been_set() {
            return;
        }
        // A root: a connection is no part of what its listener happens to be doing. Its level is that of
        // the worst event, which would otherwise not say to which connection it belongs.
        let id = self.id.get();
        let made = enter(|| match self.peer() {
            Some(peer) => tracing::error_span!(parent: None, "channel", %id, peer = %Escaped(peer)),
            None => self.span_without_peer(local),
        });
        // A subscriber that panics is not asked again for this channel.
        let Ok(span) = made else { return };
        // Whether `handle_connect` has been called says nothing to a reader of the log.
        let phase = match self.phase.get() {
            Phase::Arrived => Phase::Open,
            phase => phase,
        };
        // The event names its span: to enter it and to leave it would take 1,000 instructions, and few log this event.
        log!(debug, parent: &span, ?phase, "opened");
        if !span.is_disabled() {
            let _ = self.span.set(Box::new(span));
        }
    }

    fn span_without_peer(&self, local: Option<&Addr>) -> Span {
        let id = self.id.get();
        #[cfg(feature = "proxy-protocol")]
        if let Some(proxy) = self.proxy_addr() {
            let (proxy, peer) = (Escaped(proxy), tracing::field::Empty);
            return tracing::error_span!(parent: None, "channel", %id, %proxy, peer);
        }
        // The events of a listener are about this address.
        let own = match self.phase.get() {
            Phase::Listening => self.on_socket(Fd::local_addr).ok(),
            _ => None,
        };
        match own.as_ref().or(local) {
            Some(local) => {
                tracing::error_span!(parent: None, "channel", %id, local = %Escaped(local))
            }
            None => tracing::error_span!(parent: None, "channel", %id),
        }
    }

    pub(crate) fn bytes_in(&self) -> u64 {
        self.bytes_in.get()
    }

    pub(crate) fn bytes_out(&self) -> u64 {
        self.bytes_out.get()
    }

    /// A record is about to be delivered. Counted before, so that one whose callback panics counts.
    #[inline]
    pub(crate) fn count_record(&self) {
        self.records_in.set(self.records_in.get() + 1);
    }

    // ---- what it was given

    pub(crate) fn terminator(&self) -> Terminator {
        match self.terminator.get() {
            Some(terminator) => terminator.borrow().clone(),
            None => Terminator::default(),
        }
    }

    pub(crate) fn set_terminator(self: &Rc<Self>, terminator: Terminator) {
        let own = self.terminator.get_or_init(Box::default);
        own.replace(terminator);
        self.requests.add(Request::TERMINATOR);
        self.schedule();
    }

    /// Gives it the limits of its loop, unless it has its own.
    pub(crate) fn adopt_limits(&self, of_loop: Option<Rc<Limits>>) {
        let own = self.limits.take();
        match own {
            None if of_loop.is_some() => self.set_limits(of_loop),
            own => self.limits.set(own),
        }
    }

    pub(crate) fn set_admission(&self, admission: Admission) {
        self.admission.set(Some(admission));
    }

    /// Looks at its limits.
    #[inline]
    pub(crate) fn limit<T>(&self, of: impl FnOnce(&Limits) -> T) -> T {
        let limits = self.limits.take();
        let answer = of(limits.as_deref().unwrap_or(&Limits::DEFAULT));
        self.limits.set(limits);
        answer
    }

    /// Its limits, which other connections may share. `None` stands for the default.
    fn shared_limits(&self) -> Option<Rc<Limits>> {
        let limits = self.limits.take();
        self.limits.set(limits.clone());
        limits
    }

    #[inline]
    pub(crate) fn set_limits(&self, limits: Option<Rc<Limits>>) {
        self.limits.set(limits);
        self.out.borrow_mut().set_high_water(self.output_mark());
    }

    /// The mark of its queue, which watches for one only. `output.rs` finds out which limit it was.
    fn output_mark(&self) -> usize {
        self.limit(|limits| limits.high_water.min(limits.output))
    }

    // ---- transcripts

    /// Makes the channel keep the reason of its end, for [`recorded_end`](Self::recorded_end), and its
    /// handler.
    #[cfg(feature = "sim")]
    pub(crate) fn record_end(&self) {
        self.with_cold(|cold| cold.end_recorded = true);
    }

    /// Keeps the reason of its end if it is to be recorded, and gives it back otherwise.
    #[cfg(feature = "sim")]
    pub(crate) fn keep_reason(&self, why: Close, now: Instant) -> Option<Close> {
        if !self.is_recorded() {
            return Some(why);
        }
        self.with_cold(|cold| cold.recorded_end = Some((why, now)));
        None
    }

    /// Whether the reason of its end and its handler are to be kept.
    #[cfg(feature = "sim")]
    pub(crate) fn is_recorded(&self) -> bool {
        self.cold(|cold| cold.end_recorded) == Some(true)
    }

    /// Keeps the handler until it is taken by [`recorded_handler`](Self::recorded_handler). A handler that
    /// refers to this channel is never dropped otherwise.
    #[cfg(feature = "sim")]
    pub(crate) fn keep_handler(&self, handler: Option<Box<dyn Any>>) {
        self.with_cold(|cold| cold.recorded_handler = handler);
    }

    #[cfg(feature = "sim")]
    pub(crate) fn recorded_handler(&self) -> Option<Box<dyn Any>> {
        self.cold(|cold| cold.recorded_handler.take())?
    }

    /// Why it ended, and when, if that was to be recorded.
    #[cfg(feature = "sim")]
    pub(crate) fn recorded_end(&self) -> Option<(Close, Instant)> {
        self.cold(|cold| cold.recorded_end.take())?
    }
}

impl Drop for ChannelState {
    /// The subscriber is notified of the end of a span, perhaps in a thread that is ending: its panic
    /// would abort the process.
    fn drop(&mut self) {
        self.remove_socket_file();
        discard(self.span.take());
    }
}

//! The state of a channel: what its handles and its loop share.

mod failing;
mod rare;
mod sides;
mod timing;

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
#[cfg(feature = "sim")]
use std::time::Instant;

use tracing::Span;

use crate::Addr;
use crate::addr::CompactAddr;
use crate::error::Close;
use crate::framing::terminator::Terminator;
use crate::limits::Limits;
use crate::log::{Escaped, log};
use crate::net::quota::Place;
use crate::output::fifo::Fifo;
use crate::runtime::Runtime;
use crate::runtime::registry::ChannelId;
use crate::sys::interest::Ready;
use crate::sys::watched_socket::WatchedSocket;
use crate::user_code::{discard, enter, in_span};

pub(crate) use sides::Broken;

use rare::Rare;
use sides::Output;
use timing::Timing;

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
pub(crate) struct ChannelState {
    runtime: OnceCell<Weak<Runtime>>,
    pub(crate) id: Cell<ChannelId>,
    pub(crate) phase: Cell<Phase>,
    /// Absent where nobody subscribes to it.
    pub(crate) span: OnceCell<Box<Span>>,
    /// Why it ended, and when: for the transcript of a simulated run, if there is to be one.
    #[cfg(feature = "sim")]
    pub(crate) why: RefCell<Option<(Close, Instant)>>,
    #[cfg(feature = "sim")]
    pub(crate) transcribed: Cell<bool>,
    peer: OnceCell<CompactAddr>,

    source: RefCell<Option<WatchedSocket>>,
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
    /// It is the loop's own, and no connection: a shutdown lets it be.
    pub(crate) own: Cell<bool>,
    /// The loop is shutting down: close once nothing is left to write.
    pub(crate) draining: Cell<bool>,

    /// Which call of its dispatcher on the socket has failed in this callback, and how.
    pub(crate) broken: Cell<Option<(Broken, io::ErrorKind)>>,
    /// A callback of its session has failed: it gets no other call than that of the end.
    pub(crate) failed: Cell<bool>,
    /// A hang-up was reported while nothing was read, and input is left.
    pub(crate) hung_up: Cell<bool>,
    /// It has its turn: what is pushed to it is its own session's.
    pub(crate) has_turn: Cell<bool>,

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
    /// Input has been received and not been parsed.
    pub(crate) has_backlog: Cell<bool>,
    /// The loop has begun to shut down, and the session has to be notified.
    pub(crate) shutdown_due: Cell<bool>,
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

impl ChannelState {
    pub(crate) fn new(source: Option<WatchedSocket>, phase: Phase) -> Self {
        ChannelState {
            runtime: OnceCell::new(),
            id: Cell::new(ChannelId::NOBODY),
            phase: Cell::new(phase),
            span: OnceCell::new(),
            #[cfg(feature = "sim")]
            why: RefCell::new(None),
            #[cfg(feature = "sim")]
            transcribed: Cell::new(false),
            peer: OnceCell::new(),
            source: RefCell::new(source),
            rare: OnceCell::new(),
            timing: OnceCell::new(),
            ending: Cell::new(false),
            touched: Cell::new(false),
            again: Cell::new(false),
            news: Cell::new(Ready::NONE),
            unborn: Cell::new(false),
            announce: Cell::new(false),
            attention: Cell::new(false),
            paused: Cell::new(false),
            starved: Cell::new(false),
            eof: Cell::new(false),
            half_open: Cell::new(false),
            held: Cell::new(false),
            blocked: Cell::new(false),
            own: Cell::new(false),
            draining: Cell::new(false),
            broken: Cell::new(None),
            failed: Cell::new(false),
            hung_up: Cell::new(false),
            has_turn: Cell::new(false),
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
                has_backlog: Cell::new(false),
                shutdown_due: Cell::new(false),
            },
        }
    }

    pub(crate) fn runtime(&self) -> Option<Rc<Runtime>> {
        self.runtime.get()?.upgrade()
    }

    pub(crate) fn settle_in(&self, runtime: &Rc<Runtime>) {
        // A channel is registered once, so this is the first and only one.
        let _ = self.runtime.set(Rc::downgrade(runtime));
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
        let made = enter(|| match self.peer() {
            Some(peer) => tracing::error_span!(parent: None, "channel", %id, peer = %Escaped(peer)),
            None => tracing::error_span!(parent: None, "channel", %id),
        });
        // A subscriber that panics is not asked again for this channel.
        let Ok(span) = made else { return };
        in_span(Some(&span), || {
            log!(debug, phase = ?self.phase.get(), "opened");
        });
        if !span.is_disabled() {
            let _ = self.span.set(Box::new(span));
        }
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
        if let Some(runtime) = self.runtime() {
            self.touched.set(true);
            runtime.touched.borrow_mut().push_back(Rc::clone(self));
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
            // The first reason stands. The error in this one may be the user's.
            return discard(why);
        }
        let why = self.first_reason(why);
        self.ending.set(true);
        // The commonest needs no room: it is what stands for none.
        if !matches!(why, Close::Local) {
            self.rarely(|rare| rare.ending = Some(why));
        }
        self.out.borrow_mut().seal();
        self.attention.set(true);
        self.touch();
        // Without a loop there is nobody to tell; the socket at least is closed.
        if self.runtime().is_none() {
            self.phase.set(Phase::Closed);
            self.replace_source(None);
            self.rarely(|rare| std::mem::replace(&mut rare.output, Output::Ended));
        }
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.get()
    }

    /// Takes the channel apart, and says why it ended. A stream that is cut in its middle must not look
    /// complete: unless this side has closed it, it ends with a reset.
    pub(crate) fn take_apart(&self) -> Close {
        self.phase.set(Phase::Closed);
        if self.has_reason() && self.out.borrow().is_unfinished() {
            self.reset_on_close();
        }
        self.replace_source(None);
        self.place.take();
        self.out.borrow_mut().seal();
        let rare = self.rare.get().map(|rare| rare.take()).unwrap_or_default();
        if self.is_piped() {
            // The other end is still to be told.
            self.rarely(|kept| kept.piped_to = rare.piped_to.clone());
        }
        let deadline_timer = self.take_deadline_timer();
        if let Some(runtime) = self.runtime() {
            let timers = rare.timers.into_iter();
            for timer in timers.chain(deadline_timer) {
                runtime.forget_timer(timer);
            }
        }
        discard(rare.send_error);
        rare.ending.unwrap_or(Close::Local)
    }

    /// Keeps the reason of its end if there is to be a transcript, and gives it back otherwise.
    #[cfg(feature = "sim")]
    pub(crate) fn keep_reason(&self, why: Close, now: Instant) -> Option<Close> {
        if !self.transcribed.get() {
            return Some(why);
        }
        self.why.replace(Some((why, now)));
        None
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

impl Drop for ChannelState {
    /// The subscriber is notified of the end of a span, perhaps in a thread that is ending: its panic
    /// would abort the process.
    fn drop(&mut self) {
        discard(self.span.take());
    }
}

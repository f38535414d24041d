//! The loop: it waits for events, and gives each channel its turns.
//!
//! `turn.rs` is the turn of the loop, and `call.rs` calls the handlers. The other files have the rest of the loop:
//! the registry, timers, lingering sockets, pauses in accepting, busy polling, signals, counters, shutdown.

mod accept;
mod busy_poll;
mod call;
pub(crate) mod counters;
pub(crate) mod current;
pub(crate) mod driver;
mod embedding;
mod handshakes;
mod linger;
mod registration;
mod registry;
pub(crate) mod remote;
mod reregister;
mod send;
mod shutdown;
#[cfg(feature = "signal")]
pub(crate) mod signals;
mod throttled;
mod timers;
mod turn;
pub(crate) mod workers;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use busy_poll::BusyPoll;
use counters::Counters;
use driver::Buffers;
use linger::Lingering;
use registry::Registry;
use throttled::Throttled;
use turn::Cut;
use workers::Workers;

use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::state::agenda::{Agenda, Deferred};
use crate::state::connect::Retry;
use crate::state::inbox::Post;
use crate::state::{ChannelId, ChannelState};
use crate::sys::interest::Event;
use crate::sys::poller::Poller;
use crate::sys::resolver::Resolver;
use crate::target;
use crate::time::timer::TimerId;

/// One loop.
pub(crate) struct Runtime {
    pub(crate) agenda: Rc<Agenda>,
    pub(crate) poller: Rc<Poller>,
    pub(crate) resolver: Resolver,
    registry: RefCell<Registry>,
    lingering: RefCell<Lingering>,
    pub(crate) counters: Counters,
    /// The limits of servers, connectors and channels that have none of their own.
    limits: RefCell<Option<Rc<Limits>>>,
    /// Absent while a channel has its turn.
    buffers: Cell<Option<Box<Buffers>>>,
    /// Channels that have used a budget of this turn, and have work left for the next.
    next_turn: RefCell<VecDeque<Rc<ChannelState>>>,
    /// Channels whose TLS handshake can be advanced.
    handshakes: RefCell<VecDeque<Rc<ChannelState>>>,
    /// How many expensive steps of handshakes this turn may still take.
    handshake_budget: Cell<usize>,
    /// When it takes no more of them.
    handshakes_until: Cell<Option<Instant>>,
    /// The channel that was called last. While its handler is being called, it has the flag IN_TURN.
    called: Cell<ChannelId>,
    /// Channels that [wait for another worker](Flag::AWAITS_WORKER).
    throttled: RefCell<Vec<Throttled>>,
    /// How many of the deferred calls wait for their handler, or follow one that does.
    waiting_calls: Cell<usize>,
    /// The events of the last wait. The vector is reused.
    events: RefCell<Vec<Event>>,
    /// The posts that this turn runs, those that are left.
    posts: RefCell<VecDeque<Post>>,
    /// Where the turn was cut because its time was up. The next one continues it.
    cut: Cell<Option<Cut>>,
    /// When the time of these turns is up.
    until: Cell<Option<Instant>>,
    /// Whether the kernel may have more events than it has reported: the last wait found some.
    may_have_events: Cell<bool>,
    busy_poll: BusyPoll,
    running: Cell<bool>,
    /// It runs also while it has no work, until a stop or a shutdown.
    pub(crate) forever: Cell<bool>,
    /// The number of this turn. It wraps.
    turn: Cell<u32>,
    failed_waits: Cell<u32>,
    /// The reconnections of this loop.
    retries: RefCell<Vec<Weak<dyn Retry>>>,
    /// Listeners that wait for descriptors or memory, and the timer that lets them try again.
    accepting_paused: RefCell<Vec<Rc<ChannelState>>>,
    accept_timer: Cell<Option<TimerId>>,
    /// The loops of other threads that work with this one.
    workers: Workers,
    /// Whether the thread of the loop is ending.
    torn_down: Cell<bool>,
    #[cfg(feature = "signal")]
    pub(crate) signals: signals::Signals,
}

impl Runtime {
    pub(crate) fn new(poller: Poller) -> Rc<Self> {
        Runtime::with_resolver(poller, Resolver::new(target::look_up))
    }

    pub(crate) fn with_resolver(poller: Poller, resolver: Resolver) -> Rc<Self> {
        let poller = Rc::new(poller);
        let runtime = Rc::new(Runtime {
            agenda: Rc::new(Agenda::new(&poller)),
            poller,
            resolver,
            registry: RefCell::default(),
            lingering: RefCell::default(),
            counters: Counters::default(),
            limits: RefCell::default(),
            buffers: Cell::default(),
            next_turn: RefCell::default(),
            handshakes: RefCell::default(),
            handshake_budget: Cell::new(0),
            handshakes_until: Cell::new(None),
            called: Cell::new(ChannelId::NONE),
            throttled: RefCell::default(),
            waiting_calls: Cell::new(0),
            events: RefCell::default(),
            posts: RefCell::default(),
            cut: Cell::new(None),
            until: Cell::new(None),
            may_have_events: Cell::new(false),
            busy_poll: BusyPoll::default(),
            running: Cell::new(false),
            forever: Cell::new(false),
            turn: Cell::new(1),
            failed_waits: Cell::new(0),
            retries: RefCell::default(),
            accepting_paused: RefCell::default(),
            accept_timer: Cell::new(None),
            workers: Workers::default(),
            torn_down: Cell::new(false),
            #[cfg(feature = "signal")]
            signals: signals::Signals::default(),
        });
        let owner: Weak<dyn Any> = Rc::downgrade(&(Rc::clone(&runtime) as Rc<dyn Any>));
        runtime.agenda.set_owner(owner);
        runtime
    }

    /// Marks the loop as running until the guard is dropped.
    pub(crate) fn enter(self: &Rc<Self>) -> Result<Running<'_>, Error> {
        if self.running.replace(true) {
            // An outer loop may have taken an edge for the cause of this call.
            self.may_have_events.set(true);
            return Err(Error::new(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "the loop is running already: a callback cannot run it again",
            )));
        }
        self.agenda.set_running(true);
        Ok(Running(self))
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.get()
    }

    /// How many channels are registered, sockets linger and workers run.
    pub(crate) fn len(&self) -> usize {
        self.registry.borrow().len() + self.lingering.borrow().len() + self.worker_count()
    }

    /// Whether there are none of them. Each turn calls this. Most loops have channels, so the first comparison is enough.
    #[inline]
    fn is_empty(&self) -> bool {
        self.registry.borrow().len() == 0
            && self.lingering.borrow().len() == 0
            && self.worker_count() == 0
    }

    /// The turns are over for now. Returns whether something is left to run for and the loop was not stopped.
    pub(crate) fn pause(self: &Rc<Self>) -> bool {
        let is_stopped = self.agenda.take_stop();
        let is_left = self.has_work();
        // After a stop in the middle of a shutdown, the next turns continue the shutdown.
        if !is_left {
            self.cut.set(None);
            self.finish_shutdown();
        }
        is_left && !is_stopped
    }

    /// Whether there is anything left to run for.
    pub(crate) fn has_work(&self) -> bool {
        let agenda = &self.agenda;
        if !self.is_empty() {
            return true;
        }
        if agenda.is_shutting_down() {
            return self.is_needed_by_workers();
        }
        self.forever.get() || self.has_calls() || !agenda.timers.borrow().is_empty()
    }

    /// Whether calls were deferred or posted that were not made yet.
    fn has_calls(&self) -> bool {
        !self.agenda.deferred.borrow().is_empty()
            || self.agenda.inbox.is_filled()
            || !self.posts.borrow().is_empty()
    }

    /// Whether a turn has something to do without waiting for it.
    fn is_busy(&self) -> bool {
        let agenda = &self.agenda;
        !agenda.run_queue.borrow().is_empty()
            || !self.next_turn.borrow().is_empty()
            || !self.handshakes.borrow().is_empty()
            || !agenda.deferred.borrow().is_empty()
            || agenda.inbox.is_filled()
            || agenda.is_stopping()
            || self.cut.get().is_some()
            // A shutdown without channels ends after one turn, before its grace has passed.
            || (agenda.is_shutting_down() && !self.has_work())
    }

    /// How long the loop may sleep. `None`: until an event.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        if self.is_busy() {
            return Some(Duration::ZERO);
        }
        let deadline = self.agenda.timers.borrow().next_deadline()?;
        Some(deadline.saturating_duration_since(self.now()))
    }

    /// The state of this channel, if it is registered.
    pub(crate) fn state(&self, id: ChannelId) -> Option<Rc<ChannelState>> {
        self.registry.borrow().get(id).map(Rc::clone)
    }

    pub(crate) fn channels(&self) -> Vec<Rc<ChannelState>> {
        self.registry.borrow().channels()
    }

    /// A key to watch a channel under, which makes all its earlier ones stale.
    pub(crate) fn poll_key(&self, id: ChannelId) -> usize {
        self.unused_key(|registry| registry.poll_key(id))
    }

    /// The key that the channel is watched under, or a new one.
    fn shared_poll_key(&self, id: ChannelId) -> usize {
        let known = self.registry.borrow().key_of(id);
        known.unwrap_or_else(|| self.poll_key(id))
    }

    /// Returns a key that no lingering socket has. On 32-bit systems keys repeat after about 65,000, so a
    /// lingering socket may still have the next one.
    fn unused_key(&self, new: impl Fn(&mut Registry) -> usize) -> usize {
        loop {
            let key = new(&mut self.registry.borrow_mut());
            if !self.lingering.borrow().has(key) {
                return key;
            }
        }
    }

    /// Queues a deferred call, which gets the runtime as its argument.
    pub(crate) fn call_soon(self: &Rc<Self>, call: impl FnOnce(&Rc<Runtime>) + 'static) {
        let runtime = Rc::downgrade(self);
        self.agenda.defer(Deferred::Call(Box::new(move || {
            if let Some(runtime) = runtime.upgrade() {
                call(&runtime);
            }
        })));
    }

    /// Makes `run` return at the end of this turn.
    pub(crate) fn stop(&self) {
        self.agenda.stop();
    }

    /// The time on the loop's clock.
    pub(crate) fn now(&self) -> Instant {
        self.agenda.now()
    }

    /// A defect of the loop: its next wait panics, outside of all user code.
    #[cfg(test)]
    pub(crate) fn panic_in_next_turn(&self) {
        std::mem::forget(self.events.borrow_mut());
    }

    pub(crate) fn limits(&self) -> Option<Rc<Limits>> {
        self.limits.borrow().clone()
    }

    pub(crate) fn set_limits(&self, limits: Limits) {
        self.limits.replace(Some(Rc::new(limits)));
    }
}

/// A loop that is running, until this is dropped.
pub(crate) struct Running<'a>(&'a Rc<Runtime>);

impl Running<'_> {
    pub(crate) fn runtime(&self) -> &Rc<Runtime> {
        self.0
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.until.set(None);
        self.0.running.set(false);
        self.0.forever.set(false);
        self.0.agenda.set_running(false);
    }
}

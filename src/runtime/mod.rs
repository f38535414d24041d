//! What the handles of one loop share, and the turn that the loop takes.
//!
//! The order of a turn: what was touched is looked at, so that everything pushed is on its way
//! before the loop sleeps; the wait; the kernel's events; what the last turn's budgets left over;
//! what other threads posted; timers, after the events, so that data which is there already goes
//! before the deadline that waits for it; deferred calls. Each of these takes what was there when
//! it began, never what it adds to itself, and no more than its budget, so none can starve the
//! others. What a budget leaves over is due in the next turn, before which the loop does not sleep.

pub(crate) mod counters;
pub(crate) mod current;
mod linger;
mod registration;
pub(crate) mod registry;
pub(crate) mod remote;
mod shutdown;
#[cfg(feature = "signal")]
mod signals;
mod spare;
mod timers;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) use timers::Task;

use counters::Counters;
use linger::Lingering;
use spare::Spare;

use crate::channel::dispatcher::Driven;
use crate::error::{Close, Error, Result};
use crate::limits::Limits;
use crate::log::{Escaped, log_throttled};
use crate::runtime::registry::{ChannelId, Registry};
use crate::runtime::remote::Inbox;
use crate::state::{ChannelState, Phase};
use crate::sys::interest::{Event, Interest, Ready};
use crate::sys::poller::Poller;
use crate::sys::resolver::Resolver;
use crate::target;
use crate::time::timer::{TimerId, TimerQueue};
use crate::user_code::{contain, discard, enter, in_span};

/// The most that is read at once, by all connections, one after another.
const READ_BUFFER: usize = 64 * 1024;

/// How many waits may fail in a row before the poller counts as broken: some ten seconds' worth.
/// One that fails for want of memory succeeds when there is some; one that never will must not spin.
const FAILED_WAITS: u32 = 100;

/// The longest rest between two of them; the first is a millisecond, and each twice the one before.
const LONGEST_REST: Duration = Duration::from_millis(100);

/// How many posts, how many timers that are due and how many deferred calls one turn takes: enough
/// that the wait is a small part of a turn, few enough that connections are served in between.
const TURN_CALLS: usize = 1024;

/// A deferred call.
type Job = Box<dyn FnOnce(&Rc<Runtime>)>;

pub(crate) struct Runtime {
    pub(crate) poller: Rc<Poller>,
    pub(crate) registry: RefCell<Registry>,
    /// Channels that something was done to since the loop last looked at them.
    pub(crate) touched: RefCell<VecDeque<Rc<ChannelState>>>,
    /// Channels with work left that the kernel will not report.
    ready: RefCell<VecDeque<Rc<ChannelState>>>,
    timers: RefCell<TimerQueue<Task>>,
    soon: RefCell<VecDeque<Job>>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) resolver: Resolver,
    /// What the poller reported, kept for its capacity.
    events: Cell<Vec<Event>>,
    read_buffer: Cell<Vec<u8>>,
    /// For output that is gathered, and for records that are put together.
    pub(crate) spare_output: Spare,
    pub(crate) spare_input: Spare,
    running: Cell<bool>,
    pub(crate) stopping: Cell<bool>,
    /// Its thread is ending, and it with it.
    pub(crate) torn_down: Cell<bool>,
    /// The timer that ends the grace of a shutdown under way.
    shutdown: Cell<Option<TimerId>>,
    /// Listeners that wait for descriptors or memory, and the timer that lets them try again.
    accepting_paused: RefCell<Vec<Rc<ChannelState>>>,
    accept_timer: Cell<Option<TimerId>>,
    failed_waits: Cell<u32>,
    /// The limits of those that were given none.
    limits: RefCell<Option<Rc<Limits>>>,
    /// The timers of those who wait to connect again.
    pub(crate) pauses: RefCell<BTreeSet<TimerId>>,
    /// How often all channels were closed at once: who was to connect again by then does not.
    pub(crate) times_closed: Cell<u64>,
    lingering: RefCell<Lingering>,
    #[cfg(feature = "signal")]
    pub(crate) signals: signals::Signals,
    pub(crate) counters: Counters,
}

impl Runtime {
    pub(crate) fn new(poller: Poller) -> Rc<Self> {
        Runtime::with_resolver(poller, Resolver::new(target::look_up))
    }

    pub(crate) fn with_resolver(poller: Poller, resolver: Resolver) -> Rc<Self> {
        let inbox = Arc::new(Inbox::new(poller.waker()));
        Rc::new(Runtime {
            poller: Rc::new(poller),
            registry: RefCell::default(),
            touched: RefCell::default(),
            ready: RefCell::default(),
            timers: RefCell::new(TimerQueue::new()),
            soon: RefCell::default(),
            inbox,
            resolver,
            events: Cell::default(),
            read_buffer: Cell::default(),
            spare_output: Spare::default(),
            spare_input: Spare::default(),
            running: Cell::new(false),
            stopping: Cell::new(false),
            torn_down: Cell::new(false),
            shutdown: Cell::new(None),
            accepting_paused: RefCell::default(),
            accept_timer: Cell::new(None),
            failed_waits: Cell::new(0),
            limits: RefCell::default(),
            pauses: RefCell::default(),
            times_closed: Cell::new(0),
            lingering: RefCell::default(),
            #[cfg(feature = "signal")]
            signals: signals::Signals::default(),
            counters: Counters::default(),
        })
    }

    /// Marks the loop as running until the guard is dropped.
    pub(crate) fn enter(self: &Rc<Self>) -> Result<Running> {
        if self.running.replace(true) {
            return Err(Error::new(
                "the loop is running already: a callback can not run it again",
            ));
        }
        Ok(Running(Rc::clone(self)))
    }

    /// How many channels are registered, and sockets linger.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.registry.borrow().len() + self.lingering.borrow().len()
    }

    /// Whether there is anything left to run for.
    pub(crate) fn has_work(&self) -> bool {
        self.len() > 0
            || (!self.is_shutting_down()
                && (!self.soon.borrow().is_empty()
                    || self.inbox.is_filled()
                    || !self.timers.borrow().is_empty()))
    }

    /// Whether a turn has something to do without waiting for it.
    fn is_busy(&self) -> bool {
        !self.ready.borrow().is_empty()
            || !self.touched.borrow().is_empty()
            || !self.soon.borrow().is_empty()
            || self.inbox.is_filled()
            || self.stopping.get()
            // A shutdown that has nothing to wait for is over after a turn, not after its grace.
            || (self.is_shutting_down() && self.len() == 0)
    }

    /// How long the loop may sleep; `None`: until something happens.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        if self.is_busy() {
            return Some(Duration::ZERO);
        }
        let deadline = self.timers.borrow().next_deadline()?;
        Some(deadline.saturating_duration_since(self.now()))
    }

    /// Takes one turn, and sleeps in it no longer than `timeout`.
    pub(crate) fn turn(self: &Rc<Self>, timeout: Option<Duration>) -> Result {
        self.look_at_touched();
        // The look may have ended the last channel: then there is nothing left to wait for.
        let timeout = if self.has_work() {
            timeout
        } else {
            Some(Duration::ZERO)
        };
        let timeout = match (self.next_timeout(), timeout) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let mut events = self.events.take();
        events.clear();
        let outcome = self.poller.wait(&mut events, timeout);
        self.counters.turns.add(1);
        self.counters.wakeups.add((!events.is_empty()).into());
        self.counters.events.add(events.len() as u64);
        // Work for the next turn is taken before this one's events add to it.
        let mut ready = self.ready.borrow().len();
        for event in &events {
            let state = self.registry.borrow().by_key(event.key).map(Rc::clone);
            let Some(state) = state else {
                self.read_on(event);
                continue;
            };
            state.reported();
            // One turn each: what is on the ready list gets its own below, and what has two descriptors
            // may have an event for each.
            if state.again.get() || state.has_own_output() {
                state.news.set(state.news.get().union(event.ready));
                if !state.again.replace(true) {
                    self.ready.borrow_mut().push_front(state);
                    ready += 1;
                }
            } else {
                self.take_turn(&state, event.ready);
            }
        }
        self.events.set(events);
        for _ in 0..ready {
            let Some(state) = self.ready.borrow_mut().pop_front() else {
                break;
            };
            state.again.set(false);
            self.take_turn(&state, state.news.take());
        }
        self.run_posted(TURN_CALLS);
        self.run_timers(TURN_CALLS);
        self.run_soon(TURN_CALLS);
        self.judge(outcome)
    }

    fn run_posted(self: &Rc<Self>, budget: usize) {
        if self.inbox.is_filled() {
            for job in self.inbox.fetch(budget) {
                contain(|| job(self));
            }
        }
    }

    fn run_soon(self: &Rc<Self>, budget: usize) {
        let soon = self.soon.borrow().len();
        for _ in 0..soon.min(budget) {
            let Some(job) = self.soon.borrow_mut().pop_front() else {
                break;
            };
            contain(|| job(self));
        }
    }

    /// Looks at what was touched: at what was there when it began, so that two handlers who keep
    /// touching each other do not keep the others waiting.
    pub(crate) fn look_at_touched(self: &Rc<Self>) {
        let count = self.touched.borrow().len();
        for _ in 0..count {
            let Some(state) = self.touched.borrow_mut().pop_front() else {
                break;
            };
            state.touched.set(false);
            self.take_turn(&state, Ready::NONE);
        }
    }

    /// A wait that fails is tried again, for what it lacked may be there then; one that keeps
    /// failing ends `run`.
    fn judge(&self, outcome: io::Result<()>) -> Result {
        let Err(error) = outcome else {
            self.failed_waits.set(0);
            return Ok(());
        };
        let failed = self.failed_waits.get() + 1;
        self.failed_waits.set(failed);
        // What nothing can end, another try does not end either.
        if failed < FAILED_WAITS && error.kind() != io::ErrorKind::Deadlock {
            log_throttled!(warn, %error, "waiting for events failed");
            let rest = Duration::from_millis(1 << failed.min(10));
            self.poller.clock().sleep(rest.min(LONGEST_REST));
            return Ok(());
        }
        Err(Error::from(error).context("wait for events"))
    }

    // ---- one channel's turn

    fn take_turn(self: &Rc<Self>, state: &Rc<ChannelState>, ready: Ready) {
        if state.unborn.get() {
            return;
        }
        if state.is_ending() {
            return self.finish(state);
        }
        state.has_turn.set(true);
        self.call(state, |driven| driven.turn(state, self, ready).map(Some));
        state.has_turn.set(false);
    }

    /// Calls the dispatcher, in its span, with its panics and errors contained, and sees to what
    /// it left behind: the only place where a channel's user code is entered from.
    pub(crate) fn call(
        self: &Rc<Self>,
        state: &Rc<ChannelState>,
        callback: impl FnOnce(&mut dyn Driven) -> Result<Option<Interest>>,
    ) {
        let id = state.id.get();
        let driven = |runtime: &Self| runtime.registry.borrow_mut().get_mut(id)?.driven.take();
        let Some(mut driven) = driven(self) else {
            return;
        };
        state.turns.set(state.turns.get() + 1);
        // Being looked at: what it does to itself needs no second look. It may be on the list
        // already, and is never on it twice.
        let touched = state.touched.replace(true);
        let span = state.span.get().map(|span| &**span);
        let outcome = in_span(span, || match enter(|| callback(&mut *driven)) {
            Ok(Err(error)) => match enter(|| driven.error(&error)) {
                Ok(()) => Ok(Err(error)),
                Err(panic) => {
                    discard(error);
                    Err(panic)
                }
            },
            outcome => outcome,
        });
        state.touched.set(touched);
        let interest = match outcome {
            Ok(Ok(interest)) => interest,
            Ok(Err(error)) => {
                state.fail(Close::Handler(error));
                None
            }
            Err(message) => {
                log_throttled!(error, id = %state.id.get(), panic = %Escaped(&message), "a callback panicked");
                state.fail(Close::Panic(message));
                None
            }
        };
        if let Some(slot) = self.registry.borrow_mut().get_mut(id) {
            slot.driven = Some(driven);
        }
        if !state.is_ending()
            && let Some(interest) = interest
            && let Err(error) = state.watch(self, interest)
        {
            match state.phase.get() {
                // What the poller lacks it may have later; a listener is not given up for it.
                Phase::Listening => self.pause_accepting(state, &error),
                _ => state.end(Close::Io(error)),
            }
        }
        if state.is_ending() {
            self.finish(state);
        }
    }

    /// Ends a channel: out of the poller and the registry, its socket closed or lingering, its
    /// handler told and dropped.
    fn finish(self: &Rc<Self>, state: &Rc<ChannelState>) {
        let Some(slot) = self.registry.borrow_mut().remove(state.id.get()) else {
            return;
        };
        self.linger_for(state);
        let retrying = state.take_retrying();
        let why = state.take_apart();
        self.counters.bytes_in.add(state.bytes_in());
        self.counters.bytes_out.add(state.bytes_out());
        self.counters.records_in.add(state.records_in.get());
        if !state.own.get() {
            self.counters.close(&why);
        }
        state.tell_close(slot.driven, &why, true);
        state.pass_on_end(&why);
        if let Some(retrying) = retrying {
            retrying.ended(self, &why);
        }
        #[cfg(feature = "sim")]
        let why = state.keep_reason(why, self.now());
        discard(why);
        self.resume_accepting();
    }

    /// Gives a channel another turn, though the kernel may have nothing new to say of it.
    pub(crate) fn again(&self, state: &Rc<ChannelState>) {
        if !state.again.replace(true) {
            self.ready.borrow_mut().push_back(Rc::clone(state));
        }
    }

    // ---- what it has

    pub(crate) fn state(&self, id: ChannelId) -> Option<Rc<ChannelState>> {
        Some(Rc::clone(&self.registry.borrow().get(id)?.state))
    }

    /// A key to watch a channel under, which makes all its earlier ones stale.
    pub(crate) fn poll_key(&self, id: ChannelId) -> usize {
        self.unused(|registry| registry.poll_key(id))
    }

    /// The key that it is watched under, or a new one.
    pub(crate) fn shared_poll_key(&self, id: ChannelId) -> usize {
        let known = self.registry.borrow().key_of(id);
        known.unwrap_or_else(|| self.poll_key(id))
    }

    pub(crate) fn key_of_no_channel(&self) -> usize {
        self.unused(Registry::stranger_key)
    }

    /// Where a word has 32 bits, keys come again after some 65,000; one who lingers may still have it.
    fn unused(&self, new: impl Fn(&mut Registry) -> usize) -> usize {
        loop {
            let key = new(&mut self.registry.borrow_mut());
            if !self.lingering.borrow().has(key) {
                return key;
            }
        }
    }

    pub(crate) fn call_soon(&self, job: Job) {
        self.soon.borrow_mut().push_back(job);
    }

    pub(crate) fn channels(&self) -> Vec<Rc<ChannelState>> {
        self.registry.borrow().channels()
    }

    // ---- buffers

    /// The buffer that all connections read into; with its user for the length of a turn.
    pub(crate) fn lend_read_buffer(&self) -> Vec<u8> {
        let mut buffer = self.read_buffer.take();
        // At first use, and when a panic has carried it away.
        buffer.resize(READ_BUFFER, 0);
        buffer
    }

    pub(crate) fn return_read_buffer(&self, buffer: Vec<u8>) {
        self.read_buffer.set(buffer);
    }

    // ---- helpers

    /// The time on the loop's clock.
    pub(crate) fn now(&self) -> Instant {
        self.poller.clock().now()
    }

    pub(crate) fn limits(&self) -> Option<Rc<Limits>> {
        self.limits.borrow().clone()
    }

    pub(crate) fn set_limits(&self, limits: Limits) {
        self.limits.replace(Some(Rc::new(limits)));
    }
}

/// A loop that is running, until this is dropped; and the one that free functions mean.
pub(crate) struct Running(Rc<Runtime>);

impl Running {
    pub(crate) fn runtime(&self) -> &Rc<Runtime> {
        &self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.set(false);
    }
}

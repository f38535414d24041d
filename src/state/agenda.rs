//! What a loop has to do: the side of a loop that handles write to.
//!
//! A method of a handle only notes something here or in a [`ChannelState`]. The runtime reads both and
//! does the work, so no such method can call the user's code (rule 1).

use std::any::{Any, type_name};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::delivered::Delivered;
use super::inbox::{Inbox, Post};
use super::secure::StageBuffers;
use super::{ChannelId, ChannelState};
use crate::error::Result;
use crate::log::log_throttled;
use crate::sys::clock::Clock;
use crate::sys::poller::Poller;
use crate::time::timer::{TimerId, TimerQueue};

/// The delay after which something is checked again that needs another turn of the loop first. A turn that has work left
/// does not sleep, so this is short.
pub(crate) const ONE_TURN: Duration = Duration::from_millis(1);

/// The work of one loop that is not reported by the kernel.
pub(crate) struct Agenda {
    clock: Clock,
    turn_time: Cell<TurnTime>,
    /// When the loop polled last, while clocks of channels run. Before the first wait since one began: then.
    polled: Cell<Option<Instant>>,
    /// How long it had not polled before that.
    absence: Cell<Duration>,
    /// The channels that something was done to, or that have work left, since their last turn.
    pub(crate) run_queue: RefCell<VecDeque<Rc<ChannelState>>>,
    pub(crate) timers: RefCell<TimerQueue<Task>>,
    pub(crate) deferred: RefCell<VecDeque<Deferred>>,
    pub(crate) inbox: Arc<Inbox>,
    stopping: Cell<bool>,
    /// The timer that ends the grace of a shutdown under way.
    pub(crate) shutdown: Cell<Option<TimerId>>,
    /// The shutdown has not reached the channels: calls that were posted or deferred before it come first.
    pub(crate) shutdown_waits: Cell<bool>,
    /// How many of the deferred calls, the first ones, were deferred before the shutdown.
    pub(crate) calls_before_shutdown: Cell<usize>,
    /// Whether another loop contains this one: it has its descriptor, and may sleep on it.
    embedded: Cell<bool>,
    /// Whether the next work has to wake that loop: this one takes no turn, and nothing has woken the outer loop
    /// since its last turn.
    wakes_outer: Cell<bool>,
    /// The buffers of the channels with TLS, which use them one after another.
    pub(super) stage_buffers: Cell<StageBuffers>,
    pub(super) delivered: Delivered,
    /// The loop is gone: nothing that is noted here is done any more.
    closed: Cell<bool>,
    /// The loop itself, for the layers above it.
    owner: RefCell<Option<Weak<dyn Any>>>,
}

/// The time of the turn.
#[derive(Clone, Copy)]
enum TurnTime {
    /// The loop is not in a turn. The clock is read each time.
    NoTurn,
    Unread,
    Read(Instant),
}

/// What a timer does.
pub(crate) enum Task {
    Call(Box<dyn FnOnce()>),
    Every(Box<dyn FnMut()>, Duration),
    /// `handle_timer` of a channel, once or periodically. The channel has the timer's id.
    Channel(Rc<ChannelState>, Option<Duration>),
    /// Checks whether a deadline of the channel has passed.
    Deadline(ChannelId),
    /// The output or the handler of the channel has failed. Checks whether a byte has moved since the count was
    /// this.
    Progress(ChannelId, Option<u64>),
    /// Lets an outgoing connection try its next address.
    Attempt(ChannelId),
    /// Ends a TLS handshake.
    Handshake(ChannelId),
    /// Checks whether the socket with this poll key has lingered long enough.
    Linger(usize),
    /// Lets the listeners that wait for descriptors or memory try again.
    Accept,
    /// The grace of a shutdown is over.
    Grace,
}

/// A call that the loop makes in its next turn.
pub(crate) enum Deferred {
    Call(Box<dyn FnOnce()>),
    /// A callback of this channel's handler.
    CallHandler(ChannelId, HandlerCall),
    /// A call whose handler is still to be made, by a call that is deferred already.
    AwaitHandler(ChannelId, HandlerCall),
    /// A post behind such a call.
    Post(Post),
    /// Closes the channels for a shutdown that began behind calls that were deferred before.
    CloseChannels,
    /// Closes all sockets that linger.
    StopLingering,
}

/// A callback for a handler, whatever its type.
pub(crate) type HandlerCall = Box<dyn FnOnce(&mut dyn Any) -> Result>;

/// A callback for a handler of type `C`. One of another type is not called, and an event says so.
pub(crate) fn typed_call<C: 'static>(
    call: impl FnOnce(&mut C) -> Result,
) -> impl FnOnce(&mut dyn Any) -> Result {
    move |handler| match handler.downcast_mut() {
        Some(handler) => call(handler),
        None => {
            let wanted = type_name::<C>();
            log_throttled!(warn, wanted, "a call for a handler of another type");
            Ok(())
        }
    }
}

impl Agenda {
    pub(crate) fn new(poller: &Poller) -> Self {
        Agenda {
            clock: poller.clock(),
            turn_time: Cell::new(TurnTime::NoTurn),
            polled: Cell::new(None),
            absence: Cell::new(Duration::ZERO),
            run_queue: RefCell::default(),
            timers: RefCell::new(TimerQueue::new()),
            deferred: RefCell::default(),
            inbox: Arc::new(Inbox::new(poller.waker())),
            stopping: Cell::new(false),
            shutdown: Cell::new(None),
            shutdown_waits: Cell::new(false),
            calls_before_shutdown: Cell::new(0),
            embedded: Cell::new(false),
            wakes_outer: Cell::new(false),
            stage_buffers: Cell::default(),
            delivered: Delivered::default(),
            closed: Cell::new(false),
            owner: RefCell::default(),
        }
    }

    /// The time on the loop's clock. A turn reads the clock at most once before its wait, once more if it has run
    /// callbacks before it, and at most once after it.
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        match self.turn_time.get() {
            TurnTime::Read(now) => now,
            TurnTime::Unread => {
                let now = self.clock.now();
                self.turn_time.set(TurnTime::Read(now));
                now
            }
            TurnTime::NoTurn => self.clock.now(),
        }
    }

    /// The time of an event that changes the clocks of a channel.
    pub(crate) fn time_of_event(&self) -> Instant {
        let now = self.now();
        if self.polled.get().is_none() {
            self.polled.set(Some(now));
        }
        now
    }

    /// A turn of the loop has begun, or has waited: the time that was read before is past.
    #[inline]
    pub(crate) fn forget_time(&self) {
        self.turn_time.set(TurnTime::Unread);
    }

    /// Ends a turn of the loop: the time that was read in it is past.
    #[inline]
    pub(crate) fn end_turn(&self) {
        self.turn_time.set(TurnTime::NoTurn);
    }

    /// Notes that the loop has waited for events. `slept`: the wait had a timeout, before which the time was read, if a timer
    /// was pending: channels whose clocks run have one.
    ///
    /// Between two waits the loop does not poll, and peers may have waited for it. That time is known without
    /// another reading of the clock: with a timer pending, a turn reads it before a wait that may sleep, and
    /// after every wait.
    #[inline]
    pub(crate) fn end_wait(&self, slept: bool) {
        match self.polled.get() {
            None => self.forget_time(),
            Some(polled) => self.note_absence(polled, slept),
        }
    }

    #[inline(never)]
    fn note_absence(&self, polled: Instant, slept: bool) {
        let before = self.turn_time.replace(TurnTime::Unread);
        let next_timer = self.timers.borrow().next_deadline();
        let Some(next_timer) = next_timer else {
            self.absence.set(Duration::ZERO);
            return self.polled.set(None);
        };
        let now = self.now();
        let before = match before {
            TurnTime::Read(before) if slept => before,
            _ => now,
        };
        self.polled.set(Some(now));
        self.absence.set(if self.is_embedded() {
            // An outer loop polls for this one, and nobody knows since when it has not. It has been away for as
            // long as it is late, or longer. Twice that time leaves the peer at least as much as the loop is late.
            before
                .saturating_duration_since(next_timer)
                .saturating_mul(2)
        } else {
            before.saturating_duration_since(polled)
        });
    }

    /// When the loop polled last, as far as it is known.
    pub(crate) fn polled(&self) -> Option<Instant> {
        self.polled.get()
    }

    /// Until when the loop has polled for certain, at this time. Between its turns an outer loop does.
    pub(crate) fn polled_until(&self, now: Instant) -> Instant {
        match self.polled.get() {
            Some(polled) if !self.is_embedded() => polled.min(now),
            _ => now,
        }
    }

    /// How long the loop had not polled before it did so last.
    pub(crate) fn absence(&self) -> Duration {
        self.absence.get()
    }

    /// Notes that virtual time has passed while the loop waited, outside of a turn.
    #[cfg(feature = "sim")]
    pub(crate) fn note_passed_time(&self) {
        if self.polled.get().is_some() {
            self.polled.set(Some(self.now()));
        }
    }

    /// Adds a channel that is not in the run queue.
    pub(crate) fn schedule(&self, state: &Rc<ChannelState>) {
        self.run_queue.borrow_mut().push_back(Rc::clone(state));
        self.wake_outer();
    }

    /// Queues a deferred call, which the loop makes at the end of a turn.
    pub(crate) fn defer(&self, call: Deferred) {
        self.deferred.borrow_mut().push_back(call);
        self.wake_outer();
    }

    /// Lets the loop drop a value of the user. Its destructor is user code, which no method of a handle runs.
    pub(crate) fn drop_later(&self, value: impl Sized + 'static) {
        self.defer(Deferred::Call(Box::new(move || drop(value))));
    }

    pub(crate) fn set_timer(&self, delay: Duration, task: Task) -> TimerId {
        self.set_timer_at(deadline_after(self.now(), delay), task)
    }

    pub(crate) fn set_timer_at(&self, deadline: Instant, task: Task) -> TimerId {
        self.change_timers(|timers| timers.insert(deadline, task))
    }

    /// Sets a timer that has this [reserved](TimerId::reserve) id.
    pub(crate) fn set_timer_as(&self, id: TimerId, delay: Duration, task: Task) {
        let deadline = deadline_after(self.now(), delay);
        self.change_timers(|timers| timers.insert_as(id, deadline, task));
    }

    pub(crate) fn reset_timer(&self, id: TimerId, delay: Duration) -> bool {
        self.reset_timer_at(id, deadline_after(self.now(), delay))
    }

    pub(crate) fn reset_timer_at(&self, id: TimerId, deadline: Instant) -> bool {
        self.change_timers(|timers| timers.reset(id, deadline))
    }

    /// Changes a timer. An outer loop sleeps until the first one: it is woken if that is now earlier.
    #[inline]
    fn change_timers<T>(&self, change: impl FnOnce(&mut TimerQueue<Task>) -> T) -> T {
        let mut timers = self.timers.borrow_mut();
        if !self.wakes_outer.get() {
            return change(&mut timers);
        }
        let before = timers.next_deadline();
        let answer = change(&mut timers);
        let first = timers.next_deadline();
        // Before the wake: polling may log it, and a subscriber is user code.
        drop(timers);
        if first.is_some_and(|first| before.is_none_or(|before| first < before)) {
            self.wake_outer();
        }
        answer
    }

    /// Cancels a timer that holds nothing of the user's.
    pub(crate) fn forget_timer(&self, id: TimerId) {
        let task = self.timers.borrow_mut().cancel(id);
        drop(task);
    }

    /// Cancels any timer. The loop drops what it holds: the destructor of what a closure has captured
    /// is user code.
    pub(crate) fn cancel_timer(&self, id: TimerId) -> bool {
        let Some(task) = self.timers.borrow_mut().cancel(id) else {
            return false;
        };
        match task {
            Some(Task::Channel(state, _)) => state.forget_timer(id),
            Some(task) => self.drop_later(task),
            None => {}
        }
        true
    }

    /// Asks the loop to return from `run`.
    pub(crate) fn stop(&self) {
        self.stopping.set(true);
        self.wake_outer();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// The loop returns from `run`. Returns whether it was asked to, and forgets that.
    pub(crate) fn take_stop(&self) -> bool {
        self.stopping.replace(false)
    }

    /// Whether a shutdown has begun: nothing can be registered.
    pub(crate) fn is_shutting_down(&self) -> bool {
        self.shutdown.get().is_some()
    }

    /// Whether a shutdown has reached the channels.
    pub(crate) fn closes_channels(&self) -> bool {
        self.is_shutting_down() && !self.shutdown_waits.get()
    }

    // ---- the outer loop

    /// Another loop gets the descriptor of this one. Returns whether it is the first to get it.
    pub(crate) fn embed(&self, is_running: bool) -> bool {
        let is_first = !self.embedded.replace(true);
        if is_first {
            self.wakes_outer.set(!is_running);
        }
        is_first
    }

    pub(crate) fn is_embedded(&self) -> bool {
        self.embedded.get()
    }

    /// The loop begins or ends its turns. After them the outer loop asks how long it may sleep, and from then
    /// on has to be woken.
    pub(crate) fn set_running(&self, is_running: bool) {
        self.wakes_outer.set(self.embedded.get() && !is_running);
    }

    /// Something is to be done. Makes the descriptor readable, so that an outer loop which sleeps takes a turn:
    /// one system call between two turns, and none during a turn or without an outer loop.
    #[inline]
    pub(crate) fn wake_outer(&self) {
        if self.wakes_outer.get() {
            self.wake_sleeping_outer();
        }
    }

    #[cold]
    fn wake_sleeping_outer(&self) {
        // Before the call: the poller may log, and a subscriber may have work for the loop.
        self.wakes_outer.set(false);
        if self.inbox.wake().is_err() {
            // The next work tries again.
            self.wakes_outer.set(true);
        }
    }

    // ---- the end

    /// Whether the loop is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// The loop is gone.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.owner.take();
    }

    /// The loop itself, which is a `T`.
    pub(crate) fn owner<T: 'static>(&self) -> Option<Rc<T>> {
        self.owner.borrow().as_ref()?.upgrade()?.downcast().ok()
    }

    /// Makes the loop known to those who ask for it by [`owner`](Agenda::owner).
    pub(crate) fn set_owner(&self, owner: Weak<dyn Any>) {
        self.owner.replace(Some(owner));
    }
}

/// A delay beyond the clock's reach means never: a century is as good.
pub(crate) fn deadline_after(start: Instant, delay: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
    start
        .checked_add(delay)
        .or_else(|| start.checked_add(CENTURY))
        .unwrap_or(start)
}

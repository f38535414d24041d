//! `EventLoop`, and the free functions that act on the current loop of the thread.

use std::any::TypeId;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::channel::dispatcher::Dispatcher;
use crate::channel::driver::DispatcherDriver;
use crate::channel::handle::Channel;
use crate::chat::handle::Chat;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::log::log;
use crate::runtime::counters::LoopStats;
use crate::runtime::remote::Remote;
use crate::runtime::{Runtime, current};
use crate::state::ChannelId;
use crate::state::agenda::{Deferred, Task, deadline_after};
use crate::time::timer::{MIN_PERIOD, TimerId};

/// A handle to an event loop: asyncore's `loop()` and its `map=`.
///
/// All clones of a handle are the same loop. Most programs need none, because the [free
/// functions](crate#functions) act on the loop of this thread. Create loops to have several of them, or to
/// run one inside the loop of another library.
///
/// The loop makes callbacks only inside [`run`](EventLoop::run), [`run_once`](EventLoop::run_once) and
/// [`run_for`](EventLoop::run_for), on the thread that called them, one at a time. No other method makes a callback, and all methods may be
/// called in callbacks.
///
/// When the last handle is dropped, the channels that are still registered end with
/// [`Close::Shutdown`](crate::Close::Shutdown) or [`Close::Interrupted`](crate::Close::Interrupted), and the loop
/// drops its deferred calls, timers, posted calls and factories. A destructor that panics is logged. A handler that
/// has a handle of its own loop keeps the loop alive: let it call [`Channel::event_loop`] when it needs one.
///
/// A loop does not survive a `fork`. On Linux parent and child share its epoll instance: a parent that calls
/// `exit` removes its sockets from it, and the child receives no more events for them. A daemon forks first,
/// and creates its loop (for example by `listen`) in the child.
///
/// ```
/// use asynchat::EventLoop;
/// # fn main() -> asynchat::Result {
/// let event_loop = EventLoop::new()?;
/// event_loop.call_soon(|| println!("hello from the loop"));
/// event_loop.run()?; // returns, because there is nothing left to wait for
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct EventLoop(pub(crate) Rc<Runtime>);

impl EventLoop {
    /// Creates a loop.
    ///
    /// # Errors
    /// When the system cannot create a poller, mostly because it is out of descriptors.
    pub fn new() -> Result<Self, Error> {
        current::new().map(EventLoop)
    }

    /// The loop that is running on this thread. If none is, the default loop of this thread, which is
    /// created at its first use. None is running in the callbacks of a loop that contains this one, such as
    /// those of a window: they need a clone of their `EventLoop`.
    ///
    /// # Errors
    /// As [`new`](EventLoop::new), and while the thread is being torn down.
    pub fn current() -> Result<Self, Error> {
        current::runtime().map(EventLoop)
    }

    /// Runs the loop until nothing is registered, nothing is deferred and no timer is pending, or until
    /// [`stop`](EventLoop::stop) is called.
    ///
    /// # Errors
    /// When the poller fails a hundred times in a row (about ten seconds). When the loop is
    /// [running](EventLoop::is_running) already, because this is called in one of its callbacks: the
    /// [`io_kind`](crate::Error::io_kind) is then [`ResourceBusy`](std::io::ErrorKind::ResourceBusy). Errors of
    /// connections go to their handlers.
    pub fn run(&self) -> Result<(), Error> {
        self.run_while_it_has_work(false)
    }

    /// Runs the loop until [`stop`](EventLoop::stop), or until the end of a [shutdown](EventLoop::shutdown),
    /// also while nothing is registered: for a loop that other threads give its work through a
    /// [`Remote`]. It sleeps until they do. asyncio has the same name for it; with asyncore such a thread kept
    /// a pipe in its map.
    ///
    /// ```
    /// # fn main() -> asynchat::Result {
    /// use std::sync::mpsc;
    /// use std::thread;
    ///
    /// let (sender, started) = mpsc::channel();
    /// let reactor = thread::spawn(move || -> asynchat::Result {
    ///     let event_loop = asynchat::EventLoop::new()?;
    ///     sender.send(event_loop.remote())?;
    ///     Ok(event_loop.run_forever()?)
    /// });
    /// let remote = started.recv()?;
    /// remote.post(|| println!("on the loop's thread"))?;
    /// remote.stop()?;
    /// reactor.join().expect("it does not panic")
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`run`](EventLoop::run).
    pub fn run_forever(&self) -> Result<(), Error> {
        self.run_while_it_has_work(true)
    }

    fn run_while_it_has_work(&self, forever: bool) -> Result<(), Error> {
        let running = current::enter(&self.0)?;
        let runtime = running.runtime();
        runtime.forever.set(forever);
        while !runtime.agenda.is_stopping() && runtime.has_work() {
            runtime.turn(runtime.longest_sleep())?;
        }
        runtime.run_queued();
        runtime.pause();
        Ok(())
    }

    /// Runs one turn: waits for events, at most for `timeout`, and makes their callbacks. This is asyncore's
    /// `poll`. `None` waits until something happens. [`Duration::ZERO`] does not wait: a game calls this for
    /// each frame, a GUI when it is idle.
    ///
    /// Returns true if something is left to run for and [`stop`](EventLoop::stop) was not called.
    ///
    /// ```
    /// # fn main() -> asynchat::Result {
    /// use std::time::Duration;
    /// while asynchat::run_once(Duration::from_millis(16))? {
    ///     // draw a frame
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`run`](EventLoop::run).
    pub fn run_once(&self, timeout: impl Into<Option<Duration>>) -> Result<bool, Error> {
        let (goes_on, _) = self.take_one_turn(timeout.into())?;
        Ok(goes_on)
    }

    /// Returns what [`run_once`](EventLoop::run_once) does, and whether the loop was stopped.
    #[inline(always)] // A program that draws frames calls it for each frame.
    pub(crate) fn take_one_turn(&self, timeout: Option<Duration>) -> Result<(bool, bool), Error> {
        let running = current::enter(&self.0)?;
        let runtime = running.runtime();
        runtime.turn(timeout)?;
        runtime.run_queued();
        let is_stopped = runtime.agenda.is_stopping();
        Ok((runtime.pause(), is_stopped))
    }

    /// Works for at most `budget`, without sleeping: takes turns until nothing is left to do, or until the time
    /// is up. A program that draws frames calls this for each frame, with the time that a frame can spare.
    ///
    /// When the time is up, the turn of the connection or the call that is being made is finished. The next
    /// `run_for`, [`run_once`](EventLoop::run_once) or [`run`](EventLoop::run) continues with those that had no turn
    /// yet: the order is the same as without a budget. Even a budget of zero lets one connection have its turn, or one
    /// call be made. So this takes at most the budget and the longest turn of one connection, which the budgets of its
    /// [`Limits`] bound, or the longest call of your own. Three steps, each of which happens once, are not cut: after
    /// [`stop`](EventLoop::stop) the connections that wait for their turn take it, and when a
    /// [shutdown](EventLoop::shutdown) begins and ends, all calls that were posted or deferred by then are made.
    ///
    /// The time is that of the loop's clock. On a simulated network it stands still during turns, unless a callback
    /// uses `sim::Network::spend`.
    ///
    /// Returns true if something is left to run for and [`stop`](EventLoop::stop) was not called.
    /// [`next_timeout`](EventLoop::next_timeout) is zero when the time was too short.
    ///
    /// ```
    /// # fn main() -> asynchat::Result {
    /// use std::time::Duration;
    /// let event_loop = asynchat::EventLoop::new()?;
    /// event_loop.call_soon(|| println!("called"));
    /// event_loop.run_for(Duration::from_millis(4))?;
    /// assert_eq!(event_loop.next_timeout(), None); // it had enough time
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`run`](EventLoop::run).
    pub fn run_for(&self, budget: Duration) -> Result<bool, Error> {
        let running = current::enter(&self.0)?;
        let runtime = running.runtime();
        runtime.turns_until(deadline_after(runtime.now(), budget))?;
        Ok(runtime.pause())
    }

    /// Whether this loop is taking a turn: true in its callbacks and in everything that they call. It can then
    /// not be run again.
    ///
    /// ```
    /// # fn main() -> asynchat::Result {
    /// use std::{io, time::Duration};
    /// let event_loop = asynchat::EventLoop::new()?;
    /// let nested = event_loop.clone();
    /// event_loop.call_soon(move || {
    ///     assert!(nested.is_running());
    ///     let refused = nested.run_once(Duration::ZERO).unwrap_err();
    ///     assert_eq!(refused.io_kind(), Some(io::ErrorKind::ResourceBusy));
    /// });
    /// event_loop.run()?;
    /// assert!(!event_loop.is_running());
    /// # Ok(()) }
    /// ```
    pub fn is_running(&self) -> bool {
        self.0.is_running()
    }

    /// Sets the limits of servers, connectors and dispatchers that have none of their own. It applies to
    /// those that are created on this loop or registered with it from now on. Default: [`Limits::default`].
    pub fn set_limits(&self, limits: Limits) {
        self.0.set_limits(limits);
    }

    /// Sets for how long [`run`](EventLoop::run) and [`run_forever`](EventLoop::run_forever) go on asking for events
    /// before they sleep, counted from the last event of a socket. Default: zero, they sleep at once.
    ///
    /// To wake a thread that sleeps costs the peer that wakes it some microseconds if it is on the same machine, and
    /// delays its request. If the next request usually comes within 10 to 50 µs, set the time to that. The thread then
    /// uses up to this much CPU time after each event, and sleeps if none follows. Any peer causes events, also one that
    /// is refused, so a time of a millisecond or more lets a few peers keep a core busy. Do not use it with more busy
    /// threads than cores.
    ///
    /// In [`run_once`](EventLoop::run_once), in [`run_for`](EventLoop::run_for) and on a
    /// [simulated network](crate::sim) it has no effect. With [`Workers`](crate::Workers), call it in their setup.
    ///
    /// ```
    /// # fn main() -> asynchat::Result {
    /// use std::time::Duration;
    /// asynchat::EventLoop::current()?.set_busy_poll(Duration::from_micros(20));
    /// # Ok(()) }
    /// ```
    pub fn set_busy_poll(&self, time: Duration) {
        self.0.set_busy_poll(time);
    }

    /// How long another loop that contains this one may sleep before it has to call
    /// [`run_once`](EventLoop::run_once) or [`run_for`](EventLoop::run_for). Zero when there is work, which
    /// includes what a turn has left over because a budget was used up. `None` when there is none until the loop's
    /// descriptor becomes readable.
    ///
    /// Ask after each turn. What is done to the loop or to its channels between two turns (a push, a close, an
    /// earlier timer) makes the descriptor readable, so that a loop which sleeps by then wakes up. A program that
    /// does not watch the descriptor has to ask immediately before it sleeps.
    ///
    /// ```
    /// # fn main() -> asynchat::Result {
    /// use std::time::Duration;
    /// let event_loop = asynchat::EventLoop::new()?;
    /// assert_eq!(event_loop.next_timeout(), None);
    /// event_loop.call_soon(|| println!("called"));
    /// assert_eq!(event_loop.next_timeout(), Some(Duration::ZERO));
    /// event_loop.run_once(Duration::ZERO)?;
    /// assert_eq!(event_loop.next_timeout(), None);
    /// # Ok(()) }
    /// ```
    pub fn next_timeout(&self) -> Option<Duration> {
        self.0.outer_timeout()
    }

    /// The time on the loop's clock: that of its timers and deadlines. On a
    /// [simulated network](crate::sim) it is virtual, so code that takes the time from here can be tested
    /// without waiting. Otherwise it is that of [`Instant::now`], which a turn of the loop reads at most three
    /// times: at its beginning, before it waits for events if it has made callbacks by then, and after. All callbacks
    /// after the wait therefore see one time. [`run_for`](EventLoop::run_for) also reads it after each call, to know
    /// whether its time is up.
    ///
    /// ```
    /// # fn main() -> asynchat::Result {
    /// use std::time::Duration;
    /// let begun = asynchat::now();
    /// asynchat::call_later(Duration::from_millis(10), move || {
    ///     assert!(asynchat::now() - begun >= Duration::from_millis(10));
    /// });
    /// asynchat::run()?;
    /// # Ok(()) }
    /// ```
    pub fn now(&self) -> Instant {
        self.0.now()
    }

    /// Registers a dispatcher and the [`channel`](Dispatcher::channel) that it owns: from now on the loop
    /// makes its callbacks, the first in the next turn. This method calls `channel` and no other method of
    /// the dispatcher.
    ///
    /// # Errors
    /// When the channel is closed or registered already, when the poller cannot watch its descriptor, and
    /// when the loop is shutting down.
    pub fn register<D: Dispatcher>(&self, dispatcher: D) -> Result<ChannelId, Error> {
        let state = Rc::clone(&dispatcher.channel().0);
        let id = self.0.register(&state, TypeId::of::<D>)?;
        state.open_span();
        self.0
            .set_driver(&state, Box::new(DispatcherDriver(dispatcher)));
        Ok(id)
    }

    /// Defers a call to the next turn of the loop. Deferred calls are made in the order of their deferral,
    /// at most 1,024 in a turn, or an eighth of those that wait if that is more. A panic is logged.
    pub fn call_soon(&self, call: impl FnOnce() + 'static) {
        self.0.agenda.defer(Deferred::Call(Box::new(call)));
    }

    /// Sets a timer: calls `call` once, after `delay`. A pending timer keeps [`run`](EventLoop::run)
    /// running. The loop fires at most 1,024 timers in a turn, the earliest first. A panic is logged. From the
    /// call on the id is that of no timer: to continue, set another one.
    pub fn call_later(&self, delay: Duration, call: impl FnOnce() + 'static) -> TimerId {
        self.0.agenda.set_timer(delay, Task::Call(Box::new(call)))
    }

    /// Sets a periodic timer: calls `call` every `period`, first after one period, until the timer is
    /// cancelled. A late call does not move the following ones. Periods that were missed are skipped. A period
    /// below a millisecond is taken for a millisecond.
    pub fn call_every(&self, period: Duration, call: impl FnMut() + 'static) -> TimerId {
        let period = period.max(MIN_PERIOD);
        self.0
            .agenda
            .set_timer(period, Task::Every(Box::new(call), period))
    }

    /// Cancels a timer of this loop or of one of its channels. Returns whether it was pending: false if it
    /// has fired or belongs to another loop.
    pub fn cancel(&self, timer: TimerId) -> bool {
        self.0.agenda.cancel_timer(timer)
    }

    /// Makes a timer fire `delay` from now; a periodic one continues from there. Returns whether it was
    /// pending: false if it has fired or belongs to another loop.
    pub fn reschedule(&self, timer: TimerId, delay: Duration) -> bool {
        self.0.agenda.reset_timer(timer, delay)
    }

    /// Makes [`run`](EventLoop::run) return at the end of this turn. Channels stay registered and timers
    /// pending, and `run` may be called again. If the loop is not running, the next call of `run` returns at
    /// once.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// Shuts the loop down in good order. Listeners and outgoing connections that are not up close. For each
    /// session the loop calls [`handle_shutdown`](crate::AsyncChat::handle_shutdown), and closes its
    /// connection when its queue is sent, unless the session stays. A [piped](crate::pipe) connection closes
    /// when both streams have ended, a [`Dispatcher`] when it is not [`writable`](Dispatcher::writable).
    /// After `grace` the remaining connections are reset, with [`Close::Interrupted`](crate::Close::Interrupted).
    ///
    /// Calls that were posted or deferred before come first, also with a grace of zero. What they push is sent
    /// like any other output.
    ///
    /// Then [`run`](EventLoop::run) returns, also while timers are pending. During a shutdown nothing can be
    /// registered. A second call sets a new grace, from that call on.
    pub fn shutdown(&self, grace: Duration) {
        self.0.shut_down(grace);
    }

    /// Closes every channel, as [`Channel::close`] does: queued output is dropped. This is asyncore's
    /// `close_all`. It also stops [reconnecting](crate::Connector::reconnect), and closes the sockets that
    /// [linger](crate::Deadlines#structfield.linger).
    ///
    /// On a loop that has started [workers](crate::Workers), and on that of a worker, it reaches all loops of the service,
    /// as a shutdown does. The service cannot listen again, so it ends: [`run`](EventLoop::run) returns, also while timers
    /// are pending.
    pub fn close_all(&self) {
        self.0.close_all();
    }

    /// A handle to this loop for other threads.
    pub fn remote(&self) -> Remote {
        Remote::new(&self.0.agenda.inbox)
    }

    /// The chat with this id, if it is open.
    pub fn chat(&self, id: ChannelId) -> Option<Chat> {
        let state = self.0.state(id)?;
        let open = state.is_chat() && !state.has_ended();
        open.then(|| Chat::of(Channel(state)))
    }

    /// How many channels are registered (asyncore's `len(socket_map)`), how many sockets
    /// [linger](crate::Deadlines#structfield.linger), and how many [workers](crate::Workers) it has that run.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no channel is registered, no socket lingers and no worker runs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the loop has done so far. The cost is linear in the number of channels.
    pub fn stats(&self) -> LoopStats {
        self.0.stats()
    }
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop")
            .field("channels", &self.len())
            .field("stats", &self.stats())
            .finish()
    }
}

/// The descriptor lets another loop contain this one. It is readable when the kernel or another thread has
/// something for this loop, and when something was done to it or to its channels between two turns: a push, a
/// close, an earlier timer, a `stop`. After each turn the other loop has to obey
/// [`EventLoop::next_timeout`]. It may watch the descriptor level-triggered or edge-triggered. Only watch it, do
/// not read it.
///
/// Windows, Solaris and illumos have no such descriptor. There the loop gets a thread of its own, and the two
/// threads talk through a [`Remote`] and through what the other loop offers for it. Or the other loop calls
/// [`EventLoop::run_for`] at regular times.
#[cfg(all(
    unix,
    not(polling_test_poll_backend),
    not(any(target_os = "solaris", target_os = "illumos", target_os = "redox"))
))]
impl std::os::fd::AsFd for EventLoop {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.embed();
        self.0.poller.as_fd()
    }
}

/// The same descriptor as that of [`AsFd`](std::os::fd::AsFd), for loops that take a number. It belongs to the
/// loop, and closes when the last [`EventLoop`] is dropped: let the other loop stop watching it before, and never
/// close it.
#[cfg(all(
    unix,
    not(polling_test_poll_backend),
    not(any(target_os = "solaris", target_os = "illumos", target_os = "redox"))
))]
impl std::os::fd::AsRawFd for EventLoop {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        use std::os::fd::AsFd;
        self.as_fd().as_raw_fd()
    }
}

impl Channel {
    /// The loop that the channel is registered with. `None` before its registration.
    pub fn event_loop(&self) -> Option<EventLoop> {
        self.0.agenda()?.owner().map(EventLoop)
    }
}

impl Chat {
    /// The loop of the connection. `None` when the loop is gone.
    pub fn event_loop(&self) -> Option<EventLoop> {
        self.state().agenda()?.owner().map(EventLoop)
    }
}

/// For the free functions that return nothing. They fail only when the system has no descriptor for a
/// poller, or the thread is being torn down. The call is then dropped, and an error is logged.
fn with_current(what: &str, act: impl FnOnce(EventLoop)) {
    match EventLoop::current() {
        Ok(event_loop) => act(event_loop),
        Err(error) => log!(error, %error, "{what} was ignored"),
    }
}

/// The same for the functions that end something: without a loop there is nothing to end.
fn with_current_if_any(act: impl FnOnce(EventLoop)) {
    if let Ok(event_loop) = EventLoop::current() {
        act(event_loop);
    }
}

/// Calls [`EventLoop::run`] on the loop of this thread.
///
/// ```
/// # fn main() -> asynchat::Result {
/// asynchat::call_soon(|| println!("in the loop"));
/// asynchat::run()?;
/// Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`EventLoop::run`].
pub fn run() -> Result<(), Error> {
    EventLoop::current()?.run()
}

/// Calls [`EventLoop::run_forever`] on the loop of this thread.
///
/// # Errors
/// As [`EventLoop::run_forever`].
pub fn run_forever() -> Result<(), Error> {
    EventLoop::current()?.run_forever()
}

/// Calls [`EventLoop::run_once`] on the loop of this thread. This is asyncore's `poll`.
///
/// ```
/// # fn main() -> asynchat::Result {
/// assert!(!asynchat::run_once(std::time::Duration::ZERO)?); // nothing to run for
/// # Ok(()) }
/// ```
///
/// # Errors
/// As [`EventLoop::run_once`].
pub fn run_once(timeout: impl Into<Option<Duration>>) -> Result<bool, Error> {
    EventLoop::current()?.run_once(timeout)
}

/// Calls [`EventLoop::run_for`] on the loop of this thread.
///
/// # Errors
/// As [`EventLoop::run_for`].
pub fn run_for(budget: Duration) -> Result<bool, Error> {
    EventLoop::current()?.run_for(budget)
}

/// Calls [`EventLoop::register`] on the loop of this thread. [`Channel`] has an example.
///
/// # Errors
/// As [`EventLoop::register`].
pub fn register<D: Dispatcher>(dispatcher: D) -> Result<ChannelId, Error> {
    EventLoop::current()?.register(dispatcher)
}

/// [`EventLoop::now`] of the loop of this thread. [`Instant::now`] if the thread has none.
pub fn now() -> Instant {
    EventLoop::current().map_or_else(|_| Instant::now(), |event_loop| event_loop.now())
}

/// Calls [`EventLoop::call_soon`] on the loop of this thread.
pub fn call_soon(call: impl FnOnce() + 'static) {
    with_current("call_soon", |event_loop| event_loop.call_soon(call));
}

/// Calls [`EventLoop::call_later`] on the loop of this thread.
///
/// ```
/// # fn main() -> asynchat::Result {
/// use std::time::Duration;
/// let timer = asynchat::call_later(Duration::from_secs(3600), || println!("an hour later"));
/// assert!(asynchat::reschedule(timer, Duration::ZERO));
/// asynchat::run()?;
/// assert!(!asynchat::cancel(timer)); // it has fired
/// # Ok(()) }
/// ```
pub fn call_later(delay: Duration, call: impl FnOnce() + 'static) -> TimerId {
    let mut timer = TimerId::NEVER;
    with_current("call_later", |event_loop| {
        timer = event_loop.call_later(delay, call);
    });
    timer
}

/// Calls [`EventLoop::call_every`] on the loop of this thread. The shortest period is a millisecond.
pub fn call_every(period: Duration, call: impl FnMut() + 'static) -> TimerId {
    let mut timer = TimerId::NEVER;
    with_current("call_every", |event_loop| {
        timer = event_loop.call_every(period, call);
    });
    timer
}

/// Calls [`EventLoop::cancel`] on the loop of this thread.
pub fn cancel(timer: TimerId) -> bool {
    EventLoop::current().is_ok_and(|event_loop| event_loop.cancel(timer))
}

/// Calls [`EventLoop::reschedule`] on the loop of this thread.
pub fn reschedule(timer: TimerId, delay: Duration) -> bool {
    EventLoop::current().is_ok_and(|event_loop| event_loop.reschedule(timer, delay))
}

/// Calls [`EventLoop::stop`] on the loop of this thread.
pub fn stop() {
    with_current_if_any(|event_loop| event_loop.stop());
}

/// Calls [`EventLoop::shutdown`] on the loop of this thread.
pub fn shutdown(grace: Duration) {
    with_current_if_any(|event_loop| event_loop.shutdown(grace));
}

/// Calls [`EventLoop::close_all`] on the loop of this thread.
pub fn close_all() {
    with_current_if_any(|event_loop| event_loop.close_all());
}

/// Calls [`EventLoop::remote`] on the loop of this thread.
///
/// # Errors
/// As [`EventLoop::current`].
pub fn remote() -> Result<Remote, Error> {
    Ok(EventLoop::current()?.remote())
}

/// Calls [`EventLoop::chat`] on the loop of this thread.
pub fn chat(id: ChannelId) -> Option<Chat> {
    EventLoop::current().ok()?.chat(id)
}

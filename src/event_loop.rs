//! The loop, as its user holds it.

use std::any::TypeId;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::channel::dispatcher::Dispatcher;
use crate::channel::driver::DispatcherDriver;
use crate::channel::handle::Channel;
use crate::chat::handle::Chat;
use crate::error::Result;
use crate::limits::Limits;
use crate::log::log;
use crate::runtime::counters::LoopStats;
use crate::runtime::remote::Remote;
use crate::runtime::{Runtime, current};
use crate::state::ChannelId;
use crate::state::agenda::{Deferred, Task};
use crate::time::timer::TimerId;

/// A loop: asyncore's `loop()` and its `map=`.
///
/// It is a handle: clones are the same loop. One program seldom needs to name one, for the
/// [free functions](crate#functions) act on this thread's; name one to have several, or to nest it
/// in another program's loop.
///
/// Callbacks come from [`run`](EventLoop::run) and [`run_once`](EventLoop::run_once) alone, on
/// their thread, one at a time. No other method calls your code; all can be called from callbacks.
///
/// When the last handle is dropped, channels still registered end with
/// [`Close::Shutdown`](crate::Close::Shutdown). A handler that keeps a handle of its own loop
/// keeps the loop alive; [`Channel::event_loop`] gives one when it is needed. What the loop still holds
/// for you (deferred calls, timers, posts, factories) is dropped; a destructor that panics is logged, and
/// ends nothing.
///
/// A loop does not survive a `fork`: on Linux parent and child share its epoll instance, and the loop of
/// a parent that leaves through `exit` takes the sockets that it has watched out of it, so that the child
/// gets no event for them any more. A daemon forks first, and makes its loop (by `listen`, for example) in the child.
///
/// ```
/// use asynchat::EventLoop;
/// # fn main() -> asynchat::Result {
/// let event_loop = EventLoop::new()?;
/// event_loop.call_soon(|| println!("hello from the loop"));
/// event_loop.run()?; // returns: nothing is left to wait for
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct EventLoop(pub(crate) Rc<Runtime>);

impl EventLoop {
    /// A new loop.
    ///
    /// # Errors
    /// When the system gives no poller: out of descriptors, mostly.
    pub fn new() -> Result<Self> {
        current::new().map(EventLoop)
    }

    /// The loop that is running on this thread, or else this thread's default one, which is
    /// created at first use.
    ///
    /// # Errors
    /// As [`new`](EventLoop::new), and while the thread is being torn down.
    pub fn current() -> Result<Self> {
        current::runtime().map(EventLoop)
    }

    /// Runs until nothing is registered and no timer is pending, or until
    /// [`stop`](EventLoop::stop).
    ///
    /// # Errors
    /// When the poller can not work any more, and nothing else; also when called from a callback
    /// of the same loop.
    pub fn run(&self) -> Result {
        let running = current::enter(&self.0)?;
        let runtime = running.runtime();
        while !runtime.agenda.stopping.get() && runtime.has_work() {
            runtime.turn(None)?;
        }
        runtime.run_queued();
        runtime.agenda.stopping.set(false);
        // Stopped in the middle of a shutdown, the next `run` goes on with it.
        if self.is_empty() {
            runtime.finish_shutdown();
        }
        Ok(())
    }

    /// Takes one turn: waits for events, no longer than `timeout` (`None`: as long as it takes),
    /// and acts on them. asyncore's `poll`. With [`Duration::ZERO`] it never sleeps: what a game
    /// calls for each frame, or a GUI when it is idle.
    ///
    /// Returns whether to go on: something is left to run for, and nobody has called
    /// [`stop`](EventLoop::stop).
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
    pub fn run_once(&self, timeout: impl Into<Option<Duration>>) -> Result<bool> {
        let running = current::enter(&self.0)?;
        let runtime = running.runtime();
        runtime.turn(timeout.into())?;
        runtime.run_queued();
        let stopped = runtime.agenda.stopping.replace(false);
        let left = runtime.has_work();
        if !left {
            runtime.finish_shutdown();
        }
        Ok(left && !stopped)
    }

    /// Sets the limits of the servers, connectors and dispatchers that are made on this loop or
    /// registered with it from now on, and are given none of their own. Default:
    /// [`Limits::default`].
    pub fn set_limits(&self, limits: Limits) {
        self.0.set_limits(limits);
    }

    /// How long a loop that this one is nested in may sleep before it has to call
    /// [`run_once`](EventLoop::run_once): zero when work is waiting, `None` until the descriptor
    /// becomes readable. Ask just before the sleep: a push, a close, a timer, whatever is done to the
    /// loop or its channels between two turns, may have made it shorter.
    ///
    /// ```
    /// # fn main() -> asynchat::Result {
    /// use std::time::Duration;
    /// let event_loop = asynchat::EventLoop::new()?;
    /// assert_eq!(event_loop.next_timeout(), None);
    /// event_loop.call_soon(|| println!("at last"));
    /// assert_eq!(event_loop.next_timeout(), Some(Duration::ZERO));
    /// event_loop.run_once(Duration::ZERO)?;
    /// assert_eq!(event_loop.next_timeout(), None);
    /// # Ok(()) }
    /// ```
    pub fn next_timeout(&self) -> Option<Duration> {
        self.0.next_timeout()
    }

    /// Takes a dispatcher in: from now on the loop calls it. It is asked for its
    /// [`channel`](Dispatcher::channel) here, and for nothing else.
    ///
    /// # Errors
    /// When its channel is closed, registered already, or the loop is shutting down.
    pub fn register<D: Dispatcher>(&self, dispatcher: D) -> Result<ChannelId> {
        let state = Rc::clone(&dispatcher.channel().0);
        let id = self.0.register(&state, TypeId::of::<D>)?;
        state.open_span();
        self.0
            .set_driver(&state, Box::new(DispatcherDriver(dispatcher)));
        Ok(id)
    }

    /// Calls `call` in the loop's next turn, after those called for before it. One turn makes at most
    /// 1,024 such calls; the rest are made in the turns that follow at once.
    pub fn call_soon(&self, call: impl FnOnce() + 'static) {
        self.0.agenda.defer(Deferred::Call(Box::new(call)));
    }

    /// Calls `call` once, after `delay`. A pending timer keeps [`run`](EventLoop::run) going. One turn
    /// fires at most 1,024 timers that are due, the earliest first; the rest fire in the turns that
    /// follow at once.
    pub fn call_later(&self, delay: Duration, call: impl FnOnce() + 'static) -> TimerId {
        self.0.agenda.set_timer(delay, Task::Call(Box::new(call)))
    }

    /// Calls `call` every `period`, the first time after one period. It keeps its pace,
    /// however late a call is; calls that were missed are skipped.
    pub fn call_every(&self, period: Duration, call: impl FnMut() + 'static) -> TimerId {
        self.0
            .agenda
            .set_timer(period, Task::Every(Box::new(call), period))
    }

    /// Cancels a timer, a channel's too; false if it has fired already or is another loop's.
    pub fn cancel(&self, timer: TimerId) -> bool {
        self.0.agenda.cancel_timer(timer)
    }

    /// Has a timer fire `delay` from now instead; false if it has fired already or is another
    /// loop's. A periodic one goes on from there.
    pub fn reset(&self, timer: TimerId, delay: Duration) -> bool {
        self.0.agenda.reset_timer(timer, delay)
    }

    /// Has [`run`](EventLoop::run) return at the end of this turn. Channels stay registered and
    /// timers pending: `run` may be called again. Before `run` it takes effect at once.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// Ends everything in good order. Listeners are closed, and outgoing connections that are not up.
    /// Each session has its [`handle_shutdown`](AsyncChat::handle_shutdown) called, by the loop, and
    /// its connection is closed as soon as what is queued for it is out, unless the session stays.
    /// A [piped](crate::pipe) connection is closed when both streams have ended, a
    /// [`Dispatcher`] when it has nothing to write. After `grace` what is left is aborted. `run` then
    /// returns, whatever timers are pending. Meanwhile nothing new can be registered. A second call
    /// changes the grace.
    pub fn shutdown(&self, grace: Duration) {
        self.0.shut_down(grace);
    }

    /// Closes every channel at once, queued output or not: asyncore's `close_all`. What waits to
    /// [connect again](Connector::reconnect) does so no more, what [lingers](crate::Deadlines::linger)
    /// is given up.
    pub fn close_all(&self) {
        self.0.close_all();
    }

    /// A handle for other threads.
    pub fn remote(&self) -> Remote {
        Remote::new(&self.0.agenda.inbox)
    }

    /// The chat of this id, if it is open.
    pub fn chat(&self, id: ChannelId) -> Option<Chat> {
        let state = self.0.state(id)?;
        let open = state.is_chat() && !state.has_ended();
        open.then(|| Chat::of(Channel(state)))
    }

    /// How many channels are registered: `len(socket_map)`. Sockets that
    /// [linger](crate::Deadlines::linger) after their channel count as well.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no channel is registered, and nothing lingers.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it has done so far. It looks at each channel, to add what those have done.
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

/// Readable when an event is waiting, so that a loop can be nested in another; the other needs to
/// heed [`EventLoop::next_timeout`] as well.
#[cfg(all(
    unix,
    not(polling_test_poll_backend),
    not(any(target_os = "solaris", target_os = "illumos", target_os = "redox"))
))]
impl std::os::fd::AsFd for EventLoop {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.poller.as_fd()
    }
}

impl Channel {
    /// The loop that it is registered with.
    pub fn event_loop(&self) -> Option<EventLoop> {
        self.0.agenda()?.owner().map(EventLoop)
    }
}

/// For the free functions that return nothing. They can only fail where the system has no
/// descriptor for a poller, or the thread is being torn down; what is lost then is said in the log.
fn with_home(what: &str, act: impl FnOnce(EventLoop)) {
    match EventLoop::current() {
        Ok(event_loop) => act(event_loop),
        Err(error) => log!(error, %error, "{what} was ignored"),
    }
}

/// The same for those that end something: without a loop it has ended already.
fn with_home_if_any(act: impl FnOnce(EventLoop)) {
    if let Ok(event_loop) = EventLoop::current() {
        act(event_loop);
    }
}

/// [`EventLoop::run`] on this thread's loop.
///
/// ```
/// # fn main() -> asynchat::Result {
/// asynchat::call_soon(|| println!("in the loop"));
/// asynchat::run()
/// # }
/// ```
///
/// # Errors
/// As [`EventLoop::run`].
pub fn run() -> Result {
    EventLoop::current()?.run()
}

/// [`EventLoop::run_once`] on this thread's loop: asyncore's `poll`.
///
/// ```
/// # fn main() -> asynchat::Result {
/// assert!(!asynchat::run_once(std::time::Duration::ZERO)?); // nothing to run for
/// # Ok(()) }
/// ```
///
/// # Errors
/// As [`EventLoop::run_once`].
pub fn run_once(timeout: impl Into<Option<Duration>>) -> Result<bool> {
    EventLoop::current()?.run_once(timeout)
}

/// [`EventLoop::register`] on this thread's loop. See [`Channel`] for an example.
///
/// # Errors
/// As [`EventLoop::register`].
pub fn register<D: Dispatcher>(dispatcher: D) -> Result<ChannelId> {
    EventLoop::current()?.register(dispatcher)
}

/// [`EventLoop::call_soon`] on this thread's loop.
pub fn call_soon(call: impl FnOnce() + 'static) {
    with_home("call_soon", |event_loop| event_loop.call_soon(call));
}

/// [`EventLoop::call_later`] on this thread's loop.
///
/// ```
/// # fn main() -> asynchat::Result {
/// use std::time::Duration;
/// let timer = asynchat::call_later(Duration::from_secs(3600), || println!("an hour later"));
/// assert!(asynchat::reset(timer, Duration::ZERO));
/// asynchat::run()?;
/// assert!(!asynchat::cancel(timer)); // it has fired
/// # Ok(()) }
/// ```
pub fn call_later(delay: Duration, call: impl FnOnce() + 'static) -> TimerId {
    let mut timer = TimerId::NEVER;
    with_home("call_later", |event_loop| {
        timer = event_loop.call_later(delay, call);
    });
    timer
}

/// [`EventLoop::call_every`] on this thread's loop.
pub fn call_every(period: Duration, call: impl FnMut() + 'static) -> TimerId {
    let mut timer = TimerId::NEVER;
    with_home("call_every", |event_loop| {
        timer = event_loop.call_every(period, call);
    });
    timer
}

/// [`EventLoop::cancel`] on this thread's loop.
pub fn cancel(timer: TimerId) -> bool {
    EventLoop::current().is_ok_and(|event_loop| event_loop.cancel(timer))
}

/// [`EventLoop::reset`] on this thread's loop.
pub fn reset(timer: TimerId, delay: Duration) -> bool {
    EventLoop::current().is_ok_and(|event_loop| event_loop.reset(timer, delay))
}

/// [`EventLoop::stop`] on this thread's loop.
pub fn stop() {
    with_home_if_any(|event_loop| event_loop.stop());
}

/// [`EventLoop::shutdown`] on this thread's loop.
pub fn shutdown(grace: Duration) {
    with_home_if_any(|event_loop| event_loop.shutdown(grace));
}

/// [`EventLoop::close_all`] on this thread's loop.
pub fn close_all() {
    with_home_if_any(|event_loop| event_loop.close_all());
}

/// [`EventLoop::remote`] of this thread's loop.
///
/// # Errors
/// As [`EventLoop::current`].
pub fn remote() -> Result<Remote> {
    Ok(EventLoop::current()?.remote())
}

/// [`EventLoop::chat`] on this thread's loop.
pub fn chat(id: ChannelId) -> Option<Chat> {
    EventLoop::current().ok()?.chat(id)
}

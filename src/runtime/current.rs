//! This thread's loop, and the free functions that act on it: asyncore's module-level ones.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::log::log;
use crate::runtime::registry::ChannelId;
use crate::runtime::remote::Remote;
use crate::runtime::{Running, Runtime};
use crate::target::Target;
use crate::time::timer::TimerId;
use crate::{AsyncChat, Channel, Chat, Dispatcher, EventLoop};

thread_local! {
    static LOOPS: RefCell<Loops> = RefCell::default();
}

#[derive(Default)]
struct Loops {
    /// The loops that are running on this thread; more than one when a callback of one runs
    /// another.
    running: Vec<Rc<Runtime>>,
    default: Option<Rc<Runtime>>,
}

impl Drop for Loops {
    fn drop(&mut self) {
        if let Some(runtime) = &self.default {
            runtime.torn_down.set(true);
        }
    }
}

/// The loop that is running on this thread, or else this thread's default one.
pub(crate) fn runtime() -> Result<Rc<Runtime>> {
    let known = with_loops(|loops| loops.running.last().or(loops.default.as_ref()).cloned())?;
    if let Some(runtime) = known {
        return Ok(runtime);
    }
    let runtime = EventLoop::new()?.0;
    with_loops(|loops| loops.default = Some(Rc::clone(&runtime)))?;
    Ok(runtime)
}

/// Makes `home` the running loop, until the guard is dropped.
pub(crate) fn enter(runtime: &Rc<Runtime>) -> Result<Entered> {
    let running = runtime.enter()?;
    with_loops(|loops| loops.running.push(Rc::clone(runtime)))?;
    Ok(Entered(running))
}

pub(crate) struct Entered(Running);

impl Entered {
    pub(crate) fn runtime(&self) -> &Rc<Runtime> {
        self.0.runtime()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        // Only a thread that is being torn down has no loops, and then there is nothing to do.
        // What is taken out is dropped after the borrow: it may be the last handle of a loop.
        let _ended = with_loops(|loops| loops.running.pop());
    }
}

fn with_loops<R>(act: impl FnOnce(&mut Loops) -> R) -> Result<R> {
    LOOPS
        .try_with(|loops| act(&mut loops.borrow_mut()))
        .map_err(|_| Error::new("the thread is being torn down: it has no event loop any more"))
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

/// [`EventLoop::listen`] on this thread's loop.
///
/// ```
/// # fn main() -> asynchat::Result {
/// let listener = asynchat::listen("127.0.0.1:0", |chat| move |line: &[u8]| {
///     chat.push_slice(line);
///     chat.push("\r\n");
///     Ok(())
/// })?;
/// println!("listening on {}", listener.local_addr().expect("it listens"));
/// # listener.close();
/// asynchat::run()
/// # }
/// ```
///
/// # Errors
/// As [`EventLoop::listen`].
pub fn listen<S: AsyncChat>(
    addr: impl Into<Target>,
    factory: impl FnMut(Chat) -> S + 'static,
) -> Result<Channel> {
    EventLoop::current()?.listen(addr, factory)
}

/// [`EventLoop::connect`] on this thread's loop.
///
/// ```no_run
/// # fn main() -> asynchat::Result {
/// let chat = asynchat::connect("news.example.org:119", |chat| move |line: &[u8]| {
///     println!("{}", String::from_utf8_lossy(line));
///     Ok(())
/// })?;
/// chat.push("DATE\r\nQUIT\r\n");
/// asynchat::run()
/// # }
/// ```
///
/// # Errors
/// As [`EventLoop::connect`].
pub fn connect<S: AsyncChat>(
    target: impl Into<Target>,
    factory: impl FnOnce(Chat) -> S + 'static,
) -> Result<Chat> {
    EventLoop::current()?.connect(target, factory)
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

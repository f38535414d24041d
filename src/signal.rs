//! Signals, as calls of the loop. Needs the feature `signal`.
//!
//! A signal handler may do next to nothing. So a thread waits for the signals, and
//! [posts](crate::Remote) them to the loop: what is called here is ordinary code between two
//! callbacks, which may use any handle of the loop's.
//!
//! ```no_run
//! use std::{cell::Cell, rc::Rc, time::Duration};
//!
//! # fn main() -> asynchat::Result {
//! asynchat::listen("127.0.0.1:7007", |chat| move |line: &[u8]| {
//!     chat.push_slice(line);
//!     chat.push("\r\n");
//!     Ok(())
//! })?;
//! asynchat::signal::shutdown_on_ctrl_c(Duration::from_secs(5))?;
//! # #[cfg(unix)]
//! asynchat::signal::on(asynchat::signal::SIGHUP, || println!("reading the configuration again"))?;
//! asynchat::run()
//! # }
//! ```
//!
//! What is asked for lasts as long as its loop, and does not keep [`run`](crate::run) going. While the
//! loop does not run, signals wait for it. Signals are one for the process: with several loops, each
//! that asked for one is told of it. Once a signal has been asked for, what it did by default it does
//! not do any more, to the end of the process, not even when the loop is gone.
//!
//! On Windows there are `SIGINT` (Ctrl-C), `SIGBREAK` (Ctrl-Break) and `SIGTERM`, noticed within a
//! tenth of a second.

#[cfg_attr(windows, path = "signal/windows.rs")]
#[cfg_attr(not(windows), path = "signal/unix.rs")]
mod watch;

use std::cell::{OnceCell, RefCell};
use std::time::Duration;

use signal_hook::consts::FORBIDDEN;
#[cfg(windows)]
pub use signal_hook::consts::SIGBREAK;
#[cfg(not(windows))]
pub use signal_hook::consts::{
    SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2,
    SIGWINCH,
};
pub use signal_hook::consts::{SIGINT, SIGTERM};

use crate::EventLoop;
use crate::error::{Error, Result};
use crate::runtime::Runtime;
use crate::runtime::remote::Remote;
use crate::user_code::{contain, discard_each};
use watch::Watch;

/// Shuts this thread's loop down when the program is told to end, by Ctrl-C (`SIGINT`) or by
/// `SIGTERM`: [`shutdown`](crate::shutdown) with this grace. The second time, at once: connections
/// that are left are aborted.
///
/// # Errors
/// As [`on`].
pub fn shutdown_on_ctrl_c(grace: Duration) -> Result {
    EventLoop::current()?.shutdown_on_ctrl_c(grace)
}

/// Has this thread's loop call `call` when the process gets this signal. Called again for the same
/// signal it adds another call, made after those before it. Signals that come faster than the loop
/// turns may be told as one. A panic is logged, and ends nothing.
///
/// ```
/// # #[cfg(unix)]
/// # fn main() -> asynchat::Result {
/// use asynchat::signal::{self, SIGUSR1};
/// signal::on(SIGUSR1, || println!("{:?}", asynchat::EventLoop::current()))?;
/// # Ok(()) }
/// # #[cfg(not(unix))]
/// # fn main() {}
/// ```
///
/// # Errors
/// When the system has no such signal, or none that may be asked for (`SIGKILL`, `SIGSTOP`, `SIGILL`,
/// `SIGFPE`, `SIGSEGV`), and when there is no thread or descriptor left for it.
pub fn on(signal: i32, call: impl FnMut() + 'static) -> Result {
    EventLoop::current()?.on_signal(signal, call)
}

/// Beyond the numbers of all systems' signals; signal-hook panics at one that is not under it.
const SIGNALS: i32 = 128;

type Call = Box<dyn FnMut()>;

/// The signals that a loop has asked for.
#[derive(Default)]
pub(crate) struct Signals {
    watch: OnceCell<Watch>,
    /// Never removed from. A call is absent while it is made.
    calls: RefCell<Vec<(i32, Option<Call>)>>,
}

impl Signals {
    fn on(&self, remote: Remote, signal: i32, call: Call) -> Result {
        let context = |error: Error| error.context(format_args!("watch for signal {signal}"));
        if !(1..SIGNALS).contains(&signal) || FORBIDDEN.contains(&signal) {
            return Err(context(Error::new("it is not one that can be asked for")));
        }
        let watch = match self.watch.get() {
            Some(watch) => watch,
            None => {
                let watch = Watch::new(remote).map_err(|error| context(error.into()))?;
                self.watch.get_or_init(|| watch)
            }
        };
        watch.add(signal).map_err(|error| context(error.into()))?;
        self.calls.borrow_mut().push((signal, Some(call)));
        Ok(())
    }

    /// Drops the calls: the loop is gone.
    pub(crate) fn drop_calls(&self) {
        discard_each(self.calls.take());
    }

    /// The process has got this signal.
    fn tell(&self, signal: i32) {
        let count = self.calls.borrow().len();
        for index in 0..count {
            let take = |(of, call): &mut (i32, Option<Call>)| match *of == signal {
                true => call.take(),
                false => None,
            };
            let call = self.calls.borrow_mut().get_mut(index).and_then(take);
            let Some(mut call) = call else { continue };
            contain(&mut call);
            if let Some((_, place)) = self.calls.borrow_mut().get_mut(index) {
                *place = Some(call);
            }
        }
    }
}

impl EventLoop {
    /// As [`signal::on`](on), on this loop. Needs the feature `signal`.
    ///
    /// # Errors
    /// As [`signal::on`](on).
    #[cfg_attr(docsrs, doc(cfg(feature = "signal")))]
    pub fn on_signal(&self, signal: i32, call: impl FnMut() + 'static) -> Result {
        self.0.signals.on(self.remote(), signal, Box::new(call))
    }

    /// As [`signal::shutdown_on_ctrl_c`](shutdown_on_ctrl_c), on this loop. Needs the feature
    /// `signal`.
    ///
    /// # Errors
    /// As [`signal::on`](on).
    #[cfg_attr(docsrs, doc(cfg(feature = "signal")))]
    pub fn shutdown_on_ctrl_c(&self, grace: Duration) -> Result {
        for signal in [SIGINT, SIGTERM] {
            self.on_signal(signal, move || {
                // The loop that makes the call is the current one.
                if let Ok(event_loop) = EventLoop::current() {
                    let second = event_loop.0.is_shutting_down();
                    event_loop.shutdown(if second { Duration::ZERO } else { grace });
                }
            })?;
        }
        Ok(())
    }
}

/// Tells a loop of a signal, from the thread that waits for them. False if the loop is gone.
fn post(remote: &Remote, signal: i32) -> bool {
    let tell = move |runtime: &std::rc::Rc<Runtime>| runtime.signals.tell(signal);
    remote.send(Box::new(tell)).is_ok()
}

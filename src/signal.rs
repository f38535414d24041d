//! Runs code on the loop when the process receives a signal. Needs the feature `signal`.
//!
//! A signal handler may do next to nothing. So a thread waits for the signals, and
//! [posts](crate::Remote) them to the loop. The code runs between two callbacks, and may use every
//! handle of the loop.
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
//! A call stays registered as long as its loop exists, and does not keep [`run`](crate::run) running.
//! Signals that arrive while the loop does not run wait for its next turn.
//!
//! Signals belong to the process. If several loops have registered a call for a signal, each of them
//! runs its own. Once a call was registered for a signal, the signal's default action is disabled until
//! the process ends, even when the loop is gone.
//!
//! On Windows the signals are `SIGINT` (Ctrl-C), `SIGBREAK` (Ctrl-Break) and `SIGTERM`. They are
//! noticed within a tenth of a second.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
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
use crate::sys::signals::SignalThread;
use crate::user_code::{contain, discard_each};

/// [Shuts down](crate::shutdown) this thread's loop, with this grace, when the process receives
/// `SIGINT` (Ctrl-C) or `SIGTERM`. A second such signal ends the grace: the remaining connections are
/// aborted at once.
///
/// # Errors
/// Those of [`on`].
pub fn shutdown_on_ctrl_c(grace: Duration) -> Result {
    EventLoop::current()?.shutdown_on_ctrl_c(grace)
}

/// Has this thread's loop run `call` each time the process receives this signal.
///
/// A signal may have several calls, which run in the order of their registration. Signals that arrive
/// faster than the loop turns may be merged into one. A panic of `call` is logged, and ends nothing.
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
/// When the system has no such signal, when the signal cannot be handled (`SIGKILL`, `SIGSTOP`,
/// `SIGILL`, `SIGFPE`, `SIGSEGV`), and when the system has no thread or descriptor left.
pub fn on(signal: i32, call: impl FnMut() + 'static) -> Result {
    EventLoop::current()?.on_signal(signal, call)
}

/// Signal numbers are below this on all systems. signal-hook panics at higher numbers.
const SIGNALS: i32 = 128;

type Call = Box<dyn FnMut()>;

/// The signals of a loop, and their calls.
#[derive(Default)]
pub(crate) struct Signals {
    thread: OnceCell<SignalThread>,
    /// In the order of their registration. No entry is ever removed. A call is absent while it runs.
    calls: RefCell<Vec<(i32, Option<Call>)>>,
}

impl Signals {
    fn on(&self, remote: Remote, signal: i32, call: Call) -> Result {
        let context = |error: Error| error.context(format_args!("wait for signal {signal}"));
        if !(1..SIGNALS).contains(&signal) || FORBIDDEN.contains(&signal) {
            return Err(context(Error::new("this signal cannot be handled")));
        }
        let thread = match self.thread.get() {
            Some(thread) => thread,
            None => {
                let deliver = move |signal| post(&remote, signal);
                let thread = SignalThread::start(deliver).map_err(|error| context(error.into()))?;
                self.thread.get_or_init(|| thread)
            }
        };
        thread.add(signal).map_err(|error| context(error.into()))?;
        self.calls.borrow_mut().push((signal, Some(call)));
        Ok(())
    }

    /// Drops the calls, because the loop is gone.
    pub(crate) fn drop_calls(&self) {
        discard_each(self.calls.take());
    }

    /// Runs the calls for this signal.
    fn run_calls(&self, signal: i32) {
        let count = self.calls.borrow().len();
        for index in 0..count {
            let take = |(number, call): &mut (i32, Option<Call>)| match *number == signal {
                true => call.take(),
                false => None,
            };
            let call = self.calls.borrow_mut().get_mut(index).and_then(take);
            let Some(mut call) = call else { continue };
            contain(&mut call);
            if let Some((_, slot)) = self.calls.borrow_mut().get_mut(index) {
                *slot = Some(call);
            }
        }
    }
}

impl EventLoop {
    /// Has this loop run `call` each time the process receives this signal: see
    /// [`signal::on`](on). Needs the feature `signal`.
    ///
    /// # Errors
    /// Those of [`signal::on`](on).
    #[cfg_attr(docsrs, doc(cfg(feature = "signal")))]
    pub fn on_signal(&self, signal: i32, call: impl FnMut() + 'static) -> Result {
        self.0.signals.on(self.remote(), signal, Box::new(call))
    }

    /// Shuts this loop down when the process receives `SIGINT` (Ctrl-C) or `SIGTERM`: see
    /// [`signal::shutdown_on_ctrl_c`](shutdown_on_ctrl_c). Needs the feature `signal`.
    ///
    /// # Errors
    /// Those of [`signal::on`](on).
    #[cfg_attr(docsrs, doc(cfg(feature = "signal")))]
    pub fn shutdown_on_ctrl_c(&self, grace: Duration) -> Result {
        for signal in [SIGINT, SIGTERM] {
            self.on_signal(signal, move || {
                // The current loop is the one that runs the call.
                if let Ok(event_loop) = EventLoop::current() {
                    let second = event_loop.0.is_shutting_down();
                    event_loop.shutdown(if second { Duration::ZERO } else { grace });
                }
            })?;
        }
        Ok(())
    }
}

/// Posts a signal to its loop, from the thread that waits for signals. False if the loop is gone.
fn post(remote: &Remote, signal: i32) -> bool {
    let run_calls = move |runtime: &Rc<Runtime>| runtime.signals.run_calls(signal);
    remote.send(Box::new(run_calls)).is_ok()
}

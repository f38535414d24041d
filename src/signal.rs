//! Runs code on the loop when the process receives a signal. Needs the feature `signal`.
//!
//! A signal handler may call few functions (signal-safety(7)). Therefore a thread waits for the signals, and
//! [posts](crate::Remote) them to the loop. The code runs between two callbacks, and may use every
//! handle of the loop.
//!
//! ```no_run
//! use std::time::Duration;
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
//! asynchat::run()?;
//! Ok(())
//! # }
//! ```
//!
//! A call stays registered until it is [cancelled](cancel) or its loop ends, and does not keep
//! [`run`](crate::run) running. Signals that arrive while the loop does not run wait for its next turn.
//!
//! Signals belong to the process. If several loops have registered a call for a signal, each of them
//! runs its own. Once a call was registered for a signal, the signal's default action is disabled until
//! the process ends, even when the call is cancelled or the loop is gone.
//!
//! On Windows the signals are `SIGINT` (Ctrl-C), `SIGBREAK` (Ctrl-Break) and `SIGTERM`. They are
//! noticed within a tenth of a second.

use std::time::Duration;

#[cfg(windows)]
pub use signal_hook::consts::SIGBREAK;
#[cfg(not(windows))]
pub use signal_hook::consts::{
    SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2,
    SIGWINCH, SIGXFSZ,
};
pub use signal_hook::consts::{SIGINT, SIGTERM};

use crate::error::{Error, Result};
pub use crate::runtime::signals::SignalId;
use crate::{EventLoop, Worker};

/// [Shuts down](crate::shutdown) this thread's loop, with this grace, when the process receives
/// `SIGINT` (Ctrl-C) or `SIGTERM`, on Windows also `SIGBREAK` (Ctrl-Break). If the loop is already shutting down
/// when such a signal arrives, also because of a call of [`shutdown`](crate::shutdown), the signal ends the grace:
/// the remaining connections are aborted at once. So register this once for a loop, and with
/// [`Workers`](crate::Workers) once for all of them, on the thread that starts them. The id is that of all these
/// signals.
///
/// # Errors
/// Those of [`on`]. On the thread of a [`Worker`]: each worker would take the signal, and the second to do so would take it
/// for a second one.
pub fn shutdown_on_ctrl_c(grace: Duration) -> Result<SignalId, Error> {
    EventLoop::current()?.shutdown_on_ctrl_c(grace)
}

/// Registers `call` with this thread's loop, which runs it each time the process receives this signal, until it
/// is [cancelled](cancel).
///
/// A signal may have several calls, which run in the order of their registration. Signals that arrive
/// faster than the loop turns may be merged into one. A panic of `call` is logged, and ends nothing.
///
/// ```
/// # #[cfg(unix)]
/// # fn main() -> asynchat::Result {
/// use asynchat::signal::{self, SIGUSR1};
/// let status = signal::on(SIGUSR1, || println!("{:?}", asynchat::EventLoop::current()))?;
/// assert!(signal::cancel(status));
/// assert!(!signal::cancel(status)); // it is not registered any more
/// # Ok(()) }
/// # #[cfg(not(unix))]
/// # fn main() {}
/// ```
///
/// # Errors
/// When the system has no such signal, when the signal cannot be handled (`SIGKILL`, `SIGSTOP`,
/// `SIGILL`, `SIGFPE`, `SIGSEGV`), and when the system has no thread or descriptor left.
pub fn on(signal: i32, call: impl FnMut() + 'static) -> Result<SignalId, Error> {
    EventLoop::current()?.on_signal(signal, call)
}

/// Cancels a call that was registered with this thread's loop. Returns whether it was registered: false if it was
/// cancelled before or belongs to another loop. A call may cancel itself. A call of a signal that the loop is
/// delivering is not made any more.
///
/// The signal's default action stays disabled: without a call the signal has no effect.
pub fn cancel(id: SignalId) -> bool {
    EventLoop::current().is_ok_and(|event_loop| event_loop.cancel_signal(id))
}

impl EventLoop {
    /// Registers `call` with this loop, which runs it each time the process receives this signal: see
    /// [`signal::on`](on). Needs the feature `signal`.
    ///
    /// # Errors
    /// Those of [`signal::on`](on).
    #[cfg_attr(docsrs, doc(cfg(feature = "signal")))]
    pub fn on_signal(&self, signal: i32, call: impl FnMut() + 'static) -> Result<SignalId, Error> {
        let inbox = &self.0.agenda.inbox;
        self.0.signals.on(inbox, &[signal], Box::new(call))
    }

    /// Cancels a call that was registered with this loop: see [`signal::cancel`](cancel). Needs the feature
    /// `signal`.
    #[cfg_attr(docsrs, doc(cfg(feature = "signal")))]
    pub fn cancel_signal(&self, id: SignalId) -> bool {
        self.0.signals.cancel(&self.0.agenda, id)
    }

    /// Shuts this loop down when the process receives `SIGINT` (Ctrl-C) or `SIGTERM`: see
    /// [`signal::shutdown_on_ctrl_c`](shutdown_on_ctrl_c). Needs the feature `signal`.
    ///
    /// # Errors
    /// Those of [`signal::shutdown_on_ctrl_c`](shutdown_on_ctrl_c).
    #[cfg_attr(docsrs, doc(cfg(feature = "signal")))]
    pub fn shutdown_on_ctrl_c(&self, grace: Duration) -> Result<SignalId, Error> {
        if Worker::current().is_some() {
            return Err(Error::new(
                "shutdown_on_ctrl_c: a worker cannot register this, but the thread that starts the workers, for all of them",
            ));
        }
        let shut_down = move || {
            // The current loop is the one that runs the call.
            if let Ok(event_loop) = EventLoop::current() {
                let grace = if event_loop.0.agenda.is_shutting_down() {
                    Duration::ZERO
                } else {
                    grace
                };
                event_loop.shutdown(grace);
            }
        };
        let inbox = &self.0.agenda.inbox;
        self.0.signals.on(inbox, OF_A_SHUTDOWN, Box::new(shut_down))
    }
}

/// Those that ask a program to end.
const OF_A_SHUTDOWN: &[i32] = &[
    SIGINT,
    SIGTERM,
    #[cfg(windows)]
    SIGBREAK,
];

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use signal_hook::low_level::raise;

    use super::*;

    /// Under Windows the other tests of signals do not run, because it cannot send a signal to a process.
    #[test]
    fn each_signal_of_a_shutdown_shuts_the_loop_down() {
        for &signal in OF_A_SHUTDOWN {
            let event_loop = EventLoop::new().unwrap();
            let listener = event_loop
                .listen("127.0.0.1:0", |_| |_: &[u8]| Ok(()))
                .unwrap();
            event_loop.shutdown_on_ctrl_c(Duration::ZERO).unwrap();
            raise(signal).unwrap();
            let deadline = Instant::now() + Duration::from_secs(60);
            while listener.is_open() {
                assert!(Instant::now() < deadline, "signal {signal}");
                event_loop.run_once(Duration::from_millis(100)).unwrap();
            }
        }
    }
}

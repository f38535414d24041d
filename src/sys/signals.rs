//! The thread that waits for signals, on behalf of one loop.
//!
//! A signal handler may do next to nothing. So the handlers here only note the signal, and a thread
//! passes it on.

#[cfg_attr(windows, path = "signals/windows.rs")]
#[cfg_attr(not(windows), path = "signals/unix.rs")]
mod platform;

use std::io;

use signal_hook::consts::FORBIDDEN;

pub(crate) use platform::SignalThread;

/// Signal numbers are below this on all systems. signal-hook panics at higher numbers.
const SIGNALS: i32 = 128;

/// # Errors
/// `InvalidInput` when the signal cannot be handled: its number is out of range, or it is one of
/// `SIGKILL`, `SIGSTOP`, `SIGILL`, `SIGFPE` and `SIGSEGV`.
pub(crate) fn check_signal(signal: i32) -> io::Result<()> {
    match (1..SIGNALS).contains(&signal) && !FORBIDDEN.contains(&signal) {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "this signal cannot be handled",
        )),
    }
}

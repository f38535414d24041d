//! The thread that waits for signals, on behalf of one loop.
//!
//! A signal handler may do next to nothing. So the handlers here only note the signal, and a thread
//! passes it on.

#[cfg_attr(windows, path = "signals/windows.rs")]
#[cfg_attr(not(windows), path = "signals/unix.rs")]
mod platform;

pub(crate) use platform::SignalThread;

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
    if (1..SIGNALS).contains(&signal) && !FORBIDDEN.contains(&signal) {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "this signal cannot be handled",
        ))
    }
}

/// The tests run it on all systems.
#[cfg(all(test, not(windows)))]
#[path = "signals/windows.rs"]
mod windows;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use signal_hook::low_level::raise;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(60);

    #[cfg(windows)]
    const RAISED: [i32; 3] = {
        use signal_hook::consts::{SIGBREAK, SIGINT, SIGTERM};
        [SIGINT, SIGTERM, SIGBREAK]
    };
    #[cfg(not(windows))]
    const RAISED: [i32; 2] = {
        use signal_hook::consts::{SIGUSR1, SIGUSR2};
        [SIGUSR1, SIGUSR2]
    };

    macro_rules! assert_delivers {
        ($thread:ty) => {{
            let (sender, delivered) = mpsc::channel();
            let deliver = move |signal| sender.send(signal).is_ok();
            let thread = <$thread>::start(deliver).unwrap();
            for signal in RAISED {
                thread.add(signal).unwrap();
                thread.add(signal).unwrap();
                raise(signal).unwrap();
                // The other test may have raised one, too.
                while delivered.recv_timeout(DEADLINE).unwrap() != signal {}
            }
        }};
    }

    #[test]
    fn each_signal_is_delivered() {
        assert_delivers!(SignalThread);
    }

    #[cfg(not(windows))]
    #[test]
    fn each_signal_is_delivered_on_windows() {
        assert_delivers!(windows::SignalThread);
    }
}

//! Signals. Ctrl-C and SIGTERM end a server. SIGHUP, which the system sends when a terminal is closed, does not: servers
//! read files again at it.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[cfg(windows)]
use asynchat::signal::SIGBREAK;
use asynchat::signal::{self, SIGINT, SIGTERM};
use asynchat::{EventLoop, Result};

use super::say;

/// The signals that end a program, as `asynchat::signal::shutdown_on_ctrl_c` has them.
pub(crate) const ENDING: &[i32] = &[
    SIGINT,
    SIGTERM,
    #[cfg(windows)]
    SIGBREAK,
];

/// What the help of a program that reads nothing again says about signals.
pub(crate) const HELP: &str =
    "Ctrl-C (SIGINT) and SIGTERM end the program, a second signal at once. SIGHUP does nothing.";

/// Whether a signal has asked for the end of the program.
static HAS_ENDED: AtomicBool = AtomicBool::new(false);

/// Runs this thread's loop until it is shut down by a signal. Anything else that ends it, such as a listener that the system
/// has closed, is an error: a supervisor starts the program again.
pub(crate) fn run_until_signal() -> Result {
    asynchat::run()?;
    if HAS_ENDED.load(Ordering::Relaxed) {
        Ok(())
    } else {
        Err("the server has ended by itself: its log has the reason".into())
    }
}

/// Shuts this thread's loop down at Ctrl-C and SIGTERM. Connections get the time `grace` to receive their queued
/// output. A second signal aborts them at once. SIGHUP does nothing.
pub(crate) fn shutdown_on_ctrl_c(grace: Duration) -> Result {
    shutdown_loop_on_ctrl_c(&EventLoop::current()?, grace)
}

/// Shuts a loop down, as [`shutdown_on_ctrl_c`] does with that of this thread.
pub(crate) fn shutdown_loop_on_ctrl_c(event_loop: &EventLoop, grace: Duration) -> Result {
    note_end(event_loop)?;
    event_loop.shutdown_on_ctrl_c(grace)?;
    ignore_sighup(event_loop)
}

/// The same on this thread's loop. SIGHUP is left to [`ignore_sighup_unless`].
pub(crate) fn shutdown_but_not_at_sighup(grace: Duration) -> Result {
    note_end(&EventLoop::current()?)?;
    signal::shutdown_on_ctrl_c(grace)?;
    Ok(())
}

/// For [`run_until_signal`].
fn note_end(event_loop: &EventLoop) -> Result {
    for &number in ENDING {
        event_loop.on_signal(number, || HAS_ENDED.store(true, Ordering::Relaxed))?;
    }
    Ok(())
}

/// Shuts this thread's loop down at Ctrl-C and SIGTERM, and says how much is under way then. `name` is what `count`
/// counts. SIGHUP is left to [`ignore_sighup_unless`].
pub(crate) fn shutdown_with_report(
    grace: Duration,
    name: &'static str,
    count: impl Fn() -> usize + 'static,
) -> Result {
    let (received, count) = (Rc::new(Cell::new(0_u32)), Rc::new(count));
    for &number in ENDING {
        let (received, count) = (Rc::clone(&received), Rc::clone(&count));
        // This call is registered before the shutdown, so it counts before anything is cut.
        signal::on(number, move || {
            received.set(received.get() + 1);
            if let Some(text) = report(name, count(), grace, received.get()) {
                say(text);
            }
        })?;
    }
    shutdown_but_not_at_sighup(grace)
}

/// What a program says at the first signal, and at the second one, which cuts what is left.
fn report(name: &str, count: usize, grace: Duration, received: u32) -> Option<String> {
    let (these, them) = match count {
        1 => (format!("1 {name}"), "it"),
        many => (format!("{many} {name}s"), "them"),
    };
    let text = match (received, count) {
        (1, 0) => format!("no {name} is under way"),
        (1, _) if grace.is_zero() => format!("{these} cut"),
        (1, _) => {
            let seconds = grace.as_secs();
            format!("{these} may go on for {seconds} s, Ctrl-C again cuts {them}")
        }
        (2, 1..) => format!("{these} cut"),
        _ => return None,
    };
    Some(format!("shutting down: {text}"))
}

/// If the program has no call for SIGHUP, makes it do nothing on this thread's loop.
pub(crate) fn ignore_sighup_unless(has_call: bool) -> Result {
    if has_call {
        Ok(())
    } else {
        ignore_sighup(&EventLoop::current()?)
    }
}

/// By default SIGHUP would end the process, unless it was started with `nohup`.
#[cfg(unix)]
fn ignore_sighup(event_loop: &EventLoop) -> Result {
    event_loop.on_signal(signal::SIGHUP, || {
        tracing::info!("SIGHUP: there is nothing to read again");
    })?;
    Ok(())
}

/// Windows has no SIGHUP.
#[cfg(not(unix))]
fn ignore_sighup(_: &EventLoop) -> Result {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its listener has failed, for example. A supervisor does not start a program again that has ended without an error.
    #[test]
    fn a_loop_that_ends_without_a_signal_is_an_error() {
        assert!(run_until_signal().is_err());
    }

    #[test]
    fn only_the_first_two_signals_print_a_line() {
        let said = |count, grace| {
            [1, 2, 3].map(|received| report("thing", count, Duration::from_secs(grace), received))
        };
        let line = |text: &str| Some(format!("shutting down: {text}"));
        assert_eq!(said(0, 5), [line("no thing is under way"), None, None]);
        let first = line("2 things may go on for 5 s, Ctrl-C again cuts them");
        assert_eq!(said(2, 5), [first, line("2 things cut"), None]);
        let first = line("1 thing may go on for 5 s, Ctrl-C again cuts it");
        assert_eq!(said(1, 5), [first, line("1 thing cut"), None]);
        assert_eq!(said(1, 0)[0], line("1 thing cut"));
    }
}

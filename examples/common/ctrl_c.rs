//! Shutdown by Ctrl-C.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use asynchat::{Remote, Result};

/// Shuts this thread's loop down at Ctrl-C, SIGTERM or SIGHUP. Connections get the time `grace` to receive
/// their queued output. A second signal aborts them at once.
///
/// `asynchat::signal::shutdown_on_ctrl_c` does the same at Ctrl-C and SIGTERM.
pub(crate) fn shutdown_on_ctrl_c(grace: Duration) -> Result {
    shutdown_all_on_ctrl_c(vec![asynchat::remote()?], grace)
}

/// Shuts several loops down, as [`shutdown_on_ctrl_c`] does with one.
pub(crate) fn shutdown_all_on_ctrl_c(remotes: Vec<Remote>, grace: Duration) -> Result {
    let second = AtomicBool::new(false);
    ctrlc::set_handler(move || {
        let grace = match second.swap(true, Ordering::Relaxed) {
            true => Duration::ZERO,
            false => grace,
        };
        for remote in &remotes {
            // `shutdown` fails only if the loop has already ended.
            let _ = remote.shutdown(grace);
        }
    })?;
    Ok(())
}

//! The end of a program by Ctrl-C.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use asynchat::{Remote, Result};

/// Shuts this thread's loop down at Ctrl-C, SIGTERM or SIGHUP. Connections have the grace to take what
/// is queued for them; the second time they are aborted at once.
///
/// `asynchat::signal::shutdown_on_ctrl_c` does the same at Ctrl-C and SIGTERM.
pub(crate) fn shutdown_on_ctrl_c(grace: Duration) -> Result {
    shutdown_all_on_ctrl_c(vec![asynchat::remote()?], grace)
}

/// The same for these loops.
pub(crate) fn shutdown_all_on_ctrl_c(remotes: Vec<Remote>, grace: Duration) -> Result {
    let second = AtomicBool::new(false);
    ctrlc::set_handler(move || {
        let grace = match second.swap(true, Ordering::Relaxed) {
            true => Duration::ZERO,
            false => grace,
        };
        for remote in &remotes {
            // An error means that this loop has ended already.
            let _ = remote.shutdown(grace);
        }
    })?;
    Ok(())
}

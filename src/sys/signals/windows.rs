//! Signals on Windows: a handler raises a flag, at which the thread looks ten times a second. There
//! is no pipe that a handler could write to in safe code.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Each signal that is waited for, with its flag.
type Flags = Mutex<Vec<(i32, Arc<AtomicBool>)>>;

/// A thread that waits for signals. It ends when this is dropped.
pub(crate) struct SignalThread(Arc<Flags>);

impl SignalThread {
    /// Starts the thread. It calls `deliver` for each signal, and ends when that returns false.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(crate) fn start(deliver: impl Fn(i32) -> bool + Send + 'static) -> io::Result<Self> {
        let flags: Arc<Flags> = Arc::default();
        let polled = Arc::downgrade(&flags);
        thread::Builder::new()
            .name("asynchat-signals".to_owned())
            .spawn(move || poll(&polled, deliver))?;
        Ok(SignalThread(flags))
    }

    /// Waits for this signal too.
    ///
    /// # Errors
    /// When the system has no such signal.
    pub(crate) fn add(&self, signal: i32) -> io::Result<()> {
        let mut flags = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if flags.iter().any(|(known, _)| *known == signal) {
            return Ok(());
        }
        let flag = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
        flags.push((signal, flag));
        Ok(())
    }
}

fn poll(flags: &Weak<Flags>, deliver: impl Fn(i32) -> bool) {
    while let Some(flags) = flags.upgrade() {
        let flags = flags.lock().unwrap_or_else(PoisonError::into_inner);
        let raised = flags
            .iter()
            .filter(|(_, flag)| flag.swap(false, Ordering::AcqRel));
        for (signal, _) in raised {
            if !deliver(*signal) {
                return;
            }
        }
        drop(flags);
        thread::sleep(POLL_INTERVAL);
    }
}

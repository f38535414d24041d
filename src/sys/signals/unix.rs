//! Signals on Unix: a handler writes them to a pipe, from which the thread reads.

use std::io;
use std::thread;

use signal_hook::iterator::{Handle, Signals};

/// A thread that waits for signals. It ends when this is dropped.
pub(crate) struct SignalThread(Handle);

impl SignalThread {
    /// Starts the thread. It calls `deliver` for each signal, and ends when that returns false.
    ///
    /// # Errors
    /// When the system has no thread or no descriptor left.
    pub(crate) fn start(deliver: impl Fn(i32) -> bool + Send + 'static) -> io::Result<Self> {
        let mut signals = Signals::new([0; 0])?;
        let handle = signals.handle();
        thread::Builder::new()
            .name("asynchat-signals".to_owned())
            .spawn(move || {
                let _ = signals.forever().all(deliver);
            })?;
        Ok(SignalThread(handle))
    }

    /// Waits for this signal too.
    ///
    /// # Errors
    /// When the system has no such signal.
    pub(crate) fn add(&self, signal: i32) -> io::Result<()> {
        self.0.add_signal(signal)
    }
}

impl Drop for SignalThread {
    fn drop(&mut self) {
        self.0.close();
    }
}

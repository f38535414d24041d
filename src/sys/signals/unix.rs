//! Signals on Unix: a handler notes them and wakes the thread through a pair of sockets.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use signal_hook::iterator::Handle;
use signal_hook::iterator::backend::{PollResult, SignalDelivery, SignalIterator};
use signal_hook::iterator::exfiltrator::SignalOnly;

/// The pause after an error of the thread's socket. None is known. signal-hook's own iterator panics at one, and then no
/// signal would be noticed any more.
const PAUSE: Duration = Duration::from_millis(10);

/// A thread that waits for signals. It ends when this is dropped.
pub(crate) struct SignalThread(Handle);

impl SignalThread {
    /// Starts the thread. It calls `deliver` for each signal, and ends when that returns false.
    ///
    /// # Errors
    /// When the system has no thread or no descriptor left.
    pub(crate) fn start(deliver: impl Fn(i32) -> bool + Send + 'static) -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        let signals = SignalDelivery::with_pipe(reader, writer, SignalOnly, [0; 0])?;
        let handle = signals.handle();
        let mut signals = SignalIterator::new(signals);
        thread::Builder::new()
            .name("asynchat-signals".to_owned())
            .spawn(move || {
                loop {
                    match signals.poll_signal(&mut is_woken) {
                        PollResult::Signal(signal) if !deliver(signal) => return,
                        PollResult::Signal(_) | PollResult::Pending => {}
                        PollResult::Closed => return,
                        PollResult::Err(_) => thread::sleep(PAUSE),
                    }
                }
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

/// Waits until a handler has written. False at the end, when the handle is closed.
fn is_woken(reader: &mut UnixStream) -> io::Result<bool> {
    loop {
        match reader.read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome.map(|count| count > 0),
        }
    }
}

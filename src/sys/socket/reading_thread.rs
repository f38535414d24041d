//! A thread that reads what no poller can wait for, and passes it on through a pair of sockets.
//!
//! The memory that takes is bounded by the pair's buffers and the thread's own, for the thread blocks while the
//! pair is full.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// How many bytes the thread reads at a time.
const BUFFER: usize = 64 * 1024;

/// Why the thread stopped before the end of its input, if it did.
#[derive(Default)]
pub(crate) struct Failure(Arc<Mutex<Option<io::Error>>>);

impl Failure {
    /// The error, if the outcome of a read is the end of what the thread has passed on.
    pub(super) fn at_end(&self, outcome: &io::Result<usize>) -> Option<io::Error> {
        match outcome {
            Ok(0) => self.0.lock().unwrap_or_else(PoisonError::into_inner).take(),
            _ => None,
        }
    }
}

/// Starts the thread. It ends with its input, or at its next read after nobody reads from the other socket of the
/// pair any more.
///
/// # Errors
/// When the system has no thread left.
pub(super) fn read_on_thread(
    mut input: impl Read + Send + 'static,
    mut socket: impl Write + Send + 'static,
) -> io::Result<Failure> {
    let failure = Failure::default();
    let shared = Arc::clone(&failure.0);
    thread::Builder::new()
        .name("asynchat-stdin".to_owned())
        .spawn(move || {
            if let Err(error) = copy(&mut input, &mut socket) {
                *shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
            // The failure is stored before the end of the stream can be read.
            drop(socket);
        })?;
    Ok(failure)
}

/// # Errors
/// When the input cannot be read. A failed write is no error: nobody wants the data any more.
fn copy(input: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let chunk = buffer.get(..count).unwrap_or_default();
        if to.write_all(chunk).is_err() {
            return Ok(());
        }
    }
}

//! Standard input and output, which this process shares with others.
//!
//! The process that started this one has the same open files, and goes on to use them. So their mode is
//! restored when they are dropped: a shell may fail to read from a terminal that is left non-blocking.
//!
//! Standard input may be a file that no poller can wait for (a regular file, `/dev/null`). A thread
//! then reads the file and writes it to a pair of sockets. The memory that takes is bounded by the
//! pair's buffers and the thread's own, for the thread blocks while the pair is full.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use socket2::SockRef;

/// How many bytes the thread reads at a time.
const BUFFER: usize = 64 * 1024;

/// Standard input or output.
pub(crate) struct StandardStream {
    /// The stream, or the socket from which the thread's data comes.
    pub(super) fd: OwnedFd,
    name: &'static str,
    /// Whether to make it blocking again at the end.
    was_blocking: bool,
    /// Why the thread stopped before the end of the file, if it did.
    failure: Failure,
}

type Failure = Arc<Mutex<Option<io::Error>>>;

impl StandardStream {
    /// # Errors
    /// When it cannot be made non-blocking, or the system has no thread or socket left.
    pub(super) fn input(fd: OwnedFd) -> io::Result<Self> {
        let name = "standard input";
        let file = File::from(fd);
        if can_be_polled(&file) {
            return StandardStream::new(file.into(), name).map_err(|error| named(name, &error));
        }
        let failure = Failure::default();
        let copied = read_on_thread(file, Arc::clone(&failure));
        let mut input = copied
            .and_then(|socket| StandardStream::new(socket.into(), name))
            .map_err(|error| named(name, &error))?;
        input.failure = failure;
        Ok(input)
    }

    /// Output needs no thread: a file that cannot be polled takes all data at once, or fails.
    ///
    /// # Errors
    /// When it cannot be made non-blocking.
    pub(super) fn output(fd: OwnedFd) -> io::Result<Self> {
        let name = "standard output";
        StandardStream::new(fd, name).map_err(|error| named(name, &error))
    }

    /// If input and output are the same open file, the first of them restores the mode: the second
    /// finds it non-blocking already.
    fn new(fd: OwnedFd, name: &'static str) -> io::Result<Self> {
        let was_blocking = {
            let view = SockRef::from(&fd);
            let was_blocking = !view.nonblocking()?;
            view.set_nonblocking(true)?;
            was_blocking
        };
        Ok(StandardStream {
            fd,
            name,
            was_blocking,
            failure: Failure::default(),
        })
    }

    /// The outcome of a read. When the thread has failed, its data ends with its error.
    pub(super) fn received(&self, outcome: io::Result<usize>) -> io::Result<usize> {
        match self.failure_at_end(&outcome) {
            Some(error) => Err(named(self.name, &error)),
            None => self.name_error(outcome),
        }
    }

    fn failure_at_end(&self, outcome: &io::Result<usize>) -> Option<io::Error> {
        match outcome {
            Ok(0) => self
                .failure
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
            _ => None,
        }
    }

    /// Adds the name of the stream to an error.
    pub(super) fn name_error(&self, outcome: io::Result<usize>) -> io::Result<usize> {
        outcome.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => error,
            _ => named(self.name, &error),
        })
    }
}

impl Drop for StandardStream {
    fn drop(&mut self) {
        if self.was_blocking {
            // There is nobody to report a failure to: the descriptor is about to be closed.
            let _ = SockRef::from(&self.fd).set_nonblocking(false);
        }
    }
}

fn named(name: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{name}: {error}"))
}

/// Whether pollers can wait for it. Of the devices, only terminals and serial lines are taken: for
/// others it differs between systems.
pub(super) fn can_be_polled(file: &File) -> bool {
    let kind = file.metadata().map(|metadata| metadata.file_type());
    kind.is_ok_and(|kind| kind.is_fifo() || kind.is_socket()) || file.is_terminal()
}

/// Starts a thread that reads the file. Its data arrives at the returned socket.
fn read_on_thread(mut file: File, failure: Failure) -> io::Result<UnixStream> {
    let (socket, mut other) = UnixStream::pair()?;
    thread::Builder::new()
        .name("asynchat-stdin".to_owned())
        .spawn(move || {
            if let Err(error) = copy(&mut file, &mut other) {
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
            // The failure is stored before the end of the stream can be read.
            drop(other);
        })?;
    Ok(socket)
}

/// # Errors
/// When the file cannot be read. A failed write is no error: nobody wants the data any more.
fn copy(file: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match file.read(&mut buffer) {
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

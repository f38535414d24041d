//! Standard input and output, which this process shares with others.
//!
//! Whoever started it has the same open files, and goes on with them afterwards. So their mode is put
//! back when they are dropped: a shell whose terminal is left non-blocking may fail to read from it.
//!
//! Any file can be standard input, also one that no poller takes (a regular file, `/dev/null`): a thread
//! reads that, and what it reads comes through a pair of sockets. The pair and the thread's buffer are
//! all the memory that takes, for the thread waits when the pair is full.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use socket2::SockRef;

/// How much is read at a time from what cannot be waited for.
const BUFFER: usize = 64 * 1024;

/// One of the standard streams, or what stands for it.
pub(super) struct Standard {
    pub(super) fd: OwnedFd,
    name: &'static str,
    /// It was blocking, and is to be again.
    was_blocking: bool,
    /// Why the thread that reads it has ended, if not with the end of the file.
    failure: Failure,
}

type Failure = Arc<Mutex<Option<io::Error>>>;

impl Standard {
    /// # Errors
    /// When it cannot be made non-blocking, or there is no thread or pair to be had.
    pub(super) fn input(fd: OwnedFd) -> io::Result<Self> {
        let name = "standard input";
        let file = File::from(fd);
        if can_be_waited_for(&file) {
            return Standard::new(file.into(), name).map_err(|error| named(name, &error));
        }
        let failure = Failure::default();
        let copied = copied(file, Arc::clone(&failure));
        let mut input = copied
            .and_then(|near| Standard::new(near.into(), name))
            .map_err(|error| named(name, &error))?;
        input.failure = failure;
        Ok(input)
    }

    /// What cannot be waited for takes all that it is given, or fails.
    ///
    /// # Errors
    /// When it cannot be made non-blocking.
    pub(super) fn output(fd: OwnedFd) -> io::Result<Self> {
        let name = "standard output";
        Standard::new(fd, name).map_err(|error| named(name, &error))
    }

    /// Where input and output are the same open file, the first of them puts its mode back: the other
    /// finds it non-blocking already, and may be closed before.
    fn new(fd: OwnedFd, name: &'static str) -> io::Result<Self> {
        let was_blocking = {
            let view = SockRef::from(&fd);
            let was_blocking = !view.nonblocking()?;
            view.set_nonblocking(true)?;
            was_blocking
        };
        Ok(Standard {
            fd,
            name,
            was_blocking,
            failure: Failure::default(),
        })
    }

    /// The end of what a thread reads may be a failure of its.
    pub(super) fn received(&self, outcome: io::Result<usize>) -> io::Result<usize> {
        match self.failure_at(&outcome) {
            Some(error) => Err(named(self.name, &error)),
            None => self.named(outcome),
        }
    }

    fn failure_at(&self, outcome: &io::Result<usize>) -> Option<io::Error> {
        match outcome {
            Ok(0) => self
                .failure
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
            _ => None,
        }
    }

    /// Has an error say which stream has failed.
    pub(super) fn named(&self, outcome: io::Result<usize>) -> io::Result<usize> {
        use io::ErrorKind::{Interrupted, WouldBlock};
        outcome.map_err(|error| match error.kind() {
            Interrupted | WouldBlock => error,
            _ => named(self.name, &error),
        })
    }
}

impl Drop for Standard {
    fn drop(&mut self) {
        if self.was_blocking {
            // There is nobody to report a failure to: the file is about to be closed here.
            let _ = SockRef::from(&self.fd).set_nonblocking(false);
        }
    }
}

fn named(name: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{name}: {error}"))
}

/// Whether pollers take it. Of the devices those that are terminals, serial lines among them: others
/// differ from system to system.
pub(super) fn can_be_waited_for(file: &File) -> bool {
    let kind = file.metadata().map(|metadata| metadata.file_type());
    kind.is_ok_and(|kind| kind.is_fifo() || kind.is_socket()) || file.is_terminal()
}

/// Reads a file on a thread; what it reads comes from the socket.
fn copied(mut file: File, failure: Failure) -> io::Result<UnixStream> {
    let (near, mut far) = UnixStream::pair()?;
    thread::Builder::new()
        .name("asynchat-stdin".to_owned())
        .spawn(move || {
            if let Err(error) = copy(&mut file, &mut far) {
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
            // The end of the stream comes last.
            drop(far);
        })?;
    Ok(near)
}

/// # Errors
/// When it cannot be read. That nobody takes what is read is none.
fn copy(file: &mut impl Read, far: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let chunk = buffer.get(..count).unwrap_or_default();
        if far.write_all(chunk).is_err() {
            return Ok(());
        }
    }
}

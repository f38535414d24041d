//! Standard input and output, which this process shares with others.
//!
//! The process that started this one has the same open files, and goes on to use them. So their mode is
//! restored when they are dropped: a shell may fail to read from a terminal that is left non-blocking.
//!
//! Standard input may be a file that no poller can wait for (a regular file, `/dev/null`). A thread
//! then reads the file and writes it to a pair of sockets.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;

use socket2::SockRef;

use super::reading_thread::{Failure, read_on_thread};

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

impl StandardStream {
    /// # Errors
    /// When it cannot be made non-blocking, or the system has no thread or socket left.
    pub(super) fn input(fd: OwnedFd) -> io::Result<Self> {
        let name = "standard input";
        let file = File::from(fd);
        if can_be_polled(&file) {
            return StandardStream::new(file.into(), name).map_err(|error| named(name, &error));
        }
        let copied = UnixStream::pair().and_then(|(socket, other)| {
            let mut input = StandardStream::new(socket.into(), name)?;
            input.failure = read_on_thread(file, other)?;
            Ok(input)
        });
        copied.map_err(|error| named(name, &error))
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
        match self.failure.at_end(&outcome) {
            Some(error) => Err(named(self.name, &error)),
            None => self.name_error(outcome),
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

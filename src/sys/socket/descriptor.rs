//! The descriptors of Unix that are no sockets.

use std::fs::{File, FileType};
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;

use socket2::SockRef;

use super::standard::{Standard, can_be_waited_for};

/// A pipe, a terminal, a serial line: what is read and written like a file, and waited for like
/// a socket.
pub(super) enum Descriptor {
    Own(OwnedFd),
    Standard(Box<Standard>),
}

impl Descriptor {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Descriptor::Own(fd)
    }

    fn fd(&self) -> &OwnedFd {
        match self {
            Descriptor::Own(fd) => fd,
            Descriptor::Standard(standard) => &standard.fd,
        }
    }

    /// # Errors
    /// When it is a file that is always ready, which no poller takes (epoll: EPERM), or takes
    /// and then always reports.
    pub(super) fn prepare(&self) -> io::Result<()> {
        let file = File::from(self.fd().try_clone()?);
        if file_type(&file).is_some_and(|it| it.is_file() || it.is_dir() || it.is_block_device()) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a regular file is always ready, there is nothing to wait for: \
                 read it where it is needed, or push a ReadProducer of it",
            ));
        }
        self.unblock()
    }

    /// For good, but for the standard streams: the mode is that of the open file, and others here may
    /// rely on it by then.
    pub(super) fn unblock(&self) -> io::Result<()> {
        self.view().set_nonblocking(true)
    }

    pub(super) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let outcome = match rustix::io::read(self.fd(), buffer) {
            // The other side of a pseudo-terminal is closed: its end of file, on Linux.
            Err(rustix::io::Errno::IO) => Ok(0),
            outcome => outcome.map_err(io::Error::from),
        };
        match self {
            Descriptor::Own(_) => outcome,
            Descriptor::Standard(standard) => standard.received(outcome),
        }
    }

    // A pipe has no way to be told not to raise SIGPIPE; the Rust runtime ignores the signal
    // unless a program says otherwise.
    pub(super) fn send(&self, data: &[u8]) -> io::Result<usize> {
        self.sent(rustix::io::write(self.fd(), data))
    }

    pub(super) fn send_gathered(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.sent(rustix::io::writev(self.fd(), parts))
    }

    fn sent(&self, outcome: rustix::io::Result<usize>) -> io::Result<usize> {
        let outcome = outcome.map_err(io::Error::from);
        match self {
            Descriptor::Own(_) => outcome,
            Descriptor::Standard(standard) => standard.named(outcome),
        }
    }

    /// Whether it takes output at any time, or fails: there is nothing to wait for.
    pub(super) fn is_always_writable(&self) -> bool {
        let file = self.fd().try_clone().map(File::from);
        file.is_ok_and(|file| !can_be_waited_for(&file))
    }

    pub(super) fn view(&self) -> SockRef<'_> {
        SockRef::from(self.fd())
    }
}

/// Whether it is a socket, and not to be a [`Descriptor`].
pub(super) fn is_socket(file: &File) -> bool {
    file_type(file).is_some_and(|kind| kind.is_socket())
}

fn file_type(file: &File) -> Option<FileType> {
    Some(file.metadata().ok()?.file_type())
}

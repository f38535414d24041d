//! Unix descriptors that are not sockets. `windows_descriptor.rs` takes the place of this file on Windows.

use std::fs::{File, FileType};
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;

use rustix::io::retry_on_intr;
use socket2::SockRef;

use super::standard_stream::{StandardStream, can_be_polled};

/// A pipe, a terminal or a serial line: read and written like a file, and polled like a socket.
pub(crate) enum Descriptor {
    Owned(OwnedFd),
    Standard(Box<StandardStream>),
}

impl Descriptor {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Descriptor::Owned(fd)
    }

    fn fd(&self) -> &OwnedFd {
        match self {
            Descriptor::Owned(fd) => fd,
            Descriptor::Standard(stream) => &stream.fd,
        }
    }

    /// Sets non-blocking mode, for a channel.
    ///
    /// # Errors
    /// When it is a regular file, a directory or a block device. These are always ready: a poller refuses them
    /// (epoll: EPERM), or reports them in every wait.
    pub(super) fn prepare(&self) -> io::Result<()> {
        let file = File::from(self.fd().try_clone()?);
        if file_type(&file).is_some_and(|it| it.is_file() || it.is_dir() || it.is_block_device()) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a regular file, a directory or a block device cannot be polled, \
                 because it is always ready: read a file directly, or push a ReadProducer of it",
            ));
        }
        self.set_nonblocking()
    }

    /// The mode belongs to the open file, which other descriptors may share. Only a standard stream gets
    /// its old mode back at the end: for any other file, the program may rely on the new one by then.
    pub(super) fn set_nonblocking(&self) -> io::Result<()> {
        self.view()?.set_nonblocking(true)
    }

    #[inline(never)]
    pub(super) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let outcome = match retry_on_intr(|| rustix::io::read(self.fd(), &mut *buffer)) {
            // Linux reports the end of a pseudo-terminal, whose other side is closed, as EIO.
            Err(rustix::io::Errno::IO) => Ok(0),
            outcome => outcome.map_err(io::Error::from),
        };
        match self {
            Descriptor::Owned(_) => outcome,
            Descriptor::Standard(stream) => stream.received(outcome),
        }
    }

    // No flag keeps a write to a pipe from raising SIGPIPE. The Rust runtime ignores the signal unless
    // the program changes that.
    #[inline(never)]
    pub(super) fn send(&self, data: &[u8]) -> io::Result<usize> {
        self.sent(retry_on_intr(|| rustix::io::write(self.fd(), data)))
    }

    pub(super) fn send_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.sent(retry_on_intr(|| rustix::io::writev(self.fd(), parts)))
    }

    fn sent(&self, outcome: rustix::io::Result<usize>) -> io::Result<usize> {
        let outcome = outcome.map_err(io::Error::from);
        match self {
            Descriptor::Owned(_) => outcome,
            Descriptor::Standard(stream) => stream.name_error(outcome),
        }
    }

    /// Whether it takes output at any time, or fails: there is nothing to wait for.
    pub(super) fn is_always_writable(&self) -> bool {
        let file = self.fd().try_clone().map(File::from);
        file.is_ok_and(|file| !can_be_polled(&file))
    }

    /// # Errors
    /// Never. On Windows not every descriptor has a view.
    pub(super) fn view(&self) -> io::Result<SockRef<'_>> {
        Ok(SockRef::from(self.fd()))
    }
}

/// Whether the descriptor is a socket.
pub(super) fn is_socket(file: &File) -> bool {
    file_type(file).is_some_and(|kind| kind.is_socket())
}

fn file_type(file: &File) -> Option<FileType> {
    Some(file.metadata().ok()?.file_type())
}

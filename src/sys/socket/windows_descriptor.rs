//! Standard input and output on Windows, where no poller can wait for them: the descriptors that are no sockets.
//!
//! A thread reads standard input and writes it to a pair of sockets. Output is written at once, which blocks the
//! loop for as long as its reader takes.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::windows::io::AsHandle;

use socket2::SockRef;

use super::reading_thread::{Failure, read_on_thread};
use super::retry_interrupted;

/// Standard input or output.
pub(crate) enum Descriptor {
    /// The socket from which the thread's data comes, and why the thread has stopped.
    Input(TcpStream, Failure),
    Output(File),
}

impl Descriptor {
    /// # Errors
    /// When the system has no thread or socket left.
    pub(super) fn standard_input() -> io::Result<Self> {
        let input = pair().and_then(|(socket, other)| {
            // The standard library converts the input of a console to UTF-8.
            let failure = read_on_thread(io::stdin(), other)?;
            Ok(Descriptor::Input(socket, failure))
        });
        input.map_err(|error| named("standard input", &error))
    }

    /// # Errors
    /// When it is closed.
    pub(super) fn standard_output() -> io::Result<Self> {
        // Not `Stdout`, which refuses to write to a console what is not UTF-8.
        let handle = io::stdout().as_handle().try_clone_to_owned();
        let output = handle.map(|handle| Descriptor::Output(handle.into()));
        output.map_err(|error| named("standard output", &error))
    }

    pub(super) fn prepare(&self) -> io::Result<()> {
        self.set_nonblocking()
    }

    pub(super) fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Descriptor::Input(socket, _) => socket.set_nonblocking(true),
            Descriptor::Output(_) => Ok(()),
        }
    }

    #[inline(never)]
    pub(super) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let Descriptor::Input(socket, failure) = self else {
            return Err(not_in_this_direction());
        };
        let outcome = retry_interrupted(|| (&*socket).read(buffer));
        match failure.at_end(&outcome) {
            Some(error) => Err(named("standard input", &error)),
            None => outcome,
        }
    }

    #[inline(never)]
    pub(super) fn send(&self, data: &[u8]) -> io::Result<usize> {
        self.write(|mut output| output.write(data))
    }

    pub(super) fn send_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write(|mut output| output.write_vectored(parts))
    }

    fn write(&self, mut write: impl FnMut(&File) -> io::Result<usize>) -> io::Result<usize> {
        let Descriptor::Output(output) = self else {
            return Err(not_in_this_direction());
        };
        let outcome = retry_interrupted(|| write(output));
        outcome.map_err(|error| named("standard output", &error))
    }

    /// Whether it takes output at any time, or fails: there is nothing to wait for.
    pub(super) fn is_always_writable(&self) -> bool {
        matches!(self, Descriptor::Output(_))
    }

    /// # Errors
    /// For output, which is no socket.
    pub(super) fn view(&self) -> io::Result<SockRef<'_>> {
        match self {
            Descriptor::Input(socket, _) => Ok(SockRef::from(socket)),
            Descriptor::Output(_) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "standard output is not a socket",
            )),
        }
    }
}

/// Two connected sockets. Windows has no call for that.
fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let addr = near.local_addr()?;
    loop {
        // Another program may connect as well.
        let (far, peer) = listener.accept()?;
        if peer == addr {
            // A small write does not wait for the acknowledgement of the one before.
            far.set_nodelay(true)?;
            return Ok((near, far));
        }
    }
}

fn named(name: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{name}: {error}"))
}

fn not_in_this_direction() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "standard input is only read, and standard output only written",
    )
}

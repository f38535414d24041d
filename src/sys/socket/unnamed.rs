//! Errors of a connection for which the standard library has no kind.

use std::io;

/// Each with its kind, and its cause in words.
type Unnamed = &'static [(i32, io::ErrorKind, &'static str)];

#[cfg(any(test, target_vendor = "apple"))]
const ON_APPLE: Unnamed = &[(
    41, // EPROTOTYPE, from a send while the connection is being reset
    io::ErrorKind::ConnectionReset,
    "the connection is being reset",
)];

#[cfg(any(test, windows))]
const ON_WINDOWS: Unnamed = &[
    (
        10_052, // WSAENETRESET
        io::ErrorKind::ConnectionReset,
        "the peer does not answer keep-alive probes",
    ),
    (
        10_058, // WSAESHUTDOWN
        io::ErrorKind::BrokenPipe,
        "the sending side was shut down",
    ),
];

#[cfg(target_vendor = "apple")]
const UNNAMED: Unnamed = ON_APPLE;
#[cfg(windows)]
const UNNAMED: Unnamed = ON_WINDOWS;
#[cfg(not(any(windows, target_vendor = "apple", all(test, target_os = "linux"))))]
const UNNAMED: Unnamed = &[];
/// No call on a connection of a test fails like that, except those of the test below.
#[cfg(all(test, target_os = "linux"))]
const UNNAMED: Unnamed = &[(88, io::ErrorKind::ConnectionReset, "ENOTSOCK")];

/// The error of a call on a connection, with its kind.
#[inline]
pub(super) fn named(error: impl Into<io::Error>) -> io::Error {
    named_by(UNNAMED, error.into())
}

#[inline]
fn named_by(unnamed: Unnamed, error: io::Error) -> io::Error {
    if unnamed.is_empty() {
        return error;
    }
    let code = error.raw_os_error();
    let known = unnamed.iter().find(|(unnamed, ..)| Some(*unnamed) == code);
    match known {
        Some((_, kind, words)) => io::Error::new(*kind, *words),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, TimedOut};

    use super::*;

    #[test]
    fn an_error_without_a_kind_gets_one() {
        let kind = |unnamed, code| named_by(unnamed, io::Error::from_raw_os_error(code)).kind();
        assert_eq!(kind(ON_APPLE, 41), ConnectionReset);
        assert_eq!(kind(ON_WINDOWS, 10_052), ConnectionReset);
        assert_eq!(kind(ON_WINDOWS, 10_058), BrokenPipe);
        for unnamed in [ON_APPLE, ON_WINDOWS, UNNAMED] {
            let other = named_by(unnamed, TimedOut.into());
            assert_eq!(other.kind(), TimedOut);
        }
    }

    /// Each call on a pipe that is taken for a stream socket fails with ENOTSOCK.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_error_of_each_call_on_a_connection_gets_its_kind() {
        use super::super::Fd;
        use std::io::IoSlice;
        use std::os::fd::OwnedFd;

        let (reader, _writer) = io::pipe().unwrap();
        let fd = Fd::stream(OwnedFd::from(reader));
        let parts = [IoSlice::new(b"x"), IoSlice::new(b"y")];
        let outcomes = [
            ("recv", fd.recv(&mut [0]).err()),
            ("send", fd.send(b"x").err()),
            ("send_vectored", fd.send_vectored(&parts).err()),
            ("peek", fd.peek().err()),
            ("send_urgent", fd.send_urgent(b"x").err()),
            ("recv_urgent", fd.recv_urgent().err()),
            ("connected", fd.connected().err()),
            ("take_error", fd.take_error().err()),
        ];
        for (call, error) in outcomes {
            let kind = error.map(|error| error.kind());
            assert_eq!(kind, Some(ConnectionReset), "{call}");
        }
    }
}

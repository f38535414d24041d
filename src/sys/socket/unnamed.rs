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
#[cfg(not(any(windows, target_vendor = "apple")))]
const UNNAMED: Unnamed = &[];

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
}

//! Errors of a connection for which the standard library has no kind.

use std::io;

/// Each with its kind, and its cause in words.
#[cfg(target_vendor = "apple")]
const UNNAMED: &[(i32, io::ErrorKind, &str)] = &[(
    41, // EPROTOTYPE, from a send while the connection is being reset
    io::ErrorKind::ConnectionReset,
    "the connection is being reset",
)];
#[cfg(windows)]
const UNNAMED: &[(i32, io::ErrorKind, &str)] = &[
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
#[cfg(not(any(windows, target_vendor = "apple")))]
const UNNAMED: &[(i32, io::ErrorKind, &str)] = &[];

/// The error of a call on a connection, with its kind.
#[inline]
pub(super) fn named(error: impl Into<io::Error>) -> io::Error {
    let error = error.into();
    if UNNAMED.is_empty() {
        return error;
    }
    let code = error.raw_os_error();
    let known = UNNAMED.iter().find(|(unnamed, ..)| Some(*unnamed) == code);
    match known {
        Some((_, kind, words)) => io::Error::new(*kind, *words),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_without_a_kind_gets_one() {
        for (code, kind, _) in UNNAMED {
            assert_eq!(named(io::Error::from_raw_os_error(*code)).kind(), *kind);
        }
        let other = io::Error::from(io::ErrorKind::TimedOut);
        assert_eq!(named(other).kind(), io::ErrorKind::TimedOut);
    }
}

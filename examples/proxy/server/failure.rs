//! Why a destination cannot be reached, in the words of HTTP and of SOCKS.

use std::fmt;
use std::io::{self, ErrorKind};

use asynchat::Error;

use super::access::Rule;

/// Why there is no connection to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The access list does not allow its port, or any of its addresses. The rule is that of the first one.
    Prohibited(Rule),
    /// Its name has no address.
    Unknown,
    /// Its name could not be looked up. The resolver or its server has failed, which may pass.
    NotLookedUp,
    /// It refuses connections.
    Refused,
    NetworkUnreachable,
    HostUnreachable,
    /// The look-up and the connection took too long.
    TimedOut,
    /// The proxy has no room for another look-up, or no descriptor, or shuts down.
    Unavailable,
    /// Another error of the system.
    Other,
    /// The response of the server is invalid.
    BadResponse,
    /// The server has ended the connection before the response was complete.
    Incomplete,
    /// The client did not send the rest of its request in time.
    SlowRequest,
}

impl Failure {
    /// Of a destination that was refused before it was connected to.
    pub fn of_rule(rule: Rule) -> Failure {
        match rule {
            // The client did nothing wrong.
            Rule::Unclear(_) => Failure::Unavailable,
            rule => Failure::Prohibited(rule),
        }
    }

    /// Of a look-up that has found nothing.
    pub fn of_look_up(error: &io::Error) -> Failure {
        if is_no_such_name(error) {
            Failure::Unknown
        } else {
            Failure::NotLookedUp
        }
    }

    /// Of a connection that was not made.
    pub fn of_connect(error: &Error) -> Failure {
        match error.io_kind() {
            Some(ErrorKind::ConnectionRefused) => Failure::Refused,
            Some(ErrorKind::NetworkUnreachable) => Failure::NetworkUnreachable,
            Some(ErrorKind::HostUnreachable) => Failure::HostUnreachable,
            Some(ErrorKind::TimedOut) => Failure::TimedOut,
            _ if error.downcast_ref().is_some_and(is_shortage) => Failure::Unavailable,
            _ => Failure::Other,
        }
    }

    /// The status of the reply in HTTP.
    pub fn status(self) -> u16 {
        match self {
            Failure::Prohibited(_) => 403,
            Failure::SlowRequest => 408,
            Failure::TimedOut => 504,
            Failure::NotLookedUp | Failure::Unavailable => 503,
            _ => 502,
        }
    }

    /// The reply in SOCKS: RFC 1928 section 6.
    pub fn socks(self) -> u8 {
        match self {
            Failure::Prohibited(_) => 2,
            Failure::NetworkUnreachable => 3,
            Failure::Unknown | Failure::HostUnreachable => 4,
            Failure::Refused => 5,
            // "TTL expired": there is no code for time, and Tor uses this one.
            Failure::TimedOut => 6,
            _ => 1,
        }
    }
}

/// The text for clients.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::Prohibited(Rule::NotListed(_) | Rule::Reserved(_)) => {
                "the proxy does not allow this port"
            }
            Failure::Prohibited(_) => "the proxy does not allow this destination",
            Failure::Unknown => "the name has no address",
            Failure::NotLookedUp => "the name could not be looked up",
            Failure::Refused => "the destination refuses the connection",
            Failure::NetworkUnreachable => "the network cannot be reached",
            Failure::HostUnreachable => "the host cannot be reached",
            Failure::TimedOut => "the destination does not answer in time",
            Failure::Unavailable => "the proxy cannot make this connection now",
            Failure::Other => "the connection could not be made",
            Failure::BadResponse => {
                "the response of the server is invalid, or its head is too large"
            }
            Failure::Incomplete => "the server has ended the connection before its response",
            Failure::SlowRequest => "the request was not complete in time",
        })
    }
}

/// Whether the resolver says that the name does not exist, or has no address.
#[cfg(not(windows))]
fn is_no_such_name(error: &io::Error) -> bool {
    // EAI_NONAME and EAI_NODATA in the words of glibc, musl, macOS and the BSDs. The standard library passes on the text of
    // `getaddrinfo` only.
    const WORDS: [&str; 6] = [
        "name or service not known",
        "name or service is not known",
        "nor servname provided, or not known",
        "does not resolve",
        "no address associated with",
        "no usable address",
    ];
    let text = error.to_string().to_ascii_lowercase();
    WORDS.iter().any(|words| text.contains(words))
}

/// WSAHOST_NOT_FOUND or WSANO_DATA.
#[cfg(windows)]
fn is_no_such_name(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(11_001 | 11_004))
}

/// Whether the process or the system has no descriptor or no memory left for a connection.
#[cfg(unix)]
fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;

    let found = Errno::from_io_error(error);
    matches!(
        found,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}

/// WSAEMFILE or WSAENOBUFS.
#[cfg(not(unix))]
fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(10_024 | 10_055))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// A name that is too long needs no server.
    #[test]
    fn the_resolver_of_this_system_is_understood() {
        use std::net::ToSocketAddrs;

        let name = "x".repeat(300);
        let error = (name.as_str(), 80).to_socket_addrs().err().unwrap();
        assert_eq!(Failure::of_look_up(&error), Failure::Unknown, "{error}");
    }

    #[test]
    fn a_resolver_that_fails_says_nothing_about_the_name() {
        let of = |text: &str| {
            let text = format!("failed to lookup address information: {text}");
            Failure::of_look_up(&io::Error::other(text))
        };
        for text in [
            "Name or service not known",
            "No address associated with hostname",
            "Name does not resolve",
            "Name has no usable address",
            "nodename nor servname provided, or not known",
        ] {
            assert_eq!(of(text), Failure::Unknown, "{text}");
        }
        for text in [
            "Temporary failure in name resolution",
            "Non-recoverable failure in name resolution",
            "Try again",
            "Non-recoverable error",
        ] {
            assert_eq!(of(text), Failure::NotLookedUp, "{text}");
        }
        let no_descriptor = io::Error::from_raw_os_error(24);
        assert_eq!(Failure::of_look_up(&no_descriptor), Failure::NotLookedUp);
        let replies = (Failure::NotLookedUp.status(), Failure::NotLookedUp.socks());
        assert_eq!(replies, (503, 1));
    }

    /// As with a name, for whose look-up no descriptor is left.
    #[test]
    fn a_proxy_without_descriptors_cannot_connect_now() {
        use rustix::io::Errno;

        for shortage in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            let error = Error::from(io::Error::from(shortage)).context("connect");
            let failure = Failure::of_connect(&error);
            assert_eq!((failure.status(), failure.socks()), (503, 1), "{shortage}");
        }
    }
}

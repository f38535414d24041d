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
    /// It refuses connections.
    Refused,
    NetworkUnreachable,
    HostUnreachable,
    /// The look-up and the connection took too long.
    TimedOut,
    /// The proxy has no room for another look-up, or shuts down.
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

    /// Of a name that was not found.
    pub fn of_look_up(error: &io::Error) -> Failure {
        match error.raw_os_error() {
            // The resolver had no descriptor or no memory. What it says about the name has no code of the system.
            Some(_) if cfg!(unix) => Failure::Unavailable,
            _ => Failure::Unknown,
        }
    }

    /// Of a connection that was not made.
    pub fn of_connect(error: &Error) -> Failure {
        match error.io_kind() {
            Some(ErrorKind::ConnectionRefused) => Failure::Refused,
            Some(ErrorKind::NetworkUnreachable) => Failure::NetworkUnreachable,
            Some(ErrorKind::HostUnreachable) => Failure::HostUnreachable,
            Some(ErrorKind::TimedOut) => Failure::TimedOut,
            _ => Failure::Other,
        }
    }

    /// The status of the reply in HTTP.
    pub fn status(self) -> u16 {
        match self {
            Failure::Prohibited(_) => 403,
            Failure::SlowRequest => 408,
            Failure::TimedOut => 504,
            Failure::Unavailable => 503,
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

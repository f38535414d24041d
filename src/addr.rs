//! The address of one end of a connection.

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;

/// The address of one end of a connection: the peer's, or this side's.
///
/// A dual-stack socket reports an IPv4 address as an IPv4-mapped IPv6 address (`::ffff:192.0.2.1`). Here
/// it has its canonical form, so that one client has one address.
///
/// ```
/// use asynchat::Addr;
/// let addr = Addr::from("[::ffff:192.0.2.1]:119".parse::<std::net::SocketAddr>().unwrap());
/// assert_eq!(addr.to_string(), "192.0.2.1:119");
/// assert_eq!(addr.port(), Some(119));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Addr {
    /// An IP address and a port.
    Inet(SocketAddr),
    /// The path of a Unix-domain socket, if it has one. The sockets of clients rarely do.
    Unix(Option<PathBuf>),
    /// The name of a Unix-domain socket in Linux's abstract namespace: any bytes, without the leading
    /// zero. It is displayed with `unix:@` in front.
    Abstract(Box<[u8]>),
}

impl Addr {
    /// The IP address without the port; `None` for a Unix-domain socket.
    pub fn ip(&self) -> Option<IpAddr> {
        self.inet().map(|addr| addr.ip())
    }

    /// The port; `None` for a Unix-domain socket.
    pub fn port(&self) -> Option<u16> {
        self.inet().map(|addr| addr.port())
    }

    /// The IP address with its port; `None` for a Unix-domain socket.
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            Addr::Inet(addr) => Some(*addr),
            Addr::Unix(_) | Addr::Abstract(_) => None,
        }
    }
}

impl From<SocketAddr> for Addr {
    fn from(addr: SocketAddr) -> Self {
        // Other addresses keep their scope (RFC 4007).
        match addr.ip().to_canonical() {
            IpAddr::V4(v4) => Addr::Inet(SocketAddr::new(v4.into(), addr.port())),
            IpAddr::V6(_) => Addr::Inet(addr),
        }
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Addr::Inet(addr) => addr.fmt(f),
            Addr::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
            Addr::Unix(None) => f.write_str("unix socket"),
            Addr::Abstract(name) => write!(f, "unix:@{}", name.escape_ascii()),
        }
    }
}

/// An address in 16 bytes. Each connection stores one, and most are IPv4.
pub(crate) enum CompactAddr {
    V4(SocketAddrV4),
    Other(Box<Addr>),
}

impl From<Addr> for CompactAddr {
    fn from(addr: Addr) -> Self {
        match addr {
            Addr::Inet(SocketAddr::V4(addr)) => CompactAddr::V4(addr),
            addr => CompactAddr::Other(Box::new(addr)),
        }
    }
}

impl From<&CompactAddr> for Addr {
    fn from(compact: &CompactAddr) -> Self {
        match compact {
            CompactAddr::V4(addr) => Addr::Inet(SocketAddr::V4(*addr)),
            CompactAddr::Other(addr) => Addr::clone(addr),
        }
    }
}

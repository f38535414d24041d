//! The address of one end of a connection.

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;

/// The address of a peer, or of this side of a connection.
///
/// An IPv4 address that a dual-stack socket reports as mapped (`::ffff:192.0.2.1`) is told in its
/// canonical form, so that one client has one address.
///
/// ```
/// use asynchat::Addr;
/// let addr = Addr::from("[::ffff:192.0.2.1]:119".parse::<std::net::SocketAddr>().unwrap());
/// assert_eq!(addr.to_string(), "192.0.2.1:119");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Addr {
    /// An IP address and a port.
    Inet(SocketAddr),
    /// A Unix-domain socket, by its path if it has one.
    Unix(Option<PathBuf>),
    /// A Unix-domain socket with a name in Linux's abstract namespace: any bytes. Shown with an `@` in
    /// front.
    Abstract(Box<[u8]>),
}

impl Addr {
    /// The IP address, without the port.
    pub fn ip(&self) -> Option<IpAddr> {
        self.inet().map(|addr| addr.ip())
    }

    /// The IP address with its port.
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            Addr::Inet(addr) => Some(*addr),
            Addr::Unix(_) | Addr::Abstract(_) => None,
        }
    }

    pub(crate) fn from_sock(addr: &socket2::SockAddr) -> Self {
        match addr.as_socket() {
            Some(inet) => inet.into(),
            None => unix(addr),
        }
    }
}

#[cfg(unix)]
fn unix(addr: &socket2::SockAddr) -> Addr {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(name) = addr.as_abstract_namespace() {
        return Addr::Abstract(name.into());
    }
    Addr::Unix(addr.as_pathname().map(std::path::Path::to_path_buf))
}

#[cfg(not(unix))]
fn unix(_: &socket2::SockAddr) -> Addr {
    Addr::Unix(None)
}

impl From<SocketAddr> for Addr {
    fn from(addr: SocketAddr) -> Self {
        // Only a mapped address is made anew: any other keeps its scope.
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
            Addr::Unix(Some(path)) => path.display().fmt(f),
            Addr::Unix(None) => f.write_str("unix socket"),
            Addr::Abstract(name) => write!(f, "@{}", name.escape_ascii()),
        }
    }
}

/// An address that is kept for long, in little room: most peers of most servers are IPv4.
pub(crate) enum Kept {
    V4(SocketAddrV4),
    Other(Box<Addr>),
}

impl From<Addr> for Kept {
    fn from(addr: Addr) -> Self {
        match addr {
            Addr::Inet(SocketAddr::V4(addr)) => Kept::V4(addr),
            addr => Kept::Other(Box::new(addr)),
        }
    }
}

impl From<&Kept> for Addr {
    fn from(kept: &Kept) -> Self {
        match kept {
            Kept::V4(addr) => Addr::Inet(SocketAddr::V4(*addr)),
            Kept::Other(addr) => Addr::clone(addr),
        }
    }
}

//! What to connect to or to listen on: addresses, or a host name with a port.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::Addr;

/// What to connect to or to listen on: one or several addresses, a host name with a port, or the path of a
/// Unix-domain socket.
///
/// All types that implement the standard library's `ToSocketAddrs` convert into it. An IPv6 address may
/// have a scope (RFC 4007), given as the number or the name of an interface: `[fe80::1%eth0]:119`.
///
/// A [`Path`] is that of a Unix-domain socket, and so is a text that begins with `unix:`. On Linux the text
/// `unix:@name` stands for a name in the abstract namespace, which has no file; a name that is not UTF-8 cannot be
/// a target. A text with a path but without the prefix, and an empty path or name, are refused where the target is
/// used. Windows has no such sockets that a poller can wait for: there a program listens on `127.0.0.1`.
///
/// The [`Addr`] of a peer or a listener converts into it as well. The conversion does not fail. A text without a port
/// is reported where the target is used.
///
/// A [`Connector`](crate::Connector) looks a host name up on another thread, so that a slow resolver
/// does not block the loop. A [`Server`](crate::Server) and a [`Channel`](crate::Channel) look it up at
/// once, and block until the resolver answers.
///
/// ```
/// use asynchat::Target;
/// let host = Target::from("news.example.org:119");
/// let same_host = Target::from(("news.example.org", 119));
/// let address = Target::from("[2001:db8::1]:119".parse::<std::net::SocketAddr>().unwrap());
/// let link_local = Target::from("[fe80::1%eth0]:119");
/// let path = Target::from(std::path::Path::new("/run/news.sock"));
/// let same_path = Target::from("unix:/run/news.sock");
/// ```
#[derive(Clone)]
pub struct Target(Kind);

#[derive(Clone)]
enum Kind {
    Host(String, u16),
    Addrs(Vec<SocketAddr>),
    Unix(UnixName),
    /// The address of a Unix-domain socket that has no name, or one that is not UTF-8.
    Unnamed,
    /// A Unix-domain socket with an empty name: what is before it, `unix:` or `unix:@`.
    Empty(&'static str),
    /// The path of a file, without the prefix `unix:`.
    Path(String),
    /// A text that is neither an address nor a host with a port.
    Invalid(String),
}

/// The name of a Unix-domain socket.
#[derive(Clone, Debug)]
pub(crate) enum UnixName {
    Path(PathBuf),
    /// In Linux's abstract namespace.
    Abstract(String),
}

impl fmt::Display for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnixName::Path(path) => write!(f, "unix:{}", path.display()),
            UnixName::Abstract(name) => write!(f, "unix:@{}", name.escape_debug()),
        }
    }
}

impl Target {
    fn parse(host_and_port: &str) -> Self {
        if let Some(name) = host_and_port.strip_prefix("unix:") {
            return match name.strip_prefix('@') {
                Some(name) => Target::from_abstract_name(name.to_owned()),
                None => Target::from(PathBuf::from(name)),
            };
        }
        if host_and_port.starts_with('/') || host_and_port.starts_with("./") {
            return Target(Kind::Path(host_and_port.to_owned()));
        }
        if let Ok(addr) = host_and_port.parse() {
            return Target(Kind::Addrs(vec![addr]));
        }
        let parts = host_and_port.rsplit_once(':');
        match parts.and_then(|(host, port)| Some((host, port.parse().ok()?))) {
            // The resolver would look up the empty name.
            Some(("", _)) => Target(Kind::Invalid(host_and_port.to_owned())),
            Some((host, port)) => Target(Kind::Host(without_brackets(host).to_owned(), port)),
            None => Target(Kind::Invalid(host_and_port.to_owned())),
        }
    }

    fn from_abstract_name(name: String) -> Self {
        Target(if name.is_empty() {
            Kind::Empty("unix:@")
        } else {
            Kind::Unix(UnixName::Abstract(name))
        })
    }

    fn from_host(host: &str, port: u16) -> Self {
        match host.parse::<IpAddr>() {
            Ok(ip) => Target::from(SocketAddr::new(ip, port)),
            Err(_) => Target(Kind::Host(host.to_owned(), port)),
        }
    }

    /// The host and the port, if a resolver has to be asked for the addresses of the host.
    pub(crate) fn to_look_up(&self) -> Option<(&str, u16)> {
        match &self.0 {
            Kind::Host(host, port) if !is_scoped(host) => Some((host, *port)),
            _ => None,
        }
    }

    /// The name or the address that a certificate of this target is for, if there is one of them.
    #[cfg(feature = "tls-no-provider")]
    pub(crate) fn certificate_name(&self) -> Option<String> {
        match &self.0 {
            Kind::Host(host, _) => Some(host.clone()),
            Kind::Addrs(addrs) => {
                let first = addrs.first()?.ip();
                let is_one = addrs.iter().all(|addr| addr.ip() == first);
                is_one.then(|| first.to_string())
            }
            _ => None,
        }
    }

    /// The name, if it is that of a Unix-domain socket.
    pub(crate) fn unix(&self) -> Option<&UnixName> {
        match &self.0 {
            Kind::Unix(name) => Some(name),
            _ => None,
        }
    }

    /// Checks that it stands for something. What does not never will, so connecting again is of no use.
    ///
    /// # Errors
    /// When the text has no port, or the socket no name.
    pub(crate) fn check(&self) -> io::Result<()> {
        match &self.0 {
            Kind::Host(..) | Kind::Addrs(_) | Kind::Unix(_) => Ok(()),
            Kind::Unnamed | Kind::Empty(_) | Kind::Path(_) | Kind::Invalid(_) => {
                self.addrs().map(|_| ())
            }
        }
    }

    /// The addresses. For a host name this blocks until the system's resolver answers.
    ///
    /// # Errors
    /// When the host has no address, and when the text has no port.
    pub(crate) fn addrs(&self) -> io::Result<Vec<SocketAddr>> {
        match &self.0 {
            Kind::Addrs(addrs) => Ok(addrs.clone()),
            // getaddrinfo knows the names of interfaces on every system. For an address it asks no
            // server.
            Kind::Host(host, port) => {
                let addrs = (&**host, *port).to_socket_addrs().map(Iterator::collect);
                if is_scoped(host) {
                    addrs.map_err(|_| no_such_scope(host))
                } else {
                    addrs
                }
            }
            Kind::Unix(_) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a Unix-domain socket has no IP address",
            )),
            Kind::Unnamed => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a Unix-domain socket whose name is missing or not UTF-8",
            )),
            Kind::Empty(_) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the name of the Unix-domain socket is empty",
            )),
            Kind::Path(text) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the path of a Unix-domain socket begins with unix: as in unix:{text}"),
            )),
            Kind::Invalid(text) if text.is_empty() => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the address is empty",
            )),
            Kind::Invalid(text) if is_port_only(text) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "the host is empty: 127.0.0.1{text} is this host, 0.0.0.0{text} or [::]{text} all of its addresses"
                ),
            )),
            Kind::Invalid(text) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("not of the form host:port, with a port up to 65535: {text}"),
            )),
        }
    }
}

/// The addresses of a host, with port 0. This blocks until the system's resolver answers.
pub(crate) fn look_up(host: &str) -> io::Result<Vec<SocketAddr>> {
    (host, 0).to_socket_addrs().map(Iterator::collect)
}

fn is_port_only(text: &str) -> bool {
    text.strip_prefix(':')
        .is_some_and(|port| port.parse::<u16>().is_ok())
}

fn without_brackets(host: &str) -> &str {
    let inner = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    inner.unwrap_or(host)
}

/// Whether the host is an IPv6 address with a scope.
fn is_scoped(host: &str) -> bool {
    host.split_once('%')
        .is_some_and(|(addr, _)| addr.parse::<Ipv6Addr>().is_ok())
}

fn no_such_scope(host: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("there is no such interface: {host}"),
    )
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Host(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Kind::Host(host, port) => write!(f, "{host}:{port}"),
            Kind::Addrs(addrs) => {
                for (n, addr) in addrs.iter().enumerate() {
                    let comma = if n == 0 { "" } else { ", " };
                    write!(f, "{comma}{addr}")?;
                }
                Ok(())
            }
            Kind::Unix(name) => name.fmt(f),
            Kind::Unnamed => f.write_str("unix socket"),
            Kind::Empty(text) => write!(f, "{text:?}"),
            Kind::Invalid(text) if text.is_empty() => write!(f, "{text:?}"),
            Kind::Path(text) | Kind::Invalid(text) => f.write_str(text),
        }
    }
}

/// How many addresses the `Debug` output of a target shows, and how many characters of a text that is none.
const SHOWN: (usize, usize) = (8, 256);

/// Shows what `Display` does, of bounded length.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Addrs(addrs) if addrs.len() > SHOWN.0 => {
                let start: Vec<_> = addrs.iter().take(SHOWN.0).copied().collect();
                write!(
                    f,
                    "Target({}, ... {} addresses)",
                    Target::from(start),
                    addrs.len()
                )
            }
            Kind::Path(text) | Kind::Invalid(text) => {
                let start: String = text.chars().take(SHOWN.1).collect();
                write!(f, "Target({start:?})")
            }
            _ => write!(f, "Target({self})"),
        }
    }
}

impl From<&str> for Target {
    fn from(host_and_port: &str) -> Self {
        Target::parse(host_and_port)
    }
}

/// Never fails: a text that stands for nothing is reported where the target is used, as with `From<&str>`.
/// A parser of command lines can read a target with this.
impl FromStr for Target {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Target::parse(text))
    }
}

impl From<&&str> for Target {
    fn from(host_and_port: &&str) -> Self {
        Target::parse(host_and_port)
    }
}

impl From<String> for Target {
    fn from(host_and_port: String) -> Self {
        Target::parse(&host_and_port)
    }
}

impl From<&String> for Target {
    fn from(host_and_port: &String) -> Self {
        Target::parse(host_and_port)
    }
}

impl From<&Path> for Target {
    fn from(path: &Path) -> Self {
        Target::from(path.to_owned())
    }
}

impl From<&PathBuf> for Target {
    fn from(path: &PathBuf) -> Self {
        Target::from(path.clone())
    }
}

impl From<PathBuf> for Target {
    fn from(path: PathBuf) -> Self {
        Target(if path.as_os_str().is_empty() {
            Kind::Empty("unix:")
        } else {
            Kind::Unix(UnixName::Path(path))
        })
    }
}

impl From<(&str, u16)> for Target {
    fn from((host, port): (&str, u16)) -> Self {
        Target::from_host(host, port)
    }
}

impl From<(String, u16)> for Target {
    fn from((host, port): (String, u16)) -> Self {
        Target::from_host(&host, port)
    }
}

impl From<Vec<SocketAddr>> for Target {
    fn from(addrs: Vec<SocketAddr>) -> Self {
        Target(Kind::Addrs(addrs))
    }
}

impl From<&Vec<SocketAddr>> for Target {
    fn from(addrs: &Vec<SocketAddr>) -> Self {
        Target(Kind::Addrs(addrs.clone()))
    }
}

impl From<&[SocketAddr]> for Target {
    fn from(addrs: &[SocketAddr]) -> Self {
        Target(Kind::Addrs(addrs.to_vec()))
    }
}

impl<const N: usize> From<[SocketAddr; N]> for Target {
    fn from(addrs: [SocketAddr; N]) -> Self {
        Target(Kind::Addrs(addrs.to_vec()))
    }
}

/// The types that stand for one address.
macro_rules! from {
    ($($type:ty),*) => {
        $(impl From<$type> for Target {
            fn from(addr: $type) -> Self {
                Target(Kind::Addrs(vec![addr.into()]))
            }
        })*
    };
}

from!(SocketAddr, SocketAddrV4, SocketAddrV6);
from!((IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16));

impl From<&SocketAddr> for Target {
    fn from(addr: &SocketAddr) -> Self {
        Target::from(*addr)
    }
}

/// A Unix-domain socket without a name, such as that of most clients, cannot be connected to. That is reported
/// where the target is used.
impl From<Addr> for Target {
    fn from(addr: Addr) -> Self {
        let name = match addr {
            Addr::Inet(addr) => return Target::from(addr),
            Addr::Unix(Some(path)) => return Target::from(path),
            Addr::Unix(None) => None,
            Addr::Abstract(name) => String::from_utf8(name.into()).ok(),
        };
        match name {
            Some(name) => Target::from_abstract_name(name),
            None => Target(Kind::Unnamed),
        }
    }
}

impl From<&Addr> for Target {
    fn from(addr: &Addr) -> Self {
        Target::from(addr.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(text: &str) -> Vec<SocketAddr> {
        Target::from(text).addrs().unwrap()
    }

    #[test]
    fn addresses_need_no_look_up() {
        for text in ["192.0.2.1:119", "[2001:db8::1]:119", "[fe80::1%2]:119"] {
            assert!(Target::from(text).to_look_up().is_none());
            assert_eq!(addrs(text)[0].to_string(), text);
        }
        let target = Target::from(("fe80::1%3", 119));
        assert!(target.to_look_up().is_none());
        assert_eq!(target.addrs().unwrap()[0].to_string(), "[fe80::1%3]:119");
        assert_eq!(target.to_string(), "[fe80::1%3]:119");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_scope_of_an_address_may_be_the_name_of_an_interface() {
        // The loopback interface is the first.
        let expected = SocketAddrV6::new("fe80::1".parse().unwrap(), 119, 0, 1);
        for target in [
            Target::from("[fe80::1%lo]:119"),
            Target::from(("fe80::1%lo", 119)),
        ] {
            assert!(target.to_look_up().is_none());
            assert_eq!(target.addrs().unwrap(), [SocketAddr::V6(expected)]);
        }
        let error = Target::from("[fe80::1%nowhere]:119").addrs().unwrap_err();
        assert!(error.to_string().contains("fe80::1%nowhere"), "{error}");
    }

    #[test]
    fn a_path_or_a_text_with_its_prefix_is_a_unix_domain_socket() {
        let path = Target::from(Path::new("@relative"));
        assert!(matches!(path.unix(), Some(UnixName::Path(path)) if path == "@relative"));
        let text = Target::from("unix:/run/x.sock");
        assert!(matches!(text.unix(), Some(UnixName::Path(path)) if path == "/run/x.sock"));
        assert_eq!(text.to_string(), "unix:/run/x.sock");
        let name = Target::from("unix:@x");
        assert!(matches!(name.unix(), Some(UnixName::Abstract(name)) if name == "x"));
        assert_eq!(name.to_string(), "unix:@x");
        for target in [path, text, name] {
            assert!(target.to_look_up().is_none() && target.addrs().is_err());
        }
    }

    #[test]
    fn a_path_without_its_prefix_is_refused() {
        for text in ["/run/x.sock", "/run/x:80", "./x"] {
            let target: Target = text.parse().unwrap();
            assert!(target.unix().is_none() && target.to_look_up().is_none());
            let error = target.check().unwrap_err();
            assert!(error.to_string().contains("unix:"), "{error}");
        }
    }

    #[test]
    fn an_empty_path_and_an_empty_name_are_refused_wherever_they_come_from() {
        for (target, text) in [
            (Target::from("unix:"), "unix:"),
            (Target::from(Path::new("")), "unix:"),
            (Target::from(PathBuf::new()), "unix:"),
            (Target::from(Addr::Unix(Some(PathBuf::new()))), "unix:"),
            (Target::from(""), ""),
            (Target::from("unix:@"), "unix:@"),
            (Target::from(Addr::Abstract([].into())), "unix:@"),
        ] {
            assert!(target.unix().is_none() && target.to_look_up().is_none());
            assert_eq!(target.to_string(), format!("{text:?}"));
            let error = target.check().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().ends_with("is empty"), "{error}");
        }
    }

    #[test]
    fn the_address_of_a_unix_domain_socket_is_shown_as_its_target() {
        for text in ["unix:/run/x.sock", "unix:@x"] {
            let addr = match text.strip_prefix("unix:@") {
                Some(name) => Addr::Abstract(name.as_bytes().into()),
                None => Addr::Unix(Some("/run/x.sock".into())),
            };
            assert_eq!(addr.to_string(), text);
            assert_eq!(Target::from(&addr).to_string(), text);
        }
    }

    #[test]
    fn an_empty_host_is_refused() {
        let error = Target::from(":8080").addrs().unwrap_err().to_string();
        assert!(error.contains("0.0.0.0:8080 or [::]:8080"), "{error}");
        assert!(Target::from(":8080").check().is_err());
        for text in ["::", ":smtp"] {
            let error = Target::from(text).addrs().unwrap_err().to_string();
            assert!(error.contains("host:port"), "{error}");
        }
    }

    #[test]
    fn names_have_a_host_and_a_port() {
        let target = Target::from("news.example.org:119");
        assert_eq!(target.to_look_up(), Some(("news.example.org", 119)));
        let target = Target::from(("news.example.org", 119));
        assert_eq!(target.to_look_up(), Some(("news.example.org", 119)));
        for text in ["news.example.org", "host:port", "host:70000", ""] {
            let target = Target::from(text);
            assert!(target.to_look_up().is_none());
            let error = target.addrs().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().ends_with(text), "{error}");
        }
    }
}

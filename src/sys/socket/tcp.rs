//! New TCP sockets: listening, and connecting.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::address::from_socket2;
use super::configure::Configure;
use crate::addr::Addr;

/// How a listening socket is made.
#[derive(Clone, Debug)]
pub(crate) struct ListenOptions {
    pub(crate) backlog: i32,
    pub(crate) nodelay: bool,
    pub(crate) only_v6: bool,
    pub(crate) reuse_port: bool,
    /// The mode of the file of a Unix-domain socket; `None` leaves it to the umask.
    #[cfg_attr(not(unix), allow(dead_code))]
    pub(crate) unix_mode: Option<u32>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        ListenOptions {
            // The kernel caps it (net.core.somaxconn, 4,096 on Linux since 5.4). A shorter backlog
            // makes the clients of a burst retry after a second.
            backlog: 4096,
            nodelay: true,
            only_v6: false,
            reuse_port: false,
            unix_mode: None,
        }
    }
}

/// How an outgoing connection is made.
#[derive(Clone, Debug)]
pub(crate) struct ConnectOptions {
    pub(crate) nodelay: bool,
    /// The addresses to connect from.
    pub(crate) local: LocalAddrs,
    pub(crate) configure: Option<Configure>,
}

/// The addresses to connect from: one for each address family, or none at all, so that the system chooses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LocalAddrs {
    v4: Option<SocketAddr>,
    v6: Option<SocketAddr>,
}

impl LocalAddrs {
    /// The first address of each family.
    pub(crate) fn new(addrs: impl IntoIterator<Item = SocketAddr>) -> Self {
        let mut local = LocalAddrs::default();
        for addr in addrs {
            match addr {
                SocketAddr::V4(_) => local.v4 = local.v4.or(Some(addr)),
                SocketAddr::V6(_) => local.v6 = local.v6.or(Some(addr)),
            }
        }
        local
    }

    /// The address to connect to `peer` from.
    pub(crate) fn toward(&self, peer: SocketAddr) -> Option<SocketAddr> {
        match peer {
            SocketAddr::V4(_) => self.v4,
            SocketAddr::V6(_) => self.v6,
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.v4.or(self.v6).is_some()
    }

    /// Whether `peer` can be connected to.
    pub(crate) fn reach(&self, peer: SocketAddr) -> bool {
        !self.is_set() || self.toward(peer).is_some()
    }
}

pub(super) fn listen(addr: SocketAddr, options: &ListenOptions) -> io::Result<Socket> {
    let socket = for_both(addr, Type::STREAM, options.only_v6)?;
    socket.set_nonblocking(true)?;
    // Unix servers set SO_REUSEADDR to bind a port that is in TIME_WAIT. Windows allows that without
    // the option; with it, a second program could take the port over.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    #[cfg(windows)]
    super::exclusive::set_exclusive(&socket)?;
    #[cfg(target_os = "freebsd")]
    if options.reuse_port {
        socket.set_reuse_port_lb(true)?;
    }
    #[cfg(all(
        unix,
        not(any(target_os = "solaris", target_os = "illumos", target_os = "freebsd"))
    ))]
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    // Accepted sockets inherit the option, which saves a call for each: see `accept.rs`.
    socket.set_tcp_nodelay(options.nodelay)?;
    socket.bind(&addr.into())?;
    socket.listen(system_backlog(options.backlog, cfg!(windows)))?;
    Ok(socket)
}

/// Whether the system spreads connections over the sockets that listen on one port with `reuse_port`. macOS, OpenBSD
/// and NetBSD give all of them to one socket. The others have no such option.
pub(crate) const REUSE_PORT_SPREADS: bool = cfg!(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "dragonfly"
));

/// Windows takes more than 200 for a request of its own maximum, unless it is negated (SOMAXCONN_HINT), and at
/// most 65,535.
fn system_backlog(backlog: i32, on_windows: bool) -> i32 {
    if on_windows && backlog > 200 {
        -backlog.min(65_535)
    } else {
        backlog
    }
}

/// OpenBSD and DragonFly have no sockets of both families. There an IPv6 socket is always IPv6 only, and turning
/// that off fails: with EINVAL on OpenBSD, with EOPNOTSUPP on DragonFly.
const HAS_BOTH_FAMILIES: bool = !cfg!(any(target_os = "openbsd", target_os = "dragonfly"));

/// A new socket to be bound to `addr`.
pub(super) fn for_both(addr: SocketAddr, kind: Type, only_v6: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, None)?;
    if sets_only_v6(addr, only_v6, HAS_BOTH_FAMILIES) {
        socket.set_only_v6(only_v6)?;
    }
    Ok(socket)
}

/// Whether IPV6_V6ONLY is set. Its default depends on the system and its settings, so it is set in any case, unless
/// the system has no choice.
fn sets_only_v6(addr: SocketAddr, only_v6: bool, has_both_families: bool) -> bool {
    addr.is_ipv6() && (only_v6 || has_both_families)
}

/// Begins to connect a new socket to `addr`.
pub(super) fn connect(addr: SocketAddr, options: &ConnectOptions) -> io::Result<Socket> {
    let socket = new(addr)?;
    socket.set_tcp_nodelay(options.nodelay)?;
    if let Some(configure) = &options.configure {
        configure.call(&SockRef::from(&socket))?;
    }
    if let Some(local) = options.local.toward(addr) {
        // Connections to other peers may have the same port, also in TIME_WAIT. Port 0 never conflicts.
        #[cfg(not(windows))]
        if local.port() != 0 {
            socket.set_reuse_address(true)?;
        }
        let bound = socket.bind(&local.into());
        bound.map_err(|error| named(&error, format_args!("from {local}")))?;
    }
    match socket.connect(&addr.into()) {
        Ok(()) => {}
        Err(error) if is_in_progress(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(socket)
}

/// The outcome of a connect: the address of the peer, `None` while it is still in progress, or why it
/// failed.
pub(super) fn connected(socket: &SockRef<'_>) -> io::Result<Option<Addr>> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    let peer = match socket.peer_addr() {
        Ok(peer) => peer,
        Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(None),
        Err(error) => return Err(error),
    };
    // If nobody listens on a port in the ephemeral range, the system may choose that very port for the
    // connecting socket, which then connects to itself (simultaneous open, RFC 9293 section 3.5).
    if socket.local_addr()? == peer {
        return Err(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            "the socket connected to itself: nobody listens on that port",
        ));
    }
    Ok(Some(from_socket2(&peer)))
}

/// The same error, with what was being done.
fn named(error: &io::Error, what: fmt::Arguments<'_>) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

fn new(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A non-blocking connect in progress is reported as EINPROGRESS, on Windows as WSAEWOULDBLOCK.
fn is_in_progress(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) {
        return true;
    }
    error.kind() == io::ErrorKind::WouldBlock
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_takes_a_long_backlog_as_it_is() {
        let of_windows = [1, 200, 201, 4096, i32::MAX].map(|it| system_backlog(it, true));
        assert_eq!(of_windows, [1, 200, -201, -4096, -65_535]);
        assert_eq!(system_backlog(4096, false), 4096);
    }

    #[test]
    fn ipv6_only_is_not_turned_off_where_there_are_no_sockets_of_both_families() {
        let (v4, v6) = (([0; 4], 0).into(), ([0u16; 8], 0).into());
        assert!(sets_only_v6(v6, false, true));
        assert!(sets_only_v6(v6, true, true));
        assert!(sets_only_v6(v6, true, false));
        assert!(!sets_only_v6(v6, false, false));
        assert!(!sets_only_v6(v4, false, true));
        assert!(!sets_only_v6(v4, true, true));
    }

    /// By chance this happens to a client of a port that nobody listens on.
    #[test]
    fn a_connection_to_itself_is_none() {
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let socket = new(any).unwrap();
        socket.bind(&any.into()).unwrap();
        match socket.connect(&socket.local_addr().unwrap()) {
            Ok(()) => {}
            Err(error) => assert!(is_in_progress(&error), "{error}"),
        }
        let outcome = connected(&SockRef::from(&socket));
        let refused = Some(io::ErrorKind::ConnectionRefused);
        assert_eq!(outcome.err().map(|error| error.kind()), refused);
    }
}

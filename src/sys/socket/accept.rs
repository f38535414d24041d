//! Accepting a connection: non-blocking from the start, with the options of its listener and the address of its
//! peer.

use std::io;

use socket2::Socket;

#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly"
))]
use in_one_call as platform;
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly"
)))]
use in_steps as platform;

use super::Fd;
use crate::addr::Addr;

#[inline]
pub(super) fn accept(listener: &Socket) -> io::Result<(Fd, Addr)> {
    let (accepted, peer) = platform::accept(listener)?;
    match peer {
        Some(peer) => Ok((accepted, peer)),
        None => Ok((accepted, without_addr(is_inet(listener))?)),
    }
}

/// The address of a peer for which the system has none. XNU accepts a connection that has ended already, and then
/// returns no address (dotnet/runtime#121848; Go takes it for an aborted one, too). As a Unix-domain peer, which has
/// no address either, it would be in no quota of an IP address, and a trusted proxy where `unix:` is one.
#[cold]
fn without_addr(is_inet: bool) -> io::Result<Addr> {
    if is_inet {
        Err(io::Error::new(
            io::ErrorKind::ConnectionAborted,
            "the connection had ended before its accept",
        ))
    } else {
        Ok(Addr::Unix(None))
    }
}

fn is_inet(listener: &Socket) -> bool {
    let local = listener.local_addr();
    local.is_ok_and(|addr| addr.as_socket().is_some())
}

/// accept4(2) does it in one call: it makes the socket non-blocking, and on these systems the socket
/// inherits the options of its listener.
///
/// The address is the one that accept4 returns. A peer that is gone already has none to ask for later.
#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly"
))]
mod in_one_call {
    use std::io;
    use std::net::{SocketAddr, SocketAddrV4};

    use rustix::net::{AddressFamily, SocketAddrAny, SocketFlags};
    use socket2::Socket;

    use super::Fd;
    use crate::addr::Addr;

    #[inline]
    pub(super) fn accept(listener: &Socket) -> io::Result<(Fd, Option<Addr>)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (socket, peer) = rustix::net::acceptfrom_with(listener, flags)?;
        let socket = Socket::from(socket);
        let peer = peer.and_then(|addr| from_rustix(&socket, addr));
        Ok((Fd::Stream(socket), peer))
    }

    #[inline]
    fn from_rustix(socket: &Socket, addr: SocketAddrAny) -> Option<Addr> {
        match addr.address_family() {
            AddressFamily::INET => Some(Addr::Inet(SocketAddrV4::try_from(addr).ok()?.into())),
            AddressFamily::INET6 => inet6(addr),
            _ => unix(socket, addr),
        }
    }

    #[inline(never)]
    fn inet6(addr: SocketAddrAny) -> Option<Addr> {
        SocketAddr::try_from(addr).ok().map(Addr::from)
    }

    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    #[inline(never)]
    fn unix(_: &Socket, addr: SocketAddrAny) -> Option<Addr> {
        use std::ffi::OsString;
        use std::os::unix::ffi::OsStringExt;

        let addr = rustix::net::SocketAddrUnix::try_from(addr).ok()?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(name) = addr.abstract_name().filter(|name| !name.is_empty()) {
            return Some(Addr::Abstract(name.into()));
        }
        let path = addr.path().map(|path| path.to_bytes().to_vec());
        let path = path.filter(|path| !path.is_empty());
        Some(Addr::Unix(path.map(|path| OsString::from_vec(path).into())))
    }

    /// NetBSD, OpenBSD and DragonFly return the address of an unnamed socket with zeros instead of a path. `rustix`
    /// asserts in debug builds that there are none.
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    #[inline(never)]
    fn unix(socket: &Socket, _: SocketAddrAny) -> Option<Addr> {
        let addr = socket.peer_addr().ok()?;
        Some(super::super::address::from_socket2(&addr))
    }
}

/// Other systems take several calls, and not all of them document that options are inherited. The tests run it on
/// all systems.
#[cfg(any(
    test,
    not(any(
        target_os = "linux",
        target_os = "android",
        target_os = "freebsd",
        target_os = "netbsd",
        target_os = "openbsd",
        target_os = "dragonfly"
    ))
))]
mod in_steps {
    use std::io;

    use socket2::Socket;

    use super::super::address::from_socket2;
    use super::super::ended;
    use super::Fd;
    use crate::addr::Addr;
    use crate::log::log_throttled;

    pub(super) fn accept(listener: &Socket) -> io::Result<(Fd, Option<Addr>)> {
        accept_with(listener, prepare, ended::REFUSES_OPTIONS)
    }

    pub(super) fn accept_with(
        listener: &Socket,
        prepare: impl FnOnce(&Socket) -> io::Result<()>,
        refuses_options: bool,
    ) -> io::Result<(Fd, Option<Addr>)> {
        let (socket, peer) = listener.accept_raw()?;
        let outcome = prepare(&socket);
        inherit_options(listener, &socket);
        let mut fd = Fd::Stream(socket);
        // A Unix-domain peer that closes ends both directions, and what it has sent is still there. Of a TCP
        // connection, only a reset ends both.
        fd.prepared(outcome, refuses_options && peer.is_unix())
            .map_err(|error| failed_after_accept(&error))?;
        let has_addr = peer.as_socket().is_some() || peer.is_unix();
        Ok((fd, has_addr.then(|| from_socket2(&peer))))
    }

    /// What accept4(2) does by itself.
    ///
    /// # Errors
    /// When the socket would block, or would raise SIGPIPE.
    fn prepare(socket: &Socket) -> io::Result<()> {
        #[cfg(unix)]
        or_log("FD_CLOEXEC", socket.set_cloexec(true));
        #[cfg(windows)]
        or_log("no inheritance", socket.set_no_inherit(true));
        ended::prepare(socket)
    }

    /// Without it, a child process inherits the connection. That is no reason to drop the connection.
    pub(super) fn or_log(what: &'static str, outcome: io::Result<()>) {
        if let Err(error) = outcome {
            log_throttled!(warn, %error, "{what} is not set on an accepted connection");
        }
    }

    /// The error of a call on a connection that was just accepted concerns this connection, not its listener. macOS
    /// reports EINVAL for a connection that its peer has already reset (swift-nio #1030, #1041), and EINVAL from
    /// accept(2) itself would mean that the socket does not listen. Any other error is logged: it may concern every
    /// connection.
    fn failed_after_accept(error: &io::Error) -> io::Error {
        if error.kind() != io::ErrorKind::InvalidInput {
            log_throttled!(warn, %error, "an accepted connection cannot be used");
        }
        io::Error::new(
            io::ErrorKind::ConnectionAborted,
            format!("after its accept: {error}"),
        )
    }

    /// A listener of the Unix domain has none of these options, so its sockets need none. An option
    /// that cannot be set costs speed, or an urgent byte, but not the connection.
    fn inherit_options(listener: &Socket, accepted: &Socket) {
        if listener.tcp_nodelay().unwrap_or(false) {
            let _ = accepted.set_tcp_nodelay(true);
        }
        #[cfg(not(target_os = "redox"))]
        if listener.out_of_band_inline().unwrap_or(false) {
            let _ = accepted.set_out_of_band_inline(true);
        }
    }
}

/// Whether accept(2) failed with EPROTO, an error of the connection that it passes on. The standard
/// library has no kind for it.
#[cfg(unix)]
pub(crate) fn is_protocol_error(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::PROTO.raw_os_error())
}

#[cfg(not(unix))]
pub(crate) fn is_protocol_error(_: &io::Error) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::log::warnings;

    /// A listener with a connection that waits, and the address of the other end.
    fn listener() -> (Socket, TcpStream, Addr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let addr = peer.local_addr().unwrap().into();
        (listener.into(), peer, addr)
    }

    #[test]
    fn a_connection_is_accepted_in_steps_as_in_one_call() {
        for accept in [platform::accept, in_steps::accept] {
            let (listener, _peer, addr) = listener();
            let (accepted, peer) = accept(&listener).unwrap();
            assert_eq!(peer, Some(addr));
            let blocked = accepted.recv(&mut [0]).map_err(|error| error.kind());
            assert_eq!(blocked, Err(io::ErrorKind::WouldBlock));
        }
    }

    /// Linux copies them when the connection is made, so those that are set later are not inherited there.
    #[test]
    fn a_connection_that_is_accepted_in_steps_gets_the_options_of_its_listener() {
        let (listener, _peer, _) = listener();
        listener.set_tcp_nodelay(true).unwrap();
        listener.set_out_of_band_inline(true).unwrap();
        let (accepted, _) = in_steps::accept(&listener).unwrap();
        let accepted = accepted.view().unwrap();
        assert!(accepted.tcp_nodelay().unwrap());
        assert!(accepted.out_of_band_inline().unwrap());
    }

    /// EINVAL ends a listener. Here it only ends the connection.
    #[test]
    fn what_fails_after_an_accept_concerns_its_connection() {
        let (listener, _peer, _) = listener();
        let refuse = |_: &Socket| Err(io::ErrorKind::InvalidInput.into());
        let outcome = in_steps::accept_with(&listener, refuse, true);
        let kind = outcome.err().map(|error| error.kind());
        assert_eq!(kind, Some(io::ErrorKind::ConnectionAborted));
    }

    /// macOS refuses the options of a Unix-domain connection that its peer has closed, and Linux serves it.
    #[cfg(unix)]
    #[test]
    fn what_a_closed_unix_domain_peer_has_sent_is_received() {
        use std::io::Write;
        use std::os::unix::net::{UnixListener, UnixStream};

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap().into();
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(b"last words").unwrap();
        drop(client);
        let refuse = |_: &Socket| Err(io::ErrorKind::InvalidInput.into());
        let (accepted, peer) = in_steps::accept_with(&listener, refuse, true).unwrap();
        assert_eq!(peer, Some(Addr::Unix(None)));
        let mut buffer = [0; 100];
        assert_eq!(accepted.recv(&mut buffer).unwrap(), b"last words".len());
        assert_eq!(accepted.recv(&mut buffer).unwrap(), 0);
    }

    /// The server would drop all of its connections in silence.
    #[test]
    fn what_may_fail_with_every_accept_is_logged() {
        let fail_with = |kind: io::ErrorKind| {
            let (listener, _peer, _) = listener();
            warnings(|| drop(in_steps::accept_with(&listener, |_| Err(kind.into()), true)))
        };
        let logged = fail_with(io::ErrorKind::PermissionDenied);
        assert!(logged.contains("cannot be used"), "{logged}");
        assert_eq!(fail_with(io::ErrorKind::InvalidInput), "");

        let error = || Err(io::ErrorKind::PermissionDenied.into());
        let logged = warnings(|| in_steps::or_log("FD_CLOEXEC", error()));
        assert!(logged.contains("FD_CLOEXEC is not set"), "{logged}");
    }

    #[test]
    fn a_tcp_connection_without_the_address_of_its_peer_is_none() {
        let aborted = without_addr(true).map_err(|error| error.kind());
        assert_eq!(aborted, Err(io::ErrorKind::ConnectionAborted));
        assert_eq!(without_addr(false).unwrap(), Addr::Unix(None));
        assert!(is_inet(&listener().0));
    }

    #[cfg(unix)]
    #[test]
    fn a_unix_domain_connection_needs_no_address() {
        use std::os::unix::net::{UnixListener, UnixStream};

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let _peer = UnixStream::connect(&path).unwrap();
        let listener = Socket::from(std::os::fd::OwnedFd::from(listener));
        assert!(!is_inet(&listener));
        assert_eq!(accept(&listener).unwrap().1, Addr::Unix(None));
    }
}

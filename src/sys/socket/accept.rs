//! Accepting a connection: non-blocking from the start, with the options of its listener and the address of its
//! peer.

use std::io;

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
mod platform {
    use std::ffi::OsString;
    use std::io;
    use std::net::{SocketAddr, SocketAddrV4};
    use std::os::unix::ffi::OsStringExt;

    use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags};
    use socket2::Socket;

    use crate::addr::Addr;

    pub(in super::super) fn accept(listener: &Socket) -> io::Result<(Socket, Addr)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (socket, peer) = rustix::net::acceptfrom_with(listener, flags)?;
        Ok((socket.into(), from_rustix(peer)))
    }

    /// `None` is the address of a Unix-domain socket without a name.
    #[inline]
    fn from_rustix(addr: Option<SocketAddrAny>) -> Addr {
        match addr {
            Some(addr) if addr.address_family() == AddressFamily::INET => {
                let v4 = SocketAddrV4::try_from(addr);
                v4.map_or(Addr::Unix(None), |v4| Addr::Inet(v4.into()))
            }
            Some(addr) => from_other(addr),
            None => Addr::Unix(None),
        }
    }

    #[inline(never)]
    fn from_other(addr: SocketAddrAny) -> Addr {
        if addr.address_family() == AddressFamily::INET6 {
            return SocketAddr::try_from(addr).map_or(Addr::Unix(None), Addr::from);
        }
        let Ok(addr) = SocketAddrUnix::try_from(addr) else {
            return Addr::Unix(None);
        };
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(name) = addr.abstract_name().filter(|name| !name.is_empty()) {
            return Addr::Abstract(name.into());
        }
        let path = addr.path().map(|path| path.to_bytes().to_vec());
        let path = path.filter(|path| !path.is_empty());
        Addr::Unix(path.map(|path| OsString::from_vec(path).into()))
    }
}

/// Other systems take several calls, and not all of them document that options are inherited.
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly"
)))]
mod platform {
    use std::io;

    use socket2::Socket;

    use super::super::address::from_socket2;
    use crate::addr::Addr;

    pub(in super::super) fn accept(listener: &Socket) -> io::Result<(Socket, Addr)> {
        let (socket, peer) = listener.accept_raw()?;
        prepare(&socket).map_err(|error| super::failed_after_accept(&error))?;
        inherit_options(listener, &socket);
        Ok((socket, from_socket2(&peer)))
    }

    /// What accept4(2) does by itself.
    fn prepare(socket: &Socket) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        #[cfg(unix)]
        socket.set_cloexec(true)?;
        #[cfg(windows)]
        socket.set_no_inherit(true)?;
        #[cfg(target_vendor = "apple")]
        socket.set_nosigpipe(true)?;
        Ok(())
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

pub(super) use platform::accept;

/// The error of a call on a connection that was just accepted concerns this connection, not its listener. macOS
/// reports EINVAL for a connection that its peer has already reset (swift-nio #1030, #1041), and EINVAL from
/// accept(2) itself would mean that the socket does not listen.
#[cfg_attr(
    any(
        target_os = "linux",
        target_os = "android",
        target_os = "freebsd",
        target_os = "netbsd",
        target_os = "openbsd",
        target_os = "dragonfly"
    ),
    allow(dead_code)
)]
fn failed_after_accept(error: &io::Error) -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        format!("after its accept: {error}"),
    )
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
    use super::*;

    /// EINVAL ends a listener. Here it only ends the connection.
    #[test]
    fn what_fails_after_an_accept_concerns_its_connection() {
        let error = failed_after_accept(&io::ErrorKind::InvalidInput.into());
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }
}

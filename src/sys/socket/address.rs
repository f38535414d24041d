//! The addresses of three libraries as an [`Addr`]: of `socket2`, of the standard library (Unix-domain
//! datagrams), of `rustix` (accepted connections).

use socket2::SockAddr;

use crate::addr::Addr;

pub(super) fn from_socket2(addr: &SockAddr) -> Addr {
    match addr.as_socket() {
        Some(inet) => inet.into(),
        None => unix_from_socket2(addr),
    }
}

#[cfg(unix)]
fn unix_from_socket2(addr: &SockAddr) -> Addr {
    match addr.as_abstract_namespace() {
        Some(name) => Addr::Abstract(name.into()),
        None => Addr::Unix(addr.as_pathname().map(Into::into)),
    }
}

#[cfg(not(unix))]
fn unix_from_socket2(_: &SockAddr) -> Addr {
    Addr::Unix(None)
}

#[cfg(unix)]
pub(super) fn from_std(addr: &std::os::unix::net::SocketAddr) -> Addr {
    #[cfg(target_os = "android")]
    use std::os::android::net::SocketAddrExt;
    #[cfg(target_os = "linux")]
    use std::os::linux::net::SocketAddrExt;

    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(name) = addr.as_abstract_name() {
        return Addr::Abstract(name.into());
    }
    Addr::Unix(addr.as_pathname().map(Into::into))
}

/// `None` is the address of a peer that is gone already, or of a Unix-domain socket without a name.
#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly"
))]
pub(super) fn from_rustix(addr: Option<rustix::net::SocketAddrAny>) -> Addr {
    use rustix::net::AddressFamily;
    use std::net::SocketAddr;

    let Some(addr) = addr else {
        return Addr::Unix(None);
    };
    match addr.address_family() {
        AddressFamily::INET | AddressFamily::INET6 => {
            SocketAddr::try_from(addr).map_or(Addr::Unix(None), Addr::from)
        }
        _ => unix_from_rustix(addr),
    }
}

#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly"
))]
#[cold]
fn unix_from_rustix(addr: rustix::net::SocketAddrAny) -> Addr {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    let Ok(addr) = rustix::net::SocketAddrUnix::try_from(addr) else {
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

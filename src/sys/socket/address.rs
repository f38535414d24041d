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

#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly"
))]
pub(super) use of_accepted::from_rustix;

/// Addresses from accept4(2), on the systems where `accept.rs` uses it.
#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly"
))]
mod of_accepted {
    use std::ffi::OsString;
    use std::net::{SocketAddr, SocketAddrV4};
    use std::os::unix::ffi::OsStringExt;

    use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix};

    use crate::addr::Addr;

    /// `None` is the address of a Unix-domain socket without a name.
    #[inline]
    pub(in super::super) fn from_rustix(addr: Option<SocketAddrAny>) -> Addr {
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

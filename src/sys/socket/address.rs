//! The addresses of two libraries as an [`Addr`]: of `socket2`, and of the standard library (Unix-domain
//! datagrams). `accept.rs` converts those of `rustix`.

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
        None => Addr::Unix(addr.as_pathname().and_then(until_nul)),
    }
}

/// The path in an address. OpenBSD, and sometimes FreeBSD and illumos, fill the rest of the address with zeros
/// (rust-lang/rust#116523).
#[cfg(unix)]
fn until_nul(path: &std::path::Path) -> Option<std::path::PathBuf> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let mut parts = path.as_os_str().as_bytes().split(|byte| *byte == 0);
    let path = parts.next().filter(|path| !path.is_empty())?;
    Some(OsStr::from_bytes(path).into())
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

/// The path that these bytes of a Unix-domain address are.
#[cfg(all(unix, feature = "proxy-protocol"))]
pub(crate) fn path_from_bytes(bytes: &[u8]) -> std::path::PathBuf {
    let path: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(bytes);
    path.into()
}

#[cfg(all(not(unix), feature = "proxy-protocol"))]
pub(crate) fn path_from_bytes(bytes: &[u8]) -> std::path::PathBuf {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// The bytes of a path in a Unix-domain address.
#[cfg(all(unix, feature = "proxy-protocol"))]
pub(crate) fn path_bytes(path: &std::path::Path) -> Vec<u8> {
    std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).to_vec()
}

#[cfg(all(not(unix), feature = "proxy-protocol"))]
pub(crate) fn path_bytes(path: &std::path::Path) -> Vec<u8> {
    path.to_string_lossy().into_owned().into_bytes()
}

#[cfg(all(test, unix))]
mod tests {
    use std::path::{Path, PathBuf};

    use super::until_nul;

    #[test]
    fn a_path_ends_at_its_first_nul_byte() {
        let path = until_nul(Path::new("/run/x.sock\0\0\0"));
        assert_eq!(path, Some(PathBuf::from("/run/x.sock")));
        assert_eq!(until_nul(Path::new("/x")), Some(PathBuf::from("/x")));
        assert_eq!(until_nul(Path::new("\0\0")), None, "an unnamed socket");
    }
}

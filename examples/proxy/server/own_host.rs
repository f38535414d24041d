//! Which addresses the host has.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use tracing::warn;

/// Addresses of documentation, which no host should have (RFC 5737, RFC 3849).
const NOBODY_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 254);
const NOBODY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);

/// Whether an address is one of this host. The calls that list the addresses differ between systems, but on each of them a
/// socket can be bound to an address of the host only. The addresses may change at any time, so this is asked for each
/// destination. `None` if the system cannot say it, for example because descriptors are missing. This must not open the way to
/// the host.
pub fn is_own(ip: IpAddr) -> Option<bool> {
    let found = find(ip, bind);
    found
        .inspect_err(|error| {
            warn!(target: "proxy::throttled", "{ip} may be an address of this host: {error}");
        })
        .ok()
}

fn find(ip: IpAddr, bind: impl Fn(IpAddr) -> io::Result<UdpSocket>) -> io::Result<bool> {
    let has = |ip| match bind(ip) {
        Ok(_) => Ok(true),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(error),
    };
    let (nobody, any): (IpAddr, IpAddr) = match ip {
        IpAddr::V4(_) => (NOBODY_V4.into(), Ipv4Addr::UNSPECIFIED.into()),
        IpAddr::V6(_) => (NOBODY_V6.into(), Ipv6Addr::UNSPECIFIED.into()),
    };
    if !has(ip)? {
        return Ok(false);
    }
    if !has(nobody)? {
        return Ok(true);
    }
    // With `net.ipv4.ip_nonlocal_bind` of Linux a socket can be bound to any address. But the system sends from the address
    // itself to most addresses of its own, all but secondary ones: these are not recognized. The connection of a UDP socket
    // sends nothing.
    let socket = bind(any)?;
    match socket.connect((ip, 9)) {
        Ok(()) => Ok(socket.local_addr()?.ip() == ip),
        // A host has a way to each of its addresses.
        Err(error) if is_unreachable(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn bind(ip: IpAddr) -> io::Result<UdpSocket> {
    UdpSocket::bind((ip, 0))
}

/// Whether the host does not have the address that could not be bound to, or no address of its family.
fn is_absent(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(NO_FAMILY)
}

fn is_unreachable(error: &io::Error) -> bool {
    let kinds = [ErrorKind::NetworkUnreachable, ErrorKind::HostUnreachable];
    kinds.contains(&error.kind())
}

/// The system has no IPv6.
#[cfg(unix)]
const NO_FAMILY: i32 = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
/// WSAEAFNOSUPPORT.
#[cfg(not(unix))]
const NO_FAMILY: i32 = 10047;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_this_host_are_its_own() {
        assert_eq!(is_own(Ipv4Addr::LOCALHOST.into()), Some(true));
        for ip in ["198.51.100.7", "203.0.113.254", "2001:db8:ffff::1"] {
            assert_eq!(is_own(ip.parse().unwrap()), Some(false), "{ip}");
        }
    }

    #[test]
    fn an_address_whose_host_is_unknown_is_an_error() {
        let find = |error: fn() -> io::Error| find(NOBODY_V4.into(), |_| Err(error()));
        for absent in [
            || ErrorKind::AddrNotAvailable.into(),
            || io::Error::from_raw_os_error(NO_FAMILY),
        ] {
            assert!(!find(absent).unwrap());
        }
        for unknown in [
            || ErrorKind::AddrInUse.into(),
            || ErrorKind::PermissionDenied.into(),
            || io::Error::other("too many open files"),
        ] {
            find(unknown).unwrap_err();
        }
    }
}

//! Which addresses the host has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// Addresses of documentation, which no host should have (RFC 5737, RFC 3849).
const NOBODY_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 254);
const NOBODY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);

/// Whether an address is one of this host. The calls that list the addresses differ between systems, but on each of them a
/// socket can be bound to an address of the host only. The addresses may change at any time, so this is asked for each
/// destination.
pub fn is_own(ip: IpAddr) -> bool {
    let (nobody, any): (IpAddr, IpAddr) = match ip {
        IpAddr::V4(_) => (NOBODY_V4.into(), Ipv4Addr::UNSPECIFIED.into()),
        IpAddr::V6(_) => (NOBODY_V6.into(), Ipv6Addr::UNSPECIFIED.into()),
    };
    if bind(ip).is_none() {
        return false;
    }
    if bind(nobody).is_none() {
        return true;
    }
    // With `net.ipv4.ip_nonlocal_bind` of Linux a socket can be bound to any address. But the system sends from the address
    // itself to most addresses of its own, all but secondary ones. The connection of a UDP socket sends nothing.
    let source = bind(any).and_then(|socket| {
        socket.connect((ip, 9)).ok()?;
        socket.local_addr().ok()
    });
    source.is_some_and(|source| source.ip() == ip)
}

fn bind(ip: IpAddr) -> Option<UdpSocket> {
    UdpSocket::bind((ip, 0)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_this_host_are_its_own() {
        assert!(is_own(Ipv4Addr::LOCALHOST.into()));
        for ip in ["198.51.100.7", "203.0.113.254", "2001:db8:ffff::1"] {
            assert!(!is_own(ip.parse().unwrap()), "{ip}");
        }
    }
}

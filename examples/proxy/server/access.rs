//! The access list: which addresses and ports clients may reach.
//!
//! Whoever can use a proxy can make it connect to what only the proxy reaches: services on its own host, in its
//! network, or the metadata of its cloud at 169.254.169.254 or 168.63.129.16 (server-side request forgery). So only the public internet
//! is allowed, and whatever [`Access::allow`] lists. A host that has a public address can be reached by it, too. Its
//! addresses are refused before a connection is tried, whose outcome would tell whether the port is open. See
//! `own_host.rs`. Where the system does not tell them, a connection that turns out to lead to the proxy's own host is closed.
//!
//! A name says nothing about the address that it will have a moment later (DNS rebinding). The list is therefore
//! applied to the addresses that a look-up has found, and exactly these are connected to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use asynchat::Addr;
use asynchat::proxy_protocol::Network;

use super::own_host;

/// The WireServer of Azure: it gives each machine its certificates and extensions. The address is a public one, but
/// only the host of the machine answers there.
const WIRE_SERVER: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

/// The port of mail servers. RFC 9110 section 9.3.6: a proxy that connects to it can be used to send spam.
const SMTP: u16 = 25;

/// The access list.
#[derive(Clone)]
pub struct Access {
    /// These networks are allowed, although they are not public.
    pub allow: Vec<Network>,
    /// Only these ports are allowed. If there is none, every port is, but 25.
    pub ports: Vec<u16>,
    /// Whether an address is one of the proxy's host, or `None` if the system cannot say it now. It is called on threads of
    /// the resolver, too.
    pub is_own: fn(IpAddr) -> Option<bool>,
}

impl Default for Access {
    fn default() -> Access {
        Access {
            allow: vec![],
            ports: vec![],
            is_own: own_host::is_own,
        }
    }
}

/// The rule that refuses a destination. Its text is for the log: it tells the operator which option permits the
/// destination. To clients it would tell the addresses of names in the network of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// There are ports of `--port`, and this is none of them.
    NotListed(u16),
    /// Only `--port` permits this port.
    Reserved(u16),
    NotPublic(IpAddr),
    OwnHost(IpAddr),
    /// It may be an address of this host. The system cannot say it now.
    Unclear(IpAddr),
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::NotListed(port) => write!(f, "port {port} is not in --port"),
            Rule::Reserved(port) => write!(f, "port {port} is refused unless it is in --port"),
            Rule::NotPublic(ip) => write!(f, "{ip} is not public: --allow {ip} permits it"),
            Rule::OwnHost(ip) => {
                write!(
                    f,
                    "{ip} is an address of this host: --allow {ip} permits it"
                )
            }
            Rule::Unclear(ip) => write!(f, "{ip} may be an address of this host"),
        }
    }
}

impl Access {
    /// # Errors
    /// The rule that refuses the port.
    pub fn check_port(&self, port: u16) -> Result<(), Rule> {
        match self.ports.is_empty() {
            true if port == SMTP || port == 0 => Err(Rule::Reserved(port)),
            false if !self.ports.contains(&port) => Err(Rule::NotListed(port)),
            _ => Ok(()),
        }
    }

    /// Checks an address that a client has asked for on its connection to `own`.
    ///
    /// # Errors
    /// The rule that refuses the address.
    pub fn check(&self, addr: SocketAddr, own: Option<&Addr>) -> Result<(), Rule> {
        if self.lists(addr) {
            return Ok(());
        }
        let ip = addr.ip().to_canonical();
        if !is_public(ip) {
            return Err(Rule::NotPublic(addr.ip()));
        }
        self.check_own(Some(&addr.into()), own)?;
        let embedded = embedded_v4(ip).map(IpAddr::V4);
        for candidate in [Some(ip), embedded].into_iter().flatten() {
            match (self.is_own)(candidate) {
                Some(false) => {}
                Some(true) => return Err(Rule::OwnHost(ip)),
                None => return Err(Rule::Unclear(ip)),
            }
        }
        Ok(())
    }

    /// Whether `addr` is one of the host of the proxy, which has the address `own`, and is not listed.
    ///
    /// # Errors
    /// The rule that refuses it.
    pub fn check_own(&self, addr: Option<&Addr>, own: Option<&Addr>) -> Result<(), Rule> {
        let inet = |addr: Option<&Addr>| addr.and_then(Addr::inet);
        match (inet(addr), inet(own)) {
            (Some(addr), Some(own)) if !self.lists(addr) => {
                let ip = addr.ip().to_canonical();
                if ip == own.ip().to_canonical() {
                    Err(Rule::OwnHost(ip))
                } else {
                    Ok(())
                }
            }
            _ => Ok(()),
        }
    }

    fn lists(&self, addr: SocketAddr) -> bool {
        let addr = Addr::from(addr);
        self.allow.iter().any(|network| network.contains(&addr))
    }
}

/// Whether an address is one of the public internet. The others are those of the IANA registries of special-purpose
/// addresses (RFC 6890) and of multicast. An address that contains an IPv4 address, because a gateway or a tunnel
/// would send to that one, is judged by it.
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let is_special = match (a, b, c) {
        (0, ..) => true,            // this host: Linux connects 0.0.0.0 to itself (RFC 1122)
        (10, ..) => true,           // private (RFC 1918)
        (100, 64..=127, _) => true, // shared by the customers of a provider (RFC 6598)
        (127, ..) => true,          // loopback
        (169, 254, _) => true,      // link-local, and the metadata of clouds (RFC 3927)
        (172, 16..=31, _) => true,  // private
        (192, 0, 0) => true,        // protocol assignments (RFC 6890)
        (192, 0, 2) => true,        // documentation (RFC 5737)
        (192, 88, 99) => true,      // relays of 6to4 (RFC 7526)
        (192, 168, _) => true,      // private
        (198, 18..=19, _) => true,  // benchmarks (RFC 2544)
        (198, 51, 100) => true,     // documentation
        (203, 0, 113) => true,      // documentation
        (224..=255, ..) => true,    // multicast, reserved, broadcast
        _ => false,
    };
    !is_special && ip != WIRE_SERVER
}

/// The IPv4 address to which a gateway or a tunnel would send.
fn embedded_v4(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(ip) = ip else {
        return None;
    };
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some((high, low)), // NAT64 (RFC 6052)
        [0x2002, high, low, ..] => Some((high, low)),               // 6to4 (RFC 3056)
        _ => None,
    }
    .map(|(high, low)| (u32::from(high) << 16 | u32::from(low)).into())
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    if let Some(ip) = embedded_v4(ip.into()) {
        return is_public_v4(ip);
    }
    match ip.segments() {
        [0x2001, 0..=0x1ff, ..] => false, // protocol assignments (RFC 2928), as Teredo
        [0x2001, 0xdb8, ..] => false,     // documentation (RFC 3849)
        [0x3fff, 0..=0xfff, ..] => false, // documentation (RFC 9637)
        // The addresses of hosts and sites are in 2000::/3. Outside are ::, ::1, IPv4-compatible addresses, local
        // NAT64 (RFC 8215), unique local addresses (RFC 4193), link-local, site-local and multicast addresses.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(access: &Access, ip: &str) -> bool {
        let addr = SocketAddr::new(ip.parse().unwrap(), 80);
        access.check(addr, None).is_ok()
    }

    #[test]
    fn only_public_addresses_are_allowed() {
        let access = Access::default();
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "::ffff:168.63.129.16",
            "64:ff9b::a83f:8110",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:0.0.0.0",
            "::ffff:169.254.169.254",
            "64:ff9b::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:1ff::1",
            "2001:db8::1",
            "3fff:fff::1",
            "2002:7f00:1::1",
            "2002:a00:1::",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!allows(&access, ip), "{ip}");
        }
        for ip in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.0.0.1",
            "128.0.0.1",
            "169.253.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "192.0.3.1",
            "192.167.0.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2001:200::1",
            "2001:4860::1",
            "3fff:1000::1",
            "2002:101:101::1",
            "2a00::1",
        ] {
            assert!(allows(&access, ip), "{ip}");
        }
    }

    #[test]
    fn a_listed_network_is_allowed_in_either_form() {
        let allow = vec!["127.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let access = Access {
            allow,
            ..Access::default()
        };
        for ip in ["127.0.0.1", "::ffff:127.0.0.1", "fd12::1", "1.1.1.1"] {
            assert!(allows(&access, ip), "{ip}");
        }
        for ip in [
            "::1",
            "10.0.0.1",
            "0.0.0.0",
            "64:ff9b::127.0.0.1",
            "fc00::1",
        ] {
            assert!(!allows(&access, ip), "{ip}");
        }
    }

    #[test]
    fn the_address_of_the_host_is_refused_unless_listed() {
        let mut access = Access::default();
        let addr = |text: &str| Some(Addr::from(text.parse::<SocketAddr>().unwrap()));
        let (other_port, mapped) = (addr("1.1.1.1:22"), addr("[::ffff:1.1.1.1]:8080"));
        let check = |access: &Access, own: Option<Addr>| {
            access.check_own(other_port.as_ref(), own.as_ref())
        };
        let refused = Err(Rule::OwnHost([1, 1, 1, 1].into()));
        assert_eq!(check(&access, addr("1.1.1.1:8080")), refused);
        assert_eq!(check(&access, mapped.clone()), refused);
        assert_eq!(check(&access, addr("1.1.1.2:22")), Ok(()));
        assert_eq!(check(&access, None), Ok(()));
        access.allow = vec!["1.1.1.1/32".parse().unwrap()];
        assert_eq!(check(&access, mapped), Ok(()));
    }

    #[test]
    fn each_address_of_the_host_is_refused_in_any_form_unless_listed() {
        let mut access = Access {
            is_own: |ip| Some(["1.1.1.1", "2a00::1"].contains(&ip.to_string().as_str())),
            ..Access::default()
        };
        let of_host = [
            "1.1.1.1",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::5",
            "2a00::1",
        ];
        for ip in of_host {
            assert!(!allows(&access, ip), "{ip}");
        }
        for ip in ["1.1.1.2", "64:ff9b::101:102", "2a00::2"] {
            assert!(allows(&access, ip), "{ip}");
        }
        access.allow = vec!["1.1.1.1/32".parse().unwrap(), "2a00::/16".parse().unwrap()];
        for ip in ["1.1.1.1", "::ffff:1.1.1.1", "2a00::1"] {
            assert!(allows(&access, ip), "{ip}");
        }
    }

    #[test]
    fn ports_can_be_restricted_and_25_is_refused_unless_listed() {
        let mut access = Access::default();
        assert_eq!(access.check_port(443), Ok(()));
        assert_eq!(access.check_port(25), Err(Rule::Reserved(25)));
        assert_eq!(access.check_port(0), Err(Rule::Reserved(0)));
        access.ports = vec![25, 443];
        assert_eq!(access.check_port(443), Ok(()));
        assert_eq!(access.check_port(25), Ok(()));
        assert_eq!(access.check_port(80), Err(Rule::NotListed(80)));
    }
}

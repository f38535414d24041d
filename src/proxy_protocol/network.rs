//! The networks of proxies that are trusted.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::addr::Addr;
use crate::error::Error;

/// A network whose proxies are trusted, for [`Server::proxy_protocol`](crate::Server::proxy_protocol).
///
/// It is parsed from `10.0.0.0/8` or `2001:db8::/32`, from a single address, or from `unix:`, which stands for all
/// clients of a Unix-domain listener: their sockets rarely have a name.
///
/// ```
/// use asynchat::proxy_protocol::Network;
/// # fn main() -> asynchat::Result {
/// let inside: Network = "10.0.0.0/8".parse()?;
/// let addr = |text: &str| text.parse::<std::net::SocketAddr>().map(asynchat::Addr::from);
/// assert!(inside.contains(&addr("10.1.2.3:40000")?));
/// assert!(!inside.contains(&addr("192.0.2.1:40000")?));
/// assert_eq!(Network::from(std::net::Ipv6Addr::LOCALHOST).to_string(), "::1");
///
/// let error = "10.0.0.1/8".parse::<Network>().unwrap_err();
/// assert_eq!(error.to_string(), "10.0.0.1/8 is no network: /8 of that address is 10.0.0.0/8");
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// The bits behind the prefix are zero.
    V4(Ipv4Addr, u8),
    V6(Ipv6Addr, u8),
    Unix,
}

impl Network {
    /// All clients of a Unix-domain listener.
    pub const UNIX: Network = Network(Kind::Unix);

    /// The network of the addresses that have the first `prefix` bits of `addr`. An IPv4 address in IPv6 form is the
    /// IPv4 address, as it is for [`Addr`].
    ///
    /// # Errors
    /// When the prefix is longer than the address, or other bits of the address are set: `10.0.0.1/8`.
    pub fn new(addr: IpAddr, prefix: u8) -> Result<Self, Error> {
        let longest = if addr.is_ipv4() { 32 } else { 128 };
        if prefix > longest {
            let text =
                format!("{addr}/{prefix} is no network: the prefix has at most {longest} bits");
            return Err(Error::new(text));
        }
        let network = match addr {
            IpAddr::V4(v4) => Network::v4(v4, prefix),
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) if prefix >= 96 => Network::v4(v4, prefix - 96),
                _ => Network(Kind::V6(masked_v6(v6, prefix), prefix)),
            },
        };
        if network.contains_ip(addr) && network.first() == Some(addr.to_canonical()) {
            Ok(network)
        } else {
            Err(Error::new(format!(
                "{addr}/{prefix} is no network: /{prefix} of that address is {network}"
            )))
        }
    }

    fn v4(addr: Ipv4Addr, prefix: u8) -> Self {
        Network(Kind::V4(masked_v4(addr, prefix), prefix))
    }

    /// Its first address.
    fn first(&self) -> Option<IpAddr> {
        match self.0 {
            Kind::V4(first, _) => Some(first.into()),
            Kind::V6(first, _) => Some(first.into()),
            Kind::Unix => None,
        }
    }

    /// Whether the address is one of this network. The port does not matter.
    pub fn contains(&self, addr: &Addr) -> bool {
        match addr.ip() {
            Some(ip) => self.contains_ip(ip),
            None => self.0 == Kind::Unix,
        }
    }

    fn contains_ip(&self, ip: IpAddr) -> bool {
        match (self.0, ip.to_canonical()) {
            (Kind::V4(first, prefix), IpAddr::V4(ip)) => masked_v4(ip, prefix) == first,
            (Kind::V6(first, prefix), IpAddr::V6(ip)) => masked_v6(ip, prefix) == first,
            _ => false,
        }
    }
}

fn masked_v4(addr: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    Ipv4Addr::from(u32::from(addr) & mask)
}

fn masked_v6(addr: Ipv6Addr, prefix: u8) -> Ipv6Addr {
    let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
    Ipv6Addr::from(u128::from(addr) & mask)
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == "unix:" {
            return Ok(Network::UNIX);
        }
        if text.starts_with("unix:") {
            let why = "the sockets of Unix-domain clients rarely have a name: `unix:` stands for all of them";
            return Err(Error::new(format!("{text} is no network: {why}")));
        }
        let (addr, prefix) = match text.split_once('/') {
            Some((addr, prefix)) => (addr, Some(prefix)),
            None => (text, None),
        };
        let Ok(addr) = addr.parse::<IpAddr>() else {
            let why =
                "write an IP address, one with the length of its prefix (10.0.0.0/8), or `unix:`";
            return Err(Error::new(format!("{text:?} is no network: {why}")));
        };
        let Some(prefix) = prefix else {
            return Ok(addr.into());
        };
        // `u8::from_str` accepts a sign.
        let is_number = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        match prefix.parse().ok().filter(|_| is_number) {
            Some(prefix) => Network::new(addr, prefix),
            None => Err(Error::new(format!(
                "{text:?} is no network: {prefix:?} is not the length of a prefix in bits"
            ))),
        }
    }
}

/// The network of this address alone.
impl From<IpAddr> for Network {
    fn from(addr: IpAddr) -> Self {
        match addr.to_canonical() {
            IpAddr::V4(addr) => Network(Kind::V4(addr, 32)),
            IpAddr::V6(addr) => Network(Kind::V6(addr, 128)),
        }
    }
}

/// The network of this address alone.
impl From<Ipv4Addr> for Network {
    fn from(addr: Ipv4Addr) -> Self {
        IpAddr::from(addr).into()
    }
}

/// The network of this address alone.
impl From<Ipv6Addr> for Network {
    fn from(addr: Ipv6Addr) -> Self {
        IpAddr::from(addr).into()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::V4(addr, 32) => addr.fmt(f),
            Kind::V6(addr, 128) => addr.fmt(f),
            Kind::V4(first, prefix) => write!(f, "{first}/{prefix}"),
            Kind::V6(first, prefix) => write!(f, "{first}/{prefix}"),
            Kind::Unix => f.write_str("unix:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn contains(text: &str, ip: &str) -> bool {
        let addr = SocketAddr::new(ip.parse().unwrap(), 40_000);
        network(text).contains(&addr.into())
    }

    #[test]
    fn a_network_contains_the_addresses_with_its_prefix() {
        assert!(contains("10.0.0.0/8", "10.255.255.255"));
        assert!(!contains("10.0.0.0/8", "11.0.0.0"));
        assert!(contains("192.0.2.128/25", "192.0.2.129"));
        assert!(!contains("192.0.2.128/25", "192.0.2.127"));
        assert!(contains("2001:db8::/33", "2001:db8:7fff::1"));
        assert!(!contains("2001:db8::/33", "2001:db8:8000::1"));
        assert!(contains("192.0.2.1", "192.0.2.1") && !contains("192.0.2.1", "192.0.2.2"));
        assert!(contains("::1", "::1") && !contains("::1", "::2"));
        assert!(contains("::1/128", "::1"));
    }

    #[test]
    fn all_addresses_of_a_family_are_a_network_and_the_other_family_is_not_in_it() {
        assert!(contains("0.0.0.0/0", "255.255.255.255") && !contains("0.0.0.0/0", "::1"));
        assert!(contains("::/0", "ffff::") && !contains("::/0", "10.0.0.1"));
        assert!(!network("::/0").contains(&Addr::Unix(None)));
    }

    #[test]
    fn an_ipv4_network_in_ipv6_form_is_that_ipv4_network() {
        assert_eq!(network("::ffff:10.0.0.0/104"), network("10.0.0.0/8"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
        assert!(contains("10.0.0.0/8", "::ffff:10.1.1.1"));
    }

    #[test]
    fn unix_stands_for_all_unix_domain_clients() {
        let unix = network("unix:");
        assert!(unix.contains(&Addr::Unix(None)));
        assert!(unix.contains(&Addr::Unix(Some("/run/proxy".into()))));
        assert!(unix.contains(&Addr::Abstract(b"proxy".as_slice().into())));
        assert!(!contains("unix:", "127.0.0.1"));
    }

    #[test]
    fn the_text_of_a_network_is_parsed_to_the_same_network() {
        for text in [
            "10.0.0.0/8",
            "10.0.0.1",
            "2001:db8::/32",
            "::1",
            "unix:",
            "0.0.0.0/0",
        ] {
            assert_eq!(network(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_network_has_an_error_that_says_why() {
        let error = |text: &str| text.parse::<Network>().unwrap_err().to_string();
        assert_eq!(
            error("example.org"),
            "\"example.org\" is no network: write an IP address, one with the length of its prefix (10.0.0.0/8), or \
             `unix:`"
        );
        assert_eq!(
            error("10.0.0.0/33"),
            "10.0.0.0/33 is no network: the prefix has at most 32 bits"
        );
        assert_eq!(
            error("10.0.0.0/+8"),
            "\"10.0.0.0/+8\" is no network: \"+8\" is not the length of a prefix in bits"
        );
        assert_eq!(
            error("2001:db8::1/32"),
            "2001:db8::1/32 is no network: /32 of that address is 2001:db8::/32"
        );
        for text in [
            "",
            "/8",
            "10.0.0.0/",
            "10.0.0/8",
            "10.0.0.0/8/8",
            "10.0.0.0/300",
            "::1%lo",
            "unix:/run/x",
            " ::1",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}

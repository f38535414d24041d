//! The addresses in PORT, EPRT, and in the replies to PASV and EPSV.

use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use super::Refusal;

const SYNTAX: Refusal = "501 the argument is not an address";

/// `h1,h2,h3,h4,p1,p2` (RFC 959 section 5.3.2).
pub fn parse_port(text: &str) -> Result<SocketAddr, Refusal> {
    let numbers: Option<Vec<u8>> = text.trim().split(',').map(number).collect();
    match numbers.as_deref() {
        Some(&[a, b, c, d, high, low]) => {
            let port = u16::from_be_bytes([high, low]);
            Ok(SocketAddr::from((Ipv4Addr::new(a, b, c, d), port)))
        }
        _ => Err(SYNTAX),
    }
}

/// A number in decimal digits, without a sign.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// `|2|2001:db8::1|5001|` (RFC 2428 section 2). The first character separates the others.
pub fn parse_eprt(text: &str) -> Result<SocketAddr, Refusal> {
    let separator = text.chars().next().filter(|c| ('!'..='~').contains(c));
    let separator = separator.ok_or(SYNTAX)?;
    match text.split(separator).collect::<Vec<_>>()[..] {
        ["", family, address, port, ""] => {
            let ip: IpAddr = match family {
                "1" => IpAddr::V4(address.parse().map_err(|_| SYNTAX)?),
                "2" => IpAddr::V6(address.parse().map_err(|_| SYNTAX)?),
                _ => return Err("522 use IPv4 or IPv6 (1,2)"),
            };
            let port = number(port).ok_or(SYNTAX)?;
            Ok(SocketAddr::new(ip.to_canonical(), port))
        }
        _ => Err(SYNTAX),
    }
}

/// An address as in PORT.
pub struct HostPort(pub SocketAddrV4);

impl Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.0.ip().octets();
        let [high, low] = self.0.port().to_be_bytes();
        write!(f, "{a},{b},{c},{d},{high},{low}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_port_has_six_bytes() {
        let addr = parse_port("192,0,2,7,19,137").unwrap();
        assert_eq!(addr, "192.0.2.7:5001".parse().unwrap());
        let SocketAddr::V4(v4) = addr else {
            panic!("{addr}")
        };
        assert_eq!(HostPort(v4).to_string(), "192,0,2,7,19,137");
        for text in [
            "",
            "1,2,3,4,5",
            "1,2,3,4,5,6,7",
            "1,2,3,4,5,256",
            "1,2,3,4,5,-6",
            "1,2,3,4,+5,6",
            "a",
        ] {
            assert_eq!(parse_port(text), Err(SYNTAX), "{text}");
        }
    }

    #[test]
    fn an_address_of_eprt_has_its_family() {
        let parsed = |text| parse_eprt(text).map(|addr| addr.to_string());
        assert_eq!(parsed("|1|192.0.2.7|5001|").unwrap(), "192.0.2.7:5001");
        assert_eq!(
            parsed("!2!2001:db8::1!5001!").unwrap(),
            "[2001:db8::1]:5001"
        );
        assert_eq!(parsed("|2|::ffff:192.0.2.7|80|").unwrap(), "192.0.2.7:80");
        assert!(parsed("|3|x|1|").unwrap_err().starts_with("522"));
        for text in [
            "",
            "|",
            "|1|::1|5|",
            "|2|1.2.3.4|5|",
            "|1|1.2.3.4|99999|",
            "|1|1.2.3.4|+5|",
            "|1|1.2.3.4|5",
            "|1|1.2.3.4|5|x",
        ] {
            assert_eq!(parse_eprt(text), Err(SYNTAX), "{text}");
        }
    }
}

//! The bytes of a header that is to be sent.

use std::net::{IpAddr, SocketAddr};

use proxy_header::{ProxiedAddress, ProxyHeader, Tlv};

use super::fields::Tlvs;
use super::header::{Command, Fields, Header, Version};
use super::{SIGNATURE, UNIX_PATH, checksum};
use crate::addr::Addr;
use crate::sys::socket::path_bytes;

/// PROXY and AF_UNSPEC; PROXY, AF_UNIX and STREAM.
const UNSPECIFIED: [u8; 2] = [0x21, 0x00];
const UNIX: [u8; 2] = [0x21, 0x31];

impl Header {
    /// The bytes of this header, to be sent before everything else, and before TLS.
    /// [`Connector::proxy_protocol`](crate::Connector::proxy_protocol) does so. On layer 1
    /// [`Channel::send`](crate::Channel::send) can.
    ///
    /// ```
    /// use asynchat::proxy_protocol::{Header, Version};
    /// let header = Header::local(Version::V1);
    /// assert_eq!(header.encode(), b"PROXY UNKNOWN\r\n");
    /// ```
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.encode_with_given_checksum();
        checksum::fill(&mut bytes, self.fields().tlvs.len());
        bytes
    }

    fn encode_with_given_checksum(&self) -> Vec<u8> {
        let Fields {
            version,
            command,
            tlvs,
        } = self.fields();
        match (version, command) {
            (
                _,
                Command::Proxied {
                    source: Addr::Inet(source),
                    destination: Addr::Inet(destination),
                },
            ) => {
                let (source, destination) = in_one_family(*source, *destination);
                let addresses = ProxiedAddress::stream(source, destination);
                encode(ProxyHeader::with_address(addresses), *version, tlvs)
            }
            // Without addresses the crate writes `PROXY UNKNOWN`, or LOCAL.
            (Version::V1, _) | (_, Command::Local) => {
                encode(ProxyHeader::with_local(), *version, &[])
            }
            // It writes neither of these two.
            (Version::V2, Command::Unknown) => by_hand(UNSPECIFIED, &[], tlvs),
            (
                Version::V2,
                Command::Proxied {
                    source,
                    destination,
                },
            ) => {
                let mut addresses = unix_name(source);
                addresses.resize(UNIX_PATH, 0);
                addresses.append(&mut unix_name(destination));
                addresses.resize(2 * UNIX_PATH, 0);
                by_hand(UNIX, &addresses, tlvs)
            }
        }
    }
}

fn encode(mut header: ProxyHeader<'_>, version: Version, tlvs: &[u8]) -> Vec<u8> {
    for (kind, value) in Tlvs::new(tlvs) {
        header.append_tlv(Tlv::Custom(kind, value.into()));
    }
    let mut bytes = Vec::new();
    // It fails for two families, for datagrams, and for TLVs in version 1. This header has none of them.
    let _ = match version {
        Version::V1 => header.encode_v1(&mut bytes),
        Version::V2 => header.encode_v2(&mut bytes),
    };
    bytes
}

/// The two addresses, in IPv6 form if one of them is IPv6.
fn in_one_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let as_v6 = |addr: SocketAddr| match addr.ip() {
        IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), addr.port()),
        IpAddr::V6(_) => addr,
    };
    if source.is_ipv4() == destination.is_ipv4() {
        (source, destination)
    } else {
        (as_v6(source), as_v6(destination))
    }
}

fn by_hand(kind: [u8; 2], addresses: &[u8], tlvs: &[u8]) -> Vec<u8> {
    // `Header::with_tlv` bounds it.
    let length = u16::try_from(addresses.len() + tlvs.len()).unwrap_or(u16::MAX);
    [SIGNATURE, &kind, &length.to_be_bytes(), addresses, tlvs].concat()
}

/// The length of the addresses in version 2.
pub(super) fn addresses_len(command: &Command) -> usize {
    match command {
        Command::Proxied {
            source: Addr::Inet(source),
            destination: Addr::Inet(destination),
        } => {
            if source.is_ipv4() && destination.is_ipv4() {
                12
            } else {
                36
            }
        }
        Command::Proxied { .. } => 2 * UNIX_PATH,
        Command::Local | Command::Unknown => 0,
    }
}

/// Whether the address is one of the Unix domain whose name has room in a header.
pub(super) fn fits_unix(addr: &Addr) -> bool {
    addr.inet().is_none() && unix_name(addr).len() <= UNIX_PATH
}

/// `sun_path` of a Unix-domain address, without the zeros behind it.
fn unix_name(addr: &Addr) -> Vec<u8> {
    match addr {
        Addr::Unix(Some(path)) => path_bytes(path),
        Addr::Abstract(name) => [b"\0", &**name].concat(),
        Addr::Unix(None) | Addr::Inet(_) => Vec::new(),
    }
}

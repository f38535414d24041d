//! A PROXY header.

use std::fmt;
use std::sync::Arc;

use super::fields::{Ssl, Tlvs, append};
use super::{FIXED, LONGEST_V2, checksum, encode, tlv};
use crate::addr::Addr;
use crate::error::Error;

/// The version of a PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// A line of text: `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443`.
    V1,
    /// Binary, with room for other fields (TLVs).
    V2,
}

/// A PROXY header: the addresses of the connection that a proxy forwards, and what else the proxy tells about it.
///
/// A server gets it from [`Chat::proxy_header`](crate::Chat::proxy_header). A client makes one for
/// [`Connector::proxy_protocol`](crate::Connector::proxy_protocol). Clones share their memory.
///
/// ```
/// use asynchat::proxy_protocol::{Header, Version, tlv};
/// # fn main() -> asynchat::Result {
/// let client: std::net::SocketAddr = "192.0.2.1:40000".parse()?;
/// let server: std::net::SocketAddr = "198.51.100.1:119".parse()?;
/// let header = Header::new(Version::V2, client.into(), server.into())
///     .with_tlv(tlv::UNIQUE_ID, b"4711")?;
/// assert_eq!(header.source(), Some(&client.into()));
/// assert_eq!(header.unique_id(), Some(&b"4711"[..]));
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Header(Arc<Fields>);

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) version: Version,
    pub(super) command: Command,
    pub(super) tlvs: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// The proxy's own connection: a health check.
    Local,
    /// A forwarded connection whose addresses are not given: `UNKNOWN`, AF_UNSPEC.
    Unknown,
    /// The two have the same family.
    Proxied { source: Addr, destination: Addr },
}

impl Header {
    pub(super) fn of(version: Version, command: Command, tlvs: Vec<u8>) -> Self {
        Header(Arc::new(Fields {
            version,
            command,
            tlvs,
        }))
    }

    /// The header of a forwarded connection: the client's address, and the address that it has connected to. If one of
    /// the two is IPv6, the other is written in IPv6 form. Addresses of Unix-domain sockets need version 2, and a name
    /// in a header has at most 108 bytes. Where the two do not fit together, the header says that the addresses are
    /// unknown, and the server uses those of the connection.
    pub fn new(version: Version, source: Addr, destination: Addr) -> Self {
        let command = match (source, destination) {
            (Addr::Inet(source), Addr::Inet(destination)) => Command::Proxied {
                source: Addr::Inet(source),
                destination: Addr::Inet(destination),
            },
            (source, destination)
                if version == Version::V2
                    && encode::fits_unix(&source)
                    && encode::fits_unix(&destination) =>
            {
                Command::Proxied {
                    source,
                    destination,
                }
            }
            _ => Command::Unknown,
        };
        Header::of(version, command, Vec::new())
    }

    /// The header of a connection that this side makes for itself, for example to check whether the server is
    /// alive: the server uses the addresses of the connection. In version 1 that is `PROXY UNKNOWN`, because it has no
    /// word for it.
    pub fn local(version: Version) -> Self {
        let command = match version {
            Version::V1 => Command::Unknown,
            Version::V2 => Command::Local,
        };
        Header::of(version, command, Vec::new())
    }

    /// Adds a field: see [`tlv`](crate::proxy_protocol::tlv) for its kind. The value of a checksum
    /// ([`CRC32C`](crate::proxy_protocol::tlv::CRC32C)) is computed when the header is sent; give four zeros.
    ///
    /// # Errors
    /// When a checksum has not four bytes. When the header is of version 1, is [local](Header::is_local), or would be
    /// longer than the 4,096 bytes that a [`Server`](crate::Server) accepts.
    pub fn with_tlv(mut self, kind: u8, value: &[u8]) -> Result<Self, Error> {
        if self.0.version == Version::V1 {
            return Err(Error::new(
                "a PROXY header of version 1 has no other fields",
            ));
        }
        if self.is_local() {
            return Err(Error::new(
                "the receiver of a local PROXY header ignores its fields",
            ));
        }
        if kind == tlv::CRC32C && value.len() != checksum::LEN {
            return Err(Error::new("the checksum of a PROXY header has four bytes"));
        }
        let fields = Arc::make_mut(&mut self.0);
        append(&mut fields.tlvs, kind, value);
        if FIXED + encode::addresses_len(&self.0.command) + self.0.tlvs.len() > LONGEST_V2 {
            return Err(Error::new(format!(
                "a PROXY header has at most {LONGEST_V2} bytes"
            )));
        }
        Ok(self)
    }

    /// The version.
    pub fn version(&self) -> Version {
        self.0.version
    }

    /// Whether the proxy has made the connection for itself (`LOCAL` of version 2): a health check.
    pub fn is_local(&self) -> bool {
        self.0.command == Command::Local
    }

    /// The address of the client. `None` if the connection is [local](Header::is_local), or the proxy does not know
    /// it (`UNKNOWN`): then [`Chat::peer_addr`](crate::Chat::peer_addr) is the address of the proxy.
    pub fn source(&self) -> Option<&Addr> {
        match &self.0.command {
            Command::Proxied { source, .. } => Some(source),
            _ => None,
        }
    }

    /// The address that the client has connected to: that of the proxy, as the client sees it. `None` when the
    /// [source](Header::source) is.
    pub fn destination(&self) -> Option<&Addr> {
        match &self.0.command {
            Command::Proxied { destination, .. } => Some(destination),
            _ => None,
        }
    }

    /// The other fields: kind and value, in their order. Version 1 and local headers have none.
    pub fn tlvs(&self) -> Tlvs<'_> {
        Tlvs::new(&self.0.tlvs)
    }

    /// The value of the first field of this kind: see [`tlv`](crate::proxy_protocol::tlv).
    pub fn tlv(&self, kind: u8) -> Option<&[u8]> {
        let mut tlvs = self.tlvs();
        tlvs.find_map(|(found, value)| (found == kind).then_some(value))
    }

    /// The protocol that was agreed on with the client (ALPN, RFC 7301).
    pub fn alpn(&self) -> Option<&[u8]> {
        self.tlv(tlv::ALPN)
    }

    /// The host name that the client has asked for: with TLS, its server name (SNI). `None` also if it is not UTF-8.
    pub fn authority(&self) -> Option<&str> {
        std::str::from_utf8(self.tlv(tlv::AUTHORITY)?).ok()
    }

    /// The proxy's own id of the connection, for logs.
    pub fn unique_id(&self) -> Option<&[u8]> {
        self.tlv(tlv::UNIQUE_ID)
    }

    /// What the proxy says about the client's TLS, which ends at the proxy.
    pub fn ssl(&self) -> Option<Ssl> {
        Ssl::decode(self.tlv(tlv::SSL)?)
    }

    pub(super) fn fields(&self) -> &Fields {
        &self.0
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header")
            .field("version", &self.0.version)
            .field("command", &self.0.command)
            .field("tlvs", &self.tlvs())
            .finish()
    }
}

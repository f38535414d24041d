//! The PROXY protocol of load balancers: who the client is whose connection a proxy forwards. Needs the feature
//! `proxy-protocol`.
//!
//! A proxy that forwards a connection hides the address of the client: the server sees that of the proxy. With the
//! [PROXY protocol](https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt) (HAProxy, nginx, Envoy, the load
//! balancers of the large clouds) the proxy sends a header first, a line of text (version 1) or binary (version 2).
//!
//! [`Server::proxy_protocol`](crate::Server::proxy_protocol) makes a server read it, before TLS and before the session
//! exists. [`Chat::peer_addr`](crate::Chat::peer_addr) is then the client's address,
//! [`Chat::proxy_header`](crate::Chat::proxy_header) the rest of the header, and
//! [`Chat::proxy_addr`](crate::Chat::proxy_addr) the address of the proxy.
//! [`Connector::proxy_protocol`](crate::Connector::proxy_protocol) makes a client send one. On layer 1 a
//! dispatcher uses a [`Reader`], and [`Header::encode`]. The folder `docs` of the source has
//! [a page with programs](https://docs.rs/crate/asynchat/latest/source/docs/proxy_protocol.md).

mod checksum;
mod decode;
mod encode;
mod fields;
mod header;
mod network;
mod reader;

pub use fields::{Ssl, Tlvs};
pub use header::{Header, Version};
pub use network::Network;
pub use reader::Reader;

pub mod tlv {
    //! The kinds of the fields of a header of version 2 (section 2.2 of the specification). The kinds 0xE0 to 0xEF are
    //! for the programs' own fields.

    /// The protocol that was agreed on with the client (ALPN, RFC 7301).
    pub const ALPN: u8 = 0x01;
    /// The host name that the client has asked for, in UTF-8.
    pub const AUTHORITY: u8 = 0x02;
    /// The checksum of the header, of four bytes. It was checked if it is present in a header that was received, and is
    /// computed when a header is sent: [`Header::with_tlv`](super::Header::with_tlv).
    pub const CRC32C: u8 = 0x03;
    /// Padding.
    pub const NOOP: u8 = 0x04;
    /// The proxy's own id of the connection: at most 128 bytes.
    pub const UNIQUE_ID: u8 = 0x05;
    /// What the proxy says about the client's TLS: see [`Ssl`](super::Ssl).
    pub const SSL: u8 = 0x20;
    /// The name of the client's network namespace.
    pub const NETNS: u8 = 0x30;
}

/// The longest header of version 1, with its line ending (section 2.1 of the specification).
pub(crate) const LONGEST_V1: usize = 107;

/// The longest header of version 2 that is accepted. Without large TLVs a header has at most 536 bytes, so that it
/// fits into one segment. nginx has this limit, too.
pub(crate) const LONGEST_V2: usize = 4096;

/// What each header of version 2 begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The signature, the command, the address family and the length.
const FIXED: usize = 16;

/// The length of an address of a Unix-domain socket in a header.
const UNIX_PATH: usize = 108;

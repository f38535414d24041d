//! The fields behind the addresses of a header of version 2: type, length, value.

use std::fmt;

use proxy_header::Tlv;

use super::tlv;

/// The fields of a [`Header`](super::Header), as pairs of kind and value: [`Header::tlvs`](super::Header::tlvs).
#[derive(Clone)]
pub struct Tlvs<'h> {
    left: &'h [u8],
}

impl<'h> Tlvs<'h> {
    pub(super) fn new(fields: &'h [u8]) -> Self {
        Tlvs { left: fields }
    }

    /// Whether each of them has as many bytes as its length says.
    pub(super) fn are_whole(&mut self) -> bool {
        for _ in &mut *self {}
        self.left.is_empty()
    }

    pub(super) fn len_left(&self) -> usize {
        self.left.len()
    }

    fn split(left: &'h [u8]) -> Option<(u8, &'h [u8], &'h [u8])> {
        let ([kind, high, low], left) = left.split_first_chunk()?;
        let length = u16::from_be_bytes([*high, *low]);
        let (value, left) = left.split_at_checked(length.into())?;
        Some((*kind, value, left))
    }
}

impl<'h> Iterator for Tlvs<'h> {
    type Item = (u8, &'h [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (kind, value, left) = Tlvs::split(self.left)?;
        self.left = left;
        Some((kind, value))
    }
}

impl fmt::Debug for Tlvs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self
            .clone()
            .map(|(kind, value)| (kind, value.escape_ascii().to_string()));
        f.debug_list().entries(fields).finish()
    }
}

/// Adds a field. Whoever bounds the length of the header finds one that is too long.
pub(super) fn append(fields: &mut Vec<u8>, kind: u8, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    fields.push(kind);
    fields.extend_from_slice(&length.to_be_bytes());
    fields.extend_from_slice(value);
}

/// What a proxy says about the TLS connection of a client, which ends at the proxy: [`Header::ssl`](super::Header::ssl).
///
/// A proxy adds it to the header that it sends:
///
/// ```
/// use asynchat::proxy_protocol::{Header, Ssl, Version, tlv};
/// # fn main() -> asynchat::Result {
/// let (client, to): (std::net::SocketAddr, std::net::SocketAddr) = ("192.0.2.1:40000".parse()?, "192.0.2.9:119".parse()?);
/// let mut ssl = Ssl::default();
/// ssl.uses_tls = true;
/// ssl.version = Some("TLSv1.3".to_owned());
/// let header = Header::new(Version::V2, client.into(), to.into()).with_tlv(tlv::SSL, &ssl.encode())?;
/// assert_eq!(header.ssl(), Some(ssl));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ssl {
    /// The client has connected with TLS.
    pub uses_tls: bool,
    /// The client has presented a certificate on this connection.
    pub has_certificate: bool,
    /// The client has presented a certificate at least once in the TLS session of this connection.
    pub session_has_certificate: bool,
    /// The client has presented a certificate, and the proxy has verified it. The proxy's `verify` is zero.
    pub is_verified: bool,
    /// The version of TLS, for example `TLSv1.3`.
    pub version: Option<String>,
    /// The cipher suite.
    pub cipher: Option<String>,
    /// The common name in the subject of the client's certificate.
    pub common_name: Option<String>,
    /// The algorithm that has signed the proxy's certificate, for example `SHA256`.
    pub signature_algorithm: Option<String>,
    /// The algorithm of the key of the proxy's certificate, for example `RSA2048`.
    pub key_algorithm: Option<String>,
}

impl Ssl {
    /// The value of the field [`tlv::SSL`](super::tlv::SSL), for [`Header::with_tlv`](super::Header::with_tlv).
    pub fn encode(&self) -> Vec<u8> {
        let flags = [
            self.uses_tls,
            self.has_certificate,
            self.session_has_certificate,
        ];
        let bits = flags
            .iter()
            .rev()
            .fold(0, |bits, &flag| bits << 1 | u8::from(flag));
        // Zero says that a certificate was verified.
        let verify = u32::from(!self.is_verified).to_be_bytes();
        let mut value = [&[bits][..], &verify].concat();
        // The fields in this field (section 2.2.5).
        let texts = [
            (0x21, &self.version),
            (0x22, &self.common_name),
            (0x23, &self.cipher),
            (0x24, &self.signature_algorithm),
            (0x25, &self.key_algorithm),
        ];
        for (kind, text) in texts {
            if let Some(text) = text {
                append(&mut value, kind, text.as_bytes());
            }
        }
        value
    }

    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        let Ok(Tlv::Ssl(ssl)) = Tlv::decode(tlv::SSL, value) else {
            return None;
        };
        let text = |text: Option<&str>| text.map(str::to_owned);
        let has_certificate = ssl.client_cert_conn() || ssl.client_cert_sess();
        Some(Ssl {
            uses_tls: ssl.client_ssl(),
            has_certificate: ssl.client_cert_conn(),
            session_has_certificate: ssl.client_cert_sess(),
            is_verified: has_certificate && ssl.verify() == 0,
            version: text(ssl.version()),
            cipher: text(ssl.cipher()),
            common_name: text(ssl.cn()),
            signature_algorithm: text(ssl.sig_alg()),
            key_algorithm: text(ssl.key_alg()),
        })
    }
}

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

/// What a proxy says about the TLS connection of a client, which ends at the proxy: [`Header::ssl`](super::Header::ssl).
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

//! What a handshake has agreed on.

use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, ProtocolVersion};

/// What the TLS handshake of a connection has agreed on: [`Chat::tls`](crate::Chat::tls).
///
/// ```
/// use asynchat::{AsyncChat, Chat, Result, tls};
///
/// struct Session { chat: Chat }
///
/// impl AsyncChat for Session {
///     fn handle_connect(&mut self) -> Result {
///         if let Some(info) = self.chat.tls() {
///             write!(self.chat, "200 welcome ({:?}, {:?})\r\n", info.version, info.cipher_suite);
///         }
///         Ok(())
///     }
///     fn found_terminator(&mut self, _: &[u8]) -> Result {
///         Ok(())
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// The version of TLS.
    pub version: ProtocolVersion,
    /// The cipher suite.
    pub cipher_suite: CipherSuite,
    /// The protocol that was chosen from those that the client offered (ALPN, RFC 7301).
    pub alpn: Option<Vec<u8>>,
    /// On the side of the server, the name that the client has asked for (SNI, RFC 6066).
    pub server_name: Option<String>,
    /// The certificate of the peer, followed by those that certify it. Empty on the side of a server that has not
    /// asked its client for one. They are verified, and in DER: the crate does not parse them. To recognise one client,
    /// compare the first of them, or its hash. The crate [x509-parser](https://docs.rs/x509-parser) reads its subject and
    /// its names.
    pub peer_certificates: Vec<CertificateDer<'static>>,
    /// Whether an earlier session was resumed.
    pub is_resumed: bool,
}

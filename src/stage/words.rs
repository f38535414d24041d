//! What a TLS error means, for users who do not know the terms of rustls.

use rustls::{AlertDescription, CertificateError, Error as Tls, InvalidMessage, PeerMisbehaved};

use crate::error::Error;

/// How many bytes of plaintext an error quotes at most.
const MOST_QUOTED: usize = 16;

/// The first word of the peer, with which `input` begins, if the error says that it is plaintext. It names the protocol
/// mostly (`GET`, `EHLO`, `SSH-2.0-...`). What follows may be a password (`USER`, `AUTH`, a field Authorization), and errors are
/// logged.
pub(super) fn plaintext(error: &Tls, input: &[u8]) -> Option<Box<[u8]>> {
    let is_plaintext = *error == Tls::InvalidMessage(InvalidMessage::InvalidContentType);
    let is_end = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0;
    let end = input.iter().take(MOST_QUOTED).position(is_end);
    let end = end.unwrap_or(MOST_QUOTED.min(input.len()));
    is_plaintext.then(|| input.get(..end).unwrap_or_default().into())
}

/// The error with its meaning in front. `plaintext` is what a peer has sent that does not use TLS.
pub(super) fn in_words(error: &Tls, plaintext: Option<&[u8]>) -> Error {
    let known = match error {
        // The words of rustls, or of the stage, without "unexpected error".
        Tls::General(text) if text == "no server certificate chain resolved" => {
            Error::new("there is no certificate for the name that the client asks for")
        }
        Tls::General(text) => Error::new(text.clone()),
        error => Error::new(error.clone()),
    };
    match (meaning(error), plaintext) {
        (Some(meaning), Some(plaintext)) => {
            known.context(format_args!("{meaning}: \"{}\"", plaintext.escape_ascii()))
        }
        (Some(meaning), None) => known.context(meaning),
        (None, _) => known.context("TLS"),
    }
}

fn meaning(error: &Tls) -> Option<&'static str> {
    use CertificateError as Certificate;
    use PeerMisbehaved as Misbehaved;
    Some(match error {
        Tls::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the peer does not use TLS: it has sent plaintext"
        }
        Tls::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge) => {
            "the peer has sent a handshake message that is too long"
        }
        Tls::InvalidCertificate(error) => match error {
            Certificate::Expired | Certificate::ExpiredContext { .. } => {
                "the certificate of the peer has expired"
            }
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                "the certificate of the peer is not valid yet"
            }
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                "the certificate of the peer is for another name"
            }
            Certificate::UnknownIssuer => {
                "the certificate of the peer is from an issuer that is not trusted"
            }
            Certificate::Revoked => "the certificate of the peer was revoked",
            Certificate::BadSignature => "the signature of the peer's certificate is wrong",
            // rustls has no variant for it. Such a certificate is what `openssl req -x509` makes.
            Certificate::Other(other) if other.to_string() == "CaUsedAsEndEntity" => {
                "the certificate of the peer is that of an authority (CA:TRUE), which no server may have"
            }
            _ => "the certificate of the peer is not accepted",
        },
        Tls::NoApplicationProtocol => "the peer and this side have no protocol in common (ALPN)",
        Tls::NoCertificatesPresented => "the peer has sent no certificate",
        Tls::PeerIncompatible(_) => "the peer and this side have no TLS parameters in common",
        Tls::AlertReceived(alert) => match *alert {
            AlertDescription::UnknownCA => "the peer does not trust the issuer of our certificate",
            AlertDescription::CertificateExpired => {
                "the peer says that our certificate has expired"
            }
            AlertDescription::CertificateRequired => "the peer demands a certificate",
            AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate => {
                "the peer does not accept our certificate"
            }
            AlertDescription::UnrecognisedName => "the peer has no certificate for this name",
            AlertDescription::ProtocolVersion => "the peer supports no TLS version of this side",
            AlertDescription::HandshakeFailure => {
                "the peer and this side have no TLS parameters in common"
            }
            AlertDescription::NoApplicationProtocol => {
                "the peer supports none of our protocols (ALPN)"
            }
            _ => "the peer has ended TLS with an alert",
        },
        Tls::PeerMisbehaved(
            Misbehaved::TooManyEmptyFragments | Misbehaved::TooManyKeyUpdateRequests,
        ) => "the peer has sent too many TLS records without content",
        Tls::InappropriateMessage { .. }
        | Tls::DecryptError
        | Tls::PeerSentOversizedRecord
        | Tls::PeerMisbehaved(_) => "the peer has broken the rules of TLS",
        _ => return None,
    })
}

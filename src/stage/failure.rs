//! Why TLS has failed, as far as programs treat it differently.

use std::io::ErrorKind;

use rustls::{AlertDescription as Alert, CertificateError, Error as Tls, InvalidMessage};

use crate::error::{Close, Error};

/// Why TLS has failed, for a program that treats the reasons differently. The text of the [`Close`] says more, and
/// [`Error::downcast_ref`] finds the error of rustls.
///
/// ```
/// use asynchat::{AsyncChat, Chat, Close, Result, tls::Failure};
///
/// /// A session of a connector that connects again.
/// struct Reader { chat: Chat }
///
/// impl AsyncChat for Reader {
///     fn found_terminator(&mut self, _: &[u8]) -> Result {
///         Ok(())
///     }
///     fn handle_close(&mut self, why: &Close) {
///         eprintln!("{why}");
///         if Failure::of(why).is_some_and(|failure| failure.is_of_certificate()) {
///             self.chat.close(); // another connection would not help
///         }
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// The certificate of the peer has expired.
    Expired,
    /// The certificate of the peer is not valid yet. The clock of this side may be slow.
    NotValidYet,
    /// The certificate of the peer is for another name.
    WrongName,
    /// The certificate of the peer is from an issuer that is not trusted.
    UnknownIssuer,
    /// The certificate of the peer is not accepted for another reason: it was revoked, or is malformed.
    BadCertificate,
    /// A client has sent no certificate to a server that demands one.
    NoCertificate,
    /// The peer does not accept the certificate of this side, or demands one.
    PeerRefusedOurs,
    /// The peer and this side have no version, cipher suite or protocol (ALPN) in common, or the peer has no certificate
    /// for the name.
    NothingInCommon,
    /// The peer has sent plaintext.
    Plaintext,
    /// The connection has ended before the handshake was complete.
    ClosedEarly,
    /// Anything else.
    Other,
}

impl Failure {
    /// The failure of TLS that has ended a connection, if that was the reason: [`Close::Tls`], or a
    /// [`Close::ConnectFailed`] whose handshake has failed. A handshake that has taken too long is none.
    pub fn of(why: &Close) -> Option<Failure> {
        match why {
            Close::Tls(error) => Some(Failure::of_error(error).unwrap_or(Failure::Other)),
            Close::ConnectFailed(error) => Failure::of_error(error),
            _ => None,
        }
    }

    /// Whether it is about a certificate: another connection at once has the same end.
    pub fn is_of_certificate(self) -> bool {
        use Failure as F;
        matches!(
            self,
            F::Expired
                | F::NotValidYet
                | F::WrongName
                | F::UnknownIssuer
                | F::BadCertificate
                | F::NoCertificate
                | F::PeerRefusedOurs
        )
    }

    fn of_error(error: &Error) -> Option<Failure> {
        match error.downcast_ref::<Tls>() {
            Some(error) => Some(Failure::of_tls(error)),
            // No attempt to connect has these errors: they are those of a connection that was up.
            None => match error.io_kind()? {
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                    Some(Failure::ClosedEarly)
                }
                _ => None,
            },
        }
    }

    fn of_tls(error: &Tls) -> Failure {
        match error {
            Tls::InvalidMessage(InvalidMessage::InvalidContentType) => Failure::Plaintext,
            Tls::InvalidCertificate(error) => Failure::of_certificate(error),
            Tls::NoCertificatesPresented => Failure::NoCertificate,
            Tls::PeerIncompatible(_) | Tls::NoApplicationProtocol => Failure::NothingInCommon,
            Tls::AlertReceived(alert) => Failure::of_alert(*alert),
            _ => Failure::Other,
        }
    }

    fn of_certificate(error: &CertificateError) -> Failure {
        use CertificateError as Certificate;
        match error {
            Certificate::Expired | Certificate::ExpiredContext { .. } => Failure::Expired,
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                Failure::NotValidYet
            }
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                Failure::WrongName
            }
            Certificate::UnknownIssuer => Failure::UnknownIssuer,
            _ => Failure::BadCertificate,
        }
    }

    fn of_alert(alert: Alert) -> Failure {
        match alert {
            Alert::UnknownCA
            | Alert::CertificateExpired
            | Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::CertificateRevoked
            | Alert::UnsupportedCertificate => Failure::PeerRefusedOurs,
            Alert::UnrecognisedName
            | Alert::ProtocolVersion
            | Alert::HandshakeFailure
            | Alert::NoApplicationProtocol => Failure::NothingInCommon,
            _ => Failure::Other,
        }
    }
}

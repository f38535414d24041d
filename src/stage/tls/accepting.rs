//! A server that waits for the first message of its client, which decides about the configuration.

use std::sync::Arc;

use rustls::server::Accepted;
use rustls::{AlertDescription, ContentType, InvalidMessage, ServerConfig};

use super::hello::{Hello, Progress};
use crate::stage::acceptor::Acceptor;

/// How many bytes of a first message that is not complete a client can make this side keep. They cost the client nothing.
pub(super) const MOST_HELLO: usize = 16 * 1024;

/// A server that waits for the first message of its client.
pub(super) struct Accepting {
    acceptor: Acceptor,
    hello: Hello,
}

/// The configuration for a client, and the name that it has asked for.
pub(super) type Chosen = (Arc<ServerConfig>, Option<String>);

/// An error, and the alert that says it to the client.
pub(super) type Refused = (rustls::Error, Option<Vec<u8>>);

impl Accepting {
    pub(super) fn new(acceptor: Acceptor) -> Self {
        Accepting {
            acceptor,
            hello: Hello::default(),
        }
    }

    /// Looks for the whole message, with which `input` begins, and chooses the configuration. Returns `None` while the
    /// message is not complete.
    pub(super) fn accept(&mut self, input: &[u8]) -> Result<Option<Chosen>, Refused> {
        let accepted = self.parse(input)?;
        let chosen = accepted.map(|accepted| choose(&self.acceptor, &accepted));
        chosen.transpose()
    }

    /// Parses the message, with which `input` begins. Returns `None` while it is not complete.
    fn parse(&mut self, input: &[u8]) -> Result<Option<Accepted>, Refused> {
        match self.hello.progress(input) {
            Progress::Complete => {}
            Progress::Incomplete if input.len() > MOST_HELLO => {
                return Err((too_long(), Some(alert(AlertDescription::DecodeError))));
            }
            Progress::Incomplete => return Ok(None),
            Progress::Other(record) => return Err(other_record(record)),
        }
        let (mut parser, mut unread) = (rustls::server::Acceptor::default(), input);
        while !unread.is_empty() {
            if parser.read_tls(&mut unread).is_err() {
                return Err((too_long(), Some(alert(AlertDescription::DecodeError))));
            }
            let accepted = parser.accept().map_err(|(error, mut alert)| {
                let mut bytes = Vec::new();
                // A vector takes everything.
                let _ = alert.write_all(&mut bytes);
                (error, Some(bytes))
            })?;
            if accepted.is_some() {
                return Ok(accepted);
            }
        }
        // It would be parsed again with each byte that follows.
        let error = InvalidMessage::MissingData("the first message");
        Err((error.into(), Some(alert(AlertDescription::DecodeError))))
    }
}

/// A fatal alert in clear (RFC 8446 section 6).
pub(super) fn alert(description: AlertDescription) -> Vec<u8> {
    vec![21, 3, 3, 0, 2, 2, description.into()]
}

pub(super) fn too_long() -> rustls::Error {
    InvalidMessage::HandshakePayloadTooLarge.into()
}

/// A record that begins with this byte has come before the first message of the client was complete.
fn other_record(first: u8) -> Refused {
    let got_type = ContentType::from(first);
    match got_type {
        ContentType::Unknown(_) => {
            let error = InvalidMessage::InvalidContentType;
            (error.into(), Some(alert(AlertDescription::DecodeError)))
        }
        _ => {
            let error = rustls::Error::InappropriateMessage {
                expect_types: vec![ContentType::Handshake],
                got_type,
            };
            (error, Some(alert(AlertDescription::UnexpectedMessage)))
        }
    }
}

/// The configuration for this client, and the name that it has asked for.
fn choose(acceptor: &Acceptor, accepted: &Accepted) -> Result<Chosen, Refused> {
    let hello = accepted.client_hello();
    let name = hello.server_name().map(str::to_owned);
    if let Some(config) = acceptor.choose(&hello) {
        return Ok((config, name));
    }
    // RFC 6066 section 3, RFC 8446 section 9.2.
    let (asks_for, description) = match name {
        Some(name) => (name, AlertDescription::UnrecognisedName),
        None => ("no name".to_owned(), AlertDescription::MissingExtension),
    };
    let error = format!("no configuration for this client, which asks for {asks_for}");
    Err((rustls::Error::General(error), Some(alert(description))))
}

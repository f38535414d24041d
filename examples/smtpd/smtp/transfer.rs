//! Receives a message, from the 354 to the dot line, and writes it to the disk
//! while it arrives. An error is replied at the end of the message: after an
//! earlier reply, the rest of the message would run as commands.

use std::io::{self, ErrorKind};
use std::time::{SystemTime, UNIX_EPOCH};

use asynchat::tls::rustls::CipherSuite;
use mail_parser::DateTime;
use tracing::{debug, info, warn};

use super::envelope::{Envelope, Receipt};
use super::maildir::Message;
use super::session::{Session, TOO_LARGE};

pub struct Transfer {
    /// The file of the message, or the reply after an error.
    message: Result<Message, &'static str>,
    /// Octets received, without the lines that this server adds: RFC 1870, section 5.
    size: u64,
    max_size: u64,
}

impl Transfer {
    /// Creates the file and writes the lines that precede the message. The error is
    /// the reply to DATA.
    pub fn begin(session: &Session, envelope: &Envelope) -> Result<Transfer, &'static str> {
        let options = &session.service.options;
        let now = (options.clock)();
        let cipher = session.chat.tls().map(|info| iana_name(info.cipher_suite));
        let begin = || {
            let mut message = session.service.maildir.borrow_mut().begin(now)?;
            let lines = envelope.trace(&Receipt {
                peer: session.chat.peer_addr().and_then(|peer| peer.ip()),
                by: &options.name,
                id: message.id(),
                cipher: cipher.as_deref(),
                date: &rfc5322(now),
            });
            message.write(lines.as_bytes())?;
            Ok(message)
        };
        let message = begin().map_err(|error| failed(&error))?;
        debug!(id = message.id(), "a message begins");
        Ok(Transfer {
            message: Ok(message),
            size: 0,
            max_size: options.max_size,
        })
    }

    pub fn collect(&mut self, chunk: &[u8]) {
        let Ok(message) = &mut self.message else {
            return;
        };
        self.size += chunk.len() as u64;
        // Replacing the message also removes its file.
        if self.size > self.max_size {
            self.message = Err(TOO_LARGE);
        } else if let Err(error) = message.write(chunk) {
            self.message = Err(failed(&error));
        }
    }

    /// Ends the message. A worker thread delivers it and makes the reply.
    pub fn end(self, session: &Session) {
        let message = match self.message {
            Ok(message) => message,
            Err(reply) => return session.reply(reply),
        };
        let (size, span) = (self.size, tracing::Span::current());
        session.service.workers.run(&session.chat, move || {
            let _session = span.entered();
            let id = message.id().to_owned();
            match message.deliver() {
                Ok(()) => {
                    info!(id, size, "delivered");
                    format!("250 2.0.0 kept as {id}\r\n")
                }
                Err(error) => failed(&error).to_owned() + "\r\n",
            }
        });
    }
}

/// A date as Date and Received fields have it.
fn rfc5322(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    DateTime::from_timestamp(since.as_secs().cast_signed()).to_rfc822()
}

/// The name of a cipher suite in the registry of IANA, without the version that rustls adds.
fn iana_name(suite: CipherSuite) -> String {
    format!("{suite:?}").replacen("TLS13_", "TLS_", 1)
}

/// The reply to an error of the disk. All such errors are temporary for the client.
fn failed(error: &io::Error) -> &'static str {
    warn!(%error, "a message could not be written");
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "452 4.3.1 no room for it",
        _ => "451 4.3.0 it could not be written",
    }
}

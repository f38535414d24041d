//! The TLS stage of one connection: ciphertext in, plaintext out, and the reverse.
//!
//! It uses the unbuffered API of rustls, in which the caller owns the buffers. An idle connection therefore has
//! none. The API has rules that its types do not enforce:
//!
//! * The input of a call has to begin with everything that was not discarded before, as the last call has left
//!   it: rustls decrypts in place, and refers to parts of a handshake message by their position. So the rest of
//!   the input is kept, and passed again also when the call is only made to encrypt.
//! * A state that is dropped loses what it holds. So each state is acted on in the loop that receives it.
//! * After an error only the alert may be fetched, and only while `wants_write` is true.
//! * A broken record behind our own `close_notify` fails a debug assertion of rustls 0.23. The panic ends this
//!   connection. In a release build it is an error like any other.
//! * Plaintext can be encrypted only when all input is processed. `feed` therefore processes everything that it
//!   gets, and keeps the plaintext that the channel does not take yet.

mod accepting;
mod buffers;
mod hello;
mod run;
mod seal;

use std::io::IoSlice;
use std::mem;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::{AlertDescription, CommonState, HandshakeKind};

use super::Stage;
use super::acceptor::Acceptor;
use super::client::PreparedClient;
use super::info::Info;
use super::words::{in_words, plaintext};
use crate::error::Error;
use accepting::{Accepting, MOST_HELLO, alert, too_long};
use buffers::{Destination, Output, Received, Records, append};
use run::{TOO_LONG, record_length, refuse, run};
use seal::{close_notify, seal};

/// How many bytes of handshake messages that are not complete a peer can make this side keep. A message has at
/// most 64 KiB (rustls), and its pieces have at least 512 bytes in practice (RFC 6066 section 4).
const MOST_KEPT: usize = 68 * 1024;

/// A TLS connection without its socket.
pub(crate) struct TlsStage {
    connection: Connection,
    /// Input that is not processed: a part of a record, or of a handshake message.
    kept: Vec<u8>,
    /// How many bytes at its front are whole records, with pieces of a handshake message.
    seen: usize,
    received: Received,
    output: Output,
    failure: Option<rustls::Error>,
    /// The first bytes of a peer that does not use TLS.
    plaintext: Option<Box<[u8]>>,
    /// The name that the client has asked for.
    server_name: Option<String>,
    /// Something was sent. What follows may have to be encrypted.
    has_sent: bool,
    /// A message was processed since the last call of `take_processed`.
    has_processed: bool,
}

enum Connection {
    /// A server that has not received the whole first message of its client, which decides about the
    /// configuration.
    Accepting(Accepting),
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
    /// The handshake has failed before there was a connection.
    Refused,
}

impl TlsStage {
    /// The stage of a server.
    pub(crate) fn accept(acceptor: Acceptor) -> Self {
        TlsStage::with(Connection::Accepting(Accepting::new(acceptor)))
    }

    /// The stage of a client, whose output is its first message.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub(crate) fn connect(server: &PreparedClient) -> Result<Self, Error> {
        let (config, name) = (Arc::clone(&server.config), server.name.clone());
        let connection = UnbufferedClientConnection::new(config, name)
            .map_err(|error| in_words(&error, None))?;
        let mut stage = TlsStage::with(Connection::Client(Box::new(connection)));
        stage.process(&mut [], &mut Destination::nowhere());
        match stage.failure() {
            Some(error) => Err(error),
            None => Ok(stage),
        }
    }

    fn with(connection: Connection) -> Self {
        TlsStage {
            connection,
            kept: Vec::new(),
            seen: 0,
            received: Received::default(),
            output: Output::default(),
            failure: None,
            plaintext: None,
            server_name: None,
            has_sent: false,
            has_processed: false,
        }
    }

    /// How many bytes its buffers have.
    pub(super) fn memory(&self) -> usize {
        self.kept.capacity() + self.received.plaintext.capacity() + self.output.buffer.capacity()
    }

    /// Whether what is kept has to stay in its buffer. That is so while a handshake message is not complete:
    /// copying it for each of its pieces would be quadratic.
    fn keeps_in_place(&self) -> bool {
        self.is_handshaking() || record_length(&self.kept).is_some_and(|it| it <= self.kept.len())
    }

    /// Processes the input. Returns how many bytes of it are done with.
    fn process(&mut self, input: &mut [u8], into: &mut Destination<'_>) -> usize {
        if self.failure.is_some() {
            return input.len();
        }
        let (received, output) = (&mut self.received, &mut self.output);
        let outcome = match &mut self.connection {
            Connection::Accepting(..) => return self.accept_hello(input, into),
            Connection::Server(connection) => {
                run(connection, input, self.seen, into, received, output)
            }
            Connection::Client(connection) => {
                run(connection, input, self.seen, into, received, output)
            }
            Connection::Refused => Ok((input.len(), 0)),
        };
        self.seen = 0;
        self.has_processed |= !matches!(outcome, Ok((0, _)));
        match outcome {
            // What follows the end is ignored (RFC 8446 section 6.1).
            Ok(_) if self.received.peer_has_closed => input.len(),
            Ok((done, seen)) => {
                self.seen = seen;
                done
            }
            Err(error) => {
                self.fail(error, input);
                input.len()
            }
        }
    }

    /// The handshake, or a later record, has failed.
    fn fail(&mut self, error: rustls::Error, input: &[u8]) {
        let is_first = match &self.connection {
            Connection::Client(connection) => connection.protocol_version().is_none(),
            Connection::Accepting(..) | Connection::Refused => true,
            Connection::Server(_) => false,
        };
        if is_first {
            self.plaintext = plaintext(&error, input);
        }
        self.failure = Some(error);
    }

    /// The message that is kept, and is not complete, is too long.
    fn refuse_message(&mut self) {
        let seen = self.kept.get(..self.seen).unwrap_or_default();
        match &mut self.connection {
            Connection::Server(it) => refuse(it, seen, &TOO_LONG, &mut self.output),
            Connection::Client(it) => refuse(it, seen, &TOO_LONG, &mut self.output),
            Connection::Accepting(..) | Connection::Refused => false,
        };
        self.failure = Some(too_long());
    }

    /// Looks for the whole first message of a client, with which `input` begins, and chooses the configuration.
    /// The connection then gets the same bytes again.
    fn accept_hello(&mut self, input: &mut [u8], into: &mut Destination<'_>) -> usize {
        let Connection::Accepting(accepting) = &mut self.connection else {
            return 0;
        };
        let connection = match accepting.accept(input) {
            Ok(None) => return 0,
            Ok(Some((config, name))) => {
                self.server_name = name;
                UnbufferedServerConnection::new(config).map_err(|error| (error, None))
            }
            Err(refused) => Err(refused),
        };
        match connection {
            Ok(connection) => {
                self.connection = Connection::Server(Box::new(connection));
                self.process(input, into)
            }
            Err((error, alert)) => {
                self.connection = Connection::Refused;
                if let Some(alert) = alert {
                    self.output.append(&alert);
                }
                self.fail(error, input);
                input.len()
            }
        }
    }
}

impl Stage for TlsStage {
    fn headroom(&self) -> usize {
        if self.keeps_in_place() {
            0
        } else {
            self.kept.len()
        }
    }

    fn feed(&mut self, input: &mut [u8], into: &mut [u8]) -> usize {
        let mut into = Destination {
            buffer: into,
            filled: 0,
        };
        let head = self.headroom();
        let new = input.get(head..).unwrap_or_default();
        if head == 0 && !self.kept.is_empty() {
            let most = match &self.connection {
                Connection::Accepting(..) => MOST_HELLO,
                _ => MOST_KEPT,
            };
            let mut kept = mem::take(&mut self.kept);
            append(&mut kept, new, most);
            let done = self.process(&mut kept, &mut into);
            kept.drain(..done);
            if done > 0 {
                kept.shrink_to_fit();
            }
            self.kept = kept;
        } else if let Some(length) = record_length(&self.kept)
            && length > head + new.len()
        {
            // Still no whole record. Only the new bytes are copied, so that the cost is linear.
            append(&mut self.kept, new, length);
        } else {
            if let Some(front) = input.get_mut(..head) {
                front.copy_from_slice(&self.kept);
            }
            let done = self.process(input, &mut into);
            let rest = input.get(done..).unwrap_or_default();
            if rest.len() < self.kept.capacity() / 4 {
                self.kept = Vec::new();
            }
            self.kept.clear();
            append(&mut self.kept, rest, 0);
        }
        if self.kept.len() > MOST_KEPT && self.failure.is_none() {
            self.refuse_message();
        }
        if self.kept.is_empty() || self.failure.is_some() {
            (self.kept, self.seen) = (Vec::new(), 0);
        }
        into.filled
    }

    fn take(&mut self, into: &mut [u8]) -> usize {
        self.received.take(into)
    }

    fn has_input(&self) -> bool {
        !self.received.is_empty() || self.received.peer_has_closed || self.failure.is_some()
    }

    fn has_partial(&self) -> bool {
        !self.kept.is_empty() && !self.is_handshaking() && self.failure.is_none()
    }

    fn failure(&self) -> Option<Error> {
        let plaintext = self.plaintext.as_deref();
        let error = self.failure.as_ref()?;
        Some(in_words(error, plaintext))
    }

    fn has_sent_alert(&self) -> bool {
        let of_peer = |error: &rustls::Error| matches!(error, rustls::Error::AlertReceived(_));
        self.failure.as_ref().is_some_and(|error| !of_peer(error))
    }

    fn panicked(&mut self) {
        let has_failed = self.failure.is_some();
        let error = || rustls::Error::General("the TLS configuration panicked".to_owned());
        self.failure.get_or_insert_with(error);
        let is_server = !matches!(self.connection, Connection::Client(_));
        // Later a peer takes an alert in clear for a forgery, and rustls encrypts none.
        if !has_failed && is_server && !self.has_sent && self.output().is_empty() {
            self.output.append(&alert(AlertDescription::InternalError));
        }
        self.connection = Connection::Refused;
    }

    fn peer_has_closed(&self) -> bool {
        self.received.peer_has_closed
    }

    fn take_processed(&mut self) -> bool {
        mem::take(&mut self.has_processed)
    }

    fn is_handshaking(&self) -> bool {
        match &self.connection {
            Connection::Accepting(..) | Connection::Refused => true,
            Connection::Server(connection) => connection.is_handshaking(),
            Connection::Client(connection) => connection.is_handshaking(),
        }
    }

    fn encrypt(&mut self, parts: &[IoSlice<'_>], most: usize) -> Result<usize, Error> {
        if let Some(error) = self.failure() {
            return Err(error);
        }
        let mut records = Records::new(parts, most);
        let mut record = Vec::new();
        let mut taken = 0;
        while let Some(content) = records.next(&mut record) {
            let outcome = match &mut self.connection {
                Connection::Server(it) => seal(it, &mut self.kept, content, &mut self.output),
                Connection::Client(it) => seal(it, &mut self.kept, content, &mut self.output),
                Connection::Accepting(..) | Connection::Refused => {
                    Err(rustls::Error::HandshakeNotComplete)
                }
            };
            if let Err(error) = outcome {
                let words = in_words(&error, None);
                self.failure = Some(error);
                return Err(words);
            }
            taken += content.len();
        }
        Ok(taken)
    }

    fn close(&mut self) {
        if mem::replace(&mut self.output.is_closed, true) || self.failure.is_some() {
            return;
        }
        match &mut self.connection {
            Connection::Server(it) => close_notify(it, &mut self.kept, &mut self.output),
            Connection::Client(it) => close_notify(it, &mut self.kept, &mut self.output),
            Connection::Accepting(..) | Connection::Refused => {}
        }
    }

    fn output(&self) -> &[u8] {
        let output = &self.output;
        output
            .buffer
            .get(output.sent..output.filled)
            .unwrap_or_default()
    }

    fn sent(&mut self, count: usize) {
        self.has_sent |= count > 0;
        let output = &mut self.output;
        output.sent = (output.sent + count).min(output.filled);
        if output.sent == output.filled {
            (output.sent, output.filled) = (0, 0);
        }
    }

    fn discard_output(&mut self) {
        self.output = Output {
            is_closed: self.output.is_closed,
            ..Output::default()
        };
    }

    fn adopt_buffer(&mut self, buffer: &mut Vec<u8>) {
        if self.output.buffer.is_empty() {
            mem::swap(&mut self.output.buffer, buffer);
        }
    }

    fn release_buffer(&mut self) -> Vec<u8> {
        let rest = self.output();
        if rest.len() * 2 > self.output.buffer.len() {
            return Vec::new();
        }
        let rest = rest.to_vec();
        let (filled, sent) = (rest.len(), 0);
        let rest = Output {
            buffer: rest,
            filled,
            sent,
            is_closed: self.output.is_closed,
        };
        mem::replace(&mut self.output, rest).buffer
    }

    fn info(&self) -> Option<Info> {
        let connection: &CommonState = match &self.connection {
            Connection::Server(connection) => connection,
            Connection::Client(connection) => connection,
            Connection::Accepting(..) | Connection::Refused => return None,
        };
        if connection.is_handshaking() {
            return None;
        }
        let certificates = connection.peer_certificates().unwrap_or_default();
        Some(Info {
            version: connection.protocol_version()?,
            cipher_suite: connection.negotiated_cipher_suite()?.suite(),
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            server_name: self.server_name.clone(),
            peer_certificates: certificates.to_vec(),
            is_resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        })
    }
}

#[cfg(all(test, feature = "tls"))]
mod tests;

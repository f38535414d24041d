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

mod buffers;
mod hello;

use std::io::IoSlice;
use std::mem;
use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{Accepted, ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, UnbufferedConnectionCommon, UnbufferedStatus, WriteTraffic,
};
use rustls::{
    AlertDescription, CommonState, ContentType, HandshakeKind, InvalidMessage, PeerMisbehaved,
    ServerConfig,
};

use super::Stage;
use super::acceptor::Acceptor;
use super::client::Prepared;
use super::info::Info;
use super::words::{in_words, plaintext};
use crate::error::Error;
use buffers::{Into, OVERHEAD, Output, Received, Records};
use hello::{Hello, Progress};

/// How many bytes of handshake messages that are not complete a peer can make this side keep. A message has at
/// most 64 KiB (rustls), and its pieces have at least 512 bytes in practice (RFC 6066 section 4).
const MOST_KEPT: usize = 68 * 1024;

/// The same for the first message of a client, which costs the client nothing.
const MOST_HELLO: usize = 16 * 1024;

/// How many records, or handshake messages, without content for the channel may follow each other: key updates,
/// tickets, records that are empty. rustls counts key updates and empty records, but each kind resets the count of the
/// other.
const MOST_QUIET: usize = 64;

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
    has_closed: bool,
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

/// A server that waits for the first message of its client.
struct Accepting {
    acceptor: Acceptor,
    hello: Hello,
}

impl TlsStage {
    /// The stage of a server.
    pub(crate) fn accept(acceptor: Acceptor) -> Self {
        TlsStage::with(Connection::Accepting(Accepting {
            acceptor,
            hello: Hello::default(),
        }))
    }

    /// The stage of a client, whose output is its first message.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub(crate) fn connect(server: &Prepared) -> Result<Self, Error> {
        let (config, name) = (Arc::clone(&server.config), server.name.clone());
        let connection = UnbufferedClientConnection::new(config, name)
            .map_err(|error| in_words(&error, None))?;
        let mut stage = TlsStage::with(Connection::Client(Box::new(connection)));
        stage.process(&mut [], &mut Into::nowhere());
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
            has_closed: false,
            has_processed: false,
        }
    }

    /// Whether what is kept has to stay in its buffer. That is so while a handshake message is not complete:
    /// copying it for each of its pieces would be quadratic.
    fn keeps_in_place(&self) -> bool {
        self.is_handshaking() || record_length(&self.kept).is_some_and(|it| it <= self.kept.len())
    }

    /// Processes the input. Returns how many bytes of it are done with.
    fn process(&mut self, input: &mut [u8], into: &mut Into<'_>) -> usize {
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

    /// Looks for the whole first message of a client, with which `input` begins, and chooses the configuration.
    /// The connection then gets the same bytes again.
    fn accept_hello(&mut self, input: &mut [u8], into: &mut Into<'_>) -> usize {
        let Connection::Accepting(accepting) = &mut self.connection else {
            return 0;
        };
        let connection = match accepting.parse(input) {
            Ok(None) => return 0,
            Ok(Some(accepted)) => {
                choose(&accepting.acceptor, &accepted).and_then(|(config, name)| {
                    self.server_name = name;
                    UnbufferedServerConnection::new(config).map_err(|error| (error, None))
                })
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

/// An error, and the alert that says it to the client.
type Refused = (rustls::Error, Option<Vec<u8>>);

impl Accepting {
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
fn alert(description: AlertDescription) -> Vec<u8> {
    vec![21, 3, 3, 0, 2, 2, description.into()]
}

fn too_long() -> rustls::Error {
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

type Chosen = (Arc<ServerConfig>, Option<String>);

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

impl Stage for TlsStage {
    fn headroom(&self) -> usize {
        match self.keeps_in_place() {
            true => 0,
            false => self.kept.len(),
        }
    }

    fn feed(&mut self, input: &mut [u8], into: &mut [u8]) -> usize {
        let mut into = Into { into, filled: 0 };
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
            self.failure = Some(too_long());
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
        if mem::replace(&mut self.has_closed, true) || self.failure.is_some() {
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
        self.output = Output::default();
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

/// The two kinds of connections, which have the same states.
trait Side: Sized {
    fn process<'c, 'i>(
        connection: &'c mut UnbufferedConnectionCommon<Self>,
        input: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self>;
}

impl Side for ServerConnectionData {
    fn process<'c, 'i>(
        connection: &'c mut UnbufferedConnectionCommon<Self>,
        input: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self> {
        connection.process_tls_records(input)
    }
}

impl Side for ClientConnectionData {
    fn process<'c, 'i>(
        connection: &'c mut UnbufferedConnectionCommon<Self>,
        input: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self> {
        connection.process_tls_records(input)
    }
}

/// Processes all input, of which so many bytes are records that were `seen` before. Returns how many bytes of it are
/// done with, and how many of the others are whole records.
///
/// rustls gets one record at a time. So the records without content can be counted, which it does not tell about.
fn run<S: Side>(
    connection: &mut UnbufferedConnectionCommon<S>,
    input: &mut [u8],
    mut seen: usize,
    into: &mut Into<'_>,
    received: &mut Received,
    output: &mut Output,
) -> Result<(usize, usize), rustls::Error> {
    let (mut done, mut end) = (0, seen);
    loop {
        if end == done
            && let Some(next) = end_of_record(input, end)
        {
            (seen, end) = (next, next);
        }
        let rest = input.get_mut(done..end).unwrap_or_default();
        let UnbufferedStatus { mut discard, state } = S::process(connection, rest);
        let (mut is_over, mut has_content) = (false, false);
        let outcome = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
                match traffic.next_record() {
                    Some(Ok(record)) => {
                        discard += record.discard;
                        has_content |= !record.payload.is_empty();
                        received.deliver(record.payload, into);
                    }
                    Some(Err(error)) => break Err(error),
                    None => break Ok(()),
                }
            },
            Ok(ConnectionState::EncodeTlsData(mut data)) => output.encode(|to| data.encode(to)),
            Ok(ConnectionState::TransmitTlsData(data)) => {
                // It is in the output, whose order is that of its bytes.
                data.done();
                Ok(())
            }
            Ok(ConnectionState::PeerClosed) => {
                received.peer_has_closed = true;
                Ok(())
            }
            // Early data could be replayed. The configuration of the acceptor does not allow it.
            Ok(ConnectionState::ReadEarlyData(_)) => Err(rustls::Error::General(
                "early data is not accepted".to_owned(),
            )),
            Ok(_) => {
                is_over = true;
                Ok(())
            }
            Err(error) => Err(error),
        };
        done += discard;
        if has_content {
            received.quiet = 0;
        } else if discard > 0 && !connection.is_handshaking() {
            received.quiet += 1;
        }
        let is_quiet = || match received.quiet > MOST_QUIET {
            true => Err(PeerMisbehaved::TooManyEmptyFragments.into()),
            false => Ok(()),
        };
        if let Err(error) = outcome.and_then(|()| is_quiet()) {
            let rest = input.get_mut(done..).unwrap_or_default();
            fetch_alert(connection, rest, output);
            return Err(error);
        }
        if is_over && end == input.len() {
            return Ok((done, seen.saturating_sub(done)));
        }
        if is_over {
            // The last part may be the header of a record that is an error.
            end = match end_of_record(input, end) {
                Some(next) => {
                    seen = next;
                    next
                }
                None => input.len(),
            };
        }
    }
}

/// Where the record ends that begins there, if it is complete.
fn end_of_record(input: &[u8], begin: usize) -> Option<usize> {
    let end = begin + record_length(input.get(begin..)?)?;
    (end <= input.len()).then_some(end)
}

/// Appends to a buffer whose capacity doubles up to `most` bytes. That of a vector would double beyond them.
fn append(buffer: &mut Vec<u8>, bytes: &[u8], most: usize) {
    let needed = buffer.len() + bytes.len();
    if needed > buffer.capacity() {
        let capacity = needed.max(most.min(2 * buffer.capacity()));
        buffer.reserve_exact(capacity - buffer.len());
    }
    buffer.extend_from_slice(bytes);
}

/// Moves the alert that an error has caused to the output.
fn fetch_alert<S: Side>(
    connection: &mut UnbufferedConnectionCommon<S>,
    rest: &mut [u8],
    output: &mut Output,
) {
    while connection.wants_write() {
        match S::process(connection, rest).state {
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                if output.encode(|to| data.encode(to)).is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}

/// Encrypts one record. `kept` has no whole record.
fn seal<S: Side>(
    connection: &mut UnbufferedConnectionCommon<S>,
    kept: &mut [u8],
    content: &[u8],
    output: &mut Output,
) -> Result<(), rustls::Error> {
    with_traffic(connection, kept, output, |traffic, output| {
        output.write(content.len() + OVERHEAD, |to| traffic.encrypt(content, to))
    })
}

/// Encrypts the alert `close_notify`.
fn close_notify<S: Side>(
    connection: &mut UnbufferedConnectionCommon<S>,
    kept: &mut [u8],
    output: &mut Output,
) {
    // It fails when a handshake is not complete: nothing was sent that could be cut.
    let _ = with_traffic(connection, kept, output, |traffic, output| {
        output.write(OVERHEAD, |to| traffic.queue_close_notify(to))
    });
}

/// Calls `write` in the state in which the connection encrypts.
fn with_traffic<S: Side>(
    connection: &mut UnbufferedConnectionCommon<S>,
    kept: &mut [u8],
    output: &mut Output,
    write: impl FnOnce(&mut WriteTraffic<'_, S>, &mut Output) -> Result<(), rustls::Error>,
) -> Result<(), rustls::Error> {
    loop {
        match S::process(connection, kept).state? {
            ConnectionState::WriteTraffic(mut traffic) => return write(&mut traffic, output),
            // A key update that was requested.
            ConnectionState::EncodeTlsData(mut data) => output.encode(|to| data.encode(to))?,
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::PeerClosed => {}
            _ => return Err(rustls::Error::HandshakeNotComplete),
        }
    }
}

/// The length of the first record with its header, if the header is complete (RFC 8446 section 5.1).
fn record_length(bytes: &[u8]) -> Option<usize> {
    match *bytes {
        [_, _, _, high, low, ..] => Some(5 + usize::from(u16::from_be_bytes([high, low]))),
        _ => None,
    }
}

#[cfg(all(test, feature = "tls"))]
mod tests;

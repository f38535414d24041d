//! The handler of a data connection. It is there for one transfer, and reports to the control connection when it is up
//! and how it has ended.

use std::io::ErrorKind;
use std::sync::Arc;

use asynchat::tls::rustls::ServerConfig;
use asynchat::{AsyncChat, AtShutdown, Chat, Close, Eof, Result};

use super::Refusal;
use super::session::Session;
use super::transfer::DONE;
use super::upload::Upload;
use crate::status::Progress;

/// The rest of a refused upload is dropped up to this multiple of the largest permitted file, and at least up to
/// [`Options::least_dropped`](super::Options::least_dropped). The deadlines of the data connection bound the time.
const MOST_DROPPED: u64 = 16;

/// RFC 4217 section 10.2. vsftpd and FileZilla Server demand this, too.
const NOT_RESUMED: Refusal = "522 the data connection has to resume the TLS session of this one";

pub struct Data {
    chat: Chat,
    control: Chat,
    /// That of its [`Route`](super::route::Route).
    number: u64,
    tls: Option<Arc<ServerConfig>>,
    /// Whether TLS has to resume the session of the control connection.
    must_resume: bool,
    /// Whether another port is tried if that of this side is in use.
    may_retry: bool,
    state: State,
    incoming: Incoming,
    refusal: Option<Refusal>,
}

#[derive(PartialEq, Eq)]
enum State {
    Connecting,
    /// Of TLS.
    Handshake,
    Up,
}

/// What becomes of the bytes that are received.
enum Incoming {
    /// The transfer is a download, or has not begun. They are dropped.
    Nothing,
    Upload(Box<Upload>, Progress),
    /// The client has sent all of it.
    Received(Box<Upload>),
    /// The file was refused. This many bytes are still received and dropped.
    Refused(u64),
}

impl Data {
    pub fn new(
        chat: Chat,
        control: Chat,
        number: u64,
        tls: Option<Arc<ServerConfig>>,
        must_resume: bool,
        may_retry: bool,
    ) -> Data {
        Data {
            chat,
            control,
            number,
            tls,
            must_resume,
            may_retry,
            state: State::Connecting,
            incoming: Incoming::Nothing,
            refusal: None,
        }
    }

    /// Begins to receive a file. The control connection posts this.
    pub fn receive(&mut self, upload: Box<Upload>, progress: Progress) {
        self.incoming = Incoming::Upload(upload, progress);
        self.chat.resume_reading();
    }

    /// Sends the refusal at once, and drops what the client still sends. A reset would be an error of the data connection,
    /// after which most clients read no reply.
    fn refuse(&mut self, refusal: Refusal, dropped: u64) {
        self.refusal = Some(refusal);
        self.incoming = Incoming::Refused(dropped);
        let number = self.number;
        // `post` fails if the control connection has ended.
        let _ = self.control.post(move |session: &mut Session| {
            session.transfer_refused(number, refusal);
            Ok(())
        });
    }

    /// The reply to the transfer.
    fn reply(&self, why: &Close) -> &'static str {
        match (&self.refusal, why, &self.state) {
            (Some(refusal), ..) => refusal,
            (None, _, State::Connecting) => "425 the server cannot connect to you",
            (None, _, State::Handshake) => "425 TLS has failed",
            (None, Close::Handler(_), State::Up) => "451 the file cannot be read or written",
            (None, _, State::Up) => match self.incoming {
                Incoming::Nothing | Incoming::Received(_) if why.sent_all() => DONE,
                _ => "426 the transfer was cut",
            },
        }
    }
}

impl AsyncChat for Data {
    /// The FTP client is the client of TLS, also when the server has connected (RFC 4217 section 7). What is pushed after `start_tls` waits
    /// for the handshake, so a transfer can begin now.
    fn handle_connect(&mut self) -> Result {
        self.state = State::Up;
        if let Some(config) = &self.tls {
            self.state = State::Handshake;
            self.chat.start_tls(Arc::clone(config))?;
        }
        let (data, number) = (self.chat.clone(), self.number);
        let posted = self.control.post(move |session: &mut Session| {
            session.data_connected(number, data);
            Ok(())
        });
        if posted.is_err() {
            self.chat.abort(); // the client has left
        }
        Ok(())
    }

    /// Nothing of the file was sent yet.
    fn handle_tls(&mut self) -> Result {
        let is_resumed = self.chat.tls().is_some_and(|tls| tls.is_resumed);
        if self.must_resume && !is_resumed {
            self.refusal = Some(NOT_RESUMED);
            self.chat.abort();
            return Ok(());
        }
        self.state = State::Up;
        Ok(())
    }

    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(())
    }

    fn collect_incoming_data(&mut self, piece: &[u8]) -> Result {
        match &mut self.incoming {
            Incoming::Upload(upload, progress) => {
                progress.advance(piece.len());
                if let Err(refusal) = upload.write(piece) {
                    let least = upload.least_dropped();
                    let dropped = upload.max_size().saturating_mul(MOST_DROPPED);
                    self.refuse(refusal, dropped.max(least));
                }
            }
            Incoming::Refused(left) => {
                *left = left.saturating_sub(piece.len() as u64);
                if *left == 0 {
                    self.chat.close_when_done();
                }
            }
            Incoming::Nothing | Incoming::Received(_) => {}
        }
        Ok(())
    }

    /// The end of the connection is that of the file (RFC 959 section 3.4.1). With TLS this is called only after a
    /// `close_notify`: a file that somebody else has cut is not taken for a whole one.
    fn handle_eof(&mut self, _: &[u8]) -> Result<Eof> {
        self.incoming = match std::mem::replace(&mut self.incoming, Incoming::Nothing) {
            Incoming::Upload(upload, _) => Incoming::Received(upload),
            incoming => incoming,
        };
        Ok(Eof::CloseWhenDone)
    }

    /// The control connection decides.
    fn handle_shutdown(&mut self) -> Result<AtShutdown> {
        Ok(AtShutdown::Stay)
    }

    fn handle_close(&mut self, why: &Close) {
        if self.may_retry && is_in_use(why) {
            let number = self.number;
            let _ = self.control.post(move |session: &mut Session| {
                session.source_in_use(number);
                Ok(())
            });
            return;
        }
        let (reply, number) = (self.reply(why), self.number);
        tracing::debug!(%why, reply, "the data connection has ended");
        // An upload that is not complete is removed before the client learns of it. If the control connection has ended, the
        // call is dropped, and a complete one with it.
        let received = match std::mem::replace(&mut self.incoming, Incoming::Nothing) {
            Incoming::Received(upload) if why.sent_all() => Some(upload),
            _ => None,
        };
        let _ = self.control.post(move |session: &mut Session| {
            session.data_ended(number, reply, received);
            Ok(())
        });
    }
}

/// Whether the port of this side has a listener, or a connection to this peer, also one that has ended a moment ago, or may not
/// be used.
fn is_in_use(why: &Close) -> bool {
    let kind = match why {
        Close::ConnectFailed(error) => error.io_kind(),
        _ => None,
    };
    matches!(
        kind,
        Some(ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable | ErrorKind::PermissionDenied)
    )
}

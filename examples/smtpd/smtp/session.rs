//! The handler of one client's connection, and the commands.

use std::rc::Rc;

use asynchat::{AsyncChat, AtShutdown, Chat, Overflow, RecordLimit, Result, Terminator};
use tracing::debug;

use super::Service;
use super::address::Path;
use super::command::{self, Command};
use super::envelope::{Envelope, Hello};
use super::linger;
use super::transfer::Transfer;

/// A session has two states. Without a transfer, each record is a command line.
/// After DATA, the next record is a message. Both are streamed, so the session sees
/// a line before its end: [`Session::collect_line`] needs that.
pub struct Session {
    pub(super) chat: Chat,
    pub(super) service: Rc<Service>,
    hello: Option<Hello>,
    envelope: Option<Envelope>,
    transfer: Option<Transfer>,
    /// The part of a command line that has arrived.
    line: Vec<u8>,
    lf_hint: LfHint,
    /// The number of bad commands in a row. A well-meaning client sends good
    /// commands between its bad ones.
    bad_commands: usize,
    /// The server shuts down, and the session ends after its current message.
    shutting_down: bool,
}

/// Whether the client has received the hint that LF alone does not end a line.
#[derive(PartialEq, Eq)]
enum LfHint {
    NotSent,
    /// The hint was the reply to the line that is being received.
    IsReply,
    Sent,
}

impl Session {
    pub fn new(chat: Chat, service: Rc<Service>) -> Session {
        chat.set_terminator(command_line());
        Session {
            chat,
            service,
            hello: None,
            envelope: None,
            transfer: None,
            line: vec![],
            lf_hint: LfHint::NotSent,
            bad_commands: 0,
            shutting_down: false,
        }
    }

    fn run(&mut self, command: Command<'_>) {
        let name = &self.service.options.name;
        match command {
            Command::Helo(client) => {
                write!(self.chat, "250 {name}\r\n");
                self.hello(client, "SMTP");
            }
            Command::Ehlo(client) => {
                let size = self.service.options.max_size;
                let starttls = if self.can_start_tls() {
                    "250-STARTTLS\r\n"
                } else {
                    ""
                };
                write!(
                    self.chat,
                    "250-{name} greets {client}\r\n250-PIPELINING\r\n250-SIZE {size}\r\n\
                     250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n{starttls}250 HELP\r\n"
                );
                // RFC 3848. It has no name for HELO with TLS.
                self.hello(client, if self.is_secure() { "ESMTPS" } else { "ESMTP" });
            }
            Command::Mail { from, size } => self.mail(from, size),
            Command::Rcpt(to) => self.rcpt(to),
            Command::Data => self.data(),
            Command::Rset => {
                self.envelope = None;
                self.reply("250 2.0.0 forgotten");
            }
            Command::Noop => self.reply("250 2.0.0 still here"),
            // VRFY does not reveal which mailboxes exist: RFC 5321, section 7.3.
            Command::Vrfy => self.reply("252 2.5.0 send it some mail and see"),
            Command::Help => self.reply(
                "214 2.0.0 HELO EHLO MAIL RCPT DATA RSET NOOP VRFY HELP QUIT, as in RFC 5321",
            ),
            Command::StartTls => self.start_tls(),
            Command::Quit => {
                write!(self.chat, "221 2.0.0 {name} closes\r\n");
                self.chat.close_when_done();
                linger::skip_if_short(&self.chat, 0);
            }
        }
    }

    /// HELO and EHLO also discard the envelope: section 4.1.4.
    fn hello(&mut self, client: &str, protocol: &'static str) {
        let name = client.to_owned();
        self.hello = Some(Hello { name, protocol });
        self.envelope = None;
    }

    /// Whether the client uses TLS, which may end at the proxy.
    fn is_secure(&self) -> bool {
        let header = || self.chat.proxy_header().and_then(|header| header.ssl());
        self.chat.tls().is_some() || header().is_some_and(|ssl| ssl.uses_tls)
    }

    fn can_start_tls(&self) -> bool {
        self.service.options.tls.is_some() && !self.is_secure()
    }

    /// STARTTLS (RFC 3207). It is allowed in the middle of a mail transaction, which
    /// [`handle_tls`](AsyncChat::handle_tls) then discards. The crate ends the
    /// connection if the client has not waited for the reply.
    fn start_tls(&mut self) {
        if self.is_secure() {
            return self.bad_command("503 5.5.1 TLS is active already");
        }
        let Some(acceptor) = self.service.options.tls.clone() else {
            return self.bad_command("502 5.5.1 command not implemented");
        };
        self.reply("220 2.0.0 begin TLS");
        if let Err(error) = self.chat.start_tls(acceptor) {
            self.chat.close_with(error);
        }
    }

    fn mail(&mut self, from: Path, size: u64) {
        let Some(client) = self.hello.clone() else {
            return self.bad_command("503 5.5.1 HELO or EHLO first");
        };
        if self.envelope.is_some() {
            return self.bad_command("503 5.5.1 one MAIL at a time");
        }
        if size > self.service.options.max_size {
            return self.reply(TOO_LARGE);
        }
        let to = vec![];
        self.envelope = Some(Envelope { client, from, to });
        self.reply("250 2.1.0 sender taken");
    }

    fn rcpt(&mut self, to: Path) {
        let Some(envelope) = &mut self.envelope else {
            return self.bad_command("503 5.5.1 MAIL first");
        };
        if let Path::Mailbox(mailbox) = &to
            && !self.service.is_local(mailbox)
        {
            return self.reply("550 5.7.1 nothing is relayed");
        }
        if envelope.to.len() >= self.service.options.max_recipients {
            return self.reply("452 4.5.3 too many recipients");
        }
        envelope.to.push(to);
        self.reply("250 2.1.5 recipient taken");
    }

    /// Receives a message, which ends with a dot line. It has a longer deadline
    /// than a command line.
    fn data(&mut self) {
        let envelope = match self.envelope.take() {
            None => return self.bad_command("503 5.5.1 MAIL first"),
            Some(envelope) if envelope.to.is_empty() => {
                self.envelope = Some(envelope);
                return self.bad_command("554 5.5.1 no recipient was taken");
            }
            Some(envelope) => envelope,
        };
        match Transfer::begin(self, &envelope) {
            Ok(transfer) => self.transfer = Some(transfer),
            Err(reply) => return self.reply(reply),
        }
        let options = &self.service.options;
        self.chat.set_terminator(Terminator::dot_block().streamed());
        self.chat
            .set_deadlines(options.deadlines.record(options.message_time));
        self.reply("354 go on, to a line with a dot");
    }

    /// Ends the transfer; the next record is a command line.
    fn end_transfer(&mut self, transfer: Transfer) {
        self.chat.set_terminator(command_line());
        self.chat.set_deadlines(self.service.options.deadlines);
        transfer.end(self);
        if self.shutting_down {
            self.send_421();
            self.chat.close_when_done();
        }
    }

    /// Sends the reply of a server that shuts down: RFC 5321, section 3.8.
    fn send_421(&self) {
        let name = &self.service.options.name;
        self.reply(&format!("421 4.3.2 {name} shuts down"));
    }

    /// Collects a part of a command line. A client that ends its lines with LF
    /// alone would wait for a reply for ever, because its line is not complete. LF
    /// must not end a line: a line end that only some servers accept can smuggle a
    /// message (CVE-2023-51764). So the client gets a hint, once.
    fn collect_line(&mut self, chunk: &[u8]) {
        self.line.extend(chunk);
        if self.lf_hint == LfHint::NotSent && chunk.contains(&b'\n') {
            self.lf_hint = LfHint::IsReply;
            self.bad_command("500 5.5.2 end lines with CR LF, not with LF alone");
        }
    }

    /// Whether the hint was already the reply to this command line. Call it once
    /// when the line is complete or too long.
    fn is_answered(&mut self) -> bool {
        let answered = self.lf_hint == LfHint::IsReply;
        if answered {
            self.lf_hint = LfHint::Sent;
        }
        answered
    }

    fn command(&mut self, line: &[u8]) {
        match Command::parse(line) {
            Ok(command) => {
                let bad = self.bad_commands;
                self.run(command);
                if self.bad_commands == bad {
                    self.bad_commands = 0;
                }
            }
            Err(_) if command::is_http(line) => self.hang_up("421 4.7.0 this is not HTTP"),
            Err(reply) => self.bad_command(reply),
        }
    }

    pub(super) fn reply(&self, line: &str) {
        debug!("{line}");
        write!(self.chat, "{line}\r\n");
    }

    /// Sends the reply to a bad command. Also closes the connection when there were
    /// too many in a row.
    fn bad_command(&mut self, reply: &str) {
        self.bad_commands += 1;
        self.reply(reply);
        if self.bad_commands >= self.service.options.max_bad_commands {
            self.hang_up("421 4.7.0 too many bad commands");
        }
    }

    /// Ends the session with a last reply. Later input is ignored. The reply
    /// still reaches a client that continues to send, because the loop lingers.
    fn hang_up(&self, reply: &str) {
        self.reply(reply);
        self.chat.close_when_done();
    }
}

/// The reply to MAIL or at the end of a message: RFC 1870, section 6.
pub const TOO_LARGE: &str = "552 5.3.4 message too large";

impl AsyncChat for Session {
    fn handle_connect(&mut self) -> Result {
        write!(
            self.chat,
            "220 {} ESMTP asynchat\r\n",
            self.service.options.name
        );
        Ok(())
    }

    fn found_terminator(&mut self, _: &[u8]) -> Result {
        if let Some(transfer) = self.transfer.take() {
            self.end_transfer(transfer);
            return Ok(());
        }
        let mut line = std::mem::take(&mut self.line);
        if !self.is_answered() {
            self.command(&line);
        }
        line.clear();
        self.line = line;
        Ok(())
    }

    fn collect_incoming_data(&mut self, chunk: &[u8]) -> Result {
        match &mut self.transfer {
            Some(transfer) => transfer.collect(chunk),
            None => self.collect_line(chunk),
        }
        Ok(())
    }

    /// Everything that came in clear may be from somebody else, so it is forgotten,
    /// also the name in EHLO: RFC 3207, section 4.2. The count of bad commands stays,
    /// because it limits what one connection costs.
    fn handle_tls(&mut self) -> Result {
        self.hello = None;
        self.envelope = None;
        self.line.clear();
        Ok(())
    }

    /// A message that is being received is completed first. Otherwise the client would send it again.
    fn handle_shutdown(&mut self) -> Result<AtShutdown> {
        self.shutting_down = self.transfer.is_some();
        if self.shutting_down {
            return Ok(AtShutdown::Stay);
        }
        self.send_421();
        Ok(AtShutdown::CloseWhenDone)
    }

    /// Only a command line has a limit here. [`Transfer`] limits the size of a message.
    fn handle_overflow(&mut self, _limit: &RecordLimit) -> Result<Overflow> {
        self.line.clear();
        if !self.is_answered() {
            self.bad_command(command::TOO_LONG);
        }
        Ok(Overflow::Discard)
    }
}

/// The terminator of command lines: only CR LF ends a line.
fn command_line() -> Terminator {
    Terminator::crlf().streamed().limit(command::MAX_MAIL_LINE)
}

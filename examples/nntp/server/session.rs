//! The handler of one client's connection.

use std::rc::Rc;
use std::time::Duration;

use asynchat::{
    AsyncChat, AtShutdown, Chat, Close, Overflow, RecordLimit, Result, Terminator, TimerId,
};
use tracing::{Span, debug, info_span};

use super::Service;
use super::client_errors::ClientErrors;
use super::commands::{self, auth, auth::Login, posting::Transfer, starttls};
use super::passwords::Checked;
use super::spool::Group;

/// A session has two states. Without a transfer, each record is a command line.
/// After the server has accepted POST or IHAVE, the next record is an article,
/// which is streamed.
pub struct Session {
    pub(super) chat: Chat,
    pub(super) service: Rc<Service>,
    /// The selected group and the number of the current article in it.
    pub(super) group: Option<Rc<Group>>,
    pub(super) current: Option<u64>,
    pub(super) login: Login,
    /// The client uses TLS, which may end at the proxy.
    pub(super) is_secure: bool,
    pub(super) errors: ClientErrors,
    /// The article that is being received.
    transfer: Option<Transfer>,
    /// The store is writing an article of this client.
    pub(super) storing: bool,
    /// The server shuts down, and the session ends after its current article.
    shutting_down: bool,
    /// The reply to a failed log-in. It is sent when the timer fires.
    delayed_reply: Option<&'static str>,
    /// Bounds the check of a password.
    check_timer: Option<TimerId>,
    span: Span,
}

impl Session {
    pub(super) fn new(chat: Chat, service: Rc<Service>, is_secure: bool) -> Session {
        let span = match chat.peer_addr() {
            Some(peer) => info_span!(parent: None, "session", %peer),
            None => info_span!(parent: None, "session"),
        };
        let login = match service.options.check_password {
            Some(_) => Login::Needed,
            None => Login::NotNeeded,
        };
        let header = chat.proxy_header().and_then(|header| header.ssl());
        let is_secure = is_secure || header.is_some_and(|ssl| ssl.uses_tls);
        Session {
            chat,
            service,
            group: None,
            current: None,
            login,
            is_secure,
            errors: ClientErrors::default(),
            transfer: None,
            storing: false,
            shutting_down: false,
            delayed_reply: None,
            check_timer: None,
            span,
        }
    }

    /// Receives an article, which ends with a dot line. It has a longer deadline
    /// than a command line.
    pub(super) fn receive(&mut self, transfer: Transfer) {
        let options = &self.service.options;
        self.transfer = Some(transfer);
        self.chat.set_terminator(Terminator::dot_block().streamed());
        let deadlines = options.deadlines.record(options.article_time);
        self.chat.set_deadlines(deadlines);
    }

    /// Ends the transfer; the next record is a command line.
    fn end_transfer(&mut self, transfer: Transfer) {
        self.chat.set_terminator(Terminator::crlf());
        self.chat.set_deadlines(self.service.options.deadlines);
        transfer.end(self);
        self.end_if_shutting_down();
    }

    /// Ends the session if the server shuts down and no article is being stored.
    pub(super) fn end_if_shutting_down(&self) {
        if self.shutting_down && !self.storing {
            self.hang_up(SHUTDOWN, b"");
        }
    }

    /// Replies to a failed log-in after a delay. Until then no command is read or parsed.
    pub(super) fn reply_later(&mut self, delay: Duration, line: &'static str) {
        self.delayed_reply = Some(line);
        self.chat.pause_reading();
        self.chat.call_later(delay);
    }

    /// The check of a password takes a while. Until it has ended no command is read or parsed.
    pub(super) fn wait_for_check(&mut self) {
        self.chat.pause_reading();
        let time = self.service.options.password_time;
        self.check_timer = Some(self.chat.call_later(time));
    }

    /// A check that has taken a while has ended.
    #[allow(dead_code, reason = "some programs check passwords at once")]
    pub fn password_checked(&mut self, checked: Checked) {
        let _session = self.span.clone().entered();
        if !self.chat.is_closing() {
            if let Some(timer) = self.check_timer.take() {
                self.chat.cancel(timer);
            }
            self.chat.resume_reading();
            auth::end_check(self, checked);
        }
    }

    pub(super) fn reply(&self, line: &str) {
        write!(self.chat, "{line}\r\n");
    }

    /// Whether the client may send its password: nobody else can read it.
    pub(super) fn may_send_password(&self) -> bool {
        self.is_secure || self.service.options.insecure_auth
    }

    /// Whether any group accepts posts.
    pub(super) fn may_post(&self) -> bool {
        self.service.spool().groups().any(|group| group.postable)
    }
}

const SHUTDOWN: &str = "the server shuts down";

impl AsyncChat for Session {
    fn handle_connect(&mut self) -> Result {
        let _session = self.span.clone().entered();
        // Events that a client can cause without limit are logged at debug level
        // only. Otherwise a client could fill the disk with log lines.
        debug!("connected");
        self.reply(commands::info::greeting(self));
        Ok(())
    }

    fn found_terminator(&mut self, record: &[u8]) -> Result {
        let _session = self.span.clone().entered();
        self.service.file_finished_posts();
        match self.transfer.take() {
            Some(transfer) => self.end_transfer(transfer),
            None => commands::run(self, record),
        }
        Ok(())
    }

    fn collect_incoming_data(&mut self, chunk: &[u8]) -> Result {
        if let Some(transfer) = &mut self.transfer {
            transfer.collect(chunk);
        }
        Ok(())
    }

    fn handle_overflow(&mut self, _limit: &RecordLimit) -> Result<Overflow> {
        let _session = self.span.clone().entered();
        self.bad_command("501 command line too long", b"");
        Ok(Overflow::Discard)
    }

    fn handle_timer(&mut self, timer: TimerId) -> Result {
        let _session = self.span.clone().entered();
        if self.check_timer == Some(timer) {
            // The session ends, because the outcome may come later, and must not be taken for that of another log-in.
            self.hang_up("the password was not checked in time", b"AUTHINFO");
            return Ok(());
        }
        self.chat.resume_reading();
        if let Some(reply) = self.delayed_reply.take() {
            self.failed_login(reply);
        }
        Ok(())
    }

    fn handle_tls(&mut self) -> Result {
        let _session = self.span.clone().entered();
        starttls::forget_state(self);
        Ok(())
    }

    /// A session that is receiving or storing an article completes that first.
    fn handle_shutdown(&mut self) -> Result<AtShutdown> {
        self.shutting_down = self.transfer.is_some() || self.storing;
        if self.shutting_down {
            return Ok(AtShutdown::Stay);
        }
        write!(self.chat, "400 {SHUTDOWN}\r\n");
        Ok(AtShutdown::CloseWhenDone)
    }

    fn handle_close(&mut self, why: &Close) {
        let _session = self.span.clone().entered();
        debug!(%why, "closed");
    }
}

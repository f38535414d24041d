//! One client's connection: its state, and what each callback does with it.

use std::rc::Rc;
use std::time::Duration;

use asynchat::{AsyncChat, Chat, Close, Overflow, Result, Shutdown, Terminator, TimerId};
use tracing::{Span, debug, info_span};

use super::Service;
use super::commands::{self, auth::Login, posting::Transfer};
use super::conduct::Conduct;
use super::spool::Group;

/// A session is in one of two states. Mostly a record is a command line; after
/// POST or IHAVE was agreed to, it is an article, which streams in.
pub struct Session {
    pub(super) chat: Chat,
    pub(super) service: Rc<Service>,
    /// The selected group and the number of the current article in it.
    pub(super) group: Option<Rc<Group>>,
    pub(super) current: Option<u64>,
    pub(super) login: Login,
    pub(super) conduct: Conduct,
    transfer: Option<Transfer>,
    /// An article of this client is on its way to the store.
    pub(super) storing: bool,
    /// The server shuts down when the article is kept.
    leaving: bool,
    /// The reply to a failed log-in, for which the session waits.
    delayed: Option<&'static str>,
    span: Span,
}

impl Session {
    pub(super) fn new(chat: Chat, service: Rc<Service>) -> Session {
        let span = match chat.peer_addr() {
            Some(peer) => info_span!(parent: None, "session", %peer),
            None => info_span!(parent: None, "session"),
        };
        let login = match service.options.passwords {
            Some(_) => Login::Needed,
            None => Login::NotNeeded,
        };
        Session {
            chat,
            service,
            group: None,
            current: None,
            login,
            conduct: Conduct::default(),
            transfer: None,
            storing: false,
            leaving: false,
            delayed: None,
            span,
        }
    }

    /// From here to a line with a dot, what comes is an article, and has more
    /// time to be complete than a command line has.
    pub(super) fn receive(&mut self, transfer: Transfer) {
        let options = &self.service.options;
        self.transfer = Some(transfer);
        self.chat.set_terminator(Terminator::dot_block().streamed());
        let deadlines = options.deadlines.record(options.article_time);
        self.chat.set_deadlines(deadlines);
    }

    /// After it, commands again.
    fn received(&mut self, transfer: Transfer) {
        self.chat.set_terminator(Terminator::crlf());
        self.chat.set_deadlines(self.service.options.deadlines);
        transfer.end(self);
        self.leave_if_due();
    }

    /// An article has had its reply: does the server shut down?
    pub(super) fn leave_if_due(&self) {
        if self.leaving && !self.storing {
            self.hang_up(SHUTDOWN, b"");
        }
    }

    /// Replies to a failed log-in after a delay, in which no command is read or parsed.
    pub(super) fn reply_later(&mut self, delay: Duration, line: &'static str) {
        self.delayed = Some(line);
        self.chat.pause_reading();
        self.chat.call_later(delay);
    }

    pub(super) fn reply(&self, line: &str) {
        write!(self.chat, "{line}\r\n");
    }

    /// Whether a post would have a group to go to.
    pub(super) fn may_post(&self) -> bool {
        self.service.spool().groups().any(|group| group.postable)
    }
}

const SHUTDOWN: &str = "the server shuts down";

impl AsyncChat for Session {
    fn handle_connect(&mut self) -> Result {
        let _session = self.span.clone().entered();
        // What strangers can cause as often as they like is told at debug only, or
        // the log would be theirs to fill the disk with.
        debug!("connected");
        self.reply(commands::info::greeting(self));
        Ok(())
    }

    fn found_terminator(&mut self, record: &[u8]) -> Result {
        let _session = self.span.clone().entered();
        self.service.settle();
        match self.transfer.take() {
            Some(transfer) => self.received(transfer),
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

    fn handle_overflow(&mut self) -> Overflow {
        let _session = self.span.clone().entered();
        self.bad_command("501 command line too long", b"");
        Overflow::Discard
    }

    fn handle_timer(&mut self, _: TimerId) -> Result {
        let _session = self.span.clone().entered();
        self.chat.resume_reading();
        if let Some(reply) = self.delayed.take() {
            self.failed_login(reply);
        }
        Ok(())
    }

    /// An article that is coming in is taken first.
    fn handle_shutdown(&mut self) -> Result<Shutdown> {
        self.leaving = self.transfer.is_some() || self.storing;
        if self.leaving {
            return Ok(Shutdown::Stay);
        }
        write!(self.chat, "400 {SHUTDOWN}\r\n");
        Ok(Shutdown::CloseWhenDone)
    }

    fn handle_close(&mut self, why: &Close) {
        let _session = self.span.clone().entered();
        debug!(%why, "closed");
    }
}

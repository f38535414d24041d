//! Pipes: passes the end of a stream, or of a connection, on to the other connection.

use std::error::Error as StdError;
use std::io;
use std::rc::Rc;

use super::{ChannelState, Flag, Phase};
use crate::error::{BoxError, Close, WithSources, io_kind};
use crate::output::fifo::Item;
use crate::sys::watched_socket::WatchedSocket;
use crate::user_code::{enter, text_of};

impl ChannelState {
    /// The other end of its pipe, while there is one.
    pub(crate) fn piped_to(&self) -> Option<Rc<ChannelState>> {
        if self.flags.has(Flag::PIPED) {
            self.cold(|cold| cold.piped_to.upgrade())?
        } else {
            None
        }
    }

    pub(crate) fn pipe_to(&self, other: &Rc<ChannelState>) {
        self.with_cold(|cold| cold.piped_to = Rc::downgrade(other));
        self.flags.set(Flag::PIPED, true);
    }

    /// Whether the other end of its pipe takes nothing for now: the queue of that end is over its mark,
    /// or its close is queued.
    pub(crate) fn is_pipe_full(&self) -> bool {
        let takes_nothing =
            |to: Rc<ChannelState>| to.flags.has(Flag::BACK_PRESSURED) || to.is_closing();
        self.piped_to().is_some_and(takes_nothing)
    }

    /// Sends the front of `data`, which is not in the queue, if nothing is queued before it and the kernel may take it:
    /// at most what a turn writes. Returns how many bytes were sent.
    ///
    /// # Errors
    /// When the connection cannot send any more.
    pub(crate) fn send_at_once(&self, data: &[u8]) -> io::Result<usize> {
        // Before `handle_connect` the session has not pushed what comes first. TLS copies what it sends anyway.
        let may_send = self.phase.get() == Phase::Open
            && !self.flags.has(Flag::BLOCKED)
            && !self.flags.have_tls()
            && self.out.borrow().is_ready_for_bytes();
        if !may_send {
            return Ok(0);
        }
        let most = self.limit(|limits| limits.turn_write.max(1));
        let data = data.get(..most).unwrap_or(data);
        match self.sent(self.on_output(|output| output.send(data)), data.len()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            outcome => outcome,
        }
    }

    /// The peer has finished sending. The other end does so too, when all that came has been sent.
    pub(crate) fn pass_on_eof(self: &Rc<Self>) {
        let Some(to) = self.piped_to() else {
            return;
        };
        if to.flags.has(Flag::EOF) {
            to.close_when_done(Close::Eof);
            self.close_when_done(Close::Eof);
        } else {
            to.push_item(Item::ShutdownWrite);
        }
    }

    /// The connection has ended, and `handle_close` has been called. The other end ends too.
    pub(crate) fn pass_on_end(&self, why: &Close) {
        let Some(to) = self.piped_to() else {
            return;
        };
        let reason = Close::Piped(Box::new(copy_of(why)));
        let known = self.cold(|cold| (cold.aborted, cold.lacks_end));
        let (is_aborted, lacks_end) = known.unwrap_or_default();
        let is_complete = match why {
            Close::Local | Close::Dropped => !is_aborted,
            Close::ConnectFailed(_) => true,
            _ => false,
        };
        let has_end = self.flags.has(Flag::EOF) && !lacks_end;
        if is_complete || has_end || !to.peer_can_tell_reset() {
            to.close_when_done(reason);
        } else {
            to.reset_on_close();
            to.end(reason);
        }
    }

    /// Whether its peer can tell a reset from an ordinary close. The reader of a pipe, a file or a terminal
    /// cannot.
    fn peer_can_tell_reset(&self) -> bool {
        let source = self.source.borrow();
        let is_resettable = |source: &WatchedSocket| source.socket().can_be_reset();
        !self.has_own_output() && source.as_ref().is_none_or(is_resettable)
    }
}

/// Copies a reason. The copy of an error has only its kind and its text.
fn copy_of(why: &Close) -> Close {
    let copied = |error: &(dyn StdError + 'static)| {
        let text = text_of(&WithSources(error));
        match enter(|| io_kind(error)).ok().flatten() {
            Some(kind) => BoxError::from(io::Error::new(kind, text)),
            None => text.into(),
        }
    };
    match why {
        Close::Local => Close::Local,
        Close::Dropped => Close::Dropped,
        Close::Eof => Close::Eof,
        Close::Reset => Close::Reset,
        Close::ConnectFailed(error) => Close::ConnectFailed(copied(error).into()),
        Close::Timeout(deadline) => Close::Timeout(*deadline),
        Close::InputLimit(limit) => Close::InputLimit(*limit),
        Close::OutputLimit => Close::OutputLimit,
        Close::Handler(error) => Close::Handler(copied(&**error)),
        Close::Panic(message) => Close::Panic(message.clone()),
        Close::Shutdown => Close::Shutdown,
        Close::Interrupted => Close::Interrupted,
        Close::Piped(why) => copy_of(why),
        Close::Truncated => Close::Truncated,
        Close::Tls(error) => Close::Tls(copied(error).into()),
        Close::ProxyHeader(error) => Close::ProxyHeader(copied(error).into()),
        Close::Io(error) => Close::Io(io::Error::new(error.kind(), text_of(error))),
    }
}

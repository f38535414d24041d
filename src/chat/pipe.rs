//! Two connections made one: the body of every proxy.
//!
//! A piped chat keeps its session, its queue, its limits and its deadlines; only its input has another
//! destination. What is here says when that ends, `chat_dispatcher.rs` moves the bytes.

use std::io;
use std::rc::Rc;

use crate::error::{Close, Error, Result};
use crate::framing::terminator::Terminator;
use crate::state::{ChannelState, Phase};
use crate::user_code::text_of;
use crate::{Channel, Chat};

/// Joins two connections, both ways: from now on what the one receives is pushed to the other as it
/// comes, framed by nothing. This is a port forwarder:
///
/// ```no_run
/// use asynchat::Result;
///
/// fn main() -> Result {
///     asynchat::listen("127.0.0.1:8080", |near| {
///         let far = asynchat::connect("example.org:80", |_| |_: &[u8]| Ok(()));
///         if far.and_then(|far| asynchat::pipe(&near, &far)).is_err() {
///             near.close();
///         }
///         |_: &[u8]| Ok(())
///     })?;
///     asynchat::run()
/// }
/// ```
///
/// A session may talk first and pipe later. What has been received and not been delivered goes through
/// too, whatever the terminator was, and so does what was pushed to either end before:
///
/// ```
/// use asynchat::{AsyncChat, Chat, Close, Result};
///
/// /// `CONNECT host:port` on a line, and then a connection to there.
/// struct Door { chat: Chat }
///
/// impl AsyncChat for Door {
///     fn found_terminator(&mut self, line: &[u8]) -> Result {
///         let line = std::str::from_utf8(line)?;
///         let target = line.strip_prefix("CONNECT ").ok_or("CONNECT is all I know")?;
///         let near = self.chat.clone();
///         let far = asynchat::connect(target, |_| Beyond { near })?;
///         asynchat::pipe(&self.chat, &far)
///     }
/// }
///
/// /// The far end tells the near one what came of it.
/// struct Beyond { near: Chat }
///
/// impl AsyncChat for Beyond {
///     fn handle_connect(&mut self) -> Result {
///         self.near.push("200 go ahead\r\n");
///         Ok(())
///     }
///     fn handle_close(&mut self, why: &Close) {
///         if let Close::ConnectFailed(error) = why {
///             write!(self.near, "502 {error}\r\n");
///         }
///     }
///     fn found_terminator(&mut self, _: &[u8]) -> Result { Ok(()) }
/// }
/// ```
///
/// * **The sessions stay.** They hear of their connection, their timers and its end, and of what passes
///   through and its end in [`handle_piped`](crate::AsyncChat::handle_piped), but of no record any more. They may push in between, and pause reading.
/// * **Back-pressure.** While the queue of one end is over its [`high_water`](crate::Limits::high_water)
///   mark, the other is not read. So a queue holds that much, and what was read in one turn.
/// * **Half-close.** When a peer has finished sending, the other end's sending side is shut down behind
///   what came. When both have, both close with [`Close::Eof`].
/// * **An end that cannot send any more** (its peer or its process reads nothing) closes as soon as what it
///   has received by then is passed on. What it would have received later is lost.
/// * **The end of one is the end of the other**, which is told [`Close::Piped`] with the reason. It still
///   sends what it was given if the one was closed by this side, never came up, or had finished sending.
///   Otherwise, after a reset for one, its peer must not take for whole what was cut short, and it is
///   reset at once.
///
/// * **A [shutdown](crate::shutdown)** lets what passes through come to its end, within the grace.
///
/// A pipe is for good: nothing takes it apart but the end. A peer that vanishes without a word is noticed
/// by a [deadline](crate::Deadlines) only: `idle` and `drain` are worth setting on both ends.
///
/// # Errors
/// When either is piped already, or they are the same connection. If either has ended, that is no error:
/// the other one follows it.
pub fn pipe(a: &Chat, b: &Chat) -> Result {
    let ends = [&a.0, &b.0];
    if Rc::ptr_eq(ends[0], ends[1]) {
        return Err(Error::new("a connection can not be piped to itself").context(a.id()));
    }
    if let Some(end) = ends.iter().find(|end| end.is_piped()) {
        return Err(Error::new("the connection is piped already").context(end.id.get()));
    }
    for (chat, from, to) in [(a, ends[0], ends[1]), (b, ends[1], ends[0])] {
        from.pipe_to(to);
        // What is held back as the beginning of a record or of a terminator is given up.
        chat.set_terminator(Terminator::none());
    }
    for (from, to) in [(ends[0], ends[1]), (ends[1], ends[0])] {
        if from.phase.get() == Phase::Closed {
            to.close_when_done(Close::Piped(Box::new(Close::Local)));
        } else if from.eof.get() {
            from.pass_on_eof();
        }
    }
    Ok(())
}

impl ChannelState {
    pub(crate) fn is_piped(&self) -> bool {
        self.chat.is_piped.get()
    }

    /// Its peer has finished sending. So does the other end, once all that came is out.
    pub(crate) fn pass_on_eof(self: &Rc<Self>) {
        let Some(to) = self.piped_to() else {
            return;
        };
        if to.eof.get() {
            to.close_when_done(Close::Eof);
            self.close_when_done(Close::Eof);
        } else {
            Chat::of(Channel(to)).shutdown_write();
        }
    }

    /// It has ended, and its handler been told. So does the other end.
    pub(crate) fn pass_on_end(&self, why: &Close) {
        let Some(to) = self.piped_to() else {
            return;
        };
        let reason = Close::Piped(Box::new(copy_of(why)));
        let meant = matches!(why, Close::Local | Close::ConnectFailed(_));
        if meant || self.eof.get() {
            to.close_when_done(reason);
        } else {
            to.reset_on_close();
            to.end(reason);
        }
    }
}

/// The same reason once more. Of an error it keeps the kind and the text.
fn copy_of(why: &Close) -> Close {
    let copied = |error: &Error| match error.io_kind() {
        Some(kind) => Error::new(io::Error::new(kind, text_of(error))),
        None => Error::new(text_of(error)),
    };
    match why {
        Close::Local => Close::Local,
        Close::Eof => Close::Eof,
        Close::Reset => Close::Reset,
        Close::ConnectFailed(error) => Close::ConnectFailed(copied(error)),
        Close::Timeout(deadline) => Close::Timeout(*deadline),
        Close::InputLimit => Close::InputLimit,
        Close::OutputLimit => Close::OutputLimit,
        Close::Handler(error) => Close::Handler(copied(error)),
        Close::Panic(message) => Close::Panic(message.clone()),
        Close::Shutdown => Close::Shutdown,
        Close::Piped(why) => copy_of(why),
        Close::Io(error) => Close::Io(io::Error::new(error.kind(), text_of(error))),
    }
}

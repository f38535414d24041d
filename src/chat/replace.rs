//! Another session for a connection that is up: asyncio's `set_protocol`.

use std::any::{Any, TypeId};
use std::rc::Rc;

use super::driver::ChatDriver;
use super::handle::Chat;
use super::session::AsyncChat;
use crate::log::log;
use crate::runtime::driver::Driver;
use crate::state::ChannelState;
use crate::user_code::discard;

/// Makes the driver of the new session from that of the old one.
type Replacement = Box<dyn FnOnce(ChatDriver<()>) -> Box<dyn Driver>>;

impl Chat {
    /// Replaces the session of this connection: for a protocol that is detected from its first bytes, for an
    /// upgrade, or for a login that is a session of its own. asyncio calls this `set_protocol`.
    ///
    /// The new session takes over when the running callback has returned. It gets the next record, timer,
    /// posted call and, in the end, `handle_close`. The old one gets no further callback and is dropped.
    /// `handle_connect` is not called for the new session, unless the connection is not up yet. Terminator,
    /// limits, deadlines, timers and the queue stay as they are; the callback may change them.
    ///
    /// If the running callback fails, or a producer in the same turn, the old session gets `handle_close`, and
    /// the new one is dropped. A session for a connection that has ended is dropped as well. Calls that were
    /// [posted](crate::Remote::post_to) to the old session and not made yet are dropped, with a warning. A shutdown
    /// that the old session was [called for](AsyncChat::handle_shutdown) is not announced again.
    ///
    /// The loop calls the factory of an outgoing connection after `connect` has returned. A session that is set on
    /// the returned chat before that replaces the factory's own, as everything that is set there does: the loop calls
    /// the factory, drops its session without a callback, and calls `handle_connect` of the other one.
    ///
    /// ```
    /// use asynchat::{AsyncChat, Chat, Result};
    ///
    /// struct Login { chat: Chat }
    /// struct Session { chat: Chat, name: String }
    ///
    /// impl AsyncChat for Login {
    ///     fn found_terminator(&mut self, line: &[u8]) -> Result {
    ///         let name = std::str::from_utf8(line)?.strip_prefix("USER ").ok_or("USER comes first")?;
    ///         write!(self.chat, "200 welcome, {name}\r\n");
    ///         let (chat, name) = (self.chat.clone(), name.to_owned());
    ///         self.chat.replace_session(Session { chat, name });
    ///         Ok(())
    ///     }
    /// }
    ///
    /// impl AsyncChat for Session {
    ///     fn found_terminator(&mut self, line: &[u8]) -> Result {
    ///         write!(self.chat, "{}: {}\r\n", self.name, String::from_utf8_lossy(line));
    ///         Ok(())
    ///     }
    /// }
    /// ```
    pub fn replace_session<S: AsyncChat>(&self, session: S) {
        let make: Replacement = Box::new(move |parts| Box::new(parts.exchange(session).1));
        self.state()
            .replace_handler(TypeId::of::<S>, Box::new(make));
    }
}

/// The driver of the session that replaces the one of `parts`, or the driver of `old` if there is none.
pub(super) fn replaced<S: AsyncChat>(
    state: &Rc<ChannelState>,
    driver: ChatDriver<S>,
) -> (Option<S>, Box<dyn Driver>) {
    let make: Option<Box<dyn Any>> = state.take_replacement();
    match make.map(<Box<dyn Any>>::downcast::<Replacement>) {
        Some(Ok(make)) => {
            let (session, parts) = driver.exchange(());
            (Some(session), make(parts))
        }
        // A defect of this crate: only `replace_session` sets a replacement.
        Some(Err(other)) => {
            log!(
                error,
                "a session stays: what should replace it is no session"
            );
            discard(other);
            (None, Box::new(driver))
        }
        None => (None, Box::new(driver)),
    }
}

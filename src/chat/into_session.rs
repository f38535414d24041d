//! `IntoSession`: what a factory may return.

use super::session::AsyncChat;
use crate::error::Result;

/// What the factory of a connection returns: a session, or a [`Result`] with one.
///
/// A factory that returns an error ends its own connection and no other, as a callback that returns an error
/// does: what it pushed before is sent first, if the connection is up. The error is logged as a warning, with
/// the id and the peer of the connection. No callback is made, because there is no session.
///
/// The error is that of the callbacks, so `?` works in a factory without a type annotation:
///
/// ```
/// use std::fs::File;
/// use asynchat::{AsyncChat, Chat, Result};
///
/// struct Recorder { chat: Chat, journal: File }
///
/// impl AsyncChat for Recorder {
///     fn found_terminator(&mut self, line: &[u8]) -> Result {
///         std::io::Write::write_all(&mut self.journal, line)?;
///         self.chat.push("250 ok\r\n");
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result {
/// # let listener =
/// asynchat::listen("127.0.0.1:0", |chat| {
///     chat.push("220 ready\r\n");
///     let journal = File::options().append(true).open("journal")?;
///     Ok(Recorder { chat, journal })
/// })?;
/// # listener.close();
/// asynchat::run()?;
/// # Ok(()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "a factory returns a session or a `Result` with a session, not `{Self}`",
    note = "a session implements `AsyncChat`, or is a closure `|record: &[u8]|` that returns `asynchat::Result`",
    note = "the `Result` has the error type of `asynchat::Result`; the operator `?` converts other errors"
)]
pub trait IntoSession {
    /// The type of the session.
    type Session: AsyncChat;

    /// Returns the session.
    ///
    /// # Errors
    /// When the factory has failed.
    fn into_session(self) -> Result<Self::Session>;
}

impl<S: AsyncChat> IntoSession for S {
    type Session = S;

    fn into_session(self) -> Result<S> {
        Ok(self)
    }
}

impl<S: AsyncChat> IntoSession for Result<S> {
    type Session = S;

    fn into_session(self) -> Result<S> {
        self
    }
}

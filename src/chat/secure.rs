//! TLS on the connection of a chat.

use super::handle::Chat;
use crate::error::{Error, Result};
use crate::stage::info::Info;
use crate::stage::side::Side;

#[cfg(doc)]
use crate::error::Close;

impl Chat {
    /// Begins TLS in the middle of the connection (STARTTLS), as the side that `tls` is: an `Arc<ServerConfig>` or a
    /// [`tls::Acceptor`](crate::tls::Acceptor) for a server, an `Arc<ClientConfig>` or a
    /// [`tls::Client`](crate::tls::Client) for a client. The certificate of the server has to be for the name of the
    /// client, or, without one, for the host name or the address that the [`Connector`](crate::Connector) was given.
    ///
    /// Needs the feature `tls` or `tls-no-provider`.
    ///
    /// What was pushed before this call is sent in clear, also the reply that permits TLS. What is pushed afterwards
    /// waits for the handshake and is encrypted. When TLS is up,
    /// [`handle_tls`](crate::AsyncChat::handle_tls) is called. If the handshake fails, the connection ends with
    /// [`Close::Tls`]; if it takes longer than its [deadline](crate::Deadlines#structfield.handshake), with
    /// [`Close::Timeout`].
    ///
    /// No input is delivered after this call before TLS is up. If input has been received by now that was not
    /// delivered, the connection ends with [`Close::Tls`] before any of it is used: somebody may have inserted it
    /// (CVE-2011-0411, CVE-2021-33515). So call this in `found_terminator` of the command, or of the reply. An
    /// unfinished record, and a record over its limit, are such input. A part of a streamed record is not, because
    /// it was delivered: the session has to drop it in `handle_tls`.
    ///
    /// ```
    /// use asynchat::{AsyncChat, Chat, Result, tls};
    ///
    /// struct Session { chat: Chat, acceptor: tls::Acceptor, user: Option<String> }
    ///
    /// impl AsyncChat for Session {
    ///     fn found_terminator(&mut self, line: &[u8]) -> Result {
    ///         match line {
    ///             b"STARTTLS" if self.chat.tls().is_none() => {
    ///                 self.chat.push("382 continue with TLS negotiation\r\n"); // RFC 4642
    ///                 self.chat.start_tls(&self.acceptor)?;
    ///             }
    ///             _ => self.chat.push("500 unknown command\r\n"),
    ///         }
    ///         Ok(())
    ///     }
    ///     fn handle_tls(&mut self) -> Result {
    ///         self.user = None; // what came in clear is forgotten
    ///         Ok(())
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// When the connection is not up, is about to close, is [piped](crate::pipe), or uses TLS already. When a client has
    /// no name of its server: that of an [adopted](crate::Connector::adopt) socket, of a path or of several addresses.
    pub fn start_tls(&self, tls: impl Into<Side>) -> Result<(), Error> {
        let make = tls.into().prepare(self.state().target_name().as_deref())?;
        self.state().queue_upgrade(make)
    }

    /// What the TLS handshake has agreed on: version, cipher suite, protocol, names and certificates. `None` before it
    /// is complete, without TLS, and after [`handle_close`](crate::AsyncChat::handle_close) has returned.
    ///
    /// Needs the feature `tls` or `tls-no-provider`.
    pub fn tls(&self) -> Option<Info> {
        self.state().tls()
    }
}

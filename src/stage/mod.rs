//! What stands between a socket and its channel and changes the bytes on their way: TLS.
//!
//! Sans-IO. `state/secure.rs` moves the bytes between a [`Stage`] and the socket.

#[cfg(feature = "tls-no-provider")]
pub(crate) mod acceptor;
#[cfg(feature = "tls-no-provider")]
pub(crate) mod client;
#[cfg(feature = "tls")]
pub(crate) mod config;
#[cfg(feature = "tls-no-provider")]
pub(crate) mod end;
#[cfg(feature = "tls-no-provider")]
pub(crate) mod failure;
#[cfg(feature = "tls")]
mod files;
#[cfg(feature = "tls-no-provider")]
pub(crate) mod info;
#[cfg(feature = "tls-no-provider")]
pub(crate) mod side;
#[cfg(feature = "tls-no-provider")]
pub(crate) mod tls;
#[cfg(feature = "tls-no-provider")]
mod words;

use std::fmt;
use std::io::IoSlice;
use std::rc::Rc;

use crate::error::Error;

/// Takes what was received, and makes what is to be sent.
pub(crate) trait Stage {
    /// How many bytes at the front of the input [`feed`](Stage::feed) needs for what it has kept of earlier
    /// input.
    fn headroom(&self) -> usize;

    /// Takes bytes that were received. They follow the [`headroom`](Stage::headroom). Writes what they contain
    /// for the channel to `into`, as far as it fits, and keeps the rest. Returns how many bytes it has written.
    /// What goes wrong is the [`failure`](Stage::failure), which is due when the channel has taken what came
    /// before.
    fn feed(&mut self, input: &mut [u8], into: &mut [u8]) -> usize;

    /// Takes what was kept for the channel. Returns how many bytes were written to `into`.
    fn take(&mut self, into: &mut [u8]) -> usize;

    /// Whether something is kept for the channel, or a failure or the end of the input is due that the kernel
    /// does not report.
    fn has_input(&self) -> bool;

    /// Whether a part of something has arrived that is of no use to the channel before the rest has.
    fn has_partial(&self) -> bool;

    /// Why nothing can be received any more.
    fn failure(&self) -> Option<Error>;

    /// Whether there is a failure that this side has found, which an alert reports to the peer in most cases. A failure
    /// that the peer has reported is none.
    fn has_sent_alert(&self) -> bool;

    /// User code has panicked in a call. Makes this the failure, and tells the peer if it can still read that.
    fn panicked(&mut self);

    /// Whether the peer has said that it sends nothing more.
    fn peer_has_closed(&self) -> bool;

    /// Whether a message of the peer was processed since the last call.
    fn take_processed(&mut self) -> bool;

    fn is_handshaking(&self) -> bool;

    /// Takes bytes that the channel sends, at most `most` of them. Returns how many.
    ///
    /// # Errors
    /// When nothing can be sent any more.
    fn encrypt(&mut self, parts: &[IoSlice<'_>], most: usize) -> Result<usize, Error>;

    /// Tells the peer that this side sends nothing more. A second call has no effect.
    fn close(&mut self);

    /// What is to be sent to the peer.
    fn output(&self) -> &[u8];

    /// The first `count` bytes of the output were sent.
    fn sent(&mut self, count: usize);

    /// Drops the output: nothing can be sent any more.
    fn discard_output(&mut self);

    /// Gives the stage a buffer for its output, unless it has one.
    fn adopt_buffer(&mut self, buffer: &mut Vec<u8>);

    /// Gives the buffer of the output away. What is left of the output is copied to a smaller one, if it takes less
    /// than half of the buffer: the peer may take nothing for long.
    fn release_buffer(&mut self) -> Vec<u8>;

    /// What the handshake has agreed on.
    #[cfg(feature = "tls-no-provider")]
    fn info(&self) -> Option<info::Info>;
}

/// What a client of TLS receives instead of the words of the protocol that it cannot use yet: the alert `internal_error`
/// in a record of its own. It has nothing to do with what the client has sent (RFC 8446 section 6.2), and needs no
/// handshake, which would cost more than the connection that is refused.
#[cfg(feature = "tls-no-provider")]
pub(crate) const REFUSAL: &[u8] = b"\x15\x03\x03\0\x02\x02\x50";

type Make = dyn Fn() -> Result<Box<dyn Stage>, Error>;

/// Makes the stage of each connection of a server or a connector.
#[derive(Clone)]
pub(crate) struct MakeStage {
    make: Rc<Make>,
    /// What the stage of a client does, for its errors: `TLS handshake with news.example.org`.
    action: Option<Rc<str>>,
}

impl MakeStage {
    #[cfg(feature = "tls-no-provider")]
    pub(crate) fn new(
        action: Option<String>,
        make: impl Fn() -> Result<Box<dyn Stage>, Error> + 'static,
    ) -> Self {
        MakeStage {
            make: Rc::new(make),
            action: action.map(Rc::from),
        }
    }

    pub(crate) fn make(&self) -> Result<Box<dyn Stage>, Error> {
        (self.make)()
    }

    pub(crate) fn action(&self) -> Option<&Rc<str>> {
        self.action.as_ref()
    }
}

impl fmt::Debug for MakeStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TLS")
    }
}

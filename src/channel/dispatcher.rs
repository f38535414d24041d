//! Layer 1: a socket and its callbacks.

use std::any::Any;

use crate::Addr;
use crate::channel::handle::Channel;
use crate::error::{Close, Error, Result};
use crate::log::{Escaped, log, log_throttled};
use crate::sys::socket::Socket;
use crate::time::timer::TimerId;

/// A socket and what is to be done when something happens to it: asyncore's `dispatcher`.
///
/// The loop calls, one callback at a time, and never from inside a method of one of its handles:
/// while a callback runs, whatever it calls on its own channel or another's only takes note. A
/// callback that returns an error, or panics, ends its own channel and no other:
/// [`handle_error`](Dispatcher::handle_error), then [`handle_close`](Dispatcher::handle_close).
/// An error of kind `WouldBlock` from a callback means "later" and closes nothing (bpo-16133).
///
/// For a protocol of lines or other delimited records, [`AsyncChat`](crate::AsyncChat) is less
/// work.
///
/// ```
/// use asynchat::{Channel, Dispatcher, Result};
///
/// /// Discards what it is sent (RFC 863).
/// struct Discard { channel: Channel, received: usize }
///
/// impl Dispatcher for Discard {
///     fn channel(&self) -> &Channel { &self.channel }
///     fn handle_read(&mut self) -> Result {
///         self.received += self.channel.recv(&mut [0; 4096])?;
///         Ok(())
///     }
/// }
/// ```
pub trait Dispatcher: Any {
    /// The channel that it owns. Asked once, by [`register`](crate::register).
    fn channel(&self) -> &Channel;

    /// Whether it wants to be told of input. Asked after each of its callbacks and each touch of
    /// its channel.
    fn readable(&self) -> bool {
        true
    }

    /// Whether it has something to send: then `handle_write` is called until it has not. Asked as
    /// [`readable`](Dispatcher::readable) is. It is false unless you say so: asyncore's was true,
    /// which kept a core busy (42,461 polls in 0.2 s).
    fn writable(&self) -> bool {
        false
    }

    /// A connection was accepted; only for channels that listen. Hand the socket to
    /// [`Channel::adopt`], or drop it, which closes it.
    ///
    /// # Errors
    /// An error costs that one connection: it is told to `handle_error`, and accepting goes on.
    fn handle_accepted(&mut self, socket: Socket, peer: Addr) -> Result {
        drop(socket);
        let peer = Escaped(peer);
        log_throttled!(warn, %peer, "unhandled connection: handle_accepted is not implemented");
        Ok(())
    }

    /// An outgoing connection is up. Not called for accepted or adopted ones, as in asyncore.
    ///
    /// # Errors
    /// An error closes the channel.
    fn handle_connect(&mut self) -> Result {
        Ok(())
    }

    /// There is input, or the end of it: call [`Channel::recv`].
    ///
    /// # Errors
    /// An error closes the channel, but for `WouldBlock`.
    fn handle_read(&mut self) -> Result {
        log_throttled!(warn, "unhandled read event: closing");
        self.channel().close();
        Ok(())
    }

    /// The kernel takes output, and [`writable`](Dispatcher::writable) is true: call
    /// [`Channel::send`]. The first call comes at once, without asking the poller: most of the
    /// time there is room.
    ///
    /// # Errors
    /// An error closes the channel, but for `WouldBlock`.
    fn handle_write(&mut self) -> Result {
        Ok(())
    }

    /// There is out-of-band data (TCP urgent data), which is discarded afterwards. A chat has no such
    /// callback: it receives urgent data in its place in the stream (SO_OOBINLINE).
    ///
    /// # Errors
    /// An error closes the channel.
    fn handle_expt(&mut self) -> Result {
        log!(debug, "out-of-band data is discarded");
        Ok(())
    }

    /// A timer of its channel is due: [`Channel::call_later`], [`Channel::call_every`].
    ///
    /// # Errors
    /// An error closes the channel.
    fn handle_timer(&mut self, timer: TimerId) -> Result {
        let _ = timer;
        Ok(())
    }

    /// A callback returned this error, and the channel is about to be closed. By default it is
    /// logged as a `tracing` event: at most ten of these a second, control characters escaped.
    fn handle_error(&mut self, error: &Error) {
        log_throttled!(warn, error = %Escaped(error), "a callback failed");
    }

    /// The channel has ended, and this is why: exactly once, and the last call. Its socket is
    /// closed already, or out of its hands; the dispatcher is dropped next.
    fn handle_close(&mut self, why: &Close) {
        let _ = why;
    }
}

//! Layer 1: a socket and its callbacks.

use std::any::Any;
use std::error::Error as StdError;

use crate::Addr;
use crate::channel::handle::Channel;
use crate::error::{Close, Result, WithSources};
use crate::log::{Escaped, log, log_throttled};
use crate::sys::socket::Socket;
use crate::time::timer::TimerId;

/// The handler of a socket and its events: asyncore's `dispatcher`.
///
/// A dispatcher owns a [`Channel`]. [`register`](crate::register) gives it to a loop, which makes the
/// callbacks below, one at a time. A method of a channel never makes a callback: it only records what the
/// loop has to do.
///
/// A callback that returns an error or panics ends its own channel and no other. The loop calls
/// [`handle_error`](Dispatcher::handle_error) (for an error, not for a panic), then
/// [`handle_close`](Dispatcher::handle_close), and drops the dispatcher. An error of kind `WouldBlock` is no
/// failure: it means that nothing could be read or written now (bpo-16133). Callbacks can therefore use `?`
/// on [`Channel::recv`] and [`Channel::send`]. A callback that is to continue after an error of its own, as an
/// overridden `handle_error` did in asyncore, catches the error and returns `Ok`.
///
/// For lines and other delimited records, use [`AsyncChat`](crate::AsyncChat): it queues output, splits
/// input and applies limits.
///
/// ```
/// use asynchat::{Channel, Dispatcher, Result};
///
/// /// Discards what it receives (RFC 863).
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
    /// Returns the channel that the dispatcher owns. Called once, by [`register`](crate::register).
    fn channel(&self) -> &Channel;

    /// Whether the loop should call [`handle_read`](Dispatcher::handle_read) when there is input; for a
    /// listening channel, whether it should accept connections. Default true.
    ///
    /// The loop asks in each turn of the channel, possibly more than once: after an event, after a timer or
    /// a posted call, and after a handle has changed the channel. If the answer depends on anything else,
    /// call [`Channel::update_interest`] when it changes.
    fn readable(&self) -> bool {
        true
    }

    /// Whether the dispatcher has something to send. While it is true, the loop calls
    /// [`handle_write`](Dispatcher::handle_write) whenever the kernel takes output. The loop asks it when it
    /// asks [`readable`](Dispatcher::readable). Default false. In asyncore the default was true, so that an
    /// idle dispatcher polled without pause (42,461 times in 0.2 s).
    fn writable(&self) -> bool {
        false
    }

    /// A listening channel has accepted a connection. Pass the socket to [`Channel::adopt`], or drop it,
    /// which closes it. By default it is dropped, and a warning is logged.
    ///
    /// # Errors
    /// An error ends this one connection: `handle_error` is called, and the loop goes on accepting.
    fn handle_accepted(&mut self, socket: Socket, peer: Addr) -> Result {
        drop(socket);
        let peer = Escaped(peer);
        log_throttled!(warn, %peer, "unhandled connection: handle_accepted is not implemented");
        Ok(())
    }

    /// An outgoing connection is up. As in asyncore, this is not called for accepted or adopted sockets. By
    /// default it does nothing.
    ///
    /// # Errors
    /// An error closes the channel.
    fn handle_connect(&mut self) -> Result {
        Ok(())
    }

    /// TLS is up, after [`Channel::start_tls`] on a connection that was up: in the middle of it, or before the
    /// registration of an accepted or adopted channel. On an outgoing channel that uses TLS from its beginning, only
    /// [`handle_connect`](Dispatcher::handle_connect) is called. What was received before was received in clear. By
    /// default it does nothing.
    ///
    /// # Errors
    /// An error closes the channel.
    fn handle_tls(&mut self) -> Result {
        Ok(())
    }

    /// There is input, or the input has ended: call [`Channel::recv`]. It need not read everything; the loop
    /// calls again while something is left. By default the channel is closed, and a warning is logged.
    ///
    /// # Errors
    /// An error closes the channel, unless its kind is `WouldBlock`.
    fn handle_read(&mut self) -> Result {
        log_throttled!(warn, "unhandled read event: closing");
        self.channel().close();
        Ok(())
    }

    /// The kernel may take output, and [`writable`](Dispatcher::writable) is true: call [`Channel::send`].
    /// The loop makes the first call without polling, because there is room most of the time. By default it
    /// does nothing.
    ///
    /// # Errors
    /// An error closes the channel, unless its kind is `WouldBlock`.
    fn handle_write(&mut self) -> Result {
        Ok(())
    }

    /// A byte of TCP urgent data (out-of-band data) has arrived: [`Channel::recv_urgent`] returns it. The loop
    /// discards it after this call, so that a dispatcher which does not receive it is not called for it again.
    /// macOS and the BSDs never call it, because `polling` does not ask kqueue for urgent data. A chat has no such callback: it
    /// receives urgent data in its place in the stream (SO_OOBINLINE). By default it does nothing.
    ///
    /// # Errors
    /// An error closes the channel.
    fn handle_expt(&mut self) -> Result {
        log!(debug, "urgent data is discarded");
        Ok(())
    }

    /// A timer of the channel is due. It was set with [`Channel::call_later`] or [`Channel::call_every`]. By
    /// default it does nothing.
    ///
    /// # Errors
    /// An error closes the channel.
    fn handle_timer(&mut self, timer: TimerId) -> Result {
        let _ = timer;
        Ok(())
    }

    /// A callback has returned this error. The loop closes the channel next, unless the callback was
    /// [`handle_accepted`](Dispatcher::handle_accepted). By default the error is logged as a warning: at
    /// most ten a second, with control characters escaped.
    fn handle_error(&mut self, error: &(dyn StdError + Send + Sync + 'static)) {
        log_throttled!(warn, error = %Escaped(WithSources(error)), "a callback failed");
    }

    /// The channel has ended, for this reason. This is called exactly once, and it is the last callback. The
    /// socket is closed by then. The loop drops the dispatcher afterwards. By default it does nothing.
    fn handle_close(&mut self, why: &Close) {
        let _ = why;
    }
}

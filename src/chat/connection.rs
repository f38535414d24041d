//! The methods of a [`Chat`] that concern its connection. The [`Channel`] below has the same ones.
//!
//! `Chat` does not dereference to its channel: `send`, `recv` and `shutdown_write` of a channel would bypass
//! the queue and the splitter.

use std::io;
use std::time::Duration;

use socket2::SockRef;

use super::handle::Chat;
use crate::Addr;
use crate::channel::handle::ChannelStats;
use crate::error::BoxError;
use crate::state::ChannelId;
#[cfg(unix)]
use crate::sys::socket::Credentials;
use crate::time::deadlines::Deadlines;
use crate::time::timer::TimerId;

#[cfg(doc)]
use crate::channel::handle::Channel;

impl Chat {
    /// The id of the connection, for [`EventLoop::chat`](crate::EventLoop::chat),
    /// [`Group`](crate::Group) and [`Remote::post_to`](crate::Remote::post_to). Ids are never used twice in a
    /// process.
    pub fn id(&self) -> ChannelId {
        self.channel().id()
    }

    /// Whether the connection is neither closed nor about to close. An outgoing connection that is not up yet
    /// is open. A connection whose callback has failed is not. One whose close is queued is open until its
    /// queue is sent.
    pub fn is_open(&self) -> bool {
        self.channel().is_open()
    }

    /// Whether a close is queued or the connection has ended, so that whatever is pushed from now on is dropped, and
    /// no more records are delivered. It is true after [`close_when_done`](Chat::close_when_done), which leaves the
    /// connection [open](Chat::is_open) until its queue is sent, after [`close`](Chat::close) and
    /// [`abort`](Chat::abort), after a failed callback, and when the peer has finished and
    /// [`handle_eof`](crate::AsyncChat::handle_eof) has answered
    /// [`Eof::CloseWhenDone`](crate::Eof::CloseWhenDone).
    pub fn is_closing(&self) -> bool {
        self.state().is_closing()
    }

    /// Whether the connection is up and [open](Chat::is_open): asyncore's `connected`.
    pub fn is_connected(&self) -> bool {
        self.channel().is_connected()
    }

    /// Whether the connection is an outgoing one that is not up yet: asyncore's `connecting`.
    pub fn is_connecting(&self) -> bool {
        self.channel().is_connecting()
    }

    /// The address of the peer; `None` while there is none. It remains available after the connection has
    /// ended.
    pub fn peer_addr(&self) -> Option<Addr> {
        self.channel().peer_addr()
    }

    /// The local address. `None` before the connection is up, and after it has closed.
    pub fn local_addr(&self) -> Option<Addr> {
        self.channel().local_addr()
    }

    /// Closes the connection. No record reaches the session any more, not even one that was already received.
    /// The loop calls `handle_close` with [`Close::Local`](crate::Close::Local) in its next turn or at the
    /// end of this one, or with [`Close::Dropped`](crate::Close::Dropped) if output was queued, which is lost
    /// ([`close_when_done`](Chat::close_when_done) sends it first), or if the connection was not up yet. A second call
    /// has no effect.
    ///
    /// In `handle_close` of a connection that is [made again](crate::Connector::reconnect), it ends that: for a reason that
    /// another connection cannot change.
    pub fn close(&self) {
        self.channel().close();
    }

    /// Closes the connection as [`close`](Chat::close) does, but with a reset (TCP RST): what the kernel has
    /// not sent yet is lost. The reason is [`Close::Dropped`](crate::Close::Dropped). The other end of a
    /// [`pipe`](crate::pipe()) is reset too, unless the input of this connection had ended: its stream is cut.
    pub fn abort(&self) {
        self.channel().abort();
    }

    /// Closes the connection with a reason, as if a callback of its session had returned this error:
    /// `handle_close` receives [`Close::Handler`](crate::Close::Handler), and is the only callback that follows.
    /// What was pushed before is sent first. A [reconnection](crate::Connector::reconnect) connects again. A
    /// connection that is closed or about to close keeps its reason.
    ///
    /// ```
    /// # fn evict(members: &[asynchat::Chat]) {
    /// for member in members {
    ///     member.push("* you were away too long\r\n");
    ///     member.close_with("evicted by the operator");
    /// }
    /// # }
    /// ```
    pub fn close_with(&self, error: impl Into<BoxError>) {
        self.channel().close_with(error);
    }

    /// Stops reading, and delivering what was received, until [`resume_reading`](Chat::resume_reading). The
    /// kernel's buffers fill, and TCP's flow control then stops the peer. Pauses are not counted: one `resume_reading` ends
    /// them all. The end of the input is not noticed in the meantime: see [`Channel::pause_reading`].
    pub fn pause_reading(&self) {
        self.channel().pause_reading();
    }

    /// Resumes reading after [`pause_reading`](Chat::pause_reading).
    pub fn resume_reading(&self) {
        self.channel().resume_reading();
    }

    /// Sets a timer: the loop calls [`handle_timer`](crate::AsyncChat::handle_timer) once, after `delay`,
    /// unless the connection has closed by then. [`cancel`](Chat::cancel) and
    /// [`reschedule`](Chat::reschedule) change it. When the connection has ended, this does nothing, and
    /// the id is that of no timer. So it is from the call of `handle_timer` on: to continue, set another timer.
    pub fn call_later(&self, delay: Duration) -> TimerId {
        self.channel().call_later(delay)
    }

    /// Sets a periodic timer: the loop calls [`handle_timer`](crate::AsyncChat::handle_timer) every
    /// `period`, first after one period, until the timer is cancelled or the connection has closed. A late
    /// call does not move the following ones. Periods that were missed are skipped. A period below a millisecond
    /// is taken for a millisecond.
    pub fn call_every(&self, period: Duration) -> TimerId {
        self.channel().call_every(period)
    }

    /// Cancels a timer of this connection's loop. Returns whether it was pending.
    pub fn cancel(&self, timer: TimerId) -> bool {
        self.channel().cancel(timer)
    }

    /// Makes a timer of this connection's loop fire `delay` from now. Returns whether it was pending.
    pub fn reschedule(&self, timer: TimerId, delay: Duration) -> bool {
        self.channel().reschedule(timer, delay)
    }

    /// Sets [`Deadlines::idle`]: the connection closes with [`Close::Timeout`](crate::Close::Timeout) when no
    /// byte has moved in either direction for this time. `None`, the default, sets no limit. The time counts
    /// from this call, or from when the connection is up.
    pub fn set_idle_timeout(&self, after: impl Into<Option<Duration>>) {
        self.channel().set_idle_timeout(after);
    }

    /// Sets the deadlines of this connection, as [`Channel::set_deadlines`] does.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # fn body_follows(chat: &asynchat::Chat) {
    /// // A body takes longer than a command.
    /// chat.set_deadlines(chat.deadlines().record(Duration::from_secs(600)));
    /// # }
    /// ```
    pub fn set_deadlines(&self, deadlines: Deadlines) {
        self.channel().set_deadlines(deadlines);
    }

    /// The deadlines of this connection. Default: those of its server or connector.
    pub fn deadlines(&self) -> Deadlines {
        self.channel().deadlines()
    }

    /// Sets TCP_NODELAY: see [`Channel::set_nodelay`]. Default true.
    ///
    /// # Errors
    /// When the connection has ended, is not up yet, or is no TCP connection.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.channel().set_nodelay(on)
    }

    /// Sets TCP keep-alive: see [`Channel::set_keepalive`]. Default off.
    ///
    /// # Errors
    /// When the connection has ended, is not up yet, or is no TCP connection.
    pub fn set_keepalive(&self, silence: impl Into<Option<Duration>>) -> io::Result<()> {
        self.channel().set_keepalive(silence)
    }

    /// Sets SO_RCVBUF: see [`Channel::set_recv_buffer_size`].
    ///
    /// # Errors
    /// When the connection has ended, is not up yet, or its descriptor is no socket.
    pub fn set_recv_buffer_size(&self, bytes: usize) -> io::Result<()> {
        self.channel().set_recv_buffer_size(bytes)
    }

    /// Sets SO_SNDBUF: see [`Channel::set_send_buffer_size`].
    ///
    /// # Errors
    /// When the connection has ended, is not up yet, or its descriptor is no socket.
    pub fn set_send_buffer_size(&self, bytes: usize) -> io::Result<()> {
        self.channel().set_send_buffer_size(bytes)
    }

    /// The user and the process at the other end of a Unix-domain connection, while it is up. A factory can
    /// admit some users only:
    ///
    /// ```
    /// # fn main() -> asynchat::Result {
    /// # let dir = std::env::temp_dir().join(format!("asynchat-doc-{}", std::process::id()));
    /// # std::fs::create_dir(&dir)?;
    /// # let path = dir.join("admin.sock");
    /// let listener = asynchat::listen(path, |chat| {
    ///     if chat.peer_credentials()?.uid != 0 {
    ///         chat.push("530 only root\r\n");
    ///         return Err("a user who is not root".into());
    ///     }
    ///     Ok(move |line: &[u8]| {
    ///         chat.push_slice(line);
    ///         Ok(())
    ///     })
    /// })?;
    /// # listener.close();
    /// # asynchat::run()?;
    /// # std::fs::remove_dir(&dir)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `NotConnected` when the connection is not up. `Unsupported` when it is no Unix-domain connection, or when
    /// the system (Solaris, illumos) has no call for it.
    #[cfg(unix)]
    #[cfg_attr(docsrs, doc(cfg(unix)))]
    pub fn peer_credentials(&self) -> io::Result<Credentials> {
        self.channel().peer_credentials()
    }

    /// Calls `configure` with the socket, for the options that have no method here:
    /// [`Channel::configure`].
    ///
    /// # Errors
    /// As [`Channel::configure`].
    pub fn configure<T>(
        &self,
        configure: impl FnOnce(&SockRef<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        self.channel().configure(configure)
    }

    /// What the connection has done so far. The counters remain available in `handle_close` and afterwards.
    pub fn stats(&self) -> ChannelStats {
        self.channel().stats()
    }
}

//! The methods of a [`Chat`] that concern its connection. The [`Channel`] below has the same ones.
//!
//! `Chat` does not dereference to its channel: `send`, `recv` and `shutdown_write` of a channel would bypass
//! the queue and the splitter.

use std::io;
use std::time::Duration;

use super::handle::Chat;
use crate::Addr;
use crate::channel::handle::ChannelStats;
use crate::state::ChannelId;
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
    /// end of this one, or with [`Close::Dropped`](crate::Close::Dropped) if output was queued: that is lost.
    /// [`close_when_done`](Chat::close_when_done) sends it first. A second call has no effect.
    pub fn close(&self) {
        self.channel().close();
    }

    /// Closes the connection as [`close`](Chat::close) does, but with a reset (TCP RST): what the kernel has
    /// not sent yet is lost. The reason is [`Close::Dropped`](crate::Close::Dropped).
    pub fn abort(&self) {
        self.channel().abort();
    }

    /// Stops reading, and delivering what was received, until [`resume_reading`](Chat::resume_reading). The
    /// kernel's buffers fill, and TCP's flow control then stops the peer. For what ends a connection in the
    /// meantime see [`Channel::pause_reading`].
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
    /// the id is that of no timer.
    pub fn call_later(&self, delay: Duration) -> TimerId {
        self.channel().call_later(delay)
    }

    /// Sets a periodic timer: the loop calls [`handle_timer`](crate::AsyncChat::handle_timer) every
    /// `period`, first after one period, until the timer is cancelled or the connection has closed. A late
    /// call does not move the following ones. Periods that were missed are skipped.
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
    pub fn set_keepalive(&self, silence: Option<Duration>) -> io::Result<()> {
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

    /// What the connection has done so far. The counters remain available in `handle_close` and afterwards.
    pub fn stats(&self) -> ChannelStats {
        self.channel().stats()
    }
}

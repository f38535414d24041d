//! How an outgoing connection comes up, and what follows its end, as a channel sees it.
//!
//! A channel in the phase [`Connecting`](Phase::Connecting) has no socket. It has a [`Connect`], which the
//! loop advances at each event and each time that it names, until a socket is connected or every address
//! has failed. `channel/attempts.rs` implements it. A channel that is to be replaced by another when it
//! ends has a [`Retry`], which `net/reconnect.rs` implements.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use super::agenda::Task;
use super::{ChannelState, Phase};
use crate::Addr;
use crate::error::{Close, Error};
use crate::sys::poller::Poller;
use crate::sys::watched_socket::WatchedSocket;
use crate::time::timer::TimerId;

/// The attempts to connect one channel.
///
/// It owns the sockets of the attempts. The channel owns the timer and gets the one outcome.
pub(crate) trait Connect {
    /// Checks the attempts under way, and begins the next one if it is due.
    fn advance(&mut self, context: &AttemptContext<'_>) -> Progress;

    /// The poller has reported an event for one of the sockets; it does not say for which.
    fn event_reported(&mut self);

    /// The poller is to watch none of the sockets any more. The next advance lets it watch them again.
    fn unwatch(&mut self);

    /// The look-up of the host name has ended. Does nothing if it has been given up.
    fn resolved(&mut self, outcome: io::Result<Vec<SocketAddr>>);

    /// What is being tried, for the error of a connect deadline: `connect to 192.0.2.1:119`.
    fn action(&self) -> String;
}

/// What [`Connect::advance`] is given.
pub(crate) struct AttemptContext<'a> {
    pub(crate) now: Instant,
    pub(crate) poller: &'a Rc<Poller>,
    /// Makes a poll key of the channel, which makes its earlier keys stale.
    pub(crate) new_key: &'a dyn Fn() -> usize,
    /// Whether the channel has a connect deadline.
    pub(crate) has_deadline: bool,
}

/// How far a connection has come.
pub(crate) enum Progress {
    /// Nothing is due before an event, or before this time.
    Waiting(Option<Instant>),
    Connected(Connected),
    /// Every attempt has failed: the error is that of the last one.
    Failed(Error),
}

/// The socket of the attempt that succeeded.
pub(crate) struct Connected {
    pub(crate) source: WatchedSocket,
    /// `None` for an adopted socket that was reset: its system does not know the peer any more.
    pub(crate) peer: Option<Addr>,
    /// The peer has reset the connection since. What it sent before is still to be delivered.
    pub(crate) reset: Option<io::Error>,
}

/// Makes another connection when that of the channel has ended.
pub(crate) trait Retry {
    /// The connection has come up.
    fn came_up(&self, now: Instant);

    /// The connection has ended, and its handler has been called for the last time.
    fn ended(self: Rc<Self>, why: &Close);

    /// Makes no other connection: the loop shuts down, or closes all its channels.
    fn stop(&self);
}

/// An outgoing connection that is not up yet.
pub(super) struct Outgoing {
    connect: Box<dyn Connect>,
    /// Due when [`Progress::Waiting`] says so.
    timer: Option<TimerId>,
}

impl ChannelState {
    /// Begins to connect.
    pub(crate) fn begin_connecting(self: &Rc<Self>, connect: Box<dyn Connect>) {
        self.set_outgoing(Outgoing {
            connect,
            timer: None,
        });
        self.schedule();
    }

    /// Puts something around the attempts of a connection that has just begun.
    #[cfg(feature = "proxy-protocol")]
    pub(crate) fn wrap_connect(&self, wrap: impl FnOnce(Box<dyn Connect>) -> Box<dyn Connect>) {
        if let Some(Outgoing { connect, timer }) = self.take_outgoing() {
            let connect = wrap(connect);
            self.set_outgoing(Outgoing { connect, timer });
        }
    }

    /// Passes on the outcome of a look-up.
    pub(crate) fn resolved(self: &Rc<Self>, outcome: io::Result<Vec<SocketAddr>>) {
        self.on_connect(|connect| connect.resolved(outcome));
        self.schedule();
    }

    /// An event was reported for a channel that has no socket yet.
    #[cold]
    pub(super) fn connect_event_reported(&self) {
        self.on_connect(|connect| connect.event_reported());
    }

    /// The poller is to watch none of the sockets of the attempts any more.
    #[cold]
    pub(super) fn unwatch_attempts(&self) {
        // Taken out, because `polling` may log, and a subscriber is user code.
        if let Some(mut outgoing) = self.take_outgoing() {
            outgoing.connect.unwatch();
            self.set_outgoing(outgoing);
        }
    }

    /// The connect deadline has passed.
    pub(crate) fn connect_timed_out(self: &Rc<Self>) {
        let action = self.on_connect(|connect| connect.action());
        let action = action.or_else(|| self.handshake_action());
        let action = action.unwrap_or_else(|| "connect".to_owned());
        let error = Error::from(io::Error::from(io::ErrorKind::TimedOut));
        self.end(Close::ConnectFailed(error.context(action)));
    }

    /// Advances the attempts. Returns whether the connection has come up, for which the handler is
    /// to be called. If every attempt has failed, the channel ends.
    #[cold] // Once per connection: not to be inlined into the turn of one that is up.
    pub(crate) fn advance_connection(
        self: &Rc<Self>,
        poller: &Rc<Poller>,
        new_key: &dyn Fn() -> usize,
    ) -> bool {
        // Taken out, because what the attempts log goes to the user's subscriber.
        let Some(Outgoing { mut connect, timer }) = self.take_outgoing() else {
            return false;
        };
        let context = AttemptContext {
            now: poller.clock().now(),
            poller,
            new_key,
            has_deadline: self.deadlines().connect.is_some(),
        };
        let progress = connect.advance(&context);
        // `Connector::configure`, which is called for a new attempt, may have closed the channel.
        if self.has_ended() {
            self.set_connect_timer(timer, None);
            return false;
        }
        match progress {
            Progress::Waiting(until) => {
                let timer = self.set_connect_timer(timer, until);
                self.set_outgoing(Outgoing { connect, timer });
                false
            }
            Progress::Connected(connected) => {
                self.set_connect_timer(timer, None);
                self.come_up(connected, context.now);
                true
            }
            Progress::Failed(error) => {
                self.set_connect_timer(timer, None);
                self.end(Close::ConnectFailed(error));
                false
            }
        }
    }

    fn come_up(self: &Rc<Self>, connected: Connected, now: Instant) {
        if let Some(peer) = connected.peer {
            self.set_peer(peer);
        }
        self.replace_source(Some(connected.source));
        if let Some(make) = self.take_planned() {
            return self.begin_handshake(make, Phase::Arrived);
        }
        if let Some(error) = connected.reset {
            self.fail_sending(error);
        }
        self.phase.set(Phase::Arrived);
        self.start_clocks();
        if let Some(retry) = self.retry() {
            retry.came_up(now);
        }
    }

    /// Sets the timer of the attempts to `due`, or cancels it.
    fn set_connect_timer(&self, timer: Option<TimerId>, due: Option<Instant>) -> Option<TimerId> {
        let agenda = self.agenda()?;
        match (timer, due) {
            (Some(timer), Some(due)) => {
                agenda.reset_timer_at(timer, due);
                Some(timer)
            }
            (Some(timer), None) => {
                agenda.forget_timer(timer);
                self.remove_timer(timer);
                None
            }
            (None, Some(due)) => {
                let timer = agenda.set_timer_at(due, Task::Attempt(self.id.get()));
                self.add_timer(timer);
                Some(timer)
            }
            (None, None) => None,
        }
    }

    /// The timer of the attempts has fired: the channel's next turn advances them.
    pub(crate) fn connect_timer_fired(self: &Rc<Self>, fired: TimerId) {
        self.remove_timer(fired);
        self.with_cold(|cold| {
            if let Some(outgoing) = &mut cold.outgoing {
                outgoing.timer = None;
            }
        });
        self.schedule();
    }

    fn on_connect<T>(&self, call: impl FnOnce(&mut dyn Connect) -> T) -> Option<T> {
        self.cold(|cold| {
            let outgoing = cold.outgoing.as_mut()?;
            Some(call(&mut *outgoing.connect))
        })?
    }

    fn take_outgoing(&self) -> Option<Outgoing> {
        self.cold(|cold| cold.outgoing.take())?
    }

    fn set_outgoing(&self, outgoing: Outgoing) {
        self.with_cold(|cold| cold.outgoing = Some(outgoing));
    }

    // ---- the connection after this one

    pub(crate) fn retry(&self) -> Option<Rc<dyn Retry>> {
        self.cold(|cold| cold.retry.clone())?
    }

    /// In the last callback of the channel: there is to be no other connection after it.
    pub(crate) fn stop_retrying(&self) {
        if self.phase.get() == Phase::Closed
            && let Some(retry) = self.retry()
        {
            retry.stop();
        }
    }

    pub(crate) fn take_retry(&self) -> Option<Rc<dyn Retry>> {
        self.cold(|cold| cold.retry.take())?
    }

    pub(crate) fn set_retry(&self, retry: Rc<dyn Retry>) {
        self.with_cold(|cold| cold.retry = Some(retry));
    }
}

//! State that most connections do not need, in a box that exists only while it is needed.

use std::any::{Any, TypeId};
use std::collections::BTreeSet;
use std::io;
use std::rc::{Rc, Weak};
use std::time::Duration;
#[cfg(feature = "sim")]
use std::time::Instant;

use super::agenda::Task;
use super::connect::{Outgoing, Retry};
use super::io::Output;
#[cfg(feature = "proxy-protocol")]
use super::proxied::Proxied;
use super::secure::Secured;
use super::silence::Silence;
use super::{ChannelState, Flag, Request};
use crate::error::Close;
use crate::stage::MakeStage;
use crate::sys::socket::unix_domain::SocketFile;
use crate::time::timer::TimerId;
use crate::user_code::{discard, discard_each};

/// State that most connections do not need.
#[derive(Default)]
pub(super) struct Cold {
    pub(super) output: Output,
    /// The other end of its pipe. Weak, because each end refers to the other.
    pub(super) piped_to: Weak<ChannelState>,
    /// It is piped, and this side has aborted it. `Close::Dropped` alone does not tell.
    pub(super) aborted: bool,
    /// The input is not complete, although the socket may report the end of the stream: the peer has not announced it
    /// (TLS), or has reset the connection.
    pub(super) lacks_end: bool,
    pub(super) outgoing: Option<Outgoing>,
    /// Why it is about to end, if not for [`Close::Local`]. The first reason stands.
    pub(super) ending: Option<Close>,
    /// The error of its failed send, while input may still have to be received.
    pub(super) send_error: Option<io::Error>,
    /// How many bytes it had received when the send failed.
    pub(super) received: u64,
    pub(super) timers: BTreeSet<TimerId>,
    /// Present while one of the timers waits for silence.
    pub(super) silence: Option<Silence>,
    /// Timers that were set before its registration, and begin with it.
    unregistered_timers: Vec<UnregisteredTimer>,
    /// How many accepts in a row the system has refused.
    refused_accepts: usize,
    /// The file of a listening Unix-domain socket, which is removed when this is dropped.
    pub(super) socket_file: Option<Box<SocketFile>>,
    /// Connects again when this connection has ended.
    pub(super) retry: Option<Rc<dyn Retry>>,
    /// What is between the channel and its socket.
    pub(super) secured: Option<Box<Secured>>,
    /// The same of a channel that has ended, for its last callback.
    pub(super) ended_tls: Option<Box<Secured>>,
    /// Makes that, when the connection is up, or when the queue has reached the beginning of TLS.
    pub(super) planned: Option<MakeStage>,
    /// The name or the address that it was to connect to.
    #[cfg(feature = "tls-no-provider")]
    pub(super) target_name: Option<String>,
    /// Makes the driver of the handler that replaces the present one.
    pub(super) replacement: Option<Box<dyn Any>>,
    /// The proxy that has forwarded the connection, and its header.
    #[cfg(feature = "proxy-protocol")]
    pub(super) proxied: Option<Box<Proxied>>,
    /// The reason of its end and its handler have to be kept for a transcript.
    #[cfg(feature = "sim")]
    pub(super) end_recorded: bool,
    #[cfg(feature = "sim")]
    pub(super) recorded_end: Option<(Close, Instant)>,
    #[cfg(feature = "sim")]
    pub(super) recorded_handler: Option<Box<dyn Any>>,
}

/// A timer of a channel that is not registered.
struct UnregisteredTimer {
    id: TimerId,
    delay: Duration,
    every: Option<Duration>,
}

impl Cold {
    /// Whether nothing is in it.
    fn is_unused(&self) -> bool {
        let Cold {
            output,
            piped_to,
            aborted,
            lacks_end,
            outgoing,
            ending,
            send_error,
            received,
            timers,
            silence,
            unregistered_timers,
            refused_accepts,
            socket_file,
            retry,
            secured,
            ended_tls,
            planned,
            replacement,
            #[cfg(feature = "tls-no-provider")]
            target_name,
            #[cfg(feature = "proxy-protocol")]
            proxied,
            #[cfg(feature = "sim")]
            end_recorded,
            #[cfg(feature = "sim")]
            recorded_end,
            #[cfg(feature = "sim")]
            recorded_handler,
        } = self;
        #[cfg(feature = "tls-no-provider")]
        if target_name.is_some() {
            return false;
        }
        #[cfg(feature = "proxy-protocol")]
        if proxied.is_some() {
            return false;
        }
        #[cfg(feature = "sim")]
        if *end_recorded || recorded_end.is_some() || recorded_handler.is_some() {
            return false;
        }
        timers.is_empty()
            && silence.is_none()
            && matches!(output, Output::Same)
            && piped_to.strong_count() == 0
            && !aborted
            && !lacks_end
            && outgoing.is_none()
            && ending.is_none()
            && send_error.is_none()
            && *received == 0
            && unregistered_timers.is_empty()
            && *refused_accepts == 0
            && socket_file.is_none()
            && retry.is_none()
            && secured.is_none()
            && ended_tls.is_none()
            && planned.is_none()
            && replacement.is_none()
    }
}

impl Drop for Cold {
    /// Errors, a factory and a session are the user's. Two panics of their destructors must not meet.
    fn drop(&mut self) {
        discard_each(self.ending.take());
        discard_each(self.send_error.take());
        discard_each(self.retry.take());
        discard_each(self.secured.take());
        discard_each(self.ended_tls.take());
        discard_each(self.planned.take());
        discard_each(self.replacement.take());
        #[cfg(feature = "sim")]
        {
            discard_each(self.recorded_end.take());
            discard_each(self.recorded_handler.take());
        }
    }
}

impl ChannelState {
    /// Looks at the cold state, or changes it. `None` if there is none.
    #[inline]
    pub(super) fn cold<T>(&self, look: impl FnOnce(&mut Cold) -> T) -> Option<T> {
        if self.has_cold.get() {
            self.present_cold(look)
        } else {
            None
        }
    }

    /// Takes the cold state and puts it back: a `RefCell` would be 8 bytes more. `look` must not look for it again.
    #[inline]
    fn present_cold<T>(&self, look: impl FnOnce(&mut Cold) -> T) -> Option<T> {
        let cold = self.cold.take();
        debug_assert!(cold.is_some(), "the cold state is looked at already");
        let mut cold = cold?;
        let seen = look(&mut cold);
        self.cold.set(Some(cold));
        Some(seen)
    }

    /// Changes the cold state, which is made if there is none.
    pub(super) fn with_cold<T>(&self, change: impl FnOnce(&mut Cold) -> T) -> T {
        let cold = self.cold.take();
        debug_assert_eq!(
            cold.is_some(),
            self.has_cold.get(),
            "it is looked at already"
        );
        let mut cold = cold.unwrap_or_default();
        let outcome = change(&mut cold);
        self.cold.set(Some(cold));
        self.has_cold.set(true);
        outcome
    }

    /// Takes all of the cold state.
    pub(super) fn take_cold(&self) -> Cold {
        self.has_cold.set(false);
        self.cold.take().map_or_else(Cold::default, |cold| *cold)
    }

    /// Frees the cold state if nothing is in it any more. Otherwise a timer that has fired, or a session that was
    /// replaced, would cost its connection memory for the rest of its life.
    #[inline]
    pub(crate) fn free_unused(&self) {
        if self.has_cold.get() {
            self.free_unused_cold();
        }
    }

    #[inline(never)]
    fn free_unused_cold(&self) {
        if self.cold(|cold| cold.is_unused()) == Some(true) {
            drop(self.take_cold());
        }
    }

    /// The last callback was made: drops what only that could ask for.
    pub(crate) fn forget_connection(&self) {
        // After the borrow: it has what the user has configured.
        let unused = self.cold(|cold| {
            #[cfg(feature = "proxy-protocol")]
            drop(cold.proxied.take());
            cold.ended_tls.take()
        });
        discard(unused);
        self.free_unused();
    }

    pub(crate) fn set_socket_file(&self, file: Box<SocketFile>) {
        self.with_cold(|cold| cold.socket_file = Some(file));
    }

    /// The file of the listener, which is removed when this is dropped.
    pub(crate) fn take_socket_file(&self) -> Option<Box<SocketFile>> {
        self.cold(|cold| cold.socket_file.take())?
    }

    /// Adds a timer of the channel, to be cancelled when the channel closes.
    pub(crate) fn add_timer(&self, timer: TimerId) {
        self.with_cold(|cold| cold.timers.insert(timer));
    }

    pub(crate) fn remove_timer(&self, timer: TimerId) {
        self.cold(|cold| cold.timers.remove(&timer));
    }

    /// Removes a timer that was cancelled.
    pub(super) fn forget_timer(&self, timer: TimerId) {
        self.remove_timer(timer);
        // Otherwise a turn follows, and does this at its end.
        if !self.flags.has(Flag::QUEUED) {
            self.free_unused();
        }
    }

    /// Makes the runtime replace the handler by one of another type, before the next callback.
    pub(crate) fn replace_handler(
        self: &Rc<Self>,
        handler: fn() -> TypeId,
        replacement: Box<dyn Any>,
    ) {
        // After a failed callback, the handler that failed gets `handle_close`.
        let unused = if self.has_ended() || self.flags.has(Flag::FAILED) {
            Some(replacement)
        } else {
            self.handler.set(handler);
            self.requests.add(Request::REPLACE);
            self.schedule();
            self.with_cold(|cold| cold.replacement.replace(replacement))
        };
        match (unused, self.agenda()) {
            (Some(unused), Some(agenda)) => agenda.drop_later(unused),
            (unused, _) => discard(unused),
        }
    }

    /// What makes the driver of the new handler.
    pub(crate) fn take_replacement(&self) -> Option<Box<dyn Any>> {
        self.requests.take(Request::REPLACE);
        self.cold(|cold| cold.replacement.take())?
    }

    /// Sets a timer of the channel. Before its registration the timer waits for it.
    pub(crate) fn set_timer(self: &Rc<Self>, delay: Duration, every: Option<Duration>) -> TimerId {
        if self.has_ended() || self.flags.has(Flag::FAILED) {
            return TimerId::NEVER;
        }
        if let Some(agenda) = self.agenda() {
            let id = agenda.set_timer(delay, Task::Channel(Rc::clone(self), every));
            self.add_timer(id);
            return id;
        }
        if self.is_registered() {
            return TimerId::NEVER; // Its loop is gone.
        }
        let id = TimerId::reserve();
        let timer = UnregisteredTimer { id, delay, every };
        self.with_cold(|cold| cold.unregistered_timers.push(timer));
        id
    }

    /// Cancels a timer of the channel's loop. Returns whether it was pending.
    pub(crate) fn cancel_timer(&self, id: TimerId) -> bool {
        if let Some(agenda) = self.agenda() {
            return agenda.cancel_timer(id);
        }
        let cancelled = self.cold(|cold| {
            let timers = &mut cold.unregistered_timers;
            let before = timers.len();
            timers.retain(|timer| timer.id != id);
            timers.len() < before
        });
        cancelled == Some(true)
    }

    /// Makes a timer of the channel's loop fire after this delay. Returns whether it was pending.
    pub(crate) fn reset_timer(&self, id: TimerId, delay: Duration) -> bool {
        if let Some(agenda) = self.agenda() {
            return agenda.reset_timer(id, delay);
        }
        let reset = self.cold(|cold| {
            let timers = &mut cold.unregistered_timers;
            let timer = timers.iter_mut().find(|timer| timer.id == id);
            timer.map(|timer| timer.delay = delay)
        });
        reset.flatten().is_some()
    }

    /// The channel is registered now: its timers begin.
    pub(crate) fn start_timers(self: &Rc<Self>) {
        let timers = self.cold(|cold| std::mem::take(&mut cold.unregistered_timers));
        let (Some(agenda), Some(timers)) = (self.agenda(), timers) else {
            return;
        };
        for UnregisteredTimer { id, delay, every } in timers {
            agenda.set_timer_as(id, delay, Task::Channel(Rc::clone(self), every));
            self.add_timer(id);
        }
    }

    /// Counts a refused accept. Returns how many were refused in a row, over all turns.
    pub(crate) fn count_refused_accept(&self) -> usize {
        self.with_cold(|cold| {
            cold.refused_accepts += 1;
            cold.refused_accepts
        })
    }

    pub(crate) fn forget_refused_accepts(&self) {
        self.cold(|cold| cold.refused_accepts = 0);
    }
}

//! State that most connections never need, in a box that exists only when needed.

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
use super::secure::Secured;
use super::{ChannelState, Flag, Request};
use crate::error::Close;
use crate::stage::MakeStage;
use crate::sys::socket::unix_domain::SocketFile;
use crate::time::timer::TimerId;
use crate::user_code::discard;

/// State that most connections never need.
#[derive(Default)]
pub(super) struct Cold {
    pub(super) output: Output,
    /// The other end of its pipe. Weak, because each end refers to the other.
    pub(super) piped_to: Weak<ChannelState>,
    pub(super) outgoing: Option<Outgoing>,
    /// Why it is about to end, if not for [`Close::Local`]. The first reason stands.
    pub(super) ending: Option<Close>,
    /// The error of its failed send, while input may still have to be received.
    pub(super) send_error: Option<io::Error>,
    /// How many bytes it had received when the send failed.
    pub(super) received: u64,
    pub(super) timers: BTreeSet<TimerId>,
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
    /// Makes that, when the connection is up, or when the queue has reached the beginning of TLS.
    pub(super) planned: Option<MakeStage>,
    /// Makes the driver of the handler that replaces the present one.
    pub(super) replacement: Option<Box<dyn Any>>,
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

impl ChannelState {
    pub(super) fn with_cold<T>(&self, change: impl FnOnce(&mut Cold) -> T) -> T {
        change(&mut self.cold.get_or_init(Box::default).borrow_mut())
    }

    pub(crate) fn set_socket_file(&self, file: SocketFile) {
        self.with_cold(|cold| cold.socket_file = Some(Box::new(file)));
    }

    /// Adds a timer of the channel, to be cancelled when the channel closes.
    pub(crate) fn add_timer(&self, timer: TimerId) {
        self.with_cold(|cold| cold.timers.insert(timer));
    }

    pub(crate) fn remove_timer(&self, timer: TimerId) {
        if let Some(cold) = self.cold.get() {
            cold.borrow_mut().timers.remove(&timer);
        }
    }

    /// Makes the runtime replace the handler by one of another type, before the next callback.
    pub(crate) fn replace_handler(
        self: &Rc<Self>,
        handler: fn() -> TypeId,
        replacement: Box<dyn Any>,
    ) {
        // After a failed callback, the handler that failed gets `handle_close`.
        let unused = match self.has_ended() || self.flags.has(Flag::FAILED) {
            true => Some(replacement),
            false => {
                self.handler.set(handler);
                self.requests.add(Request::REPLACE);
                self.schedule();
                self.with_cold(|cold| cold.replacement.replace(replacement))
            }
        };
        match (unused, self.agenda()) {
            (Some(unused), Some(agenda)) => agenda.drop_later(unused),
            (unused, _) => discard(unused),
        }
    }

    /// What makes the driver of the new handler.
    pub(crate) fn take_replacement(&self) -> Option<Box<dyn Any>> {
        self.requests.take(Request::REPLACE);
        self.cold.get()?.borrow_mut().replacement.take()
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
        self.cold.get().is_some_and(|cold| {
            let timers = &mut cold.borrow_mut().unregistered_timers;
            let before = timers.len();
            timers.retain(|timer| timer.id != id);
            timers.len() < before
        })
    }

    /// Makes a timer of the channel's loop fire after this delay. Returns whether it was pending.
    pub(crate) fn reset_timer(&self, id: TimerId, delay: Duration) -> bool {
        if let Some(agenda) = self.agenda() {
            return agenda.reset_timer(id, delay);
        }
        self.cold.get().is_some_and(|cold| {
            let timers = &mut cold.borrow_mut().unregistered_timers;
            let timer = timers.iter_mut().find(|timer| timer.id == id);
            timer.map(|timer| timer.delay = delay).is_some()
        })
    }

    /// The channel is registered now: its timers begin.
    pub(crate) fn start_timers(self: &Rc<Self>) {
        let (Some(agenda), Some(cold)) = (self.agenda(), self.cold.get()) else {
            return;
        };
        let timers = std::mem::take(&mut cold.borrow_mut().unregistered_timers);
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
        if let Some(cold) = self.cold.get() {
            cold.borrow_mut().refused_accepts = 0;
        }
    }
}

//! State that most connections never need, in a box that exists only when needed.

#[cfg(feature = "sim")]
use std::any::Any;
use std::collections::BTreeSet;
use std::io;
use std::rc::{Rc, Weak};
#[cfg(feature = "sim")]
use std::time::Instant;

use super::ChannelState;
use super::connect::{Outgoing, Retry};
use super::io::Output;
use crate::error::Close;
use crate::time::timer::TimerId;

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
    /// How many accepts in a row the system has refused.
    refused_accepts: usize,
    /// Connects again when this connection has ended.
    pub(super) retry: Option<Rc<dyn Retry>>,
    /// The reason of its end and its handler have to be kept for a transcript.
    #[cfg(feature = "sim")]
    pub(super) end_recorded: bool,
    #[cfg(feature = "sim")]
    pub(super) recorded_end: Option<(Close, Instant)>,
    #[cfg(feature = "sim")]
    pub(super) recorded_handler: Option<Box<dyn Any>>,
}

impl ChannelState {
    pub(super) fn with_cold<T>(&self, change: impl FnOnce(&mut Cold) -> T) -> T {
        change(&mut self.cold.get_or_init(Box::default).borrow_mut())
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

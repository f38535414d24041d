//! What most connections never have, in one box that those do without.

use std::collections::BTreeSet;
use std::io;
use std::rc::{Rc, Weak};

use super::ChannelState;
use super::connect::{Outgoing, Retry};
use super::sides::Output;
use crate::error::Close;
use crate::time::timer::TimerId;

/// What a connection has none of for most of its life.
#[derive(Default)]
pub(super) struct Rare {
    pub(super) output: Output,
    /// The other end of its pipe. Weak, for each has the other.
    pub(super) piped_to: Weak<ChannelState>,
    pub(super) outgoing: Option<Box<Outgoing>>,
    /// Why it is about to end, if that is not [`Close::Local`]; the first reason stands.
    pub(super) ending: Option<Close>,
    /// The error that ended its sending side while there may still be something to receive.
    pub(super) send_error: Option<io::Error>,
    /// How many bytes had been received by then.
    pub(super) received: u64,
    pub(super) timers: BTreeSet<TimerId>,
    /// How many accepts the system has refused since the last that it has not.
    refused_accepts: usize,
    /// Makes another connection when this one has ended.
    pub(super) retry: Option<Rc<dyn Retry>>,
}

impl ChannelState {
    /// A timer of its own was set: it goes when the channel does.
    pub(crate) fn add_timer(&self, timer: TimerId) {
        self.rarely(|rare| rare.timers.insert(timer));
    }

    pub(crate) fn remove_timer(&self, timer: TimerId) {
        if let Some(rare) = self.rare.get() {
            rare.borrow_mut().timers.remove(&timer);
        }
    }

    /// One more accept was refused; how many that is in a row, over all turns.
    pub(crate) fn count_refused_accept(&self) -> usize {
        self.rarely(|rare| {
            rare.refused_accepts += 1;
            rare.refused_accepts
        })
    }

    pub(crate) fn forget_refused_accepts(&self) {
        if let Some(rare) = self.rare.get() {
            rare.borrow_mut().refused_accepts = 0;
        }
    }

    /// The other end of its pipe, while there is one.
    pub(crate) fn piped_to(&self) -> Option<Rc<ChannelState>> {
        match self.chat.is_piped.get() {
            true => self.rare.get()?.borrow().piped_to.upgrade(),
            false => None,
        }
    }

    pub(crate) fn pipe_to(&self, other: &Rc<ChannelState>) {
        self.rarely(|rare| rare.piped_to = Rc::downgrade(other));
        self.chat.is_piped.set(true);
    }

    pub(super) fn rarely<T>(&self, change: impl FnOnce(&mut Rare) -> T) -> T {
        change(&mut self.rare.get_or_init(Box::default).borrow_mut())
    }
}

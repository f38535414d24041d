//! Pushes: they schedule the channel, apply back-pressure, and are checked against the output limit.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use super::{ChannelState, Flag, Phase, Request, ToSocket};
use crate::error::Close;
use crate::output::fifo::{COPIED, Item};
use crate::user_code::{Discarded, discard};

impl ChannelState {
    /// Something was pushed. The loop sends it at the end of the turn, and stops delivering records to
    /// the session if the queue is full.
    #[inline]
    pub(crate) fn pushed(self: &Rc<Self>, full: bool, weight: impl FnOnce() -> usize) {
        if full {
            self.apply_back_pressure(weight());
        }
        self.schedule();
    }

    /// More is queued than the peer takes, or than there is room for beside the backlog.
    #[cold]
    #[inline(never)]
    fn apply_back_pressure(self: &Rc<Self>, pushed: usize) {
        self.requests.add(Request::CHECK);
        {
            let out = self.out.borrow();
            if out.is_sealed() || !out.is_over_high_water() {
                return;
            }
        }
        self.flags.set(Flag::BACK_PRESSURED, true);
        self.stop_input_clocks();
        if self.has_failed_sending() {
            return;
        }
        // A session's own replies are bounded by the mark: it gets no other record before they are
        // sent. What others push to it (a broadcast, a timer) is not. A single push of any size is
        // accepted while the queue is within the limit: its caller has it in memory anyway.
        if self.flags.has(Flag::IN_TURN) {
            return self.out.borrow_mut().exempt();
        }
        let limit = self.limit(|limits| limits.output);
        let exceeds = || self.out.borrow().limited_weight().saturating_sub(pushed) > limit;
        if exceeds() && !self.takes_excess(limit, pushed) && exceeds() && !self.has_failed_sending()
        {
            // Logged by the loop: the caller may have something borrowed that a subscriber needs.
            self.end(Close::OutputLimit);
        }
    }

    /// Sends what is queued above `limit`, as far as the kernel takes it. The limit is for peers that do not read. In a turn
    /// of the loop several senders may push more to a peer than the turn sends to it, and then the queue grows although
    /// the peer reads everything.
    ///
    /// A call sends more than was `pushed`, but not much more, so that it takes no longer than the push deserves. Returns
    /// whether the kernel has taken that much.
    #[cold]
    #[inline(never)]
    fn takes_excess(self: &Rc<Self>, limit: usize, pushed: usize) -> bool {
        // The failure of a descriptor of its own is logged, which must wait for the loop.
        let may_send = || self.phase.get() == Phase::Open && !self.has_own_output();
        let budget = self.output_budget(self.limit(|limits| limits.turn_write.max(1)));
        let mut left = pushed.saturating_add(budget);
        // The first attempt is made also if the kernel has taken nothing more in an earlier turn: the peer may have read since.
        while may_send() && self.out.borrow().limited_weight() > limit {
            let mut queue = self.out.borrow_mut();
            let before = queue.queued();
            let sent = queue.send_bytes(&mut ToSocket(self), budget.min(left));
            left = left.saturating_sub(before - queue.queued());
            drop(queue);
            match sent {
                // Their destructors may be user code.
                Ok(Some(used)) => self.drop_later(used.into_items()),
                Ok(None) => return false,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) => {
                    self.fail_sending(error);
                    return false;
                }
            }
            if self.flags.has(Flag::BLOCKED) {
                return false;
            }
            if left == 0 {
                return true;
            }
        }
        false
    }

    /// Queues a producer, a hook or a mark.
    pub(crate) fn push_item(self: &Rc<Self>, item: Item) {
        if let Some(item) = self.try_push_item(item) {
            self.drop_later(VecDeque::from([item]));
        }
    }

    /// Queues a producer, a hook or a mark. Returns it if the queue does not take it.
    pub(crate) fn try_push_item(self: &Rc<Self>, item: Item) -> Option<Item> {
        let (refused, full) = {
            let mut out = self.out.borrow_mut();
            (out.push(item), out.is_full())
        };
        self.pushed(full, || COPIED);
        refused
    }

    /// Whether its queue was over the high-water mark, and has fallen to the low-water mark.
    #[inline]
    pub(crate) fn is_relieved(&self) -> bool {
        self.flags.has(Flag::BACK_PRESSURED) && self.is_at_low_water()
    }

    #[cold]
    fn is_at_low_water(&self) -> bool {
        let low_water = self.limit(|limits| limits.low_water.min(limits.high_water));
        !self.flags.has(Flag::FAILED) && self.out.borrow().is_at_low_water(low_water)
    }

    /// The producer that has answered `Pending` may have something.
    pub(crate) fn resume_producing(self: &Rc<Self>) {
        self.out.borrow_mut().resume();
        self.schedule();
    }

    /// Ends the channel for this reason when all that was pushed before is sent.
    pub(crate) fn close_when_done(self: &Rc<Self>, why: Close) {
        // Nothing can be sent any more, so the close need not wait.
        if self.has_lost_output() {
            return self.end(why);
        }
        if self.end_with_send_error() {
            return;
        }
        let refused = self.out.borrow_mut().push(Item::Close(why));
        if refused.is_none() {
            self.begin_closing();
        }
        discard(refused);
    }

    /// Stops the delivery of records, after a close was queued.
    pub(super) fn begin_closing(self: &Rc<Self>) {
        // A record that is not complete by now never will be.
        self.time(|clocks, _| clocks.end_record());
        self.requests.add(Request::CHECK);
        self.schedule();
    }

    /// Makes the loop drop items of the queue. If it is gone, they are dropped here.
    pub(crate) fn drop_later(&self, discarded: VecDeque<Item>) {
        if discarded.is_empty() {
            return;
        }
        let discarded = Discarded(discarded);
        if let Some(agenda) = self.agenda() {
            agenda.drop_later(discarded);
        }
    }
}

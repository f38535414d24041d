//! How full the queue is: its water marks, and its weight against the output limit.
//!
//! Buffered input that has not been parsed, the backlog, takes room from the queue: the two together
//! are what a peer costs that asks for much and reads nothing.

use super::{Asking, COPIED, Fifo, Stream};
use crate::limits::CompactLimit;

/// More items than this are over the high-water mark, however few bytes they have at hand: a producer
/// may hold a file, and a peer that reads nothing can ask for one with each line.
const HIGH_ITEMS: usize = 64;

/// With at most this many items, a queue can be at its low-water mark.
const LOW_ITEMS: usize = 16;

/// The smallest budget of a producer, however full the queue is, unless unparsed input takes a part of the
/// queue's room.
const MIN_ASKED: usize = 16_384;

impl Fifo {
    /// Moves the high-water mark.
    pub fn set_high_water(&mut self, bytes: usize) {
        self.high_water = CompactLimit::new(bytes);
        self.update_head_limit();
    }

    /// Sets how many bytes of buffered input are charged against the high-water mark.
    #[inline]
    pub fn set_backlog(&mut self, bytes: usize) {
        if self.tail.backlog() != bytes && !self.ignores_backlog {
            self.tail.set_backlog(bytes);
            self.update_head_limit();
        }
    }

    /// From now on no buffered input is charged. The input of a client must not wait for its commands, which are made
    /// as fast as they are sent: its server may read nothing more before its replies are taken.
    pub fn ignore_backlog(&mut self) {
        self.set_backlog(0);
        self.ignores_backlog = true;
    }

    /// Whether the connection's input has to stop, for either of the two reasons below.
    pub fn is_full(&self) -> bool {
        self.is_crowded() || self.is_over_high_water()
    }

    /// Whether the queue is over the mark that the backlog leaves to it. A queue that waits for a
    /// producer is not, because the backlog may hold the record that resumes the producer.
    #[inline]
    pub fn is_crowded(&self) -> bool {
        self.tail.backlog() > 0 && self.is_over_reduced_mark()
    }

    fn is_over_reduced_mark(&self) -> bool {
        let waits = self.asking == Asking::Pending || self.stream == Stream::Failed;
        !waits && self.queued() > self.mark().max(COPIED)
    }

    /// Whether the queue is over its high-water mark, in bytes or in items.
    pub fn is_over_high_water(&self) -> bool {
        self.queued() > self.high_water.bytes() || self.tail.len() > HIGH_ITEMS
    }

    /// Whether the queue is at or below its low-water mark of `low_water` bytes, in bytes and in items.
    pub fn is_at_low_water(&self, low_water: usize) -> bool {
        // The high-water mark may be lower than the one that was set: see `CompactLimit`.
        let low_water = low_water.min(self.high_water.bytes());
        self.queued() <= low_water && self.tail.len() <= LOW_ITEMS
    }

    /// What the queue holds, in bytes. Producers, hooks and shutdowns of the sending side take memory
    /// too: where there are many items, each of them counts for [`COPIED`] bytes.
    pub fn weight(&self) -> usize {
        let counted = if self.tail.len() > HIGH_ITEMS {
            self.tail.counted()
        } else {
            0
        };
        self.queued().saturating_add(counted.saturating_mul(COPIED))
    }

    /// Exempts the present weight from the output limit until it has been sent.
    pub fn exempt(&mut self) {
        let weight = self.weight();
        self.tail.set_exempt(weight);
    }

    /// The part of the [weight](Fifo::weight) that counts against the output limit.
    pub fn limited_weight(&self) -> usize {
        self.weight().saturating_sub(self.tail.exempt())
    }

    /// Computes how far a push may fill the head without further checks.
    pub(super) fn update_head_limit(&mut self) {
        let is_plain = self.takes_pushes() && self.stream != Stream::Failed && self.tail.is_empty();
        self.head_limit = if is_plain {
            self.sent().saturating_add(self.mark())
        } else {
            0
        };
    }

    /// The high-water mark, less the backlog.
    pub(super) fn mark(&self) -> usize {
        self.high_water.bytes().saturating_sub(self.tail.backlog())
    }

    /// How many bytes a producer is asked for, unless the turn's budget is smaller. A few bytes behind
    /// the producer (the line that ends its output) take nothing from that: otherwise it would be
    /// asked for a few bytes less than a turn sends, and each turn would need two writes.
    pub(super) fn producer_budget(&self) -> usize {
        let room = self.mark().saturating_add(COPIED);
        let least = match self.tail.backlog() {
            0 => MIN_ASKED,
            _ => COPIED,
        };
        room.saturating_sub(self.queued()).max(least)
    }

    /// The weight of an item that is dropped because a send has failed. [`HIGH_ITEMS`] dropped items weigh as
    /// much as the high-water mark.
    pub(super) fn dropped_item_weight(&self) -> usize {
        self.high_water.bytes().div_ceil(HIGH_ITEMS).max(1)
    }
}

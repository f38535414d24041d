//! How the queue ends: its close, a failed output, and what is thrown away.
//!
//! Items that are not sent are returned. The caller drops them where user code may run.

use std::collections::VecDeque;

use super::{Asking, Fifo, Intake, Item, Stream};
use crate::error::Close;

impl Fifo {
    /// Takes nothing more from now on.
    pub fn seal(&mut self) {
        if !self.is_sealed() {
            self.intake = Intake::Sealed;
        }
        self.update_head_limit();
    }

    /// Whether bytes that are pushed are queued, or counted after a failed send.
    pub fn takes_pushes(&self) -> bool {
        self.intake == Intake::Open
    }

    /// Whether the queue takes nothing more: its close is queued, or the channel has ended.
    pub fn is_sealed(&self) -> bool {
        matches!(self.intake, Intake::Sealed | Intake::Closed)
    }

    /// Whether the pump has reached the close: the peer is to receive all that was sent.
    pub fn is_closed(&self) -> bool {
        self.intake == Intake::Closed
    }

    /// Whether a producer has failed, so that the output ends in its middle.
    pub fn is_cut(&self) -> bool {
        self.stream == Stream::Cut
    }

    /// Whether output is left, or missing, that the peer would have to receive.
    pub fn is_unfinished(&self) -> bool {
        let produces = |item: &Item| matches!(item, Item::Producer(_) | Item::Asked);
        match self.stream {
            Stream::Whole => self.queued() > 0 || self.tail.iter().any(produces),
            Stream::Cut => true,
            Stream::Failed => false,
        }
    }

    /// Whether output was pushed that was not sent.
    pub fn is_incomplete(&self) -> bool {
        self.is_unfinished() || (self.stream == Stream::Failed && self.tail.bytes() > 0)
    }

    /// Empties the queue, except for its close and for the beginning of TLS, which is no output.
    pub fn discard(&mut self) -> VecDeque<Item> {
        self.head = Vec::new();
        self.sent = 0;
        self.asking = Asking::Ready;
        // After a failed send, these are the output that was dropped.
        if self.stream != Stream::Failed {
            self.tail.set_bytes(0);
        }
        let close = self.take_close();
        if self.intake == Intake::Finished && self.tail.has_shutdown() {
            // The end of the sending side is discarded as well.
            self.intake = Intake::Open;
        }
        let mut discarded = self.tail.take();
        let starts_tls = discarded
            .iter()
            .position(|item| matches!(item, Item::StartTls));
        if let Some(mark) = starts_tls.and_then(|at| discarded.remove(at)) {
            self.tail.push_back(mark);
        }
        if let Some(why) = close {
            self.tail.push_back(Item::Close(why));
        }
        self.update_head_limit();
        discarded
    }

    /// Empties the queue because a send has failed. What was queued still counts, and so do later
    /// pushes, up to the high-water mark: a session must not be able to start more work for a peer that
    /// is gone than for one that does not read.
    pub fn fail(&mut self) -> VecDeque<Item> {
        let items = self.tail.len().saturating_mul(self.dropped_item_weight());
        let counted = self.queued().saturating_add(items);
        let lost = self.discard();
        self.tail.set_bytes(counted);
        self.stream = Stream::Failed;
        self.update_head_limit();
        lost
    }

    /// Queues this close in place of any other. It comes behind the queued output, or, if a producer
    /// has failed, in place of the output behind that producer.
    pub fn replace_close(&mut self, why: Close) -> VecDeque<Item> {
        let mut lost = VecDeque::new();
        // A producer that is still being asked has panicked.
        if let Some(Item::Asked) = self.tail.front() {
            self.cut_at_producer();
        }
        if self.is_cut() {
            self.tail.set_bytes(0);
            lost = self.tail.take();
            self.asking = Asking::Ready;
        } else {
            lost.extend(self.take_close().map(Item::Close));
        }
        self.tail.push_back(Item::Close(why));
        self.seal();
        lost
    }

    /// Takes the queued close out of the queue, and returns its reason. The queue stays sealed.
    pub fn take_close(&mut self) -> Option<Close> {
        self.tail.pop_close()
    }

    /// The producer that is being asked has failed.
    pub(super) fn cut_at_producer(&mut self) {
        self.stream = Stream::Cut;
        if let Some(Item::Asked) = self.tail.front() {
            self.tail.pop_front();
        }
    }
}

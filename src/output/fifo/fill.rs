//! How the queue is filled: by handles, at any time.

use std::collections::VecDeque;
use std::mem;
use std::ptr;

use bytes::Bytes;

use super::{COPIED, Fifo, Intake, Item, Stream};
use crate::sys::append::length_of;

impl Fifo {
    /// Queues a copy of `data`. Returns whether the queue is [full](Fifo::is_full).
    #[inline]
    pub fn push_slice(&mut self, data: &[u8]) -> bool {
        self.push_slices(&[data], |_| None)
    }

    /// Queues these parts, one after another. Returns whether the queue is [full](Fifo::is_full). Where the parts do
    /// not fit into the head, `shared` is asked for each of them. The queue refers to what it returns, if that is
    /// large, and copies the others. The destructor of what it returns must not be user code.
    #[inline(always)]
    pub fn push_slices(
        &mut self,
        parts: &[&[u8]],
        shared: impl Fn(&[u8]) -> Option<Bytes> + Copy,
    ) -> bool {
        let end = self.head.len().saturating_add(length_of(parts));
        if end > self.head_limit {
            // Without bytes a push changes nothing, also where the queue is over its mark.
            let parts = parts.iter().filter(|part| !part.is_empty());
            return parts.fold(false, |_, part| self.push_part(part, shared));
        }
        self.extend_head(parts);
        false
    }

    #[cold]
    #[inline(never)]
    fn push_part(&mut self, part: &[u8], shared: impl Fn(&[u8]) -> Option<Bytes>) -> bool {
        match shared(part) {
            Some(part) if part.len() >= COPIED => self.push_large(&part),
            _ => self.push_checked(part),
        }
    }

    /// Queues `data`, without a copy if it is large. Returns whether the queue is
    /// [full](Fifo::is_full).
    #[inline]
    pub fn push_bytes(&mut self, data: &Bytes) -> bool {
        if data.len() < COPIED {
            return self.push_slice(data);
        }
        self.push_large(data)
    }

    /// Queues a producer, a hook or a mark. Returns it if the queue does not take it.
    pub fn push(&mut self, item: Item) -> Option<Item> {
        let is_taken = match self.intake {
            Intake::Open => true,
            // A session may be paused until its hook is called.
            Intake::Finished => matches!(item, Item::Hook(_) | Item::Close(_)),
            Intake::Sealed | Intake::Closed => false,
        };
        if !is_taken {
            return Some(item);
        }
        if self.stream == Stream::Failed {
            self.tail.add_bytes(self.dropped_item_weight());
            return Some(item);
        }
        match item {
            Item::Close(_) => self.intake = Intake::Sealed,
            Item::ShutdownWrite => self.intake = Intake::Finished,
            _ => {}
        }
        // Later pushes go behind the new item: this buffer does not grow any more.
        if let Some(Item::Small(last)) = self.tail.back_mut() {
            last.shrink_to_fit();
        }
        self.tail.push_back(item);
        self.update_head_limit();
        None
    }

    /// Whether the item that was queued last is the producer at this address, and nothing is queued behind it.
    pub fn ends_with(&self, producer: *const ()) -> bool {
        match self.tail.back() {
            Some(Item::Producer(last)) => ptr::addr_eq(&raw const **last, producer),
            _ => false,
        }
    }

    /// Queues everything that is queued in `later`, before the close of this queue if that is queued already.
    /// Returns the items that are to be dropped: those that this queue does not take, and references to large
    /// pushes. Their destructors are user code.
    #[cold]
    pub fn append(&mut self, mut later: Fifo) -> VecDeque<Item> {
        let close = self.take_close();
        if close.is_some() {
            self.intake = if self.tail.has_shutdown() {
                Intake::Finished
            } else {
                Intake::Open
            };
        }
        let head = mem::take(&mut later.head);
        let unsent = head.get(later.sent()..).unwrap_or_default();
        if !unsent.is_empty() {
            self.push_checked(unsent);
        }
        if later.ignores_backlog {
            self.ignore_backlog();
        }
        let mut dropped = VecDeque::new();
        for item in later.tail.take() {
            match item {
                Item::Small(data) => {
                    self.push_checked(&data);
                }
                Item::Large(data) => {
                    self.push_large(&data);
                    dropped.push_back(Item::Large(data));
                }
                item => dropped.extend(self.push(item)),
            }
        }
        dropped.extend(close.and_then(|why| self.push(Item::Close(why))));
        dropped
    }

    fn push_large(&mut self, data: &Bytes) -> bool {
        if !self.takes_pushes() {
            return false;
        }
        match self.stream {
            Stream::Failed => self.tail.add_bytes(data.len()),
            _ => self.tail.push_back(Item::Large(data.clone())),
        }
        self.update_head_limit();
        self.is_full()
    }

    /// Queues a copy of `data` where more is to be checked than the length of the head.
    fn push_checked(&mut self, data: &[u8]) -> bool {
        if !self.takes_pushes() {
            return false;
        }
        match self.tail.back_mut() {
            _ if self.stream == Stream::Failed => {
                self.tail.add_bytes(data.len());
            }
            None => {
                self.compact(self.sent());
                self.extend_head(&[data]);
            }
            Some(Item::Small(last)) => {
                last.extend_from_slice(data);
                self.tail.add_bytes(data.len());
            }
            Some(_) => self.tail.push_back(Item::Small(data.to_vec())),
        }
        self.update_head_limit();
        self.is_full()
    }
}

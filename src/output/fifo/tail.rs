//! The tail of the queue, its items, with four numbers that only some queues need. All are allocated at
//! their first use, because most connections queue small replies only, which are in the head. A queue
//! without them has a null pointer instead.
//!
//! An idle connection gives this memory back. The last empty tail is kept for the next queue of the thread, so
//! that a session which queues a producer for each record does not allocate a tail for each.

use std::cell::Cell;
use std::collections::VecDeque;
use std::mem;

use bytes::Bytes;

use super::Item;
use crate::error::Close;

/// For how many items an empty tail keeps room. More are queued only for a peer that is slower than its session.
const KEPT_ITEMS: usize = 64;

thread_local! {
    /// An empty tail that no queue has.
    static SPARE: Cell<Option<Box<Inner>>> = const { Cell::new(None) };
}

/// A deque of items, allocated at its first use.
#[derive(Default)]
pub(super) struct Tail(Option<Box<Inner>>);

#[derive(Default)]
struct Inner {
    items: VecDeque<Item>,
    /// Bytes in the items. When the output has failed, the bytes that were dropped and still count.
    bytes: usize,
    /// How many of the items count for their number, and not for their bytes. Above the high-water mark,
    /// each push looks at it.
    counted: usize,
    /// How much of the queue's weight is exempt from the output limit.
    exempt: usize,
    /// How many bytes of buffered input are charged against the high-water mark.
    backlog: usize,
}

impl Tail {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|inner| inner.items.is_empty())
    }

    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |inner| inner.items.len())
    }

    pub(super) fn counted(&self) -> usize {
        self.0.as_ref().map_or(0, |inner| inner.counted)
    }

    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |inner| inner.bytes)
    }

    pub(super) fn set_bytes(&mut self, bytes: usize) {
        if bytes != self.bytes() {
            self.allocated().bytes = bytes;
        }
    }

    /// Counts bytes by which the last item was extended, or that were dropped.
    pub(super) fn add_bytes(&mut self, bytes: usize) {
        let inner = self.allocated();
        inner.bytes = inner.bytes.saturating_add(bytes);
    }

    #[inline]
    pub(super) fn backlog(&self) -> usize {
        self.0.as_ref().map_or(0, |inner| inner.backlog)
    }

    pub(super) fn set_backlog(&mut self, bytes: usize) {
        self.allocated().backlog = bytes;
    }

    pub(super) fn exempt(&self) -> usize {
        self.0.as_ref().map_or(0, |inner| inner.exempt)
    }

    pub(super) fn set_exempt(&mut self, weight: usize) {
        self.allocated().exempt = weight;
    }

    /// `bytes` more of the queue have been sent: they were the exempt ones, which came first.
    #[inline]
    pub(super) fn count_sent(&mut self, bytes: usize) {
        if let Some(inner) = &mut self.0 {
            inner.exempt = inner.exempt.saturating_sub(bytes);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Item> {
        self.0.iter().flat_map(|inner| &inner.items)
    }

    #[inline]
    pub(super) fn front(&self) -> Option<&Item> {
        self.0.as_ref()?.items.front()
    }

    /// The first item, to be replaced by one that is counted if the first is.
    pub(super) fn front_mut(&mut self) -> Option<&mut Item> {
        self.0.as_mut()?.items.front_mut()
    }

    pub(super) fn back(&self) -> Option<&Item> {
        self.0.as_ref()?.items.back()
    }

    /// Whether the end of the sending side is queued.
    pub(super) fn has_shutdown(&self) -> bool {
        self.iter().any(|item| matches!(item, Item::ShutdownWrite))
    }

    /// The last item, to be extended.
    pub(super) fn back_mut(&mut self) -> Option<&mut Item> {
        self.0.as_mut()?.items.back_mut()
    }

    pub(super) fn push_back(&mut self, item: Item) {
        let inner = self.allocated();
        inner.counted += usize::from(item.is_counted());
        inner.bytes += item.len();
        inner.items.push_back(item);
    }

    /// Puts bytes in front of all items.
    pub(super) fn push_bytes_front(&mut self, data: Bytes) {
        let inner = self.allocated();
        inner.bytes += data.len();
        inner.items.push_front(Item::Large(data));
    }

    /// Takes the first item if it is bytes.
    pub(super) fn pop_bytes(&mut self) -> Option<Bytes> {
        let inner = self.0.as_mut()?;
        let data = match inner.items.pop_front()? {
            Item::Large(data) => data,
            Item::Small(data) => data.into(),
            other => {
                inner.items.push_front(other);
                return None;
            }
        };
        inner.bytes -= data.len();
        Some(data)
    }

    pub(super) fn pop_front(&mut self) -> Option<Item> {
        let inner = self.0.as_mut()?;
        let item = inner.items.pop_front()?;
        inner.counted -= usize::from(item.is_counted());
        inner.bytes -= item.len();
        Some(item)
    }

    /// Takes the last item if it is a close.
    pub(super) fn pop_close(&mut self) -> Option<Close> {
        let items = &mut self.0.as_mut()?.items;
        match items.pop_back()? {
            Item::Close(why) => Some(why),
            other => {
                items.push_back(other);
                None
            }
        }
    }

    /// Takes all items. The caller has set the number of bytes. The backlog stays: it is not part of the queue.
    pub(super) fn take(&mut self) -> VecDeque<Item> {
        let Some(inner) = &mut self.0 else {
            return VecDeque::new();
        };
        (inner.counted, inner.exempt) = (0, 0);
        let items = mem::take(&mut inner.items);
        self.free_unused(true);
        items
    }

    // ---- its memory

    /// How many bytes of memory it takes, without what the items refer to.
    pub(super) fn memory(&self) -> usize {
        self.0.as_ref().map_or(0, |inner| {
            mem::size_of::<Inner>() + inner.items.capacity() * mem::size_of::<Item>()
        })
    }

    /// Frees what the tail does not need for its items. `is_head_empty`: nothing is queued before them.
    #[inline]
    pub(super) fn free_unused(&mut self, is_head_empty: bool) {
        let Some(inner) = &mut self.0 else {
            return;
        };
        if inner.items.capacity() > KEPT_ITEMS {
            inner.shrink();
        }
        if is_head_empty && inner.items.is_empty() && inner.backlog == 0 && inner.bytes == 0 {
            self.release();
        }
    }

    /// Gives the memory of an empty queue back.
    #[inline(never)]
    fn release(&mut self) {
        let Some(mut inner) = self.0.take() else {
            return;
        };
        // What is exempt is a part of the queue: nothing is in an empty one.
        inner.exempt = 0;
        // A thread that is ending keeps nothing any more.
        let _ = SPARE.try_with(|spare| spare.set(Some(inner)));
    }

    #[inline]
    fn allocated(&mut self) -> &mut Inner {
        self.0.get_or_insert_with(|| {
            let spare = SPARE.try_with(Cell::take).ok().flatten();
            spare.unwrap_or_default()
        })
    }
}

impl Inner {
    /// Gives back most of the room that is not used. Half of it is left for more items, so that each item is moved
    /// at most once on average.
    #[cold]
    fn shrink(&mut self) {
        let len = self.items.len();
        if len < self.items.capacity() / 4 {
            self.items.shrink_to(2 * len);
        }
    }
}

impl Item {
    fn len(&self) -> usize {
        match self {
            Item::Small(data) => data.len(),
            Item::Large(data) => data.len(),
            _ => 0,
        }
    }

    /// Whether it counts for its number. A close does not: there is at most one.
    fn is_counted(&self) -> bool {
        matches!(
            self,
            Item::Producer(_) | Item::Asked | Item::Hook(_) | Item::ShutdownWrite
        )
    }
}

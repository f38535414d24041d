//! What is queued behind the head, in the room of a pointer where nothing ever was: most
//! connections push small replies and nothing else.

use std::collections::VecDeque;
use std::mem;

use super::Item;

/// A deque that is allocated at its first use.
#[derive(Default)]
pub(super) struct Items(Option<Box<Inner>>);

#[derive(Default)]
struct Inner {
    items: VecDeque<Item>,
    /// How many of them are producers and hooks. Counted as they come and go: the output limit looks
    /// at it with every push above the mark.
    callable: usize,
    /// So much of the queue's weight does not count against the output limit. This and the next are
    /// here, because few connections ever have them.
    exempt: usize,
    /// So much input waits for the queue, and takes that much of its room.
    beside: usize,
}

impl Items {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|inner| inner.items.is_empty())
    }

    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |inner| inner.items.len())
    }

    /// How many are producers and hooks.
    pub(super) fn callable(&self) -> usize {
        self.0.as_ref().map_or(0, |inner| inner.callable)
    }

    #[inline]
    pub(super) fn beside(&self) -> usize {
        self.0.as_ref().map_or(0, |inner| inner.beside)
    }

    pub(super) fn set_beside(&mut self, bytes: usize) {
        self.0.get_or_insert_default().beside = bytes;
    }

    pub(super) fn exempt(&self) -> usize {
        self.0.as_ref().map_or(0, |inner| inner.exempt)
    }

    pub(super) fn set_exempt(&mut self, weight: usize) {
        self.0.get_or_insert_default().exempt = weight;
    }

    /// So many bytes of the queue are sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        if let Some(inner) = &mut self.0 {
            inner.exempt = inner.exempt.saturating_sub(bytes);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Item> {
        self.0.iter().flat_map(|inner| &inner.items)
    }

    pub(super) fn front(&self) -> Option<&Item> {
        self.0.as_ref()?.items.front()
    }

    /// The last one, to add to.
    pub(super) fn back_mut(&mut self) -> Option<&mut Item> {
        self.0.as_mut()?.items.back_mut()
    }

    pub(super) fn push_back(&mut self, item: Item) {
        let inner = self.0.get_or_insert_default();
        inner.callable += usize::from(item.is_callable());
        inner.items.push_back(item);
    }

    pub(super) fn push_front(&mut self, item: Item) {
        let inner = self.0.get_or_insert_default();
        inner.callable += usize::from(item.is_callable());
        inner.items.push_front(item);
    }

    pub(super) fn pop_front(&mut self) -> Option<Item> {
        let inner = self.0.as_mut()?;
        let item = inner.items.pop_front()?;
        inner.callable -= usize::from(item.is_callable());
        Some(item)
    }

    pub(super) fn pop_back(&mut self) -> Option<Item> {
        let inner = self.0.as_mut()?;
        let item = inner.items.pop_back()?;
        inner.callable -= usize::from(item.is_callable());
        Some(item)
    }

    pub(super) fn take(&mut self) -> VecDeque<Item> {
        let Some(inner) = &mut self.0 else {
            return VecDeque::new();
        };
        (inner.callable, inner.exempt) = (0, 0);
        mem::take(&mut inner.items)
    }
}

impl Item {
    fn is_callable(&self) -> bool {
        matches!(self, Item::Producer(_) | Item::Asked | Item::Hook(_))
    }
}

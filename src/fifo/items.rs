//! What is queued behind the head, in the room of a pointer where nothing ever was: most
//! connections push small replies and nothing else.

use std::collections::VecDeque;

use super::Item;

/// A deque that is allocated at its first use.
#[derive(Default)]
#[expect(
    clippy::box_collection,
    reason = "three words less in every connection"
)]
pub(super) struct Items(Option<Box<VecDeque<Item>>>);

impl Items {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|items| items.is_empty())
    }

    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |items| items.len())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Item> {
        self.0.as_deref().into_iter().flatten()
    }

    pub(super) fn front(&self) -> Option<&Item> {
        self.0.as_ref()?.front()
    }

    pub(super) fn back_mut(&mut self) -> Option<&mut Item> {
        self.0.as_mut()?.back_mut()
    }

    pub(super) fn push_back(&mut self, item: Item) {
        self.0.get_or_insert_default().push_back(item);
    }

    pub(super) fn push_front(&mut self, item: Item) {
        self.0.get_or_insert_default().push_front(item);
    }

    pub(super) fn pop_front(&mut self) -> Option<Item> {
        self.0.as_mut()?.pop_front()
    }

    pub(super) fn take(&mut self) -> VecDeque<Item> {
        self.0.take().map_or_else(VecDeque::new, |items| *items)
    }
}

//! What is queued behind the head, in the room of a pointer where nothing ever was: most
//! connections push small replies and nothing else.

use std::collections::VecDeque;
use std::mem;

use super::Item;
use crate::producer::Producer;

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

    /// The producer at this place, if it is one, to be asked. Its place is kept.
    pub(super) fn ask(&mut self, at: usize) -> Option<Box<dyn Producer>> {
        let item = self.0.as_mut()?.get_mut(at)?;
        match mem::replace(item, Item::Asked) {
            Item::Producer(producer) => Some(producer),
            other => {
                *item = other;
                None
            }
        }
    }

    /// The place of the producer that is being asked.
    pub(super) fn asked(&self) -> Option<usize> {
        self.iter().position(|item| matches!(item, Item::Asked))
    }

    pub(super) fn replace(&mut self, at: usize, item: Item) {
        if let Some(place) = self.0.as_mut().and_then(|items| items.get_mut(at)) {
            *place = item;
        }
    }

    pub(super) fn insert(&mut self, at: usize, item: Item) {
        self.0.get_or_insert_default().insert(at, item);
    }

    /// Puts small data before this place: together with what is small there already.
    pub(super) fn insert_small(&mut self, at: usize, data: &[u8]) {
        let items = self.0.get_or_insert_default();
        let before = at.checked_sub(1).and_then(|before| items.get_mut(before));
        match before {
            Some(Item::Small(tail)) => tail.extend_from_slice(data),
            _ => items.insert(at, Item::Small(data.to_vec())),
        }
    }

    pub(super) fn remove(&mut self, at: usize) {
        if let Some(items) = &mut self.0 {
            items.remove(at);
        }
    }

    pub(super) fn take(&mut self) -> VecDeque<Item> {
        self.0.take().map_or_else(VecDeque::new, |items| *items)
    }
}

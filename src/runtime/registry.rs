//! The registered channels: asyncore's `socket_map`, with poll keys that cannot be confused.
//!
//! asyncore keyed its map by file descriptor. A callback that closed one channel and opened another could
//! get the same number, and the remaining events of that batch reached the wrong object (gh-75114). Here a
//! poll key consists of a slot and a generation. Each registration with the poller gets a new generation. An
//! event whose generation is not that of the slot is not for its channel.

use std::rc::Rc;

use slab::Slab;

use super::driver::Driver;
use crate::state::{ChannelId, ChannelState, NO_WORKER};

/// The low half of a poll key is the slot, the high half the generation.
const SLOT_BITS: u32 = usize::BITS / 2;
const SLOT_MASK: usize = (1 << SLOT_BITS) - 1;

/// The channels of one loop.
pub(super) struct Registry {
    slots: Slab<Slot>,
    /// The number of the worker that the loop belongs to: a part of the ids of its channels.
    worker: u16,
    /// The last generation that was assigned, to any slot. No two keys are equal until all generations have
    /// been used.
    generation: usize,
}

struct Slot {
    /// The generation of its last poll key; [`NONE`] before the first.
    generation: usize,
    state: Rc<ChannelState>,
    /// Absent during a call of it, and before the handler is made.
    driver: Option<Box<dyn Driver>>,
}

/// The generation of a slot that has had no poll key. No poll key has it.
const NONE: usize = 0;

/// The last generation before the first one follows again. A generation of all ones would make, with
/// [`NO_SLOT`], a key that the pollers reserve.
const LAST: usize = SLOT_MASK - 1;

/// The slot in a key that belongs to no channel.
const NO_SLOT: usize = SLOT_MASK;

impl Default for Registry {
    fn default() -> Self {
        Registry {
            slots: Slab::new(),
            worker: NO_WORKER,
            generation: 0,
        }
    }
}

impl Registry {
    /// Its channels get the number of this worker.
    pub(super) fn set_worker(&mut self, worker: u16) {
        self.worker = worker;
    }

    /// Adds a channel. `None` if there are as many as poll keys can distinguish.
    pub(super) fn insert(&mut self, state: &Rc<ChannelState>) -> Option<ChannelId> {
        let entry = self.slots.vacant_entry();
        let slot = entry.key();
        if slot >= NO_SLOT {
            return None;
        }
        let slot = u32::try_from(slot).ok()?;
        let id = state.id.get().registered(slot, self.worker);
        state.id.set(id);
        entry.insert(Slot {
            generation: NONE,
            state: Rc::clone(state),
            driver: None,
        });
        Some(id)
    }

    fn slot(&self, id: ChannelId) -> Option<&Slot> {
        let slot = self.slots.get(id.slot()?)?;
        (slot.state.id.get() == id).then_some(slot)
    }

    fn slot_mut(&mut self, id: ChannelId) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(id.slot()?)?;
        (slot.state.id.get() == id).then_some(slot)
    }

    /// The slot of a channel, if it is registered.
    #[inline]
    fn slot_of(&mut self, state: &Rc<ChannelState>) -> Option<&mut Slot> {
        // An id from before the registration has a number that no slot has.
        let slot = self.slots.get_mut(state.id.get().slot_number())?;
        Rc::ptr_eq(&slot.state, state).then_some(slot)
    }

    pub(super) fn get(&self, id: ChannelId) -> Option<&Rc<ChannelState>> {
        if id.slot().is_none() {
            // It was taken before the registration, which is rare: only a dispatcher can do that.
            let mut states = self.slots.iter().map(|(_, slot)| &slot.state);
            return states.find(|state| state.id.get() == id);
        }
        self.slot(id).map(|slot| &slot.state)
    }

    /// Takes the driver out for a call.
    #[inline]
    pub(super) fn take_driver(&mut self, state: &Rc<ChannelState>) -> Option<Box<dyn Driver>> {
        self.slot_of(state)?.driver.take()
    }

    /// Puts a driver into its slot. Returns it if the channel is gone.
    #[inline]
    pub(super) fn put_driver(
        &mut self,
        state: &Rc<ChannelState>,
        driver: Box<dyn Driver>,
    ) -> Option<Box<dyn Driver>> {
        match self.slot_of(state) {
            Some(slot) => slot.driver.replace(driver),
            None => Some(driver),
        }
    }

    /// Removes a channel. Returns its driver, if it has one.
    pub(super) fn remove(&mut self, id: ChannelId) -> Option<Option<Box<dyn Driver>>> {
        self.slot(id)?;
        self.slots.try_remove(id.slot()?).map(|slot| slot.driver)
    }

    /// A new key to register the channel with the poller. All earlier keys of the channel become stale.
    pub(super) fn poll_key(&mut self, id: ChannelId) -> usize {
        let generation = self.next_generation();
        let Some(slot) = self.slot_mut(id) else {
            return key(NO_SLOT, generation);
        };
        slot.generation = generation;
        key(id.slot().unwrap_or(NO_SLOT), generation)
    }

    /// A new key that belongs to no channel.
    pub(super) fn unregistered_key(&mut self) -> usize {
        key(NO_SLOT, self.next_generation())
    }

    fn next_generation(&mut self) -> usize {
        self.generation = self.generation % LAST + 1;
        self.generation
    }

    /// The current key of the channel, if it has one.
    pub(super) fn key_of(&self, id: ChannelId) -> Option<usize> {
        let generation = self.slot(id)?.generation;
        (generation != NONE).then(|| key(id.slot().unwrap_or(NO_SLOT), generation))
    }

    /// The channel of this key, unless the key is stale.
    pub(super) fn by_key(&self, poll_key: usize) -> Option<&Rc<ChannelState>> {
        let generation = poll_key >> SLOT_BITS;
        let slot = self.slots.get(poll_key & SLOT_MASK)?;
        (slot.generation == generation && generation != NONE).then_some(&slot.state)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn channels(&self) -> Vec<Rc<ChannelState>> {
        self.slots
            .iter()
            .map(|(_, slot)| Rc::clone(&slot.state))
            .collect()
    }
}

fn key(slot: usize, generation: usize) -> usize {
    (generation << SLOT_BITS) | slot
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Channel;

    /// Registers one more channel.
    fn insert(registry: &mut Registry) -> ChannelId {
        let channel = Channel::connect("127.0.0.1:9").expect("an address");
        let state = channel.0;
        registry.insert(&state).expect("there is room")
    }

    fn named(registry: &Registry, poll_key: usize) -> Option<ChannelId> {
        registry.by_key(poll_key).map(|state| state.id.get())
    }

    #[test]
    fn a_key_names_its_channel_until_it_gets_another_or_is_gone() {
        let mut registry = Registry::default();
        let id = insert(&mut registry);
        let first = registry.poll_key(id);
        assert_eq!(named(&registry, first), Some(id));
        let second = registry.poll_key(id);
        assert_eq!(named(&registry, first), None);
        assert_eq!(named(&registry, second), Some(id));
        registry.remove(id);
        assert_eq!(named(&registry, second), None);
    }

    #[test]
    fn a_stale_key_names_nobody_who_took_the_place() {
        let mut registry = Registry::default();
        let gone = insert(&mut registry);
        let stale = registry.poll_key(gone);
        registry.remove(gone);
        let next = insert(&mut registry);
        assert_eq!(next.slot(), gone.slot());
        // Not before it has a key of its own, and not after.
        assert_eq!(named(&registry, stale), None);
        let fresh = registry.poll_key(next);
        assert_eq!(named(&registry, stale), None);
        assert_eq!(named(&registry, fresh), Some(next));
    }

    #[test]
    fn the_key_of_a_channel_that_is_gone_names_nobody() {
        let mut registry = Registry::default();
        let gone = insert(&mut registry);
        registry.remove(gone);
        let nobody = registry.poll_key(gone);
        insert(&mut registry);
        assert_eq!(named(&registry, nobody), None);
    }

    #[test]
    fn a_strangers_key_names_nobody_and_no_two_are_alike() {
        let mut registry = Registry::default();
        let id = insert(&mut registry);
        let keys = [(); 3].map(|()| registry.unregistered_key());
        assert!(keys[0] != keys[1] && keys[1] != keys[2]);
        assert!(keys.iter().all(|key| named(&registry, *key).is_none()));
        let own = registry.poll_key(id);
        assert_eq!(named(&registry, own), Some(id));
    }

    #[test]
    fn no_key_is_one_that_a_poller_keeps() {
        let mut registry = Registry {
            generation: LAST - 1,
            ..Registry::default()
        };
        let id = insert(&mut registry);
        let last = registry.unregistered_key();
        assert!(last < usize::MAX - 1);
        // The first generation follows, not the one of a slot without a key.
        let key = registry.poll_key(id);
        assert_eq!(key >> SLOT_BITS, NONE + 1);
        assert_eq!(named(&registry, key), Some(id));
    }
}

//! Who is registered: asyncore's `socket_map`, with keys that can not be mistaken.
//!
//! asyncore keyed its map by file descriptor. A callback that closed one channel and opened
//! another could get the same number again, and the events still to come in that batch reached
//! the wrong object (gh-75114). Here a poll key carries a generation besides its slot, new at
//! each registration with the poller, and an event whose generation is not the slot's is not that
//! channel's.

use std::any::TypeId;
use std::fmt;
use std::rc::Rc;

use slab::Slab;

use crate::channel::dispatcher::Driven;
use crate::serial;
use crate::state::ChannelState;

/// Names a channel, on any thread, for as long as the process lives: no id is used twice, so a
/// late message can not reach a connection that took another's place.
///
/// ```
/// # fn main() -> asynchat::Result {
/// let chat = asynchat::connect("127.0.0.1:9", |chat| move |_: &[u8]| { chat.close(); Ok(()) })?;
/// let id = chat.id();
/// assert!(asynchat::chat(id).is_some());
/// chat.close();
/// asynchat::run()?;
/// assert!(asynchat::chat(id).is_none());
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId {
    serial: u64,
    slot: u32,
}

impl ChannelId {
    /// What a channel has that is not registered.
    pub(crate) const NOBODY: ChannelId = ChannelId {
        serial: 0,
        slot: u32::MAX,
    };

    fn new(slot: u32) -> Self {
        let serial = serial::next();
        ChannelId { serial, slot }
    }
}

impl fmt::Debug for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChannelId({})", self.serial)
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.serial)
    }
}

/// How a poll key is split: the low half is the slot, the high half the generation.
const SLOT_BITS: u32 = usize::BITS / 2;
const SLOT_MASK: usize = (1 << SLOT_BITS) - 1;

/// The channels of one loop.
#[derive(Default)]
pub(crate) struct Registry {
    slots: Slab<Slot>,
    /// The last generation given out, to whichever slot: no two keys are alike, until all have been
    /// given out.
    generation: usize,
}

pub(crate) struct Slot {
    /// The generation of its last poll key; none before the first.
    generation: usize,
    pub(crate) state: Rc<ChannelState>,
    /// The dispatcher; absent while one of its callbacks runs.
    pub(crate) driven: Option<Box<dyn Driven>>,
    /// Says which type `post` may ask for.
    pub(crate) handler: fn() -> TypeId,
}

/// What no poll key's generation is: the one of a slot that has had no key.
const NONE: usize = 0;

/// The last generation before the first comes again. All ones would make, with [`NO_SLOT`], a key
/// that the pollers keep for themselves.
const LAST: usize = SLOT_MASK - 1;

/// The slot in a key that is no channel's.
const NO_SLOT: usize = SLOT_MASK;

impl Registry {
    /// Takes a channel in. `None` when there are as many as the poll keys can tell apart; then the
    /// dispatcher stays with the caller, who drops it when the registry is not borrowed any more.
    pub(crate) fn insert(
        &mut self,
        state: Rc<ChannelState>,
        driven: &mut Option<Box<dyn Driven>>,
        handler: fn() -> TypeId,
    ) -> Option<ChannelId> {
        let entry = self.slots.vacant_entry();
        let slot = entry.key();
        if slot >= NO_SLOT {
            return None;
        }
        let id = ChannelId::new(u32::try_from(slot).ok()?);
        state.id.set(id);
        entry.insert(Slot {
            generation: NONE,
            state,
            driven: driven.take(),
            handler,
        });
        Some(id)
    }

    pub(crate) fn get(&self, id: ChannelId) -> Option<&Slot> {
        let slot = self.slots.get(id.slot as usize)?;
        (slot.state.id.get() == id).then_some(slot)
    }

    pub(crate) fn get_mut(&mut self, id: ChannelId) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        (slot.state.id.get() == id).then_some(slot)
    }

    pub(crate) fn remove(&mut self, id: ChannelId) -> Option<Slot> {
        self.get(id)?;
        self.slots.try_remove(id.slot as usize)
    }

    /// A key to register with the poller, which makes all earlier ones of this channel stale.
    pub(crate) fn poll_key(&mut self, id: ChannelId) -> usize {
        let generation = self.next_generation();
        match self.get_mut(id) {
            Some(slot) => {
                slot.generation = generation;
                key(id.slot as usize, generation)
            }
            None => key(NO_SLOT, generation),
        }
    }

    /// A key that no channel has: what is watched under it is not registered.
    pub(crate) fn stranger_key(&mut self) -> usize {
        key(NO_SLOT, self.next_generation())
    }

    fn next_generation(&mut self) -> usize {
        self.generation = self.generation % LAST + 1;
        self.generation
    }

    /// The key it has, if it has one.
    pub(crate) fn key_of(&self, id: ChannelId) -> Option<usize> {
        let generation = self.get(id)?.generation;
        (generation != NONE).then(|| key(id.slot as usize, generation))
    }

    /// Whose key it is, if it is not stale.
    pub(crate) fn by_key(&self, poll_key: usize) -> Option<&Rc<ChannelState>> {
        let generation = poll_key >> SLOT_BITS;
        let slot = self.slots.get(poll_key & SLOT_MASK)?;
        (slot.generation == generation && generation != NONE).then_some(&slot.state)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn channels(&self) -> Vec<Rc<ChannelState>> {
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
        registry
            .insert(state, &mut None, TypeId::of::<()>)
            .expect("there is room")
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
        assert_eq!(next.slot, gone.slot);
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
        let keys = [(); 3].map(|()| registry.stranger_key());
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
        let last = registry.stranger_key();
        assert!(last < usize::MAX - 1);
        // The first again, and not the generation of those that have none.
        let key = registry.poll_key(id);
        assert_eq!(key >> SLOT_BITS, NONE + 1);
        assert_eq!(named(&registry, key), Some(id));
    }
}

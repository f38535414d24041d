//! The name of a channel.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use crate::serial;

/// Names a channel, on any thread, for as long as the process lives. No id is used twice, so a late
/// message cannot reach a connection that took another's place. A channel has its id from its creation, before it
/// is registered with a loop. Ids are ordered by creation.
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
#[derive(Clone, Copy)]
pub struct ChannelId {
    serial: u64,
    /// The slot of the channel in its loop's registry; [`NO_SLOT`] in an id that was taken before the registration.
    slot: u32,
}

const NO_SLOT: u32 = u32::MAX;

impl ChannelId {
    /// The id of no channel.
    pub(crate) const NONE: ChannelId = ChannelId {
        serial: 0,
        slot: NO_SLOT,
    };

    /// A new id, of a channel that is not registered.
    pub(crate) fn new() -> Self {
        ChannelId {
            serial: serial::next(),
            slot: NO_SLOT,
        }
    }

    /// The same id, of a channel that is registered.
    pub(crate) fn in_slot(self, slot: u32) -> Self {
        ChannelId { slot, ..self }
    }

    /// `None` in an id that was taken before the registration.
    pub(crate) fn slot(self) -> Option<usize> {
        (self.slot != NO_SLOT).then_some(self.slot as usize)
    }
}

// The same channel has the same id before and after its registration.

impl PartialEq for ChannelId {
    fn eq(&self, other: &Self) -> bool {
        self.serial == other.serial
    }
}

impl Eq for ChannelId {}

impl Hash for ChannelId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.serial.hash(state);
    }
}

impl PartialOrd for ChannelId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ChannelId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.serial.cmp(&other.serial)
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

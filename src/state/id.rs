//! The name of a channel.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use crate::serial;

/// Names a channel, on any thread, for as long as the process lives. No id is used twice, so a late
/// message cannot reach a connection that took another's place. A channel has its id from its creation, before it
/// is registered with a loop. Ids are ordered by creation. The id of a connection of [`Workers`](crate::Workers) also
/// tells which [worker](ChannelId::worker) has it.
///
/// It is shown as `#5`, for logs, and not read from text: a program whose clients name each other has a table of the names.
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
    /// The worker whose loop it is registered with; [`NO_WORKER`] in an id that was taken before the registration, and
    /// of any other loop.
    worker: u16,
}

const NO_SLOT: u32 = u32::MAX;
pub(crate) const NO_WORKER: u16 = u16::MAX;

impl ChannelId {
    /// The id of no channel.
    pub(crate) const NONE: ChannelId = ChannelId {
        serial: 0,
        slot: NO_SLOT,
        worker: NO_WORKER,
    };

    /// A new id, of a channel that is not registered.
    pub(crate) fn new() -> Self {
        ChannelId {
            serial: serial::next(),
            slot: NO_SLOT,
            worker: NO_WORKER,
        }
    }

    /// The same id, of a channel that is registered with the loop of this worker.
    pub(crate) fn registered(self, slot: u32, worker: u16) -> Self {
        ChannelId {
            slot,
            worker,
            ..self
        }
    }

    /// The number of the [worker](crate::Worker) whose loop has the channel. `None` for a channel of any other loop,
    /// and in the id that a channel had before it was registered.
    pub fn worker(self) -> Option<usize> {
        (self.worker != NO_WORKER).then_some(usize::from(self.worker))
    }

    /// Whether it is known not to be registered with the loop of this worker. The id from before a registration does not
    /// tell.
    pub(crate) fn is_of_another_loop(self, worker: u16) -> bool {
        self.slot != NO_SLOT && self.worker != worker
    }

    /// The slot, or a number that no slot has.
    #[inline]
    pub(crate) fn slot_number(self) -> usize {
        self.slot as usize
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

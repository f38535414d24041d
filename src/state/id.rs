//! The name of a channel.

use std::fmt;

use crate::serial;

/// Names a channel, on any thread, for as long as the process lives. No id is used twice, so a late
/// message cannot reach a connection that took another's place.
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
    /// The id of a channel that is not registered.
    pub(crate) const NONE: ChannelId = ChannelId {
        serial: 0,
        slot: u32::MAX,
    };

    /// A new id, of a channel in this slot of its loop's registry.
    pub(crate) fn new(slot: u32) -> Self {
        ChannelId {
            serial: serial::next(),
            slot,
        }
    }

    pub(crate) fn slot(self) -> usize {
        self.slot as usize
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

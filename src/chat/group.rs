//! A set of connections to say the same thing to.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use bytes::Bytes;

use super::handle::Chat;
use crate::error::Close;
use crate::state::{ChannelId, Flag};

/// Some connections, all of which can be told something at once: a room, the subscribers of a channel.
///
/// It is a handle: cheap to clone, and all clones are the same group. As with a [`Chat`], none of its
/// methods calls your code, so it can be pushed to from anywhere. A member that has closed is forgotten
/// without being removed. A connection may be a member of any number of groups.
///
/// ```
/// use asynchat::{Group, Limits};
///
/// let room = Group::default();
/// // Who has not read 256 KiB of what was said is cut off.
/// room.set_slow_readers(256 * 1024, asynchat::SlowReader::Close);
/// # let listener =
/// asynchat::listen("127.0.0.1:0", move |chat| {
///     room.push("somebody has come\r\n");
///     room.add(&chat);
///     let room = room.clone();
///     move |line: &[u8]| {
///         room.push_except(chat.id(), [line, b"\r\n"].concat());
///         Ok(())
///     }
/// })?;
/// # listener.close();
/// # asynchat::run()?;
/// # Ok::<(), asynchat::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Group(Rc<RefCell<Members>>);

#[derive(Default)]
struct Members {
    /// By id, which is the order in which they came to be: so a run can be repeated.
    chats: BTreeMap<ChannelId, Chat>,
    slow: Option<(usize, SlowReader)>,
    /// At so many it is time to forget those that have closed.
    crowd: usize,
}

/// What is done about a member of a [`Group`] that does not read what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowReader {
    /// It misses what is said until it has read up: for what is out of date soon, positions and prices.
    Skip,
    /// Its connection is closed with [`Close::OutputLimit`] and a reset, and what is queued for it is
    /// lost.
    Close,
}

/// Below this many members none is looked for that has closed.
const FEW: usize = 32;

impl Group {
    /// Makes this connection a member, if it is open. Being one already changes nothing.
    ///
    /// A connection has its [id](crate::Channel::id) once it is registered; chats that your handlers and
    /// [`connect`](crate::connect) get always are.
    pub fn add(&self, chat: &Chat) {
        let mut members = self.0.borrow_mut();
        // A group that is only added to does not grow with those that have gone either, and to look for
        // them whenever there are twice as many costs each member the same, however many there are.
        let mut gone = BTreeMap::new();
        if members.chats.len() >= members.crowd.max(FEW) {
            gone = members.take_closed();
            members.crowd = members.chats.len() * 2;
        }
        if chat.is_open() {
            members.chats.insert(chat.id(), chat.clone());
        }
        drop(members);
        drop(gone);
    }

    /// Ends a membership, and says whether there was one. The connection goes on.
    pub fn remove(&self, id: ChannelId) -> bool {
        let removed = self.0.borrow_mut().chats.remove(&id);
        removed.is_some()
    }

    /// Pushes `data` to every member. Large data is shared by all their queues, and copied into none.
    pub fn push(&self, data: impl Into<Bytes>) {
        self.push_to_all_but(None, &data.into());
    }

    /// Pushes `data` to every member but this one: mostly the one who said it.
    pub fn push_except(&self, id: ChannelId, data: impl Into<Bytes>) {
        self.push_to_all_but(Some(id), &data.into());
    }

    /// What is done about a member whose peer takes nothing more for now, and for which more than `bound`
    /// bytes are queued, when something more is to be pushed to it. Some of what waits may have been
    /// pushed in this very turn of the loop, so let the bound be a few times
    /// [`turn_read`](crate::Limits::turn_read), which is what one member can say in a turn.
    ///
    /// Unless this is called, nothing is done: then [`Limits::output`](crate::Limits::output) ends its
    /// connection some day, as that of anybody who does not read.
    pub fn set_slow_readers(&self, bound: usize, policy: SlowReader) {
        self.0.borrow_mut().slow = Some((bound, policy));
    }

    /// How many members are open. It looks at each.
    pub fn len(&self) -> usize {
        let gone = self.0.borrow_mut().take_closed();
        drop(gone);
        self.0.borrow().chats.len()
    }

    /// Whether no member is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this connection is a member, and open.
    pub fn contains(&self, id: ChannelId) -> bool {
        let members = self.0.borrow();
        members.chats.get(&id).is_some_and(|chat| chat.is_open())
    }

    /// The members that are open now, in the order in which their connections came to be. Who is added
    /// or removed meanwhile does not matter to it.
    pub fn iter(&self) -> impl Iterator<Item = Chat> + use<> {
        let members = self.0.borrow();
        let open = members.chats.values().filter(|chat| chat.is_open());
        open.cloned().collect::<Vec<_>>().into_iter()
    }

    fn push_to_all_but(&self, except: Option<ChannelId>, data: &Bytes) {
        let mut members = self.0.borrow_mut();
        let slow = members.slow;
        let gone = members.take_closed();
        // None of what is done to a chat here calls anybody, so the members may stay borrowed.
        for (id, chat) in &members.chats {
            if Some(*id) == except {
                continue;
            }
            match slow {
                Some((bound, policy)) if is_slow(chat, bound) => policy.apply(chat),
                _ => chat.push(data.clone()),
            }
        }
        drop(members);
        drop(gone);
    }
}

/// What is queued is no fault of a member that has not had its turn to send it yet.
fn is_slow(chat: &Chat, bound: usize) -> bool {
    chat.state().flags.has(Flag::BLOCKED) && chat.queued() > bound
}

impl Members {
    /// Forgets those that have closed. They are to be dropped when the members are not borrowed any
    /// more: the last handle of a channel ends its span, which calls the user's subscriber.
    #[must_use]
    fn take_closed(&mut self) -> BTreeMap<ChannelId, Chat> {
        let mut gone = BTreeMap::new();
        self.chats.retain(|id, chat| {
            let open = chat.is_open();
            if !open {
                gone.insert(*id, chat.clone());
            }
            open
        });
        gone
    }
}

impl SlowReader {
    fn apply(self, chat: &Chat) {
        if self == SlowReader::Close {
            chat.state().end(Close::OutputLimit);
        }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Group").field(&self.iter().count()).finish()
    }
}

#[cfg(all(test, feature = "sim"))]
mod tests {
    use super::*;
    use crate::sim::Network;
    use crate::{Connector, Result};

    #[test]
    fn a_group_that_is_only_added_to_forgets_who_has_closed() -> Result {
        let network = Network::new(1);
        let event_loop = network.event_loop()?;
        let group = Group::default();
        for _ in 0..1000 {
            let (socket, peer) = network.pair();
            let connector = Connector::adopt(socket);
            group.add(&connector.connect_on(&event_loop, |_| |_: &[u8]| Ok(()))?);
            drop(peer);
            network.settle(&event_loop)?;
            assert!(group.0.borrow().chats.len() <= FEW);
        }
        Ok(())
    }
}

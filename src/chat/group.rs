//! `Group`: connections that receive the same output.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::handle::Chat;
use crate::error::Close;
use crate::state::{ChannelId, Flag};

/// A set of connections that receive the same output: a chat room, or the subscribers of a topic.
///
/// All clones of a group are the same group. No method makes a callback. A member whose connection has ended
/// is removed by itself. A connection may be a member of any number of groups.
///
/// ```
/// use asynchat::{Group, Limits};
///
/// let room = Group::default();
/// // A member whose peer does not read is closed when more than 256 KiB are queued for it.
/// room.set_slow_readers(256 * 1024, asynchat::SlowReader::Abort);
/// # let listener =
/// asynchat::listen("127.0.0.1:0", move |chat| {
///     room.push("somebody has joined\r\n");
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
    /// Sorted by id, so that the order of pushes is the same in each run.
    chats: BTreeMap<ChannelId, Chat>,
    slow: Option<(usize, SlowReader)>,
    /// With this many members, `add` removes closed members.
    prune_at: usize,
    /// Whether there are members, for the threads of other workers.
    is_occupied: Option<Arc<AtomicBool>>,
}

/// What happens to a member of a [`Group`] whose peer does not read. See [`Group::set_slow_readers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlowReader {
    /// Pushes to the group leave this member out while it is slow. For data that soon becomes obsolete, such as
    /// positions and prices.
    Skip,
    /// The connection ends with [`Close::OutputLimit`] and a reset. Its queue is dropped.
    Abort,
}

/// Below this many members, `add` does not look for closed members.
const PRUNE_MIN: usize = 32;

impl Group {
    /// A part of a group that has members on other workers, too.
    pub(crate) fn shared(is_occupied: &Arc<AtomicBool>) -> Self {
        Group(Rc::new(RefCell::new(Members {
            is_occupied: Some(Arc::clone(is_occupied)),
            ..Members::default()
        })))
    }

    /// Adds a connection, if it is open. Has no effect if it is a member already. The connection must be
    /// registered, as the chats of handlers and those returned by [`connect`](crate::connect) are: its
    /// [id](crate::Chat::id) names it in the group.
    pub fn add(&self, chat: &Chat) {
        let mut members = self.0.borrow_mut();
        // A group that is only added to must not grow with closed members. Looking for them when the number
        // of members has doubled costs a constant time for each member.
        let mut gone = BTreeMap::new();
        if members.chats.len() >= members.prune_at.max(PRUNE_MIN) {
            gone = members.take_closed();
            members.prune_at = members.chats.len() * 2;
        }
        if chat.is_open() {
            members.chats.insert(chat.id(), chat.clone());
            members.note_occupied();
        }
        drop(members);
        drop(gone);
    }

    /// Removes a member. Returns whether it was one. Its connection stays open.
    pub fn remove(&self, id: ChannelId) -> bool {
        let mut members = self.0.borrow_mut();
        let removed = members.chats.remove(&id);
        members.note_occupied();
        drop(members);
        removed.is_some()
    }

    /// Pushes `data` to every member. Large data is shared by all queues, not copied. Returns how many members
    /// it was queued for. Members that are ending, and slow ones that the
    /// [policy](Group::set_slow_readers) leaves out, do not count.
    ///
    /// ```
    /// # let room = asynchat::Group::default();
    /// if room.push("is anybody here?\r\n") == 0 {
    ///     println!("the room is empty");
    /// }
    /// ```
    pub fn push(&self, data: impl Into<Bytes>) -> usize {
        self.push_to_all_but(None, &data.into())
    }

    /// Pushes `data` to every member except this one, for example the sender of a message. Returns how many
    /// members it was queued for, as [`push`](Group::push) does.
    pub fn push_except(&self, id: ChannelId, data: impl Into<Bytes>) -> usize {
        self.push_to_all_but(Some(id), &data.into())
    }

    /// Sets what happens to slow members. A member is slow while its peer takes no more output and more than
    /// `bound` bytes are queued for it. The policy is applied when something is pushed to the group.
    ///
    /// Output that was pushed in the current turn of the loop counts, although the peer had no time to take
    /// it. The bound should therefore be a few times
    /// [`Limits::turn_read`](crate::Limits#structfield.turn_read), which is what one member can cause in a
    /// turn.
    ///
    /// Default: no policy. A peer that does not read is then closed at
    /// [`Limits::output`](crate::Limits#structfield.output).
    ///
    /// A [`SharedGroup`](crate::SharedGroup) has a policy on each worker. It is forgotten when the group has no member and
    /// no handle on that worker: set it whenever you get the group, or keep the handle.
    pub fn set_slow_readers(&self, bound: usize, policy: SlowReader) {
        self.0.borrow_mut().slow = Some((bound, policy));
    }

    /// Applies the policy for slow members after the loss of a push to the group: to all members that would have taken it.
    pub(crate) fn apply_policy_for_loss(&self) {
        let mut members = self.0.borrow_mut();
        let policy = members.slow.map_or(SlowReader::Abort, |(_, policy)| policy);
        let gone = members.take_closed();
        let open = members.chats.values().filter(|chat| takes_output(chat));
        let missing: Vec<_> = open.cloned().collect();
        drop(members);
        drop(gone);
        for chat in missing {
            if policy == SlowReader::Abort {
                // All that was queued may have been sent. Without a reset the stream would look complete.
                chat.state().reset_on_close();
            }
            policy.apply(&chat);
        }
    }

    /// Whether it has a member, closed or open, or another handle than this one.
    pub(crate) fn is_used(&self) -> bool {
        Rc::strong_count(&self.0) > 1 || !self.0.borrow().chats.is_empty()
    }

    /// Forgets the policy if nobody uses the group: no member is open, and there is no handle but this one and the one of
    /// the worker's table. Whether an unused group is still in the table must make no difference.
    pub(crate) fn forget_policy_if_unused(&self) {
        let is_unused = Rc::strong_count(&self.0) <= 2 && self.0.borrow().slow.is_some();
        if !is_unused || self.is_first_open() {
            return;
        }
        self.forget_closed();
        let mut members = self.0.borrow_mut();
        if members.chats.is_empty() {
            members.slow = None;
        }
    }

    #[cfg(all(test, feature = "sim"))]
    pub(crate) fn has_policy(&self) -> bool {
        self.0.borrow().slow.is_some()
    }

    /// Whether a member is open, at a cost that does not depend on their number: false if only a later one is.
    fn is_first_open(&self) -> bool {
        let members = self.0.borrow();
        members.chats.values().next().is_some_and(Chat::is_open)
    }

    /// Removes the members that have closed.
    pub(crate) fn forget_closed(&self) {
        let gone = self.0.borrow_mut().take_closed();
        drop(gone);
    }

    /// The number of open members. The cost is linear in the number of members.
    pub fn len(&self) -> usize {
        self.forget_closed();
        self.0.borrow().chats.len()
    }

    /// Whether no member is open. The cost is that of [`len`](Group::len).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this connection is a member and open.
    pub fn contains(&self, id: ChannelId) -> bool {
        let members = self.0.borrow();
        members.chats.get(&id).is_some_and(Chat::is_open)
    }

    /// The members that are open now, in the order of their registration with a loop. Members that are added
    /// or removed during the iteration do not change it.
    pub fn iter(&self) -> impl Iterator<Item = Chat> + use<> {
        let members = self.0.borrow();
        let open = members.chats.values().filter(|chat| chat.is_open());
        open.cloned().collect::<Vec<_>>().into_iter()
    }

    fn push_to_all_but(&self, except: Option<ChannelId>, data: &Bytes) -> usize {
        let mut reached = 0;
        let mut closed = false;
        // The calls below run no user code, so the members may stay borrowed.
        let members = self.0.borrow();
        for (id, chat) in &members.chats {
            if !chat.is_open() {
                closed = true;
                continue;
            }
            if Some(*id) == except {
                continue;
            }
            match members.slow {
                Some((bound, policy)) if is_slow(chat, bound) => policy.apply(chat),
                _ => {
                    chat.push_shared(data);
                    reached += usize::from(takes_output(chat));
                }
            }
        }
        drop(members);
        if closed {
            self.forget_closed();
        }
        reached
    }
}

/// Whether a push that was just made is queued. It is dropped if a close or the end of the sending side is queued,
/// or if a send has failed. It may have ended the connection, because of the output limit.
fn takes_output(chat: &Chat) -> bool {
    chat.state().out.borrow().takes_pushes() && !chat.state().has_failed_sending()
}

/// A member that has not had its turn since the push has not tried to send: what is queued for it does not
/// make it slow.
fn is_slow(chat: &Chat, bound: usize) -> bool {
    chat.state().flags.has(Flag::BLOCKED) && chat.queued() > bound
}

impl Members {
    /// Removes the members that have closed. The caller drops them when the members are no longer borrowed:
    /// the last handle of a channel ends its span, which calls the tracing subscriber.
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
        self.note_occupied();
        gone
    }

    /// Each push of another worker reads it. It is stored when it changes, and by this thread only.
    fn note_occupied(&self) {
        let is_so = !self.chats.is_empty();
        if let Some(is_occupied) = &self.is_occupied
            && is_occupied.load(Ordering::Relaxed) != is_so
        {
            is_occupied.store(is_so, Ordering::SeqCst);
        }
    }
}

impl SlowReader {
    fn apply(self, chat: &Chat) {
        if self == SlowReader::Abort {
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
    use crate::sim::{Ended, Network};
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
            assert!(group.0.borrow().chats.len() <= PRUNE_MIN);
        }
        Ok(())
    }

    /// What was queued has been sent, so an orderly close would make the stream look complete. One that is closing has
    /// had its last output, and would not have taken the push.
    #[test]
    fn members_that_have_missed_a_push_end_with_a_reset_unless_they_are_closing() -> Result {
        let network = Network::new(1);
        let event_loop = network.event_loop()?;
        let group = Group::default();
        let mut peers = Vec::new();
        for is_closing in [false, true] {
            let (socket, peer) = network.pair();
            let connector = Connector::adopt(socket);
            let chat = connector.connect_on(&event_loop, |_| |_: &[u8]| Ok(()))?;
            group.add(&chat);
            network.settle(&event_loop)?;
            if is_closing {
                chat.push("goodbye");
                chat.close_when_done();
            }
            peers.push(peer);
        }
        group.apply_policy_for_loss();
        network.settle(&event_loop)?;
        assert_eq!(peers[0].ended(), Some(Ended::Reset));
        assert_eq!(peers[1].received(), b"goodbye");
        assert_eq!(peers[1].ended(), Some(Ended::Finished));
        Ok(())
    }
}

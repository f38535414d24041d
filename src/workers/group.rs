//! `SharedGroup`: connections of several workers that receive the same output.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::crew::Crew;
use super::worker::Worker;
use crate::chat::group::Group;
use crate::chat::handle::Chat;
use crate::state::ChannelId;
use crate::state::inbox::Post;
use crate::user_code::discard_each;

/// A [`Group`] whose members are on several workers. From [`Worker::group`]: the same name is the same group on each
/// worker. Each worker has its own members, in a `Group` of its own.
///
/// A push costs one post and at most one wake-up for each other worker, however many members there are. Pushes of one
/// worker reach each member in their order.
///
/// ```
/// use asynchat::{Server, Workers};
///
/// # fn main() -> asynchat::Result {
/// let service = Workers::new().threads(2).start(|worker| {
///     let room = worker.group("lobby");
///     worker.listen(Server::new("127.0.0.1:0"), move |chat| {
///         room.push("somebody has joined\r\n");
///         room.add(&chat);
///         let room = room.clone();
///         move |line: &[u8]| {
///             room.push_except(chat.id(), [line, b"\r\n"].concat());
///             Ok(())
///         }
///     })?;
///     Ok(())
/// })?;
/// service.finish()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SharedGroup {
    name: Arc<str>,
    members: Group,
    crew: Arc<Crew>,
    worker: usize,
}

impl SharedGroup {
    pub(super) fn new(groups: &Groups, name: &str, crew: &Arc<Crew>, worker: usize) -> Self {
        let (name, members) = groups.find_or_add(name);
        SharedGroup {
            name,
            members,
            crew: Arc::clone(crew),
            worker,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its members on this worker: to remove one, to count them, or to set what happens to
    /// [slow readers](Group::set_slow_readers) among them.
    pub fn members(&self) -> &Group {
        &self.members
    }

    /// Adds a connection of this worker: see [`Group::add`].
    pub fn add(&self, chat: &Chat) {
        self.members.add(chat);
    }

    /// Pushes `data` to every member. Those of this worker have it queued when this returns, those of other workers when
    /// their loops make the call.
    pub fn push(&self, data: impl Into<Bytes>) {
        let data = data.into();
        self.push_elsewhere(&data);
        self.members.push(data);
    }

    /// Pushes `data` to every member except this one, which is one of this worker.
    pub fn push_except(&self, id: ChannelId, data: impl Into<Bytes>) {
        let data = data.into();
        self.push_elsewhere(&data);
        self.members.push_except(id, data);
    }

    fn push_elsewhere(&self, data: &Bytes) {
        let inboxes = self.crew.inboxes.iter().enumerate();
        for (_, inbox) in inboxes.filter(|(number, _)| *number != self.worker) {
            let (name, data) = (Arc::clone(&self.name), data.clone());
            let push = move || {
                let worker = Worker::current();
                // Where it has no members, it may not exist.
                if let Some(group) = worker.and_then(|worker| worker.groups().find(&name)) {
                    group.push(data);
                }
            };
            // A worker that has ended has no members.
            let _ = inbox.send(Post::Call(Box::new(push)));
        }
    }
}

impl fmt::Debug for SharedGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedGroup")
            .field("name", &self.name)
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

/// The shared groups of a worker, by name.
#[derive(Default)]
pub(super) struct Groups(RefCell<Named>);

#[derive(Default)]
struct Named {
    groups: BTreeMap<Arc<str>, Group>,
    /// With this many groups, unused ones are removed.
    prune_at: usize,
}

/// Below this many groups, nobody looks for unused ones.
const PRUNE_MIN: usize = 32;

impl Groups {
    fn find_or_add(&self, name: &str) -> (Arc<str>, Group) {
        let mut named = self.0.borrow_mut();
        if let Some((name, group)) = named.groups.get_key_value(name) {
            return (Arc::clone(name), group.clone());
        }
        // Clients may choose the names. Looking for unused groups when their number has doubled costs a constant time
        // for each.
        if named.groups.len() >= named.prune_at.max(PRUNE_MIN) {
            named.groups.retain(|_, group| group.is_used());
            named.prune_at = named.groups.len() * 2;
        }
        let (name, group) = (Arc::from(name), Group::default());
        named.groups.insert(Arc::clone(&name), group.clone());
        (name, group)
    }

    fn find(&self, name: &str) -> Option<Group> {
        self.0.borrow().groups.get(name).cloned()
    }

    pub(super) fn clear(&self) {
        let named = self.0.take();
        discard_each(named.groups);
    }
}

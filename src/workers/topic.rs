//! What all workers know of a group: its name, and which of them have members.

use std::collections::BTreeMap;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::crew::Crew;

/// A group, as all workers know it.
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    pub(super) crew: Arc<Crew>,
    /// By worker.
    parts: Box<[Part]>,
}

/// The members on one worker.
#[derive(Default)]
pub(super) struct Part {
    /// Whether there are any. Their group on the worker says so.
    pub(super) is_occupied: Arc<AtomicBool>,
    /// How many pushes they have missed that their worker does not know of.
    missed: Mutex<u64>,
}

/// The groups that some worker has, by name.
#[derive(Default)]
pub(super) struct Topics(Mutex<Named>);

type Named = BTreeMap<Arc<str>, Weak<Topic>>;

impl Topic {
    /// The group with this name: the same one for all workers.
    pub(super) fn find_or_add(crew: &Arc<Crew>, name: &str) -> Arc<Self> {
        let mut topics = crew.topics.lock();
        if let Some(topic) = topics.get(name).and_then(Weak::upgrade) {
            return topic;
        }
        let topic = Arc::new(Topic {
            name: Arc::from(name),
            crew: Arc::clone(crew),
            parts: crew.inboxes.iter().map(|_| Part::default()).collect(),
        });
        topics.insert(Arc::clone(&topic.name), Arc::downgrade(&topic));
        topic
    }

    pub(super) fn part(&self, worker: usize) -> Option<&Part> {
        self.parts.get(worker)
    }
}

/// Nobody knows the group any more. Clients may choose the names, so its entry must not stay.
impl Drop for Topic {
    fn drop(&mut self) {
        let mut topics = self.crew.topics.lock();
        // Another worker may have made a new one with the name.
        if topics
            .get(&self.name)
            .is_some_and(|topic| topic.strong_count() == 0)
        {
            topics.remove(&self.name);
        }
    }
}

impl Part {
    /// In one order with the stores of [`Group`](crate::Group): of two workers that each add a member and then push, at
    /// least one sees the member of the other.
    pub(super) fn has_members(&self) -> bool {
        self.is_occupied.load(Ordering::SeqCst)
    }

    /// Counts a push that the members miss. For the first one `enqueue` adds a post for their worker, which the caller wakes
    /// when this has returned. Others wait until it is added: what their worker pushes later must not overtake the post.
    pub(super) fn miss<T>(&self, enqueue: impl FnOnce() -> T) -> Option<T> {
        let mut missed = self.missed();
        *missed += 1;
        (*missed == 1).then(enqueue)
    }

    pub(super) fn take_missed(&self) -> u64 {
        mem::take(&mut *self.missed())
    }

    fn missed(&self) -> MutexGuard<'_, u64> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Topics {
    fn lock(&self) -> MutexGuard<'_, Named> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::crew::Options;
    use super::*;
    use crate::EventLoop;
    use crate::state::load::AcceptorLink;

    #[test]
    fn a_name_is_forgotten_with_its_last_handle() {
        let event_loop = EventLoop::new().unwrap();
        let inbox = &event_loop.0.agenda.inbox;
        let options = Options {
            grace: Duration::ZERO,
            group_backlog: 0,
        };
        let acceptor = AcceptorLink::new(inbox);
        let crew = Arc::new(Crew::new(vec![Arc::clone(inbox)], &acceptor, options));
        let topic = Topic::find_or_add(&crew, "lobby");
        assert!(Arc::ptr_eq(&topic, &Topic::find_or_add(&crew, "lobby")));
        drop(topic);
        assert_eq!(crew.topics.lock().len(), 0);
    }
}

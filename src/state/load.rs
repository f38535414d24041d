//! How many connections a worker has.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::inbox::{Inbox, Post};

/// The number of connections of a worker: those that were handed to it, and those that it serves.
pub(crate) struct Load {
    connections: AtomicUsize,
    acceptor: Arc<AcceptorLink>,
}

/// What a worker knows of the loop that accepts for it.
pub(crate) struct AcceptorLink {
    pub(crate) inbox: Arc<Inbox>,
    /// Its listeners wait for descriptors or memory. Each socket that a worker closes frees some.
    starved: AtomicBool,
    /// The service has ended. Its loop may run for another one.
    ended: AtomicBool,
    pub(crate) occupied: Occupied,
}

/// How many workers of a service have channels. In a shutdown the others go on making calls that are posted to them: a
/// session may need what another worker has, as it would have it on one loop until it ends.
#[derive(Default)]
pub(crate) struct Occupied {
    count: AtomicUsize,
    /// The loops of all workers.
    inboxes: Mutex<Vec<Arc<Inbox>>>,
}

/// One connection that counts for its worker, until this is dropped.
pub(crate) struct Place(Option<Arc<Load>>);

impl AcceptorLink {
    pub(crate) fn new(inbox: &Arc<Inbox>) -> Arc<Self> {
        Arc::new(AcceptorLink {
            inbox: Arc::clone(inbox),
            starved: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            occupied: Occupied::default(),
        })
    }

    /// The service ends, and with it what its workers and its remotes may ask of the loop.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The next socket that a worker closes lets the listeners try again. If one was closed just before, their timer does.
    pub(crate) fn note_starved(&self) {
        self.starved.store(true, Ordering::Release);
    }

    /// A worker has closed a socket.
    pub(crate) fn resume_accepting(&self) {
        if self.starved.load(Ordering::Acquire) && self.starved.swap(false, Ordering::AcqRel) {
            // Without that loop nothing is accepted.
            let _ = self.inbox.send(Post::ResumeAccepting);
        }
    }
}

impl Occupied {
    /// Adds a worker. It counts as occupied.
    pub(crate) fn join(&self, inbox: &Arc<Inbox>) {
        let mut inboxes = self.inboxes.lock().unwrap_or_else(PoisonError::into_inner);
        inboxes.push(Arc::clone(inbox));
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// A worker has nothing left. The last one ends the sleep of all.
    pub(crate) fn leave(&self) {
        if self.count.fetch_sub(1, Ordering::SeqCst) > 1 {
            return;
        }
        let inboxes = {
            let inboxes = self.inboxes.lock().unwrap_or_else(PoisonError::into_inner);
            inboxes.clone()
        };
        // Not while they are locked: `polling` may log a wake-up, and a subscriber is user code.
        for inbox in inboxes {
            // A loop that cannot be woken wakes up when its grace is over, if that is not the case already.
            let _ = inbox.wake();
        }
    }

    pub(crate) fn is_any(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }
}

impl Load {
    pub(crate) fn new(acceptor: &Arc<AcceptorLink>) -> Arc<Self> {
        Arc::new(Load {
            connections: AtomicUsize::new(0),
            acceptor: Arc::clone(acceptor),
        })
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Counts a connection.
    pub(crate) fn add(self: &Arc<Self>) -> Place {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Place(Some(Arc::clone(self)))
    }

    /// A connection has ended, or was refused.
    pub(super) fn leave(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        self.acceptor.resume_accepting();
    }
}

impl Place {
    /// Leaves the connection counted: from now on its admission counts it.
    pub(super) fn keep(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(load) = self.0.take() {
            load.leave();
        }
    }
}

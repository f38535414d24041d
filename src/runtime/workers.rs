//! The loops of other threads that work with this one: those of its workers, or, on a worker, that of its service.

use std::cell::{Cell, OnceCell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use super::{Runtime, current};
use crate::error::{Error, Result};
use crate::state::inbox::{Inbox, Post};
use crate::state::load::AcceptorLink;

/// The workers of a loop, and the service that it works for.
#[derive(Default)]
pub(super) struct Workers {
    inboxes: RefCell<Vec<Arc<Inbox>>>,
    /// How many there are. Each turn asks, and a borrow costs more than this.
    count: Cell<usize>,
    /// On a worker: the loop that accepts for it.
    acceptor: OnceCell<Arc<AcceptorLink>>,
    /// On a worker: whether it counts as [occupied](AcceptorLink::occupied).
    is_occupied: Cell<bool>,
    /// The turn after which it had no channels and calls were left.
    last_channels: Cell<Option<u32>>,
}

impl Runtime {
    /// How many workers this loop has. They keep it running.
    #[inline]
    pub(super) fn worker_count(&self) -> usize {
        self.workers.count.get()
    }

    /// Adds a worker, which shuts down together with this loop.
    pub(crate) fn add_worker(&self, inbox: &Arc<Inbox>) {
        let mut inboxes = self.workers.inboxes.borrow_mut();
        inboxes.push(Arc::clone(inbox));
        self.workers.count.set(inboxes.len());
    }

    /// Removes a worker that has ended, or is about to.
    pub(crate) fn remove_worker(&self, inbox: &Arc<Inbox>) {
        let mut inboxes = self.workers.inboxes.borrow_mut();
        inboxes.retain(|other| !Arc::ptr_eq(other, inbox));
        self.workers.count.set(inboxes.len());
    }

    /// Makes this the loop of a worker. A shutdown of it is one of the service.
    pub(crate) fn become_worker(&self, number: u16, acceptor: &Arc<AcceptorLink>) {
        self.registry.borrow_mut().set_worker(number);
        self.agenda.inbox.set_worker(number);
        // A loop becomes a worker once.
        if self.workers.acceptor.set(Arc::clone(acceptor)).is_ok() {
            self.workers.is_occupied.set(true);
            acceptor.occupied.join(&self.agenda.inbox);
        }
    }

    /// Whether sessions of other workers may still post to this one. Called in a shutdown, when this loop has no channels: it
    /// gets no more of them. The grace of the others bounds the wait for them.
    #[cold]
    pub(super) fn is_needed_by_workers(&self) -> bool {
        let Some(acceptor) = self.workers.acceptor.get() else {
            return false;
        };
        // The calls of its last sessions may post to others. What these calls defer does not count: it might never end.
        if self.workers.last_channels.get().is_none() && self.has_calls() {
            self.workers.last_channels.set(Some(self.turn.get()));
        }
        if self.workers.last_channels.get() == Some(self.turn.get()) {
            return true;
        }
        self.leave_workers();
        acceptor.occupied.is_any()
    }

    /// This loop has no channels any more.
    pub(super) fn leave_workers(&self) {
        if self.workers.is_occupied.replace(false)
            && let Some(acceptor) = self.workers.acceptor.get()
        {
            acceptor.occupied.leave();
        }
    }

    /// A socket was closed. On a worker, the loop that accepts for it may need the descriptor.
    #[inline]
    pub(super) fn resume_accepting_for_worker(&self) {
        if let Some(acceptor) = self.workers.acceptor.get() {
            acceptor.resume_accepting();
        }
    }

    /// Passes a shutdown on: to the workers, or, on a worker, to the loop of its service. A loop that is gone needs
    /// none.
    pub(super) fn shut_down_workers(&self, grace: Duration) {
        if let Some(acceptor) = self.workers.acceptor.get() {
            let _ = post_to_service(acceptor, move |runtime| runtime.shut_down(grace));
        }
        self.post_to_workers(|| Post::ShutdownOfService(grace));
    }

    /// The service that this worker works for shuts down, and with it the workers that this one has started.
    pub(super) fn shut_down_for_service(&self, grace: Duration) {
        self.post_to_workers(|| Post::ShutdownOfService(grace));
        self.begin_shutdown(grace);
    }

    /// The service that this worker works for closes all channels, and ends, and so do the workers that this one has started.
    pub(super) fn close_all_for_service(&self) {
        self.close_all_here();
        self.post_to_workers(|| Post::CloseAllOfService);
        self.begin_shutdown(Duration::ZERO);
    }

    /// Passes a close of all channels on, as a shutdown. The service ends: its listeners are closed, and a worker listens
    /// in its setup only.
    pub(super) fn close_all_of_workers(&self) {
        if let Some(acceptor) = self.workers.acceptor.get() {
            let _ = post_to_service(acceptor, Runtime::close_all);
        }
        if self.worker_count() > 0 {
            self.post_to_workers(|| Post::CloseAllOfService);
            self.begin_shutdown(Duration::ZERO);
        }
    }

    fn post_to_workers(&self, post: impl Fn() -> Post) {
        // Cloned: a post may wake a loop, which `polling` logs, and a subscriber is user code.
        let inboxes = self.workers.inboxes.borrow().clone();
        for inbox in inboxes {
            // One that is gone needs none.
            let _ = inbox.send(post());
        }
    }
}

/// Makes the loop of a service call `call`, unless the service has ended by then.
///
/// # Errors
/// When the service has ended, or the loop is gone.
pub(crate) fn post_to_service(
    service: &Arc<AcceptorLink>,
    call: impl FnOnce(&Runtime) + Send + 'static,
) -> Result<(), Error> {
    if service.has_ended() {
        return Err(Error::new("the service has ended"));
    }
    let link = Arc::clone(service);
    let call = move || {
        // The loop may run for another service by now.
        if !link.has_ended()
            && let Ok(runtime) = current::runtime()
        {
            call(&runtime);
        }
    };
    service.inbox.send(Post::Call(Box::new(call)))
}

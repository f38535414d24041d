//! What the workers of a service share.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::backlog::GroupBacklog;
use super::ended::Ended;
use super::listeners::Listeners;
use super::remotes::Remotes;
use super::topic::Topics;
use crate::error::Error;
use crate::event_loop::EventLoop;
use crate::log::{Escaped, log};
use crate::state::inbox::{Inbox, Post};
use crate::state::load::{AcceptorLink, Load};

/// The workers of a service.
pub(super) struct Crew {
    pub(super) inboxes: Vec<Arc<Inbox>>,
    /// The number of connections of each worker, of all listeners.
    pub(super) loads: Vec<Arc<Load>>,
    pub(super) acceptor: Arc<AcceptorLink>,
    pub(super) listeners: Listeners,
    pub(super) topics: Topics,
    /// What was pushed to the groups of each worker and not taken yet.
    pub(super) backlogs: Vec<Arc<GroupBacklog>>,
    options: Options,
    failure: Mutex<Option<Error>>,
    pub(super) ended: Arc<Ended>,
}

/// What the builder of the workers sets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    /// The grace of the shutdown after a failure.
    pub(super) grace: Duration,
    /// How many bytes of pushes to groups may wait for a worker.
    pub(super) group_backlog: usize,
}

impl Crew {
    pub(super) fn new(
        inboxes: Vec<Arc<Inbox>>,
        acceptor: &Arc<AcceptorLink>,
        options: Options,
    ) -> Self {
        let backlog = |worker| GroupBacklog::new(worker, options.group_backlog);
        Crew {
            loads: inboxes.iter().map(|_| Load::new(acceptor)).collect(),
            backlogs: (0..inboxes.len()).map(backlog).collect(),
            inboxes,
            acceptor: Arc::clone(acceptor),
            listeners: Listeners::default(),
            topics: Topics::default(),
            options,
            failure: Mutex::default(),
            ended: Arc::default(),
        }
    }

    pub(super) fn remotes(&self) -> Remotes {
        Remotes::new(&self.inboxes, &self.acceptor, &self.ended)
    }

    /// Records that a worker has ended with this outcome, and makes the service end too. Called on the worker's thread.
    pub(super) fn record_end(self: &Arc<Self>, number: usize, outcome: Result<(), Error>) {
        let has_failed = outcome.is_err();
        if let Err(error) = outcome {
            log!(error, worker = number, error = %Escaped(&error), "a worker has failed");
            let mut failure = self.lock_failure();
            failure.get_or_insert(error);
        }
        let crew = Arc::clone(self);
        let end = move || crew.end_service(number, has_failed);
        // Without that loop the service has ended.
        let _ = self.acceptor.inbox.send(Post::Call(Box::new(end)));
    }

    /// A worker has ended. Called in the loop of the service, which ends too.
    fn end_service(&self, number: usize, has_failed: bool) {
        let Ok(event_loop) = EventLoop::current() else {
            return;
        };
        if let Some(inbox) = self.inboxes.get(number) {
            event_loop.0.remove_worker(inbox);
        }
        if self.is_finishing() || event_loop.0.agenda.is_shutting_down() {
            return;
        }
        if has_failed {
            event_loop.shutdown(self.options.grace);
        } else {
            // A session has stopped the loop of its worker.
            event_loop.stop();
        }
    }

    /// The service ends its workers itself from now on.
    pub(super) fn finish(&self) {
        self.acceptor.end();
    }

    pub(super) fn is_finishing(&self) -> bool {
        self.acceptor.has_ended()
    }

    /// The error of the worker that has failed first.
    pub(super) fn take_failure(&self) -> Option<Error> {
        self.lock_failure().take()
    }

    fn lock_failure(&self) -> std::sync::MutexGuard<'_, Option<Error>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! `Service`: workers that run, as the thread sees them that has started them.

use std::any::TypeId;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use super::acceptor::Acceptor;
use super::crew::Crew;
use super::listeners::Listener;
use super::remotes::Remotes;
use super::thread::Thread;
use crate::Addr;
use crate::channel::handle::Channel;
use crate::error::{Error, Result};
use crate::event_loop::EventLoop;
use crate::net::server::Acceptance;
use crate::state::inbox::Post;

/// [Workers](crate::Workers) that run. From [`Workers::start`](crate::Workers::start).
///
/// If it is dropped without [`finish`](Service::finish), the workers are stopped, and the drop waits for them.
#[must_use = "without `finish` the reason of a failure is lost"]
pub struct Service {
    crew: Arc<Crew>,
    event_loop: EventLoop,
    addrs: Vec<Addr>,
    listeners: Vec<Channel>,
    threads: Vec<Thread>,
}

impl Service {
    /// Registers the listening sockets, and lets the loop run as long as the workers.
    pub(super) fn new(event_loop: &EventLoop, crew: Arc<Crew>) -> Result<Self, Error> {
        let listeners = crew.listeners.complete();
        let mut service = Service {
            event_loop: event_loop.clone(),
            addrs: listeners.iter().map(|it| it.addr.clone()).collect(),
            listeners: Vec::new(),
            threads: Vec::new(),
            crew,
        };
        for listener in listeners {
            service.accept(listener)?;
        }
        for inbox in &service.crew.inboxes {
            event_loop.0.add_worker(inbox);
        }
        Ok(service)
    }

    /// Has these threads from now on, which run the loops.
    pub(super) fn with_threads(mut self, threads: Vec<Thread>) -> Self {
        self.threads = threads;
        self
    }

    fn accept(&mut self, listener: Listener) -> Result<(), Error> {
        let Some(socket) = listener.socket else {
            return Ok(());
        };
        let channel = Channel::adopt_accepted(socket);
        channel.0.set_limits(Some(Rc::new(listener.limits)));
        let runtime = &self.event_loop.0;
        runtime.register(&channel.0, TypeId::of::<Acceptance>)?;
        channel.0.open_span();
        let acceptor = Acceptor::new(&self.crew, listener.recipients);
        runtime.set_driver(&channel.0, Box::new(acceptor));
        self.listeners.push(channel);
        Ok(())
    }

    /// The addresses that the workers listen on, in the order of the calls of [`listen`](crate::Worker::listen).
    pub fn local_addrs(&self) -> &[Addr] {
        &self.addrs
    }

    /// The loops of all workers, for posts from any thread.
    pub fn remotes(&self) -> Remotes {
        self.crew.remotes()
    }

    /// Stops the workers that still run, as [`EventLoop::stop`] does, and waits for their threads: call it after
    /// [`run`](crate::run) has returned. After a [shutdown](crate::shutdown) all workers have ended by then. The
    /// connections that a stopped worker has end with [`Close::Shutdown`](crate::Close::Shutdown) or
    /// [`Close::Interrupted`](crate::Close::Interrupted).
    ///
    /// A worker whose callback blocks cannot be stopped. This waits until the callback returns.
    ///
    /// # Errors
    /// The error of the worker that has failed first, because its loop has failed or panicked: the error names it.
    pub fn finish(mut self) -> Result<(), Error> {
        self.end();
        match self.crew.take_failure() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    fn end(&mut self) {
        self.crew.finish();
        for listener in &self.listeners {
            listener.close();
        }
        for inbox in &self.crew.inboxes {
            // One that has ended already is gone.
            let _ = inbox.send(Post::Stop);
        }
        // Waits for each.
        self.threads.clear();
        for inbox in &self.crew.inboxes {
            self.event_loop.0.remove_worker(inbox);
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("workers", &self.crew.inboxes.len())
            .field("local_addrs", &self.addrs)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// Two workers without threads: their loops are on this one.
    fn service(event_loop: &EventLoop, workers: &[EventLoop; 2]) -> Service {
        let inboxes = workers.iter().map(|it| Arc::clone(&it.0.agenda.inbox));
        let inbox = &event_loop.0.agenda.inbox;
        let crew = Crew::new(inboxes.collect(), inbox, Duration::from_secs(60));
        Service::new(event_loop, Arc::new(crew)).unwrap()
    }

    fn loops() -> (EventLoop, [EventLoop; 2]) {
        let new = || EventLoop::new().unwrap();
        (new(), [new(), new()])
    }

    #[test]
    fn a_worker_that_fails_ends_the_service_and_is_its_reason() {
        let (event_loop, workers) = loops();
        let service = service(&event_loop, &workers);
        assert_eq!(event_loop.len(), 2);
        let crew = Arc::clone(&service.crew);
        let ends = move || {
            crew.has_ended(1, Err(Error::new("worker 1: wait for events")));
            // The other one has been shut down.
            crew.has_ended(0, Ok(()));
        };
        thread::spawn(ends).join().unwrap();
        event_loop.run().unwrap();
        assert!(event_loop.is_empty());
        // It gets the shutdown in its next turn.
        let other = &workers[0];
        other.call_later(Duration::from_secs(3600), || ());
        other.run().unwrap();
        let reason = service.finish().unwrap_err().to_string();
        assert_eq!(reason, "worker 1: wait for events");
    }

    #[test]
    fn a_worker_that_was_stopped_stops_the_service() {
        let (event_loop, workers) = loops();
        let service = service(&event_loop, &workers);
        service.crew.has_ended(0, Ok(()));
        event_loop.run().unwrap();
        assert_eq!(event_loop.len(), 1, "the other one still runs");
        service.finish().unwrap();
        assert!(event_loop.is_empty());
    }
}

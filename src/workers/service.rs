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

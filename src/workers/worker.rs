//! `Worker`: one of several loops, as its setup and its sessions see it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use super::crew::Crew;
use super::group::{Groups, SharedGroup};
use super::listeners::ArrivalSource;
use super::remotes::Remotes;
use crate::Addr;
use crate::chat::handle::Chat;
use crate::chat::into_session::IntoSession;
use crate::error::{Error, Result};
use crate::event_loop::EventLoop;
use crate::net::receiver::Arriving;
use crate::net::server::{Server, Source};
use crate::state::quota::Quota;

thread_local! {
    static CURRENT: RefCell<Option<Worker>> = const { RefCell::new(None) };
}

/// One of the [`Workers`](crate::Workers): a handle to the worker of this thread. The setup of each worker gets its own.
/// All clones are the same worker.
#[derive(Clone)]
pub struct Worker(Rc<Inner>);

struct Inner {
    number: usize,
    crew: Arc<Crew>,
    /// How many servers it has listened for.
    listened: Cell<usize>,
    groups: Groups,
}

impl Worker {
    /// The worker of this thread. `None` on a thread that is none. A call that another worker
    /// [posts](crate::Remotes) finds the worker that makes it.
    ///
    /// ```
    /// assert!(asynchat::Worker::current().is_none()); // not on the thread that starts workers
    /// ```
    pub fn current() -> Option<Worker> {
        CURRENT.try_with(|current| current.borrow().clone()).ok()?
    }

    /// Its number, from 0.
    pub fn number(&self) -> usize {
        self.0.number
    }

    /// How many workers there are.
    pub fn count(&self) -> usize {
        self.0.crew.inboxes.len()
    }

    /// How many connections it has, of all its servers: those that it serves, and those that were handed to it.
    pub fn connections(&self) -> usize {
        let load = self.0.crew.loads.get(self.0.number);
        load.map_or(0, |load| load.connections())
    }

    /// The loops of all workers, for posts from any thread.
    pub fn remotes(&self) -> Remotes {
        self.0.crew.remotes()
    }

    /// The group with this name, which has members on all workers. It exists while it has members or handles. The
    /// [policy](crate::Group::set_slow_readers) that was set on a worker exists while it has members or handles there.
    pub fn group(&self, name: &str) -> SharedGroup {
        SharedGroup::new(&self.0.groups, name, &self.0.crew, self.0.number)
    }

    pub(super) fn groups(&self) -> &Groups {
        &self.0.groups
    }

    /// Serves what `server` listens on, with a `factory` of this worker's own. Returns the address, for port 0 the one
    /// that the system has chosen.
    ///
    /// The setups of all workers call this for the same servers in the same order. The first call listens, and the
    /// others join it: all workers have one listening socket, and the thread that has started them accepts. A worker may
    /// leave out the last servers. It then gets no connections of those.
    ///
    /// The server's options of the listening socket are those of the first call. Its other settings, such as limits,
    /// [`accept_if`](Server::accept_if), [`tls`](Server::tls), [`configure`](Server::configure) and the
    /// [PROXY protocol](https://docs.rs/asynchat/latest/asynchat/proxy_protocol/index.html), are applied by each worker
    /// to its own connections. Its limits on the number of connections count those of all workers.
    ///
    /// With [`reuse_port`](Server::reuse_port) each worker listens by itself, if the system spreads the connections
    /// of such sockets (Linux, Android, FreeBSD, DragonFly). Nothing is handed over then, which pays if most connections
    /// are short. But the system spreads by a hash of the addresses, whatever the workers have to do: with few clients,
    /// or a proxy before the server, one worker may get nearly all of them. A worker that blocks leaves its clients
    /// waiting, and those that it has not accepted when it ends are reset. On other systems the option has no effect, nor
    /// has it on a socket that is [adopted](Server::adopt), which all workers have.
    ///
    /// # Errors
    /// Those of [`Server::listen_on`]. When the server is for [one connection](Server::once). When another worker
    /// listens on another address in its place. When the setup has returned.
    pub fn listen<I: IntoSession>(
        &self,
        server: Server,
        factory: impl FnMut(Chat) -> I + 'static,
    ) -> Result<Addr, Error> {
        let event_loop = EventLoop::current()?;
        let (number, crew) = (self.0.number, &self.0.crew);
        let place = self.0.listened.get();
        let mut joined = None;
        let channel = server.listen_with(&event_loop, factory, |opening| {
            let opened = crew.listeners.open(place, number, opening, &event_loop.0)?;
            joined = Some(opened.addr.clone());
            let load = crew.loads.get(number);
            let quota = load.map(|load| Quota::of_workers(&opened.totals, load));
            let source = match opened.source {
                ArrivalSource::OwnSocket(channel) => Source::Listener(channel),
                ArrivalSource::Acceptor(arrivals) => Source::Acceptor(Arriving {
                    arrivals,
                    acceptor: Arc::clone(&crew.acceptor.inbox),
                    addr: opened.addr,
                }),
            };
            Ok((source, quota))
        })?;
        crew.listeners.set_receiver(place, number, channel.id());
        self.0.listened.set(place + 1);
        joined.ok_or_else(|| Error::new("nothing was opened"))
    }

    /// Makes this the thread of a worker.
    pub(super) fn enter(number: usize, crew: &Arc<Crew>) -> Entered {
        let worker = Worker(Rc::new(Inner {
            number,
            crew: Arc::clone(crew),
            listened: Cell::new(0),
            groups: Groups::default(),
        }));
        CURRENT.set(Some(worker.clone()));
        Entered(worker)
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("number", &self.0.number)
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

/// The worker of this thread, until this is dropped.
pub(super) struct Entered(Worker);

impl Entered {
    pub(super) fn worker(&self) -> &Worker {
        &self.0
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        // The groups have chats, which do not survive the thread-local values of the thread.
        self.0.0.groups.clear();
        drop(CURRENT.take());
    }
}

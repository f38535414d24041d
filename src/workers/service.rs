//! `Service`: workers that run, as the thread sees them that has started them.

use std::any::TypeId;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use super::acceptor::DistributingAcceptor;
use super::crew::Crew;
use super::listeners::Listener;
use super::remotes::Remotes;
use super::thread::Thread;
use crate::Addr;
use crate::channel::handle::Channel;
use crate::error::{Error, Result};
use crate::event_loop::EventLoop;
use crate::net::server::Acceptance;
use crate::runtime::counters::LoopStats;
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
        let acceptor = DistributingAcceptor::new(&self.crew, listener.recipients);
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
    /// Returns what the loops of the workers have done in all, in the order of the workers:
    ///
    /// ```
    /// # fn summary(service: asynchat::Service) -> asynchat::Result {
    /// let total: asynchat::LoopStats = service.finish()?.into_iter().sum();
    /// println!("{} connections, {} bytes sent", total.accepted, total.bytes_out);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The error of the worker that has failed first, because its loop has failed or panicked: the error names it.
    pub fn finish(mut self) -> Result<Vec<LoopStats>, Error> {
        self.end();
        match self.crew.take_failure() {
            Some(failure) => Err(failure),
            None => {
                let workers = 0..self.crew.inboxes.len();
                Ok(workers.map(|it| self.crew.ended.stats(it)).collect())
            }
        }
    }

    #[cfg(test)]
    pub(super) fn crew(&self) -> Arc<Crew> {
        Arc::clone(&self.crew)
    }

    fn end(&mut self) {
        self.crew.finish();
        for listener in &self.listeners {
            // The loop may have no further turn, and the kernel would go on to accept.
            self.event_loop.0.end_at_once(&listener.0);
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
const OPTIONS: super::crew::Options = super::crew::Options {
    grace: std::time::Duration::from_secs(60),
    group_backlog: usize::MAX,
};

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::state::load::AcceptorLink;

    /// Two workers without threads: their loops are on this one.
    fn service(event_loop: &EventLoop, workers: &[EventLoop; 2]) -> Service {
        let inboxes = workers.iter().map(|it| Arc::clone(&it.0.agenda.inbox));
        let acceptor = AcceptorLink::new(&event_loop.0.agenda.inbox);
        let crew = Crew::new(inboxes.collect(), &acceptor, OPTIONS);
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
            crew.record_end(1, Err(Error::new("worker 1: wait for events")));
            // The other one has been shut down.
            crew.record_end(0, Ok(()));
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
        service.crew.record_end(0, Ok(()));
        event_loop.run().unwrap();
        assert_eq!(event_loop.len(), 1, "the other one still runs");
        service.finish().unwrap();
        assert!(event_loop.is_empty());
    }
}

/// The hand-over on a simulated network: the loops of all workers are on this thread, and turn when the test says so.
#[cfg(all(test, feature = "sim"))]
mod simulated {
    use std::cell::RefCell;
    use std::time::Duration;

    use super::super::tests::Session;
    use super::super::worker::Worker;
    use super::*;
    use crate::limits::Limits;
    use crate::log::warnings;
    use crate::net::server::Server;
    use crate::sim::{Call, Network, Peer};
    use crate::state::load::AcceptorLink;

    const ADDR: &str = "127.0.0.1:7007";
    const GRACE: Duration = Duration::from_secs(60);

    struct Scene {
        network: Network,
        acceptor: EventLoop,
        workers: Vec<EventLoop>,
        service: Service,
    }

    impl Scene {
        fn new(count: usize, limits: Limits) -> Self {
            let network = Network::new(1);
            let acceptor = network.event_loop().unwrap();
            let loops = (0..count).map(|_| network.event_loop().unwrap());
            let workers: Vec<EventLoop> = loops.collect();
            let inboxes = workers.iter().map(|it| Arc::clone(&it.0.agenda.inbox));
            let link = AcceptorLink::new(&acceptor.0.agenda.inbox);
            let crew = Arc::new(Crew::new(inboxes.collect(), &link, OPTIONS));
            for (number, event_loop) in workers.iter().enumerate() {
                event_loop.0.become_worker(number as u16, &link);
                let entered = RefCell::new(Some(Worker::enter(number, &crew)));
                event_loop.call_soon(move || {
                    let entered = entered.take().unwrap();
                    let server = Server::new(ADDR).limits(limits).refusal("full\r\n");
                    let factory = move |chat| Session::new(chat, number);
                    entered.worker().listen(server, factory).unwrap();
                });
                event_loop.run_once(Duration::ZERO).unwrap();
            }
            let service = Service::new(&acceptor, crew).unwrap();
            Scene {
                network,
                acceptor,
                workers,
                service,
            }
        }

        fn connect(&self) -> Peer {
            self.network.connect(ADDR).unwrap()
        }

        fn turn(event_loop: &EventLoop) {
            for _ in 0..3 {
                event_loop.run_once(Duration::ZERO).unwrap();
            }
        }

        fn settle(&self) {
            for _ in 0..20 {
                Scene::turn(&self.acceptor);
                self.workers.iter().for_each(Scene::turn);
            }
        }

        fn loads(&self) -> Vec<usize> {
            let loads = self.service.crew.loads.iter();
            loads.map(|load| load.connections()).collect()
        }
    }

    fn text(peer: &Peer) -> String {
        String::from_utf8(peer.received()).unwrap()
    }

    #[test]
    fn a_connection_that_was_handed_over_before_a_shutdown_gets_its_reply() {
        let scene = Scene::new(2, Limits::DEFAULT);
        let peers: Vec<_> = (0..10).map(|_| scene.connect()).collect();
        Scene::turn(&scene.acceptor);
        assert_eq!(scene.loads(), [5, 5]);
        // No worker has had a turn since.
        scene.acceptor.shutdown(GRACE);
        scene.settle();
        for (number, peer) in peers.iter().enumerate() {
            assert_eq!(text(peer), format!("{}\r\nbye\r\n", number % 2));
            assert!(peer.has_ended());
        }
        assert_eq!(scene.loads(), [0, 0]);
    }

    #[test]
    fn a_connection_whose_worker_has_just_ended_is_refused() {
        let scene = Scene::new(2, Limits::DEFAULT);
        let peers = [scene.connect(), scene.connect()];
        Scene::turn(&scene.acceptor);
        // A session has shut its worker down in the meantime.
        scene.workers[0].shutdown(GRACE);
        scene.settle();
        assert_eq!(text(&peers[0]), "full\r\n");
        assert_eq!(text(&peers[1]), "1\r\nbye\r\n");
        assert_eq!(scene.loads(), [0, 0]);
    }

    /// A connection that is not accepted waits in the kernel, for the next service that has the same listening socket.
    #[test]
    fn nothing_is_accepted_when_all_workers_have_shut_down() {
        let scene = Scene::new(2, Limits::DEFAULT);
        for worker in &scene.workers {
            worker.shutdown(GRACE);
            Scene::turn(worker);
        }
        // The loop that accepts has had no turn since.
        let _peer = scene.connect();
        Scene::turn(&scene.acceptor);
        let stats = scene.acceptor.stats();
        assert_eq!((stats.accepted, stats.refused), (0, 0));
    }

    #[test]
    fn closing_all_on_the_loop_that_accepts_closes_the_connections_of_all_workers() {
        let scene = Scene::new(2, Limits::DEFAULT);
        let peers: Vec<_> = (0..4).map(|_| scene.connect()).collect();
        scene.settle();
        scene.acceptor.close_all();
        scene.settle();
        for (number, peer) in peers.iter().enumerate() {
            assert_eq!(text(peer), format!("{}\r\n", number % 2));
            assert!(peer.has_ended());
        }
        for worker in &scene.workers {
            assert_eq!(worker.stats().closes.local, 3, "the receiver, too");
        }
        assert!(scene.network.listen(ADDR).is_ok(), "the address is free");
    }

    #[test]
    fn a_listening_socket_that_fails_is_an_io_error_on_all_loops() {
        let scene = Scene::new(2, Limits::DEFAULT);
        let kind = std::io::ErrorKind::InvalidInput;
        scene.network.fail(Call::Accept, kind);
        let _peer = scene.connect();
        scene.settle();
        for event_loop in scene.workers.iter().chain([&scene.acceptor]) {
            let closes = event_loop.stats().closes;
            assert_eq!((closes.io, closes.handler), (1, 0));
        }
    }

    #[test]
    fn what_no_queue_has_room_for_waits_in_the_kernel() {
        let scene = Scene::new(2, Limits::default().turn_accepts(1));
        let peers: Vec<_> = (0..30).map(|_| scene.connect()).collect();
        for _ in 0..20 {
            Scene::turn(&scene.acceptor);
        }
        // Four turns of accepting for each.
        assert_eq!(scene.loads(), [4, 4]);
        assert_eq!(scene.acceptor.next_timeout(), None, "it waits for a worker");
        scene.settle();
        assert_eq!(scene.loads(), [15, 15]);
        assert!(peers.iter().all(|peer| text(peer).ends_with("\r\n")));
    }

    /// The loops have their turns in any order, so a worker may be far behind while it is given connections.
    #[test]
    fn a_thousand_connections_are_spread_evenly() {
        let mut random = fastrand::Rng::with_seed(1);
        let scene = Scene::new(2, Limits::DEFAULT);
        let mut peers = Vec::new();
        while peers.len() < 1000 {
            let burst = random.usize(1..=64).min(1000 - peers.len());
            peers.extend((0..burst).map(|_| scene.connect()));
            Scene::turn(&scene.acceptor);
            Scene::turn(&scene.workers[random.usize(..2)]);
        }
        scene.settle();
        let most = *scene.loads().iter().max().unwrap();
        assert!(most <= 550, "{:?}", scene.loads());
        assert!(peers.iter().all(|peer| text(peer).ends_with("\r\n")));
    }

    #[test]
    fn a_service_that_has_ended_has_no_listener() {
        let scene = Scene::new(1, Limits::DEFAULT);
        scene.service.finish().unwrap();
        // The loop that accepted has had no turn since.
        assert!(scene.network.listen(ADDR).is_ok(), "the address is free");
    }

    /// A worker that takes connections from the acceptor has no listening socket.
    #[test]
    fn the_log_of_a_refusal_has_the_address_of_the_listener() {
        let log = warnings(|| {
            let scene = Scene::new(1, Limits::default().connections(1));
            let peers = [scene.connect(), scene.connect()];
            scene.settle();
            assert_eq!(text(&peers[1]), "full\r\n");
        });
        let mut lines = log.lines();
        let refusal = lines.find(|it| it.contains("too many connections"));
        assert!(
            refusal.is_some_and(|it| it.contains(" local=127.0.0.1:7007")),
            "{log}"
        );
    }

    #[test]
    fn accepting_resumes_when_a_worker_closes_a_connection() {
        let scene = Scene::new(2, Limits::DEFAULT);
        let [leaving, _staying] = [scene.connect(), scene.connect()];
        scene.settle();
        scene
            .network
            .fail(Call::Accept, std::io::ErrorKind::OutOfMemory);
        let waiting = scene.connect();
        scene.settle();
        assert_eq!(text(&waiting), "", "accepting pauses");
        leaving.reset();
        scene.settle();
        assert!(text(&waiting).ends_with("\r\n"), "it waits for no timer");
    }

    /// The descriptors of sockets that linger on a worker are freed when accepting needs them.
    #[test]
    fn accepting_resumes_when_a_worker_closes_a_lingering_socket() {
        let scene = Scene::new(2, Limits::DEFAULT);
        let leaving = [scene.connect(), scene.connect()];
        leaving.iter().for_each(|peer| peer.send("quit\r\n"));
        scene.settle();
        assert_eq!(scene.loads(), [0, 0]);
        let sockets = scene.network.sockets();
        scene
            .network
            .fail(Call::Accept, std::io::ErrorKind::OutOfMemory);
        let peer = scene.connect();
        scene.settle();
        assert!(scene.network.sockets() < sockets, "none lingers any more");
        assert!(text(&peer).ends_with("\r\n"), "it waits for no timer");
        assert!(leaving.iter().all(Peer::has_ended));
    }

    /// Clients come and go, and loops have their turns, in any order.
    #[test]
    fn at_any_time_each_connection_counts_for_one_worker() {
        for seed in 0..20 {
            let mut random = fastrand::Rng::with_seed(seed);
            let limits = Limits::default()
                .connections(random.usize(1..40))
                .per_address(random.usize(1..40))
                .turn_accepts(random.usize(1..4));
            let most = limits.connections.min(limits.per_address);
            let scene = Scene::new(3, limits);
            let mut peers = Vec::new();
            for _ in 0..200 {
                match random.u8(..8) {
                    0..=2 => peers.push(scene.connect()),
                    3 if !peers.is_empty() => {
                        let peer = peers.swap_remove(random.usize(..peers.len()));
                        peer.finish();
                    }
                    4..=5 => Scene::turn(&scene.acceptor),
                    _ => Scene::turn(&scene.workers[random.usize(..3)]),
                }
                let served: usize = scene.workers.iter().map(sessions).sum();
                assert!(served <= most, "seed {seed}: {served} of {most}");
            }
            scene.settle();
            let served: Vec<_> = scene.workers.iter().map(sessions).collect();
            assert_eq!(scene.loads(), served, "seed {seed}");
            for peer in &peers {
                let reply = text(peer);
                assert!(!reply.is_empty(), "seed {seed}: one was lost");
            }
            peers.iter().for_each(Peer::finish);
            scene.settle();
            assert_eq!(scene.loads(), [0, 0, 0], "seed {seed}");
        }
    }

    /// How many sessions a worker has: its channels but the receiver.
    fn sessions(worker: &EventLoop) -> usize {
        worker.0.channels().len() - 1
    }
}

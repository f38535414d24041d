//! Looks names up on threads of its own: the system's resolver blocks, and the loop must not wait for it.
//!
//! A [`Connector`](asynchat::Connector) looks names up, too, but it connects to whatever it finds. Here the access
//! list is applied in between.
//!
//! A client that asks for names that take long to look up must not stop the others: it has at most half of the threads that
//! the others leave, and a share of the queue.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use super::users::{Client, most};

/// The most names that wait for a thread, in all and of one client.
const QUEUE: usize = 1024;
const QUEUE_OF_CLIENT: usize = 64;

/// The addresses of a host, with the port that was asked for.
pub type Outcome = io::Result<Vec<SocketAddr>>;

type Resolve = dyn Fn(&str, u16) -> Outcome + Send + Sync;
type Reply = Box<dyn FnOnce(Outcome) + Send>;

/// A few threads that look names up, and a queue of names. The threads end with the process: a call of the system's
/// resolver cannot be interrupted.
pub struct Resolver(Arc<Shared>);

struct Shared {
    resolve: Box<Resolve>,
    /// The most threads. With 0, names are looked up at once on the caller's thread, which tests on virtual time need.
    most: usize,
    state: Mutex<State>,
    added: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Request>,
    /// How many threads look up names of a client.
    busy: HashMap<Client, usize>,
    threads: usize,
    /// How many of the threads wait for a name.
    idle: usize,
}

struct Request {
    client: Client,
    host: String,
    port: u16,
    /// Nobody waits for the outcome when this cannot be upgraded.
    wanted: Weak<()>,
    reply: Reply,
}

impl Resolver {
    /// The resolver of the operating system, on up to `threads` threads.
    pub fn of_the_system(threads: usize) -> Resolver {
        Resolver::new(threads, |host, port| {
            (host, port).to_socket_addrs().map(Iterator::collect)
        })
    }

    pub fn new(
        threads: usize,
        resolve: impl Fn(&str, u16) -> Outcome + Send + Sync + 'static,
    ) -> Resolver {
        Resolver(Arc::new(Shared {
            resolve: Box::new(resolve),
            most: threads,
            state: Mutex::default(),
            added: Condvar::new(),
        }))
    }

    /// Looks a name up for a client. `reply` is called on a thread of the resolver, or not at all if `wanted` is gone by then.
    ///
    /// # Errors
    /// When too many names wait already, in all or of this client, or the system has no thread left.
    pub fn look_up(
        &self,
        client: Client,
        host: &str,
        port: u16,
        wanted: Weak<()>,
        reply: impl FnOnce(Outcome) + Send + 'static,
    ) -> io::Result<()> {
        if self.0.most == 0 {
            reply((self.0.resolve)(host, port));
            return Ok(());
        }
        let mut state = self.0.lock();
        let is_full = |queue: &VecDeque<Request>| {
            let of_client = queue.iter().filter(|it| it.client == client);
            queue.len() >= QUEUE || of_client.count() >= QUEUE_OF_CLIENT
        };
        if is_full(&state.queue) {
            state.queue.retain(Request::is_wanted);
        }
        if is_full(&state.queue) {
            return Err(io::Error::other("too many names wait to be looked up"));
        }
        if state.idle <= state.queue.len() && state.threads < self.0.most {
            match self.0.start() {
                Ok(()) => state.threads += 1,
                Err(error) if state.threads == 0 => return Err(error),
                // The threads that run will look the name up.
                Err(error) => tracing::warn!(%error, "no thread could be started"),
            }
        }
        state.queue.push_back(Request {
            client,
            host: host.to_owned(),
            port,
            wanted,
            reply: Box::new(reply),
        });
        self.0.added.notify_one();
        Ok(())
    }
}

impl Request {
    fn is_wanted(&self) -> bool {
        self.wanted.strong_count() > 0
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(self: &Arc<Self>) -> io::Result<()> {
        let shared = Arc::clone(self);
        let named = thread::Builder::new().name("resolver".to_owned());
        named.spawn(move || shared.work()).map(drop)
    }

    fn work(&self) {
        loop {
            let request = self.next();
            if request.is_wanted() {
                (request.reply)((self.resolve)(&request.host, request.port));
            }
            let mut state = self.lock();
            if let Some(busy) = state.busy.get_mut(&request.client) {
                *busy -= 1;
            }
            state.busy.retain(|_, busy| *busy > 0);
        }
    }

    fn next(&self) -> Request {
        let mut state = self.lock();
        loop {
            if let Some(request) = state.next(self.most) {
                // A look-up that has ended can make room for one of its own client and for one of another.
                if state.idle > 0 && !state.queue.is_empty() {
                    self.added.notify_one();
                }
                return request;
            }
            state.idle += 1;
            state = self
                .added
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }
}

impl State {
    /// The next request of a client that may have one more of so many threads.
    fn next(&mut self, threads: usize) -> Option<Request> {
        let all: usize = self.busy.values().sum();
        let has_room = |client| {
            let own = self.busy.get(client).copied().unwrap_or_default();
            own < most(threads, all - own)
        };
        let at = self.queue.iter().position(|it| has_room(&it.client))?;
        let request = self.queue.remove(at)?;
        *self.busy.entry(request.client).or_default() += 1;
        Some(request)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    /// How long a thread may take.
    const DEADLINE: Duration = Duration::from_secs(20);

    fn client(n: u8) -> Client {
        Client::new(Some(&SocketAddr::from(([192, 0, 2, n], 1)).into()))
    }

    #[test]
    fn names_that_hang_do_not_stop_those_of_other_clients() {
        let (release, released) = channel::<()>();
        let released = Mutex::new(released);
        let resolver = Resolver::new(2, move |host, port| {
            if host == "hangs" {
                drop(released.lock().map(|it| it.recv()));
            }
            Ok(vec![SocketAddr::from(([192, 0, 2, 1], port))])
        });
        let (sender, outcomes) = channel();
        let next = || outcomes.recv_timeout(DEADLINE);
        let look_up = |host: &'static str, wanted: &Weak<()>| {
            let sender = sender.clone();
            let reply = move |_: Outcome| {
                let _ = sender.send(host);
            };
            // One client may have one of the two threads.
            let client = client(if host == "hangs" { 1 } else { 2 });
            resolver.look_up(client, host, 80, wanted.clone(), reply)
        };
        let client_is_here = Arc::new(());
        let wanted = Arc::downgrade(&client_is_here);
        look_up("hangs", &wanted).unwrap();
        look_up("first", &wanted).unwrap();
        assert_eq!(next(), Ok("first"));
        look_up("hangs", &wanted).unwrap();
        // Its client is gone.
        look_up("withdrawn", &Weak::new()).unwrap();
        look_up("second", &wanted).unwrap();
        assert_eq!(next(), Ok("second"));
        release.send(()).unwrap();
        assert_eq!(next(), Ok("hangs"));
        drop(release);
        assert_eq!(next(), Ok("hangs"));
    }

    #[test]
    fn several_clients_whose_names_hang_leave_a_thread() {
        let (release, released) = channel::<()>();
        let released = Mutex::new(released);
        let (begin, begun) = channel();
        let resolver = Resolver::new(16, move |host, port| {
            if host == "hangs" {
                let _ = begin.send(());
                drop(released.lock().map(|it| it.recv()));
            }
            Ok(vec![SocketAddr::from(([192, 0, 2, 1], port))])
        });
        let wanted = Arc::new(());
        // Half of the threads, and half of the others.
        for (n, threads) in [(1, 8), (2, 4), (3, 2)] {
            for _ in 0..16 {
                let wanted = Arc::downgrade(&wanted);
                let outcome = resolver.look_up(client(n), "hangs", 80, wanted, |_| {});
                outcome.unwrap();
            }
            for _ in 0..threads {
                begun.recv_timeout(DEADLINE).unwrap();
            }
        }
        let (sender, outcomes) = channel();
        let reply = move |outcome: Outcome| sender.send(outcome.is_ok()).unwrap();
        let outcome = resolver.look_up(client(4), "host", 80, Arc::downgrade(&wanted), reply);
        outcome.unwrap();
        assert_eq!(outcomes.recv_timeout(DEADLINE), Ok(true));
        assert!(begun.try_recv().is_err());
        drop(release);
    }

    #[test]
    fn the_queue_is_bounded() {
        let (release, released) = channel::<()>();
        let released = Mutex::new(released);
        let resolver = Resolver::new(1, move |_, _| {
            drop(released.lock().map(|it| it.recv()));
            Ok(vec![])
        });
        let wanted = Arc::new(());
        let accepted = |n: u8| {
            let wanted = || Arc::downgrade(&wanted);
            let look_up = || resolver.look_up(client(n), "host", 80, wanted(), |_| {});
            (0..2 * QUEUE).filter(|_| look_up().is_ok()).count()
        };
        let (first, second) = (accepted(1), accepted(2));
        // The thread takes the first name, now or later.
        assert!((QUEUE_OF_CLIENT..=QUEUE_OF_CLIENT + 1).contains(&first));
        assert_eq!(second, QUEUE_OF_CLIENT);
        let all = first + second + (3..=255).map(accepted).sum::<usize>();
        assert!((QUEUE..=QUEUE + 1).contains(&all), "{all}");
        drop(release);
    }
}

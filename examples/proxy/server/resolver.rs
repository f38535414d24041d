//! Looks names up on threads of its own: the system's resolver blocks, and the loop must not wait for it.
//!
//! A [`Connector`](asynchat::Connector) looks names up, too, but it connects to whatever it finds. Here the access
//! list is applied in between.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

/// The most names that wait for a thread.
const QUEUE: usize = 1024;

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
    threads: usize,
    /// How many of the threads wait for a name.
    idle: usize,
}

struct Request {
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

    /// Looks a name up. `reply` is called on a thread of the resolver, or not at all if `wanted` is gone by then.
    ///
    /// # Errors
    /// When too many names wait already, or the system has no thread left.
    pub fn look_up(
        &self,
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
        if state.queue.len() >= QUEUE {
            state
                .queue
                .retain(|request| request.wanted.strong_count() > 0);
        }
        if state.queue.len() >= QUEUE {
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
            host: host.to_owned(),
            port,
            wanted,
            reply: Box::new(reply),
        });
        self.0.added.notify_one();
        Ok(())
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
            if request.wanted.strong_count() > 0 {
                (request.reply)((self.resolve)(&request.host, request.port));
            }
        }
    }

    fn next(&self) -> Request {
        let mut state = self.lock();
        loop {
            if let Some(request) = state.queue.pop_front() {
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn names_that_hang_use_up_the_threads_and_the_others_follow() {
        let (release, released) = channel::<()>();
        let released = Mutex::new(released);
        let resolver = Resolver::new(2, move |host, port| {
            if host == "hangs" {
                drop(released.lock().map(|it| it.recv()));
            }
            Ok(vec![SocketAddr::from(([192, 0, 2, 1], port))])
        });
        let (sender, outcomes) = channel();
        let wanted = Arc::new(());
        let look_up = |host: &'static str, wanted: &Arc<()>| {
            let sender = sender.clone();
            let reply = move |_: Outcome| {
                let _ = sender.send(host);
            };
            resolver.look_up(host, 80, Arc::downgrade(wanted), reply)
        };
        let withdrawn = Arc::new(());
        look_up("hangs", &wanted).unwrap();
        look_up("first", &wanted).unwrap();
        assert_eq!(outcomes.recv(), Ok("first"));
        look_up("hangs", &wanted).unwrap();
        look_up("withdrawn", &withdrawn).unwrap();
        look_up("second", &wanted).unwrap();
        drop(withdrawn);
        release.send(()).unwrap();
        let mut next = vec![outcomes.recv().unwrap(), outcomes.recv().unwrap()];
        next.sort_unstable();
        assert_eq!(next, ["hangs", "second"]);
        drop(release);
        assert_eq!(outcomes.recv(), Ok("hangs"));
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
        let look_up = || resolver.look_up("host", 80, Arc::downgrade(&wanted), |_| {});
        let accepted = (0..2 * QUEUE).filter(|_| look_up().is_ok()).count();
        assert!((QUEUE..=QUEUE + 1).contains(&accepted), "{accepted}");
        drop(release);
    }
}

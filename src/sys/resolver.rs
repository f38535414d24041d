//! Looks up host names without blocking the loop: a queue of names, and a few threads.
//!
//! The system's resolver blocks until it has an answer, which takes minutes when no name server can be
//! reached. So each loop has up to [`THREADS`] threads for it. A thread is started for a new name, and
//! ends when the queue is empty. Requests for the same name share one look-up.
//!
//! A call of the resolver cannot be cancelled. When every thread is blocked, the other names wait.
//! Their connections then fail at their own deadlines, and drop their [`Ticket`]s. A name without
//! tickets is removed from the queue.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// The most names that one loop looks up at a time.
const THREADS: usize = 4;

/// The most names that may wait for a thread.
const QUEUE: usize = 1024;

/// The addresses of a host, with port 0, or why there are none.
pub(crate) type Outcome = io::Result<Vec<SocketAddr>>;

/// Called with the outcome, on a thread of the resolver.
type Reply = Box<dyn FnOnce(Outcome) + Send>;

type Resolve = dyn Fn(&str) -> Outcome + Send + Sync;

/// Looks up names for one loop.
pub(crate) struct Resolver(Arc<Shared>);

struct Shared {
    resolve: Box<Resolve>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The requests for each name. A name that is being looked up stays here when its last request is
    /// withdrawn: a new request may still share the look-up.
    names: HashMap<Arc<str>, Requests>,
    /// The names that wait for a thread, the oldest first.
    queue: VecDeque<Arc<str>>,
    threads: usize,
    tickets: u64,
}

#[derive(Default)]
struct Requests {
    /// By the numbers of their tickets.
    replies: BTreeMap<u64, Reply>,
    /// Whether a thread looks the name up now.
    in_progress: bool,
}

/// A request for a name. Dropping it withdraws the request, and there is no reply.
pub(crate) struct Ticket {
    shared: Arc<Shared>,
    name: Arc<str>,
    number: u64,
}

impl Resolver {
    pub(crate) fn new(resolve: impl Fn(&str) -> Outcome + Send + Sync + 'static) -> Self {
        Resolver(Arc::new(Shared {
            resolve: Box::new(resolve),
            state: Mutex::default(),
        }))
    }

    /// Looks up a name. `reply` is called once, on another thread, unless the ticket is dropped before.
    ///
    /// # Errors
    /// `ResourceBusy` when 1,024 names wait already. Another error when the system has no thread left.
    pub(crate) fn look_up(&self, name: &str, reply: Reply) -> io::Result<Ticket> {
        let mut state = self.0.lock();
        state.tickets += 1;
        let number = state.tickets;
        if let Some(requests) = state.names.get_mut(name) {
            requests.replies.insert(number, reply);
        } else {
            if state.queue.len() >= QUEUE {
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    "too many host names wait to be looked up",
                ));
            }
            if state.threads < THREADS {
                match start(&self.0) {
                    Ok(()) => state.threads += 1,
                    Err(error) if state.threads == 0 => return Err(error),
                    // The threads that run will look the name up.
                    Err(_) => {}
                }
            }
            let mut requests = Requests::default();
            requests.replies.insert(number, reply);
            state.names.insert(name.into(), requests);
            state.queue.push_back(name.into());
        }
        drop(state);
        Ok(Ticket {
            shared: Arc::clone(&self.0),
            name: name.into(),
            number,
        })
    }
}

/// Starts a thread. It waits for the lock, which the caller holds.
fn start(shared: &Arc<Shared>) -> io::Result<()> {
    let shared = Arc::clone(shared);
    let named = thread::Builder::new().name("asynchat-resolve".to_owned());
    let started = named.spawn(move || shared.work());
    started.map(drop).map_err(|error| {
        io::Error::new(error.kind(), format!("no thread could be started: {error}"))
    })
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(name) = self.next() {
            let outcome = (self.resolve)(&name);
            let requests = self.lock().names.remove(&name).unwrap_or_default();
            for reply in requests.replies.into_values() {
                reply(copy_of(&outcome));
            }
        }
    }

    /// The name that has waited longest. If there is none, the calling thread ends.
    fn next(&self) -> Option<Arc<str>> {
        let mut state = self.lock();
        let name = state.queue.pop_front();
        match &name {
            Some(name) => {
                if let Some(requests) = state.names.get_mut(name) {
                    requests.in_progress = true;
                }
            }
            None => state.threads -= 1,
        }
        name
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let Some(requests) = state.names.get_mut(&self.name) else {
            return;
        };
        let reply = requests.replies.remove(&self.number);
        if requests.replies.is_empty() && !requests.in_progress {
            state.names.remove(&self.name);
            state.queue.retain(|name| *name != self.name);
        }
        drop(state);
        drop(reply);
    }
}

/// A copy of the outcome. An error without a system error code is copied as its kind and its text.
fn copy_of(outcome: &Outcome) -> Outcome {
    match outcome {
        Ok(addrs) => Ok(addrs.clone()),
        Err(error) => Err(match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(error.kind(), error.to_string()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use super::*;

    /// How long a test waits for an event: far longer than it takes.
    const DEADLINE: Duration = Duration::from_secs(20);

    fn addr_of(name: &str) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, name.len() as u8], 0))
    }

    /// A name and the outcome of its look-up.
    type Answer = (String, Outcome);

    /// A resolver whose look-ups of names that begin with "hung" block until the test sends an answer.
    struct Scene {
        resolver: Resolver,
        /// The names, as their look-ups begin.
        begun: Receiver<String>,
        answer: Sender<()>,
        replies: (Sender<Answer>, Receiver<Answer>),
        running: Arc<AtomicUsize>,
    }

    impl Scene {
        fn new() -> Self {
            let ((begin, begun), (answer, answers)) = (channel(), channel::<()>());
            let (running, answers) = (Arc::new(AtomicUsize::new(0)), Mutex::new(answers));
            let at_once = Arc::clone(&running);
            let resolver = Resolver::new(move |name| {
                let others = at_once.fetch_add(1, Ordering::SeqCst);
                assert!(others < THREADS);
                let _ = begin.send(name.to_owned());
                if name.starts_with("hung") {
                    // An error means that the test has ended.
                    let _ = answers.lock().unwrap().recv();
                }
                at_once.fetch_sub(1, Ordering::SeqCst);
                match name {
                    "nobody" => Err(io::Error::new(io::ErrorKind::NotFound, "no such host")),
                    name => Ok(vec![addr_of(name)]),
                }
            });
            Scene {
                resolver,
                begun,
                answer,
                replies: channel(),
                running,
            }
        }

        fn try_ask(&self, name: &str) -> io::Result<Ticket> {
            let (replies, asked) = (self.replies.0.clone(), name.to_owned());
            let reply = move |outcome| drop(replies.send((asked, outcome)));
            self.resolver.look_up(name, Box::new(reply))
        }

        fn ask(&self, name: &str) -> Ticket {
            self.try_ask(name).unwrap()
        }

        fn begun(&self) -> String {
            self.begun.recv_timeout(DEADLINE).unwrap()
        }

        #[track_caller]
        fn expect(&self, name: &str) {
            let (asked, outcome) = self.replies.1.recv_timeout(DEADLINE).unwrap();
            assert_eq!((&*asked, outcome.unwrap()), (name, vec![addr_of(name)]));
        }

        /// Blocks all threads.
        fn hang(&self) -> Vec<Ticket> {
            let tickets = (0..THREADS).map(|n| self.ask(&format!("hung {n}")));
            let tickets: Vec<_> = tickets.collect();
            for _ in 0..THREADS {
                assert!(self.begun().starts_with("hung"));
            }
            assert_eq!(self.running.load(Ordering::SeqCst), THREADS);
            tickets
        }
    }

    #[test]
    fn names_are_looked_up_and_errors_keep_their_kind() {
        let scene = Scene::new();
        let _ticket = scene.ask("host");
        scene.expect("host");
        let _ticket = scene.ask("nobody");
        let (_, outcome) = scene.replies.1.recv_timeout(DEADLINE).unwrap();
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(error.to_string(), "no such host");
    }

    #[test]
    fn many_names_are_looked_up_by_a_few_threads_which_end() {
        let scene = Scene::new();
        let tickets: Vec<_> = (0..100).map(|n| scene.ask(&format!("host {n}"))).collect();
        for _ in &tickets {
            let (name, outcome) = scene.replies.1.recv_timeout(DEADLINE).unwrap();
            assert_eq!(outcome.unwrap(), [addr_of(&name)]);
        }
        // Each ticket has a reference to the state, and so has each thread.
        drop(tickets);
        let deadline = std::time::Instant::now() + DEADLINE;
        while Arc::strong_count(&scene.resolver.0) > 1 {
            assert!(
                std::time::Instant::now() < deadline,
                "a thread does not end"
            );
            thread::yield_now();
        }
        let state = scene.resolver.0.lock();
        assert_eq!((state.threads, state.names.len()), (0, 0));
    }

    #[test]
    fn equal_names_are_looked_up_once() {
        let scene = Scene::new();
        let _first = scene.ask("hung");
        assert_eq!(scene.begun(), "hung");
        let _second = scene.ask("hung");
        let given_up = scene.ask("hung");
        drop(given_up);
        scene.answer.send(()).unwrap();
        scene.expect("hung");
        scene.expect("hung");
        let _again = scene.ask("other");
        scene.expect("other");
        // There was no other look-up, and no other reply.
        assert_eq!(scene.begun(), "other");
        assert!(scene.begun.try_recv().is_err() && scene.replies.1.try_recv().is_err());
    }

    #[test]
    fn a_name_that_is_hung_leaves_the_other_threads() {
        let scene = Scene::new();
        let _hung: Vec<_> = (1..THREADS)
            .map(|n| scene.ask(&format!("hung {n}")))
            .collect();
        for n in 0..20 {
            let name = format!("host {n}");
            let _ticket = scene.ask(&name);
            scene.expect(&name);
        }
    }

    #[test]
    fn a_name_that_nobody_waits_for_leaves_the_queue() {
        let scene = Scene::new();
        let hung = scene.hang();
        let left = scene.ask("left");
        let stays = scene.ask("stays");
        drop(left);
        // Look-ups in progress cannot be cancelled, and get no reply any more.
        drop(hung);
        for _ in 0..THREADS {
            scene.answer.send(()).unwrap();
        }
        scene.expect("stays");
        assert_eq!(scene.begun(), "stays");
        assert!(scene.begun.try_recv().is_err());
        drop(stays);
    }

    #[test]
    fn the_queue_is_bounded() {
        let scene = Scene::new();
        let hung = scene.hang();
        let waiting: Vec<_> = (0..QUEUE).map(|n| scene.ask(&format!("{n}"))).collect();
        let error = scene.try_ask("one more").err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        // A request for a name that waits already takes no room. A withdrawn name makes room.
        let same = scene.ask("0");
        drop(waiting);
        let _room = scene.ask("one more");
        assert_eq!(scene.resolver.0.lock().queue.len(), 2);
        drop((hung, same));
    }
}

//! Looking host names up without holding the loop up: a few threads and one queue.
//!
//! The system's resolver blocks: for as long as it takes, which is minutes when its servers do not
//! answer. So a loop has up to [`THREADS`] threads for it. One is started when a name is asked for, and
//! ends when the queue is empty; none waits for work. A name that is asked for again while it waits or
//! is being looked up is looked up once, and all that asked get the outcome.
//!
//! A call of the resolver cannot be ended from outside. When every thread is held up by a name that
//! gets no answer, other names wait, and connections give up at their own deadlines
//! (`connecting.rs`) and drop the [`Ticket`]: a name without a ticket leaves the queue.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// How many names one loop has looked up at a time.
const THREADS: usize = 4;

/// How many names may wait for a thread.
const QUEUE: usize = 1024;

/// The addresses of a host, with port 0, or why there are none.
pub(crate) type Outcome = io::Result<Vec<SocketAddr>>;

/// Called on a thread of the resolver's.
type Reply = Box<dyn FnOnce(Outcome) + Send>;

type Resolve = dyn Fn(&str) -> Outcome + Send + Sync;

/// Looks names up for one loop.
pub(crate) struct Resolver(Arc<Shared>);

struct Shared {
    resolve: Box<Resolve>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Who waits for which name. One that is being looked up stays here when nobody waits any more,
    /// for those who ask for it again.
    names: HashMap<Arc<str>, Asked>,
    /// The names that no thread looks up yet: the oldest first.
    queue: VecDeque<Arc<str>>,
    threads: usize,
    tickets: u64,
}

#[derive(Default)]
struct Asked {
    /// By the number of their ticket.
    replies: BTreeMap<u64, Reply>,
    in_flight: bool,
}

/// The place of one who waits for a name. Without it there is no reply.
pub(crate) struct Ticket {
    of: Arc<Shared>,
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

    /// Has a name looked up. `reply` is called once, on another thread, unless the ticket is dropped
    /// before.
    ///
    /// # Errors
    /// When too many names wait, or the system has no thread.
    pub(crate) fn look_up(&self, name: &str, reply: Reply) -> io::Result<Ticket> {
        let mut state = self.0.lock();
        state.tickets += 1;
        let number = state.tickets;
        if let Some(asked) = state.names.get_mut(name) {
            asked.replies.insert(number, reply);
        } else {
            if state.queue.len() >= QUEUE {
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    "too many names wait to be looked up",
                ));
            }
            if state.threads < THREADS {
                match start(&self.0) {
                    Ok(()) => state.threads += 1,
                    Err(error) if state.threads == 0 => return Err(error),
                    // Those that run will come to it.
                    Err(_) => {}
                }
            }
            let mut asked = Asked::default();
            asked.replies.insert(number, reply);
            state.names.insert(name.into(), asked);
            state.queue.push_back(name.into());
        }
        drop(state);
        Ok(Ticket {
            of: Arc::clone(&self.0),
            name: name.into(),
            number,
        })
    }
}

/// The thread begins by taking the lock, which the caller holds.
fn start(shared: &Arc<Shared>) -> io::Result<()> {
    let shared = Arc::clone(shared);
    let named = thread::Builder::new().name("asynchat-resolve".to_owned());
    let started = named.spawn(move || shared.work());
    started
        .map(drop)
        .map_err(|error| io::Error::new(error.kind(), format!("no thread to do it: {error}")))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(name) = self.next() {
            let outcome = (self.resolve)(&name);
            let asked = self.lock().names.remove(&name).unwrap_or_default();
            for reply in asked.replies.into_values() {
                reply(copy_of(&outcome));
            }
        }
    }

    /// The name that has waited longest. Without one, the thread that asks ends.
    fn next(&self) -> Option<Arc<str>> {
        let mut state = self.lock();
        let name = state.queue.pop_front();
        match &name {
            Some(name) => {
                if let Some(asked) = state.names.get_mut(name) {
                    asked.in_flight = true;
                }
            }
            None => state.threads -= 1,
        }
        name
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.of.lock();
        let Some(asked) = state.names.get_mut(&self.name) else {
            return;
        };
        let reply = asked.replies.remove(&self.number);
        if asked.replies.is_empty() && !asked.in_flight {
            state.names.remove(&self.name);
            state.queue.retain(|name| *name != self.name);
        }
        drop(state);
        drop(reply);
    }
}

/// The same outcome once more. Of an error that is none of the system's it has the kind and the text.
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

    /// How long a test waits for what has to happen. Far more than it takes.
    const DEADLINE: Duration = Duration::from_secs(20);

    fn addr_of(name: &str) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, name.len() as u8], 0))
    }

    /// A name and what has come of it.
    type Answer = (String, Outcome);

    /// A resolver whose names beginning with "hung" get no answer until the test gives one.
    struct Scene {
        resolver: Resolver,
        /// The names as they are begun.
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
                    // An error is the end of the test.
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

        /// Has all threads held up.
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
        // The tickets have the resolver's state, and so has each of its threads.
        drop(tickets);
        let deadline = std::time::Instant::now() + DEADLINE;
        while Arc::strong_count(&scene.resolver.0) > 1 {
            assert!(std::time::Instant::now() < deadline, "a thread goes on");
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
        // Nothing else was begun, and nobody else was answered.
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
        // Those that are being looked up cannot be ended, and are not answered any more.
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
        // Whoever asks for one that waits takes no room; whoever leaves makes some.
        let same = scene.ask("0");
        drop(waiting);
        let _room = scene.ask("one more");
        assert_eq!(scene.resolver.0.lock().queue.len(), 2);
        drop((hung, same));
    }
}

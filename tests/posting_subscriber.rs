//! A subscriber for the whole process that posts to a loop, and gives it work, whenever something is logged: by the
//! loop, by a thread that posts, and by the poller, which logs with the feature `polling/tracing`. Unlike a subscriber
//! of one thread (`subscriber.rs`), it is also called for what is logged while it runs.

mod common;

use std::cell::{Cell, RefCell};
use std::io::Read;
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Once};
use std::thread;
use std::time::Duration;

use asynchat::{EventLoop, Remote, Result, Server, SharedGroup, Worker, Workers};
use common::new_loop;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// How long a scene may take. Far longer than it takes.
const DEADLINE: Duration = Duration::from_secs(60);

thread_local! {
    /// What the subscriber posts to in this thread, and how often: without a bound, the loop would never be idle.
    static POSTS_TO: RefCell<Option<(Remote, usize)>> = RefCell::default();
    /// The group that the subscriber pushes to in this thread, and how often.
    static PUSHES_TO: RefCell<Option<(SharedGroup, usize)>> = RefCell::default();
    /// The loop of this thread, which the subscriber gives work.
    static WORKS_ON: RefCell<Option<EventLoop>> = RefCell::default();
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

struct Posts(AtomicU64);

fn post() {
    if DEPTH.get() > 3 {
        return;
    }
    DEPTH.set(DEPTH.get() + 1);
    let remote = POSTS_TO.with_borrow_mut(|posts_to| {
        let (remote, left) = posts_to.as_mut()?;
        *left = left.checked_sub(1)?;
        Some(remote.clone())
    });
    if let Some(remote) = remote {
        let outcome = remote.post(|| ());
        let event_loop = WORKS_ON.with_borrow(Clone::clone);
        if let (Ok(()), Some(event_loop)) = (outcome, event_loop) {
            event_loop.call_soon(|| ());
        }
    }
    let group = PUSHES_TO.with_borrow_mut(|pushes_to| {
        let (group, left) = pushes_to.as_mut()?;
        *left = left.checked_sub(1)?;
        Some(group.clone())
    });
    if let Some(group) = group {
        group.push("logged\r\n");
    }
    DEPTH.set(DEPTH.get() - 1);
}

impl Subscriber for Posts {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        post();
        Id::from_u64(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {
        post();
    }
    fn enter(&self, _: &Id) {
        post();
    }
    fn exit(&self, _: &Id) {
        post();
    }
}

/// Makes the subscriber post to this loop when something is logged in this thread.
fn post_to(remote: &Remote, times: usize) {
    POSTS_TO.set(Some((remote.clone(), times)));
}

/// Runs a scene in a thread of its own. A deadlock fails the test.
fn in_time(scene: impl FnOnce() -> Result + Send + 'static) {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        tracing::subscriber::set_global_default(Posts(AtomicU64::new(0))).unwrap();
    });
    let (done, outcome) = mpsc::channel();
    let running = thread::spawn(move || {
        let outcome = scene().map_err(|error| error.to_string());
        POSTS_TO.take();
        PUSHES_TO.take();
        WORKS_ON.take();
        let _ = done.send(outcome);
    });
    let outcome = outcome.recv_timeout(DEADLINE);
    outcome.expect("it deadlocks, or panics").unwrap();
    running.join().unwrap();
}

#[test]
fn a_subscriber_may_post_while_the_loop_is_woken() {
    in_time(|| {
        const THREADS: u64 = 3;
        const EACH: u64 = 300;
        let event_loop = new_loop();
        post_to(&event_loop.remote(), 500);
        let received = Arc::new(AtomicU64::new(0));
        let workers = [(); THREADS as usize].map(|()| {
            let (remote, received) = (event_loop.remote(), Arc::clone(&received));
            thread::spawn(move || {
                post_to(&remote, 500);
                for _ in 0..EACH {
                    let (stop, received) = (remote.clone(), Arc::clone(&received));
                    let call = move || {
                        if received.fetch_add(1, Ordering::Relaxed) + 1 == THREADS * EACH {
                            stop.stop().unwrap();
                        }
                    };
                    remote.post(call).unwrap();
                    thread::yield_now();
                }
                POSTS_TO.take();
            })
        });
        event_loop.run_forever()?;
        assert_eq!(received.load(Ordering::Relaxed), THREADS * EACH);
        workers.into_iter().for_each(|it| it.join().unwrap());
        Ok(())
    });
}

#[test]
fn a_subscriber_may_post_and_work_while_an_outer_loop_is_woken() {
    in_time(|| {
        let event_loop = new_loop();
        let called = Rc::new(Cell::new(0));
        #[cfg(all(unix, not(any(polling_test_poll_backend, target_os = "illumos"))))]
        let _ = std::os::fd::AsFd::as_fd(&event_loop); // The loop is watched from here on.
        event_loop.run_once(Duration::ZERO)?;
        post_to(&event_loop.remote(), 500);
        WORKS_ON.set(Some(event_loop.clone()));
        for round in 1..=200 {
            let counter = Rc::clone(&called);
            event_loop.call_soon(move || counter.set(counter.get() + 1));
            assert_eq!(event_loop.next_timeout(), Some(Duration::ZERO));
            while called.get() < round {
                event_loop.run_once(Duration::ZERO)?;
            }
            let remote = event_loop.remote();
            let worker = thread::spawn(move || {
                post_to(&remote, 10);
                remote.post(|| ()).unwrap();
                POSTS_TO.take();
            });
            event_loop.run_once(Duration::ZERO)?;
            worker.join().unwrap();
        }
        Ok(())
    });
}

#[test]
fn a_subscriber_that_posts_gets_an_error_while_the_loop_ends() {
    in_time(|| {
        for _ in 0..50 {
            let event_loop = EventLoop::new()?;
            let remote = event_loop.remote();
            post_to(&remote, usize::MAX);
            let _listener = event_loop.listen("127.0.0.1:0", |_| |_: &[u8]| Ok(()))?;
            remote.post(|| ()).unwrap();
            let worker = thread::spawn({
                let remote = remote.clone();
                move || {
                    post_to(&remote, usize::MAX);
                    while remote.post(|| ()).is_ok() {
                        thread::yield_now();
                    }
                    POSTS_TO.take();
                }
            });
            event_loop.run_once(Duration::ZERO)?;
            drop(event_loop);
            assert!(remote.post(|| ()).is_err());
            worker.join().unwrap();
        }
        Ok(())
    });
}

/// The first push that a worker is too busy for wakes it, if it has fetched the others and has not run them.
#[test]
fn a_subscriber_may_push_to_a_group_while_the_loop_of_a_worker_is_woken() {
    in_time(|| {
        let setup = |worker: &Worker| {
            let group = worker.group("log");
            worker.listen(Server::new("127.0.0.1:0"), move |chat| {
                group.add(&chat);
                chat.push("joined\r\n");
                |_: &[u8]| Ok(())
            })?;
            Ok(())
        };
        let service = Workers::new().threads(2).group_backlog(1).start(setup)?;
        let remotes = service.remotes();
        let addr = service.local_addrs()[0].inet().ok_or("no address")?;
        let (finished, outcome) = mpsc::channel();
        let ending = remotes.clone();
        thread::spawn(move || {
            // One member on each worker.
            let members = [(); 2].map(|()| {
                let mut member = TcpStream::connect(addr).unwrap();
                member.read_exact(&mut [0; 8]).unwrap();
                member
            });
            let [first, second] = [0, 1].map(|number| remotes.get(number).unwrap().clone());
            // The second worker fetches the next two posts together, and runs one of them.
            let (blocked, block, release) = gate();
            second.post(block).unwrap();
            blocked.recv().unwrap();
            let (in_second, block_again, release_again) = gate();
            second.post(block_again).unwrap();
            let (pushed, has_pushed) = mpsc::channel();
            let push = move || {
                let group = Worker::current().unwrap().group("log");
                assert!(group.push("it waits\r\n"));
                pushed.send(()).unwrap();
            };
            first.post(push).unwrap();
            has_pushed.recv().unwrap();
            release.send(()).unwrap();
            in_second.recv().unwrap();

            let (missed, has_missed) = mpsc::channel();
            let miss = move || {
                let group = Worker::current().unwrap().group("log");
                PUSHES_TO.set(Some((group.clone(), 10)));
                missed.send(group.push("it is missed\r\n")).unwrap();
                PUSHES_TO.take();
            };
            first.post(miss).unwrap();
            assert!(!has_missed.recv().unwrap());
            release_again.send(()).unwrap();
            drop(members);
            ending.stop().unwrap();
            finished.send(()).unwrap();
        });
        asynchat::run()?;
        service.finish()?;
        outcome.recv()?;
        Ok(())
    });
}

/// A call that blocks its loop: it reports that it has begun, and waits until it is released.
fn gate() -> (Receiver<()>, impl FnOnce() + Send, Sender<()>) {
    let (begun, has_begun) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let block = move || {
        begun.send(()).unwrap();
        let _ = released.recv();
    };
    (has_begun, block, release)
}

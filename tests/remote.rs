//! `Remote`: calls to the loop from other threads.

mod common;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use asynchat::{AsyncChat, Channel, ChannelId, Chat, Dispatcher, EventLoop, Remote, Result};
use common::{
    Drops, Log, Peer, Session, failure, idle, new_loop, run_to_end, run_until, served, tcp_pair,
};

/// Gives the loop something to run for until it is stopped.
fn keep_running(event_loop: &EventLoop) {
    event_loop.call_later(Duration::from_secs(3600), || ());
}

#[test]
fn posted_calls_run_on_the_loops_thread_in_the_order_posted() {
    let event_loop = new_loop();
    keep_running(&event_loop);
    let (remote, here) = (event_loop.remote(), thread::current().id());
    let (sender, receiver) = mpsc::channel();
    let worker = thread::spawn(move || -> Result {
        for n in 0..1000 {
            let sender = sender.clone();
            remote.post(move || sender.send((n, thread::current().id())).unwrap())?;
        }
        Ok(remote.stop()?)
    });
    run_to_end(&event_loop);
    worker.join().unwrap().unwrap();
    let ran: Vec<_> = receiver.try_iter().collect();
    assert!(ran.iter().all(|(_, thread)| *thread == here));
    assert!(ran.iter().map(|(n, _)| *n).eq(0..1000));
}

#[test]
fn each_thread_keeps_its_order_and_nothing_is_lost() {
    const POSTS: usize = 2000;
    let event_loop = new_loop();
    keep_running(&event_loop);
    let (sender, receiver) = mpsc::channel();
    let workers = [0, 1, 2, 3].map(|worker| {
        let (remote, sender) = (event_loop.remote(), sender.clone());
        thread::spawn(move || {
            for n in 0..POSTS {
                let sender = sender.clone();
                let posted = remote.post(move || sender.send((worker, n)).unwrap());
                posted.unwrap();
            }
        })
    });
    let mut next = [0; 4];
    run_until(&event_loop, || {
        for (worker, n) in receiver.try_iter() {
            assert_eq!(n, next[worker]);
            next[worker] += 1;
        }
        next == [POSTS; 4]
    });
    for worker in workers {
        worker.join().unwrap();
    }
}

#[test]
fn a_post_wakes_a_loop_that_sleeps_without_a_timeout() {
    let event_loop = new_loop();
    let _listener = event_loop
        .listen("127.0.0.1:0", |_: Chat| |_: &[u8]| Ok(()))
        .unwrap();
    for _ in 0..20 {
        // The second post is made after the first has run, so the loop may be asleep.
        let (remote, ran) = (event_loop.remote(), mpsc::channel());
        let worker = thread::spawn(move || -> Result {
            let (sender, receiver) = ran;
            remote.post(move || sender.send(()).unwrap())?;
            receiver.recv()?;
            Ok(remote.stop()?)
        });
        run_to_end(&event_loop);
        worker.join().unwrap().unwrap();
    }
}

#[test]
fn a_post_made_before_run_keeps_run_going_until_it_has_run() {
    let (event_loop, drops) = (new_loop(), mpsc::channel());
    let sender = drops.0;
    event_loop
        .remote()
        .post(move || sender.send(()).unwrap())
        .unwrap();
    run_to_end(&event_loop);
    assert_eq!(drops.1.try_iter().count(), 1);
}

#[test]
fn a_call_posted_by_a_posted_call_runs_in_another_turn() {
    let event_loop = new_loop();
    let (remote, (sender, receiver)) = (event_loop.remote(), mpsc::channel());
    let again = remote.clone();
    remote
        .post(move || again.post(move || sender.send(()).unwrap()).unwrap())
        .unwrap();
    assert!(event_loop.run_once(Duration::ZERO).unwrap());
    assert_eq!(receiver.try_iter().count(), 0);
    assert!(!event_loop.run_once(Duration::ZERO).unwrap());
    assert_eq!(receiver.try_iter().count(), 1);
}

#[test]
fn free_functions_in_a_posted_call_act_on_its_loop() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    let id = chat.id();
    event_loop
        .remote()
        .post(move || asynchat::chat(id).expect("it is this loop's").push("found"))
        .unwrap();
    peer.expect(&event_loop, "found");
    assert!(asynchat::chat(id).is_none());
}

#[test]
fn a_worker_posts_its_result_to_the_session_that_asked() {
    let (event_loop, log) = (new_loop(), Log::default());
    let remote = event_loop.remote();
    let (_, mut peer) = served(
        &event_loop,
        log.session_with(move |chat, record| {
            let (remote, id) = (remote.clone(), chat.id());
            let n: u64 = std::str::from_utf8(record)?.parse()?;
            thread::spawn(move || {
                let square = n * n;
                remote.post_to(id, move |session: &mut Session| {
                    write!(session.chat, "{square}\r\n");
                    Ok(())
                })
            });
            Ok(())
        }),
    );
    peer.send("12\r\n");
    peer.expect(&event_loop, "144\r\n");
}

/// Logs its callbacks.
struct Recorder {
    channel: Channel,
    log: Log,
}

impl Dispatcher for Recorder {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn handle_error(&mut self, error: &(dyn std::error::Error + Send + Sync + 'static)) {
        self.log.add(error.to_string());
    }
    fn handle_close(&mut self, why: &asynchat::Close) {
        self.log.add(common::name(why));
    }
}

/// A registered dispatcher, and its peer.
fn registered(event_loop: &EventLoop, log: &Log) -> (ChannelId, Peer) {
    let (near, far) = tcp_pair();
    let channel = Channel::adopt(near).unwrap();
    let log = log.clone();
    let id = event_loop.register(Recorder { channel, log }).unwrap();
    (id, Peer::new(far))
}

#[test]
fn post_to_reaches_a_dispatcher() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (id, _peer) = registered(&event_loop, &log);
    event_loop
        .remote()
        .post_to(id, |registered: &mut Recorder| {
            registered.log.add("call");
            Ok(())
        })
        .unwrap();
    run_until(&event_loop, || log.has("call"));
}

#[test]
fn a_call_posted_to_a_handler_closes_the_channel_if_it_fails() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (id, _peer) = registered(&event_loop, &log);
    event_loop
        .remote()
        .post_to(id, |_: &mut Recorder| Err(failure()))
        .unwrap();
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["it was to fail", "Handler"]);
}

#[test]
fn a_call_posted_to_a_handler_may_close_its_channel() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (id, _peer) = registered(&event_loop, &log);
    event_loop
        .remote()
        .post_to(id, |registered: &mut Recorder| {
            registered.channel.close();
            Ok(())
        })
        .unwrap();
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["Local"]);
}

#[test]
fn a_call_posted_to_a_closed_channel_or_another_type_is_dropped() {
    let (event_loop, log, drops) = (new_loop(), Log::default(), mpsc::channel());
    let (id, peer) = registered(&event_loop, &log);
    let remote = event_loop.remote();
    struct Another;
    let sender: mpsc::Sender<()> = drops.0;
    let sender_clone = sender.clone();
    remote
        .post_to(id, move |_: &mut Another| panic!("{sender_clone:?}"))
        .unwrap();
    idle(&event_loop);
    drop(peer);
    event_loop.close_all();
    run_to_end(&event_loop);
    remote
        .post_to(id, move |_: &mut Recorder| panic!("{sender:?}"))
        .unwrap();
    run_to_end(&event_loop);
    assert_eq!(drops.1.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    assert_eq!(log.lines(), ["Local"]);
}

#[test]
fn chat_post_calls_its_handler_in_order() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, _peer) = served(&event_loop, log.session());
    for n in 0..3 {
        let log = log.clone();
        chat.post(move |_: &mut Session| {
            log.add(format!("call {n}"));
            Ok(())
        })
        .unwrap();
    }
    assert_eq!(log.lines(), ["connect"]);
    idle(&event_loop);
    assert_eq!(log.lines(), ["connect", "call 0", "call 1", "call 2"]);
}

#[test]
fn chat_post_to_another_type_or_a_closed_chat_is_an_error() {
    struct Another;
    impl asynchat::AsyncChat for Another {
        fn found_terminator(&mut self, _: &[u8]) -> asynchat::Result {
            Ok(())
        }
    }
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, _peer) = served(&event_loop, log.session());
    let error = chat.post(|_: &mut Another| Ok(())).unwrap_err();
    assert!(error.to_string().contains("Another"), "{error}");
    chat.close();
    assert!(chat.post(|_: &mut Session| Ok(())).is_err());
    run_to_end(&event_loop);
    assert!(chat.post(|_: &mut Session| Ok(())).is_err());
}

#[test]
fn a_posted_call_to_a_chat_that_ends_is_dropped() {
    let (event_loop, log, drops) = (new_loop(), Log::default(), Drops::default());
    let (chat, _peer) = served(&event_loop, log.session());
    let token = drops.token();
    chat.post(move |_: &mut Session| {
        let _token = &token;
        panic!("it has ended");
    })
    .unwrap();
    chat.close();
    run_to_end(&event_loop);
    assert_eq!(drops.count(), 1);
    assert_eq!(log.lines(), ["connect", "close Local"]);
}

/// The type of a closure cannot be named, so nothing can be posted to such a session. Its chat can
/// be used instead.
#[test]
fn a_closure_may_be_a_session() {
    let event_loop = new_loop();
    let listener = event_loop
        .listen("127.0.0.1:0", |chat: Chat| {
            move |record: &[u8]| {
                chat.push_slice(record);
                Ok(())
            }
        })
        .unwrap();
    let mut peer = Peer::connect(common::addr_of(&listener));
    peer.send("echo\r\n");
    peer.expect(&event_loop, "echo");
}

#[test]
fn every_method_fails_after_the_loop_is_dropped() {
    let event_loop = new_loop();
    let remote = event_loop.remote();
    remote.post(|| ()).unwrap();
    event_loop.run().unwrap();
    // Between two runs the loop exists and accepts posts.
    let (sender, receiver) = mpsc::channel::<()>();
    remote.post(move || sender.send(()).unwrap()).unwrap();
    drop(event_loop);
    assert_eq!(receiver.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    // A wake-up that fails has the kind of the system's error.
    let gone = remote.post(|| ()).unwrap_err();
    assert_eq!(gone.io_kind(), None, "{gone}");
    assert!(remote.stop().is_err());
    assert!(remote.shutdown(Duration::ZERO).is_err());
}

#[test]
fn the_loop_of_a_thread_ends_with_the_thread() {
    let worker = thread::spawn(|| asynchat::remote().unwrap());
    let remote: Remote = worker.join().unwrap();
    assert!(remote.post(|| ()).is_err());
}

#[test]
fn remote_and_channel_id_can_be_sent_to_other_threads() {
    fn is_send_and_sync<T: Send + Sync + Clone>() {}
    is_send_and_sync::<Remote>();
    is_send_and_sync::<ChannelId>();
    fn is_a_session<S: AsyncChat>(_: &S) {}
    is_a_session(&|_: &[u8]| Ok(()));
}

/// Runs an empty loop on a thread. Returns its handle for this thread, and the thread.
fn reactor() -> (Remote, thread::JoinHandle<Result>) {
    let (sender, started) = mpsc::channel();
    let running = thread::spawn(move || -> Result {
        let event_loop = EventLoop::new()?;
        sender.send(event_loop.remote())?;
        event_loop.run_forever()?;
        assert!(event_loop.is_empty());
        // Only that call ran for ever.
        event_loop.run()?;
        Ok(())
    });
    (started.recv().unwrap(), running)
}

#[test]
fn an_empty_loop_that_runs_for_ever_serves_other_threads_until_it_is_stopped() {
    let (remote, running) = reactor();
    let (sender, answers) = mpsc::channel();
    for n in 0..3 {
        let sender = sender.clone();
        remote.post(move || sender.send(n).unwrap()).unwrap();
        assert_eq!(answers.recv_timeout(common::DEADLINE), Ok(n));
    }
    // A connection and a timer come and go. The loop stays.
    let (near, mut far) = tcp_pair();
    remote
        .post(move || {
            let chat = asynchat::Connector::adopt(near).connect(|_| |_: &[u8]| Ok(()));
            let timer = asynchat::call_later(Duration::from_secs(3600), || ());
            sender.send(i32::from(asynchat::cancel(timer))).unwrap();
            chat.unwrap().close();
        })
        .unwrap();
    assert_eq!(answers.recv_timeout(common::DEADLINE), Ok(1));
    std::io::copy(&mut far, &mut std::io::sink()).unwrap();
    remote.stop().unwrap();
    running.join().unwrap().unwrap();
    assert!(remote.post(|| ()).is_err());
}

#[test]
fn a_shutdown_ends_a_loop_that_runs_for_ever() {
    let (remote, running) = reactor();
    remote.shutdown(Duration::from_secs(3600)).unwrap();
    running.join().unwrap().unwrap();
}

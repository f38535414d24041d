//! Several loops: two on one thread, one within another, one for each thread.

mod common;

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use asynchat::{Chat, EventLoop, Result};
use common::{Log, Peer, addr_of, idle, new_loop, run_to_end, run_until, served};

/// Echoes.
fn echo(chat: Chat) -> impl FnMut(&[u8]) -> Result {
    move |record: &[u8]| {
        chat.push_slice(record);
        chat.push("\r\n");
        Ok(())
    }
}

#[test]
fn two_loops_on_one_thread_serve_their_own_connections() {
    let (one, other) = (new_loop(), new_loop());
    let (first, second) = (Log::default(), Log::default());
    let (to_first, mut a) = served(&one, first.session());
    let (to_second, mut b) = served(&other, second.session());
    a.send("for the first\r\n");
    b.send("for the second\r\n");
    run_until(&one, || first.has("record"));
    idle(&one);
    assert!(!second.has("record"));
    run_until(&other, || second.has("record"));
    assert_eq!(first.lines(), ["connect", "record for the first"]);
    assert_eq!(second.lines(), ["connect", "record for the second"]);
    // A handle knows its loop.
    assert!(one.chat(to_first.id()).is_some());
    assert!(one.chat(to_second.id()).is_none());
    assert!(other.chat(to_first.id()).is_none());
}

#[test]
fn a_client_of_one_loop_talks_to_a_server_of_another_on_the_same_thread() {
    let (servers, clients, log) = (new_loop(), new_loop(), Log::default());
    let listener = servers.listen("127.0.0.1:0", echo).unwrap();
    let chat = clients.connect(addr_of(&listener), log.session()).unwrap();
    chat.push("hello\r\n");
    run_until(&clients, || {
        servers.run_once(Duration::ZERO).unwrap();
        log.has("record hello")
    });
}

#[test]
fn a_chat_of_another_loop_can_be_pushed_to_and_its_loop_sends_it() {
    let (one, other) = (new_loop(), new_loop());
    let (to, mut peer) = served(&other, Log::default().session());
    let (_, mut speaks) = served(
        &one,
        Log::default().session_with(move |chat, record| {
            to.push_slice(record);
            chat.push("done");
            Ok(())
        }),
    );
    speaks.send("across\r\n");
    speaks.expect(&one, "done");
    peer.expect(&other, "across");
}

#[test]
fn a_callback_may_run_another_loop() {
    let (outer, log) = (new_loop(), Log::default());
    let log_clone = log.clone();
    let (_, mut peer) = served(
        &outer,
        log.session_with(move |chat, _| {
            let inner = EventLoop::new()?;
            let listener = inner.listen("127.0.0.1:0", echo)?;
            let answers = Log::default();
            let client = inner.connect(addr_of(&listener), answers.session())?;
            client.push("hello\r\n");
            let (watched, stops) = (answers.clone(), inner.clone());
            let watch = inner.call_every(Duration::from_millis(1), move || {
                // The free functions act on the loop that runs, which is the inner one.
                assert_eq!(asynchat::EventLoop::current().unwrap().len(), stops.len());
                if watched.has("record hello") {
                    asynchat::stop();
                }
            });
            inner.run()?;
            assert!(inner.cancel(watch));
            log_clone.add(format!("inner: {}", answers.lines().join(", ")));
            // After that they act on the outer loop again.
            assert!(asynchat::chat(chat.id()).is_some());
            chat.push("done\r\n");
            Ok(())
        }),
    );
    peer.send("go\r\n");
    peer.expect(&outer, "done\r\n");
    assert!(log.has("inner: connect, record hello"));
}

#[test]
fn free_functions_act_on_the_threads_default_loop_when_none_runs() {
    let log = Log::default();
    let listener = asynchat::listen("127.0.0.1:0", log.session()).unwrap();
    let default = EventLoop::current().unwrap();
    assert_eq!(default.len(), 1);
    assert_eq!(new_loop().len(), 0);
    let mut peer = Peer::connect(addr_of(&listener));
    peer.send("hello\r\n");
    run_until(&default, || log.has("record hello"));
    asynchat::close_all();
    let timer = asynchat::call_every(Duration::from_secs(60), || ());
    assert!(asynchat::reschedule(timer, Duration::ZERO));
    asynchat::call_later(Duration::from_millis(1), move || {
        assert!(asynchat::cancel(timer));
    });
    run_to_end(&default);
    assert!(!asynchat::run_once(Duration::ZERO).unwrap());
    asynchat::run().unwrap();
}

#[test]
fn each_thread_has_a_loop_of_its_own() {
    let (sender, receiver) = mpsc::channel();
    let server = thread::spawn(move || -> Result {
        let listener = asynchat::listen("127.0.0.1:0", echo)?;
        sender.send((addr_of(&listener), asynchat::remote()?))?;
        asynchat::run()?;
        Ok(())
    });
    let (addr, remote): (SocketAddr, _) = receiver.recv().unwrap();
    let (event_loop, log) = (new_loop(), Log::default());
    assert!(EventLoop::current().unwrap().is_empty());
    let chat = event_loop.connect(addr, log.session()).unwrap();
    let lines: String = (0..2000).map(|n| format!("{n}\r\n")).collect();
    chat.push(lines);
    run_until(&event_loop, || log.count("record") == 2000);
    let wanted = (0..2000).map(|n| format!("record {n}"));
    assert!(log.lines().into_iter().skip(1).eq(wanted));
    remote.shutdown(Duration::ZERO).unwrap();
    server.join().unwrap().unwrap();
    run_to_end(&event_loop);
    assert_eq!(log.count("close"), 1);
}

/// A loop has a descriptor that is readable when the loop has something to do.
#[cfg(all(unix, not(any(polling_test_poll_backend, target_os = "illumos"))))]
#[test]
fn a_loop_can_be_nested_in_another_through_its_descriptor() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    let readable = |wait: Duration| {
        let wait = Timespec {
            tv_sec: wait.as_secs() as _,
            tv_nsec: wait.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&event_loop, PollFlags::IN)];
        poll(&mut fds, Some(&wait)).unwrap() == 1
    };
    idle(&event_loop);
    assert!(!readable(Duration::ZERO));
    assert_eq!(event_loop.next_timeout(), None);
    peer.send("hello\r\n");
    assert!(readable(Duration::from_secs(20)));
    event_loop.run_once(Duration::ZERO).unwrap();
    assert!(log.has("record hello"));
    assert!(!readable(Duration::ZERO));
    // A push from outside needs a turn, and the descriptor becomes readable.
    chat.push("to be sent");
    assert_eq!(event_loop.next_timeout(), Some(Duration::ZERO));
    event_loop.run_once(Duration::ZERO).unwrap();
    assert_eq!(event_loop.next_timeout(), None);
    // A post from another thread does the same.
    event_loop.remote().post(|| ()).unwrap();
    assert!(readable(Duration::from_secs(20)));
    event_loop.run_once(Duration::ZERO).unwrap();
    assert!(!readable(Duration::ZERO));
    event_loop.call_later(Duration::from_secs(60), || ());
    let next = event_loop.next_timeout().unwrap();
    assert!(next > Duration::from_secs(30) && next <= Duration::from_secs(60));
}

//! Calls that were posted or deferred before a shutdown are made before it closes a channel, whatever its
//! grace.

mod common;

use std::rc::Rc;
use std::thread;
use std::time::Duration;

use asynchat::{AsyncChat, Channel, Chat, Close, Connector, Dispatcher, EventLoop, Result};
use common::{Log, Peer, name, new_loop, run_to_end, run_until, tcp_pair};

/// A session that the calls find by its type.
struct Member {
    chat: Chat,
    log: Log,
}

impl AsyncChat for Member {
    fn handle_connect(&mut self) -> Result {
        self.log.add("connect");
        Ok(())
    }
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(())
    }
    fn handle_shutdown(&mut self) -> Result<asynchat::AtShutdown> {
        self.log.add("shutdown");
        self.chat.push("bye\r\n");
        Ok(asynchat::AtShutdown::CloseWhenDone)
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(format!("close {}", name(why)));
    }
}

fn say(text: &'static str) -> impl FnOnce(&mut Member) -> Result + Send {
    move |member| {
        member.log.add(text);
        write!(member.chat, "{text}\r\n");
        Ok(())
    }
}

/// A member whose session does not exist yet: its factory is a deferred call.
fn member(event_loop: &EventLoop) -> (Chat, Log, Peer) {
    let (near, far) = tcp_pair();
    let log = Log::default();
    let factory = {
        let log = log.clone();
        move |chat| Member { chat, log }
    };
    let chat = Connector::adopt(near).connect_on(event_loop, factory);
    (chat.unwrap(), log, Peer::new(far))
}

#[test]
fn a_post_to_a_chat_precedes_the_close() {
    let event_loop = new_loop();
    let (chat, log, mut peer) = member(&event_loop);
    chat.post(say("first")).unwrap();
    event_loop.shutdown(Duration::ZERO);
    run_to_end(&event_loop);
    let expected = ["connect", "first", "shutdown", "close Shutdown"];
    assert_eq!(log.lines(), expected);
    assert_eq!(peer.receive_all(&event_loop), b"first\r\nbye\r\n");
}

#[test]
fn a_post_from_another_thread_precedes_the_close() {
    let event_loop = new_loop();
    let (chat, log, mut peer) = member(&event_loop);
    run_until(&event_loop, || log.has("connect"));
    let (id, remote) = (chat.id(), event_loop.remote());
    let worker = thread::spawn(move || {
        // More than a turn has time for.
        for _ in 0..5_000 {
            remote.post(|| ())?;
        }
        remote.post_to(id, say("first"))
    });
    worker.join().unwrap().unwrap();
    event_loop.shutdown(Duration::ZERO);
    run_to_end(&event_loop);
    let expected = ["connect", "first", "shutdown", "close Shutdown"];
    assert_eq!(log.lines(), expected);
    assert_eq!(peer.receive_all(&event_loop), b"first\r\nbye\r\n");
}

#[test]
fn a_deferred_call_precedes_the_close_and_nothing_is_registered_meanwhile() {
    let event_loop = new_loop();
    let (chat, log, mut peer) = member(&event_loop);
    let (pushes, inner) = (chat.clone(), event_loop.clone());
    event_loop.call_soon(move || {
        pushes.push("first\r\n");
        assert!(inner.listen("127.0.0.1:0", |_| |_: &[u8]| Ok(())).is_err());
    });
    let listener = event_loop.listen("127.0.0.1:0", |_| |_: &[u8]| Ok(()));
    event_loop.shutdown(Duration::ZERO);
    assert!(!listener.unwrap().is_open(), "it accepts no more");
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "shutdown", "close Shutdown"]);
    assert_eq!(peer.receive_all(&event_loop), b"first\r\nbye\r\n");
}

#[test]
fn a_session_is_called_for_a_shutdown_without_grace_from_any_context() {
    type Begin = fn(&EventLoop);
    let contexts: [Begin; 3] = [
        |event_loop| event_loop.remote().shutdown(Duration::ZERO).unwrap(),
        |event_loop| {
            let inner = event_loop.clone();
            event_loop.call_later(Duration::ZERO, move || inner.shutdown(Duration::ZERO));
        },
        |event_loop| {
            let inner = event_loop.clone();
            event_loop.call_soon(move || inner.shutdown(Duration::ZERO));
        },
    ];
    for begin in contexts {
        let event_loop = new_loop();
        let (_chat, log, mut peer) = member(&event_loop);
        run_until(&event_loop, || log.has("connect"));
        begin(&event_loop);
        run_to_end(&event_loop);
        assert_eq!(log.lines(), ["connect", "shutdown", "close Shutdown"]);
        assert_eq!(peer.receive_all(&event_loop), b"bye\r\n");
    }
}

#[test]
fn calls_that_defer_others_for_ever_do_not_delay_the_shutdown() {
    fn again(event_loop: &EventLoop) {
        let inner = event_loop.clone();
        event_loop.call_soon(move || again(&inner));
    }
    let event_loop = new_loop();
    let (_chat, log, _peer) = member(&event_loop);
    again(&event_loop);
    event_loop.shutdown(Duration::ZERO);
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "shutdown", "close Shutdown"]);
}

/// Closes at a shutdown, because it has nothing to write.
struct Quiet {
    channel: Channel,
    log: Log,
}

impl Dispatcher for Quiet {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(format!("close {}", name(why)));
    }
}

#[test]
fn a_post_to_a_dispatcher_precedes_its_close() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (near, _far) = tcp_pair();
    let channel = Channel::adopt(near).unwrap();
    let quiet = Quiet {
        channel: channel.clone(),
        log: log.clone(),
    };
    let id = event_loop.register(quiet).unwrap();
    let posted = |quiet: &mut Quiet| {
        quiet.log.add("first");
        Ok(())
    };
    event_loop.remote().post_to(id, posted).unwrap();
    event_loop.shutdown(Duration::ZERO);
    channel.update_interest();
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["first", "close Shutdown"]);
}

#[test]
fn a_shutdown_that_was_overtaken_by_the_last_close_leaves_nothing_behind() {
    let event_loop = new_loop();
    let (chat, log, _peer) = member(&event_loop);
    run_until(&event_loop, || log.has("connect"));
    let called = Rc::new(());
    let held = Rc::clone(&called);
    event_loop.call_soon(move || drop(held));
    chat.close();
    event_loop.shutdown(Duration::ZERO);
    run_to_end(&event_loop);
    assert_eq!(Rc::strong_count(&called), 1, "the call was made");
    // The loop can be used again.
    let (_chat, log, _peer) = member(&event_loop);
    run_until(&event_loop, || log.has("connect"));
    common::idle(&event_loop);
    assert!(!log.has("close"));
}

#[test]
fn what_an_earlier_post_defers_follows_the_shutdown() {
    let event_loop = new_loop();
    let (chat, log, mut peer) = member(&event_loop);
    run_until(&event_loop, || log.has("connect"));
    let remote = event_loop.remote();
    // The post is fetched in the turn after the shutdown, and defers its call behind a call of before it.
    let defers = |member: &mut Member| {
        member.log.add("posted");
        member.chat.post(say("later"))?;
        Ok(())
    };
    remote.post_to(chat.id(), defers).unwrap();
    chat.post(say("deferred")).unwrap();
    event_loop.shutdown(Duration::from_secs(60));
    run_to_end(&event_loop);
    let lines = log.lines();
    let expected = ["connect", "posted", "deferred", "shutdown"];
    assert_eq!(lines[..4], expected);
    assert_eq!(lines.last().map(|line| &**line), Some("close Shutdown"));
    assert!(
        peer.receive_all(&event_loop)
            .starts_with(b"deferred\r\nbye\r\n")
    );
}

//! `stop` and `shutdown`, from everywhere.

mod common;

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::net::TcpStream;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use asynchat::{Channel, Chat, EventLoop};
use common::{
    Log, Peer, Session, Slot, addr_of, idle, new_loop, run_to_end, run_until, run_until_blocked,
    served,
};

const LONG: Duration = Duration::from_secs(3600);

/// A loop that would run for ever, and a session in it that does this with the loop.
fn endless(act: impl Fn(&EventLoop) + 'static) -> (EventLoop, Log, Slot, Peer, Channel) {
    let (event_loop, log, slot) = (new_loop(), Log::default(), Slot::default());
    let inner = event_loop.clone();
    let session = log.session_with(move |_, _| {
        act(&inner);
        Ok(())
    });
    let listener = event_loop
        .listen("127.0.0.1:0", slot.keep(session))
        .unwrap();
    event_loop.call_every(LONG, || ());
    let peer = Peer::connect(addr_of(&listener));
    run_until(&event_loop, || log.has("connect"));
    (event_loop, log, slot, peer, listener)
}

#[test]
fn stop_from_a_callback_leaves_all_as_it_is_and_run_may_be_called_again() {
    let (event_loop, log, slot, mut peer, _listener) = endless(EventLoop::stop);
    peer.send("stop\r\n");
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "record stop"]);
    assert!(slot.chat().is_open());
    peer.send("stop again\r\n");
    run_to_end(&event_loop);
    assert_eq!(log.count("record"), 2);
}

#[test]
fn stop_from_a_timer_a_deferred_call_a_hook_and_another_thread() {
    let (event_loop, _, slot, _peer, _listener) = endless(|_| ());
    let stop = || {
        let event_loop = event_loop.clone();
        move || event_loop.stop()
    };
    event_loop.call_later(Duration::ZERO, stop());
    run_to_end(&event_loop);
    event_loop.call_soon(stop());
    run_to_end(&event_loop);
    slot.chat().push_hook(stop());
    run_to_end(&event_loop);
    let remote = event_loop.remote();
    let worker = thread::spawn(move || remote.stop());
    run_to_end(&event_loop);
    worker.join().unwrap().unwrap();
}

#[test]
fn stop_before_run_takes_effect_at_once_and_only_once() {
    let event_loop = new_loop();
    let log = Log::default();
    let called = log.clone();
    event_loop.call_soon(move || called.add("called"));
    event_loop.stop();
    event_loop.run().unwrap();
    assert_eq!(log.lines().len(), 0);
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["called"]);
}

#[test]
fn stop_ends_a_sequence_of_single_turns() {
    let (event_loop, _, _, _peer, _listener) = endless(|_| ());
    assert!(event_loop.run_once(Duration::ZERO).unwrap());
    let stops = event_loop.clone();
    event_loop.call_soon(move || stops.stop());
    assert!(!event_loop.run_once(Duration::ZERO).unwrap());
    assert!(event_loop.run_once(Duration::ZERO).unwrap());
}

#[test]
fn a_stop_in_the_last_turn_does_not_stop_the_next_run() {
    let (event_loop, log) = (new_loop(), Log::default());
    let stops = event_loop.clone();
    event_loop.call_soon(move || stops.stop());
    assert!(!event_loop.run_once(Duration::ZERO).unwrap());
    let called = log.clone();
    event_loop.call_soon(move || called.add("called"));
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["called"]);
}

/// What a shutdown has to do, wherever it comes from.
#[track_caller]
fn shuts_down(event_loop: &EventLoop, log: &Log, mut peer: Peer, listener: &Channel) {
    run_to_end(event_loop);
    assert_eq!(log.lines().last().unwrap(), "close Shutdown");
    assert_eq!(log.count("close"), 1);
    assert!(event_loop.is_empty());
    assert!(!listener.is_open());
    assert!(peer.wait_for_end(event_loop).is_ok());
}

#[test]
fn shutdown_from_a_callback() {
    let (event_loop, log, _, mut peer, listener) = endless(|it| it.shutdown(LONG));
    peer.send("shutdown\r\nmore\r\n");
    shuts_down(&event_loop, &log, peer, &listener);
}

#[test]
fn shutdown_from_a_timer() {
    let (event_loop, log, _, peer, listener) = endless(|_| ());
    let inner = event_loop.clone();
    event_loop.call_later(Duration::ZERO, move || inner.shutdown(LONG));
    shuts_down(&event_loop, &log, peer, &listener);
}

#[test]
fn shutdown_from_another_thread() {
    let (event_loop, log, _, peer, listener) = endless(|_| ());
    let remote = event_loop.remote();
    let worker = thread::spawn(move || remote.shutdown(LONG));
    shuts_down(&event_loop, &log, peer, &listener);
    worker.join().unwrap().unwrap();
}

#[test]
fn shutdown_before_run() {
    let (event_loop, log, _, peer, listener) = endless(|_| ());
    event_loop.shutdown(LONG);
    shuts_down(&event_loop, &log, peer, &listener);
}

#[test]
fn shutdown_of_an_empty_loop_returns_at_once() {
    let event_loop = new_loop();
    event_loop.call_later(LONG, || panic!("it is not due"));
    event_loop.shutdown(LONG);
    run_to_end(&event_loop);
}

#[test]
fn shutdown_sends_what_is_queued_and_takes_no_more_input() {
    let (event_loop, log, slot, mut peer, _listener) = endless(|_| ());
    let reply = "x".repeat(3_000_000);
    slot.chat().push(reply.clone());
    event_loop.shutdown(LONG);
    peer.send("too late\r\n");
    peer.expect(&event_loop, reply);
    run_until(&event_loop, || log.has("close"));
    assert_eq!(log.count("record"), 0);
    assert_eq!(log.lines().last().unwrap(), "close Shutdown");
}

#[test]
fn shutdown_accepts_nobody_and_registers_nothing() {
    let (event_loop, log, slot, _peer, listener) = endless(|_| ());
    let addr = addr_of(&listener);
    let chat = slot.chat();
    chat.push(vec![b'x'; 8 << 20]);
    run_until_blocked(&event_loop, &chat);
    event_loop.shutdown(LONG);
    idle(&event_loop);
    let refused = TcpStream::connect(addr).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert!(event_loop.listen("127.0.0.1:0", log.session()).is_err());
    assert!(event_loop.connect(addr, log.session()).is_err());
    assert!(chat.is_open());
}

#[test]
fn after_the_grace_what_is_left_is_aborted() {
    let (event_loop, log, slot, mut peer, _listener) = endless(|_| ());
    let chat = slot.chat();
    chat.push(vec![b'x'; 8 << 20]);
    run_until_blocked(&event_loop, &chat);
    event_loop.shutdown(Duration::from_millis(20));
    run_to_end(&event_loop);
    assert_eq!(log.lines().last().unwrap(), "close Shutdown");
    let end = peer.wait_for_end(&event_loop);
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_second_shutdown_changes_the_grace() {
    let (event_loop, _, slot, _peer, _listener) = endless(|_| ());
    let chat = slot.chat();
    chat.push(vec![b'x'; 8 << 20]);
    run_until_blocked(&event_loop, &chat);
    event_loop.shutdown(LONG);
    idle(&event_loop);
    assert!(chat.is_open());
    event_loop.shutdown(Duration::ZERO);
    run_to_end(&event_loop);
    assert!(!chat.is_open());
}

#[test]
fn a_loop_can_be_used_again_after_a_shutdown() {
    let (event_loop, _, _, _peer, _listener) = endless(|_| ());
    event_loop.shutdown(LONG);
    run_to_end(&event_loop);
    let log = Log::default();
    let (_, mut peer) = served(&event_loop, log.session());
    peer.send("hello\r\n");
    run_until(&event_loop, || log.has("record hello"));
}

#[test]
fn a_shutdown_during_another_connections_callback_reaches_all() {
    let (event_loop, log) = (new_loop(), Log::default());
    let inner = event_loop.clone();
    let chats: Rc<RefCell<Vec<Chat>>> = Rc::default();
    let session = log.session_with(move |_, _| {
        inner.shutdown(LONG);
        Ok(())
    });
    let made = Rc::clone(&chats);
    let listener = event_loop
        .listen("127.0.0.1:0", move |chat: Chat| -> Session {
            made.borrow_mut().push(chat.clone());
            session(chat)
        })
        .unwrap();
    let mut peers = [(); 5].map(|()| Peer::connect(addr_of(&listener)));
    run_until(&event_loop, || log.count("connect") == 5);
    for peer in &mut peers {
        peer.send("down\r\n");
    }
    run_to_end(&event_loop);
    assert_eq!(log.count("record"), 1);
    assert_eq!(log.count("close Shutdown"), 5);
}

#[test]
fn a_connection_under_way_is_shut_down_and_told() {
    let (event_loop, log) = (new_loop(), Log::default());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    event_loop.connect(addr, log.session()).unwrap();
    event_loop.shutdown(LONG);
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["close Shutdown"]);
}

#[test]
fn a_call_that_asks_for_itself_again_does_not_hold_a_shutdown_up() {
    fn again(event_loop: &EventLoop, calls: &Rc<Cell<u32>>) {
        calls.set(calls.get() + 1);
        let (next, calls) = (event_loop.clone(), Rc::clone(calls));
        event_loop.call_soon(move || again(&next, &calls));
    }
    let (event_loop, calls) = (new_loop(), Rc::default());
    again(&event_loop, &calls);
    event_loop.shutdown(Duration::ZERO);
    run_to_end(&event_loop);
    assert!(calls.get() < 10, "{}", calls.get());
}

#[test]
fn what_a_close_asks_for_is_called_before_a_shutdown_is_over() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, _peer) = served(&event_loop, log.session());
    let (inner, told) = (event_loop.clone(), log.clone());
    chat.push_hook(move || inner.call_soon(move || told.add("called")));
    event_loop.shutdown(LONG);
    run_to_end(&event_loop);
    assert!(log.has("called"), "{:?}", log.lines());
}

//! A loop inside another one: after each call from outside, the loop asks for a turn instead of
//! sleeping. The examples of embedding are tested in examples/tests/programs.rs.

mod common;

use std::time::Duration;

use asynchat::{Chat, EventLoop};
use common::{DEADLINE, Log, idle, new_loop, refusing, served};

/// Calls `act` on an idle loop with one connection, and then runs turns for as long as the loop
/// asks for one at once.
#[track_caller]
fn asks_for_a_turn(what: &str, act: impl FnOnce(&EventLoop, &Chat)) {
    let event_loop = new_loop();
    let (chat, _peer) = served(&event_loop, Log::default().session());
    idle(&event_loop);
    assert_eq!(event_loop.next_timeout(), None, "before {what}");
    act(&event_loop, &chat);
    let asks = || event_loop.next_timeout() == Some(Duration::ZERO);
    assert!(asks(), "the loop sleeps after {what}");
    let mut turns = 0;
    while asks() {
        turns += 1;
        assert!(turns < 20, "{what} keeps the loop busy");
        event_loop.run_once(Duration::ZERO).unwrap();
    }
}

#[test]
fn each_call_from_outside_asks_for_a_turn() {
    asks_for_a_turn("a push", |_, chat| chat.push("hello"));
    asks_for_a_turn("a producer", |_, chat| chat.push_with_producer("hello"));
    asks_for_a_turn("a hook", |_, chat| chat.push_hook(|| ()));
    asks_for_a_turn("a close", |_, chat| chat.close());
    asks_for_a_turn("a close when done", |_, chat| chat.close_when_done());
    asks_for_a_turn("an abort", |_, chat| chat.abort());
    asks_for_a_turn("an end of output", |_, chat| Chat::shutdown_write(chat));
    asks_for_a_turn("a pause", |_, chat| chat.pause_reading());
    asks_for_a_turn("a resumption", |event_loop, chat| {
        chat.pause_reading();
        idle(event_loop);
        chat.resume_reading();
    });
    asks_for_a_turn("a terminator", |_, chat| {
        chat.set_terminator(asynchat::Terminator::count(0));
    });
    asks_for_a_turn("limits", |_, chat| chat.set_limits(chat.limits()));
    asks_for_a_turn("a discard", |_, chat| chat.discard_buffers());
    asks_for_a_turn("a call posted to the handler", |_, chat| {
        chat.post(|_: &mut common::Session| Ok(())).unwrap();
    });
    asks_for_a_turn("a promise that is fulfilled", |event_loop, chat| {
        let promise = chat.promise();
        idle(event_loop);
        promise.fulfill("hello");
    });
    asks_for_a_turn("a call", |event_loop, _| event_loop.call_soon(|| ()));
    asks_for_a_turn("a timer that is due", |event_loop, _| {
        event_loop.call_later(Duration::ZERO, || ());
    });
    asks_for_a_turn("a timer that is cancelled", |event_loop, _| {
        let timer = event_loop.call_later(DEADLINE, || ());
        event_loop.cancel(timer);
    });
    asks_for_a_turn("a post", |event_loop, _| {
        event_loop.remote().post(|| ()).unwrap();
    });
    asks_for_a_turn("a listener", |event_loop, _| {
        event_loop
            .listen("127.0.0.1:0", Log::default().session())
            .unwrap();
    });
    asks_for_a_turn("a connection", |event_loop, _| {
        let (_socket, addr) = refusing();
        event_loop.connect(addr, Log::default().session()).unwrap();
    });
    asks_for_a_turn("a stop", |event_loop, _| event_loop.stop());
    asks_for_a_turn("a shutdown", |event_loop, _| event_loop.shutdown(DEADLINE));
    asks_for_a_turn("a close of all", |event_loop, _| event_loop.close_all());
}

#[test]
fn a_shutdown_of_an_empty_loop_asks_for_a_turn() {
    let event_loop = new_loop();
    event_loop.shutdown(DEADLINE);
    assert_eq!(event_loop.next_timeout(), Some(Duration::ZERO));
    assert!(!event_loop.run_once(Duration::ZERO).unwrap());
    assert_eq!(event_loop.next_timeout(), None);
}

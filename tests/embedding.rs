//! A loop inside another: what is done to it from outside is never slept on. The examples of that
//! are in examples/tests/programs.rs.

mod common;

use std::time::Duration;

use asynchat::{Chat, EventLoop, Promise};
use common::{DEADLINE, Log, idle, new_loop, refusing, served};

/// Does this to a loop that is idle and has one connection, and runs turns for as long as it says
/// that it has something to do.
#[track_caller]
fn calls_for_a_turn(what: &str, act: impl FnOnce(&EventLoop, &Chat)) {
    let event_loop = new_loop();
    let (chat, _peer) = served(&event_loop, Log::default().session());
    idle(&event_loop);
    assert_eq!(event_loop.next_timeout(), None, "before {what}");
    act(&event_loop, &chat);
    let asks = || event_loop.next_timeout() == Some(Duration::ZERO);
    assert!(asks(), "{what} is slept on");
    let mut turns = 0;
    while asks() {
        turns += 1;
        assert!(turns < 20, "{what} keeps the loop busy");
        event_loop.run_once(Duration::ZERO).unwrap();
    }
}

#[test]
fn what_is_done_from_outside_calls_for_a_turn() {
    calls_for_a_turn("a push", |_, chat| chat.push("hello"));
    calls_for_a_turn("a producer", |_, chat| chat.push_with_producer("hello"));
    calls_for_a_turn("a hook", |_, chat| chat.push_hook(|| ()));
    calls_for_a_turn("a close", |_, chat| chat.close());
    calls_for_a_turn("a close when done", |_, chat| chat.close_when_done());
    calls_for_a_turn("an abort", |_, chat| chat.abort());
    calls_for_a_turn("an end of output", |_, chat| Chat::shutdown_write(chat));
    calls_for_a_turn("a pause", |_, chat| chat.pause_reading());
    calls_for_a_turn("a resumption", |event_loop, chat| {
        chat.pause_reading();
        idle(event_loop);
        chat.resume_reading();
    });
    calls_for_a_turn("a terminator", |_, chat| {
        chat.set_terminator(asynchat::Terminator::count(0));
    });
    calls_for_a_turn("limits", |_, chat| chat.set_limits(chat.limits()));
    calls_for_a_turn("a discard", |_, chat| chat.discard_buffers());
    calls_for_a_turn("a visit", |_, chat| {
        chat.post(|_: &mut common::Session| Ok(())).unwrap();
    });
    calls_for_a_turn("a promise that is kept", |event_loop, chat| {
        let (promise, later) = Promise::new(chat);
        chat.push_with_producer(later);
        idle(event_loop);
        promise.fulfill("hello");
    });
    calls_for_a_turn("a call", |event_loop, _| event_loop.call_soon(|| ()));
    calls_for_a_turn("a timer that is due", |event_loop, _| {
        event_loop.call_later(Duration::ZERO, || ());
    });
    calls_for_a_turn("a timer that is cancelled", |event_loop, _| {
        let timer = event_loop.call_later(DEADLINE, || ());
        event_loop.cancel(timer);
    });
    calls_for_a_turn("a post", |event_loop, _| {
        event_loop.remote().post(|| ()).unwrap();
    });
    calls_for_a_turn("a listener", |event_loop, _| {
        event_loop
            .listen("127.0.0.1:0", Log::default().session())
            .unwrap();
    });
    calls_for_a_turn("a connection", |event_loop, _| {
        let (_socket, addr) = refusing();
        event_loop.connect(addr, Log::default().session()).unwrap();
    });
    calls_for_a_turn("a stop", |event_loop, _| event_loop.stop());
    calls_for_a_turn("a shutdown", |event_loop, _| event_loop.shutdown(DEADLINE));
    calls_for_a_turn("a close of all", |event_loop, _| event_loop.close_all());
}

#[test]
fn a_shutdown_with_nothing_left_is_not_slept_on() {
    let event_loop = new_loop();
    event_loop.shutdown(DEADLINE);
    assert_eq!(event_loop.next_timeout(), Some(Duration::ZERO));
    assert!(!event_loop.run_once(Duration::ZERO).unwrap());
    assert_eq!(event_loop.next_timeout(), None);
}

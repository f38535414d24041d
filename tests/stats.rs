//! The counters of a loop and of a channel.

mod common;

use std::time::Duration;

use asynchat::{Chat, Closes, Deadlines, EventLoop, Limits, LoopStats, Server};
use common::{
    Log, Peer, Slot, addr_of, failure, idle, new_loop, refusing, run_to_end, run_until, served,
};

/// Ends a served connection with `end`. Returns the increase of the close counters.
#[track_caller]
fn closes_of(end: impl FnOnce(&EventLoop, &Chat, Peer)) -> Closes {
    let (event_loop, log, slot) = (new_loop(), Log::default(), Slot::default());
    let session = log.session_with(|_, record| match record {
        b"panic" => std::panic::resume_unwind(Box::new("on purpose")),
        _ => Err(failure()),
    });
    let listener = event_loop
        .listen("127.0.0.1:0", slot.capture(session))
        .unwrap();
    let peer = Peer::connect(addr_of(&listener));
    run_until(&event_loop, || log.has("connect"));
    let chat = slot.chat();
    end(&event_loop, &chat, peer);
    run_until(&event_loop, || log.has("close"));
    let stats = event_loop.stats();
    // The connection, and also the listener where the loop was ended.
    let also = u64::from(!listener.is_open());
    assert_eq!((stats.opened, stats.closed), (2, 1 + also));
    assert_eq!(sum(&stats.closes), stats.closed);
    stats.closes
}

fn sum(closes: &Closes) -> u64 {
    closes.iter().map(|(_, count)| count).sum()
}

#[test]
fn every_reason_to_close_has_its_counter() {
    let send = |text: &'static str| {
        move |event_loop: &EventLoop, chat: &Chat, mut peer: Peer| {
            peer.send(text);
            run_until(event_loop, || !chat.is_open());
        }
    };
    assert_eq!(closes_of(|_, chat, _| chat.close()).local, 1);
    assert_eq!(closes_of(|_, chat, _| chat.close_when_done()).local, 1);
    assert_eq!(closes_of(|_, _, peer| drop(peer)).eof, 1);
    assert_eq!(closes_of(|_, _, peer| peer.reset()).reset, 1);
    assert_eq!(closes_of(send("fail\r\n")).handler, 1);
    assert_eq!(closes_of(send("panic\r\n")).panic, 1);
    let too_long = |event_loop: &EventLoop, chat: &Chat, peer: Peer| {
        chat.set_limits(Limits::default().record(3));
        send("too long\r\n")(event_loop, chat, peer);
    };
    assert_eq!(closes_of(too_long).input_limit, 1);
    let flood = |_: &EventLoop, chat: &Chat, _: Peer| {
        chat.set_limits(Limits::default().output(100));
        // The kernel does not take this much. With each push it is offered some of it.
        chat.push(vec![b'x'; 16 << 20]);
        for _ in 0..1000 {
            chat.push("one more");
        }
    };
    assert_eq!(closes_of(flood).output_limit, 1);
    let late = |event_loop: &EventLoop, chat: &Chat, peer: Peer| {
        chat.set_deadlines(Deadlines::default().idle(Duration::from_millis(10)));
        run_until(event_loop, || !chat.is_open());
        drop(peer);
    };
    assert_eq!(closes_of(late).timeout, 1);
    let shut_down = |event_loop: &EventLoop, _: &Chat, _: Peer| event_loop.shutdown(Duration::ZERO);
    assert_eq!(closes_of(shut_down).shutdown, 2);
}

#[test]
fn a_connection_that_fails_is_counted() {
    let event_loop = new_loop();
    let (_socket, addr) = refusing();
    event_loop.connect(addr, Log::default().session()).unwrap();
    run_to_end(&event_loop);
    let stats = event_loop.stats();
    assert_eq!((stats.opened, stats.closed), (1, 1));
    assert_eq!(stats.closes.connect_failed, 1);
    assert_eq!(sum(&stats.closes), 1);
}

#[test]
fn a_lingering_connection_is_counted_as_closed_once() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    let before = event_loop.stats();
    chat.close_when_done();
    run_until(&event_loop, || log.has("close"));
    assert_eq!(event_loop.len(), 1);
    let lingers = event_loop.stats();
    assert_eq!(lingers.closed, before.closed + 1);
    peer.send("nobody reads this");
    drop(peer);
    run_to_end(&event_loop);
    let after = event_loop.stats();
    assert_eq!(
        (after.opened, after.closed),
        (before.opened, lingers.closed)
    );
    assert_eq!(after.closes, lingers.closes);
    assert_eq!(
        after.bytes_in,
        before.bytes_in + 17,
        "bytes read while lingering count"
    );
}

#[test]
fn refused_clients_are_counted_among_those_accepted() {
    let event_loop = new_loop();
    let listener = Server::new("127.0.0.1:0")
        .limits(Limits::default().connections(1))
        .listen_on(&event_loop, Log::default().session())
        .unwrap();
    let peers = [(); 5].map(|()| Peer::connect(addr_of(&listener)));
    run_until(&event_loop, || event_loop.stats().accepted == 5);
    let stats = event_loop.stats();
    assert_eq!((stats.refused, stats.accepts_failed), (4, 0));
    assert_eq!((stats.opened, stats.closed), (2, 0));
    drop(peers);
}

#[test]
fn bytes_and_records_are_the_sum_over_all_channels_including_closed_ones() {
    let (event_loop, log) = (new_loop(), Log::default());
    let echo = || {
        log.session_with(|chat, record| {
            chat.push_slice(record);
            Ok(())
        })
    };
    let (first, mut one) = served(&event_loop, echo());
    let (second, mut two) = served(&event_loop, echo());
    one.send("abc\r\ndef\r\nrest");
    one.expect(&event_loop, "abcdef");
    two.send("gh\r\n");
    two.expect(&event_loop, "gh");
    run_until(&event_loop, || first.stats().bytes_in == 14);
    let totals = |stats: LoopStats| (stats.bytes_in, stats.bytes_out, stats.records_in);
    let of = |chat: &Chat| {
        let stats = chat.stats();
        (stats.bytes_in, stats.bytes_out, stats.records_in)
    };
    assert_eq!(of(&first), (14, 6, 2));
    assert_eq!(of(&second), (4, 2, 1));
    assert_eq!(totals(event_loop.stats()), (18, 8, 3));
    drop(one);
    run_until(&event_loop, || !first.is_open());
    second.close();
    run_to_end(&event_loop);
    assert_eq!(totals(event_loop.stats()), (18, 8, 3));
}

#[test]
fn records_before_a_panic_and_the_one_that_panics_are_counted() {
    let event_loop = new_loop();
    let panics = Log::default().session_with(|_, record| {
        assert_ne!(record, b"three", "on purpose");
        Ok(())
    });
    let (chat, mut peer) = served(&event_loop, panics);
    peer.send("one\r\ntwo\r\nthree\r\nfour\r\n");
    run_until(&event_loop, || !chat.is_open());
    assert_eq!(chat.stats().records_in, 3);
}

#[test]
fn every_turn_is_counted_and_wakeups_only_with_an_event() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    idle(&event_loop);
    let (before, chat_before) = (event_loop.stats(), chat.stats());
    for _ in 0..7 {
        event_loop.run_once(Duration::ZERO).unwrap();
    }
    let after = event_loop.stats();
    assert_eq!(
        (after.turns, after.wakeups),
        (before.turns + 7, before.wakeups)
    );
    assert_eq!(chat.stats(), chat_before);

    peer.send("a record\r\n");
    run_until(&event_loop, || log.has("record"));
    let woken = event_loop.stats();
    assert_eq!(
        (woken.wakeups, woken.events),
        (after.wakeups + 1, after.events + 1)
    );
    let stats = chat.stats();
    assert_eq!(stats.wakeups, chat_before.wakeups + 1);
    assert_eq!(stats.turns, chat_before.turns + 1);

    // A turn that a push causes is no wake-up.
    chat.push("something");
    peer.expect(&event_loop, "something");
    assert_eq!(chat.stats().wakeups, stats.wakeups);
    assert!(chat.stats().turns > stats.turns);
}

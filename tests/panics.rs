//! A panic in a callback ends its own connection. The others are served, and the loop continues.

mod common;

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{
    AsyncChat, Channel, Chat, Close, Dispatcher, Eof, EventLoop, Limits, More, Overflow, Producer,
    RecordLimit, Result, Terminator, TimerId,
};
use common::{Log, Peer, addr_of, idle, new_loop, run_to_end, run_until, served, tcp_pair};

/// Panics in one of its callbacks.
struct Panics {
    chat: Chat,
    log: Log,
    callback: &'static str,
}

impl Panics {
    fn at(&self, callback: &str) {
        assert!(self.callback != callback, "panic in {callback}");
    }
}

impl AsyncChat for Panics {
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        self.at("found_terminator");
        if record == b"timer" {
            self.chat.call_later(Duration::ZERO);
        }
        Ok(())
    }
    fn collect_incoming_data(&mut self, _: &[u8]) -> Result {
        self.at("collect_incoming_data");
        Ok(())
    }
    fn handle_connect(&mut self) -> Result {
        self.at("handle_connect");
        Ok(())
    }
    fn handle_overflow(&mut self, _limit: &RecordLimit) -> Result<Overflow> {
        self.at("handle_overflow");
        Ok(Overflow::CloseWhenDone)
    }
    fn handle_eof(&mut self, _: &[u8]) -> Result<Eof> {
        self.at("handle_eof");
        Ok(Eof::CloseWhenDone)
    }
    fn handle_low_water(&mut self) -> Result {
        self.at("handle_low_water");
        Ok(())
    }
    fn handle_timer(&mut self, _: TimerId) -> Result {
        self.at("handle_timer");
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(match why {
            Close::Panic(message) => format!("close {message}"),
            why => format!("close {}", common::name(why)),
        });
        self.at("handle_close");
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        self.at("drop");
    }
}

/// A connection whose session panics in this callback, and another connection.
fn with_another_connection(callback: &'static str) -> (EventLoop, Log, Chat, Peer, Peer) {
    let (event_loop, log, slot) = (new_loop(), Log::default(), common::Slot::default());
    let (_, neighbour) = served(
        &event_loop,
        Log::default().session_with(|chat, record| {
            chat.push_slice(record);
            Ok(())
        }),
    );
    let log_clone = log.clone();
    let factory = slot.capture(move |chat| Panics {
        chat,
        log: log_clone.clone(),
        callback,
    });
    let listener = event_loop.listen("127.0.0.1:0", factory).unwrap();
    let peer = Peer::connect(addr_of(&listener));
    run_until(&event_loop, || slot.is_filled());
    listener.close();
    (event_loop, log, slot.chat(), peer, neighbour)
}

#[track_caller]
fn assert_contained(callback: &'static str, provoke: impl FnOnce(&Chat, &mut Peer), reason: &str) {
    let (event_loop, log, chat, mut peer, mut neighbour) = with_another_connection(callback);
    provoke(&chat, &mut peer);
    run_until(&event_loop, || log.has("close"));
    neighbour.send("still here\r\n");
    neighbour.expect(&event_loop, "still here");
    assert_eq!(log.lines(), [format!("close {reason}")], "{callback}");
    assert!(!chat.is_open());
}

#[test]
fn a_panic_in_any_callback_ends_its_own_connection() {
    let send = |text: &'static str| move |_: &Chat, peer: &mut Peer| peer.send(text);
    assert_contained(
        "found_terminator",
        send("a\r\nb\r\n"),
        "panic in found_terminator",
    );
    assert_contained("handle_connect", send(""), "panic in handle_connect");
    assert_contained("handle_timer", send("timer\r\n"), "panic in handle_timer");
    assert_contained("handle_eof", |_, peer| peer.finish(), "panic in handle_eof");
    let streamed = |chat: &Chat, peer: &mut Peer| {
        chat.set_terminator(Terminator::none());
        peer.send("a");
    };
    assert_contained(
        "collect_incoming_data",
        streamed,
        "panic in collect_incoming_data",
    );
    let too_long = |chat: &Chat, peer: &mut Peer| {
        chat.set_limits(Limits::default().record(3));
        peer.send("1234");
    };
    assert_contained("handle_overflow", too_long, "panic in handle_overflow");
    let drained = |chat: &Chat, _: &mut Peer| {
        chat.set_limits(Limits::default().low_water(0).high_water(1));
        chat.push("ab");
    };
    assert_contained("handle_low_water", drained, "panic in handle_low_water");
    assert_contained("handle_close", |chat, _| chat.close(), "Local");
    assert_contained("drop", |chat, _| chat.close(), "Local");
}

struct PanickingProducer;

impl Producer for PanickingProducer {
    fn more(&mut self, _: usize) -> io::Result<More> {
        panic!("panic in a producer");
    }
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("panic in a destructor");
    }
}

impl Producer for PanicsWhenDropped {
    fn more(&mut self, _: usize) -> io::Result<More> {
        Ok(More::Done)
    }
}

#[test]
fn a_panic_in_a_hook_or_producer_ends_its_own_connection() {
    let hook = |chat: &Chat, _: &mut Peer| chat.push_hook(|| panic!("panic in a hook"));
    assert_contained("nowhere", hook, "panic in a hook");
    let producer = |chat: &Chat, _: &mut Peer| chat.push_with_producer(PanickingProducer);
    assert_contained("nowhere", producer, "panic in a producer");
    let dropped = |chat: &Chat, _: &mut Peer| chat.push_with_producer(PanicsWhenDropped);
    assert_contained("nowhere", dropped, "panic in a destructor");
    let posted = |chat: &Chat, _: &mut Peer| {
        chat.post(|_: &mut Panics| panic!("panic in a posted call"))
            .unwrap();
    };
    assert_contained("nowhere", posted, "panic in a posted call");
    let discarded = |chat: &Chat, _: &mut Peer| {
        chat.push_with_producer(PanicsWhenDropped);
        chat.discard_buffers();
        chat.close();
    };
    assert_contained("nowhere", discarded, "Local");
    let unfinished = |chat: &Chat, _: &mut Peer| {
        chat.push_with_producer(PanicsWhenDropped);
        chat.close();
    };
    assert_contained("nowhere", unfinished, "Dropped");
}

#[test]
fn several_panics_in_one_queue_end_one_connection() {
    let unfinished = |chat: &Chat, _: &mut Peer| {
        chat.push_with_producer(PanicsWhenDropped);
        chat.push_with_producer(PanicsWhenDropped);
        chat.discard_buffers();
        chat.push_with_producer(PanicsWhenDropped);
        chat.push_with_producer(PanicsWhenDropped);
        chat.close();
    };
    assert_contained("nowhere", unfinished, "Dropped");
}

#[test]
fn a_panic_in_a_factory_ends_that_connection_only() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (session, count) = (log.session(), Cell::new(0));
    let listener = event_loop
        .listen("127.0.0.1:0", move |chat| {
            count.set(count.get() + 1);
            assert_ne!(count.get(), 1, "the first one panics");
            session(chat)
        })
        .unwrap();
    let mut first = Peer::connect(addr_of(&listener));
    // A reset or an orderly end.
    let _ = first.wait_for_end(&event_loop);
    let mut second = Peer::connect(addr_of(&listener));
    second.send("served\r\n");
    run_until(&event_loop, || log.has("record served"));

    let addr = addr_of(&listener);
    let chat = event_loop.connect(addr, |_| -> fn(&[u8]) -> Result { panic!("no handler") });
    let chat = chat.unwrap();
    run_until(&event_loop, || !chat.is_open());
    assert!(event_loop.chat(chat.id()).is_none());
}

#[test]
fn a_panic_in_a_timer_or_call_of_the_loop_ends_no_connection() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, _peer) = served(&event_loop, log.session());
    event_loop.call_soon(|| panic!("panic in a deferred call"));
    event_loop.call_later(Duration::ZERO, || panic!("panic in a timer"));
    let remote = event_loop.remote();
    remote.post(|| panic!("panic in a posted call")).unwrap();
    let bomb = PanicsWhenDropped;
    let timer = event_loop.call_later(Duration::from_secs(3600), move || drop(bomb));
    assert!(event_loop.cancel(timer));
    let ticks = Rc::new(Cell::new(0));
    let counted = Rc::clone(&ticks);
    let periodic = event_loop.call_every(Duration::from_millis(1), move || {
        counted.set(counted.get() + 1);
        panic!("panic in a periodic timer, which goes on");
    });
    run_until(&event_loop, || ticks.get() == 3);
    event_loop.cancel(periodic);
    assert!(chat.is_open());
    assert_eq!(log.lines(), ["connect"]);
    chat.close();
    run_to_end(&event_loop);
}

/// A dispatcher that panics in `handle_read`, or that fails there and panics in `handle_error`.
struct Reads {
    channel: Channel,
    log: Log,
    fails: bool,
}

impl Dispatcher for Reads {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn handle_read(&mut self) -> Result {
        if self.fails {
            return Err(common::failure());
        }
        panic!("panic in handle_read");
    }
    fn handle_error(&mut self, _: &(dyn std::error::Error + Send + Sync + 'static)) {
        panic!("panic in handle_error");
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(why.to_string());
    }
}

#[test]
fn a_panic_in_a_dispatcher_ends_its_own_channel() {
    for (fails, callback) in [(false, "handle_read"), (true, "handle_error")] {
        let (event_loop, log) = (new_loop(), Log::default());
        let (near, far) = tcp_pair();
        let reads = Reads {
            channel: Channel::adopt(near).unwrap(),
            log: log.clone(),
            fails,
        };
        event_loop.register(reads).unwrap();
        Peer::new(far).send("x");
        run_to_end(&event_loop);
        assert_eq!(
            log.lines(),
            [format!("its handler panicked: panic in {callback}")]
        );
    }
}

#[test]
fn a_panic_between_records_does_not_affect_the_input_of_the_next_connection() {
    let (event_loop, log, _, mut peer, mut neighbour) = with_another_connection("found_terminator");
    let much = "x".repeat(5000);
    peer.send(format!("a\r\n{much}"));
    run_until(&event_loop, || log.has("close"));
    for n in 0..3 {
        neighbour.send(format!("{much}{n}\r\n"));
        neighbour.expect(&event_loop, format!("{much}{n}"));
    }
    idle(&event_loop);
    assert_eq!(neighbour.look(), b"");
}

#[test]
fn the_payload_of_a_panic_may_panic_when_dropped() {
    struct PanickingProducer;
    impl Drop for PanickingProducer {
        fn drop(&mut self) {
            panic!("and again");
        }
    }
    let (event_loop, log) = (new_loop(), Log::default());
    let session = log.session_with(|_, _| std::panic::panic_any(PanickingProducer));
    let (_chat, mut peer) = served(&event_loop, session);
    peer.send("now\r\n");
    run_until(&event_loop, || log.has("close Panic"));
    event_loop.call_soon(|| std::panic::panic_any(PanickingProducer));
    event_loop.run_once(Duration::ZERO).unwrap();
}

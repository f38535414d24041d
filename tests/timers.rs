//! Timers and deferred calls of loops and channels.

mod common;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use asynchat::{AsyncChat, Channel, Chat, Close, Dispatcher, Result, Terminator, TimerId};
use common::{Drops, Log, Peer, idle, new_loop, run_to_end, run_until, served, tcp_pair};

const SOON: Duration = Duration::from_millis(1);
const NEVER: Duration = Duration::from_secs(3600);

#[test]
fn run_returns_at_once_when_nothing_is_registered() {
    let event_loop = new_loop();
    run_to_end(&event_loop);
    assert!(!event_loop.run_once(None).unwrap());
    assert!(!event_loop.run_once(Duration::ZERO).unwrap());
    assert!(!event_loop.run_once(NEVER).unwrap());
}

#[test]
fn run_waits_for_pending_timers_and_returns_after_the_last() {
    let (event_loop, log) = (new_loop(), Log::default());
    for (delay, line) in [(3, "third"), (1, "first"), (2, "second"), (3, "fourth")] {
        let log = log.clone();
        event_loop.call_later(SOON * delay, move || log.add(line));
    }
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["first", "second", "third", "fourth"]);
}

/// pyftpdlib's timers waited for the first event if they were set before the loop ran.
#[test]
fn a_timer_set_before_the_loop_runs_fires_without_an_event() {
    let event_loop = new_loop();
    let _listener = event_loop
        .listen("127.0.0.1:0", |_: Chat| |_: &[u8]| Ok(()))
        .unwrap();
    let stops = event_loop.clone();
    event_loop.call_later(SOON, move || stops.stop());
    run_to_end(&event_loop);
}

/// macOS refuses to wait for more than three years with EINVAL.
#[test]
fn a_wait_of_a_century_is_no_error_and_can_be_ended() {
    let event_loop = new_loop();
    event_loop.call_later(100 * 365 * 24 * NEVER, || panic!("it is not due"));
    let remote = event_loop.remote();
    let other = std::thread::spawn(move || remote.stop());
    event_loop.run().unwrap();
    other.join().unwrap().unwrap();
}

#[test]
fn run_once_with_a_zero_timeout_does_not_wait_for_a_timer() {
    let event_loop = new_loop();
    let timer = event_loop.call_later(NEVER, || panic!("it is not due"));
    assert!(event_loop.run_once(Duration::ZERO).unwrap());
    assert!(event_loop.cancel(timer));
    assert!(!event_loop.run_once(Duration::ZERO).unwrap());
}

#[test]
fn deferred_calls_run_in_order_and_nested_ones_in_the_next_turn() {
    let (event_loop, log) = (new_loop(), Log::default());
    for n in 0..3 {
        let (log, inner) = (log.clone(), event_loop.clone());
        event_loop.call_soon(move || {
            log.add(format!("call {n}"));
            let log = log.clone();
            inner.call_soon(move || log.add(format!("again {n}")));
        });
    }
    assert!(event_loop.run_once(Duration::ZERO).unwrap());
    assert_eq!(log.lines(), ["call 0", "call 1", "call 2"]);
    assert!(!event_loop.run_once(Duration::ZERO).unwrap());
    assert_eq!(log.lines()[3..], ["again 0", "again 1", "again 2"]);
}

#[test]
fn a_deferred_call_never_runs_inside_call_soon() {
    let (event_loop, log) = (new_loop(), Log::default());
    let called = log.clone();
    event_loop.call_soon(move || called.add("called"));
    assert_eq!(log.lines().len(), 0);
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["called"]);
}

#[test]
fn a_cancelled_timer_never_fires_and_its_closure_is_dropped() {
    let (event_loop, drops) = (new_loop(), Drops::default());
    let token = drops.token();
    let timer = event_loop.call_later(Duration::ZERO, move || {
        let _token = &token;
        panic!("it was cancelled");
    });
    assert!(event_loop.cancel(timer));
    assert!(!event_loop.cancel(timer));
    assert!(!event_loop.reschedule(timer, SOON));
    run_to_end(&event_loop);
    assert_eq!(drops.count(), 1);
}

#[test]
fn a_timer_can_be_moved_until_it_has_fired() {
    let (event_loop, log) = (new_loop(), Log::default());
    let fired = log.clone();
    let timer = event_loop.call_later(NEVER, move || fired.add("fired"));
    assert!(event_loop.reschedule(timer, SOON));
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["fired"]);
    assert!(!event_loop.reschedule(timer, SOON));
    assert!(!event_loop.cancel(timer));
}

#[test]
fn a_timer_of_another_loop_is_ignored() {
    let (one, other) = (new_loop(), new_loop());
    let timer = one.call_later(NEVER, || ());
    other.call_later(NEVER, || ());
    assert!(!other.cancel(timer));
    assert!(one.cancel(timer));
}

/// Sets a periodic timer that calls `act` with its id and the number of the call.
fn every(event_loop: &asynchat::EventLoop, log: &Log, act: impl Fn(TimerId, usize) + 'static) {
    let (slot, log) = (Rc::new(Cell::new(None)), log.clone());
    let (own, mut count) = (Rc::clone(&slot), 0);
    let timer = event_loop.call_every(SOON, move || {
        count += 1;
        log.add(format!("tick {count}"));
        act(own.get().expect("it is set"), count);
    });
    slot.set(Some(timer));
}

#[test]
fn a_periodic_timer_may_cancel_itself() {
    let (event_loop, log) = (new_loop(), Log::default());
    let inner = event_loop.clone();
    every(&event_loop, &log, move |timer, count| {
        if count == 3 {
            assert!(inner.cancel(timer));
            assert!(!inner.cancel(timer));
        }
    });
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["tick 1", "tick 2", "tick 3"]);
}

#[test]
fn a_periodic_timer_may_move_itself() {
    let (event_loop, log) = (new_loop(), Log::default());
    let inner = event_loop.clone();
    every(&event_loop, &log, move |timer, _| {
        assert!(inner.reschedule(timer, NEVER));
    });
    run_until(&event_loop, || log.has("tick 1"));
    let stops = event_loop.clone();
    event_loop.call_later(SOON * 20, move || stops.stop());
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["tick 1"]);
}

#[test]
fn a_periodic_timer_of_zero_does_not_delay_others() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (_, mut peer) = served(&event_loop, log.session());
    let timer = event_loop.call_every(Duration::ZERO, || ());
    peer.send("here too\r\n");
    run_until(&event_loop, || log.has("record here too"));
    assert!(event_loop.cancel(timer));
}

/// A period of zero would be due in every turn.
#[test]
fn the_shortest_period_is_a_millisecond() {
    const CALLS: u32 = 20;
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, _peer) = served(&event_loop, log.session());
    let called = log.clone();
    let begun = event_loop.now();
    chat.call_every(Duration::ZERO);
    event_loop.call_every(Duration::from_nanos(1), move || called.add("call"));
    for what in ["timer", "call"] {
        run_until(&event_loop, || log.count(what) >= CALLS as usize);
        // What is late skips calls, and makes none early.
        let calls = u32::try_from(log.count(what)).unwrap();
        assert!(event_loop.now() - begun >= SOON * calls, "{what}: {calls}");
    }
}

#[test]
fn channel_timers_reach_their_handler() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, _peer) = served(&event_loop, log.session());
    let once = chat.call_later(SOON);
    run_until(&event_loop, || log.has("timer"));
    assert!(!event_loop.cancel(once));
    let periodic = chat.call_every(SOON);
    run_until(&event_loop, || log.count("timer") == 4);
    assert!(event_loop.cancel(periodic));
    idle(&event_loop);
    assert_eq!(log.count("timer"), 4);
}

#[test]
fn channel_timers_are_cancelled_with_their_channel_so_that_run_returns() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, _peer) = served(&event_loop, log.session());
    chat.call_later(NEVER);
    chat.call_every(NEVER);
    chat.set_idle_timeout(NEVER);
    chat.set_terminator(Terminator::idle_gap(NEVER));
    let closing = chat.clone();
    event_loop.call_later(SOON, move || closing.close());
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "close Local"]);
}

#[test]
fn a_channel_closed_when_its_timer_is_due_gets_no_timer_callback() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, _peer) = served(&event_loop, log.session());
    let closing = chat.clone();
    event_loop.call_later(Duration::ZERO, move || closing.close());
    chat.call_later(Duration::ZERO);
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "close Local"]);
}

/// Ends its connection, or fails, at its second timer callback.
struct Ticks {
    chat: Chat,
    log: Log,
    count: usize,
    fails: bool,
}

impl AsyncChat for Ticks {
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(())
    }
    fn handle_connect(&mut self) -> Result {
        self.chat.call_every(SOON);
        Ok(())
    }
    fn handle_timer(&mut self, _: TimerId) -> Result {
        self.count += 1;
        self.log.add("timer");
        match (self.count, self.fails) {
            (2, true) => return Err(common::failure()),
            (2, false) => self.chat.close(),
            _ => {}
        }
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(common::name(why));
    }
}

#[test]
fn a_handler_may_end_its_connection_in_a_periodic_timer() {
    for fails in [false, true] {
        let (event_loop, log) = (new_loop(), Log::default());
        let shared = log.clone();
        let listener = event_loop
            .listen("127.0.0.1:0", move |chat| Ticks {
                chat,
                log: shared.clone(),
                count: 0,
                fails,
            })
            .unwrap();
        let _peer = Peer::connect(common::addr_of(&listener));
        run_until(&event_loop, || log.has("timer"));
        listener.close();
        run_to_end(&event_loop);
        let reason = if fails { "Handler" } else { "Local" };
        assert_eq!(log.lines(), ["timer", "timer", reason]);
    }
}

#[test]
fn a_terminator_set_from_a_timer_applies_to_input_already_read() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    peer.send("three;words;here");
    run_until(&event_loop, || chat.stats().bytes_in == 16);
    assert_eq!(log.lines(), ["connect"]);
    let other = chat.clone();
    event_loop.call_later(SOON, move || {
        other.set_terminator(Terminator::bytes(b";"));
    });
    run_until(&event_loop, || log.has("record words"));
    chat.set_terminator(Terminator::count(2));
    run_until(&event_loop, || log.has("record re"));
    assert_eq!(log.count("record"), 4);
}

#[test]
fn an_idle_connection_is_closed() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    chat.set_idle_timeout(SOON);
    chat.set_idle_timeout(None);
    idle(&event_loop);
    assert!(chat.is_open());
    chat.set_idle_timeout(SOON * 10);
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "close Timeout"]);
    assert!(peer.wait_for_end(&event_loop).is_ok());
}

/// Stores the reason of its close.
struct Quiet {
    channel: Channel,
    why: Rc<RefCell<Option<String>>>,
}

impl Dispatcher for Quiet {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn handle_close(&mut self, why: &Close) {
        self.why.replace(Some(why.to_string()));
    }
}

#[test]
fn an_idle_timeout_set_before_registration_applies() {
    let event_loop = new_loop();
    let (near, _far) = tcp_pair();
    let channel = Channel::adopt(near).unwrap();
    channel.set_idle_timeout(SOON * 10);
    let why = Rc::default();
    let quiet = Quiet {
        channel,
        why: Rc::clone(&why),
    };
    event_loop.register(quiet).unwrap();
    run_to_end(&event_loop);
    assert_eq!(why.borrow().as_deref(), Some("timed out: idle"));
}

/// Logs its timers by their position in `timers`.
struct Timed {
    channel: Channel,
    timers: Rc<RefCell<Vec<TimerId>>>,
    log: Log,
}

impl Dispatcher for Timed {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn handle_timer(&mut self, timer: TimerId) -> Result {
        let timers = self.timers.borrow();
        let position = timers.iter().position(|it| *it == timer);
        self.log.add(format!("timer {}", position.unwrap()));
        if self.log.count("timer 1") == 2 {
            assert!(self.channel.cancel(timer));
            self.channel.close();
        }
        Ok(())
    }
}

#[test]
fn timers_set_before_registration_begin_with_it() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (near, _far) = tcp_pair();
    let channel = Channel::adopt(near).unwrap();
    let once = channel.call_later(NEVER);
    let periodic = channel.call_every(SOON);
    let cancelled = channel.call_later(Duration::ZERO);
    assert!(channel.reschedule(once, Duration::ZERO));
    assert!(channel.cancel(cancelled));
    assert!(!channel.cancel(cancelled));
    assert!(!channel.reschedule(cancelled, SOON));
    // The loop cannot know the timers of a channel that it does not have.
    assert!(!event_loop.cancel(once));
    let timed = Timed {
        channel: channel.clone(),
        timers: Rc::new(RefCell::new(vec![once, periodic, cancelled])),
        log: log.clone(),
    };
    event_loop.register(timed).unwrap();
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["timer 0", "timer 1", "timer 1"]);
    assert!(!event_loop.cancel(once), "it has fired");
    assert!(
        !channel.reschedule(channel.call_later(SOON), SOON),
        "it has ended"
    );
}

#[test]
fn a_timer_set_before_registration_is_cancelled_and_moved_like_any_other() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (near, _far) = tcp_pair();
    let channel = Channel::adopt(near).unwrap();
    let timers = [(); 3].map(|()| channel.call_later(NEVER));
    let timed = Timed {
        channel: channel.clone(),
        timers: Rc::new(RefCell::new(timers.to_vec())),
        log: log.clone(),
    };
    event_loop.register(timed).unwrap();
    assert!(event_loop.cancel(timers[0]));
    assert!(channel.cancel(timers[1]));
    assert!(event_loop.reschedule(timers[2], Duration::ZERO));
    run_until(&event_loop, || log.has("timer 2"));
    channel.close();
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["timer 2"]);
}

#[test]
fn an_idle_gap_ends_a_record() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    chat.set_terminator(Terminator::idle_gap(SOON * 20));
    peer.send("12.5 kg");
    run_until(&event_loop, || log.has("record 12.5 kg"));
    peer.send("13.0 kg");
    run_until(&event_loop, || log.has("record 13.0 kg"));
    idle(&event_loop);
    assert_eq!(log.count("record"), 2);
}

#[test]
fn an_idle_gap_ends_no_record_once_the_close_is_queued() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    chat.set_terminator(Terminator::idle_gap(SOON * 10));
    peer.send("too late");
    run_until(&event_loop, || chat.stats().bytes_in == 8);
    let (_sender, receiver) = std::sync::mpsc::channel();
    chat.push_with_producer(Waits(receiver));
    chat.close_when_done();
    let later = log.clone();
    event_loop.call_later(SOON * 40, move || later.add("later"));
    run_until(&event_loop, || log.has("later"));
    assert_eq!(log.lines(), ["connect", "later"]);
}

#[test]
fn an_idle_gap_ends_no_record_while_reading_is_paused() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    chat.set_terminator(Terminator::idle_gap(SOON * 10));
    peer.send("not now");
    run_until(&event_loop, || chat.stats().bytes_in == 7);
    chat.pause_reading();
    let later = log.clone();
    event_loop.call_later(SOON * 40, move || later.add("later"));
    run_until(&event_loop, || log.has("later"));
    assert_eq!(log.lines(), ["connect", "later"]);
    chat.resume_reading();
    run_until(&event_loop, || log.has("record not now"));
}

/// Always pending.
struct Waits(#[allow(dead_code)] std::sync::mpsc::Receiver<()>);

impl asynchat::Producer for Waits {
    fn more(&mut self, _: usize) -> std::io::Result<asynchat::More> {
        Ok(asynchat::More::Pending)
    }
}

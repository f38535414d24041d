//! The order of work in a turn, and when the loop has nothing left to do.

mod common;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use asynchat::{AsyncChat, Chat, Connector, EventLoop, Limits, Result, Terminator, TimerId};
use common::{
    Log, Peer, Session, Slot, addr_of, idle, new_loop, run_to_end, run_until, run_until_blocked,
    served, tcp_pair,
};

#[test]
fn posts_to_the_loop_and_to_handlers_run_in_one_order() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, _peer) = served(&event_loop, log.session());
    let (remote, (sender, receiver)) = (event_loop.remote(), mpsc::channel());
    for n in 0..2 {
        let (visits, calls) = (sender.clone(), sender.clone());
        let visit = move |_: &mut Session| Ok(visits.send(format!("visit {n}"))?);
        remote.post_to(chat.id(), visit).unwrap();
        remote
            .post(move || calls.send(format!("call {n}")).unwrap())
            .unwrap();
    }
    let mut ran = Vec::new();
    run_until(&event_loop, || {
        ran.extend(receiver.try_iter());
        ran.len() == 4
    });
    assert_eq!(ran, ["visit 0", "call 0", "visit 1", "call 1"]);
}

#[test]
fn a_zero_delay_timer_fires_after_handle_connect() {
    let (event_loop, log) = (new_loop(), Log::default());
    let session = log.session();
    let listener = event_loop
        .listen("127.0.0.1:0", move |chat: Chat| {
            chat.call_later(Duration::ZERO);
            session(chat)
        })
        .unwrap();
    let _peer = Peer::connect(addr_of(&listener));
    run_until(&event_loop, || log.has("timer"));
    assert_eq!(log.lines(), ["connect", "timer"]);
}

#[test]
fn a_timer_fires_beside_a_connection_that_always_has_work() {
    fn again(chat: &Chat) {
        let next = chat.clone();
        chat.push_hook(move || again(&next));
    }
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, _peer) = served(&event_loop, log.session());
    again(&chat);
    let fired = log.clone();
    event_loop.call_later(Duration::from_millis(1), move || fired.add("timer"));
    run_until(&event_loop, || log.has("timer"));
    chat.close();
}

#[test]
fn a_stop_ends_the_current_run_only() {
    let (event_loop, log) = (new_loop(), Log::default());
    let stops = event_loop.clone();
    event_loop.call_soon(move || stops.stop());
    assert!(!event_loop.run_once(Duration::ZERO).unwrap());
    let called = log.clone();
    event_loop.call_soon(move || called.add("called"));
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["called"]);
}

#[test]
fn an_idle_timeout_on_a_closed_channel_does_not_keep_the_loop_running() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, _peer) = served(&event_loop, log.session());
    chat.close();
    run_to_end(&event_loop);
    chat.set_idle_timeout(Duration::from_secs(3600));
    assert!(!event_loop.run_once(Duration::ZERO).unwrap());
    assert_eq!(event_loop.next_timeout(), None);
}

/// A failed wait is retried, because the missing resource may become available. A broken poller is
/// not retried for ever.
#[cfg(feature = "sim")]
#[test]
fn a_hundred_failed_waits_in_a_row_end_the_run() {
    use asynchat::sim::{Call, Network};

    let network = Network::new(1);
    let event_loop = network.event_loop().unwrap();
    event_loop
        .listen("10.0.0.1:119", Log::default().session())
        .unwrap();
    let turn = || event_loop.run_once(Duration::ZERO);
    for _ in 0..2 {
        for _ in 0..99 {
            network.fail(Call::Wait, std::io::Error::other("broken"));
            assert!(turn().is_ok());
        }
        assert!(turn().is_ok());
    }
    for n in 1..=100 {
        network.fail(Call::Wait, std::io::Error::other("broken"));
        assert_eq!(turn().is_ok(), n < 100);
    }
}

#[test]
fn a_stopped_shutdown_continues_in_the_next_run() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, _peer) = served(&event_loop, log.session());
    for _ in 0..100 {
        chat.push(vec![b'x'; 60_000]);
    }
    run_until_blocked(&event_loop, &chat);
    event_loop.shutdown(Duration::from_millis(1));
    event_loop.stop();
    run_to_end(&event_loop);
    assert!(!log.has("close"));
    assert_eq!(event_loop.len(), 1);
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "close Interrupted"]);
}

/// How many posts, due timers and deferred calls a turn handles, according to the documentation.
const BUDGET: usize = 1024;

/// The numbers of the calls that were made. Behind a lock, because posts are `Send`.
type Called = Arc<Mutex<Vec<usize>>>;

fn numbers(called: &Called) -> Vec<usize> {
    called.lock().unwrap().clone()
}

fn call(called: &Called, n: usize) -> impl FnOnce() + Send + 'static + use<> {
    let called = Arc::clone(called);
    move || called.lock().unwrap().push(n)
}

#[test]
fn posts_due_timers_and_deferred_calls_have_a_budget_each_and_keep_their_order() {
    let event_loop = new_loop();
    let [posts, timers, calls] = [(); 3].map(|()| Called::default());
    let remote = event_loop.remote();
    let all: Vec<usize> = (0..BUDGET * 2 + 10).collect();
    for n in &all {
        remote.post(call(&posts, *n)).unwrap();
        event_loop.call_later(Duration::ZERO, call(&timers, *n));
        event_loop.call_soon(call(&calls, *n));
    }
    for turn in 1..=3 {
        assert_eq!(event_loop.next_timeout(), Some(Duration::ZERO));
        event_loop.run_once(None).unwrap();
        let done = &all[..(BUDGET * turn).min(all.len())];
        for called in [&posts, &timers, &calls] {
            assert_eq!(numbers(called), done, "turn {turn}");
        }
    }
    assert_eq!(event_loop.next_timeout(), None);
    assert!(!event_loop.run_once(None).unwrap());
}

#[test]
fn a_connection_is_served_between_a_hundred_thousand_timers_that_are_due() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (_, mut peer) = served(&event_loop, log.session());
    let fired = Called::default();
    for n in 0..100_000 {
        event_loop.call_later(Duration::ZERO, call(&fired, n));
    }
    peer.send("and me?\r\n");
    run_until(&event_loop, || log.has("record and me?"));
    assert!(numbers(&fired).len() < 100_000);
}

#[test]
fn a_timer_cancelled_by_an_earlier_one_never_fires() {
    let (event_loop, fired) = (new_loop(), Called::default());
    let doomed: Rc<RefCell<Vec<TimerId>>> = Rc::default();
    let (cancels, inner) = (Rc::clone(&doomed), event_loop.clone());
    event_loop.call_later(Duration::ZERO, move || {
        for timer in cancels.borrow().iter() {
            assert!(inner.cancel(*timer));
        }
    });
    let timers: Vec<TimerId> = (0..BUDGET * 2)
        .map(|n| event_loop.call_later(Duration::ZERO, call(&fired, n)))
        .collect();
    doomed.borrow_mut().extend([timers[0], timers[BUDGET + 5]]);
    run_to_end(&event_loop);
    let left = (0..BUDGET * 2).filter(|n| ![0, BUDGET + 5].contains(n));
    assert_eq!(numbers(&fired), left.collect::<Vec<_>>());
}

#[test]
fn a_post_from_a_posted_call_runs_in_a_later_turn() {
    let (event_loop, called) = (new_loop(), Called::default());
    let remote = event_loop.remote();
    let (again, inner) = (remote.clone(), call(&called, 1));
    let first = call(&called, 0);
    remote
        .post(move || {
            first();
            again.post(inner).unwrap();
        })
        .unwrap();
    event_loop.run_once(None).unwrap();
    assert_eq!(numbers(&called), [0]);
    event_loop.run_once(None).unwrap();
    assert_eq!(numbers(&called), [0, 1]);
}

#[test]
fn a_stop_from_another_thread_follows_earlier_posts() {
    let (event_loop, called) = (new_loop(), Called::default());
    let remote = event_loop.remote();
    for n in 0..BUDGET * 3 {
        remote.post(call(&called, n)).unwrap();
    }
    remote.stop().unwrap();
    remote.post(call(&called, usize::MAX)).unwrap();
    event_loop.run().unwrap();
    assert!(numbers(&called).starts_with(&(0..BUDGET * 3).collect::<Vec<_>>()));
}

#[test]
fn all_calls_deferred_before_the_end_of_a_shutdown_run() {
    let (event_loop, called) = (new_loop(), Called::default());
    for n in 0..BUDGET * 3 {
        event_loop.call_soon(call(&called, n));
        event_loop.remote().post(call(&called, n)).unwrap();
    }
    event_loop.shutdown(Duration::from_secs(60));
    run_to_end(&event_loop);
    assert_eq!(numbers(&called).len(), BUDGET * 6);
}

/// Always pending.
#[cfg(feature = "sim")]
struct Never;

#[cfg(feature = "sim")]
impl asynchat::Producer for Never {
    fn more(&mut self, _: usize) -> std::io::Result<asynchat::More> {
        Ok(asynchat::More::Pending)
    }
}

#[cfg(feature = "sim")]
#[test]
fn many_due_timers_do_not_delay_the_end_of_the_grace() {
    let network = asynchat::sim::Network::new(1);
    let (event_loop, log, fired) = (
        network.event_loop().unwrap(),
        Log::default(),
        Called::default(),
    );
    let (socket, _peer) = network.pair();
    let connector = asynchat::Connector::adopt(socket);
    let chat = connector.connect_on(&event_loop, log.session()).unwrap();
    chat.push_with_producer(Never);
    network.settle(&event_loop).unwrap();
    for n in 0..100_000 {
        event_loop.call_later(Duration::from_secs(1), call(&fired, n));
    }
    event_loop.shutdown(Duration::from_secs(1));
    // One turn that sleeps until then, and one for what follows.
    for _ in 0..2 {
        event_loop.run_once(None).unwrap();
    }
    assert_eq!(log.lines(), ["connect", "close Interrupted"]);
    assert!(numbers(&fired).len() <= 2 * BUDGET);
}

/// What the tests below request from outside.
type Request = fn(&Chat);

/// Makes the request in every `period`th turn, as long as the connection is open.
fn request_in_turns(event_loop: &EventLoop, chat: &Chat, request: Request, period: usize) {
    fn in_turn(number: usize, of: (EventLoop, Chat, Request, usize)) {
        let (event_loop, chat, request, period) = of;
        if number.is_multiple_of(period) {
            request(&chat);
        }
        if chat.is_open() {
            let this = event_loop.clone();
            this.call_soon(move || in_turn(number + 1, (event_loop, chat, request, period)));
        }
    }
    in_turn(0, (event_loop.clone(), chat.clone(), request, period));
}

const REQUESTS: [Request; 4] = [
    |chat| chat.set_terminator(Terminator::crlf()),
    |chat| chat.set_limits(Limits::default()),
    |chat| {
        chat.pause_reading();
        chat.resume_reading();
    },
    |chat| chat.discard_buffers(),
];

/// A request makes the loop ask the splitter again. That must not take the place of receiving.
#[test]
fn requests_in_every_turn_do_not_keep_input_out() {
    for (request, period) in REQUESTS.into_iter().flat_map(|it| [(it, 1), (it, 2)]) {
        let (event_loop, log) = (new_loop(), Log::default());
        let (chat, mut peer) = served(&event_loop, log.session());
        request_in_turns(&event_loop, &chat, request, period);
        for record in ["one", "two"] {
            peer.send(format!("{record}\r\n"));
            run_until(&event_loop, || log.has(&format!("record {record}")));
        }
        chat.close();
        run_to_end(&event_loop);
    }
}

/// Each record of a session may defer a call. However many come in a turn, what waits is bounded.
#[test]
fn calls_that_are_deferred_faster_than_1024_a_turn_do_not_pile_up() {
    const EACH_TURN: usize = 8192;
    let event_loop = new_loop();
    let waiting = Rc::new(Cell::new(0));
    for _ in 0..200 {
        for _ in 0..EACH_TURN {
            waiting.set(waiting.get() + 1);
            let called = Rc::clone(&waiting);
            event_loop.call_soon(move || called.set(called.get() - 1));
        }
        event_loop.run_once(Duration::ZERO).unwrap();
    }
    assert!(
        waiting.get() < 10 * EACH_TURN,
        "{} calls wait",
        waiting.get()
    );
}

#[test]
fn posts_to_a_handler_that_is_still_to_be_made_keep_their_order() {
    let (event_loop, log) = (new_loop(), Log::default());
    // The factory of the connection is the 1,024th deferred call: the first turn does not go beyond it.
    for _ in 0..1023 {
        event_loop.call_soon(|| ());
    }
    let (socket, _peer) = tcp_pair();
    let connector = Connector::adopt(socket);
    let chat = connector.connect_on(&event_loop, log.session()).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    for n in 1..=2 {
        let calls = Arc::clone(&order);
        let call = move |_: &mut Session| {
            calls.lock().unwrap().push(n);
            Ok(())
        };
        event_loop.remote().post_to(chat.id(), call).unwrap();
        event_loop.run_once(Duration::ZERO).unwrap();
    }
    event_loop.run_once(Duration::ZERO).unwrap();
    assert_eq!(*order.lock().unwrap(), [1, 2]);
}

/// The same inside a record. A new terminator has its beginning parsed again. (`discard_buffers` drops
/// the beginning.)
#[test]
fn requests_in_every_turn_do_not_keep_the_rest_of_a_record_out() {
    for (request, period) in REQUESTS[..3].iter().flat_map(|it| [(*it, 1), (*it, 2)]) {
        let (event_loop, log) = (new_loop(), Log::default());
        let (chat, mut peer) = served(&event_loop, log.session());
        request_in_turns(&event_loop, &chat, request, period);
        let mut sent = 0;
        for piece in ["o", "n", "e\r", "\nt", "wo\r\n"] {
            peer.send(piece);
            sent += piece.len() as u64;
            run_until(&event_loop, || chat.stats().bytes_in == sent);
        }
        run_until(&event_loop, || log.has("record two"));
        assert_eq!(log.lines(), ["connect", "record one", "record two"]);
        chat.close();
        run_to_end(&event_loop);
    }
}

/// Asking the splitter without a result leaves the whole budget of records to what is received.
#[test]
fn a_budget_of_one_record_is_not_used_up_by_a_terminator_that_is_set_in_every_turn() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    chat.set_limits(
        Limits::default()
            .turn_read(65_536)
            .turn_write(65_536)
            .turn_records(1),
    );
    let request: Request = |chat| chat.set_terminator(Terminator::line());
    request_in_turns(&event_loop, &chat, request, 1);
    for piece in ["on", "e\ntw"] {
        peer.send(piece);
        idle(&event_loop);
    }
    peer.send("o\n");
    run_until(&event_loop, || log.has("record two"));
    assert_eq!(log.lines(), ["connect", "record one", "record two"]);
    chat.close();
    run_to_end(&event_loop);
}

/// A session may set a terminator with each chunk. Each time the bytes that may begin the terminator are
/// parsed again, and none is lost or delivered twice.
#[test]
fn a_terminator_that_is_set_with_each_chunk_loses_nothing() {
    struct Switching(Chat, Log);
    impl AsyncChat for Switching {
        fn collect_incoming_data(&mut self, chunk: &[u8]) -> Result {
            self.1.add(String::from_utf8_lossy(chunk));
            self.0.set_terminator(Terminator::bytes(b"aab").streamed());
            Ok(())
        }
        fn found_terminator(&mut self, _: &[u8]) -> Result {
            self.1.add("|");
            Ok(())
        }
    }
    let input = "aaab".repeat(30) + "aaaaaxaab" + &"a".repeat(300) + "b";
    for size in [1, 2, 3, 7, 100, input.len()] {
        let (event_loop, log, slot) = (new_loop(), Log::default(), Slot::default());
        let sessions = log.clone();
        let factory = slot.capture(move |chat: Chat| {
            chat.set_terminator(Terminator::bytes(b"aab").streamed());
            chat.set_limits(
                Limits::default()
                    .turn_read(65_536)
                    .turn_write(65_536)
                    .turn_records(5),
            );
            Switching(chat, sessions.clone())
        });
        let listener = event_loop.listen("127.0.0.1:0", factory).unwrap();
        let mut peer = Peer::connect(addr_of(&listener));
        run_until(&event_loop, || slot.is_filled());
        for piece in input.as_bytes().chunks(size) {
            peer.send(piece);
            event_loop.run_once(Duration::ZERO).unwrap();
        }
        run_until(&event_loop, || log.count("|") == 32);
        let expected = "a|".repeat(30) + "aaaaax|" + &"a".repeat(298) + "|";
        // The number of chunks depends on the pieces, and their bytes do not.
        let delivered = log.lines().concat();
        assert_eq!(delivered, expected, "pieces of {size}");
        listener.close();
        slot.chat().close();
        run_to_end(&event_loop);
    }
}

#[test]
fn the_time_of_the_loop_stands_still_during_a_callback() {
    let event_loop = new_loop();
    let (clock, times) = (event_loop.clone(), Rc::new(RefCell::new(Vec::new())));
    let read = Rc::clone(&times);
    event_loop.call_soon(move || {
        let begun = clock.now();
        while Instant::now() <= begun {}
        read.borrow_mut()
            .extend([begun, clock.now(), asynchat::now()]);
    });
    run_to_end(&event_loop);
    let times = times.take();
    assert_eq!(times, [times[0]; 3]);
    assert!(event_loop.now() > times[0]);
}

#[test]
fn run_for_sends_what_was_pushed_with_a_stop() {
    let event_loop = new_loop();
    let (chat, mut peer) = served(&event_loop, Log::default().session());
    idle(&event_loop);
    let stopping = event_loop.clone();
    event_loop.call_soon(move || {
        chat.push("the last words");
        stopping.stop();
    });
    assert!(!event_loop.run_for(Duration::from_secs(60)).unwrap());
    // The loop takes no turn any more.
    let mut received = [0; 14];
    peer.stream.set_nonblocking(false).unwrap();
    peer.stream
        .set_read_timeout(Some(common::DEADLINE))
        .unwrap();
    std::io::Read::read_exact(&mut peer.stream, &mut received).unwrap();
    assert_eq!(&received, b"the last words");
}

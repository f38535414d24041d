//! `stop` and `shutdown`, from every context.

mod common;

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use asynchat::{
    AsyncChat, AtShutdown, Channel, Chat, Close, Connector, EventLoop, Result, Server, Terminator,
};
use common::{
    Log, Peer, Session, Slot, addr_of, failure, idle, name, new_loop, run_to_end, run_until,
    run_until_blocked, served, tcp_pair,
};

const LONG: Duration = Duration::from_secs(3600);

/// A loop that would run for ever, and a session that calls `act` for each record.
fn endless(act: impl Fn(&EventLoop) + 'static) -> (EventLoop, Log, Slot, Peer, Channel) {
    let (event_loop, log, slot) = (new_loop(), Log::default(), Slot::default());
    let inner = event_loop.clone();
    let session = log.session_with(move |_, _| {
        act(&inner);
        Ok(())
    });
    let listener = event_loop
        .listen("127.0.0.1:0", slot.capture(session))
        .unwrap();
    event_loop.call_every(LONG, || ());
    let peer = Peer::connect(addr_of(&listener));
    run_until(&event_loop, || log.has("connect"));
    (event_loop, log, slot, peer, listener)
}

#[test]
fn stop_from_a_callback_leaves_connections_open_and_run_may_be_called_again() {
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
fn stop_works_from_a_timer_a_deferred_call_a_hook_and_another_thread() {
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

/// Checks the effects of a shutdown, whatever context it was called from.
#[track_caller]
fn assert_shut_down(event_loop: &EventLoop, log: &Log, mut peer: Peer, listener: &Channel) {
    run_to_end(event_loop);
    assert_eq!(log.lines().last().unwrap(), "close Shutdown");
    assert_eq!(log.count("close"), 1);
    assert!(event_loop.is_empty());
    assert!(!listener.is_open());
    assert!(peer.wait_for_end(event_loop).is_ok());
}

#[test]
fn shutdown_works_from_a_callback() {
    let (event_loop, log, _, mut peer, listener) = endless(|it| it.shutdown(LONG));
    peer.send("shutdown\r\nmore\r\n");
    assert_shut_down(&event_loop, &log, peer, &listener);
}

#[test]
fn shutdown_works_from_a_timer() {
    let (event_loop, log, _, peer, listener) = endless(|_| ());
    let inner = event_loop.clone();
    event_loop.call_later(Duration::ZERO, move || inner.shutdown(LONG));
    assert_shut_down(&event_loop, &log, peer, &listener);
}

#[test]
fn shutdown_works_from_another_thread() {
    let (event_loop, log, _, peer, listener) = endless(|_| ());
    let remote = event_loop.remote();
    let worker = thread::spawn(move || remote.shutdown(LONG));
    assert_shut_down(&event_loop, &log, peer, &listener);
    worker.join().unwrap().unwrap();
}

#[test]
fn shutdown_works_before_run() {
    let (event_loop, log, _, peer, listener) = endless(|_| ());
    event_loop.shutdown(LONG);
    assert_shut_down(&event_loop, &log, peer, &listener);
}

#[test]
fn shutdown_of_an_empty_loop_returns_at_once() {
    let event_loop = new_loop();
    event_loop.call_later(LONG, || panic!("it is not due"));
    event_loop.shutdown(LONG);
    run_to_end(&event_loop);
}

#[test]
fn shutdown_sends_the_queue_and_delivers_no_more_input() {
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
fn shutdown_accepts_no_connection_and_registers_no_channel() {
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
fn after_the_grace_open_connections_are_aborted() {
    let (event_loop, log, slot, mut peer, _listener) = endless(|_| ());
    let chat = slot.chat();
    chat.push(vec![b'x'; 8 << 20]);
    run_until_blocked(&event_loop, &chat);
    event_loop.shutdown(Duration::from_millis(20));
    run_to_end(&event_loop);
    assert_eq!(log.lines().last().unwrap(), "close Interrupted");
    let end = peer.wait_for_end(&event_loop);
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

/// The reading of the peer to the end of the connection, after the loop is gone.
fn read_after(event_loop: EventLoop, peer: &Peer) -> (usize, std::io::Result<usize>) {
    drop(event_loop);
    peer.stream.set_nonblocking(false).unwrap();
    let mut received = Vec::new();
    let end = (&peer.stream).read_to_end(&mut received);
    (received.len(), end)
}

/// Otherwise the peer takes a part of the stream for the whole.
#[test]
fn dropping_a_loop_resets_a_connection_with_unsent_output() {
    for closing in [false, true] {
        let (event_loop, log) = (new_loop(), Log::default());
        let (chat, peer) = served(&event_loop, log.session());
        chat.push(vec![b'x'; 40 << 20]);
        run_until_blocked(&event_loop, &chat);
        if closing {
            chat.close_when_done();
        }
        let (received, end) = read_after(event_loop, &peer);
        assert!(received < 40 << 20);
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(log.lines(), ["connect", "close Interrupted"]);
    }
}

#[test]
fn dropping_a_loop_does_not_reset_a_connection_whose_output_is_sent_or_that_is_closed() {
    for closed in [false, true] {
        let (event_loop, log) = (new_loop(), Log::default());
        let (chat, peer) = served(&event_loop, log.session());
        chat.push("all of it");
        idle(&event_loop);
        if closed {
            chat.push("and more that is dropped");
            chat.close();
        }
        let (received, end) = read_after(event_loop, &peer);
        assert_eq!(received, "all of it".len(), "{end:?}");
        assert!(end.is_ok(), "{end:?}");
    }
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
fn a_shutdown_from_a_callback_reaches_all_connections() {
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
fn a_shutdown_ends_a_connection_that_is_connecting() {
    let (event_loop, log) = (new_loop(), Log::default());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    event_loop.connect(addr, log.session()).unwrap();
    event_loop.shutdown(LONG);
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["close Interrupted"]);
}

#[test]
fn a_call_that_defers_itself_again_does_not_delay_a_shutdown() {
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
fn calls_deferred_in_handle_close_run_before_a_shutdown_ends() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, _peer) = served(&event_loop, log.session());
    let (inner, log_clone) = (event_loop.clone(), log.clone());
    chat.push_hook(move || inner.call_soon(move || log_clone.add("called")));
    event_loop.shutdown(LONG);
    run_to_end(&event_loop);
    assert!(log.has("called"), "{:?}", log.lines());
}

// ---- handle_shutdown

type OnShutdown = dyn Fn(&Chat) -> Result<AtShutdown>;

/// Answers each line with `ok`. `body` sets a count terminator, and `bye` closes. Logs its
/// callbacks.
struct Polite {
    chat: Chat,
    log: Log,
    on_shutdown: Rc<OnShutdown>,
}

impl AsyncChat for Polite {
    fn handle_connect(&mut self) -> Result {
        self.log.add("connect");
        self.chat.push("200 hello\r\n");
        Ok(())
    }

    fn found_terminator(&mut self, record: &[u8]) -> Result {
        let record = String::from_utf8_lossy(record);
        self.log.add(format!("record {record}"));
        match &*record {
            "body" => self.chat.set_terminator(Terminator::count(10)),
            "bye" => self.chat.close_when_done(),
            "shutdown" => asynchat::shutdown(LONG),
            _ => self.chat.set_terminator(Terminator::crlf()),
        }
        self.chat.push("250 ok\r\n");
        Ok(())
    }

    fn handle_shutdown(&mut self) -> Result<AtShutdown> {
        self.log.add("shutdown");
        (self.on_shutdown)(&self.chat)
    }

    fn handle_close(&mut self, why: &Close) {
        self.log.add(format!("close {}", name(why)));
    }
}

/// A factory of sessions that write to this log and return `on_shutdown` from `handle_shutdown`.
fn polite<F>(log: &Log, on_shutdown: F) -> impl Fn(Chat) -> Polite + use<F>
where
    F: Fn(&Chat) -> Result<AtShutdown> + 'static,
{
    let (log, on_shutdown) = (log.clone(), Rc::new(on_shutdown));
    move |chat| Polite {
        chat,
        log: log.clone(),
        on_shutdown: Rc::clone(&on_shutdown) as _,
    }
}

fn says_421(chat: &Chat) -> Result<AtShutdown> {
    chat.push("421 shutting down\r\n");
    Ok(AtShutdown::CloseWhenDone)
}

fn stays(_: &Chat) -> Result<AtShutdown> {
    Ok(AtShutdown::Stay)
}

/// A connection to such a session, after its greeting.
fn connected(
    log: &Log,
    on_shutdown: impl Fn(&Chat) -> Result<AtShutdown> + 'static,
) -> (EventLoop, Slot, Peer) {
    let (event_loop, slot) = (new_loop(), Slot::default());
    let listener = event_loop
        .listen("127.0.0.1:0", slot.capture(polite(log, on_shutdown)))
        .unwrap();
    let mut peer = Peer::connect(addr_of(&listener));
    peer.expect(&event_loop, "200 hello\r\n");
    (event_loop, slot, peer)
}

#[test]
fn a_push_in_handle_shutdown_follows_the_queued_output() {
    let log = Log::default();
    let (event_loop, slot, mut peer) = connected(&log, says_421);
    slot.chat().push("250 ok\r\n");
    event_loop.shutdown(LONG);
    assert!(
        !log.has("shutdown"),
        "no method of a handle calls a session"
    );
    let all = peer.receive_all(&event_loop);
    assert_eq!(all, b"250 ok\r\n421 shutting down\r\n");
    drop(peer);
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "shutdown", "close Shutdown"]);
}

#[test]
fn a_session_that_stays_receives_records_until_it_closes() {
    let log = Log::default();
    let (event_loop, _, mut peer) = connected(&log, stays);
    peer.send("body\r\n01234");
    peer.expect(&event_loop, "250 ok\r\n");
    event_loop.shutdown(LONG);
    run_until(&event_loop, || log.has("shutdown"));
    peer.send("56789bye\r\nmore\r\n");
    let all = peer.receive_all(&event_loop);
    assert_eq!(all, b"250 ok\r\n");
    drop(peer);
    run_to_end(&event_loop);
    let records = ["record body", "shutdown", "record 0123456789", "record bye"];
    assert_eq!(log.lines()[1..5], records);
    assert_eq!(log.lines().last().unwrap(), "close Local");
}

#[test]
fn a_session_that_stays_is_aborted_after_the_grace() {
    let log = Log::default();
    let (event_loop, _, mut peer) = connected(&log, stays);
    event_loop.shutdown(Duration::from_millis(20));
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "shutdown", "close Interrupted"]);
    let end = peer.wait_for_end(&event_loop);
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn records_after_the_one_that_shuts_down_follow_handle_shutdown() {
    let log = Log::default();
    let (event_loop, _, mut peer) = connected(&log, stays);
    peer.send("one\r\nshutdown\r\ntwo\r\nbye\r\n");
    let all = peer.receive_all(&event_loop);
    assert_eq!(all, b"250 ok\r\n".repeat(3));
    drop(peer);
    run_to_end(&event_loop);
    let lines = log.lines();
    let order = ["record one", "record shutdown", "shutdown", "record two"];
    assert_eq!(lines[1..5], order);
}

#[test]
fn a_shutdown_from_another_thread_a_timer_and_a_hook_reaches_the_session() {
    let ways: [fn(&EventLoop, &Chat); 4] = [
        |event_loop, _| {
            let remote = event_loop.remote();
            thread::spawn(move || remote.shutdown(LONG))
                .join()
                .unwrap()
                .unwrap();
        },
        |event_loop, _| {
            event_loop.call_later(Duration::ZERO, || asynchat::shutdown(LONG));
        },
        |_, chat| chat.push_hook(|| asynchat::shutdown(LONG)),
        |_, chat| {
            let call = |_: &mut Polite| {
                asynchat::shutdown(LONG);
                Ok(())
            };
            chat.post(call).unwrap();
        },
    ];
    for shut_down in ways {
        let log = Log::default();
        let (event_loop, slot, mut peer) = connected(&log, says_421);
        shut_down(&event_loop, &slot.chat());
        assert_eq!(peer.receive_all(&event_loop), b"421 shutting down\r\n");
        drop(peer);
        run_to_end(&event_loop);
        assert_eq!(log.count("shutdown"), 1);
    }
}

#[test]
fn handle_shutdown_is_called_once_for_each_shutdown_of_a_loop() {
    let log = Log::default();
    let (event_loop, _, peer) = connected(&log, stays);
    event_loop.shutdown(LONG);
    event_loop.shutdown(LONG);
    idle(&event_loop);
    event_loop.shutdown(LONG);
    idle(&event_loop);
    assert_eq!(log.count("shutdown"), 1);
    event_loop.shutdown(Duration::ZERO);
    run_to_end(&event_loop);
    drop(peer);
    let listener = event_loop
        .listen("127.0.0.1:0", polite(&log, says_421))
        .unwrap();
    let mut peer = Peer::connect(addr_of(&listener));
    peer.expect(&event_loop, "200 hello\r\n");
    event_loop.shutdown(LONG);
    peer.expect(&event_loop, "421 shutting down\r\n");
    assert_eq!(log.count("shutdown"), 2);
}

#[test]
fn handle_shutdown_is_not_called_once_a_close_is_queued() {
    let log = Log::default();
    let (event_loop, slot, mut peer) = connected(&log, says_421);
    slot.chat().push(vec![b'x'; 8 << 20]);
    slot.chat().close_when_done();
    run_until_blocked(&event_loop, &slot.chat());
    event_loop.shutdown(LONG);
    assert_eq!(peer.receive_all(&event_loop).len(), 8 << 20);
    assert_eq!(log.lines(), ["connect", "close Local"]);
}

#[test]
fn a_paused_session_gets_handle_shutdown_and_no_record() {
    let log = Log::default();
    let (event_loop, slot, mut peer) = connected(&log, says_421);
    slot.chat().pause_reading();
    peer.send("one\r\n");
    idle(&event_loop);
    event_loop.shutdown(LONG);
    peer.expect(&event_loop, "421 shutting down\r\n");
    assert!(!log.has("record"));
}

#[test]
fn a_back_pressured_session_gets_handle_shutdown() {
    let log = Log::default();
    let (event_loop, slot, mut peer) = connected(&log, says_421);
    let much = vec![b'x'; 8 << 20];
    slot.chat().push(much.clone());
    run_until_blocked(&event_loop, &slot.chat());
    event_loop.shutdown(LONG);
    run_until(&event_loop, || log.has("shutdown"));
    let all = peer.receive_all(&event_loop);
    assert!(all.len() > much.len() && all.ends_with(b"x421 shutting down\r\n"));
}

/// One connection is accepted in the turn of the shutdown, and the factory of the other is still
/// queued.
#[test]
fn handle_connect_precedes_handle_shutdown_in_a_new_session() {
    let log = Log::default();
    let (event_loop, (near, far)) = (new_loop(), tcp_pair());
    let session = polite(&log, says_421);
    Connector::adopt(near)
        .connect_on(&event_loop, session)
        .unwrap();
    event_loop.shutdown(LONG);
    let all = Peer::new(far).receive_all(&event_loop);
    assert_eq!(all, b"200 hello\r\n421 shutting down\r\n");
    run_until(&event_loop, || log.has("close"));
    assert_eq!(log.lines(), ["connect", "shutdown", "close Shutdown"]);
    run_to_end(&event_loop);

    let (log, slot) = (Log::default(), Slot::default());
    let factory = slot.capture(polite(&log, says_421));
    let listener = Server::new("127.0.0.1:0")
        .listen_on(&event_loop, move |chat| {
            asynchat::shutdown(LONG);
            factory(chat)
        })
        .unwrap();
    let mut peer = Peer::connect(addr_of(&listener));
    let all = peer.receive_all(&event_loop);
    assert_eq!(all, b"200 hello\r\n421 shutting down\r\n");
    assert_eq!(log.lines(), ["connect", "shutdown", "close Shutdown"]);
}

#[test]
fn an_error_or_panic_in_handle_shutdown_ends_that_connection_only() {
    for (fails, reason) in [(true, "close Handler"), (false, "close Panic")] {
        let log = Log::default();
        let (event_loop, _, _peer) = connected(&log, move |_| {
            if fails {
                Err(failure())
            } else {
                panic!("it was to panic")
            }
        });
        event_loop.shutdown(LONG);
        run_to_end(&event_loop);
        assert_eq!(log.lines(), ["connect", "shutdown", reason]);
    }
}

#[test]
fn a_piped_connection_gets_no_handle_shutdown_and_ends_with_its_streams() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (near, mut client) = served_by(&event_loop, polite(&log, says_421));
    let (far, mut server) = served_by(&event_loop, polite(&log, says_421));
    client.expect(&event_loop, "200 hello\r\n");
    server.expect(&event_loop, "200 hello\r\n");
    asynchat::pipe(&near, &far).unwrap();
    event_loop.shutdown(LONG);
    idle(&event_loop);
    client.send("half of it, ");
    server.expect(&event_loop, "half of it, ");
    client.send("and the rest");
    client.finish();
    server.expect(&event_loop, "and the rest");
    server.finish();
    run_to_end(&event_loop);
    assert_eq!(log.count("shutdown"), 0);
    assert_eq!(log.count("close Eof"), 2);
}

/// A connection to a session of this factory. Its listener is closed.
fn served_by(event_loop: &EventLoop, factory: impl Fn(Chat) -> Polite + 'static) -> (Chat, Peer) {
    let slot = Slot::default();
    let listener = event_loop
        .listen("127.0.0.1:0", slot.capture(factory))
        .unwrap();
    let peer = Peer::connect(addr_of(&listener));
    run_until(event_loop, || slot.is_filled());
    listener.close();
    (slot.chat(), peer)
}

//! Deadlines: each closes the connection that is too slow, and says which it was; none does where
//! it is this side that waits.

mod common;

use std::io::Read;
use std::time::Duration;

use asynchat::{
    AsyncChat, Channel, Chat, Close, Connector, Deadlines, Dispatcher, Eof, EventLoop, Limits,
    Overflow, Result, Server, Terminator, TimerId,
};
use common::{Log, Peer, Slot, addr_of, new_loop, run_to_end, run_until, run_until_blocked};

const SHORT: Duration = Duration::from_millis(40);
const LONG: Duration = Duration::from_secs(3600);

/// Writes down why it was closed, and which deadline it was.
struct Timed(Log);

impl AsyncChat for Timed {
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        let record = String::from_utf8_lossy(record);
        self.0.add(format!("record {record}"));
        Ok(())
    }
    fn collect_incoming_data(&mut self, _: &[u8]) -> Result {
        Ok(())
    }
    fn handle_eof(&mut self, _: &[u8]) -> Result<Eof> {
        Ok(Eof::StayOpen)
    }
    fn handle_overflow(&mut self) -> Overflow {
        self.0.add("overflow");
        Overflow::Discard
    }
    fn handle_timer(&mut self, _: TimerId) -> Result {
        self.0.add("timer");
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.0.add(format!("{why:?}"));
    }
}

/// A connection with these deadlines.
fn timed(deadlines: Deadlines) -> (EventLoop, Log, Chat, Peer) {
    let (event_loop, log, slot) = (new_loop(), Log::default(), Slot::default());
    let told = log.clone();
    let listener = Server::new("127.0.0.1:0")
        .limits(Limits::default().output(Limits::UNLIMITED))
        .deadlines(deadlines)
        .listen_on(&event_loop, slot.keep(move |_| Timed(told.clone())))
        .unwrap();
    let peer = Peer::connect(addr_of(&listener));
    run_until(&event_loop, || slot.is_filled());
    listener.close();
    (event_loop, log, slot.chat(), peer)
}

/// Runs the loop until several of the short deadlines could have passed.
fn wait_in_vain(event_loop: &EventLoop, chat: &Chat, log: &Log) {
    let timers = log.count("timer");
    chat.call_later(SHORT * 5);
    run_until(event_loop, || {
        log.count("timer") > timers || !chat.is_open()
    });
}

#[track_caller]
fn is_open(chat: &Chat, log: &Log) {
    assert!(chat.is_open(), "{:?}", log.lines());
}

// ---- idle

#[test]
fn a_connection_on_which_nothing_moves_is_idle() {
    let (event_loop, log, _, _peer) = timed(Deadlines::default().idle(SHORT));
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["Timeout(Idle)"]);
}

#[test]
fn what_is_sent_is_a_sign_of_life_too() {
    let (event_loop, log, chat, mut peer) = timed(Deadlines::default().idle(SHORT * 10));
    let (ticks, sender) = (Log::default(), chat.clone());
    let told = ticks.clone();
    let timer = event_loop.call_every(SHORT, move || {
        sender.push("tick\r\n");
        told.add("tick");
    });
    run_until(&event_loop, || ticks.count("tick") == 25 || !chat.is_open());
    is_open(&chat, &log);
    event_loop.cancel(timer);
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["Timeout(Idle)"]);
    assert!(peer.look().len() >= 25 * 6);
}

// ---- record

/// Sends a byte with each turn, until the connection ends.
#[track_caller]
fn drip(event_loop: &EventLoop, chat: &Chat, peer: &mut Peer) {
    run_until(event_loop, || {
        // The last one comes too late.
        let _ = std::io::Write::write(&mut peer.stream, b"x");
        !chat.is_open()
    });
    run_to_end(event_loop);
}

#[test]
fn a_record_that_comes_byte_by_byte_is_cut() {
    let (event_loop, log, chat, mut peer) = timed(Deadlines::default().record(SHORT * 3));
    drip(&event_loop, &chat, &mut peer);
    assert_eq!(log.lines(), ["Timeout(Record)"]);
    assert!(chat.stats().bytes_in > 1);
}

#[test]
fn a_streamed_record_that_comes_byte_by_byte_is_cut() {
    let (event_loop, log, chat, mut peer) = timed(Deadlines::default().record(SHORT * 3));
    chat.set_terminator(Terminator::crlf().streamed());
    drip(&event_loop, &chat, &mut peer);
    assert_eq!(log.lines(), ["Timeout(Record)"]);
}

#[test]
fn a_record_that_is_skipped_byte_by_byte_is_cut() {
    let (event_loop, log, chat, mut peer) = timed(Deadlines::default().record(SHORT * 3));
    chat.set_limits(Limits::default().record(2));
    drip(&event_loop, &chat, &mut peer);
    assert_eq!(log.lines(), ["overflow", "Timeout(Record)"]);
}

#[test]
fn a_peer_that_has_finished_sending_does_not_complete_its_record() {
    let (event_loop, log, _, mut peer) = timed(Deadlines::default().record(SHORT));
    peer.send("half a rec");
    peer.finish();
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["Timeout(Record)"]);
}

#[test]
fn between_records_nothing_is_awaited() {
    let (event_loop, log, chat, mut peer) = timed(Deadlines::default().record(SHORT));
    wait_in_vain(&event_loop, &chat, &log);
    peer.send("a record\r\n");
    run_until(&event_loop, || log.has("record a record"));
    wait_in_vain(&event_loop, &chat, &log);
    is_open(&chat, &log);
}

#[test]
fn a_stream_without_records_is_not_timed() {
    let (event_loop, log, chat, mut peer) = timed(Deadlines::default().record(SHORT));
    chat.set_terminator(Terminator::none());
    peer.send("a stream");
    wait_in_vain(&event_loop, &chat, &log);
    is_open(&chat, &log);
}

#[test]
fn a_record_is_not_timed_while_this_side_is_paused() {
    let (event_loop, log, chat, mut peer) = timed(Deadlines::default().record(SHORT));
    peer.send("half a ");
    run_until(&event_loop, || chat.stats().bytes_in > 0);
    chat.pause_reading();
    peer.send("record\r\n");
    wait_in_vain(&event_loop, &chat, &log);
    is_open(&chat, &log);
    chat.resume_reading();
    run_until(&event_loop, || log.has("record half a record"));
    peer.send("the half of another");
    run_to_end(&event_loop);
    assert_eq!(log.lines().last().unwrap(), "Timeout(Record)");
}

#[test]
fn a_record_is_not_timed_while_this_side_has_too_much_to_say() {
    let (event_loop, log, chat, mut peer) = timed(Deadlines::default().record(SHORT));
    peer.send("half a ");
    run_until(&event_loop, || chat.stats().bytes_in > 0);
    chat.push(vec![b'x'; 16 << 20]);
    run_until_blocked(&event_loop, &chat);
    peer.send("record\r\n");
    wait_in_vain(&event_loop, &chat, &log);
    is_open(&chat, &log);
    run_until(&event_loop, || {
        peer.look();
        log.has("record half a record")
    });
}

// ---- drain

#[test]
fn a_peer_that_does_not_take_its_output_is_cut() {
    let (event_loop, log, chat, _peer) = timed(Deadlines::default().drain(SHORT));
    chat.push(vec![b'x'; 16 << 20]);
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["Timeout(Drain)"]);
}

#[test]
fn a_peer_that_takes_its_output_byte_by_byte_is_cut() {
    let deadlines = Deadlines::default().drain(SHORT * 3).idle(LONG);
    let (event_loop, log, chat, mut peer) = timed(deadlines);
    chat.push(vec![b'x'; 16 << 20]);
    run_until_blocked(&event_loop, &chat);
    run_until(&event_loop, || {
        let _ = peer.stream.read(&mut [0]);
        !chat.is_open()
    });
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["Timeout(Drain)"]);
}

/// It takes 64 KiB in each of the deadline's times, and far less than all that is queued.
#[test]
fn a_peer_that_takes_its_output_slowly_but_steadily_is_not_cut() {
    let time = Duration::from_secs(1);
    let (event_loop, log, chat, mut peer) = timed(Deadlines::default().drain(time));
    chat.push(vec![b'x'; 64 << 20]);
    run_until_blocked(&event_loop, &chat);
    chat.call_later(time * 5 / 2);
    run_until(&event_loop, || {
        let _ = peer.stream.read(&mut [0; 4096]);
        log.has("timer") || !chat.is_open()
    });
    is_open(&chat, &log);
    assert!(chat.queued() > 0);
}

#[test]
fn nothing_to_send_is_nothing_to_take() {
    let (event_loop, log, chat, mut peer) = timed(Deadlines::default().drain(SHORT));
    wait_in_vain(&event_loop, &chat, &log);
    chat.push(vec![b'x'; 1 << 20]);
    run_until(&event_loop, || peer.look().len() == 1 << 20);
    wait_in_vain(&event_loop, &chat, &log);
    is_open(&chat, &log);
}

#[test]
fn output_that_is_discarded_need_not_be_taken() {
    let (event_loop, log, chat, _peer) = timed(Deadlines::default().drain(SHORT * 5));
    chat.push(vec![b'x'; 16 << 20]);
    event_loop.run_once(Duration::ZERO).unwrap();
    assert!(chat.queued() > 0);
    chat.discard_buffers();
    wait_in_vain(&event_loop, &chat, &log);
    wait_in_vain(&event_loop, &chat, &log);
    is_open(&chat, &log);
}

#[test]
fn a_close_when_done_waits_for_the_drain_deadline_and_no_longer() {
    let (event_loop, log, chat, _peer) = timed(Deadlines::default().drain(SHORT));
    chat.push(vec![b'x'; 16 << 20]);
    chat.close_when_done();
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["Timeout(Drain)"]);
}

// ---- lifetime, connect

#[test]
fn a_lifetime_ends_whatever_moves() {
    let (event_loop, log, chat, mut peer) = timed(Deadlines::default().lifetime(SHORT * 3));
    run_until(&event_loop, || {
        let _ = std::io::Write::write(&mut peer.stream, b"a record\r\n");
        !chat.is_open()
    });
    run_to_end(&event_loop);
    assert_eq!(log.lines().last().unwrap(), "Timeout(Lifetime)");
}

#[test]
fn a_connection_that_has_come_up_in_time_has_no_connect_deadline_any_more() {
    let (event_loop, log) = (new_loop(), Log::default());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let told = log.clone();
    let chat = Connector::new(listener.local_addr().unwrap())
        .deadlines(Deadlines::default().connect(SHORT * 5))
        .connect_on(&event_loop, |_| Timed(told))
        .unwrap();
    event_loop.run_once(Duration::ZERO).unwrap();
    let mut peer = Peer::new(listener.accept().unwrap().0);
    peer.send("hello\r\n");
    run_until(&event_loop, || log.has("record hello"));
    wait_in_vain(&event_loop, &chat, &log);
    wait_in_vain(&event_loop, &chat, &log);
    is_open(&chat, &log);
}

/// A connection that nobody answers: `Close::ConnectFailed`, and none of the other deadlines.
#[cfg(target_os = "linux")]
#[test]
fn a_connection_under_way_has_the_connect_deadline_alone() {
    use socket2::{Domain, Socket, Type};
    use std::net::SocketAddr;

    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let addr = listener.local_addr().unwrap();
    // The first one or two take the queue; the next are not answered.
    let _fill = [(); 4].map(|()| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&addr);
        socket
    });
    let (event_loop, log) = (new_loop(), Log::default());
    let told = log.clone();
    Connector::new(addr.as_socket().unwrap())
        .deadlines(
            Deadlines::default()
                .connect(SHORT * 3)
                .idle(SHORT)
                .lifetime(SHORT),
        )
        .connect_on(&event_loop, |_| Timed(told))
        .unwrap();
    run_to_end(&event_loop);
    assert_eq!(log.count("ConnectFailed"), 1, "{:?}", log.lines());
    assert_eq!(event_loop.stats().closes.connect_failed, 1);
}

// ---- setting them

#[test]
fn deadlines_set_midway_hold_for_what_is_under_way() {
    let (event_loop, log, chat, mut peer) = timed(Deadlines::default());
    peer.send("half a rec");
    run_until(&event_loop, || chat.stats().bytes_in > 0);
    wait_in_vain(&event_loop, &chat, &log);
    chat.set_deadlines(Deadlines::default().idle(SHORT));
    assert_eq!(chat.deadlines().idle, Some(SHORT));
    run_to_end(&event_loop);
    assert_eq!(log.lines().last().unwrap(), "Timeout(Idle)");
}

#[test]
fn a_shorter_deadline_set_midway_passes_before_the_longer_one_would_have() {
    let (event_loop, log, chat, mut peer) = timed(Deadlines::default().record(LONG).idle(LONG));
    peer.send("half a rec");
    run_until(&event_loop, || chat.stats().bytes_in > 0);
    chat.set_deadlines(chat.deadlines().record(SHORT));
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["Timeout(Record)"]);
}

#[test]
fn deadlines_that_are_lifted_do_not_pass() {
    let all = Deadlines::default().idle(SHORT * 5).lifetime(SHORT * 5);
    let (event_loop, log, chat, _peer) = timed(all);
    chat.set_deadlines(Deadlines::default());
    wait_in_vain(&event_loop, &chat, &log);
    wait_in_vain(&event_loop, &chat, &log);
    is_open(&chat, &log);
}

/// A layer-1 dispatcher, which has no records.
struct Reads(Channel, Log);

impl Dispatcher for Reads {
    fn channel(&self) -> &Channel {
        &self.0
    }
    fn handle_read(&mut self) -> Result {
        self.0.recv(&mut [0; 64])?;
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.1.add(format!("{why:?}"));
    }
}

#[test]
fn a_dispatcher_has_them_too() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (near, far) = common::tcp_pair();
    let channel = Channel::adopt(near).unwrap();
    channel.set_deadlines(Deadlines::default().lifetime(SHORT * 3));
    event_loop
        .register(Reads(channel.clone(), log.clone()))
        .unwrap();
    let mut peer = Peer::new(far);
    run_until(&event_loop, || {
        let _ = std::io::Write::write(&mut peer.stream, b"x");
        !channel.is_open()
    });
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["Timeout(Lifetime)"]);
}

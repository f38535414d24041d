//! Deadlines: each closes a connection that is too slow, at the exact time, and the reason names
//! it. No deadline passes while this side is what delays the connection.
//!
//! The network is simulated and its time is virtual, so the tests do not wait.

mod common;

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use asynchat::sim::{Conditions, Network, Peer};
use asynchat::{
    AsyncChat, Channel, Chat, Close, Connector, Deadlines, Dispatcher, Eof, EventLoop, Limits,
    Overflow, RecordLimit, Result, Server, Terminator, TimerId,
};
use common::{Log, Slot};
use socket2::{Domain, Socket, Type};

const HOUR: Duration = secs(3600);

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Logs its callbacks, and the reason with the deadline that has passed.
struct Timed {
    log: Log,
    at_overflow: Overflow,
}

impl AsyncChat for Timed {
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        let record = String::from_utf8_lossy(record);
        self.log.add(format!("record {record}"));
        Ok(())
    }
    fn collect_incoming_data(&mut self, _: &[u8]) -> Result {
        Ok(())
    }
    fn handle_eof(&mut self, partial: &[u8]) -> Result<Eof> {
        let partial = String::from_utf8_lossy(partial);
        self.log.add(format!("eof {partial}"));
        Ok(Eof::StayOpen)
    }
    fn handle_overflow(&mut self, _limit: &RecordLimit) -> Result<Overflow> {
        self.log.add("overflow");
        Ok(self.at_overflow)
    }
    fn handle_timer(&mut self, _: TimerId) -> Result {
        self.log.add("timer");
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(format!("{why:?}"));
    }
}

/// A connection with deadlines, and all that belongs to it.
struct Scene {
    network: Network,
    event_loop: EventLoop,
    log: Log,
    chat: Chat,
    peer: Peer,
}

impl Scene {
    fn new(deadlines: Deadlines) -> Self {
        Scene::with(deadlines, Overflow::Discard)
    }

    fn with(deadlines: Deadlines, at_overflow: Overflow) -> Self {
        let network = Network::new(1);
        let event_loop = network.event_loop().expect("a loop can be made");
        let (log, slot) = (Log::default(), Slot::default());
        let log_clone = log.clone();
        let timed = move |_| Timed {
            log: log_clone.clone(),
            at_overflow,
        };
        let listener = Server::new("10.0.0.1:7007")
            .limits(Limits::default().output(Limits::UNLIMITED))
            .deadlines(deadlines)
            .listen_on(&event_loop, slot.capture(timed))
            .expect("the port is free");
        let peer = network.connect("10.0.0.1:7007").expect("an address");
        network.settle(&event_loop).expect("it comes to rest");
        listener.close();
        network.settle(&event_loop).expect("it comes to rest");
        Scene {
            network,
            event_loop,
            log,
            chat: slot.chat(),
            peer,
        }
    }

    #[track_caller]
    fn settle(&self) {
        let settled = self.network.settle(&self.event_loop);
        settled.expect("it comes to rest");
    }

    /// The peer sends this, and the loop processes it.
    #[track_caller]
    fn send(&self, data: &str) {
        self.peer.send(data);
        self.settle();
    }

    /// Lets time pass.
    #[track_caller]
    fn wait(&self, time: Duration) {
        let advanced = self.network.advance(&self.event_loop, time);
        advanced.expect("it comes to rest");
    }

    /// The peer reads nothing, and the kernel accepts almost nothing: some output waits, below the
    /// high-water mark.
    fn block(&self) {
        self.network
            .set_conditions(Conditions::default().buffer(1024));
        self.peer.stop_reading();
        self.chat.push(vec![b'x'; 10_000]);
        self.settle();
        assert!(self.chat.queued() > 0 && self.chat.queued() < self.chat.limits().high_water);
    }

    /// The peer reads nothing, and the queue is above the high-water mark: the session is
    /// back-pressured.
    fn apply_back_pressure(&self) {
        self.peer.stop_reading();
        self.chat.push(vec![b'x'; 1 << 20]);
        self.settle();
        assert!(self.chat.queued() > self.chat.limits().high_water);
    }

    /// Calls `act` every second until the connection ends.
    #[track_caller]
    fn every_second(&self, act: impl Fn(&Peer)) {
        for _ in 0..1000 {
            act(&self.peer);
            self.wait(secs(1));
            if !self.chat.is_open() {
                return;
            }
        }
        panic!("the connection does not end");
    }

    #[track_caller]
    fn assert_open(&self) {
        assert!(self.chat.is_open(), "{:?}", self.log.lines());
    }

    /// Checks that the connection ends for this reason, at this time after its beginning.
    #[track_caller]
    fn assert_ends(&self, why: &str, after: Duration) {
        self.event_loop.run().expect("the loop works");
        assert_eq!(self.log.lines().last().map(|it| &**it), Some(why));
        assert_eq!(self.network.elapsed(), after);
    }
}

// ---- idle

#[test]
fn a_connection_without_traffic_is_closed_as_idle() {
    let scene = Scene::new(Deadlines::default().idle(secs(10)));
    scene.assert_ends("Timeout(Idle)", secs(10));
    assert_eq!(scene.log.lines(), ["Timeout(Idle)"]);
}

#[test]
fn sending_resets_the_idle_deadline() {
    let scene = Scene::new(Deadlines::default().idle(secs(10)));
    for _ in 0..25 {
        scene.wait(secs(9));
        scene.chat.push("tick\r\n");
        scene.settle();
    }
    scene.assert_ends("Timeout(Idle)", secs(25 * 9 + 10));
    assert_eq!(scene.peer.received().len(), 25 * 6);
}

/// A client that takes a long reply is not idle, however long it sends nothing.
#[test]
fn a_peer_that_takes_output_resets_the_idle_deadline() {
    let scene = Scene::new(Deadlines::default().idle(secs(10)));
    scene.peer.stop_reading();
    scene.chat.push(vec![b'x'; 1 << 20]);
    scene.settle();
    for _ in 0..25 {
        scene.wait(secs(9));
        scene.peer.start_reading(100);
        scene.settle();
    }
    assert!(scene.chat.queued() > 0);
    scene.assert_ends("Timeout(Idle)", secs(25 * 9 + 10));
}

// ---- record

#[test]
fn a_record_that_arrives_byte_by_byte_is_timed_out() {
    let scene = Scene::new(Deadlines::default().record(secs(10)));
    scene.every_second(|peer| peer.send("x"));
    scene.assert_ends("Timeout(Record)", secs(10));
    assert_eq!(scene.chat.stats().bytes_in, 10);
}

#[test]
fn a_streamed_record_that_arrives_byte_by_byte_is_timed_out() {
    let scene = Scene::new(Deadlines::default().record(secs(10)));
    scene.chat.set_terminator(Terminator::crlf().streamed());
    scene.every_second(|peer| peer.send("x"));
    scene.assert_ends("Timeout(Record)", secs(10));
}

#[test]
fn a_discarded_record_that_arrives_byte_by_byte_is_timed_out() {
    let scene = Scene::new(Deadlines::default().record(secs(10)));
    scene.chat.set_limits(Limits::default().record(2));
    scene.every_second(|peer| peer.send("x"));
    scene.assert_ends("Timeout(Record)", secs(10));
    assert_eq!(scene.log.lines(), ["overflow", "Timeout(Record)"]);
}

#[test]
fn a_large_record_may_take_its_time_and_a_trickling_peer_may_not() {
    let scene = Scene::new(Deadlines::default().input(secs(10)));
    let large = Terminator::count(100 << 20).streamed();
    scene.chat.set_terminator(large);
    // 16 KiB a second are more than 64 KiB in ten seconds.
    let chunk = "x".repeat(16 * 1024);
    for _ in 0..600 {
        scene.send(&chunk);
        scene.wait(secs(1));
    }
    scene.assert_open();
    scene.every_second(|peer| peer.send("x"));
    assert!(scene.log.has("Timeout(Input)"));
}

#[test]
fn a_stream_without_records_may_take_its_time_and_a_trickling_peer_may_not() {
    let scene = Scene::new(Deadlines::default().input(secs(10)));
    scene.chat.set_terminator(Terminator::none());
    scene.wait(HOUR);
    let chunk = "x".repeat(16 * 1024);
    for _ in 0..600 {
        scene.send(&chunk);
        scene.wait(secs(1));
    }
    scene.chat.pause_reading();
    scene.wait(HOUR);
    scene.assert_open();
    scene.chat.resume_reading();
    scene.every_second(|peer| peer.send("x"));
    assert!(scene.log.has("Timeout(Input)"));
}

#[test]
fn a_piped_stream_has_no_input_deadline() {
    let scene = Scene::new(Deadlines::default().input(secs(10)));
    let (other, _peer) = scene.network.pair();
    let connected = Connector::adopt(other).connect_on(&scene.event_loop, |_| |_: &[u8]| Ok(()));
    let other = connected.expect("it is connected");
    scene.chat.set_terminator(Terminator::none());
    scene.send("x");
    asynchat::pipe(&scene.chat, &other).expect("both are open");
    scene.send("x");
    scene.wait(HOUR);
    scene.assert_open();
}

#[test]
fn the_input_deadline_does_not_run_between_records_nor_while_paused() {
    let scene = Scene::new(Deadlines::default().input(secs(10)));
    scene.wait(HOUR);
    scene.send("a record\r\nthe beginn");
    scene.wait(secs(9));
    scene.chat.pause_reading();
    scene.wait(HOUR);
    scene.chat.resume_reading();
    scene.send("ing\r\n");
    scene.wait(HOUR);
    scene.assert_open();
    assert!(scene.log.has("record the beginning"));
}

#[test]
fn the_record_deadline_does_not_run_between_records() {
    let scene = Scene::new(Deadlines::default().record(secs(10)));
    scene.wait(HOUR);
    scene.send("a record\r\n");
    assert!(scene.log.has("record a record"));
    scene.wait(HOUR);
    scene.assert_open();
}

#[test]
fn a_stream_without_records_is_not_timed() {
    let scene = Scene::new(Deadlines::default().record(secs(10)));
    scene.chat.set_terminator(Terminator::none());
    scene.send("a stream");
    scene.wait(HOUR);
    scene.assert_open();
}

/// The partial record was passed to `handle_eof`, so no record is expected.
#[test]
fn a_peer_that_has_finished_sending_is_not_timed_for_a_record() {
    let scene = Scene::new(Deadlines::default().record(secs(10)).idle(secs(60)));
    scene.send("half a rec");
    scene.peer.finish();
    scene.settle();
    assert_eq!(scene.log.lines(), ["eof half a rec"]);
    scene.wait(secs(59));
    scene.assert_open();
    scene.assert_ends("Timeout(Idle)", secs(60));
}

/// No more input is delivered, so the current record will never be complete.
#[test]
fn a_record_is_not_timed_once_the_close_is_queued() {
    let scene = Scene::new(Deadlines::default().record(secs(10)));
    scene.block();
    scene.send("half a rec");
    scene.chat.close_when_done();
    scene.wait(HOUR);
    scene.assert_open();
    scene.peer.start_reading(usize::MAX);
    scene.settle();
    assert_eq!(scene.log.lines(), ["Local"]);
    assert_eq!(scene.peer.received().len(), 10_000);
}

#[test]
fn a_record_is_not_timed_once_its_overflow_closes_the_connection() {
    let deadlines = Deadlines::default().record(secs(10));
    let scene = Scene::with(deadlines, Overflow::CloseWhenDone);
    scene.chat.set_limits(Limits::default().record(2));
    scene.block();
    // The first byte starts the clock, and the third exceeds the limit.
    scene.send("x");
    scene.wait(secs(5));
    scene.send("xx");
    assert_eq!(scene.log.lines(), ["overflow"]);
    scene.wait(HOUR);
    scene.assert_open();
    scene.peer.start_reading(usize::MAX);
    scene.settle();
    let limit = "RecordLimit { bytes: 2, announced: None, source: Limits }";
    let close = format!("InputLimit({limit})");
    assert_eq!(scene.log.lines(), ["overflow", &close]);
    assert_eq!(scene.peer.received().len(), 10_000);
}

#[test]
fn a_record_ended_by_an_idle_gap_is_not_timed_any_more() {
    let scene = Scene::new(Deadlines::default().record(secs(10)));
    scene.chat.set_terminator(Terminator::idle_gap(secs(2)));
    scene.send("a reading");
    scene.wait(HOUR);
    assert_eq!(scene.log.lines(), ["record a reading"]);
    scene.assert_open();
    // The next record has its own clock.
    scene.every_second(|peer| peer.send("x"));
    scene.assert_ends("Timeout(Record)", HOUR + secs(10));
}

#[test]
fn a_record_is_not_timed_while_reading_is_paused() {
    let scene = Scene::new(Deadlines::default().record(secs(10)));
    scene.send("half a ");
    scene.wait(secs(9));
    scene.chat.pause_reading();
    scene.send("record\r\n");
    scene.wait(HOUR);
    scene.assert_open();
    scene.chat.resume_reading();
    scene.settle();
    assert_eq!(scene.log.lines(), ["record half a record"]);
    scene.send("the half of another");
    scene.assert_ends("Timeout(Record)", HOUR + secs(19));
}

#[test]
fn a_record_is_not_timed_under_back_pressure() {
    let scene = Scene::new(Deadlines::default().record(secs(10)));
    scene.send("half a ");
    scene.wait(secs(9));
    scene.apply_back_pressure();
    scene.send("record\r\n");
    scene.wait(HOUR);
    scene.assert_open();
    assert!(!scene.log.has("record"), "it is back-pressured");
    scene.peer.start_reading(usize::MAX);
    scene.settle();
    assert_eq!(scene.log.lines(), ["record half a record"]);
}

/// The time that the peer has used is not given back. Otherwise a session that pauses now and then
/// would never time it out.
#[test]
fn the_clock_of_a_record_resumes_where_it_stopped() {
    let scene = Scene::new(Deadlines::default().record(secs(10)));
    scene.send("half a rec");
    for _ in 0..2 {
        scene.wait(secs(2));
        scene.chat.pause_reading();
        scene.wait(HOUR);
        scene.chat.resume_reading();
        scene.wait(secs(2));
        scene.apply_back_pressure();
        scene.wait(HOUR);
        scene.peer.start_reading(usize::MAX);
        scene.settle();
    }
    scene.assert_open();
    scene.assert_ends("Timeout(Record)", HOUR * 4 + secs(10));
}

#[test]
fn the_clock_of_a_record_stops_while_paused_or_back_pressured() {
    let scene = Scene::new(Deadlines::default().record(secs(10)));
    scene.send("half a rec");
    scene.wait(secs(4));
    scene.chat.pause_reading();
    scene.apply_back_pressure();
    scene.chat.resume_reading();
    scene.wait(HOUR);
    scene.assert_open();
    scene.peer.start_reading(usize::MAX);
    scene.wait(secs(5));

    scene.chat.pause_reading();
    scene.apply_back_pressure();
    scene.peer.start_reading(usize::MAX);
    scene.wait(HOUR);
    scene.assert_open();
    scene.chat.resume_reading();
    scene.assert_ends("Timeout(Record)", HOUR * 2 + secs(10));
}

// ---- drain

#[test]
fn a_peer_that_does_not_read_is_timed_out() {
    let scene = Scene::new(Deadlines::default().drain(secs(10)));
    scene.apply_back_pressure();
    scene.assert_ends("Timeout(Drain)", secs(10));
}

#[test]
fn a_peer_that_reads_byte_by_byte_is_timed_out() {
    let scene = Scene::new(Deadlines::default().drain(secs(10)).idle(HOUR));
    scene.apply_back_pressure();
    scene.every_second(|peer| peer.start_reading(1));
    scene.assert_ends("Timeout(Drain)", secs(10));
    let kernel = scene.network.conditions().buffer as u64;
    assert_eq!(
        scene.chat.stats().bytes_out,
        kernel + 10,
        "the peer has received some of it"
    );
}

/// It reads 64 KiB within each drain time, which is far less than all that is queued.
#[test]
fn a_peer_that_reads_slowly_but_steadily_is_not_timed_out() {
    let scene = Scene::new(Deadlines::default().drain(secs(10)));
    scene.peer.stop_reading();
    scene.chat.push(vec![b'x'; 2 << 20]);
    scene.settle();
    for _ in 0..20 {
        scene.wait(secs(9));
        scene.assert_open();
        scene.peer.start_reading(64 * 1024);
        scene.settle();
    }
    assert!(scene.chat.queued() > 0);
    // If it reads slightly less, it is timed out.
    scene.wait(secs(9));
    scene.peer.start_reading(64 * 1024 - 1);
    scene.assert_ends("Timeout(Drain)", secs(20 * 9 + 10));
}

/// A kernel reports room only when a large part of its buffer is free, which can be megabytes. The
/// simulated kernel reports any room, so this test uses real sockets. What the kernel would accept
/// when the deadline is due counts as accepted in time.
#[test]
fn room_in_the_kernel_that_was_not_reported_counts_as_progress() {
    let (event_loop, log, slot) = (common::new_loop(), Log::default(), Slot::default());
    let [near, far] = [(); 2].map(|()| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap());
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    near.bind(&any.into()).unwrap();
    // A large buffer on this side and a small one on the other, so that what the peer reads is a
    // small part.
    near.set_send_buffer_size(1 << 20).unwrap();
    far.set_recv_buffer_size(64 * 1024).unwrap();
    near.listen(1).unwrap();
    far.connect(&near.local_addr().unwrap()).unwrap();
    let listener = Server::adopt(TcpListener::from(near))
        .limits(Limits::default().output(Limits::UNLIMITED))
        .deadlines(Deadlines::default().drain(HOUR))
        .listen_on(&event_loop, slot.capture(log.session()))
        .unwrap();
    common::run_until(&event_loop, || slot.is_filled());
    listener.close();
    let chat = slot.chat();
    chat.push(vec![b'x'; 64 << 20]);
    common::run_until_blocked(&event_loop, &chat);
    let before = chat.stats().bytes_out;
    (&far).read_exact(&mut vec![0; 256 * 1024]).unwrap();
    // Only now can the deadline pass, however slow this machine is.
    chat.set_deadlines(Deadlines::default().drain(Duration::from_millis(40)));
    common::run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "close Timeout"]);
    assert!(
        chat.stats().bytes_out > before,
        "no more was offered to the kernel"
    );
}

#[test]
fn the_drain_deadline_does_not_run_without_output() {
    let scene = Scene::new(Deadlines::default().drain(secs(10)));
    scene.wait(HOUR);
    scene.chat.push(vec![b'x'; 1 << 20]);
    scene.settle();
    assert_eq!(scene.peer.received().len(), 1 << 20);
    scene.wait(HOUR);
    scene.assert_open();
}

#[test]
fn discarding_the_output_stops_the_drain_deadline() {
    let scene = Scene::new(Deadlines::default().drain(secs(10)));
    scene.apply_back_pressure();
    scene.wait(secs(9));
    scene.chat.discard_buffers();
    scene.wait(HOUR);
    scene.assert_open();
}

/// The new limits are set in the turn in which the deadline passes, before the loop looks at it.
#[test]
fn setting_limits_does_not_stop_the_drain_deadline() {
    let scene = Scene::new(Deadlines::default().drain(secs(10)));
    let chat = scene.chat.clone();
    scene
        .event_loop
        .call_every(secs(10), move || chat.set_limits(chat.limits()));
    scene.apply_back_pressure();
    scene.wait(secs(20));
    assert_eq!(scene.log.lines(), ["Timeout(Drain)"]);
}

#[test]
fn close_when_done_waits_at_most_for_the_drain_deadline() {
    let scene = Scene::new(Deadlines::default().drain(secs(10)));
    scene.apply_back_pressure();
    scene.chat.close_when_done();
    scene.assert_ends("Timeout(Drain)", secs(10));
}

// ---- lifetime, connect

#[test]
fn a_lifetime_ends_a_busy_connection() {
    let scene = Scene::new(Deadlines::default().lifetime(secs(10)));
    scene.every_second(|peer| peer.send("a record\r\n"));
    scene.assert_ends("Timeout(Lifetime)", secs(10));
    assert_eq!(scene.log.count("record"), 10);
}

#[test]
fn a_connection_that_is_up_has_no_connect_deadline() -> Result {
    let (network, log) = (Network::new(1), Log::default());
    let event_loop = network.event_loop()?;
    let service = network.listen("192.0.2.1:119")?;
    let log_clone = log.clone();
    let chat = Connector::new("192.0.2.1:119")
        .deadlines(Deadlines::default().connect(secs(10)))
        .connect_on(&event_loop, |_| Timed {
            log: log_clone,
            at_overflow: Overflow::CloseWhenDone,
        })?;
    network.settle(&event_loop)?;
    let peer = service.accept().ok_or("the client has connected")?;
    peer.send("hello\r\n");
    network.advance(&event_loop, HOUR)?;
    assert_eq!(log.lines(), ["record hello"]);
    assert!(chat.is_open());
    Ok(())
}

/// A connection that gets no answer: `Close::ConnectFailed`, and no other deadline.
#[test]
fn while_connecting_only_the_connect_deadline_runs() -> Result {
    let (network, log) = (Network::new(1), Log::default());
    let event_loop = network.event_loop()?;
    network.add_black_hole("192.0.2.1:119".parse()?);
    let deadlines = Deadlines::default().idle(secs(10)).lifetime(secs(10));
    let log_clone = log.clone();
    Connector::new("192.0.2.1:119")
        .deadlines(deadlines.connect(secs(30)))
        .connect_on(&event_loop, |_| Timed {
            log: log_clone,
            at_overflow: Overflow::CloseWhenDone,
        })?;
    event_loop.run()?;
    assert_eq!(log.count("ConnectFailed"), 1, "{:?}", log.lines());
    assert_eq!(event_loop.stats().closes.connect_failed, 1);
    assert_eq!(network.elapsed(), secs(30));
    Ok(())
}

// ---- setting them

#[test]
fn changed_deadlines_apply_to_the_current_record() {
    let scene = Scene::new(Deadlines::default());
    scene.send("half a rec");
    scene.wait(HOUR);
    scene
        .chat
        .set_deadlines(Deadlines::default().idle(secs(10)));
    assert_eq!(scene.chat.deadlines().idle, Some(secs(10)));
    scene.assert_ends("Timeout(Idle)", HOUR + secs(10));
}

#[test]
fn the_first_deadline_that_is_set_times_the_current_record() {
    let scene = Scene::new(Deadlines::default());
    scene.send("half a rec");
    scene.wait(HOUR);
    scene
        .chat
        .set_deadlines(Deadlines::default().record(secs(10)));
    scene.assert_ends("Timeout(Record)", HOUR + secs(10));
}

#[test]
fn the_first_deadline_that_is_set_times_the_queued_output() {
    let scene = Scene::new(Deadlines::default());
    scene.peer.stop_reading();
    scene.chat.push(vec![b'x'; 1 << 20]);
    scene.wait(HOUR);
    scene
        .chat
        .set_deadlines(Deadlines::default().drain(secs(10)));
    scene.assert_ends("Timeout(Drain)", HOUR + secs(10));
}

#[test]
fn a_shorter_deadline_replaces_a_longer_one_in_the_middle_of_a_record() {
    let scene = Scene::new(Deadlines::default().record(HOUR).idle(HOUR));
    scene.send("half a rec");
    let shorter = scene.chat.deadlines().record(secs(10));
    scene.chat.set_deadlines(shorter);
    scene.assert_ends("Timeout(Record)", secs(10));
}

#[test]
fn removed_deadlines_do_not_pass() {
    let scene = Scene::new(Deadlines::default().idle(secs(10)).lifetime(secs(10)));
    scene.chat.set_deadlines(Deadlines::default());
    scene.wait(HOUR);
    scene.assert_open();
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
fn deadlines_apply_to_a_dispatcher() -> Result {
    let (network, log) = (Network::new(1), Log::default());
    let event_loop = network.event_loop()?;
    let (socket, peer) = network.pair();
    let channel = Channel::adopt(socket)?;
    channel.set_deadlines(Deadlines::default().lifetime(secs(10)));
    event_loop.register(Reads(channel, log.clone()))?;
    while !event_loop.is_empty() && network.elapsed() < HOUR {
        peer.send("x");
        network.advance(&event_loop, secs(1))?;
    }
    assert_eq!(log.lines(), ["Timeout(Lifetime)"]);
    assert_eq!(network.elapsed(), secs(10));
    Ok(())
}

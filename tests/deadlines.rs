//! Deadlines: each closes the connection that is too slow, at its time, and says which it was; none
//! does where it is this side that waits.
//!
//! On the simulated network, whose time is virtual: nothing waits for real, and times are exact.

mod common;

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use asynchat::sim::{Conditions, Network, Peer};
use asynchat::{
    AsyncChat, Channel, Chat, Close, Connector, Deadlines, Dispatcher, Eof, EventLoop, Limits,
    Overflow, Result, Server, Terminator, TimerId,
};
use common::{Log, Slot};
use socket2::{Domain, Socket, Type};

const HOUR: Duration = secs(3600);

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Writes down why it was closed, and which deadline it was.
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
    fn handle_overflow(&mut self) -> Overflow {
        self.log.add("overflow");
        self.at_overflow
    }
    fn handle_timer(&mut self, _: TimerId) -> Result {
        self.log.add("timer");
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(format!("{why:?}"));
    }
}

/// A connection with deadlines, and all that there is to it.
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
        let told = log.clone();
        let timed = move |_| Timed {
            log: told.clone(),
            at_overflow,
        };
        let listener = Server::new("10.0.0.1:7007")
            .limits(Limits::default().output(Limits::UNLIMITED))
            .deadlines(deadlines)
            .listen_on(&event_loop, slot.keep(timed))
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

    /// The peer sends this, and the loop has done what it can about it.
    #[track_caller]
    fn send(&self, data: &str) {
        self.peer.send(data);
        self.settle();
    }

    /// Time passes.
    #[track_caller]
    fn wait(&self, time: Duration) {
        let advanced = self.network.advance(&self.event_loop, time);
        advanced.expect("it comes to rest");
    }

    /// The peer takes nothing, and the kernel next to nothing: some output waits, and not so much
    /// that the session is stopped for it.
    fn block(&self) {
        self.network
            .set_conditions(Conditions::default().buffer(1024));
        self.peer.stop_reading();
        self.chat.push(vec![b'x'; 10_000]);
        self.settle();
        assert!(self.chat.queued() > 0 && self.chat.queued() < self.chat.limits().high_water);
    }

    /// The peer takes nothing, and the session is stopped for what waits.
    fn choke(&self) {
        self.peer.stop_reading();
        self.chat.push(vec![b'x'; 1 << 20]);
        self.settle();
        assert!(self.chat.queued() > self.chat.limits().high_water);
    }

    /// Something is done every second, until the connection ends.
    #[track_caller]
    fn every_second(&self, act: impl Fn(&Peer)) {
        for _ in 0..1000 {
            act(&self.peer);
            self.wait(secs(1));
            if !self.chat.is_open() {
                return;
            }
        }
        panic!("it does not end");
    }

    #[track_caller]
    fn is_open(&self) {
        assert!(self.chat.is_open(), "{:?}", self.log.lines());
    }

    /// The connection ends for this reason, so long after the beginning.
    #[track_caller]
    fn ends(&self, why: &str, after: Duration) {
        self.event_loop.run().expect("the loop works");
        assert_eq!(self.log.lines().last().map(|it| &**it), Some(why));
        assert_eq!(self.network.elapsed(), after);
    }
}

// ---- idle

#[test]
fn a_connection_on_which_nothing_moves_is_idle() {
    let scene = Scene::new(Deadlines::default().idle(secs(10)));
    scene.ends("Timeout(Idle)", secs(10));
    assert_eq!(scene.log.lines(), ["Timeout(Idle)"]);
}

#[test]
fn what_is_sent_is_a_sign_of_life_too() {
    let scene = Scene::new(Deadlines::default().idle(secs(10)));
    for _ in 0..25 {
        scene.wait(secs(9));
        scene.chat.push("tick\r\n");
        scene.settle();
    }
    scene.ends("Timeout(Idle)", secs(25 * 9 + 10));
    assert_eq!(scene.peer.received().len(), 25 * 6);
}

// ---- record

#[test]
fn a_record_that_comes_byte_by_byte_is_cut() {
    let scene = Scene::new(Deadlines::default().record(secs(10)));
    scene.every_second(|peer| peer.send("x"));
    scene.ends("Timeout(Record)", secs(10));
    assert_eq!(scene.chat.stats().bytes_in, 10);
}

#[test]
fn a_streamed_record_that_comes_byte_by_byte_is_cut() {
    let scene = Scene::new(Deadlines::default().record(secs(10)));
    scene.chat.set_terminator(Terminator::crlf().streamed());
    scene.every_second(|peer| peer.send("x"));
    scene.ends("Timeout(Record)", secs(10));
}

#[test]
fn a_record_that_is_skipped_byte_by_byte_is_cut() {
    let scene = Scene::new(Deadlines::default().record(secs(10)));
    scene.chat.set_limits(Limits::default().record(2));
    scene.every_second(|peer| peer.send("x"));
    scene.ends("Timeout(Record)", secs(10));
    assert_eq!(scene.log.lines(), ["overflow", "Timeout(Record)"]);
}

#[test]
fn between_records_nothing_is_awaited() {
    let scene = Scene::new(Deadlines::default().record(secs(10)));
    scene.wait(HOUR);
    scene.send("a record\r\n");
    assert!(scene.log.has("record a record"));
    scene.wait(HOUR);
    scene.is_open();
}

#[test]
fn a_stream_without_records_is_not_timed() {
    let scene = Scene::new(Deadlines::default().record(secs(10)));
    scene.chat.set_terminator(Terminator::none());
    scene.send("a stream");
    scene.wait(HOUR);
    scene.is_open();
}

/// What it had of a record was given to `handle_eof`: no record is awaited.
#[test]
fn a_peer_that_has_finished_sending_is_not_timed_for_a_record() {
    let scene = Scene::new(Deadlines::default().record(secs(10)).idle(secs(60)));
    scene.send("half a rec");
    scene.peer.finish();
    scene.settle();
    assert_eq!(scene.log.lines(), ["eof half a rec"]);
    scene.wait(secs(59));
    scene.is_open();
    scene.ends("Timeout(Idle)", secs(60));
}

/// No more input is delivered, so the record in hand will never be complete.
#[test]
fn a_record_is_not_timed_once_the_close_is_queued() {
    let scene = Scene::new(Deadlines::default().record(secs(10)));
    scene.block();
    scene.send("half a rec");
    scene.chat.close_when_done();
    scene.wait(HOUR);
    scene.is_open();
    scene.peer.start_reading(usize::MAX);
    scene.settle();
    assert_eq!(scene.log.lines(), ["Local"]);
    assert_eq!(scene.peer.received().len(), 10_000);
}

#[test]
fn a_record_is_not_timed_once_it_was_too_long_and_closes() {
    let deadlines = Deadlines::default().record(secs(10));
    let scene = Scene::with(deadlines, Overflow::Close);
    scene.chat.set_limits(Limits::default().record(2));
    scene.block();
    // The first byte starts the clock, and the third is one too many.
    scene.send("x");
    scene.wait(secs(5));
    scene.send("xx");
    assert_eq!(scene.log.lines(), ["overflow"]);
    scene.wait(HOUR);
    scene.is_open();
    scene.peer.start_reading(usize::MAX);
    scene.settle();
    assert_eq!(scene.log.lines(), ["overflow", "InputLimit"]);
    assert_eq!(scene.peer.received().len(), 10_000);
}

#[test]
fn a_record_that_silence_has_ended_is_not_timed_any_more() {
    let scene = Scene::new(Deadlines::default().record(secs(10)));
    scene.chat.set_terminator(Terminator::idle_gap(secs(2)));
    scene.send("a reading");
    scene.wait(HOUR);
    assert_eq!(scene.log.lines(), ["record a reading"]);
    scene.is_open();
    // The next one has its own clock.
    scene.every_second(|peer| peer.send("x"));
    scene.ends("Timeout(Record)", HOUR + secs(10));
}

#[test]
fn a_record_is_not_timed_while_this_side_is_paused() {
    let scene = Scene::new(Deadlines::default().record(secs(10)));
    scene.send("half a ");
    scene.wait(secs(9));
    scene.chat.pause_reading();
    scene.send("record\r\n");
    scene.wait(HOUR);
    scene.is_open();
    scene.chat.resume_reading();
    scene.settle();
    assert_eq!(scene.log.lines(), ["record half a record"]);
    scene.send("the half of another");
    scene.ends("Timeout(Record)", HOUR + secs(19));
}

#[test]
fn a_record_is_not_timed_while_this_side_has_too_much_to_say() {
    let scene = Scene::new(Deadlines::default().record(secs(10)));
    scene.send("half a ");
    scene.wait(secs(9));
    scene.choke();
    scene.send("record\r\n");
    scene.wait(HOUR);
    scene.is_open();
    assert!(!scene.log.has("record"), "it is stopped");
    scene.peer.start_reading(usize::MAX);
    scene.settle();
    assert_eq!(scene.log.lines(), ["record half a record"]);
}

/// What the peer has taken of its time is not given back: else a session that stops now and then
/// would never cut it.
#[test]
fn the_clock_of_a_record_goes_on_where_it_stood() {
    let scene = Scene::new(Deadlines::default().record(secs(10)));
    scene.send("half a rec");
    for _ in 0..2 {
        scene.wait(secs(2));
        scene.chat.pause_reading();
        scene.wait(HOUR);
        scene.chat.resume_reading();
        scene.wait(secs(2));
        scene.choke();
        scene.wait(HOUR);
        scene.peer.start_reading(usize::MAX);
        scene.settle();
    }
    scene.is_open();
    scene.ends("Timeout(Record)", HOUR * 4 + secs(10));
}

#[test]
fn the_clock_of_a_record_stands_still_for_as_long_as_either_stops_it() {
    let scene = Scene::new(Deadlines::default().record(secs(10)));
    scene.send("half a rec");
    scene.wait(secs(4));
    scene.chat.pause_reading();
    scene.choke();
    scene.chat.resume_reading();
    scene.wait(HOUR);
    scene.is_open();
    scene.peer.start_reading(usize::MAX);
    scene.wait(secs(5));

    scene.chat.pause_reading();
    scene.choke();
    scene.peer.start_reading(usize::MAX);
    scene.wait(HOUR);
    scene.is_open();
    scene.chat.resume_reading();
    scene.ends("Timeout(Record)", HOUR * 2 + secs(10));
}

// ---- drain

#[test]
fn a_peer_that_does_not_take_its_output_is_cut() {
    let scene = Scene::new(Deadlines::default().drain(secs(10)));
    scene.choke();
    scene.ends("Timeout(Drain)", secs(10));
}

#[test]
fn a_peer_that_takes_its_output_byte_by_byte_is_cut() {
    let scene = Scene::new(Deadlines::default().drain(secs(10)).idle(HOUR));
    scene.choke();
    scene.every_second(|peer| peer.start_reading(1));
    scene.ends("Timeout(Drain)", secs(10));
    let kernel = scene.network.conditions().buffer as u64;
    assert_eq!(scene.chat.stats().bytes_out, kernel + 10, "it took some");
}

/// It takes 64 KiB in each of the deadline's times, and far less than all that is queued.
#[test]
fn a_peer_that_takes_its_output_slowly_but_steadily_is_not_cut() {
    let scene = Scene::new(Deadlines::default().drain(secs(10)));
    scene.peer.stop_reading();
    scene.chat.push(vec![b'x'; 2 << 20]);
    scene.settle();
    for _ in 0..20 {
        scene.wait(secs(9));
        scene.is_open();
        scene.peer.start_reading(64 * 1024);
        scene.settle();
    }
    assert!(scene.chat.queued() > 0);
    // Once it takes a little less, it is.
    scene.wait(secs(9));
    scene.peer.start_reading(64 * 1024 - 1);
    scene.ends("Timeout(Drain)", secs(20 * 9 + 10));
}

/// A kernel reports room when a good part of its buffer is free, which can be megabytes; the
/// simulated one reports any, so this is on sockets. What the kernel would take when the deadline
/// is due was taken in time.
#[test]
fn what_the_kernel_has_room_for_and_does_not_report_was_taken_in_time() {
    let (event_loop, log, slot) = (common::new_loop(), Log::default(), Slot::default());
    let [near, far] = [(); 2].map(|()| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap());
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    near.bind(&any.into()).unwrap();
    // Much on this side and little on the other, so that what is taken is little of it.
    near.set_send_buffer_size(1 << 20).unwrap();
    far.set_recv_buffer_size(64 * 1024).unwrap();
    near.listen(1).unwrap();
    far.connect(&near.local_addr().unwrap()).unwrap();
    let listener = Server::adopt(TcpListener::from(near))
        .limits(Limits::default().output(Limits::UNLIMITED))
        .deadlines(Deadlines::default().drain(HOUR))
        .listen_on(&event_loop, slot.keep(log.session()))
        .unwrap();
    common::run_until(&event_loop, || slot.is_filled());
    listener.close();
    let chat = slot.chat();
    chat.push(vec![b'x'; 64 << 20]);
    common::run_until_blocked(&event_loop, &chat);
    let before = chat.stats().bytes_out;
    (&far).read_exact(&mut vec![0; 256 * 1024]).unwrap();
    // Only now is there anything to be late with, however slow this machine is.
    chat.set_deadlines(Deadlines::default().drain(Duration::from_millis(40)));
    common::run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "close Timeout"]);
    assert!(chat.stats().bytes_out > before, "it was not offered more");
}

#[test]
fn nothing_to_send_is_nothing_to_take() {
    let scene = Scene::new(Deadlines::default().drain(secs(10)));
    scene.wait(HOUR);
    scene.chat.push(vec![b'x'; 1 << 20]);
    scene.settle();
    assert_eq!(scene.peer.received().len(), 1 << 20);
    scene.wait(HOUR);
    scene.is_open();
}

#[test]
fn output_that_is_discarded_need_not_be_taken() {
    let scene = Scene::new(Deadlines::default().drain(secs(10)));
    scene.choke();
    scene.wait(secs(9));
    scene.chat.discard_buffers();
    scene.wait(HOUR);
    scene.is_open();
}

#[test]
fn a_close_when_done_waits_for_the_drain_deadline_and_no_longer() {
    let scene = Scene::new(Deadlines::default().drain(secs(10)));
    scene.choke();
    scene.chat.close_when_done();
    scene.ends("Timeout(Drain)", secs(10));
}

// ---- lifetime, connect

#[test]
fn a_lifetime_ends_whatever_moves() {
    let scene = Scene::new(Deadlines::default().lifetime(secs(10)));
    scene.every_second(|peer| peer.send("a record\r\n"));
    scene.ends("Timeout(Lifetime)", secs(10));
    assert_eq!(scene.log.count("record"), 10);
}

#[test]
fn a_connection_that_has_come_up_in_time_has_no_connect_deadline_any_more() -> Result {
    let (network, log) = (Network::new(1), Log::default());
    let event_loop = network.event_loop()?;
    let service = network.listen("192.0.2.1:119")?;
    let told = log.clone();
    let chat = Connector::new("192.0.2.1:119")
        .deadlines(Deadlines::default().connect(secs(10)))
        .connect_on(&event_loop, |_| Timed {
            log: told,
            at_overflow: Overflow::Close,
        })?;
    network.settle(&event_loop)?;
    let peer = service.accept().ok_or("nobody came")?;
    peer.send("hello\r\n");
    network.advance(&event_loop, HOUR)?;
    assert_eq!(log.lines(), ["record hello"]);
    assert!(chat.is_open());
    Ok(())
}

/// A connection that nobody answers: `Close::ConnectFailed`, and none of the other deadlines.
#[test]
fn a_connection_under_way_has_the_connect_deadline_alone() -> Result {
    let (network, log) = (Network::new(1), Log::default());
    let event_loop = network.event_loop()?;
    network.add_black_hole("192.0.2.1:119".parse()?);
    let deadlines = Deadlines::default().idle(secs(10)).lifetime(secs(10));
    let told = log.clone();
    Connector::new("192.0.2.1:119")
        .deadlines(deadlines.connect(secs(30)))
        .connect_on(&event_loop, |_| Timed {
            log: told,
            at_overflow: Overflow::Close,
        })?;
    event_loop.run()?;
    assert_eq!(log.count("ConnectFailed"), 1, "{:?}", log.lines());
    assert_eq!(event_loop.stats().closes.connect_failed, 1);
    assert_eq!(network.elapsed(), secs(30));
    Ok(())
}

// ---- setting them

#[test]
fn deadlines_set_midway_hold_for_what_is_under_way() {
    let scene = Scene::new(Deadlines::default());
    scene.send("half a rec");
    scene.wait(HOUR);
    scene
        .chat
        .set_deadlines(Deadlines::default().idle(secs(10)));
    assert_eq!(scene.chat.deadlines().idle, Some(secs(10)));
    scene.ends("Timeout(Idle)", HOUR + secs(10));
}

#[test]
fn the_first_deadline_of_all_times_the_record_that_is_under_way() {
    let scene = Scene::new(Deadlines::default());
    scene.send("half a rec");
    scene.wait(HOUR);
    scene
        .chat
        .set_deadlines(Deadlines::default().record(secs(10)));
    scene.ends("Timeout(Record)", HOUR + secs(10));
}

#[test]
fn the_first_deadline_of_all_times_the_output_that_is_under_way() {
    let scene = Scene::new(Deadlines::default());
    scene.peer.stop_reading();
    scene.chat.push(vec![b'x'; 1 << 20]);
    scene.wait(HOUR);
    scene
        .chat
        .set_deadlines(Deadlines::default().drain(secs(10)));
    scene.ends("Timeout(Drain)", HOUR + secs(10));
}

#[test]
fn a_shorter_deadline_set_midway_passes_before_the_longer_one_would_have() {
    let scene = Scene::new(Deadlines::default().record(HOUR).idle(HOUR));
    scene.send("half a rec");
    let shorter = scene.chat.deadlines().record(secs(10));
    scene.chat.set_deadlines(shorter);
    scene.ends("Timeout(Record)", secs(10));
}

#[test]
fn deadlines_that_are_lifted_do_not_pass() {
    let scene = Scene::new(Deadlines::default().idle(secs(10)).lifetime(secs(10)));
    scene.chat.set_deadlines(Deadlines::default());
    scene.wait(HOUR);
    scene.is_open();
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
fn a_dispatcher_has_them_too() -> Result {
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

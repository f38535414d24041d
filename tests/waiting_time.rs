//! A deadline counts the time for which the loop waits for the peer. A session that pauses, a budget that is used
//! up, or a peer that moves a byte now and then does not reset it. The time for which the peer waits for the loop
//! does not count: a callback that blocks, or a host that does not run its loop.
//!
//! The network is simulated and its time is virtual, except for one test with a real kernel.

mod common;
#[path = "common/scene.rs"]
mod scene;

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use asynchat::sim::{Conditions, Peer};
use asynchat::{
    AsyncChat, Channel, Chat, Close, Deadlines, Dispatcher, Limits, More, Producer, Result, Server,
    Terminator, TimerId,
};
use common::{Log, Slot};
use scene::Scene;
use socket2::{Domain, Socket, Type};

const MIB: usize = 1 << 20;

/// Less than any simulated kernel buffer of these tests.
const SMALL_BUFFER: usize = 1024;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Receives a stream that is one record.
struct Upload {
    chat: Chat,
    log: Log,
    /// It pauses for this time after each chunk.
    pause: Option<Duration>,
}

impl AsyncChat for Upload {
    fn handle_connect(&mut self) -> Result {
        self.chat.set_terminator(Terminator::crlf().streamed());
        Ok(())
    }
    fn collect_incoming_data(&mut self, _: &[u8]) -> Result {
        if let Some(time) = self.pause {
            self.chat.pause_reading();
            self.chat.call_later(time);
        }
        Ok(())
    }
    fn handle_timer(&mut self, _: TimerId) -> Result {
        self.chat.resume_reading();
        Ok(())
    }
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        self.log.add("complete");
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(format!("{why:?}"));
    }
}

/// A connection with these deadlines and limits, to a session that pauses after each chunk if that is wanted.
fn upload(
    deadlines: Deadlines,
    limits: Limits,
    pause: Option<Duration>,
) -> Result<(Scene, Chat, Peer)> {
    let scene = Scene::new()?;
    let log = scene.log.clone();
    let (chat, peer) = scene.connection(move |chat| {
        chat.set_deadlines(deadlines);
        chat.set_limits(limits);
        Upload { chat, log, pause }
    })?;
    Ok((scene, chat, peer))
}

/// The time until the connection ends for this reason, while `act` is called once a second.
#[track_caller]
fn ends_after(scene: &Scene, why: &str, act: impl Fn()) -> Result<Duration> {
    for _ in 0..100 {
        act();
        scene.advance(1)?;
        if !scene.log.lines().is_empty() {
            assert_eq!(scene.log.lines(), [why]);
            return Ok(scene.network.elapsed());
        }
    }
    panic!("open after {:?}", scene.network.elapsed());
}

// ---- slow peers

#[test]
fn a_pause_for_each_chunk_does_not_reset_the_record_deadline() -> Result {
    let pause = Some(Duration::from_millis(10));
    let (scene, _, peer) = upload(
        Deadlines::default().record(secs(10)),
        Limits::default(),
        pause,
    )?;
    // Each second this side reads for 990 ms.
    let time = ends_after(&scene, "Timeout(Record)", || peer.send("x"))?;
    assert_eq!(time, secs(11));
    Ok(())
}

#[test]
fn a_pause_for_each_chunk_does_not_reset_the_input_deadline() -> Result {
    let pause = Some(Duration::from_millis(10));
    let (scene, _, peer) = upload(
        Deadlines::default().input(secs(10)),
        Limits::default(),
        pause,
    )?;
    let time = ends_after(&scene, "Timeout(Input)", || peer.send("x"))?;
    assert_eq!(time, secs(11));
    Ok(())
}

#[test]
fn a_used_up_budget_does_not_reset_the_record_deadline() -> Result {
    let (scene, _, peer) = upload(
        Deadlines::default().record(secs(10)),
        Limits::default().turn_records(1),
        None,
    )?;
    let time = ends_after(&scene, "Timeout(Record)", || peer.send("x"))?;
    assert_eq!(time, secs(10));
    Ok(())
}

/// Whatever is pushed to it, its peer takes one byte a second.
#[test]
fn back_pressure_does_not_reset_the_record_deadline() -> Result {
    let (scene, chat, peer) = upload(
        Deadlines::default().record(secs(10)),
        Limits::default().high_water(10_000).low_water(5_000),
        None,
    )?;
    let time = ends_after(&scene, "Timeout(Record)", || {
        peer.send("x");
        chat.push(vec![b'x'; 20_000]);
    })?;
    assert_eq!(time, secs(10));
    Ok(())
}

/// A peer that takes 1 KiB in 5 s takes less than 64 KiB in 10 s, however much is offered to the kernel at once.
#[test]
fn a_small_write_budget_does_not_reset_the_drain_deadline() -> Result {
    for turn_write in [65_536, SMALL_BUFFER, 1] {
        let scene = Scene::new()?;
        scene
            .network
            .set_conditions(Conditions::default().buffer(SMALL_BUFFER));
        let log = scene.log.clone();
        let (chat, peer) = scene.connection(move |chat| {
            chat.set_deadlines(Deadlines::default().drain(secs(10)));
            chat.set_limits(Limits::default().turn_write(turn_write));
            let pause = None;
            Upload { chat, log, pause }
        })?;
        peer.stop_reading();
        chat.push(vec![b'x'; MIB]);
        scene.settle()?;
        for _ in 0..20 {
            scene.advance(5)?;
            peer.start_reading(SMALL_BUFFER);
            scene.settle()?;
            peer.stop_reading();
        }
        let ends = format!("turn_write {turn_write}: {:?}", scene.log.lines());
        assert_eq!(scene.log.lines(), ["Timeout(Drain)"], "{ends}");
        assert!(peer.received().len() <= 2 * SMALL_BUFFER, "{ends}");
    }
    Ok(())
}

/// Makes a line of 102 bytes each time, for ever.
struct ShortLines;

impl Producer for ShortLines {
    fn more(&mut self, _: usize) -> io::Result<More> {
        Ok(More::Chunk(format!("{:0100}\r\n", 0).into()))
    }
}

#[test]
fn short_chunks_do_not_reset_the_drain_deadline() -> Result {
    let (scene, chat, peer) = upload(
        Deadlines::default().drain(secs(10)),
        Limits::default(),
        None,
    )?;
    scene
        .network
        .set_conditions(Conditions::default().buffer(SMALL_BUFFER));
    peer.stop_reading();
    chat.push_with_producer(ShortLines);
    scene.settle()?;
    for _ in 0..20 {
        scene.advance(5)?;
        peer.start_reading(204);
        scene.settle()?;
        peer.stop_reading();
    }
    assert_eq!(scene.log.lines(), ["Timeout(Drain)"]);
    Ok(())
}

/// A producer that answers `Pending` leaves nothing to send: the peer owes nothing.
#[test]
fn the_drain_deadline_does_not_run_while_a_producer_is_pending() -> Result {
    struct Late(Option<usize>);
    impl Producer for Late {
        fn more(&mut self, _: usize) -> io::Result<More> {
            Ok(match self.0.take() {
                Some(length) => More::Chunk(vec![b'x'; length].into()),
                None => More::Pending,
            })
        }
    }
    let (scene, chat, peer) = upload(
        Deadlines::default().drain(secs(10)),
        Limits::default(),
        None,
    )?;
    peer.stop_reading();
    chat.push_with_producer(Late(Some(100_000)));
    scene.advance(9)?;
    peer.start_reading(usize::MAX);
    scene.advance(3600)?;
    assert!(chat.is_open(), "{:?}", scene.log.lines());
    assert_eq!(peer.received().len(), 100_000);
    Ok(())
}

// ---- a late loop

/// How a loop does not poll for a while.
#[derive(Clone, Copy, Debug)]
enum Stall {
    /// A callback takes long.
    Callback,
    /// The host does not run the loop.
    Host,
    /// The host runs the loop in slices, and a turn is cut for so long.
    CutTurn,
    /// The same as `Host`, with a host that polls for the loop otherwise.
    #[cfg(all(unix, not(target_os = "illumos")))]
    OuterLoop,
}

const STALLS: &[Stall] = &[
    Stall::Callback,
    Stall::Host,
    Stall::CutTurn,
    #[cfg(all(unix, not(target_os = "illumos")))]
    Stall::OuterLoop,
];

impl Stall {
    fn take(self, scene: &Scene, time: Duration) -> Result {
        let network = scene.network.clone();
        match self {
            Stall::Callback => scene.event_loop.call_soon(move || network.spend(time)),
            Stall::Host => network.spend(time),
            Stall::CutTurn => {
                for _ in 0..3 {
                    scene.event_loop.call_soon(|| {});
                }
                scene.event_loop.run_for(Duration::ZERO)?;
                network.spend(time);
            }
            #[cfg(all(unix, not(target_os = "illumos")))]
            Stall::OuterLoop => {
                let _ = std::os::fd::AsFd::as_fd(&scene.event_loop);
                network.spend(time);
            }
        }
        scene.event_loop.run_once(Duration::ZERO)?;
        Ok(())
    }
}

/// A peer that has 1 MiB to send, a loop that is away for 11 s, and a kernel that buffers this much.
fn stalled_upload(deadlines: Deadlines, stall: Stall, buffer: usize) -> Result<(Scene, Peer)> {
    let (scene, _, peer) = upload(deadlines, Limits::default(), None)?;
    scene
        .network
        .set_conditions(Conditions::default().buffer(buffer));
    peer.send("xxx");
    scene.settle()?;
    peer.send(vec![b'x'; MIB]);
    scene.event_loop.run_once(Duration::ZERO)?;
    stall.take(&scene, secs(11))?;
    Ok((scene, peer))
}

#[test]
fn the_time_of_an_absent_loop_is_not_that_of_a_peer_that_sends() -> Result {
    for deadlines in [
        Deadlines::default().input(secs(5)),
        Deadlines::default().record(secs(5)),
    ] {
        for stall in STALLS {
            for buffer in [SMALL_BUFFER, 16_384, 65_536] {
                let (scene, peer) = stalled_upload(deadlines, *stall, buffer)?;
                // The peer needs time to learn that the buffer has room.
                scene.advance(4)?;
                peer.send("\r\n");
                scene.settle()?;
                let case = format!("{stall:?}, a buffer of {buffer}, {deadlines:?}");
                assert_eq!(scene.log.lines(), ["complete"], "{case}");
                assert_eq!(peer.unsent(), 0, "{case}");
            }
        }
    }
    Ok(())
}

/// What it has sent before the absence is its own time.
#[test]
fn a_peer_has_the_rest_of_its_time_after_an_absence_of_the_loop() -> Result {
    for deadlines in [
        Deadlines::default().input(secs(5)),
        Deadlines::default().record(secs(5)),
    ] {
        let (scene, chat, peer) = upload(deadlines, Limits::default(), None)?;
        peer.send("x");
        scene.advance(3)?;
        peer.send([b'x'; 2000]);
        Stall::Host.take(&scene, secs(100))?;
        scene.settle()?;
        scene.advance(1)?;
        assert!(chat.is_open(), "{:?}", scene.log.lines());
        scene.advance(1)?;
        assert!(!chat.is_open());
    }
    Ok(())
}

/// Its buffer had room all the time.
#[test]
fn an_absence_of_the_loop_does_not_excuse_a_peer_that_has_hardly_sent_anything() -> Result {
    for stall in STALLS {
        for sent in [0, 1, 1000] {
            let (scene, _, peer) =
                upload(Deadlines::default().input(secs(5)), Limits::default(), None)?;
            peer.send("xxx");
            scene.settle()?;
            peer.send(vec![b'x'; sent]);
            stall.take(&scene, secs(11))?;
            // A millisecond: the deadline may be checked once more.
            let soon = Duration::from_millis(1);
            scene.network.advance(&scene.event_loop, soon)?;
            let case = format!("{stall:?}, {sent} bytes");
            assert_eq!(scene.log.lines(), ["Timeout(Input)"], "{case}");
        }
    }
    Ok(())
}

/// A host that runs its loop once a second polls once a second.
#[test]
fn a_host_that_polls_seldom_does_not_reset_a_deadline() -> Result {
    for deadlines in [
        Deadlines::default().input(secs(10)),
        Deadlines::default().record(secs(10)),
    ] {
        let (scene, chat, peer) = upload(deadlines, Limits::default(), None)?;
        for _ in 0..12 {
            peer.send([b'x'; 100]);
            scene.network.spend(secs(1));
            scene.event_loop.run_once(Duration::ZERO)?;
        }
        assert!(!chat.is_open(), "{deadlines:?}");
    }
    Ok(())
}

/// An outer loop that polls for this one, and is never late, has not been absent.
#[cfg(all(unix, not(target_os = "illumos")))]
#[test]
fn an_outer_loop_that_sleeps_is_not_absent() -> Result {
    let (scene, chat, peer) = upload(
        Deadlines::default().record(secs(10)),
        Limits::default(),
        None,
    )?;
    let _ = std::os::fd::AsFd::as_fd(&scene.event_loop);
    for _ in 0..10 {
        peer.send([b'x'; 5000]);
        scene.event_loop.run_once(Duration::ZERO)?;
        scene.network.spend(secs(1));
    }
    scene.event_loop.run_once(Duration::ZERO)?;
    assert_eq!(scene.log.lines(), ["Timeout(Record)"]);
    assert!(!chat.is_open());
    Ok(())
}

/// The kernel's buffer was empty most of the time.
#[test]
fn the_time_of_an_absent_loop_is_not_that_of_a_peer_that_reads() -> Result {
    for stall in STALLS {
        for buffer in [SMALL_BUFFER, 16_384, 65_536] {
            let (scene, chat, peer) =
                upload(Deadlines::default().drain(secs(5)), Limits::default(), None)?;
            scene
                .network
                .set_conditions(Conditions::default().buffer(buffer));
            peer.stop_reading();
            chat.push(vec![b'x'; MIB]);
            scene.settle()?;
            peer.start_reading(3 * buffer);
            stall.take(&scene, secs(11))?;
            scene.advance(1)?;
            let case = format!("{stall:?}, a buffer of {buffer}");
            assert!(chat.is_open(), "{case}: {:?}", scene.log.lines());
            peer.start_reading(usize::MAX);
            scene.settle()?;
            assert_eq!(chat.queued(), 0, "{case}");
        }
    }
    Ok(())
}

// ---- what the kernel has not reported

/// A wait reports a limited number of channels. What the others have received is looked for before a deadline
/// ends them.
#[test]
fn input_that_the_kernel_has_not_reported_counts() -> Result {
    for deadlines in [
        Deadlines::default().idle(secs(10)),
        Deadlines::default().input(secs(10)),
        Deadlines::default().record(secs(10)),
    ] {
        let (scene, chat, peer) = upload(deadlines, Limits::default(), None)?;
        peer.send("half a rec");
        scene.advance(9)?;
        // The deadline is due now.
        scene.network.spend(secs(1));
        peer.send("ord\r\n");
        scene
            .network
            .set_conditions(Conditions::default().late_events(1.0));
        scene.event_loop.run_once(Duration::ZERO)?;
        assert!(chat.is_open(), "{deadlines:?}: {:?}", scene.log.lines());
        scene.network.set_conditions(Conditions::default());
        scene.settle()?;
        assert_eq!(scene.log.lines(), ["complete"], "{deadlines:?}");
    }
    Ok(())
}

/// Reads a byte in each turn.
struct Nibbler(Channel, Log);

impl Dispatcher for Nibbler {
    fn channel(&self) -> &Channel {
        &self.0
    }
    fn handle_read(&mut self) -> Result {
        let mut byte = [0];
        match self.0.recv(&mut byte) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.1.add("nothing"),
            outcome => self.1.add(format!("{}", outcome?)),
        }
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.1.add(format!("{why:?}"));
    }
}

#[test]
fn a_dispatcher_is_asked_to_read_what_the_kernel_has_not_reported() -> Result {
    let scene = Scene::new()?;
    let (socket, peer) = scene.network.pair();
    let channel = Channel::adopt(socket)?;
    channel.set_deadlines(Deadlines::default().idle(secs(10)));
    scene
        .event_loop
        .register(Nibbler(channel, scene.log.clone()))?;
    scene.advance(9)?;
    scene
        .network
        .set_conditions(Conditions::default().late_events(1.0));
    scene.network.spend(secs(1));
    peer.send("x");
    scene.event_loop.run_once(Duration::ZERO)?;
    assert_eq!(scene.log.lines(), ["1"]);
    // It is not called when there is nothing to read.
    scene.advance(10)?;
    assert_eq!(scene.log.lines(), ["1", "Timeout(Idle)"]);
    Ok(())
}

/// A real kernel with a small buffer. The peer is a thread that writes 2 MiB as fast as it can, while this thread
/// does not run its loop for longer than the deadline.
#[test]
fn an_absent_loop_does_not_time_out_an_upload() -> Result {
    let (event_loop, log, slot) = (common::new_loop(), Log::default(), Slot::default());
    let near = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    near.bind(&any.into())?;
    // Accepted sockets inherit it.
    near.set_recv_buffer_size(8192)?;
    near.listen(1)?;
    let mut far =
        std::net::TcpStream::connect(near.local_addr()?.as_socket().ok_or("no address")?)?;
    let of_session = log.clone();
    let listener = Server::adopt(TcpListener::from(near))
        .deadlines(Deadlines::default().input(secs(1)))
        .listen_on(
            &event_loop,
            slot.capture(move |chat| Upload {
                chat,
                log: of_session.clone(),
                pause: None,
            }),
        )?;
    far.write_all(b"x")?;
    common::run_until(&event_loop, || {
        slot.is_filled() && slot.chat().stats().bytes_in == 1
    });
    listener.close();
    let writer = thread::spawn(move || {
        far.write_all(&vec![b'x'; 2 * MIB])?;
        far.write_all(b"\r\n").map(|()| far)
    });
    // The loop is absent for longer than the deadline: this is the event, and nothing is waited for.
    thread::sleep(Duration::from_millis(1100));
    common::run_until(&event_loop, || !log.lines().is_empty());
    assert_eq!(log.lines(), ["complete"]);
    drop(writer.join());
    Ok(())
}

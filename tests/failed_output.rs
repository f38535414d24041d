//! A connection whose output has failed: its input is delivered first, and then it ends.

mod common;
#[path = "common/scene.rs"]
mod scene;

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

#[cfg(unix)]
use asynchat::EventLoop;
use asynchat::sim::{Ended, Peer};
use asynchat::{Channel, Chat, Connector, Deadlines, Dispatcher, More, Producer, Result, TimerId};
use common::{Log, Session, Slot};
use scene::Scene;

/// A job that answers later, if ever.
struct Job;

impl Producer for Job {
    fn more(&mut self, _: usize) -> io::Result<More> {
        Ok(More::Pending)
    }
}

/// The pattern of the guide: the session pauses and replies, and a hook resumes. The reply fails,
/// and the hook is dropped with it.
#[test]
fn a_paused_session_whose_reply_cannot_be_sent_ends() -> Result {
    let scene = Scene::new()?;
    let (_, peer) = scene.connection(scene.log.session_with(|chat, _| {
        chat.pause_reading();
        let resume = chat.clone();
        chat.push("a reply\r\n");
        chat.push_hook(move || resume.resume_reading());
        Ok(())
    }))?;
    peer.send("one\r\ntwo\r\nthree\r\n");
    peer.shutdown_read();
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["connect", "record one", "close Reset"]);
    assert!(scene.is_empty());
    Ok(())
}

#[test]
fn a_session_that_pauses_after_its_output_has_failed_ends() -> Result {
    let scene = Scene::new()?;
    let (chat, peer) = scene.connection(scene.log.session())?;
    peer.shutdown_read();
    chat.push("x");
    peer.send("one\r\n");
    scene.event_loop.run_once(Duration::ZERO)?;
    chat.pause_reading();
    scene.settle()?;
    assert_eq!(scene.log.lines().last().unwrap(), "close Reset");
    Ok(())
}

/// Before the fix, 65 jobs were started while the client was connected, and 63,413 after it had reset.
#[test]
fn a_reset_does_not_lift_back_pressure() -> Result {
    let jobs = |end: fn(&Peer)| -> Result<usize> {
        let scene = Scene::new()?;
        let started = Rc::new(Cell::new(0));
        let count = Rc::clone(&started);
        let (chat, peer) = scene.connection(scene.log.session_with(move |chat, _| {
            count.set(count.get() + 1);
            chat.push_with_producer(Job);
            Ok(())
        }))?;
        peer.stop_reading();
        // Output that fails, queued before the jobs.
        chat.push(vec![b'x'; 60_000]);
        peer.send("job\r\n".repeat(20_000));
        scene.settle()?;
        end(&peer);
        scene.advance(60)?;
        Ok(started.get())
    };
    let connected = jobs(|_| ())?;
    assert!((60..70).contains(&connected), "{connected}");
    let reset = jobs(Peer::reset)?;
    assert!(reset <= connected, "{reset} after {connected}");
    Ok(())
}

/// Only its sends show that the peer does not read any more.
#[test]
fn a_peer_that_accepts_no_output_is_abandoned_after_the_linger_time() -> Result {
    let scene = Scene::new()?;
    let (chat, peer) = scene.connection(scene.log.session_with(|chat, _| {
        chat.push("x");
        Ok(())
    }))?;
    chat.set_deadlines(Deadlines::default().linger(Duration::from_secs(5)));
    peer.shutdown_read();
    for _ in 0..4 {
        peer.send("still here\r\n");
        scene.advance(4)?;
    }
    assert_eq!(scene.log.count("record"), 4, "its input is delivered");
    assert!(!scene.log.has("close"));
    scene.advance(11)?;
    assert_eq!(scene.log.lines().last().unwrap(), "close Reset");
    assert!(scene.is_empty());
    Ok(())
}

#[test]
fn output_for_a_peer_that_accepts_none_is_bounded() -> Result {
    let scene = Scene::new()?;
    let (_, peer) = scene.connection(scene.log.session_with(|chat, _| {
        chat.push(vec![b'x'; 1000]);
        Ok(())
    }))?;
    peer.shutdown_read();
    peer.send("one more\r\n".repeat(1000));
    scene.settle()?;
    let records = scene.log.count("record");
    assert!((60..70).contains(&records), "{records}");
    assert_eq!(scene.log.lines().last().unwrap(), "close Reset");
    Ok(())
}

/// Discarding output that cannot be delivered does not make room for more.
#[test]
fn discarding_output_does_not_keep_a_failed_connection_open() -> Result {
    let scene = Scene::new()?;
    let (chat, peer) = scene.connection(scene.log.session_with(|chat, _| {
        chat.push(vec![b'x'; 1000]);
        chat.discard_buffers();
        Ok(())
    }))?;
    peer.shutdown_read();
    chat.push("nobody hears this");
    scene.settle()?;
    let mut sent = 0;
    while !scene.log.has("close") && sent < 1000 {
        peer.send("one more\r\n");
        scene.settle()?;
        sent += 1;
    }
    assert!(
        sent < 1000 && scene.log.has("close Reset"),
        "{sent} records"
    );
    Ok(())
}

/// Everything at the far end of a pipe comes from the near end, so a reset must pass through: the
/// stream is incomplete.
#[test]
fn a_reset_passes_through_a_back_pressured_pipe() -> Result {
    let scene = Scene::new()?;
    let (near, source) = scene.connection(scene.log.session())?;
    let (far, sink) = scene.connection(scene.log.session())?;
    asynchat::pipe(&near, &far)?;
    sink.stop_reading();
    source.send(vec![b'x'; 1 << 20]);
    scene.settle()?;
    source.reset();
    scene.settle()?;
    sink.start_reading(usize::MAX);
    scene.advance(60)?;
    assert_eq!(sink.ended(), Some(Ended::Reset), "{:?}", scene.log.lines());
    assert!(scene.is_empty());
    Ok(())
}

/// Data for a connection that is closing is not read from the source.
#[test]
fn the_source_of_a_failed_pipe_end_is_not_read() -> Result {
    struct Fails(Log);
    impl asynchat::AsyncChat for Fails {
        fn found_terminator(&mut self, _: &[u8]) -> Result {
            Ok(())
        }
        fn handle_timer(&mut self, _: TimerId) -> Result {
            Err("it was to fail".into())
        }
        fn handle_close(&mut self, why: &asynchat::Close) {
            self.0.add(common::name(why));
        }
    }
    let scene = Scene::new()?;
    let (near, source) = scene.connection(scene.log.session())?;
    let (socket, sink) = scene.network.pair();
    let log = scene.log.clone();
    let far = Connector::adopt(socket).connect_on(&scene.event_loop, |_| Fails(log))?;
    asynchat::pipe(&near, &far)?;
    sink.stop_reading();
    far.push(vec![b'y'; 300_000]);
    scene.settle()?;
    far.call_later(Duration::ZERO);
    scene.advance(1)?;
    for _ in 0..100 {
        source.send(vec![b'x'; 100_000]);
        sink.start_reading(1);
        scene
            .network
            .advance(&scene.event_loop, Duration::from_millis(100))?;
    }
    let read = near.stats().bytes_in;
    assert!(read < 200_000, "{read} bytes were read and dropped");
    Ok(())
}

/// `yes | netcat HOST PORT | head -1`: the end whose output has failed still receives.
#[test]
fn a_pipe_end_whose_output_has_failed_ends_while_its_input_continues() -> Result {
    let scene = Scene::new()?;
    let (near, server) = scene.connection(scene.log.session())?;
    let (far, terminal) = scene.connection(scene.log.session())?;
    asynchat::pipe(&near, &far)?;
    terminal.shutdown_read();
    server.send("what nobody reads");
    let mut sent = 0;
    while !scene.log.has("close") && sent < 1000 {
        terminal.send(vec![b'y'; 100_000]);
        scene
            .network
            .advance(&scene.event_loop, Duration::from_millis(10))?;
        sent += 1;
    }
    assert!(sent < 200, "{sent} times 100,000 bytes");
    scene.advance(10)?;
    assert_eq!(scene.log.count("close"), 2, "{:?}", scene.log.lines());
    Ok(())
}

/// A dispatcher that echoes all input and returns the error of a failed send.
struct Echo {
    channel: Channel,
    log: Log,
}

impl Dispatcher for Echo {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn handle_read(&mut self) -> Result {
        let mut buffer = [0; 1000];
        let count = self.channel.recv(&mut buffer)?;
        self.channel.send(&buffer[..count])?;
        Ok(())
    }
    fn handle_close(&mut self, why: &asynchat::Close) {
        self.log.add(common::name(why));
    }
}

#[test]
fn a_dispatcher_that_continues_to_send_after_a_failure_ends() -> Result {
    let scene = Scene::new()?;
    let (socket, peer) = scene.network.pair();
    let channel = Channel::adopt(socket)?;
    let log = scene.log.clone();
    scene.event_loop.register(Echo { channel, log })?;
    peer.shutdown_read();
    let mut sent = 0;
    while !scene.log.has("Reset") && sent < 1000 {
        peer.send(vec![b'x'; 1000]);
        scene.settle()?;
        sent += 1;
    }
    assert!((60..70).contains(&sent), "{sent}");
    assert!(scene.is_empty());
    Ok(())
}

/// A dispatcher that ignores a failed send, and fails later for another reason.
struct Ignores {
    channel: Channel,
    log: Log,
}

impl Dispatcher for Ignores {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn handle_timer(&mut self, _: TimerId) -> Result {
        assert!(self.channel.send(b"x").is_err());
        self.log.add("timer");
        Ok(())
    }
    fn handle_read(&mut self) -> Result {
        self.channel.recv(&mut [0; 100])?;
        Err(io::Error::new(io::ErrorKind::BrokenPipe, "of another pipe").into())
    }
    fn handle_close(&mut self, why: &asynchat::Close) {
        self.log.add(common::name(why));
    }
}

#[test]
fn a_failed_send_is_not_the_reason_for_a_later_error() -> Result {
    let scene = Scene::new()?;
    let (socket, peer) = scene.network.pair();
    let channel = Channel::adopt(socket)?;
    scene.event_loop.register(Ignores {
        channel: channel.clone(),
        log: scene.log.clone(),
    })?;
    scene.settle()?;
    channel.call_later(Duration::from_secs(1));
    peer.shutdown_read();
    scene.advance(2)?;
    peer.send("input");
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["timer", "Handler"]);
    Ok(())
}

/// A dispatcher that returns the error of a send in a timer.
struct ReturnsError {
    channel: Channel,
    log: Log,
}

impl Dispatcher for ReturnsError {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn handle_timer(&mut self, _: TimerId) -> Result {
        self.channel.send(b"x")?;
        Ok(())
    }
    fn handle_read(&mut self) -> Result {
        self.channel.recv(&mut [0; 100])?;
        Ok(())
    }
    fn handle_close(&mut self, why: &asynchat::Close) {
        self.log.add(common::name(why));
    }
}

#[test]
fn a_failed_send_in_any_callback_ends_the_connection() -> Result {
    let scene = Scene::new()?;
    let (socket, peer) = scene.network.pair();
    let channel = Channel::adopt(socket)?;
    scene.event_loop.register(ReturnsError {
        channel: channel.clone(),
        log: scene.log.clone(),
    })?;
    scene.settle()?;
    channel.call_later(Duration::from_secs(1));
    peer.shutdown_read();
    scene.advance(10)?;
    assert_eq!(scene.log.lines(), ["Reset"]);
    Ok(())
}

#[test]
fn a_paused_connection_notices_a_reset() -> Result {
    let scene = Scene::new()?;
    let (chat, peer) = scene.connection(scene.log.session())?;
    chat.pause_reading();
    scene.settle()?;
    peer.reset();
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["connect", "close Reset"]);
    Ok(())
}

/// What a session that has finished sending receives if its peer finishes as well, while it is paused.
fn finished_while_paused(session: impl Fn(Chat) -> Session + 'static, scene: &Scene) -> Result {
    let (chat, peer) = scene.connection(session)?;
    peer.send("one\r\nhalf");
    scene.settle()?;
    chat.pause_reading();
    chat.push("a reply");
    chat.shutdown_write();
    scene.settle()?;
    peer.finish();
    scene.settle()?;
    let events = scene.event_loop.stats().events;
    scene.advance(3600)?;
    assert_eq!(scene.log.lines(), ["connect", "record one"]);
    assert_eq!(scene.event_loop.stats().events, events, "it spins");
    assert_eq!(peer.received(), b"a reply");
    chat.resume_reading();
    scene.settle()
}

#[test]
fn a_paused_session_receives_the_end_of_its_input_when_it_resumes() -> Result {
    let scene = Scene::new()?;
    finished_while_paused(scene.log.session(), &scene)?;
    let lines = ["connect", "record one", "eof half", "close Eof"];
    assert_eq!(scene.log.lines(), lines);
    assert!(scene.is_empty());
    Ok(())
}

/// It has nothing left to stay open for.
#[test]
fn a_session_that_stays_open_ends_when_both_sides_have_finished() -> Result {
    let scene = Scene::new()?;
    let session = scene.log.session();
    finished_while_paused(move |chat| session(chat).staying_open(), &scene)?;
    let lines = ["connect", "record one", "eof half", "close Eof"];
    assert_eq!(scene.log.lines(), lines);
    assert!(scene.is_empty());
    Ok(())
}

#[test]
fn what_a_paused_session_sends_after_both_sides_have_finished_is_dropped() -> Result {
    let scene = Scene::new()?;
    let (chat, peer) = scene.connection(scene.log.session())?;
    chat.pause_reading();
    chat.shutdown_write();
    peer.finish();
    scene.settle()?;
    assert!(chat.is_open());
    chat.push("nobody hears this");
    scene.settle()?;
    assert_eq!((chat.is_open(), chat.queued()), (true, 0));
    chat.resume_reading();
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["connect", "eof ", "close Eof"]);
    assert!(scene.is_empty());
    Ok(())
}

/// The hang-up is reported before the close that is queued is reached.
#[test]
fn a_close_that_is_queued_when_both_sides_have_finished_is_no_reset() -> Result {
    let scene = Scene::new()?;
    let slot = Slot::default();
    let (first, second) = scene.network.pair();
    let closing = slot.clone();
    // The loop sees its event before that of the connection that it closes.
    Connector::adopt(first).connect_on(&scene.event_loop, move |_| {
        move |_: &[u8]| {
            closing.chat().close_when_done();
            Ok(())
        }
    })?;
    let (chat, peer) = scene.connection(slot.capture(scene.log.session()))?;
    chat.pause_reading();
    chat.shutdown_write();
    scene.settle()?;
    second.send("close the other one\r\n");
    peer.finish();
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["connect", "close Local"]);
    Ok(())
}

/// As a Unix-domain peer that closes. A paused session without input ends with it.
#[test]
fn a_paused_session_whose_peer_is_gone_keeps_its_partial_record() -> Result {
    for (sent, lines) in [
        ("", ["connect", "close Eof"].as_slice()),
        ("half", ["connect"].as_slice()),
    ] {
        let scene = Scene::new()?;
        let (chat, peer) = scene.connection(scene.log.session())?;
        peer.send(sent);
        scene.settle()?;
        chat.pause_reading();
        scene.settle()?;
        peer.shutdown_read();
        peer.finish();
        scene.settle()?;
        assert_eq!(scene.log.lines(), lines);
        chat.resume_reading();
        scene.settle()?;
        assert_eq!(scene.log.has("eof half"), sent == "half");
        assert!(scene.is_empty());
    }
    Ok(())
}

/// Logs what it receives, and pauses itself before anything else.
struct PausedReader {
    channel: Channel,
    log: Log,
}

impl Dispatcher for PausedReader {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn handle_read(&mut self) -> Result {
        let count = self.channel.recv(&mut [0; 100])?;
        self.log.add(format!("read {count}"));
        Ok(())
    }
    fn handle_close(&mut self, why: &asynchat::Close) {
        self.log.add(common::name(why));
    }
}

#[test]
fn a_paused_dispatcher_receives_the_end_of_its_input_when_it_resumes() -> Result {
    let scene = Scene::new()?;
    let (socket, peer) = scene.network.pair();
    let channel = Channel::adopt(socket)?;
    channel.pause_reading();
    scene.event_loop.register(PausedReader {
        channel: channel.clone(),
        log: scene.log.clone(),
    })?;
    scene.settle()?;
    channel.shutdown_write()?;
    peer.finish();
    scene.settle()?;
    assert_eq!(scene.log.lines(), [""; 0]);
    channel.resume_reading();
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["read 0", "Eof"]);
    Ok(())
}

#[test]
fn a_reset_ends_a_paused_connection_with_unread_input() -> Result {
    for in_kernel in [true, false] {
        let scene = Scene::new()?;
        let (chat, peer) = scene.connection(scene.log.session_with(|chat, record| {
            if record == b"pause" {
                chat.pause_reading();
            }
            Ok(())
        }))?;
        if in_kernel {
            peer.send("pause\r\n");
            scene.settle()?;
            peer.send("one\r\ntwo\r\n");
        } else {
            peer.send("pause\r\none\r\ntwo\r\n");
        }
        scene.settle()?;
        peer.reset();
        scene.settle()?;
        let lines = ["connect", "record pause", "close Reset"];
        assert_eq!(scene.log.lines(), lines);
        assert!(!chat.is_open() && scene.is_empty());
    }
    Ok(())
}

#[cfg(unix)]
mod on_descriptors {
    use std::io::Write;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};

    use asynchat::{Socket, pipe};
    use common::{new_loop, run_until};

    use super::*;

    /// A socket whose input and output are two descriptors, and the other ends of both.
    fn halves() -> (Socket, io::PipeWriter, io::PipeReader) {
        let (input, their_output) = io::pipe().unwrap();
        let (their_input, output) = io::pipe().unwrap();
        let socket = Socket::halves(OwnedFd::from(input), OwnedFd::from(output));
        (socket, their_output, their_input)
    }

    fn adopted(event_loop: &EventLoop, log: &Log, socket: impl Into<Socket>) -> Chat {
        Connector::adopt(socket)
            .connect_on(event_loop, log.session())
            .unwrap()
    }

    /// No process reads from the pipe any more, and its source never ends.
    #[test]
    fn a_pipe_end_that_loses_its_output_ends_with_its_source() {
        let (event_loop, log) = (new_loop(), Log::default());
        let (socket, _their_output, their_input) = halves();
        let far = adopted(&event_loop, &log, socket);
        let (near, mut source) = UnixStream::pair().unwrap();
        let near = adopted(&event_loop, &log, near);
        pipe(&near, &far).unwrap();
        drop(their_input);
        source.set_nonblocking(true).unwrap();
        let mut ended = false;
        run_until(&event_loop, || {
            ended = ended
                || matches!(source.write(b"y\n"), Err(error) if error.kind() == io::ErrorKind::BrokenPipe);
            ended && log.count("close") == 2
        });
        assert!(
            log.has("close Reset") && log.has("close Piped"),
            "{:?}",
            log.lines()
        );
    }

    #[test]
    fn the_output_of_a_process_that_reads_no_input_passes_through() {
        let (event_loop, log) = (new_loop(), Log::default());
        let mut child = Command::new("sh")
            .args(["-c", "exec 0<&-; printf 'all that it says'"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (output, input) = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
        assert!(child.wait().unwrap().success());
        let socket = Socket::halves(OwnedFd::from(output), OwnedFd::from(input));
        let far = adopted(&event_loop, &log, socket);
        let (near, mut client) = UnixStream::pair().unwrap();
        let near = adopted(&event_loop, &log, near);
        client.write_all(b"what it does not take").unwrap();
        pipe(&near, &far).unwrap();
        run_until(&event_loop, || log.count("close") == 2);
        let mut output = Vec::new();
        let read = io::Read::read_to_end(&mut client, &mut output);
        assert_eq!(output, b"all that it says", "{read:?}");
    }

    /// The peer shuts down its reading side and stays connected.
    #[test]
    fn a_unix_socket_whose_peer_shuts_down_reading_ends() {
        let (event_loop, log) = (new_loop(), Log::default());
        let (near, far) = UnixStream::pair().unwrap();
        let chat = adopted(&event_loop, &log, near);
        chat.set_deadlines(Deadlines::default().linger(Duration::from_millis(50)));
        run_until(&event_loop, || log.has("connect"));
        far.shutdown(std::net::Shutdown::Read).unwrap();
        chat.push("nobody hears this");
        run_until(&event_loop, || log.has("close Reset"));
        assert!(event_loop.is_empty());
    }

    /// Neither peer has left unread input.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn a_paused_connection_ends_when_its_peer_closes() {
        let (event_loop, log) = (new_loop(), Log::default());
        let (chat, peer) = common::served(&event_loop, log.session());
        chat.pause_reading();
        common::idle(&event_loop);
        peer.reset();
        run_until(&event_loop, || log.has("close Reset"));

        let (near, far) = UnixStream::pair().unwrap();
        let chat = adopted(&event_loop, &log, near);
        chat.pause_reading();
        common::idle(&event_loop);
        drop(far);
        run_until(&event_loop, || log.has("close Eof"));

        // A peer that has only finished sending may still read.
        let (chat, mut peer) = common::served(&event_loop, log.session());
        chat.pause_reading();
        common::idle(&event_loop);
        peer.finish();
        common::idle(&event_loop);
        assert!(chat.is_open());
        chat.push("a late reply");
        chat.resume_reading();
        assert_eq!(peer.receive_all(&event_loop), b"a late reply");
    }
}

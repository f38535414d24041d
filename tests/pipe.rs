//! Two piped connections: no data is lost, the queue between them is bounded, and the end of one
//! passes to the other.

mod common;

use std::io::{self, Read};
use std::rc::Rc;
use std::time::Duration;

use asynchat::sim::{Call, Conditions, Ended, Listener, Network, Peer, every_segmentation};
use asynchat::{
    AsyncChat, Chat, Close, Connector, Deadlines, Eof, EventLoop, Limits, Result, Socket,
};
use common::{Log, Slot, addr_of, name, new_loop, run_to_end, run_until, served};

const NEAR: &str = "10.0.0.1:1";
const FAR: &str = "10.0.0.2:2";

/// One end of a pipe, which logs its callbacks.
struct End {
    chat: Chat,
    name: &'static str,
    log: Log,
}

impl AsyncChat for End {
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        let record = String::from_utf8_lossy(record).into_owned();
        self.log.add(format!("{} record {record}", self.name));
        match &*record {
            "CONNECT" => {
                let (log, name) = (self.log.clone(), "far");
                let far = asynchat::connect(FAR, |chat| End { chat, name, log })?;
                Ok(asynchat::pipe(&self.chat, &far)?)
            }
            _ => Ok(()),
        }
    }

    fn handle_piped(&mut self, chunk: &[u8]) -> Result {
        match chunk {
            b"fail" => Err(common::failure()),
            b"last words" => {
                self.chat.push("and good-bye");
                self.chat.close_when_done();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn handle_eof(&mut self, partial: &[u8]) -> Result<Eof> {
        let partial = String::from_utf8_lossy(partial);
        self.log.add(format!("{} eof {partial}", self.name));
        Ok(Eof::CloseWhenDone)
    }

    fn handle_close(&mut self, why: &Close) {
        let why = match why {
            Close::Piped(of_other) => format!("Piped {}", name(of_other)),
            why => name(why),
        };
        self.log.add(format!("{} close {why}", self.name));
    }
}

/// A forwarder, its client, and the server that it connects to.
struct Scene {
    network: Network,
    event_loop: EventLoop,
    server: Listener,
    log: Log,
    near: Slot,
    far: Slot,
}

impl Scene {
    fn new(seed: u64) -> Result<Self> {
        let network = Network::new(seed);
        let scene = Scene {
            event_loop: network.event_loop()?,
            server: network.listen(FAR)?,
            network,
            log: Log::default(),
            near: Slot::default(),
            far: Slot::default(),
        };
        Ok(scene)
    }

    fn settle(&self) -> Result {
        Ok(self.network.settle(&self.event_loop)?)
    }

    /// Pipes each connection to a new one.
    fn forward(&self) -> Result {
        let (log, near, far) = (self.log.clone(), self.near.clone(), self.far.clone());
        let end = |name, log: &Log| {
            let log = log.clone();
            move |chat| End {
                chat,
                name,
                log: log.clone(),
            }
        };
        self.event_loop.listen(NEAR, move |chat| {
            let to = asynchat::connect(FAR, far.capture(end("far", &log))).expect("an address");
            asynchat::pipe(&chat, &to).expect("both are new");
            near.capture(end("near", &log))(chat)
        })?;
        Ok(())
    }

    /// A client, and the server side of its piped connection.
    fn connect(&self) -> Result<(Peer, Peer)> {
        let client = self.network.connect(NEAR)?;
        self.settle()?;
        let server = self.server.accept().ok_or("it was not connected to")?;
        Ok((client, server))
    }

    fn forwarded(seed: u64) -> Result<(Self, Peer, Peer)> {
        let scene = Scene::new(seed)?;
        scene.forward()?;
        let (client, server) = scene.connect()?;
        Ok((scene, client, server))
    }

    /// The reason that each end got, sorted by the name of the end.
    fn closes(&self) -> [String; 2] {
        let lines = self.log.lines().into_iter();
        let mut closes: Vec<_> = lines.filter(|line| line.contains(" close ")).collect();
        closes.sort();
        closes.try_into().expect("each end is closed once")
    }
}

fn bytes(random: &mut fastrand::Rng, most: usize) -> Vec<u8> {
    let count = random.usize(..most);
    (0..count).map(|_| random.u8(..)).collect()
}

// ---- the bytes

#[test]
fn handle_piped_gets_the_data_and_the_end_of_the_stream() -> Result {
    /// Logs the chunks that pass.
    struct LogsChunks(&'static str, Log);
    impl AsyncChat for LogsChunks {
        fn found_terminator(&mut self, _: &[u8]) -> Result {
            Ok(())
        }
        fn handle_piped(&mut self, chunk: &[u8]) -> Result {
            self.1.add(format!("{} {}", self.0, chunk.escape_ascii()));
            Ok(())
        }
    }
    let (scene, log) = (Scene::new(1)?, Log::default());
    let chunk_log = log.clone();
    scene.event_loop.listen(NEAR, move |chat| {
        let far = LogsChunks("far", chunk_log.clone());
        let to = asynchat::connect(FAR, |_| far).expect("an address");
        asynchat::pipe(&chat, &to).expect("both are new");
        LogsChunks("near", chunk_log.clone())
    })?;
    let (client, server) = scene.connect()?;
    server.send("the last");
    scene.settle()?;
    server.finish();
    scene.settle()?;
    assert_eq!(client.ended(), Some(Ended::Finished));
    assert_eq!(log.lines(), ["far the last", "far "]);
    client.finish();
    scene.settle()?;
    assert_eq!(log.lines(), ["far the last", "far ", "near "]);
    Ok(())
}

#[test]
fn every_byte_passes_in_order_under_all_network_conditions() -> Result {
    for seed in 0..50 {
        let scene = Scene::new(seed)?;
        let mut random = fastrand::Rng::with_seed(seed);
        scene.network.set_conditions(
            Conditions::default()
                .short_reads(random.f64() * 0.8)
                .short_writes(random.f64() * 0.8)
                .would_block(random.f64() * 0.5)
                .late_events(random.f64() * 0.5)
                .shuffled(random.bool())
                .one_shot(random.bool())
                .buffer(random.usize(1_000..20_000)),
        );
        let limits = Limits::default()
            .low_water(2_000)
            .high_water(8_000)
            .turn_read(5_000)
            .turn_write(5_000)
            .turn_records(100);
        scene.event_loop.set_limits(limits);
        scene.forward()?;
        let (client, server) = scene.connect()?;
        let (up, down) = (bytes(&mut random, 60_000), bytes(&mut random, 60_000));
        let mut ways = [(&client, &up[..], false), (&server, &down[..], false)];
        while ways.iter().any(|way| !way.2) {
            let (from, rest, finished) = &mut ways[random.usize(..2)];
            let (piece, left) = rest.split_at(random.usize(..=rest.len().min(20_000)));
            from.send(piece);
            *rest = left;
            if rest.is_empty() && !*finished {
                from.finish();
                *finished = true;
            }
            if random.bool() {
                let reader = if random.bool() { &client } else { &server };
                reader.start_reading(random.usize(..10_000));
            }
            for _ in 0..random.usize(..5) {
                scene.event_loop.run_once(Duration::ZERO)?;
            }
        }
        for reader in [&client, &server] {
            reader.start_reading(usize::MAX);
        }
        scene.settle()?;
        assert!(server.received() == up, "seed {seed}");
        assert!(client.received() == down, "seed {seed}");
        for peer in [&client, &server] {
            assert_eq!(peer.ended(), Some(Ended::Finished), "seed {seed}");
        }
        assert_eq!(
            scene.closes(),
            ["far close Eof", "near close Eof"],
            "seed {seed}"
        );
        assert_eq!(scene.network.sockets(), 1, "seed {seed}: the listener");
    }
    Ok(())
}

/// Bytes for an empty queue are sent from the buffer that they were received into. Only what the kernel does not take is
/// copied into the queue, for which the connection needs a turn of its own.
#[test]
fn bytes_for_an_empty_queue_are_sent_at_once() -> Result {
    let (scene, client, server) = Scene::forwarded(1)?;
    let far = scene.far.chat();
    let turns = far.stats().turns;
    for piece in ["one", "two", "three"] {
        client.send(piece);
        scene.settle()?;
    }
    assert_eq!(server.received(), b"onetwothree");
    assert_eq!((far.stats().turns, far.stats().bytes_out), (turns, 11));
    // The kernel takes a part.
    scene
        .network
        .set_conditions(Conditions::default().buffer(100));
    server.stop_reading();
    let more = [b'x'; 90]
        .iter()
        .chain(&[b'y'; 90])
        .copied()
        .collect::<Vec<_>>();
    client.send(&more[..100]);
    scene.settle()?;
    client.send(&more[100..]);
    scene.settle()?;
    assert_eq!((far.queued(), far.stats().bytes_out), (80, 111));
    server.start_reading(usize::MAX);
    scene.settle()?;
    assert_eq!(server.received()[11..], more);
    assert_eq!(far.queued(), 0);
    Ok(())
}

#[test]
fn input_received_with_the_handshake_passes_under_every_segmentation() -> Result {
    every_segmentation(b"CONNECT\r\nhel\r", |pieces| {
        let scene = Scene::new(1)?;
        let log = scene.log.clone();
        scene.event_loop.listen(NEAR, move |chat| {
            let (name, log) = ("near", log.clone());
            End { chat, name, log }
        })?;
        let client = scene.network.connect(NEAR)?;
        for piece in pieces {
            client.send(piece);
            scene.settle()?;
        }
        let server = scene.server.accept().ok_or("it was not connected to")?;
        server.send("CONNECT\r\n");
        scene.settle()?;
        assert_eq!(server.received(), b"hel\r", "{pieces:?}");
        assert_eq!(client.received(), b"CONNECT\r\n", "{pieces:?}");
        assert_eq!(scene.log.lines(), ["near record CONNECT"]);
        Ok(())
    })
}

#[test]
fn a_pipe_made_from_outside_takes_the_partial_record() -> Result {
    let scene = Scene::new(1)?;
    let (log, near) = (scene.log.clone(), scene.near.clone());
    scene.event_loop.listen(NEAR, move |chat| {
        let log = log.clone();
        near.capture(move |chat| End {
            chat,
            name: "near",
            log: log.clone(),
        })(chat)
    })?;
    let (client, other) = (scene.network.connect(NEAR)?, scene.network.connect(NEAR)?);
    client.send("a line\r\nand a part of\r");
    scene.settle()?;
    let far = scene.event_loop.connect(FAR, |_| |_: &[u8]| Ok(()))?;
    far.push("first ");
    asynchat::pipe(&scene.near.chat(), &far)?;
    scene.settle()?;
    client.send("\nanother");
    scene.settle()?;
    let server = scene.server.accept().ok_or("it was not connected to")?;
    assert_eq!(server.received(), b"first and a part of\r\nanother");
    assert_eq!(scene.log.lines(), ["near record a line"]);
    drop(other);
    Ok(())
}

#[test]
fn an_end_of_input_reported_before_the_pipe_passes_through() -> Result {
    /// Pipes the connection after the end of its input.
    struct Late(Chat);
    impl AsyncChat for Late {
        fn found_terminator(&mut self, _: &[u8]) -> Result {
            Ok(())
        }
        fn handle_eof(&mut self, partial: &[u8]) -> Result<Eof> {
            let far = asynchat::connect(FAR, |_| |_: &[u8]| Ok(()))?;
            far.push_slice(partial);
            asynchat::pipe(&self.0, &far)?;
            Ok(Eof::CloseWhenDone)
        }
    }
    let scene = Scene::new(1)?;
    scene.event_loop.listen(NEAR, Late)?;
    let client = scene.network.connect(NEAR)?;
    client.send("one\r\ntwo");
    client.finish();
    scene.settle()?;
    let server = scene.server.accept().ok_or("it was not connected to")?;
    assert_eq!(server.received(), b"two");
    assert_eq!(server.ended(), Some(Ended::Finished));
    server.send("an answer");
    server.finish();
    scene.settle()?;
    assert_eq!(client.received(), b"an answer");
    assert_eq!(client.ended(), Some(Ended::Finished));
    assert_eq!(scene.event_loop.stats().closes.eof, 2);
    Ok(())
}

// ---- back-pressure

#[test]
fn a_peer_that_does_not_read_stops_the_other_and_the_queue_is_bounded() -> Result {
    const MUCH: usize = 4 << 20;
    for way in [0, 1] {
        let (scene, client, server) = Scene::forwarded(1)?;
        let (writer, reader) = if way == 0 {
            (&client, &server)
        } else {
            (&server, &client)
        };
        let queue = if way == 0 {
            scene.far.chat()
        } else {
            scene.near.chat()
        };
        let sent: Vec<u8> = (0..MUCH).map(|n| (n % 251) as u8).collect();
        reader.stop_reading();
        writer.send(&sent);
        scene.settle()?;
        let limits = Limits::default();
        let most = limits.high_water + limits.turn_read;
        assert!(queue.queued() > limits.high_water, "{}", queue.queued());
        assert!(queue.queued() <= most, "{}", queue.queued());
        // The kernel buffers data for each of the two connections.
        let in_kernels = 2 * scene.network.conditions().buffer;
        assert!(MUCH - writer.unsent() <= most + in_kernels);

        // The other direction continues.
        reader.send("never mind");
        scene.settle()?;
        assert_eq!(writer.received(), b"never mind");

        while reader.received().len() < MUCH {
            let before = reader.received().len();
            reader.start_reading(1 << 20);
            scene.settle()?;
            assert!(reader.received().len() > before, "the transfer resumes");
            assert!(queue.queued() <= most, "{}", queue.queued());
        }
        assert!(reader.received() == sent);
    }
    Ok(())
}

#[test]
fn a_session_that_pauses_is_not_resumed_by_the_other_queue() -> Result {
    let (scene, client, server) = Scene::forwarded(1)?;
    server.stop_reading();
    client.send(vec![b'x'; 1 << 20]);
    scene.settle()?;
    scene.near.chat().pause_reading();
    server.start_reading(usize::MAX);
    scene.settle()?;
    let came = server.received().len();
    assert!(came < 1 << 20, "{came}");
    assert_eq!(scene.far.chat().queued(), 0);
    scene.near.chat().resume_reading();
    scene.settle()?;
    assert_eq!(server.received().len(), 1 << 20);
    Ok(())
}

// ---- the end

/// The two peers finish in good order while the session of one end is paused. The other end has not sent
/// everything by then.
#[test]
fn streams_that_end_while_an_end_is_paused_are_complete() -> Result {
    for (size, resumes_late) in [(50_000, false), (50_000, true), (1 << 20, false)] {
        let (scene, client, server) = Scene::forwarded(1)?;
        server.stop_reading();
        client.send(vec![b'x'; size]);
        server.send("an answer");
        scene.settle()?;
        scene.near.chat().pause_reading();
        server.finish();
        scene.settle()?;
        assert_eq!(client.ended(), Some(Ended::Finished));
        client.finish();
        scene.settle()?;
        if resumes_late {
            server.start_reading(usize::MAX);
            scene.settle()?;
        }
        scene.near.chat().resume_reading();
        scene.settle()?;
        server.start_reading(usize::MAX);
        scene.settle()?;
        assert_eq!(client.received(), b"an answer");
        assert_eq!(server.received().len(), size);
        assert_eq!(server.ended(), Some(Ended::Finished));
        assert_eq!(scene.closes(), ["far close Eof", "near close Eof"]);
    }
    Ok(())
}

/// As a Unix-domain client that sends, closes, and does not wait for the answer.
#[test]
fn the_stream_of_a_client_that_is_gone_is_complete_although_its_end_is_paused() -> Result {
    for has_answered in [false, true] {
        let (scene, client, server) = Scene::forwarded(1)?;
        server.stop_reading();
        client.send(vec![b'x'; 50_000]);
        scene.settle()?;
        scene.near.chat().pause_reading();
        if has_answered {
            client.stop_reading();
            server.send(vec![b'y'; 1 << 20]);
            scene.settle()?;
        }
        client.shutdown_read();
        client.finish();
        scene.settle()?;
        scene.near.chat().resume_reading();
        scene.settle()?;
        server.start_reading(usize::MAX);
        scene.settle()?;
        assert_eq!(server.received().len(), 50_000);
        assert_eq!(server.ended(), Some(Ended::Finished));
    }
    Ok(())
}

#[test]
fn a_half_close_passes_through_and_the_other_direction_stays_open() -> Result {
    for way in [0, 1] {
        let (scene, client, server) = Scene::forwarded(1)?;
        let (first, second) = if way == 0 {
            (client, server)
        } else {
            (server, client)
        };
        second.stop_reading();
        first.send(vec![b'x'; 1 << 20]);
        first.finish();
        scene.settle()?;
        assert!(!second.has_ended(), "the end comes behind the bytes");
        second.start_reading(usize::MAX);
        scene.settle()?;
        assert_eq!(second.received().len(), 1 << 20);
        assert_eq!(second.ended(), Some(Ended::Finished));
        for _ in 0..3 {
            assert!(!first.has_ended());
            second.send("still here, ");
            scene.settle()?;
        }
        second.finish();
        scene.settle()?;
        assert_eq!(first.received(), b"still here, ".repeat(3));
        assert_eq!(first.ended(), Some(Ended::Finished));
        assert_eq!(scene.closes(), ["far close Eof", "near close Eof"]);
    }
    Ok(())
}

#[test]
fn a_reset_passes_through_and_each_end_gets_its_reason() -> Result {
    for (way, expected) in [
        (0, ["far close Piped Reset", "near close Reset"]),
        (1, ["far close Reset", "near close Piped Reset"]),
    ] {
        let (scene, client, server) = Scene::forwarded(1)?;
        let (first, second) = if way == 0 {
            (client, server)
        } else {
            (server, client)
        };
        first.send("cut sho");
        scene.settle()?;
        first.reset();
        scene.settle()?;
        assert_eq!(second.received(), b"cut sho");
        assert_eq!(second.ended(), Some(Ended::Reset));
        assert_eq!(scene.closes(), expected);
        assert_eq!(scene.event_loop.len(), 1);
    }
    Ok(())
}

/// The end whose peer resets is not read, because the other end is full.
#[test]
fn a_reset_ends_both_when_the_other_peer_takes_nothing_for_the_linger_time() -> Result {
    for (way, expected) in [
        (0, ["far close Piped Reset", "near close Reset"]),
        (1, ["far close Reset", "near close Piped Reset"]),
    ] {
        let (scene, client, server) = Scene::forwarded(1)?;
        let (first, second) = if way == 0 {
            (client, server)
        } else {
            (server, client)
        };
        second.stop_reading();
        first.send(vec![b'x'; 1 << 20]);
        scene.settle()?;
        first.reset();
        let linger = Deadlines::default().linger;
        scene.network.advance(&scene.event_loop, linger * 2)?;
        assert_eq!(second.ended(), Some(Ended::Reset));
        assert_eq!(scene.closes(), expected);
        assert_eq!(scene.event_loop.len(), 1);
    }
    Ok(())
}

#[test]
fn what_came_before_a_reset_is_passed_on_while_the_other_peer_takes_a_little() -> Result {
    let (scene, client, server) = Scene::forwarded(1)?;
    server.stop_reading();
    client.send(vec![b'x'; 1 << 20]);
    scene.settle()?;
    client.reset();
    let linger = Deadlines::default().linger;
    for n in 1..=10 {
        server.start_reading(1000);
        scene.network.advance(&scene.event_loop, linger / 2)?;
        assert_eq!(server.received().len(), n * 1000);
        assert!(!server.has_ended());
    }
    scene.network.advance(&scene.event_loop, linger * 2)?;
    assert_eq!(server.ended(), Some(Ended::Reset));
    Ok(())
}

#[test]
fn a_complete_stream_waits_for_the_other_peer_although_its_sender_resets() -> Result {
    let (scene, client, server) = Scene::forwarded(1)?;
    server.stop_reading();
    client.send(vec![b'x'; 200_000]);
    client.finish();
    scene.settle()?;
    client.reset();
    scene
        .network
        .advance(&scene.event_loop, Duration::from_secs(60))?;
    server.start_reading(usize::MAX);
    scene.settle()?;
    assert_eq!(server.received().len(), 200_000);
    assert_eq!(server.ended(), Some(Ended::Finished));
    Ok(())
}

/// A server that has answered and closed while the client keeps sending.
#[test]
fn a_complete_answer_is_delivered_after_its_sender_is_gone() -> Result {
    let (scene, client, server) = Scene::forwarded(1)?;
    client.stop_reading();
    server.send(vec![b'x'; 500_000]);
    server.finish();
    client.send("one ");
    scene.settle()?;
    client.start_reading(300_000);
    scene.settle()?;
    server.reset();
    for _ in 0..3 {
        client.send("and more ");
        scene.settle()?;
    }
    client.start_reading(usize::MAX);
    scene.settle()?;
    assert_eq!(client.received().len(), 500_000);
    assert_eq!(client.ended(), Some(Ended::Finished));
    assert_eq!(
        scene.closes(),
        ["far close Reset", "near close Piped Reset"]
    );
    Ok(())
}

#[test]
fn a_refused_far_connection_closes_the_near_one() -> Result {
    let Scene {
        network,
        event_loop,
        log,
        ..
    } = {
        let scene = Scene::new(1)?;
        scene.forward()?;
        scene // and the server is gone
    };
    let client = network.connect(NEAR)?;
    client.send("is anybody there?");
    network.settle(&event_loop)?;
    network.advance(&event_loop, Duration::from_secs(5))?;
    assert_eq!(client.ended(), Some(Ended::Finished));
    let expected = ["far close ConnectFailed", "near close Piped ConnectFailed"];
    assert_eq!(log.lines(), expected);
    assert_eq!(event_loop.len(), 1);
    Ok(())
}

#[test]
fn close_when_done_on_one_end_closes_both_after_the_queued_data() -> Result {
    let (scene, client, server) = Scene::forwarded(1)?;
    server.send("last words");
    scene.settle()?;
    // What the session of the far end pushes goes to its own peer.
    assert_eq!(server.received(), b"and good-bye");
    assert_eq!(client.received(), b"last words");
    assert_eq!(client.ended(), Some(Ended::Finished));
    assert_eq!(
        scene.closes(),
        ["far close Local", "near close Piped Local"]
    );
    Ok(())
}

#[test]
fn an_abort_of_one_end_resets_the_other() -> Result {
    for (far_aborts, expected) in [
        (false, ["far close Piped Dropped", "near close Dropped"]),
        (true, ["far close Dropped", "near close Piped Dropped"]),
    ] {
        for is_queued in [false, true] {
            let (scene, client, server) = Scene::forwarded(1)?;
            if is_queued {
                server.stop_reading();
            }
            client.send(vec![b'x'; 200_000]);
            server.send("cut sho");
            scene.settle()?;
            let aborted = if far_aborts { &scene.far } else { &scene.near };
            aborted.chat().abort();
            scene.settle()?;
            assert_eq!(client.ended(), Some(Ended::Reset));
            assert_eq!(server.ended(), Some(Ended::Reset));
            assert_eq!(client.received(), b"cut sho");
            assert_eq!(scene.closes(), expected);
        }
    }
    Ok(())
}

#[test]
fn an_abort_after_the_end_of_the_input_leaves_the_stream_complete() -> Result {
    let (scene, client, server) = Scene::forwarded(1)?;
    let size = scene.network.conditions().buffer + 40_000;
    server.stop_reading();
    client.send(vec![b'x'; size]);
    client.finish();
    scene.settle()?;
    assert!(scene.far.chat().queued() > 0);
    scene.near.chat().abort();
    scene.settle()?;
    server.start_reading(usize::MAX);
    scene.settle()?;
    assert_eq!(server.received().len(), size);
    assert_eq!(server.ended(), Some(Ended::Finished));
    assert_eq!(client.ended(), Some(Ended::Reset));
    Ok(())
}

/// With and without output for the peer of the closed end, which is lost: the reason is `Dropped` then.
#[test]
fn a_close_of_one_end_lets_the_other_send_its_queue() -> Result {
    for (answer, why) in [(10, "Local"), (1 << 20, "Dropped")] {
        let (scene, client, server) = Scene::forwarded(1)?;
        server.stop_reading();
        client.stop_reading();
        client.send(vec![b'x'; 100_000]);
        server.send(vec![b'y'; answer]);
        scene.settle()?;
        scene.near.chat().close();
        scene.settle()?;
        server.start_reading(usize::MAX);
        scene.settle()?;
        assert_eq!(server.received().len(), 100_000);
        assert_eq!(server.ended(), Some(Ended::Finished));
        let expected = [
            format!("far close Piped {why}"),
            format!("near close {why}"),
        ];
        assert_eq!(scene.closes(), expected);
    }
    Ok(())
}

#[test]
fn an_error_of_the_system_at_one_end_resets_the_other() -> Result {
    for (error, why) in [
        (io::ErrorKind::Other, "Io"),
        (io::ErrorKind::TimedOut, "Io"),
        (io::ErrorKind::ConnectionReset, "Reset"),
    ] {
        let (scene, client, server) = Scene::forwarded(1)?;
        client.send("cut sho");
        scene.settle()?;
        scene.network.fail(Call::Recv, error);
        client.send("rt");
        scene.settle()?;
        assert_eq!(server.received(), b"cut sho");
        assert_eq!(server.ended(), Some(Ended::Reset));
        let expected = [
            format!("far close Piped {why}"),
            format!("near close {why}"),
        ];
        assert_eq!(scene.closes(), expected);
    }
    Ok(())
}

/// Its reader could not tell a reset from an ordinary close: `netcat` writes what came before the cut.
#[test]
fn a_cut_stream_is_delivered_to_an_end_that_cannot_be_reset() -> Result {
    let scene = Scene::new(1)?;
    let (socket, server) = scene.network.pair();
    let (input, _keyboard) = scene.network.pair();
    let (output, screen) = scene.network.pair();
    let adopt = |socket: Socket, name| {
        let log = scene.log.clone();
        let end = move |chat| End { chat, name, log };
        Connector::adopt(socket).connect_on(&scene.event_loop, end)
    };
    let (far, near) = (
        adopt(socket, "far")?,
        adopt(Socket::halves(input, output), "near")?,
    );
    asynchat::pipe(&near, &far)?;
    screen.stop_reading();
    let size = scene.network.conditions().buffer + 40_000;
    server.send(vec![b'x'; size]);
    scene.settle()?;
    assert!(near.queued() > 0);
    server.reset();
    scene.settle()?;
    screen.start_reading(usize::MAX);
    scene.settle()?;
    assert_eq!(screen.received().len(), size);
    assert_eq!(
        scene.closes(),
        ["far close Reset", "near close Piped Reset"]
    );
    Ok(())
}

#[test]
fn a_callback_that_fails_resets_the_other_end() -> Result {
    let (scene, client, server) = Scene::forwarded(1)?;
    client.send("fail");
    scene.settle()?;
    assert_eq!(server.ended(), Some(Ended::Reset));
    assert_eq!(
        scene.closes(),
        ["far close Piped Handler", "near close Handler"]
    );
    Ok(())
}

#[test]
fn a_timeout_of_one_end_closes_both() -> Result {
    let (scene, client, server) = Scene::forwarded(1)?;
    scene.near.chat().set_idle_timeout(Duration::from_secs(60));
    scene
        .network
        .advance(&scene.event_loop, Duration::from_secs(61))?;
    assert!(client.has_ended());
    assert_eq!(server.ended(), Some(Ended::Reset));
    assert_eq!(
        scene.closes(),
        ["far close Piped Timeout", "near close Timeout"]
    );
    Ok(())
}

#[test]
fn a_shutdown_waits_until_piped_streams_end() -> Result {
    let (scene, client, server) = Scene::forwarded(1)?;
    client.send("one, ");
    scene.settle()?;
    scene.event_loop.shutdown(Duration::from_secs(60));
    scene.settle()?;
    client.send("two");
    client.finish();
    scene.settle()?;
    server.send("three");
    server.finish();
    scene.settle()?;
    assert_eq!(server.received(), b"one, two");
    assert_eq!(client.received(), b"three");
    assert_eq!(scene.closes(), ["far close Eof", "near close Eof"]);
    assert!(scene.event_loop.is_empty());
    Ok(())
}

#[test]
fn piped_connections_that_outlast_the_grace_of_a_shutdown_are_reset() -> Result {
    let (scene, client, server) = Scene::forwarded(1)?;
    scene.event_loop.shutdown(Duration::from_secs(60));
    scene
        .network
        .advance(&scene.event_loop, Duration::from_secs(60))?;
    for peer in [client, server] {
        assert_eq!(peer.ended(), Some(Ended::Reset));
    }
    assert_eq!(
        scene.closes(),
        ["far close Interrupted", "near close Interrupted"]
    );
    Ok(())
}

// ---- pipes that are refused

#[test]
fn a_connection_is_piped_once_and_not_to_itself() -> Result {
    let (scene, client, _server) = Scene::forwarded(1)?;
    let (near, far) = (scene.near.chat(), scene.far.chat());
    let third = scene.event_loop.connect(FAR, |_| |_: &[u8]| Ok(()))?;
    assert!(asynchat::pipe(&third, &far).is_err());
    assert!(asynchat::pipe(&near, &third).is_err());
    assert!(asynchat::pipe(&third, &third).is_err());
    scene.settle()?;
    assert!(third.is_open() && near.is_open() && !client.has_ended());
    Ok(())
}

#[test]
fn a_connection_piped_to_one_that_has_ended_ends() -> Result {
    let scene = Scene::new(1)?;
    let gone = scene.event_loop.connect(FAR, |_| |_: &[u8]| Ok(()))?;
    scene.settle()?;
    gone.close();
    scene.settle()?;
    let left = scene.event_loop.connect(FAR, scene.log.session())?;
    scene.settle()?;
    asynchat::pipe(&left, &gone)?;
    left.push("too late to be refused");
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["connect", "close Piped"]);

    // It is about to end, and `handle_close` has not been called yet.
    let both = [(); 2].map(|()| scene.event_loop.connect(FAR, scene.log.session()));
    let [a, b] = both;
    let (a, b) = (a?, b?);
    scene.settle()?;
    a.close();
    asynchat::pipe(&a, &b)?;
    scene.settle()?;
    assert!(!b.is_open());
    Ok(())
}

// ---- on the kernel's sockets

/// A forwarder on the loopback interface, its client, and an echo server.
fn forwarder(event_loop: &EventLoop, log: &Log) -> common::Peer {
    let echo = event_loop
        .listen("127.0.0.1:0", |chat: Chat| {
            chat.set_terminator(asynchat::Terminator::none());
            Echo(chat)
        })
        .expect("a port is free");
    let (to, log, slot) = (addr_of(&echo), log.clone(), Slot::default());
    let taken = slot.clone();
    let listener = event_loop
        .listen("127.0.0.1:0", move |near| {
            let end = |name| {
                let log = log.clone();
                move |chat| End {
                    chat,
                    name,
                    log: log.clone(),
                }
            };
            let far = asynchat::connect(to, end("far")).expect("an address");
            asynchat::pipe(&near, &far).expect("both are new");
            taken.capture(end("near"))(near)
        })
        .expect("a port is free");
    let peer = common::Peer::connect(addr_of(&listener));
    run_until(event_loop, || slot.is_filled());
    listener.close();
    run_until(event_loop, || event_loop.stats().accepted == 2);
    echo.close();
    peer
}

struct Echo(Chat);

impl AsyncChat for Echo {
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(())
    }
    fn collect_incoming_data(&mut self, chunk: &[u8]) -> Result {
        self.0.push_slice(chunk);
        Ok(())
    }
}

#[test]
fn megabytes_are_echoed_through_real_sockets_after_a_half_close() {
    let (event_loop, log) = (new_loop(), Log::default());
    let mut client = forwarder(&event_loop, &log);
    let sent: Rc<[u8]> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut rest = &sent[..];
    let mut came = 0;
    run_until(&event_loop, || {
        use std::io::Write;
        if let Ok(count) = client.stream.write(rest) {
            rest = &rest[count..];
        }
        came = client.look().len();
        rest.is_empty()
    });
    client.finish();
    assert!(came < sent.len(), "some of it is still in flight");
    assert!(client.receive_all(&event_loop) == *sent);
    run_to_end(&event_loop);
    let mut lines = log.lines();
    lines.sort();
    assert_eq!(lines, ["far close Eof", "near close Eof"]);
}

#[test]
fn a_reset_passes_through_real_sockets() {
    let (event_loop, log) = (new_loop(), Log::default());
    let mut client = forwarder(&event_loop, &log);
    client.send("hello");
    client.expect(&event_loop, "hello");
    client.reset();
    run_to_end(&event_loop);
    let mut lines = log.lines();
    lines.sort();
    assert_eq!(lines, ["far close Piped Reset", "near close Reset"]);
    assert_eq!(
        event_loop.stats().closes.reset,
        2,
        "one of them is the server's"
    );
}

/// Both peers are plain sockets.
#[test]
fn an_abort_passes_through_real_sockets_and_a_close_does_not() {
    for aborts in [false, true] {
        let event_loop = new_loop();
        let ends = [(); 2].map(|()| served(&event_loop, Log::default().session()));
        let [(near, _client), (far, mut server)] = ends;
        asynchat::pipe(&near, &far).expect("both are new");
        if aborts {
            near.abort();
        } else {
            near.close();
        }
        let mut ended = None;
        run_until(&event_loop, || {
            let outcome = server.stream.read(&mut [0; 10]);
            ended = match outcome.map_err(|error| error.kind()) {
                Err(io::ErrorKind::WouldBlock) => None,
                outcome => Some(outcome),
            };
            ended.is_some()
        });
        let expected = if aborts {
            Err(io::ErrorKind::ConnectionReset)
        } else {
            Ok(0)
        };
        assert_eq!(ended, Some(expected));
    }
}

/// What `a_complete_answer_is_delivered_after_its_sender_is_gone` and the simulated network rely on. Elsewhere a pipe
/// takes both for complete.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn linux_tells_whether_a_reset_follows_the_end_of_the_input() {
    use std::io::{ErrorKind, Write};
    use std::net::Shutdown;

    for (finishes, expected) in [
        (true, ErrorKind::BrokenPipe),
        (false, ErrorKind::ConnectionReset),
    ] {
        let (mut ours, peer) = common::tcp_pair();
        if finishes {
            peer.shutdown(Shutdown::Write).unwrap();
        }
        common::Peer::new(peer).reset();
        let mut send = || ours.write(b"too late");
        // On loopback the reset has arrived, but nothing promises that.
        let error = (0..1000).find_map(|_| send().err());
        assert_eq!(error.unwrap().kind(), expected);
    }
}

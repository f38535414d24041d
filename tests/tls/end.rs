//! The end of a connection with TLS: announced, cut, reset, and while output waits.

use asynchat::sim::Ended;
use asynchat::{Chat, Close, Connector, Limits, More, Producer, Result, Server, Socket};

use crate::scene::Scene;
use crate::tls::{TlsPeer, client_config, server_config};

fn serve(scene: &Scene) -> Result<TlsPeer> {
    let echo = |chat: &Chat, line: &[u8]| {
        chat.push_slice(line);
        chat.push("\r\n");
        Ok(())
    };
    Server::new("127.0.0.1:563")
        .tls(server_config())
        .listen_on(&scene.event_loop, scene.log.session_with(echo))?;
    let mut peer = TlsPeer::client(scene.network.connect("127.0.0.1:563")?, client_config());
    peer.exchange(|| scene.settle().unwrap());
    Ok(peer)
}

#[test]
fn the_end_of_the_input_is_announced_or_the_stream_is_truncated_at_each_byte() -> Result {
    let lengths = {
        let scene = Scene::new()?;
        let mut peer = serve(&scene)?;
        (
            peer.encrypt(b"one\r\n").len(),
            peer.encrypt(b"par").len(),
            peer.close_notify().len(),
        )
    };
    let whole = lengths.0 + lengths.1 + lengths.2;
    for cut in 0..=whole {
        let scene = Scene::new()?;
        let mut peer = serve(&scene)?;
        let mut bytes = peer.encrypt(b"one\r\n");
        bytes.append(&mut peer.encrypt(b"par"));
        bytes.append(&mut peer.close_notify());
        assert_eq!(bytes.len(), whole);
        peer.peer.send(&bytes[..cut]);
        peer.peer.finish();
        scene.settle()?;
        peer.receive();
        let mut expected = vec!["connect"];
        if cut >= lengths.0 {
            expected.push("record one");
            assert_eq!(peer.text(), "one\r\n", "the reply was sent");
        }
        if cut == whole {
            expected.extend(["eof par", "close Eof"]);
        } else {
            expected.push("close Truncated");
        }
        assert_eq!(scene.log.lines(), expected, "{cut}");
        assert!(peer.is_closed());
        scene.advance(10)?;
        assert_eq!(scene.event_loop.len(), 1, "the listener is left");
    }
    Ok(())
}

#[test]
fn a_peer_that_announces_its_end_and_waits_gets_its_replies() -> Result {
    let scene = Scene::new()?;
    let mut peer = serve(&scene)?;
    let mut bytes = peer.encrypt(b"one\r\n");
    bytes.append(&mut peer.close_notify());
    // Without the end of the TCP stream.
    peer.peer.send(bytes);
    peer.exchange(|| scene.settle().unwrap());
    assert_eq!(
        scene.log.lines(),
        ["connect", "record one", "eof ", "close Eof"]
    );
    assert_eq!(peer.text(), "one\r\n");
    assert!(peer.is_closed());
    assert_eq!(peer.peer.ended(), Some(Ended::Finished));
    Ok(())
}

#[test]
fn a_half_closed_connection_goes_on_in_the_other_direction() -> Result {
    let scene = Scene::new()?;
    let slot = crate::common::Slot::default();
    let staying = scene.log.session();
    let factory = slot.capture(move |chat| staying(chat).staying_open());
    Server::new("127.0.0.1:563")
        .tls(server_config())
        .listen_on(&scene.event_loop, factory)?;
    let mut peer = TlsPeer::client(scene.network.connect("127.0.0.1:563")?, client_config());
    peer.exchange(|| scene.settle().unwrap());
    let end = peer.close_notify();
    peer.peer.send(end);
    peer.peer.finish();
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["connect", "eof "]);
    slot.chat().push("later\r\n");
    scene.settle()?;
    slot.chat().close_when_done();
    peer.exchange(|| scene.settle().unwrap());
    assert_eq!(peer.text(), "later\r\n");
    assert!(peer.is_closed() && scene.log.has("close Local"));
    Ok(())
}

#[test]
fn shutdown_write_announces_the_end_and_input_goes_on() -> Result {
    let scene = Scene::new()?;
    let slot = crate::common::Slot::default();
    Server::new("127.0.0.1:563")
        .tls(server_config())
        .listen_on(&scene.event_loop, slot.capture(scene.log.session()))?;
    let mut peer = TlsPeer::client(scene.network.connect("127.0.0.1:563")?, client_config());
    peer.exchange(|| scene.settle().unwrap());
    slot.chat().push("last\r\n");
    slot.chat().shutdown_write();
    peer.exchange(|| scene.settle().unwrap());
    assert_eq!(peer.text(), "last\r\n");
    assert!(peer.is_closed());
    assert_eq!(peer.peer.ended(), Some(Ended::Finished));
    peer.send("still\r\n");
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["connect", "record still"]);
    Ok(())
}

#[test]
fn the_close_waits_until_the_kernel_has_accepted_all_ciphertext() -> Result {
    let scene = Scene::new()?;
    let slot = crate::common::Slot::default();
    let conditions = scene.network.conditions();
    Server::new("127.0.0.1:563")
        .tls(server_config())
        .listen_on(&scene.event_loop, slot.capture(scene.log.session()))?;
    let mut peer = TlsPeer::client(scene.network.connect("127.0.0.1:563")?, client_config());
    peer.exchange(|| scene.settle().unwrap());
    scene.network.set_conditions(conditions.buffer(1000));
    peer.peer.stop_reading();
    slot.chat().push(vec![b'x'; 30_000]);
    slot.chat().close_when_done();
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["connect"], "it is not closed");
    assert!(slot.chat().queued() < 30_000);
    peer.peer.start_reading(usize::MAX);
    peer.exchange(|| scene.settle().unwrap());
    assert_eq!(peer.plaintext.len(), 30_000);
    assert!(peer.is_closed());
    assert_eq!(scene.log.lines(), ["connect", "close Local"]);
    Ok(())
}

#[test]
fn a_close_with_ciphertext_that_was_not_sent_is_no_complete_one() -> Result {
    let scene = Scene::new()?;
    let slot = crate::common::Slot::default();
    Server::new("127.0.0.1:563")
        .tls(server_config())
        .listen_on(&scene.event_loop, slot.capture(scene.log.session()))?;
    let mut peer = TlsPeer::client(scene.network.connect("127.0.0.1:563")?, client_config());
    peer.exchange(|| scene.settle().unwrap());
    scene
        .network
        .set_conditions(scene.network.conditions().buffer(1000));
    peer.peer.stop_reading();
    slot.chat().push(vec![b'x'; 10_000]);
    scene.settle()?;
    let queued = slot.chat().queued();
    assert!((8000..10_000).contains(&queued), "the stage has {queued}");
    slot.chat().close();
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["connect", "close Dropped"]);
    peer.peer.start_reading(usize::MAX);
    peer.exchange(|| scene.settle().unwrap());
    assert!(!peer.is_closed(), "the peer can tell");
    Ok(())
}

struct Broken;

impl Producer for Broken {
    fn more(&mut self, _: usize) -> std::io::Result<More> {
        Err(std::io::Error::other("the disk is broken"))
    }
}

/// RFC 8446 section 6.1: who closes without an error alert announces it. No reply is missing. A stream that a producer has cut
/// has no such end.
#[test]
fn the_replies_before_a_failure_of_a_callback_are_followed_by_close_notify() -> Result {
    for is_cut in [false, true] {
        let scene = Scene::new()?;
        let fails = move |chat: &Chat, _: &[u8]| {
            chat.push("reply\r\n");
            if is_cut {
                chat.push_with_producer(Broken);
                return Ok(());
            }
            Err("a failure".into())
        };
        Server::new("127.0.0.1:563")
            .tls(server_config())
            .listen_on(&scene.event_loop, scene.log.session_with(fails))?;
        let mut peer = TlsPeer::client(scene.network.connect("127.0.0.1:563")?, client_config());
        peer.exchange(|| scene.settle().unwrap());
        peer.send("one\r\n");
        peer.exchange(|| scene.settle().unwrap());
        assert_eq!(peer.is_closed(), !is_cut);
        assert_eq!(
            scene.log.lines(),
            ["connect", "record one", "close Handler"]
        );
        if !is_cut {
            assert_eq!(peer.text(), "reply\r\n");
        }
    }
    Ok(())
}

#[test]
fn a_broken_record_ends_the_connection_after_what_came_before_it() -> Result {
    let scene = Scene::new()?;
    let mut peer = serve(&scene)?;
    let mut bytes = peer.encrypt(b"one\r\n");
    let mut broken = peer.encrypt(b"two\r\n");
    if let Some(last) = broken.last_mut() {
        *last ^= 1;
    }
    bytes.append(&mut broken);
    peer.peer.send(bytes);
    peer.exchange(|| scene.settle().unwrap());
    // The alert precedes the reply, and nothing may follow a fatal alert.
    assert_eq!(scene.log.lines(), ["connect", "record one", "close Tls"]);
    assert!(matches!(
        peer.error,
        Some(asynchat::tls::rustls::Error::AlertReceived(_))
    ));
    Ok(())
}

#[test]
fn a_reset_loses_no_input_that_has_arrived() -> Result {
    let scene = Scene::new()?;
    let mut peer = serve(&scene)?;
    peer.send("one\r\n");
    peer.peer.reset();
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["connect", "record one", "close Reset"]);
    Ok(())
}

/// openssl #7948: the tickets that a server sends behind the handshake meet a peer that has sent its commands and
/// closed. Its commands are still executed.
#[test]
fn commands_of_a_client_that_closes_at_once_are_delivered() -> Result {
    for resets in [false, true] {
        let scene = Scene::new()?;
        Server::new("127.0.0.1:563")
            .tls(server_config())
            .listen_on(&scene.event_loop, scene.log.session())?;
        let mut peer = TlsPeer::client(scene.network.connect("127.0.0.1:563")?, client_config());
        let hello = peer.output();
        peer.peer.send(hello);
        scene.settle()?;
        peer.receive();
        let mut bytes = peer.output();
        bytes.append(&mut peer.encrypt(b"one\r\ntwo\r\n"));
        bytes.append(&mut peer.close_notify());
        peer.peer.send(bytes);
        if resets {
            peer.peer.reset();
        } else {
            peer.peer.finish();
        }
        drop(peer);
        scene.settle()?;
        let lines = scene.log.lines();
        assert_eq!(
            lines[..3],
            ["connect", "record one", "record two"],
            "{resets}"
        );
    }
    Ok(())
}

#[test]
fn the_reason_says_that_the_stream_was_cut() {
    assert_eq!(
        Close::Truncated.to_string(),
        "the stream ended without a TLS close_notify"
    );
    assert!(!Close::Truncated.sent_all());
}

/// What is delivered does not depend on what arrives together, nor on how much a turn does.
#[test]
fn the_records_before_a_broken_one_are_delivered_under_every_segmentation_and_budget() -> Result {
    let limits = [
        Limits::default(),
        Limits::default().turn_records(1),
        Limits::default().turn_read(1),
        Limits::default().turn_read(4).turn_records(2).turn_write(1),
    ];
    for limits in limits {
        for piece in [1, 7, 40, 1000] {
            let scene = Scene::new()?;
            let echo = |chat: &Chat, line: &[u8]| {
                chat.push_slice(line);
                chat.push("\r\n");
                Ok(())
            };
            Server::new("127.0.0.1:563")
                .tls(server_config())
                .limits(limits)
                .listen_on(&scene.event_loop, scene.log.session_with(echo))?;
            let socket = scene.network.connect("127.0.0.1:563")?;
            let mut peer = TlsPeer::client(socket, client_config());
            peer.exchange(|| scene.settle().unwrap());
            let mut bytes = peer.encrypt(b"one\r\ntwo\r\nthree\r\nfour");
            let mut broken = peer.encrypt(b"\r\nfive\r\n");
            *broken.last_mut().unwrap() ^= 1;
            bytes.append(&mut broken);
            for piece in bytes.chunks(piece) {
                peer.peer.send(piece);
                scene.settle()?;
            }
            peer.exchange(|| scene.settle().unwrap());
            let expected = ["connect", "record one", "record two", "record three"];
            let lines = scene.log.lines();
            let (close, records) = lines.split_last().unwrap();
            assert_eq!(records, expected, "{limits:?} {piece}");
            assert_eq!(close, "close Tls", "{limits:?} {piece}");
            assert!(peer.error.is_some(), "the alert has arrived");
            scene.advance(60)?;
            assert_eq!(scene.event_loop.len(), 1, "the listener is left");
        }
    }
    Ok(())
}

/// Nobody reads on, so nobody would see the failure of TLS.
#[test]
fn a_paused_session_ends_with_the_failure_when_it_sends() -> Result {
    let scene = Scene::new()?;
    let slot = crate::common::Slot::default();
    let pause = |chat: &Chat, _: &[u8]| {
        chat.pause_reading();
        Ok(())
    };
    Server::new("127.0.0.1:563")
        .tls(server_config())
        .listen_on(
            &scene.event_loop,
            slot.capture(scene.log.session_with(pause)),
        )?;
    let mut peer = TlsPeer::client(scene.network.connect("127.0.0.1:563")?, client_config());
    peer.exchange(|| scene.settle().unwrap());
    let mut bytes = peer.encrypt(b"one\r\ntwo\r\n");
    let mut broken = peer.encrypt(b"three\r\n");
    *broken.last_mut().unwrap() ^= 1;
    bytes.append(&mut broken);
    peer.peer.send(bytes);
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["connect", "record one"]);
    slot.chat().push("reply\r\n");
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["connect", "record one", "close Tls"]);
    Ok(())
}

#[test]
fn the_records_before_a_broken_one_and_the_alert_pass_through_two_descriptors() -> Result {
    let scene = Scene::new()?;
    let (input, to) = scene.network.pair();
    let (output, from) = scene.network.pair();
    let echo = |chat: &Chat, line: &[u8]| {
        chat.push_slice(line);
        Ok(())
    };
    let chat = Connector::adopt(Socket::halves(input, output))
        .limits(Limits::default().turn_records(1))
        .connect_on(&scene.event_loop, scene.log.session_with(echo))?;
    scene.settle()?;
    chat.start_tls(server_config())?;
    let mut peer = TlsPeer::client(to, client_config());
    let exchange = |peer: &mut TlsPeer| -> Result {
        for _ in 0..5 {
            let bytes = peer.output();
            peer.peer.send(bytes);
            scene.settle()?;
            let bytes = from.take_received();
            let mut left = &bytes[..];
            while !left.is_empty() && peer.error.is_none() {
                peer.tls.read_tls(&mut left)?;
                peer.error = peer.tls.process_new_packets().err();
            }
        }
        Ok(())
    };
    exchange(&mut peer)?;
    let mut bytes = peer.encrypt(b"one\r\ntwo\r\n");
    let mut broken = peer.encrypt(b"three\r\n");
    *broken.last_mut().unwrap() ^= 1;
    bytes.append(&mut broken);
    peer.peer.send(bytes);
    exchange(&mut peer)?;
    let lines = scene.log.lines();
    let expected = ["record one", "record two", "close Tls"];
    assert!(lines.ends_with(&expected.map(str::to_owned)), "{lines:?}");
    assert!(peer.error.is_some(), "the alert has arrived");
    assert!(
        peer.peer.received().is_empty(),
        "nothing was sent backwards"
    );
    Ok(())
}

//! Back-pressure, limits and producers through TLS.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use asynchat::sim::Peer;
use asynchat::tls::rustls::version::{TLS12, TLS13};
use asynchat::{Chat, Limits, Result, Server, SimpleProducer};

use crate::common::Slot;
use crate::scene::Scene;
use crate::tls::{TlsPeer, client_config, client_config_of, server_config};

/// rustls #2556, tokio-rustls #32: both sides send more than the buffers take, and neither reads before that.
#[test]
fn two_sides_that_both_send_do_not_wait_for_each_other() -> Result {
    let scene = Scene::new()?;
    let slot = Slot::default();
    let received: Rc<Cell<usize>> = Rc::default();
    let count = Rc::clone(&received);
    let on_record = move |_: &Chat, record: &[u8]| {
        count.set(count.get() + record.len());
        Ok(())
    };
    Server::new("127.0.0.1:563")
        .tls(server_config())
        .listen_on(
            &scene.event_loop,
            slot.capture(scene.log.session_with(on_record)),
        )?;
    scene
        .network
        .set_conditions(scene.network.conditions().buffer(4000));
    let mut peer = TlsPeer::client(scene.network.connect("127.0.0.1:563")?, client_config());
    peer.exchange(|| scene.settle().unwrap());
    peer.peer.stop_reading();
    // More than the high-water mark is no reply of the session, so its input goes on.
    slot.chat()
        .set_limits(Limits::default().high_water(1 << 20));
    slot.chat().push(vec![b'x'; 200_000]);
    let line = [b"y".repeat(1000), b"\r\n".to_vec()].concat();
    peer.send(line.repeat(300));
    scene.settle()?;
    assert_eq!(received.get(), 300_000, "reading does not wait for writing");
    peer.peer.start_reading(usize::MAX);
    peer.exchange(|| scene.settle().unwrap());
    assert_eq!(peer.plaintext.len(), 200_000);
    Ok(())
}

#[test]
fn what_a_turn_sends_fits_one_packet_of_the_loopback_interface() -> Result {
    for version in [&TLS12, &TLS13] {
        let scene = Scene::new()?;
        let big = |chat: &Chat, _: &[u8]| {
            chat.push(vec![b'x'; 400_000]);
            Ok(())
        };
        Server::new("127.0.0.1:563")
            .tls(server_config())
            .listen_on(&scene.event_loop, scene.log.session_with(big))?;
        scene
            .network
            .set_conditions(scene.network.conditions().buffer(1 << 20));
        let config = client_config_of(version);
        let mut peer = TlsPeer::client(scene.network.connect("127.0.0.1:563")?, config);
        peer.exchange(|| scene.settle().unwrap());
        peer.send("go\r\n");
        let mut sizes = Vec::new();
        for _ in 0..20 {
            scene.event_loop.run_once(Some(Duration::ZERO))?;
            sizes.push(peer.peer.take_received().len());
        }
        assert!(sizes.iter().sum::<usize>() > 400_000, "{sizes:?}");
        let most = sizes.iter().max().copied().unwrap_or_default();
        // The IPv6 packet of 65,535 bytes without its headers and the time stamps of TCP.
        assert!((65_000..=65_463).contains(&most), "{sizes:?}");
    }
    Ok(())
}

#[test]
fn a_peer_that_does_not_read_makes_its_own_input_wait() -> Result {
    let scene = Scene::new()?;
    let big = |chat: &Chat, _: &[u8]| {
        chat.push(vec![b'x'; 30_000]);
        Ok(())
    };
    Server::new("127.0.0.1:563")
        .tls(server_config())
        .listen_on(&scene.event_loop, scene.log.session_with(big))?;
    scene
        .network
        .set_conditions(scene.network.conditions().buffer(4000));
    let mut peer = TlsPeer::client(scene.network.connect("127.0.0.1:563")?, client_config());
    peer.exchange(|| scene.settle().unwrap());
    peer.peer.stop_reading();
    peer.send("go\r\n".repeat(50));
    scene.settle()?;
    let delivered = scene.log.count("record");
    assert!((2..10).contains(&delivered), "{delivered}");
    peer.peer.start_reading(usize::MAX);
    peer.exchange(|| scene.settle().unwrap());
    assert_eq!(scene.log.count("record"), 50);
    assert_eq!(peer.plaintext.len(), 50 * 30_000);
    Ok(())
}

#[test]
fn a_paused_session_gets_what_was_decrypted_when_it_resumes() -> Result {
    let scene = Scene::new()?;
    let pausing = |chat: &Chat, line: &[u8]| {
        if line == b"pause" {
            chat.pause_reading();
        }
        Ok(())
    };
    let slot = Slot::default();
    Server::new("127.0.0.1:563")
        .tls(server_config())
        .limits(Limits::default().turn_read(7))
        .listen_on(
            &scene.event_loop,
            slot.capture(scene.log.session_with(pausing)),
        )?;
    let mut peer = TlsPeer::client(scene.network.connect("127.0.0.1:563")?, client_config());
    peer.exchange(|| scene.settle().unwrap());
    peer.send("pause\r\none\r\ntwo\r\n");
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["connect", "record pause"]);
    slot.chat().resume_reading();
    scene.settle()?;
    let expected = ["connect", "record pause", "record one", "record two"];
    assert_eq!(scene.log.lines(), expected);
    Ok(())
}

#[test]
fn producers_and_gathered_output_arrive_in_order_over_bad_networks() -> Result {
    for seed in 0..30 {
        let network = asynchat::sim::Network::new(seed);
        let event_loop = network.event_loop()?;
        network.set_conditions(
            network
                .conditions()
                .short_reads(0.3)
                .short_writes(0.3)
                .would_block(0.2)
                .late_events(0.2)
                .shuffled(true)
                .one_shot(seed % 2 == 0)
                .buffer(500 + usize::try_from(seed)? * 300),
        );
        let mut expected = Vec::new();
        for n in 0..200u32 {
            expected.extend_from_slice(format!("line {n}\r\n").as_bytes());
        }
        let large: Vec<u8> = (0..40_000u32).map(|n| n.to_le_bytes()[0]).collect();
        expected.extend_from_slice(&large);
        expected.extend_from_slice(&large);
        expected.extend_from_slice(b"the end\r\n");
        let sent = large.clone();
        Server::new("127.0.0.1:563")
            .tls(server_config())
            .listen_on(&event_loop, move |chat: Chat| {
                let sent = sent.clone();
                move |_: &[u8]| {
                    for n in 0..200 {
                        write!(chat, "line {n}\r\n");
                    }
                    chat.push(sent.clone());
                    chat.push_with_producer(SimpleProducer::new(sent.clone()));
                    chat.push("the end\r\n");
                    chat.close_when_done();
                    Ok(())
                }
            })?;
        let mut peer = TlsPeer::client(network.connect("127.0.0.1:563")?, client_config());
        peer.exchange(|| network.settle(&event_loop).unwrap());
        peer.send("go\r\n");
        peer.exchange(|| network.settle(&event_loop).unwrap());
        assert!(
            peer.plaintext == expected,
            "seed {seed}: {}",
            peer.plaintext.len()
        );
        assert!(peer.is_closed(), "seed {seed}");
    }
    Ok(())
}

/// The peers of two connections that are piped: of one in clear, and of one with TLS.
fn piped(scene: &Scene) -> Result<(Peer, TlsPeer)> {
    let (plain, outside) = scene.connection(|_| |_: &[u8]| Ok(()))?;
    Server::new("127.0.0.1:563")
        .tls(server_config())
        .listen_on(&scene.event_loop, move |chat: Chat| {
            asynchat::pipe(&chat, &plain)?;
            Ok(|_: &[u8]| Ok(()))
        })?;
    let mut peer = TlsPeer::client(scene.network.connect("127.0.0.1:563")?, client_config());
    peer.exchange(|| scene.settle().unwrap());
    Ok((outside, peer))
}

#[test]
fn a_pipe_passes_both_directions_and_both_ends() -> Result {
    let scene = Scene::new()?;
    let (outside, mut peer) = piped(&scene)?;
    peer.send("to the inside");
    outside.send("to the outside");
    peer.exchange(|| scene.settle().unwrap());
    assert_eq!(outside.received(), b"to the inside");
    assert_eq!(peer.text(), "to the outside");
    // A stream that was cut is cut on the other side as well.
    peer.peer.finish();
    scene.settle()?;
    assert_eq!(outside.ended(), Some(asynchat::sim::Ended::Reset));
    Ok(())
}

/// The error of a failed send hides from the receiver that the connection was reset: the system reports the end of the
/// stream afterwards. Without an announcement it is not complete.
#[test]
fn a_reset_that_a_send_has_met_does_not_make_a_piped_stream_complete() -> Result {
    let scene = Scene::new()?;
    let (outside, mut peer) = piped(&scene)?;
    peer.send("cut sho");
    scene.settle()?;
    let reset = std::io::ErrorKind::ConnectionReset;
    scene.network.fail(asynchat::sim::Call::Send, reset);
    outside.send("an answer");
    scene.settle()?;
    peer.peer.finish();
    scene.settle()?;
    scene.advance(10)?;
    assert_eq!(outside.received(), b"cut sho");
    assert_eq!(outside.ended(), Some(asynchat::sim::Ended::Reset));
    Ok(())
}

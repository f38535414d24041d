//! Many handshakes at a time.

use std::time::Duration;

use asynchat::tls::rustls::version::TLS12;
use asynchat::{Chat, Result, Server, tls};

use crate::scene::Scene;
use crate::tls::{TlsPeer, client_config, client_config_of, server_config};

/// A server that echoes lines.
fn serve_echo(scene: &Scene) -> Result {
    let echo = |chat: &Chat, line: &[u8]| {
        chat.push_slice(line);
        chat.push("\r\n");
        Ok(())
    };
    Server::new("127.0.0.1:563")
        .tls(server_config())
        .listen_on(&scene.event_loop, scene.log.session_with(echo))?;
    Ok(())
}

#[test]
fn a_turn_completes_a_few_handshakes_and_serves_others_in_between() -> Result {
    let scene = Scene::new()?;
    serve_echo(&scene)?;
    let (chat, neighbour) = scene.connection(|chat: Chat| {
        move |line: &[u8]| {
            chat.push_slice(line);
            Ok(())
        }
    })?;
    let peers = (0..100).map(|_| {
        let peer = scene.network.connect("127.0.0.1:563")?;
        Ok(TlsPeer::client(peer, client_config()))
    });
    let mut peers = peers.collect::<Result<Vec<_>>>()?;
    scene.settle()?;
    peers.iter_mut().for_each(send_output);
    neighbour.send("hello\r\n");
    // Each peer has an answer when its first message was processed.
    let mut answered = 0;
    while answered < 100 {
        scene.event_loop.run_once(std::time::Duration::ZERO)?;
        let now = peers
            .iter()
            .filter(|peer| !peer.peer.received().is_empty())
            .count();
        assert!(now <= answered + 8, "{answered} {now}");
        answered = now;
        if answered >= 16 {
            assert_eq!(neighbour.received(), b"hello", "it was served");
        }
    }
    for peer in &mut peers {
        peer.exchange(|| scene.settle().unwrap());
        peer.send("hi\r\n");
        peer.exchange(|| scene.settle().unwrap());
        assert_eq!(peer.text(), "hi\r\n");
    }
    chat.close();
    Ok(())
}

/// A server whose chooser takes this time for each client, and its clients, which have sent nothing yet.
fn slow_server(scene: &Scene, time: Duration, clients: usize) -> Result<Vec<TlsPeer>> {
    let (network, config) = (scene.network.clone(), server_config());
    let acceptor = tls::Acceptor::choosing(move |_| {
        network.spend(time);
        Some(config.clone())
    });
    Server::new("127.0.0.1:563")
        .tls(acceptor)
        .listen_on(&scene.event_loop, scene.log.session())?;
    let peers = (0..clients).map(|_| {
        let peer = scene.network.connect("127.0.0.1:563")?;
        Ok(TlsPeer::client(peer, client_config()))
    });
    let peers = peers.collect::<Result<Vec<_>>>()?;
    scene.settle()?;
    Ok(peers)
}

fn send_output(peer: &mut TlsPeer) {
    let output = peer.output();
    peer.peer.send(output);
}

#[test]
fn a_turn_ends_its_handshakes_after_five_milliseconds() -> Result {
    for (milliseconds, most) in [(0, 8), (1, 5), (2, 3), (4, 2), (100, 1)] {
        let scene = Scene::new()?;
        let mut peers = slow_server(&scene, Duration::from_millis(milliseconds), 20)?;
        peers.iter_mut().for_each(send_output);
        let mut answered = 0;
        while answered < 20 {
            scene.event_loop.run_once(Duration::ZERO)?;
            let has_answer = |peer: &&TlsPeer| !peer.peer.received().is_empty();
            let now = peers.iter().filter(has_answer).count();
            assert_eq!(now - answered, most.min(20 - answered), "{milliseconds}");
            answered = now;
        }
    }
    Ok(())
}

#[test]
fn a_client_whose_messages_wait_for_this_side_is_not_late() -> Result {
    let scene = Scene::new()?;
    let mut peers = slow_server(&scene, Duration::from_secs(3), 20)?;
    let silent = scene.network.connect("127.0.0.1:563")?;
    let mut trickling = TlsPeer::client(scene.network.connect("127.0.0.1:563")?, client_config());
    scene.settle()?;
    let trickle = trickling.output();
    peers.iter_mut().for_each(send_output);
    for byte in &trickle[..200] {
        trickling.peer.send([*byte]);
        scene.event_loop.run_once(Duration::ZERO)?;
        for peer in &mut peers {
            peer.receive();
            send_output(peer);
        }
    }
    assert!(scene.network.elapsed() >= Duration::from_secs(60));
    assert_eq!(scene.log.count("connect"), 20);
    assert!(silent.has_ended() && trickling.peer.has_ended());
    let stats = scene.event_loop.stats();
    assert_eq!((stats.handshakes, stats.handshakes_failed), (20, 2));
    Ok(())
}

#[test]
fn a_shutdown_ends_handshakes_at_once() -> Result {
    let scene = Scene::new()?;
    Server::new("127.0.0.1:563")
        .tls(server_config())
        .listen_on(&scene.event_loop, scene.log.session())?;
    let peer = scene.network.connect("127.0.0.1:563")?;
    scene.settle()?;
    scene.event_loop.shutdown(std::time::Duration::from_secs(5));
    scene.settle()?;
    assert!(peer.has_ended() && scene.event_loop.is_empty());
    Ok(())
}

#[test]
fn a_listener_that_is_closed_lets_handshakes_go_on() -> Result {
    let scene = Scene::new()?;
    let listener = Server::new("127.0.0.1:563")
        .tls(server_config())
        .listen_on(&scene.event_loop, scene.log.session())?;
    let mut peer = TlsPeer::client(scene.network.connect("127.0.0.1:563")?, client_config());
    scene.settle()?;
    listener.close();
    peer.exchange(|| scene.settle().unwrap());
    assert_eq!(scene.log.lines(), ["connect"]);
    Ok(())
}

#[test]
fn a_send_that_fails_ends_its_handshake_at_once() -> Result {
    let scene = Scene::new()?;
    Server::new("127.0.0.1:563")
        .tls(server_config())
        .listen_on(&scene.event_loop, scene.log.session())?;
    let mut peer = TlsPeer::client(scene.network.connect("127.0.0.1:563")?, client_config());
    scene.settle()?;
    let output = peer.output();
    peer.peer.send(output);
    let error = std::io::Error::from(std::io::ErrorKind::OutOfMemory);
    scene.network.fail(asynchat::sim::Call::Send, error);
    scene.settle()?;
    assert!(peer.peer.has_ended());
    assert_eq!(scene.event_loop.stats().handshakes_failed, 1);
    Ok(())
}

/// Each turn answers a few clients, which then send nothing more, and serves the one whose handshake is complete.
#[test]
fn hundreds_of_unfinished_handshakes_delay_nobody_by_a_turn() -> Result {
    let scene = Scene::new()?;
    serve_echo(&scene)?;
    let connect = || -> Result<TlsPeer> {
        let peer = scene.network.connect("127.0.0.1:563")?;
        Ok(TlsPeer::client(peer, client_config()))
    };
    let mut neighbour = connect()?;
    neighbour.exchange(|| scene.settle().unwrap());
    let unfinished = (0..400).map(|_| connect());
    let mut unfinished = unfinished.collect::<Result<Vec<_>>>()?;
    scene.settle()?;
    for peer in &mut unfinished {
        let hello = peer.output();
        peer.peer.send(hello);
    }
    let (mut turns, mut answered) = (0, 0);
    while answered < 400 {
        neighbour.send("hello\r\n");
        scene.event_loop.run_once(std::time::Duration::ZERO)?;
        turns += 1;
        neighbour.receive();
        assert_eq!(neighbour.text(), "hello\r\n".repeat(turns));
        // They are answered in the order of their messages.
        let others = unfinished.iter().skip(answered);
        let is_answered = |peer: &&TlsPeer| !peer.peer.received().is_empty();
        let count = others.take_while(is_answered).count();
        assert!(count <= 8, "{count} in one turn");
        answered += count;
    }
    assert_eq!(turns, 50);
    Ok(())
}

/// The key exchange of TLS 1.2 is computed when it arrives, and this side answers the rest of the flight only.
#[test]
fn key_exchanges_without_an_answer_are_counted() -> Result {
    let scene = Scene::new()?;
    Server::new("127.0.0.1:563")
        .tls(server_config())
        .listen_on(&scene.event_loop, scene.log.session())?;
    let mut peers = Vec::new();
    for _ in 0..100 {
        let peer = scene.network.connect("127.0.0.1:563")?;
        let mut peer = TlsPeer::client(peer, client_config_of(&TLS12));
        scene.settle()?;
        send_output(&mut peer);
        scene.settle()?;
        peer.receive();
        peers.push(peer);
    }
    for peer in &mut peers {
        let flight = peer.output();
        let length = usize::from(u16::from_be_bytes([flight[3], flight[4]]));
        peer.peer.send(&flight[..5 + length]);
    }
    let mut turns = 0;
    loop {
        scene.event_loop.run_once(Duration::ZERO)?;
        turns += 1;
        if scene.event_loop.next_timeout() != Some(Duration::ZERO) {
            break;
        }
    }
    assert!(turns >= 100 / 8, "all of them in {turns} turns");
    Ok(())
}

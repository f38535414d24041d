//! A peer that takes ciphertext slowly makes progress.

use std::time::Duration;

use asynchat::{Chat, Deadlines, Result, Server};

use crate::common::Slot;
use crate::scene::Scene;
use crate::tls::{TlsPeer, client_config, server_config};

const LENGTH: usize = 60_000;

/// A peer of a server with TLS, the handshake of which is complete. It has stopped reading.
fn client(scene: &Scene) -> Result<TlsPeer> {
    let mut peer = TlsPeer::client(scene.network.connect("127.0.0.1:563")?, client_config());
    peer.exchange(|| scene.settle().unwrap());
    let small = scene.network.conditions().buffer(1000);
    scene.network.set_conditions(small);
    peer.peer.stop_reading();
    Ok(peer)
}

/// It takes so many bytes a second.
fn take(scene: &Scene, peer: &TlsPeer, bytes: usize, seconds: usize) -> Result {
    for _ in 0..seconds {
        peer.peer.start_reading(bytes);
        scene.settle()?;
        peer.peer.stop_reading();
        scene.advance(1)?;
    }
    Ok(())
}

#[test]
fn a_connection_is_not_idle_while_the_peer_takes_ciphertext() -> Result {
    let scene = Scene::new()?;
    let slot = Slot::default();
    Server::new("127.0.0.1:563")
        .tls(server_config())
        .deadlines(Deadlines::default().idle(Duration::from_secs(10)))
        .listen_on(&scene.event_loop, slot.capture(scene.log.session()))?;
    let mut peer = client(&scene)?;
    slot.chat().push(vec![b'x'; LENGTH]);
    scene.settle()?;
    take(&scene, &peer, 1000, 30)?;
    assert!(!scene.log.has("close"));
    // The stage has taken all of it, and the kernel has not.
    assert!(slot.chat().queued() > LENGTH / 3);
    take(&scene, &peer, 1000, 40)?;
    peer.receive();
    assert_eq!(peer.plaintext.len(), LENGTH);
    assert_eq!(slot.chat().queued(), 0);
    scene.advance(10)?;
    assert!(scene.log.has("close Timeout"));
    Ok(())
}

/// The drain deadline asks for 64 KiB, which the stage alone can hold.
#[test]
fn the_drain_deadline_counts_what_the_kernel_has_accepted() -> Result {
    for (bytes, is_fast) in [(1000, false), (8000, true)] {
        let scene = Scene::new()?;
        let slot = Slot::default();
        Server::new("127.0.0.1:563")
            .tls(server_config())
            .deadlines(Deadlines::default().drain(Duration::from_secs(10)))
            .listen_on(&scene.event_loop, slot.capture(scene.log.session()))?;
        let peer = client(&scene)?;
        let small = scene.network.conditions().buffer(10_000);
        scene.network.set_conditions(small);
        slot.chat().push(vec![b'x'; 1_000_000]);
        scene.settle()?;
        take(&scene, &peer, bytes, 30)?;
        assert_eq!(!scene.log.has("close Timeout"), is_fast, "{bytes}");
    }
    Ok(())
}

#[test]
fn what_a_failed_session_has_pushed_reaches_a_slow_peer() -> Result {
    let scene = Scene::new()?;
    let fail = |chat: &Chat, _: &[u8]| {
        chat.push(vec![b'x'; LENGTH]);
        Err("failed".into())
    };
    Server::new("127.0.0.1:563")
        .tls(server_config())
        .listen_on(&scene.event_loop, scene.log.session_with(fail))?;
    let mut peer = client(&scene)?;
    peer.send("go\r\n");
    scene.settle()?;
    take(&scene, &peer, 1000, 70)?;
    peer.receive();
    assert_eq!(peer.plaintext.len(), LENGTH);
    assert!(scene.log.has("close Handler"));
    Ok(())
}

//! A server for one connection: it waits for one that completes its handshake.

use std::time::Duration;

use asynchat::{Channel, Result, Server};

use crate::common::name;
use crate::scene::Scene;
use crate::tls::{TlsPeer, client_config, server_config};

fn serve_once(scene: &Scene) -> Result<Channel> {
    let log = scene.log.clone();
    let listener = Server::new("127.0.0.1:990")
        .tls(server_config())
        .once(Duration::from_secs(8))
        .on_close(move |why| log.add(format!("listener {}", name(why))))
        .listen_on(&scene.event_loop, scene.log.session())?;
    Ok(listener)
}

#[test]
fn a_connection_without_a_handshake_does_not_take_the_place_of_the_client() -> Result {
    let scene = Scene::new()?;
    serve_once(&scene)?;
    let silent = scene.network.connect("127.0.0.1:990")?;
    let plaintext = scene.network.connect("127.0.0.1:990")?;
    plaintext.send("hello\r\n");
    scene.settle()?;
    assert!(plaintext.has_ended() && !silent.has_ended());
    let mut late = TlsPeer::client(scene.network.connect("127.0.0.1:990")?, client_config());
    let mut client = TlsPeer::client(scene.network.connect("127.0.0.1:990")?, client_config());
    client.exchange(|| scene.settle().unwrap());
    assert_eq!(scene.log.lines(), ["connect", "listener Local"]);
    // There is one session.
    late.exchange(|| scene.settle().unwrap());
    assert!(late.peer.has_ended());
    client.send("list\r\n");
    client.exchange(|| scene.settle().unwrap());
    let expected = ["connect", "listener Local", "record list"];
    assert_eq!(scene.log.lines(), expected);
    let stats = scene.event_loop.stats();
    assert_eq!(
        stats.opened - stats.closed,
        2,
        "the client and the silent one"
    );
    scene.advance(10)?;
    assert!(silent.has_ended());
    Ok(())
}

#[test]
fn a_handshake_that_is_completed_after_the_time_makes_no_session() -> Result {
    let scene = Scene::new()?;
    serve_once(&scene)?;
    let mut client = TlsPeer::client(scene.network.connect("127.0.0.1:990")?, client_config());
    scene.settle()?;
    scene.advance(8)?;
    client.exchange(|| scene.settle().unwrap());
    assert_eq!(scene.log.lines(), ["listener Timeout"]);
    assert!(client.peer.has_ended() && scene.event_loop.is_empty());
    Ok(())
}

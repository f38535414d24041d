//! A shutdown of the loop while a connection begins TLS.

use std::time::Duration;

use asynchat::{AsyncChat, AtShutdown, Channel, Chat, Close, Dispatcher, Result};

use crate::common::{Log, name};
use crate::scene::Scene;
use crate::tls::{TlsPeer, client_config, server_config};

struct Session(Chat, Log);

impl AsyncChat for Session {
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(())
    }
    fn handle_timer(&mut self, _: asynchat::TimerId) -> Result {
        self.1.add("timer");
        Ok(())
    }
    fn handle_tls(&mut self) -> Result {
        self.1.add("tls");
        Ok(())
    }
    fn handle_shutdown(&mut self) -> Result<AtShutdown> {
        self.1.add("shutdown");
        self.0.push("421 bye\r\n");
        Ok(AtShutdown::CloseWhenDone)
    }
    fn handle_close(&mut self, why: &Close) {
        self.1.add(format!("close {}", name(why)));
    }
}

/// A connection that has begun TLS, with a result for it.
fn upgrading(scene: &Scene) -> Result<(Chat, TlsPeer)> {
    let log = scene.log.clone();
    let (chat, peer) = scene.connection(move |chat| Session(chat, log))?;
    chat.start_tls(server_config())?;
    chat.push("result\r\n");
    Ok((chat, TlsPeer::client(peer, client_config())))
}

#[test]
fn what_was_pushed_for_tls_arrives() -> Result {
    for is_handshaking in [false, true] {
        let scene = Scene::new()?;
        let (chat, mut peer) = upgrading(&scene)?;
        if is_handshaking {
            scene.settle()?;
            // A callback does not use the request up.
            chat.call_later(Duration::from_secs(1));
        }
        scene.event_loop.shutdown(Duration::from_secs(60));
        scene.settle()?;
        scene.advance(1)?;
        peer.exchange(|| scene.settle().unwrap());
        assert_eq!(peer.text(), "result\r\n421 bye\r\n");
        assert!(peer.is_closed());
        let expected: &[&str] = if is_handshaking {
            &["timer", "tls", "shutdown", "close Shutdown"]
        } else {
            &["shutdown", "tls", "close Shutdown"]
        };
        assert_eq!(scene.log.lines(), expected);
    }
    Ok(())
}

/// Begins TLS, and has something to send when it is up.
struct Upgrading(Channel, Log, &'static [u8]);

impl Dispatcher for Upgrading {
    fn channel(&self) -> &Channel {
        &self.0
    }
    fn writable(&self) -> bool {
        !self.2.is_empty()
    }
    fn handle_tls(&mut self) -> Result {
        self.1.add("tls");
        self.2 = b"result\r\n";
        Ok(())
    }
    fn handle_write(&mut self) -> Result {
        let sent = self.0.send(self.2)?;
        self.2 = &self.2[sent..];
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.1.add(format!("close {}", name(why)));
    }
}

#[test]
fn a_dispatcher_sends_what_it_has_when_tls_is_up() -> Result {
    let scene = Scene::new()?;
    let (socket, peer) = scene.network.pair();
    let channel = Channel::adopt(socket)?;
    let log = scene.log.clone();
    scene
        .event_loop
        .register(Upgrading(channel.clone(), log, b""))?;
    channel.start_tls(server_config())?;
    scene.settle()?;
    scene.event_loop.shutdown(Duration::from_secs(60));
    let mut peer = TlsPeer::client(peer, client_config());
    peer.exchange(|| scene.settle().unwrap());
    assert_eq!(peer.text(), "result\r\n");
    assert!(peer.is_closed());
    assert_eq!(scene.log.lines(), ["tls", "close Shutdown"]);
    Ok(())
}

#[test]
fn the_grace_bounds_the_handshake() -> Result {
    let scene = Scene::new()?;
    let (_chat, peer) = upgrading(&scene)?;
    scene.settle()?;
    scene.event_loop.shutdown(Duration::from_secs(3));
    scene.advance(2)?;
    assert!(scene.log.lines().is_empty());
    scene.advance(1)?;
    assert_eq!(scene.log.lines(), ["close Interrupted"]);
    assert!(peer.peer.has_ended() && scene.event_loop.is_empty());
    Ok(())
}

#[test]
fn a_handshake_that_comes_first_ends_at_once() -> Result {
    let scene = Scene::new()?;
    asynchat::Server::new("127.0.0.1:563")
        .tls(server_config())
        .listen_on(&scene.event_loop, scene.log.session())?;
    let peer = scene.network.connect("127.0.0.1:563")?;
    scene.settle()?;
    scene.event_loop.shutdown(Duration::from_secs(60));
    scene.settle()?;
    assert!(peer.has_ended());
    Ok(())
}

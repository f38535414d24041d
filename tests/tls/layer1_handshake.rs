//! Calls on a dispatcher's channel during a handshake in the middle of the connection.

use std::io::ErrorKind;
use std::time::Duration;

use asynchat::{Channel, Close, Dispatcher, Result, TimerId};

use crate::common::{Log, name};
use crate::scene::Scene;
use crate::tls::{TlsPeer, client_config, server_config};

/// Reads until nothing is left, also behind `STARTTLS`, and sends what it has when a timer fires.
struct Looping {
    channel: Channel,
    output: Vec<u8>,
    log: Log,
}

impl Dispatcher for Looping {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn writable(&self) -> bool {
        !self.output.is_empty()
    }
    fn handle_read(&mut self) -> Result {
        let mut buffer = [0; 100];
        loop {
            let count = self.channel.recv(&mut buffer)?;
            let received = String::from_utf8_lossy(&buffer[..count]);
            self.log.add(format!("read {received}"));
            if count == 0 {
                return Ok(());
            }
            if received == "STARTTLS" {
                self.channel.send(b"go ahead")?;
                self.channel.start_tls(server_config())?;
                self.channel.call_later(Duration::from_secs(1));
            }
        }
    }
    fn handle_write(&mut self) -> Result {
        let count = self.channel.send(&self.output)?;
        self.output.drain(..count);
        Ok(())
    }
    fn handle_timer(&mut self, _: TimerId) -> Result {
        self.output = b"keep-alive".to_vec();
        self.handle_write()
    }
    fn handle_tls(&mut self) -> Result {
        self.log.add("tls");
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(format!("close {}", name(why)));
    }
}

/// A channel in a handshake that the first byte has not reached, and its peer.
fn upgrading(scene: &Scene) -> Result<(Channel, TlsPeer)> {
    let (socket, peer) = scene.network.pair();
    let channel = Channel::adopt(socket)?;
    scene.event_loop.register(Looping {
        channel: channel.clone(),
        output: Vec::new(),
        log: scene.log.clone(),
    })?;
    peer.send("STARTTLS");
    scene.settle()?;
    assert_eq!(peer.take_received(), b"go ahead");
    assert_eq!(scene.log.lines(), ["read STARTTLS"]);
    Ok((channel, TlsPeer::client(peer, client_config())))
}

#[test]
fn receiving_and_sending_wait_for_tls() -> Result {
    let scene = Scene::new()?;
    let (channel, mut peer) = upgrading(&scene)?;
    let received = channel.recv(&mut [0; 10]).map_err(|error| error.kind());
    assert_eq!(received, Err(ErrorKind::WouldBlock));
    let sent = channel.send(b"x").map_err(|error| error.kind());
    assert_eq!(sent, Err(ErrorKind::WouldBlock));
    channel.set_nodelay(true)?;
    scene.advance(2)?;
    peer.exchange(|| scene.settle().unwrap());
    peer.send("hello");
    peer.exchange(|| scene.settle().unwrap());
    assert_eq!(scene.log.lines(), ["read STARTTLS", "tls", "read hello"]);
    assert_eq!(peer.text(), "keep-alive");
    Ok(())
}

#[test]
fn a_shutdown_of_the_sending_side_waits_for_tls() -> Result {
    let scene = Scene::new()?;
    let (channel, mut peer) = upgrading(&scene)?;
    channel.shutdown_write()?;
    let sent = channel.send(b"x").map_err(|error| error.kind());
    assert_eq!(sent, Err(ErrorKind::BrokenPipe));
    scene.settle()?;
    assert!(!peer.peer.has_ended());
    peer.exchange(|| scene.settle().unwrap());
    assert!(peer.is_closed() && peer.peer.has_ended());
    peer.send("hello");
    peer.exchange(|| scene.settle().unwrap());
    assert_eq!(scene.log.lines(), ["read STARTTLS", "tls", "read hello"]);
    Ok(())
}

#[test]
fn a_channel_that_was_never_up_is_not_connected() -> Result {
    let scene = Scene::new()?;
    let (socket, _peer) = scene.network.pair();
    let channel = Channel::adopt(asynchat::Socket::connecting(socket))?;
    channel.start_tls(asynchat::tls::Client::from(client_config()).name("localhost"))?;
    scene.event_loop.register(Looping {
        channel: channel.clone(),
        output: Vec::new(),
        log: scene.log.clone(),
    })?;
    scene.settle()?;
    let sent = channel.send(b"x").map_err(|error| error.kind());
    assert_eq!(sent, Err(ErrorKind::NotConnected));
    let received = channel.recv(&mut [0; 10]).map_err(|error| error.kind());
    assert_eq!(received, Err(ErrorKind::NotConnected));
    Ok(())
}

//! TLS over two descriptors, one for input and one for output.

use std::io::Read;

use asynchat::sim::Peer;
use asynchat::{Channel, Close, Connector, Dispatcher, Result, Socket};

use crate::common::{Log, Slot, name};
use crate::scene::Scene;
use crate::tls::{TlsPeer, client_config, server_config};

/// The peer sends to the one, and receives from the other.
struct Halves {
    input: TlsPeer,
    output: Peer,
}

impl Halves {
    fn receive(&mut self) -> Result<bool> {
        let received = self.output.take_received();
        let mut left = &received[..];
        while !left.is_empty() {
            self.input.tls.read_tls(&mut left)?;
            let state = self.input.tls.process_new_packets()?;
            let mut plaintext = vec![0; state.plaintext_bytes_to_read()];
            self.input.tls.reader().read_exact(&mut plaintext)?;
            self.input.plaintext.append(&mut plaintext);
        }
        Ok(!received.is_empty())
    }

    fn exchange(&mut self, scene: &Scene) -> Result {
        loop {
            let output = self.input.output();
            self.input.peer.send(&output);
            scene.settle()?;
            if !self.receive()? && output.is_empty() {
                return Ok(());
            }
        }
    }
}

fn halves(scene: &Scene) -> (Socket, Halves) {
    let (input, peer_in) = scene.network.pair();
    let (output, peer_out) = scene.network.pair();
    let peer = Halves {
        input: TlsPeer::client(peer_in, client_config()),
        output: peer_out,
    };
    (Socket::halves(input, output), peer)
}

/// Sends a lot, and closes.
struct Sender {
    channel: Channel,
    log: Log,
}

impl Dispatcher for Sender {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn handle_tls(&mut self) -> Result {
        self.log.add("tls");
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(format!("close {}", name(why)));
    }
}

#[test]
fn what_send_has_accepted_arrives_after_a_close() -> Result {
    let scene = Scene::new()?;
    let (socket, mut peer) = halves(&scene);
    let channel = Channel::adopt(socket)?;
    channel.start_tls(server_config())?;
    scene.event_loop.register(Sender {
        channel: channel.clone(),
        log: scene.log.clone(),
    })?;
    peer.exchange(&scene)?;
    let small = scene.network.conditions().buffer(1000);
    scene.network.set_conditions(small);
    peer.output.stop_reading();
    assert_eq!(channel.send(&[b'x'; 50_000])?, 50_000);
    channel.close();
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["tls", "close Local"]);
    for _ in 0..100 {
        peer.output.start_reading(1000);
        scene.settle()?;
        peer.receive()?;
    }
    assert_eq!(peer.input.plaintext.len(), 50_000);
    assert!(peer.input.is_closed() && peer.output.has_ended());
    assert!(scene.event_loop.is_empty());
    Ok(())
}

/// The descriptor for input may be a socket, which would send.
#[test]
fn an_alert_does_not_leave_through_the_input() -> Result {
    for is_shut_down in [false, true] {
        let scene = Scene::new()?;
        let (socket, mut peer) = halves(&scene);
        let slot = Slot::default();
        Connector::adopt(socket)
            .connect_on(&scene.event_loop, slot.capture(scene.log.session()))?;
        scene.settle()?;
        let chat = slot.chat();
        chat.start_tls(server_config())?;
        scene.settle()?;
        peer.exchange(&scene)?;
        if is_shut_down {
            chat.shutdown_write();
            scene.settle()?;
        } else {
            peer.output.reset();
            chat.push("x\r\n");
            scene.settle()?;
        }
        let mut broken = peer.input.encrypt(b"x\r\n");
        if let Some(last) = broken.last_mut() {
            *last ^= 1;
        }
        peer.input.peer.send(broken);
        scene.settle()?;
        assert!(peer.input.peer.received().is_empty());
        assert!(scene.log.has("close"));
    }
    Ok(())
}

//! TLS on layer 1.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use asynchat::{Addr, Channel, Close, Dispatcher, Result, Socket, tls};

use crate::common::{Log, name};
use crate::scene::Scene;
use crate::tls::{TlsPeer, client_config, server_config};

/// Sends back what it receives, and answers to `STARTTLS`.
struct Echo {
    channel: Channel,
    log: Log,
    output: Vec<u8>,
}

impl Dispatcher for Echo {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn writable(&self) -> bool {
        !self.output.is_empty()
    }
    fn handle_connect(&mut self) -> Result {
        self.log.add("connect");
        Ok(())
    }
    fn handle_tls(&mut self) -> Result {
        self.log
            .add(format!("tls {}", self.channel.tls().is_some()));
        Ok(())
    }
    fn handle_read(&mut self) -> Result {
        // A small buffer, so that plaintext is left.
        let mut buffer = [0; 10];
        let count = self.channel.recv(&mut buffer)?;
        let received = &buffer[..count];
        self.log
            .add(format!("read {}", String::from_utf8_lossy(received)));
        if received == b"STARTTLS" {
            self.channel.send(b"go ahead")?;
            self.channel.start_tls(server_config())?;
        } else {
            self.output.extend_from_slice(received);
        }
        Ok(())
    }
    fn handle_write(&mut self) -> Result {
        let count = self.channel.send(&self.output)?;
        self.output.drain(..count);
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(format!("close {}", name(why)));
    }
}

fn echo(scene: &Scene, socket: impl Into<Socket>, starts: bool) -> Result<Channel> {
    let channel = Channel::adopt(socket)?;
    if starts {
        channel.start_tls(server_config())?;
    }
    let log = scene.log.clone();
    let output = Vec::new();
    scene.event_loop.register(Echo {
        channel: channel.clone(),
        log,
        output,
    })?;
    Ok(channel)
}

#[test]
fn a_dispatcher_that_begins_with_tls_echoes() -> Result {
    let scene = Scene::new()?;
    let (socket, peer) = scene.network.pair();
    let channel = echo(&scene, socket, true)?;
    let mut peer = TlsPeer::client(peer, client_config());
    peer.exchange(|| scene.settle().unwrap());
    assert_eq!(scene.log.lines(), ["tls true"]);
    peer.send("more than ten bytes");
    peer.exchange(|| scene.settle().unwrap());
    assert_eq!(peer.text(), "more than ten bytes");
    assert!(channel.send_urgent(b"!").is_err());
    assert!(channel.release().is_err());
    let end = peer.close_notify();
    peer.peer.send(end);
    peer.exchange(|| scene.settle().unwrap());
    let expected = [
        "tls true",
        "read more than ",
        "read ten bytes",
        "read ",
        "close Eof",
    ];
    assert_eq!(scene.log.lines(), expected);
    assert!(peer.is_closed());
    Ok(())
}

#[test]
fn a_dispatcher_begins_tls_in_the_middle() -> Result {
    let scene = Scene::new()?;
    let (socket, peer) = scene.network.pair();
    echo(&scene, socket, false)?;
    peer.send("STARTTLS");
    scene.settle()?;
    assert_eq!(peer.take_received(), b"go ahead");
    let mut peer = TlsPeer::client(peer, client_config());
    peer.exchange(|| scene.settle().unwrap());
    peer.send("hello");
    peer.exchange(|| scene.settle().unwrap());
    assert_eq!(peer.text(), "hello");
    assert_eq!(
        scene.log.lines(),
        ["read STARTTLS", "tls true", "read hello"]
    );
    Ok(())
}

#[test]
fn a_stream_that_is_cut_is_truncated() -> Result {
    let scene = Scene::new()?;
    let (socket, peer) = scene.network.pair();
    echo(&scene, socket, true)?;
    let mut peer = TlsPeer::client(peer, client_config());
    peer.exchange(|| scene.settle().unwrap());
    peer.send("hello");
    peer.peer.finish();
    peer.exchange(|| scene.settle().unwrap());
    assert_eq!(
        scene.log.lines(),
        ["tls true", "read hello", "close Truncated"]
    );
    assert_eq!(peer.text(), "hello");
    Ok(())
}

/// Reads and ignores every error.
struct Careless {
    channel: Channel,
    log: Log,
}

impl Dispatcher for Careless {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn handle_read(&mut self) -> Result {
        match self.channel.recv(&mut [0; 100]) {
            Ok(_) => self.log.add("read"),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.log.add("error"),
        }
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(format!("close {}", name(why)));
    }
}

#[test]
fn an_error_that_is_ignored_ends_the_channel_for_its_reason() -> Result {
    for is_broken in [false, true] {
        let scene = Scene::new()?;
        let (socket, peer) = scene.network.pair();
        let channel = Channel::adopt(socket)?;
        channel.start_tls(server_config())?;
        let log = scene.log.clone();
        scene.event_loop.register(Careless { channel, log })?;
        let mut peer = TlsPeer::client(peer, client_config());
        peer.exchange(|| scene.settle().unwrap());
        if is_broken {
            peer.peer.send([23, 3, 3, 0, 1, 0]);
        } else {
            peer.peer.finish();
        }
        scene.settle()?;
        let why = if is_broken {
            "close Tls"
        } else {
            "close Truncated"
        };
        assert_eq!(scene.log.lines(), ["error", why]);
    }
    Ok(())
}

/// Connects, says hello, and half-closes.
struct Caller {
    channel: Channel,
    log: Rc<RefCell<Vec<String>>>,
}

impl Dispatcher for Caller {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn handle_connect(&mut self) -> Result {
        let secured = self.channel.tls().is_some();
        self.log.borrow_mut().push(format!("connect {secured}"));
        self.channel.send(b"hello")?;
        self.channel.shutdown_write()?;
        Ok(())
    }
    fn handle_accepted(&mut self, _: Socket, _: Addr) -> Result {
        Ok(())
    }
    fn handle_read(&mut self) -> Result {
        let mut buffer = [0; 100];
        let count = self.channel.recv(&mut buffer)?;
        let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
        self.log.borrow_mut().push(format!("read {text}"));
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.borrow_mut().push(format!("close {why}"));
    }
}

#[test]
fn an_outgoing_channel_is_connected_after_its_handshake() -> Result {
    let scene = Scene::new()?;
    let (socket, peer) = scene.network.pair();
    let channel = Channel::adopt(Socket::connecting(socket))?;
    channel.start_tls(tls::Client::from(client_config()).name("localhost"))?;
    let log: Rc<RefCell<Vec<String>>> = Rc::default();
    let caller = Caller {
        channel,
        log: Rc::clone(&log),
    };
    scene.event_loop.register(caller)?;
    let mut peer = TlsPeer::server(peer);
    peer.exchange(|| scene.settle().unwrap());
    assert_eq!(peer.text(), "hello");
    assert!(peer.is_closed());
    peer.send("good day");
    let end = peer.close_notify();
    peer.peer.send(end);
    peer.exchange(|| scene.settle().unwrap());
    let expected = [
        "connect true",
        "read good day",
        "read ",
        "close the peer closed the connection",
    ];
    assert_eq!(*log.borrow(), expected);
    Ok(())
}

#[test]
fn a_datagram_socket_has_no_tls() -> Result {
    let channel = Channel::bind("127.0.0.1:0")?;
    let outcome = channel.start_tls(server_config());
    assert!(outcome.is_err_and(|error| error.to_string().contains("stream")));
    Ok(())
}

#[test]
fn tls_begins_once_on_a_channel_that_is_not_up() -> Result {
    let scene = Scene::new()?;
    let (socket, peer) = scene.network.pair();
    let channel = Channel::adopt(Socket::connecting(socket))?;
    channel.start_tls(tls::Client::from(client_config()).name("localhost"))?;
    let again = channel.start_tls(tls::Client::from(client_config()).name("other.example"));
    assert!(again.is_err());
    scene.event_loop.register(Idle(channel.clone()))?;
    let mut peer = TlsPeer::server(peer);
    peer.exchange(|| scene.settle().unwrap());
    assert!(channel.tls().is_some(), "with the first name");
    Ok(())
}

/// Reads nothing.
struct Idle(Channel);

impl Dispatcher for Idle {
    fn channel(&self) -> &Channel {
        &self.0
    }
    fn readable(&self) -> bool {
        false
    }
}

#[test]
fn tls_does_not_begin_when_nothing_can_be_sent_any_more() -> Result {
    let scene = Scene::new()?;
    let (socket, _peer) = scene.network.pair();
    let channel = Channel::adopt(socket)?;
    scene.event_loop.register(Idle(channel.clone()))?;
    scene.settle()?;
    channel.shutdown_write()?;
    let error = channel.start_tls(server_config()).unwrap_err();
    assert_eq!(error.to_string(), "nothing can be sent any more");
    // Two descriptors: the one for output is closed.
    let ((input, _peer), (output, _other)) = (scene.network.pair(), scene.network.pair());
    let channel = Channel::adopt(Socket::halves(input, output))?;
    scene.event_loop.register(Idle(channel.clone()))?;
    scene.settle()?;
    channel.shutdown_write()?;
    assert!(channel.start_tls(server_config()).is_err());
    Ok(())
}

#[test]
fn what_came_before_a_broken_record_is_received_although_the_reply_fails() -> Result {
    let scene = Scene::new()?;
    let (socket, peer) = scene.network.pair();
    let _channel = echo(&scene, socket, true)?;
    let mut peer = TlsPeer::client(peer, client_config());
    peer.exchange(|| scene.settle().unwrap());
    let mut bytes = peer.encrypt(b"0123456789abcdefghij");
    let mut broken = peer.encrypt(b"x");
    *broken.last_mut().unwrap() ^= 1;
    bytes.append(&mut broken);
    peer.peer.send(bytes);
    scene.settle()?;
    let lines = scene.log.lines();
    let expected = ["read 0123456789", "read abcdefghij", "close Tls"];
    assert!(lines.ends_with(&expected.map(str::to_owned)), "{lines:?}");
    Ok(())
}

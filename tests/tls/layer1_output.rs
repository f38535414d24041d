//! What a dispatcher has sent with TLS, and how it ends.

use std::io::{self, Read};
use std::thread;
use std::time::Duration;

use asynchat::tls::ServerName;
use asynchat::tls::rustls::{ClientConnection, Stream};
use asynchat::{Channel, Close, Deadlines, Dispatcher, Result, TimerId};

use crate::common::{Log, name, new_loop, run_to_end, tcp_pair};
use crate::scene::Scene;
use crate::tls::{TlsPeer, client_config, server_config};

const LENGTH: usize = 50_000;

/// Sends its output, then closes if it is to.
struct Sender {
    channel: Channel,
    output: Vec<u8>,
    closes: bool,
    log: Log,
}

impl Dispatcher for Sender {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn writable(&self) -> bool {
        !self.output.is_empty()
    }
    fn handle_read(&mut self) -> Result {
        self.channel.recv(&mut [0; 100])?;
        Ok(())
    }
    fn handle_write(&mut self) -> Result {
        let count = self.channel.send(&self.output)?;
        self.output.drain(..count);
        if self.output.is_empty() && self.closes {
            self.channel.close();
        }
        Ok(())
    }
    fn handle_timer(&mut self, _: TimerId) -> Result {
        self.channel.send(b"half of ")?;
        Err("failed in the middle".into())
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(format!("close {}", name(why)));
    }
}

/// A channel with TLS whose peer reads slowly, and its peer.
fn connection(scene: &Scene, closes: bool) -> Result<(Channel, TlsPeer)> {
    let (socket, peer) = scene.network.pair();
    let channel = Channel::adopt(socket)?;
    channel.start_tls(server_config())?;
    scene.event_loop.register(Sender {
        channel: channel.clone(),
        output: Vec::new(),
        closes,
        log: scene.log.clone(),
    })?;
    let mut peer = TlsPeer::client(peer, client_config());
    peer.exchange(|| scene.settle().unwrap());
    let small = scene.network.conditions().buffer(1000);
    scene.network.set_conditions(small);
    peer.peer.stop_reading();
    Ok((channel, peer))
}

fn send(scene: &Scene, channel: &Channel, count: usize) -> Result {
    channel.post(move |sender: &mut Sender| {
        sender.output = vec![b'x'; count];
        Ok(())
    })?;
    scene.settle()?;
    Ok(())
}

/// The peer reads a little at a time, until nothing comes any more.
fn read_slowly(scene: &Scene, peer: &mut TlsPeer) -> Result {
    for _ in 0..2 * LENGTH / 1000 {
        peer.peer.start_reading(1000);
        scene.settle()?;
    }
    peer.receive();
    Ok(())
}

#[test]
fn what_send_has_accepted_arrives_after_a_close() -> Result {
    for linger in [0, 2] {
        let scene = Scene::new()?;
        let (channel, mut peer) = connection(&scene, true)?;
        let linger = Duration::from_secs(linger);
        channel.set_deadlines(Deadlines::default().linger(linger));
        send(&scene, &channel, LENGTH)?;
        assert_eq!(scene.log.lines(), ["close Local"]);
        read_slowly(&scene, &mut peer)?;
        assert_eq!(peer.plaintext.len(), LENGTH);
        assert!(peer.is_closed(), "the end is announced");
        peer.peer.finish();
        scene.advance(5)?;
        assert!(scene.event_loop.is_empty());
    }
    Ok(())
}

#[test]
fn it_arrives_after_the_end_of_the_input() -> Result {
    for announces in [false, true] {
        let scene = Scene::new()?;
        let (channel, mut peer) = connection(&scene, false)?;
        send(&scene, &channel, LENGTH)?;
        if announces {
            let end = peer.close_notify();
            peer.peer.send(end);
        }
        peer.peer.finish();
        scene.settle()?;
        read_slowly(&scene, &mut peer)?;
        assert_eq!(peer.plaintext.len(), LENGTH);
        let why = if announces { "Eof" } else { "Truncated" };
        assert_eq!(scene.log.lines(), [format!("close {why}")]);
        assert!(scene.event_loop.is_empty());
    }
    Ok(())
}

/// The same on a socket of the system, which reports room only when much of its buffer is free.
#[test]
fn it_arrives_on_a_socket_of_the_system() -> Result {
    const LONG: usize = 3 << 20;
    let event_loop = new_loop();
    let (here, mut there) = tcp_pair();
    let channel = Channel::adopt(here)?;
    channel.start_tls(server_config())?;
    let log = Log::default();
    event_loop.register(Sender {
        channel: channel.clone(),
        output: vec![b'x'; LONG],
        closes: true,
        log: log.clone(),
    })?;
    let reader = thread::spawn(move || {
        let name = ServerName::try_from("localhost").expect("a name");
        let mut tls = ClientConnection::new(client_config(), name).expect("a configuration");
        while tls.is_handshaking() {
            tls.complete_io(&mut there).expect("a handshake");
        }
        let mut received = Vec::new();
        let ended = Stream::new(&mut tls, &mut there).read_to_end(&mut received);
        (received.len(), ended.is_ok())
    });
    run_to_end(&event_loop);
    assert_eq!(reader.join().ok(), Some((LONG, true)));
    assert_eq!(log.lines(), ["close Local"]);
    Ok(())
}

#[test]
fn a_peer_that_takes_nothing_is_given_up() -> Result {
    let scene = Scene::new()?;
    let (channel, _peer) = connection(&scene, true)?;
    send(&scene, &channel, LENGTH)?;
    assert_eq!(scene.log.lines(), ["close Local"]);
    assert_eq!(scene.event_loop.len(), 1);
    scene.advance(10)?;
    assert!(scene.event_loop.is_empty());
    Ok(())
}

#[test]
fn a_loop_that_is_dropped_announces_no_end() -> Result {
    let scene = Scene::new()?;
    let (channel, mut peer) = connection(&scene, false)?;
    channel.send(b"half of ")?;
    drop(scene.event_loop);
    peer.peer.start_reading(usize::MAX);
    peer.receive();
    assert_eq!(peer.text(), "half of ");
    assert!(!peer.is_closed());
    Ok(())
}

#[test]
fn an_abort_drops_it() -> Result {
    let scene = Scene::new()?;
    let (channel, mut peer) = connection(&scene, false)?;
    send(&scene, &channel, LENGTH)?;
    channel.abort();
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["close Dropped"]);
    assert!(scene.event_loop.is_empty());
    read_slowly(&scene, &mut peer)?;
    assert!(peer.plaintext.len() < LENGTH && !peer.is_closed());
    Ok(())
}

/// The end of the sending side is announced after everything that was accepted, and nothing follows it.
#[test]
fn a_shutdown_waits_for_what_send_has_accepted() -> Result {
    for length in [0, 10, LENGTH] {
        let scene = Scene::new()?;
        let (channel, mut peer) = connection(&scene, false)?;
        if length > 0 {
            assert_eq!(channel.send(&vec![b'x'; length])?, length);
        }
        channel.shutdown_write()?;
        let late = channel.send(b"late").map_err(|error| error.kind());
        assert_eq!(late, Err(io::ErrorKind::BrokenPipe), "{length}");
        read_slowly(&scene, &mut peer)?;
        assert_eq!(peer.plaintext.len(), length);
        assert!(peer.is_closed() && peer.peer.has_ended(), "{length}");
        let late = channel.send(b"late").map_err(|error| error.kind());
        assert_eq!(late, Err(io::ErrorKind::BrokenPipe), "{length}");
        // The other direction goes on.
        peer.send("more");
        scene.settle()?;
        assert_eq!(channel.stats().bytes_in, 4);
        assert!(scene.log.lines().is_empty());
    }
    Ok(())
}

#[test]
fn a_close_behind_a_shutdown_that_waits_loses_nothing() -> Result {
    let scene = Scene::new()?;
    let (channel, mut peer) = connection(&scene, false)?;
    assert_eq!(channel.send(&[b'x'; LENGTH])?, LENGTH);
    channel.shutdown_write()?;
    channel.close();
    scene.settle()?;
    read_slowly(&scene, &mut peer)?;
    assert_eq!(peer.plaintext.len(), LENGTH);
    assert!(peer.is_closed());
    Ok(())
}

/// The dispatcher may have sent a half of something: the peer must not take it for whole.
#[test]
fn an_end_that_the_dispatcher_has_not_chosen_is_not_announced() -> Result {
    type End = fn(&Channel) -> Result;
    let ends: [(&str, End); 5] = [
        ("close Handler", |channel| {
            channel.call_later(Duration::from_secs(1));
            Ok(())
        }),
        ("close Handler", |channel| {
            channel.send(b"half of ")?;
            channel.close_with("failed");
            Ok(())
        }),
        ("close Panic", |channel| {
            channel.send(b"half of ")?;
            channel.post(|_: &mut Sender| panic!("in the middle"))?;
            Ok(())
        }),
        ("close Timeout", |channel| {
            channel.send(b"half of ")?;
            channel.set_idle_timeout(Duration::from_secs(1));
            Ok(())
        }),
        ("close Local", |channel| {
            channel.send(b"half of ")?;
            channel.close();
            Ok(())
        }),
    ];
    for (expected, end) in ends {
        let scene = Scene::new()?;
        let (channel, mut peer) = connection(&scene, false)?;
        end(&channel)?;
        scene.settle()?;
        scene.advance(1)?;
        assert_eq!(scene.log.lines(), [expected]);
        peer.peer.start_reading(usize::MAX);
        peer.exchange(|| scene.settle().unwrap());
        assert_eq!(peer.text(), "half of ", "{expected}");
        assert_eq!(peer.is_closed(), expected == "close Local", "{expected}");
        assert!(peer.peer.has_ended());
    }
    Ok(())
}

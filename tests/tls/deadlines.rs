//! The deadline of a handshake.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{Channel, Chat, Connector, Deadlines, Dispatcher, Result, Server, Terminator, tls};

use crate::common::Slot;
use crate::scene::Scene;
use crate::tls::{TlsPeer, client_config, server_config};

#[test]
fn a_handshake_takes_ten_seconds_at_most_unless_another_time_is_set() -> Result {
    let times = [
        (Deadlines::default(), Some(10)),
        (
            Deadlines::default().handshake(Duration::from_secs(3)),
            Some(3),
        ),
        (Deadlines::default().handshake(None), None),
    ];
    for (deadlines, seconds) in times {
        let scene = Scene::new()?;
        Server::new("127.0.0.1:563")
            .tls(server_config())
            .deadlines(deadlines)
            .listen_on(&scene.event_loop, scene.log.session())?;
        let silent = scene.network.connect("127.0.0.1:563")?;
        let mut slow = TlsPeer::client(scene.network.connect("127.0.0.1:563")?, client_config());
        let hello = slow.output();
        slow.peer.send(&hello[..100]);
        scene.settle()?;
        let Some(seconds) = seconds else {
            scene.advance(1000)?;
            assert!(!silent.has_ended() && !slow.peer.has_ended());
            continue;
        };
        scene.advance(seconds - 1)?;
        // A byte at a time extends nothing.
        slow.peer.send(&hello[100..200]);
        scene.settle()?;
        assert!(!silent.has_ended() && !slow.peer.has_ended());
        scene.advance(1)?;
        assert!(silent.has_ended() && slow.peer.has_ended());
        let stats = scene.event_loop.stats();
        assert_eq!((stats.closes.timeout, stats.handshakes_failed), (2, 2));
        assert!(scene.log.lines().is_empty());
    }
    Ok(())
}

#[test]
fn the_deadline_ends_with_the_handshake() -> Result {
    let scene = Scene::new()?;
    Server::new("127.0.0.1:563")
        .tls(server_config())
        .deadlines(Deadlines::default().idle(Duration::from_secs(100)))
        .listen_on(&scene.event_loop, scene.log.session())?;
    let mut peer = TlsPeer::client(scene.network.connect("127.0.0.1:563")?, client_config());
    scene.advance(9)?;
    peer.exchange(|| scene.settle().unwrap());
    scene.advance(99)?;
    assert_eq!(scene.log.lines(), ["connect"]);
    // The idle time begins with the connection.
    scene.advance(1)?;
    assert_eq!(scene.log.lines(), ["connect", "close Timeout"]);
    peer.receive();
    assert!(peer.is_closed(), "the output was complete");
    Ok(())
}

#[test]
fn the_connect_deadline_of_a_client_includes_the_handshake() -> Result {
    for (deadlines, seconds) in [
        (Deadlines::default(), 10),
        (Deadlines::default().connect(Duration::from_secs(4)), 4),
    ] {
        let scene = Scene::new()?;
        let _service = scene.network.listen("127.0.0.1:563")?;
        let end: Rc<RefCell<String>> = Rc::default();
        let seen = Rc::clone(&end);
        struct Ending(Rc<RefCell<String>>);
        impl asynchat::AsyncChat for Ending {
            fn found_terminator(&mut self, _: &[u8]) -> Result {
                Ok(())
            }
            fn handle_close(&mut self, why: &asynchat::Close) {
                *self.0.borrow_mut() = why.to_string();
            }
        }
        Connector::new("127.0.0.1:563")
            .tls(client_config())
            .deadlines(deadlines)
            .connect_on(&scene.event_loop, |_| Ending(seen))?;
        scene.settle()?;
        scene.advance(seconds - 1)?;
        assert_eq!(*end.borrow(), "");
        scene.advance(1)?;
        let expected = "could not connect: TLS handshake with 127.0.0.1 (127.0.0.1:563): timed out";
        assert_eq!(*end.borrow(), expected);
    }
    Ok(())
}

#[test]
fn an_accepted_connection_has_no_connect_deadline() -> Result {
    let scene = Scene::new()?;
    let deadlines = Deadlines::default()
        .connect(Duration::from_secs(2))
        .lifetime(Duration::from_secs(60));
    Server::new("127.0.0.1:563")
        .tls(server_config())
        .deadlines(deadlines)
        .listen_on(&scene.event_loop, scene.log.session())?;
    let silent = scene.network.connect("127.0.0.1:563")?;
    let mut peer = TlsPeer::client(scene.network.connect("127.0.0.1:563")?, client_config());
    scene.settle()?;
    scene.advance(9)?;
    assert!(!silent.has_ended());
    peer.exchange(|| scene.settle().unwrap());
    scene.advance(1)?;
    assert!(silent.has_ended());
    let closes = scene.event_loop.stats().closes;
    assert_eq!((closes.connect_failed, closes.timeout), (0, 1));
    // The lifetime begins with the connection.
    scene.advance(58)?;
    assert_eq!(scene.log.lines(), ["connect"]);
    scene.advance(1)?;
    assert_eq!(scene.log.lines(), ["connect", "close Timeout"]);
    Ok(())
}

#[test]
fn a_connection_that_is_up_has_no_connect_deadline_when_tls_begins() -> Result {
    let scene = Scene::new()?;
    let (chat, _peer) = scene.connection(scene.log.session())?;
    chat.start_tls(server_config())?;
    scene.settle()?;
    // The first deadlines of the connection.
    chat.set_deadlines(Deadlines::default().connect(Duration::from_secs(2)));
    scene.advance(9)?;
    assert_eq!(scene.log.lines(), ["connect"]);
    chat.set_deadlines(
        Deadlines::default()
            .idle(Duration::from_secs(3))
            .handshake(None),
    );
    scene.advance(1)?;
    assert_eq!(scene.log.lines(), ["connect", "close Timeout"]);

    struct Silent(Channel);
    impl Dispatcher for Silent {
        fn channel(&self) -> &Channel {
            &self.0
        }
    }
    let (socket, _peer) = scene.network.pair();
    let channel = Channel::adopt(socket)?;
    channel.set_deadlines(Deadlines::default().connect(Duration::from_secs(2)));
    channel.start_tls(tls::Client::from(client_config()).name("localhost"))?;
    scene.event_loop.register(Silent(channel.clone()))?;
    scene.advance(9)?;
    assert!(channel.is_open());
    scene.advance(1)?;
    assert!(!channel.is_open());
    assert_eq!(scene.event_loop.stats().closes.connect_failed, 0);
    Ok(())
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A server with these deadlines, and a peer whose handshake is complete.
fn serve(scene: &Scene, deadlines: Deadlines) -> Result<TlsPeer> {
    Server::new("127.0.0.1:563")
        .tls(server_config())
        .deadlines(deadlines)
        .listen_on(&scene.event_loop, scene.log.session())?;
    let mut peer = TlsPeer::client(scene.network.connect("127.0.0.1:563")?, client_config());
    peer.exchange(|| scene.settle().unwrap());
    Ok(peer)
}

/// A byte of a TLS record every few seconds defers the idle deadline, as in clear. It does not defer the others.
#[test]
fn a_part_of_a_tls_record_is_timed_as_a_part_of_a_record() -> Result {
    let idle = Deadlines::default().idle(seconds(60));
    for deadlines in [idle.record(seconds(30)), idle.input(seconds(30))] {
        for before in ["", "a line\r\n", "a part of a line"] {
            let scene = Scene::new()?;
            let mut peer = serve(&scene, deadlines)?;
            peer.send(before);
            scene.settle()?;
            let bytes = peer.encrypt(&[b'x'; 5000]);
            for byte in &bytes[..2] {
                peer.peer.send([*byte]);
                scene.settle()?;
                assert!(!scene.log.has("close"), "{deadlines:?} {before}");
                scene.advance(20)?;
            }
            assert!(scene.log.has("close Timeout"), "{deadlines:?} {before}");
        }
    }
    let scene = Scene::new()?;
    let mut peer = serve(&scene, idle)?;
    for byte in peer.encrypt(&[b'x'; 5000]).iter().take(100) {
        peer.peer.send([*byte]);
        scene.advance(20)?;
    }
    assert_eq!(scene.log.lines(), ["connect"]);
    Ok(())
}

#[test]
fn a_part_of_a_tls_record_that_comes_with_the_end_of_the_handshake_is_timed() -> Result {
    let scene = Scene::new()?;
    Server::new("127.0.0.1:563")
        .tls(server_config())
        .deadlines(Deadlines::default().record(seconds(30)))
        .listen_on(&scene.event_loop, scene.log.session())?;
    let mut peer = TlsPeer::client(scene.network.connect("127.0.0.1:563")?, client_config());
    let hello = peer.output();
    peer.peer.send(hello);
    scene.settle()?;
    peer.receive();
    let mut bytes = peer.output();
    bytes.extend_from_slice(&peer.encrypt(b"hello")[..4]);
    peer.peer.send(bytes);
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["connect"]);
    scene.advance(29)?;
    assert_eq!(scene.log.lines(), ["connect"]);
    scene.advance(1)?;
    assert_eq!(scene.log.lines(), ["connect", "close Timeout"]);
    Ok(())
}

/// There is always a part of a record. Each record is complete in time.
#[test]
fn records_that_are_complete_in_time_follow_each_other_without_end() -> Result {
    let scene = Scene::new()?;
    let record = Deadlines::default().record(seconds(30)).input(seconds(30));
    let mut peer = serve(&scene, record)?;
    let mut before = Vec::new();
    for _ in 0..20 {
        let bytes = peer.encrypt(b"line\r\n");
        before.extend_from_slice(&bytes[..10]);
        peer.peer.send(&before);
        before = bytes[10..].to_vec();
        scene.advance(25)?;
    }
    peer.peer.send(&before);
    scene.settle()?;
    let count = |what| scene.log.lines().iter().filter(|it| *it == what).count();
    assert_eq!(count("record line"), 20);
    // Between two records nothing is timed.
    scene.advance(1000)?;
    assert!(!scene.log.has("close"));
    Ok(())
}

#[test]
fn a_part_of_a_tls_record_is_not_timed_while_this_side_does_not_read() -> Result {
    let scene = Scene::new()?;
    let slot = Slot::default();
    Server::new("127.0.0.1:563")
        .tls(server_config())
        .deadlines(Deadlines::default().record(seconds(30)))
        .listen_on(&scene.event_loop, slot.capture(scene.log.session()))?;
    let mut peer = TlsPeer::client(scene.network.connect("127.0.0.1:563")?, client_config());
    peer.exchange(|| scene.settle().unwrap());
    let bytes = peer.encrypt(b"line\r\n");
    peer.peer.send(&bytes[..10]);
    scene.settle()?;
    slot.chat().pause_reading();
    scene.advance(100)?;
    assert!(!scene.log.has("close"));
    slot.chat().resume_reading();
    scene.advance(29)?;
    assert!(!scene.log.has("close"));
    scene.advance(1)?;
    assert!(scene.log.has("close Timeout"));
    Ok(())
}

/// As in clear: the end of a stream is unknown, but not its rate.
#[test]
fn a_part_of_a_tls_record_of_a_stream_without_records_has_a_rate_only() -> Result {
    let deadlines = Deadlines::default();
    for (deadlines, closes) in [
        (deadlines.record(seconds(30)), false),
        (deadlines.input(seconds(30)), true),
    ] {
        let scene = Scene::new()?;
        Server::new("127.0.0.1:563")
            .tls(server_config())
            .deadlines(deadlines)
            .listen_on(&scene.event_loop, |chat: Chat| {
                chat.set_terminator(Terminator::none());
                |_: &[u8]| Ok(())
            })?;
        let mut peer = TlsPeer::client(scene.network.connect("127.0.0.1:563")?, client_config());
        peer.exchange(|| scene.settle().unwrap());
        for byte in &peer.encrypt(b"hello")[..10] {
            peer.peer.send([*byte]);
            scene.advance(20)?;
        }
        assert_eq!(peer.peer.has_ended(), closes, "{deadlines:?}");
    }
    Ok(())
}

/// The kernel's buffer may have been full. The time is forgiven once, whether the record is complete or not.
#[test]
fn the_time_of_an_absent_loop_is_not_that_of_a_tls_record() -> Result {
    for missing in [0, 1] {
        let scene = Scene::new()?;
        let mut peer = serve(&scene, Deadlines::default().record(seconds(30)))?;
        peer.send("a part of a line");
        scene.advance(25)?;
        let bytes = peer.encrypt(&[b'x'; 5000]);
        peer.peer.send(&bytes[..bytes.len() - missing]);
        scene.network.spend(seconds(20));
        scene.settle()?;
        scene.advance(4)?;
        assert!(!scene.log.has("close"), "{missing}");
        scene.advance(1)?;
        assert!(scene.log.has("close Timeout"), "{missing}");
    }
    Ok(())
}

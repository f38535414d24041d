//! The deadline of a handshake.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{Channel, Connector, Deadlines, Dispatcher, Result, Server, tls};

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
        let expected = "could not connect: TLS handshake with 127.0.0.1: timed out";
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

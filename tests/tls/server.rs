//! A server with TLS: sessions, their information, segmentation.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use asynchat::tls::rustls::crypto::ring::default_provider;
use asynchat::tls::rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use asynchat::tls::rustls::sign::CertifiedKey;
use asynchat::tls::rustls::version::{TLS12, TLS13};
use asynchat::tls::rustls::{AlertDescription, Error as TlsError, HandshakeKind, ServerConfig};
use asynchat::{AsyncChat, Chat, Close, Deadlines, Limits, Result, Server, tls};

use crate::scene::Scene;
use crate::tls::{TlsPeer, client_config, client_config_of, identity, server_config};

/// Answers each line in capitals.
fn echo(chat: &Chat, line: &[u8]) -> Result {
    if line == b"quit" {
        chat.push("bye\r\n");
        chat.close_when_done();
    } else {
        chat.push(line.to_ascii_uppercase());
        chat.push("\r\n");
    }
    Ok(())
}

fn serve(scene: &Scene) -> Result {
    Server::new("127.0.0.1:563")
        .tls(server_config())
        .listen_on(&scene.event_loop, scene.log.session_with(echo))?;
    Ok(())
}

fn connect(scene: &Scene) -> Result<TlsPeer> {
    let peer = scene.network.connect("127.0.0.1:563")?;
    Ok(TlsPeer::client(peer, client_config()))
}

#[test]
fn a_plaintext_server_becomes_one_of_tls_with_one_call() -> Result {
    for version in [&TLS12, &TLS13] {
        let scene = Scene::new()?;
        serve(&scene)?;
        let peer = scene.network.connect("127.0.0.1:563")?;
        let mut peer = TlsPeer::client(peer, client_config_of(version));
        peer.exchange(|| scene.settle().unwrap());
        assert_eq!(scene.log.lines(), ["connect"]);
        peer.send("one\r\ntwo\r\nquit\r\n");
        peer.exchange(|| scene.settle().unwrap());
        assert_eq!(peer.text(), "ONE\r\nTWO\r\nbye\r\n");
        assert!(peer.is_closed());
        assert!(scene.log.has("close Local"));
        let stats = scene.event_loop.stats();
        assert_eq!((stats.handshakes, stats.handshakes_failed), (1, 0));
        // Plaintext is counted.
        assert_eq!((stats.bytes_in, stats.records_in), (16, 3));
    }
    Ok(())
}

#[test]
fn the_factory_is_called_after_the_handshake_and_finds_its_outcome() -> Result {
    let scene = Scene::new()?;
    let found: Rc<RefCell<Vec<Option<tls::Info>>>> = Rc::default();
    let seen = Rc::clone(&found);
    Server::new("127.0.0.1:563")
        .tls(server_config())
        .listen_on(&scene.event_loop, move |chat| {
            seen.borrow_mut().push(chat.tls());
            chat.push("200 welcome\r\n");
            |_: &[u8]| Ok(())
        })?;
    let mut peer = connect(&scene)?;
    scene.settle()?;
    assert!(found.borrow().is_empty());
    peer.exchange(|| scene.settle().unwrap());
    let found = found.borrow();
    let info = found[0].as_ref().ok_or("no information")?;
    assert_eq!(info.server_name.as_deref(), Some("localhost"));
    assert!(!info.is_resumed);
    assert_eq!(peer.text(), "200 welcome\r\n");
    Ok(())
}

#[test]
fn the_same_bytes_give_the_same_conversation_however_they_are_cut() -> Result {
    for piece in [1, 2, 3, 7, 50, 517, 5000] {
        let scene = Scene::new()?;
        serve(&scene)?;
        let mut peer = connect(&scene)?;
        let mut has_sent = false;
        loop {
            scene.settle()?;
            let has_received = peer.receive();
            let mut output = peer.output();
            // The lines follow the last message of the handshake at once.
            if !peer.tls.is_handshaking() && !has_sent {
                output.append(&mut peer.encrypt(b"one\r\ntwo\r\nquit\r\n"));
                has_sent = true;
            }
            for piece in output.chunks(piece) {
                peer.peer.send(piece);
                scene.settle()?;
            }
            if !has_received && output.is_empty() {
                break;
            }
        }
        assert_eq!(peer.text(), "ONE\r\nTWO\r\nbye\r\n", "{piece}");
        assert!(peer.is_closed());
        let expected = [
            "connect",
            "record one",
            "record two",
            "record quit",
            "close Local",
        ];
        assert_eq!(scene.log.lines(), expected);
    }
    Ok(())
}

/// sozu #460: what was decrypted with the last message of the handshake must not wait for the kernel.
#[test]
fn data_behind_the_last_message_of_the_handshake_is_delivered_at_once() -> Result {
    let scene = Scene::new()?;
    serve(&scene)?;
    let mut peer = connect(&scene)?;
    let hello = peer.output();
    peer.peer.send(hello);
    scene.settle()?;
    peer.receive();
    let mut output = peer.output();
    output.append(&mut peer.encrypt(b"one\r\n"));
    peer.peer.send(output);
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["connect", "record one"]);
    Ok(())
}

#[test]
fn a_configuration_is_replaced_for_new_connections() -> Result {
    let scene = Scene::new()?;
    let acceptor = tls::Acceptor::choosing(|_| None);
    Server::new("127.0.0.1:563")
        .tls(&acceptor)
        .listen_on(&scene.event_loop, scene.log.session())?;
    let mut refused = connect(&scene)?;
    refused.exchange(|| scene.settle().unwrap());
    assert!(refused.error.is_some() && scene.log.lines().is_empty());
    acceptor.replace(server_config());
    let mut peer = connect(&scene)?;
    peer.exchange(|| scene.settle().unwrap());
    assert_eq!(scene.log.lines(), ["connect"]);
    Ok(())
}

#[test]
fn a_factory_that_fails_ends_its_connection_alone() -> Result {
    let scene = Scene::new()?;
    let mut count = 0;
    Server::new("127.0.0.1:563")
        .tls(server_config())
        .listen_on(&scene.event_loop, move |chat| {
            count += 1;
            match count {
                1 => {
                    chat.push("400 come back later\r\n");
                    Err("no session".into())
                }
                2 => panic!("no session"),
                _ => Ok(move |line: &[u8]| {
                    chat.push_slice(line);
                    Ok(())
                }),
            }
        })?;
    let mut first = connect(&scene)?;
    first.exchange(|| scene.settle().unwrap());
    assert_eq!(first.text(), "400 come back later\r\n");
    assert!(first.is_closed());
    let mut second = connect(&scene)?;
    second.exchange(|| scene.settle().unwrap());
    let mut third = connect(&scene)?;
    third.exchange(|| scene.settle().unwrap());
    third.send("hello\r\n");
    third.exchange(|| scene.settle().unwrap());
    assert_eq!(third.text(), "hello");
    Ok(())
}

#[test]
fn a_panic_in_the_chooser_ends_its_handshake_alone() -> Result {
    let scene = Scene::new()?;
    let acceptor = tls::Acceptor::choosing(|_| panic!("no configuration"));
    Server::new("127.0.0.1:563")
        .tls(&acceptor)
        .listen_on(&scene.event_loop, scene.log.session())?;
    let mut refused = connect(&scene)?;
    refused.exchange(|| scene.settle().unwrap());
    let internal_error = TlsError::AlertReceived(AlertDescription::InternalError);
    assert_eq!(refused.error, Some(internal_error));
    assert_eq!(scene.event_loop.stats().handshakes_failed, 1);
    acceptor.replace(server_config());
    let mut peer = connect(&scene)?;
    peer.exchange(|| scene.settle().unwrap());
    assert_eq!(scene.log.lines(), ["connect"]);
    Ok(())
}

#[test]
fn a_panic_in_a_resolver_ends_its_handshake_alone_with_an_alert() -> Result {
    #[derive(Debug)]
    struct Panicking;
    impl ResolvesServerCert for Panicking {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            panic!("no certificate");
        }
    }
    let scene = Scene::new()?;
    let mut config = ServerConfig::clone(&server_config());
    config.cert_resolver = Arc::new(Panicking);
    Server::new("127.0.0.1:563")
        .tls(Arc::new(config))
        .listen_on(&scene.event_loop, scene.log.session())?;
    let mut refused = connect(&scene)?;
    refused.exchange(|| scene.settle().unwrap());
    let internal_error = TlsError::AlertReceived(AlertDescription::InternalError);
    assert_eq!(refused.error, Some(internal_error));
    assert_eq!(refused.peer.ended(), Some(asynchat::sim::Ended::Finished));
    assert_eq!(scene.event_loop.stats().handshakes_failed, 1);
    Ok(())
}

#[test]
fn a_plaintext_client_gets_an_alert_and_no_session() -> Result {
    let scene = Scene::new()?;
    serve(&scene)?;
    let peer = scene.network.connect("127.0.0.1:563")?;
    peer.send("EHLO example.org\r\n");
    scene.settle()?;
    assert_eq!(peer.received().first(), Some(&21), "an alert");
    assert_eq!(peer.ended(), Some(asynchat::sim::Ended::Finished));
    assert!(scene.log.lines().is_empty());
    let stats = scene.event_loop.stats();
    assert_eq!((stats.handshakes_failed, stats.closes.tls), (1, 1));
    Ok(())
}

/// Its first message is input like any other: for most protocols a record that does not end.
/// Balancers look in this way whether a port is open, each second.
#[test]
fn a_client_that_leaves_before_it_sends_a_byte_is_no_failed_handshake() -> Result {
    for (sent, failed) in [("", 0), ("\x16", 1)] {
        for resets in [false, true] {
            let scene = Scene::new()?;
            serve(&scene)?;
            let client = scene.network.connect("127.0.0.1:563")?;
            client.send(sent);
            scene.settle()?;
            if resets {
                client.reset();
            } else {
                client.finish();
            }
            scene.settle()?;
            assert!(client.has_ended() && scene.log.lines().is_empty());
            let stats = scene.event_loop.stats();
            assert_eq!((stats.handshakes, stats.handshakes_failed), (0, failed));
            let closes = stats.closes;
            assert_eq!(
                (closes.eof + closes.reset, closes.tls),
                (1 - failed, failed)
            );
        }
    }
    Ok(())
}

#[test]
fn a_client_above_a_limit_gets_an_alert_and_nothing_in_clear() -> Result {
    for (refusal, expected) in [
        ("400 too many\r\n", &b"\x15\x03\x03\0\x02\x02\x50"[..]),
        ("", b""),
    ] {
        let scene = Scene::new()?;
        Server::new("127.0.0.1:563")
            .tls(server_config())
            .limits(Limits::default().connections(1))
            .refusal(refusal)
            .listen_on(&scene.event_loop, scene.log.session())?;
        let mut first = connect(&scene)?;
        first.exchange(|| scene.settle().unwrap());
        let mut second = connect(&scene)?;
        scene.settle()?;
        assert_eq!(second.peer.received(), expected);
        assert!(second.peer.has_ended());
        second.exchange(|| scene.settle().unwrap());
        let alert = TlsError::AlertReceived(AlertDescription::InternalError);
        assert_eq!(second.error, (!refusal.is_empty()).then_some(alert));
        assert_eq!(scene.event_loop.stats().refused, 1);
        assert_eq!(scene.log.lines(), ["connect"]);
    }
    Ok(())
}

#[test]
fn tls_on_a_plaintext_port_is_input_like_any_other() -> Result {
    let scene = Scene::new()?;
    Server::new("127.0.0.1:563")
        .deadlines(Deadlines::default().record(Duration::from_secs(30)))
        .listen_on(&scene.event_loop, scene.log.session())?;
    let mut peer = connect(&scene)?;
    peer.exchange(|| scene.settle().unwrap());
    scene.advance(30)?;
    assert_eq!(scene.log.lines(), ["connect", "close Timeout"]);
    assert!(peer.peer.has_ended() && peer.peer.received().is_empty());
    Ok(())
}

/// CVE-2025-23419: a session from a configuration without client certificates is not resumed under one that demands
/// them. They have different storages.
#[test]
fn a_session_does_not_get_past_a_configuration_that_demands_a_certificate() -> Result {
    for version in [&TLS12, &TLS13] {
        let (identity, provider) = (identity(), Arc::new(default_provider()));
        let roots = Arc::new(identity.roots());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
        let strict = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier.build()?)
            .with_single_cert(identity.chain(), identity.key())?;
        let scene = Scene::new()?;
        let acceptor = tls::Acceptor::from(server_config());
        Server::new("127.0.0.1:563")
            .tls(&acceptor)
            .listen_on(&scene.event_loop, scene.log.session())?;
        let client = client_config_of(version);
        let connect = || -> Result<TlsPeer> {
            let socket = scene.network.connect("127.0.0.1:563")?;
            let mut peer = TlsPeer::client(socket, Arc::clone(&client));
            peer.exchange(|| scene.settle().unwrap());
            Ok(peer)
        };
        let _first = connect()?;
        acceptor.replace(Arc::new(strict));
        let second = connect()?;
        let required = AlertDescription::CertificateRequired;
        assert_eq!(second.error, Some(TlsError::AlertReceived(required)));
        assert_eq!(scene.log.lines(), ["connect"]);
        // Two configurations of the crate share no session either.
        acceptor.replace(server_config());
        let third = connect()?;
        assert_eq!(third.tls.handshake_kind(), Some(HandshakeKind::Full));
    }
    Ok(())
}

/// For an access log: everything that is known of the connection is known until the last callback has returned.
#[test]
fn the_last_callback_still_finds_the_outcome_of_the_handshake() -> Result {
    struct Session(Chat, Rc<RefCell<Vec<(bool, String)>>>);
    impl AsyncChat for Session {
        fn found_terminator(&mut self, line: &[u8]) -> Result {
            match line {
                b"close" => self.0.close(),
                b"quit" => self.0.close_when_done(),
                b"fail" => return Err("on purpose".into()),
                _ => self.0.abort(),
            }
            Ok(())
        }
        fn handle_close(&mut self, why: &Close) {
            let is_known = self.0.tls().is_some_and(|info| info.server_name.is_some());
            self.1.borrow_mut().push((is_known, why.to_string()));
        }
    }
    let seen: Rc<RefCell<Vec<(bool, String)>>> = Rc::default();
    for line in ["close\r\n", "quit\r\n", "fail\r\n", "abort\r\n", ""] {
        let scene = Scene::new()?;
        let (seen, chats) = (Rc::clone(&seen), Rc::new(RefCell::new(None)));
        let made = Rc::clone(&chats);
        Server::new("127.0.0.1:563")
            .tls(server_config())
            .listen_on(&scene.event_loop, move |chat| {
                *made.borrow_mut() = Some(chat.clone());
                Session(chat, Rc::clone(&seen))
            })?;
        let mut peer = connect(&scene)?;
        peer.exchange(|| scene.settle().unwrap());
        match line {
            "" => {
                let end = peer.close_notify();
                peer.peer.send(end);
                peer.peer.finish();
            }
            line => peer.send(line),
        }
        peer.exchange(|| scene.settle().unwrap());
        let chat = chats.take().ok_or("no session")?;
        assert!(!chat.is_open() && chat.tls().is_none());
    }
    let seen = seen.borrow();
    assert_eq!(seen.len(), 5);
    assert!(seen.iter().all(|(is_known, _)| *is_known), "{seen:?}");
    Ok(())
}

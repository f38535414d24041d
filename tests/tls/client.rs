//! A client with TLS.

use std::cell::RefCell;
use std::rc::Rc;

use asynchat::tls::Failure;
use asynchat::{AsyncChat, Backoff, Chat, Close, Connector, Result, Server, tls};

use crate::scene::Scene;
use crate::tls::{TlsPeer, client_config, server_config};

/// The reason of the end, as text.
struct Ending(Rc<RefCell<String>>);

impl AsyncChat for Ending {
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        *self.0.borrow_mut() = why.to_string();
    }
}

#[test]
fn a_client_and_a_server_of_the_crate_talk() -> Result {
    let scene = Scene::new()?;
    Server::new("127.0.0.1:563")
        .tls(server_config())
        .listen_on(&scene.event_loop, |chat: Chat| {
            move |line: &[u8]| {
                chat.push(line.to_ascii_uppercase());
                chat.push("\r\n");
                Ok(())
            }
        })?;
    let chat = Connector::new("127.0.0.1:563")
        .tls(client_config())
        .connect_on(&scene.event_loop, scene.log.session())?;
    // It waits for the handshake.
    chat.push("hello\r\n");
    assert!(chat.is_connecting() && chat.tls().is_none());
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["connect", "record HELLO"]);
    let info = chat.tls().ok_or("no information")?;
    assert_eq!(info.peer_certificates.len(), 1);
    assert!(chat.is_connected() && !chat.is_connecting());
    chat.close_when_done();
    scene.settle()?;
    assert!(scene.log.has("close Local"));
    Ok(())
}

#[test]
fn a_handshake_that_fails_says_why() -> Result {
    let attempt = |client: tls::Client, greets_in_clear: bool| -> Result<String> {
        let scene = Scene::new()?;
        let service = scene.network.listen("127.0.0.1:563")?;
        let end: Rc<RefCell<String>> = Rc::default();
        let ending = Ending(Rc::clone(&end));
        Connector::new("127.0.0.1:563")
            .tls(client)
            .connect_on(&scene.event_loop, |_| ending)?;
        scene.settle()?;
        let peer = service.accept().ok_or("no connection")?;
        if greets_in_clear {
            peer.send("220 example.org ESMTP\r\n");
            scene.settle()?;
        } else {
            TlsPeer::server(peer).exchange(|| scene.settle().unwrap());
        }
        let end = end.borrow().clone();
        Ok(end)
    };
    let trusting = || tls::Client::from(client_config());
    let end = attempt(trusting().name("news.example.org"), false)?;
    let expected = "could not connect: TLS handshake with news.example.org (127.0.0.1:563): \
                    the certificate of the peer is for another name: ";
    assert!(end.starts_with(expected), "{end}");
    let roots = tls::rustls::RootCertStore::empty();
    let end = attempt(tls::client_config(roots)?.into(), false)?;
    let expected = "could not connect: TLS handshake with 127.0.0.1 (127.0.0.1:563): \
                    the certificate of the peer is from an issuer that is not trusted";
    assert!(end.starts_with(expected), "{end}");
    let end = attempt(trusting(), true)?;
    let expected = "could not connect: TLS handshake with 127.0.0.1 (127.0.0.1:563): \
                    the peer does not use TLS: it has sent plaintext: \"220\": received corrupt message";
    assert!(end.starts_with(expected), "{end}");
    // The name of the target is that of the certificate.
    assert_eq!(attempt(trusting(), false)?, "");
    Ok(())
}

/// `openssl req -x509` makes such a certificate, unless an option forbids it.
#[test]
fn a_server_with_the_certificate_of_an_authority_is_not_accepted() -> Result {
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()])?;
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate()?;
    let made = params.self_signed(&key)?;
    let key = tls::PrivateKeyDer::try_from(key.serialize_der())?;
    let scene = Scene::new()?;
    Server::new("127.0.0.1:563")
        .tls(tls::server_config(vec![made.der().clone()], key)?)
        .listen_on(&scene.event_loop, scene.log.session())?;
    let mut roots = tls::rustls::RootCertStore::empty();
    roots.add(made.der().clone())?;
    let end: Rc<RefCell<String>> = Rc::default();
    let ending = Ending(Rc::clone(&end));
    Connector::new("127.0.0.1:563")
        .tls(tls::Client::from(tls::client_config(roots)?).name("localhost"))
        .connect_on(&scene.event_loop, |_| ending)?;
    scene.settle()?;
    let expected = "could not connect: TLS handshake with localhost (127.0.0.1:563): the certificate of the peer \
                    is that of an authority (CA:TRUE)";
    assert!(end.borrow().starts_with(expected), "{}", end.borrow());
    Ok(())
}

#[test]
fn a_server_that_closes_during_the_handshake_is_a_failed_connection() -> Result {
    let scene = Scene::new()?;
    let service = scene.network.listen("127.0.0.1:563")?;
    let end: Rc<RefCell<String>> = Rc::default();
    let ending = Ending(Rc::clone(&end));
    Connector::new("127.0.0.1:563")
        .tls(client_config())
        .connect_on(&scene.event_loop, |_| ending)?;
    scene.settle()?;
    service.accept().ok_or("no connection")?.finish();
    scene.settle()?;
    let expected = "could not connect: TLS handshake with 127.0.0.1 (127.0.0.1:563): the peer has closed the connection";
    let end = end.borrow().clone();
    assert!(
        end.starts_with(expected) || end.contains("connection was lost"),
        "{end}"
    );
    Ok(())
}

#[test]
fn a_client_needs_the_name_of_its_server() -> Result {
    let scene = Scene::new()?;
    let (socket, _peer) = scene.network.pair();
    let outcome = Connector::adopt(socket)
        .tls(client_config())
        .connect_on(&scene.event_loop, |_| |_: &[u8]| Ok(()));
    let error = outcome.err().ok_or("it has no name")?.to_string();
    assert!(error.contains("needs the name of the server"), "{error}");
    let (socket, peer) = scene.network.pair();
    Connector::adopt(socket)
        .tls(tls::Client::from(client_config()).name("localhost"))
        .connect_on(&scene.event_loop, scene.log.session())?;
    let mut peer = TlsPeer::server(peer);
    peer.exchange(|| scene.settle().unwrap());
    peer.send("hello\r\n");
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["connect", "record hello"]);
    Ok(())
}

#[test]
fn a_reconnection_uses_tls_each_time_and_a_failed_handshake_is_a_failed_try() -> Result {
    let scene = Scene::new()?;
    let service = scene.network.listen("127.0.0.1:563")?;
    let reconnect = Connector::new("127.0.0.1:563")
        .tls(client_config())
        .reconnect_on(
            &scene.event_loop,
            Backoff::default().tries(3),
            scene.log.session(),
        )?;
    scene.settle()?;
    let mut peer = TlsPeer::server(service.accept().ok_or("no connection")?);
    peer.exchange(|| scene.settle().unwrap());
    assert_eq!(scene.log.lines(), ["connect"]);
    let end = peer.close_notify();
    peer.peer.send(end);
    peer.peer.finish();
    drop(peer);
    scene.advance(60)?;
    for _ in 0..2 {
        if let Some(peer) = service.accept() {
            peer.send("plaintext\r\n");
            scene.advance(60)?;
        }
    }
    assert_eq!(scene.log.count("close ConnectFailed"), 2);
    assert!(reconnect.outcome().is_err());
    Ok(())
}

/// An address that was reached is the server. A second one would hide that it does not use TLS.
#[test]
fn a_failed_handshake_is_final_and_names_the_address() -> Result {
    let scene = Scene::new()?;
    let first = scene.network.listen("127.0.0.1:563")?;
    let second = scene.network.listen("127.0.0.2:563")?;
    let end: Rc<RefCell<String>> = Rc::default();
    let ending = Ending(Rc::clone(&end));
    let addrs = ["127.0.0.1:563".parse()?, "127.0.0.2:563".parse()?];
    Connector::new(&addrs[..])
        .tls(tls::Client::from(client_config()).name("localhost"))
        .connect_on(&scene.event_loop, |_| ending)?;
    scene.settle()?;
    first
        .accept()
        .ok_or("no connection")?
        .send("\x1b[2J220 example.org ESMTP");
    scene.settle()?;
    scene.advance(60)?;
    assert!(second.accept().is_none());
    let expected = "could not connect: TLS handshake with localhost (127.0.0.1:563): the peer does not \
                    use TLS: it has sent plaintext: \"\\x1b[2J220\": received corrupt message";
    assert!(end.borrow().starts_with(expected), "{}", end.borrow());
    Ok(())
}

/// A session that notes the class of its failure, and gives up if it is about a certificate.
struct Classifying(Chat, Rc<RefCell<Vec<Option<Failure>>>>);

impl AsyncChat for Classifying {
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        let failure = Failure::of(why);
        self.1.borrow_mut().push(failure);
        if failure.is_some_and(Failure::is_of_certificate) {
            self.0.close();
        }
    }
}

#[test]
fn a_program_tells_failures_apart_and_gives_up_where_no_other_connection_helps() -> Result {
    type Act = fn(&Scene, &asynchat::sim::Listener) -> Result;
    let handshake: Act = |scene, service| {
        let peer = service.accept().ok_or("no connection")?;
        TlsPeer::server(peer).exchange(|| scene.settle().unwrap());
        Ok(())
    };
    let plaintext: Act = |_, service| {
        service
            .accept()
            .ok_or("no connection")?
            .send("220 ready\r\n");
        Ok(())
    };
    let ends: Act = |_, service| {
        service.accept().ok_or("no connection")?.finish();
        Ok(())
    };
    let alert: Act = |_, service| {
        // protocol_version
        let peer = service.accept().ok_or("no connection")?;
        peer.send([21, 3, 3, 0, 2, 2, 70]);
        Ok(())
    };
    let trusting = || tls::Client::from(client_config());
    let roots = tls::rustls::RootCertStore::empty();
    let stranger = tls::Client::from(tls::client_config(roots)?);
    for (client, act, expected, gives_up) in [
        (
            trusting().name("example.org"),
            handshake,
            Failure::WrongName,
            true,
        ),
        (stranger, handshake, Failure::UnknownIssuer, true),
        (trusting(), plaintext, Failure::Plaintext, false),
        (trusting(), ends, Failure::ClosedEarly, false),
        (trusting(), alert, Failure::NothingInCommon, false),
    ] {
        let scene = Scene::new()?;
        let service = scene.network.listen("127.0.0.1:563")?;
        let seen: Rc<RefCell<Vec<Option<Failure>>>> = Rc::default();
        let its = Rc::clone(&seen);
        let reconnect = Connector::new("127.0.0.1:563").tls(client).reconnect_on(
            &scene.event_loop,
            Backoff::default(),
            move |chat| Classifying(chat, Rc::clone(&its)),
        )?;
        scene.settle()?;
        act(&scene, &service)?;
        scene.settle()?;
        assert_eq!(*seen.borrow(), [Some(expected)]);
        assert_eq!(reconnect.is_stopped(), gives_up, "{expected:?}");
        reconnect.stop();
    }
    // Nobody listens: no failure of TLS.
    let scene = Scene::new()?;
    let seen: Rc<RefCell<Vec<Option<Failure>>>> = Rc::default();
    let its = Rc::clone(&seen);
    Connector::new("127.0.0.1:563")
        .tls(client_config())
        .connect_on(&scene.event_loop, |chat| Classifying(chat, its))?;
    scene.settle()?;
    assert_eq!(*seen.borrow(), [None]);
    Ok(())
}

#[test]
fn connections_with_the_same_configuration_resume_their_sessions() -> Result {
    let scene = Scene::new()?;
    Server::new("127.0.0.1:563")
        .tls(server_config())
        .listen_on(&scene.event_loop, |_| |_: &[u8]| Ok(()))?;
    let config = client_config();
    for (config, is_resumed) in [
        (config.clone(), false),
        (config.clone(), true),
        (config, true),
        (client_config(), false),
    ] {
        let chat = Connector::new("127.0.0.1:563")
            .tls(config)
            .connect_on(&scene.event_loop, |_| |_: &[u8]| Ok(()))?;
        scene.settle()?;
        let info = chat.tls().ok_or("no information")?;
        assert_eq!(info.is_resumed, is_resumed);
        chat.close();
        scene.settle()?;
    }
    Ok(())
}

//! What is logged of a failed handshake, whose connection has no session.

use crate::common::subscribing::with_subscriber;
use std::io::Write;
use std::sync::{Arc, Mutex};

use asynchat::{Chat, Result, Server};

use crate::scene::Scene;
use crate::tls::{TlsPeer, client_config, server_config};

#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What is logged while `act` runs.
fn logged(level: tracing::Level, act: impl FnOnce(&Scene) -> Result) -> Result<String> {
    let output = Output::default();
    let writer = output.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(level)
        .with_writer(move || writer.clone())
        .finish();
    with_subscriber(subscriber, || act(&Scene::new()?))?;
    let output = String::from_utf8(output.0.lock().unwrap().clone())?;
    Ok(output)
}

/// A health check of a load balancer, or a look whether the port is open.
#[test]
fn a_connection_that_ends_before_its_first_byte_is_no_failed_handshake() -> Result {
    let output = logged(tracing::Level::INFO, |scene| {
        Server::new("127.0.0.1:563")
            .tls(server_config())
            .listen_on(&scene.event_loop, scene.log.session())?;
        for with_reset in [false, true] {
            for is_late in [false, true] {
                let peer = scene.network.connect("127.0.0.1:563")?;
                if is_late {
                    scene.settle()?;
                }
                if with_reset {
                    peer.reset();
                } else {
                    peer.finish();
                }
                scene.settle()?;
            }
        }
        let stats = scene.event_loop.stats();
        assert_eq!((stats.handshakes_failed, stats.closes.tls), (0, 0));
        assert_eq!((stats.closes.eof, stats.closes.reset), (2, 2));
        // One byte is the beginning of a handshake.
        let peer = scene.network.connect("127.0.0.1:563")?;
        peer.send([22]);
        peer.finish();
        scene.settle()?;
        assert_eq!(scene.event_loop.stats().handshakes_failed, 1);
        Ok(())
    })?;
    assert_eq!(output.matches(" WARN ").count(), 1, "{output}");
    Ok(())
}

/// A session begins TLS at the command of its client.
fn upgrading(chat: &Chat, line: &[u8]) -> Result {
    if line == b"STARTTLS" {
        chat.push("220 go ahead\r\n");
        chat.start_tls(server_config())?;
    }
    Ok(())
}

#[test]
fn plaintext_behind_starttls_and_a_handshake_that_fails_after_it_are_warnings() -> Result {
    for input in ["STARTTLS\r\nMAIL FROM:<x>\r\n", "STARTTLS\r\n"] {
        let output = logged(tracing::Level::INFO, |scene| {
            Server::new("127.0.0.1:563")
                .listen_on(&scene.event_loop, scene.log.session_with(upgrading))?;
            let peer = scene.network.connect("127.0.0.1:563")?;
            peer.send(input);
            scene.settle()?;
            peer.send("PASS secret\r\n");
            scene.settle()?;
            assert!(scene.log.has("close Tls"));
            Ok(())
        })?;
        assert_eq!(output.matches(" WARN ").count(), 1, "{output}");
        assert!(output.contains("a TLS handshake failed"), "{output}");
        assert!(output.contains("local=\"127.0.0.1:563\""), "{output}");
        let why = match input.len() {
            10 => "it has sent plaintext: \"PASS\"",
            _ => "plaintext was received after the command that begins TLS (CVE-2011-0411)",
        };
        assert!(output.contains(why), "{output}");
        assert!(!output.contains("secret"), "{output}");
    }
    Ok(())
}

#[test]
fn tls_that_is_up_is_logged_for_diagnosis() -> Result {
    let output = logged(tracing::Level::DEBUG, |scene| {
        Server::new("127.0.0.1:563")
            .tls(server_config())
            .listen_on(&scene.event_loop, scene.log.session())?;
        let peer = scene.network.connect("127.0.0.1:563")?;
        let mut peer = TlsPeer::client(peer, client_config());
        peer.exchange(|| scene.settle().unwrap());
        Ok(())
    })?;
    let line = output.lines().find(|line| line.contains("TLS is up"));
    let line = line.ok_or("it is not logged")?;
    for field in [
        "version=TLSv1_3",
        "suite=TLS13_",
        "resumed=false",
        "peer=127.0.0.1:",
    ] {
        assert!(line.contains(field), "{line}");
    }
    Ok(())
}

#[test]
fn a_failed_handshake_is_logged_with_its_peer_ten_times_a_second() -> Result {
    let output = Output::default();
    let writer = output.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    with_subscriber(subscriber, || -> Result {
        let scene = Scene::new()?;
        Server::new("127.0.0.1:563")
            .tls(server_config())
            .listen_on(&scene.event_loop, scene.log.session())?;
        for _ in 0..30 {
            let peer = scene.network.connect("127.0.0.1:563")?;
            peer.send("EHLO\r\n");
            scene.settle()?;
        }
        assert_eq!(scene.event_loop.stats().handshakes_failed, 30);
        Ok(())
    })?;
    let output = String::from_utf8(output.0.lock().unwrap().clone())?;
    let logged = output.matches("a TLS handshake failed").count();
    assert!((10..=20).contains(&logged), "{logged}"); // over two seconds at most
    assert!(
        output.contains("the peer does not use TLS: it has sent plaintext"),
        "{output}"
    );
    assert!(output.contains("peer=\"127.0.0.1:"), "{output}");
    Ok(())
}

//! What is logged of a failed handshake, whose connection has no session.

use crate::common::subscribing::with_subscriber;
use std::io::Write;
use std::sync::{Arc, Mutex};

use asynchat::{Result, Server};

use crate::scene::Scene;
use crate::tls::server_config;

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

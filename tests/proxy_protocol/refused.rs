//! Connections that get no session: from addresses that are not trusted, and without a valid header in time.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use asynchat::sim::{Conditions, Ended, Peer};
use asynchat::{Deadlines, Result};

use crate::common::subscribing::with_subscriber;
use crate::headers::{V1, field, proxied, proxied_unix, v2};
use crate::scene::Scene;
use crate::server::{connect, connect_from, server};

fn serve() -> Result<Scene> {
    let scene = Scene::new()?;
    server()?.listen_on(&scene.event_loop, scene.log.session())?;
    Ok(scene)
}

/// Whether the connection is gone, and no session was made.
#[track_caller]
fn assert_closed(scene: &Scene, peer: &Peer, what: &[u8]) {
    assert!(peer.has_ended(), "{}", what.escape_ascii());
    assert_eq!(peer.received(), b"");
    assert_eq!(scene.log.lines(), [""; 0], "{}", what.escape_ascii());
    // The listener is left.
    assert_eq!(scene.event_loop.len(), 1);
}

#[test]
fn an_address_that_is_not_trusted_cannot_claim_another() -> Result {
    let scene = serve()?;
    for (n, from) in ["192.0.2.7:40000", "10.0.1.2:50000", "[2001:db8::1]:50000"]
        .into_iter()
        .enumerate()
    {
        for input in [V1, &proxied(&[]), b"one\r\n", b""] {
            let peer = connect_from(&scene.network, from)?;
            peer.send(input);
            scene.settle()?;
            assert_closed(&scene, &peer, input);
        }
        assert_eq!(scene.event_loop.stats().refused, 4 * (n as u64 + 1));
    }
    Ok(())
}

/// Everything that is no header, each with the words of the error.
fn malformed() -> Vec<(Vec<u8>, &'static str)> {
    let lines: [&[u8]; 20] = [
        b"PROXY TCP4 192.0.2.1 198.51.100.1 40000 119\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 40000 119\r\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 40000 119 \r\n",
        b"PROXY TCP4  192.0.2.1 198.51.100.1 40000 119\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 +40000 119\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 040000 119\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 40000 0119\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 40000 65536\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 40000 \r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 40000\r\n",
        b"PROXY TCP4 192.0.2.01 198.51.100.1 40000 119\r\n",
        b"PROXY TCP4 192.0.2.256 198.51.100.1 40000 119\r\n",
        b"PROXY TCP4 2001:db8::1 ::1 40000 119\r\n",
        b"PROXY TCP6 192.0.2.1 198.51.100.1 40000 119\r\n",
        b"PROXY TCP6 2001:db8::1%1 ::1 40000 119\r\n",
        b"PROXY UDP4 192.0.2.1 198.51.100.1 40000 119\r\n",
        b"PROXY TCP4\t192.0.2.1 198.51.100.1 40000 119\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY UNKNOWN\n\r\n",
        b"PROXY tcp4 192.0.2.1 198.51.100.1 40000 119\r\n",
    ];
    let others: [(Vec<u8>, &str); 19] = [
        (
            b"EHLO example.org\r\n".to_vec(),
            "begins with \"EHLO example.or",
        ),
        (b"PROXYTCP4 192.0.2.1\r\n".to_vec(), "begins with"),
        (b"\x16\x03\x01\x02\0".to_vec(), "begins with"),
        (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), "begins with"),
        (b"X".to_vec(), "begins with"),
        (
            b"PROXY UNKNOWN "
                .iter()
                .copied()
                .chain([b'x'; 200])
                .collect(),
            "no line ending in its first 107",
        ),
        (
            b"PROXY TCP4 ".iter().copied().chain([b'1'; 200]).collect(),
            "no line ending in its first 107",
        ),
        (v2(0x11, 0x11, &[0; 12]), "not valid"),
        (v2(0x22, 0x11, &[0; 12]), "not valid"),
        (v2(0x21, 0x13, &[0; 12]), "not valid"),
        (v2(0x21, 0x41, &[0; 12]), "not valid"),
        (v2(0x21, 0x11, &[0; 11]), "not valid"),
        (v2(0x21, 0x21, &[0; 35]), "not valid"),
        (v2(0x21, 0x31, &[0; 215]), "not valid"),
        (
            v2(0x21, 0x11, &[0; 4081]),
            "announces 4097 bytes, and the limit is 4096",
        ),
        (v2(0x20, 0x00, &[0; 65535]), "announces 65551 bytes"),
        (proxied(b"\x05\0\x05four"), "a field that is longer"),
        (proxied(b"\x05\0"), "a field that is longer"),
        (proxied(&field(3, &[1, 2, 3, 4])), "a wrong checksum"),
    ];
    let lines = lines.map(|line| (line.to_vec(), "is no PROXY header"));
    lines.into_iter().chain(others).collect()
}

#[test]
fn a_connection_without_a_valid_header_is_closed_and_the_log_says_why() -> Result {
    for (n, (input, words)) in malformed().into_iter().enumerate() {
        let logged = logged(|| {
            let scene = serve()?;
            let peer = connect(&scene)?;
            peer.send(&input);
            peer.send("QUIT\r\n");
            scene.settle()?;
            assert_closed(&scene, &peer, &input);
            assert_eq!(scene.event_loop.stats().closes.proxy_header, 1);
            Ok(())
        })?;
        let mut lines = logged.lines();
        let line = lines.find(|line| line.contains("no valid PROXY header"));
        let line = line.unwrap_or_default();
        // At most ten in a second.
        assert!(n >= 10 || logged.contains("WARN"), "{logged}");
        let input = input.escape_ascii();
        assert!(line.contains(words), "{input}: {logged}");
        assert!(line.contains("proxy=10.0.0.2:"), "{logged}");
    }
    Ok(())
}

/// The same end, however the network cuts what was sent.
#[test]
fn a_malformed_header_is_refused_byte_by_byte_as_well() -> Result {
    for (input, _) in malformed() {
        let scene = serve()?;
        let peer = connect(&scene)?;
        for byte in input.iter().take(5000) {
            if peer.has_ended() {
                break;
            }
            peer.send([*byte]);
            scene.settle()?;
        }
        assert_closed(&scene, &peer, &input);
        assert_eq!(scene.event_loop.stats().closes.proxy_header, 1);
    }
    Ok(())
}

#[test]
fn a_header_that_ends_in_its_middle_makes_no_session() -> Result {
    for header in [V1, &proxied(&[]), &proxied_unix(b"/run/x", b"")] {
        for at in 0..header.len() {
            let scene = serve()?;
            let peer = connect(&scene)?;
            peer.send(&header[..at]);
            peer.finish();
            scene.settle()?;
            assert_closed(&scene, &peer, &header[..at]);
            let closes = scene.event_loop.stats().closes;
            // A check whether the port is open is no failure.
            assert_eq!(
                (closes.eof, closes.proxy_header),
                if at == 0 { (1, 0) } else { (0, 1) }
            );
        }
    }
    Ok(())
}

#[test]
fn a_reset_in_the_middle_of_a_header_makes_no_session() -> Result {
    for at in 0..V1.len() {
        let scene = serve()?;
        let peer = connect(&scene)?;
        peer.send(&V1[..at]);
        scene.settle()?;
        peer.reset();
        scene.settle()?;
        assert_closed(&scene, &peer, &V1[..at]);
        assert_eq!(scene.event_loop.stats().closes.reset, 1);
    }
    Ok(())
}

#[test]
fn a_header_that_takes_too_long_is_not_waited_for() -> Result {
    let scene = serve()?;
    let silent = connect(&scene)?;
    let slow = connect(&scene)?;
    scene.settle()?;
    // One byte a second: each one moves no deadline.
    for byte in V1.iter().take(9) {
        slow.send([*byte]);
        scene.advance(1)?;
        assert_eq!((silent.ended(), slow.ended()), (None, None));
    }
    scene.advance(1)?;
    assert_closed(&scene, &silent, b"");
    assert_eq!(slow.ended(), Some(Ended::Finished));
    assert_eq!(scene.event_loop.stats().closes.proxy_header, 2);
    Ok(())
}

#[test]
fn the_deadline_is_that_of_handshakes_and_ends_with_the_header() -> Result {
    let scene = Scene::new()?;
    let deadlines = Deadlines::default().handshake(Duration::from_secs(3));
    server()?
        .deadlines(deadlines)
        .listen_on(&scene.event_loop, scene.log.session())?;
    let late = connect(&scene)?;
    let timely = connect(&scene)?;
    scene.advance(2)?;
    timely.send(V1);
    scene.advance(2)?;
    assert!(late.has_ended());
    scene.advance(1000)?;
    timely.send("one\r\n");
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["connect", "record one"]);
    Ok(())
}

/// The loop was away for longer than the deadline, and one wait does not report all channels.
#[test]
fn a_header_that_waits_for_this_side_is_not_late() -> Result {
    let scene = serve()?;
    let silent = connect(&scene)?;
    let part = connect(&scene)?;
    let whole = connect(&scene)?;
    scene.settle()?;
    part.send(&V1[..20]);
    whole.send([V1, b"one\r\n"].concat());
    let network = scene.network.clone();
    scene
        .event_loop
        .call_soon(move || network.spend(Duration::from_secs(11)));
    scene
        .network
        .set_conditions(Conditions::default().late_events(1.0));
    for _ in 0..2 {
        scene.event_loop.run_once(Duration::ZERO)?;
    }
    scene.network.set_conditions(Conditions::default());
    scene.settle()?;
    assert!(silent.has_ended() && part.has_ended());
    assert_eq!(scene.log.lines(), ["connect", "record one"]);
    assert_eq!(scene.event_loop.stats().closes.proxy_header, 2);
    Ok(())
}

#[test]
fn a_shutdown_does_not_wait_for_a_header() -> Result {
    let scene = serve()?;
    let peer = connect(&scene)?;
    peer.send(&V1[..20]);
    scene.settle()?;
    scene.event_loop.shutdown(Duration::from_secs(60));
    scene.settle()?;
    assert!(peer.has_ended() && scene.is_empty());
    assert_eq!(scene.event_loop.stats().closes.shutdown, 2);
    Ok(())
}

/// An urgent byte is no part of the stream, and a poller reports it until it is read.
#[test]
fn an_urgent_byte_does_not_keep_the_loop_awake() -> Result {
    let scene = serve()?;
    let peer = connect(&scene)?;
    peer.send(&V1[..20]);
    peer.send_urgent(b'!');
    scene.settle()?;
    peer.send(&V1[20..]);
    peer.send("one\r\n");
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["connect", "record one"]);
    Ok(())
}

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

/// What is logged, with `DEBUG`.
fn logged(act: impl FnOnce() -> Result) -> Result<String> {
    let output = Output::default();
    let writer = output.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(move || writer.clone())
        .finish();
    with_subscriber(subscriber, act)?;
    let bytes = output.0.lock().unwrap().clone();
    Ok(String::from_utf8(bytes)?)
}

#[test]
fn refusals_are_logged_ten_times_a_second() -> Result {
    let logged = logged(|| {
        let scene = serve()?;
        for _ in 0..30 {
            let peer = connect_from(&scene.network, "192.0.2.7:0")?;
            scene.settle()?;
            assert!(peer.has_ended());
        }
        Ok(())
    })?;
    let refused = logged.matches("it is from no trusted proxy").count();
    assert!((10..=20).contains(&refused), "{refused}"); // over two seconds at most
    assert!(logged.contains("peer=192.0.2.7:"), "{logged}");
    Ok(())
}

#[test]
fn the_log_names_the_client_and_the_proxy() -> Result {
    let logged = logged(|| {
        let scene = serve()?;
        let peer = connect(&scene)?;
        peer.send(V1);
        peer.finish();
        scene.settle()
    })?;
    let closed = logged
        .lines()
        .find(|line| line.contains("closed why"))
        .unwrap_or_default();
    assert!(
        closed.contains("proxy=10.0.0.2:") && closed.contains("peer=192.0.2.1:40000"),
        "{logged}"
    );
    Ok(())
}

#[test]
fn the_name_of_a_client_cannot_forge_a_line_of_the_log() -> Result {
    let logged = logged(|| {
        let scene = serve()?;
        let peer = connect(&scene)?;
        peer.send(proxied_unix(b"/run/x\r\n2026 ERROR \x1b[2J", b""));
        peer.finish();
        scene.settle()
    })?;
    assert!(
        logged.contains("peer=unix:/run/x\\r\\n2026 ERROR"),
        "{logged}"
    );
    assert!(!logged.contains(['\r', '\x1b']), "{logged}");
    Ok(())
}

/// A balancer that only looks whether the port is open, each second, fills no log.
#[cfg(feature = "tls")]
#[test]
fn a_health_check_of_a_tls_port_is_no_failed_handshake() -> Result {
    for header in [b"PROXY UNKNOWN\r\n".to_vec(), v2(0x20, 0, b"")] {
        for resets in [false, true] {
            let logged = logged(|| {
                let scene = Scene::new()?;
                server()?
                    .tls(crate::tls::server_config())
                    .listen_on(&scene.event_loop, scene.log.session())?;
                let check = connect(&scene)?;
                check.send(&header);
                scene.settle()?;
                if resets {
                    check.reset();
                } else {
                    check.finish();
                }
                scene.settle()?;
                assert_closed(&scene, &check, &header);
                let stats = scene.event_loop.stats();
                assert_eq!((stats.handshakes, stats.handshakes_failed), (0, 0));
                assert_eq!(stats.closes.eof + stats.closes.reset, 1);
                Ok(())
            })?;
            assert!(!logged.contains("WARN"), "{logged}");
        }
    }
    Ok(())
}

//! The `forward` example on a simulated network: forwarding, limits, rates, and TLS at each end.

#[path = "../forward/proxy/mod.rs"]
#[allow(unreachable_pub)]
mod proxy;
#[path = "common/scene.rs"]
mod scene;
#[path = "../../tests/common/tls.rs"]
#[allow(unreachable_pub)]
mod tls;

use std::net::SocketAddr;
use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use asynchat::Result;
use asynchat::proxy_protocol::{Header, Reader, Version};
use asynchat::sim::{Ended, Listener, Network, Peer};
use proxy::Options;
use scene::Scene;
use tls::{TlsPeer, client_config, server_config};

const LISTEN: &str = "192.0.2.1:8080";
const TARGET: &str = "192.0.2.2:80";
const MINUTE: Duration = Duration::from_secs(60);

/// The program, and the target that it forwards to.
struct Forward {
    scene: Scene,
    target: Option<Listener>,
}

impl Deref for Forward {
    type Target = Scene;
    fn deref(&self) -> &Scene {
        &self.scene
    }
}

impl Forward {
    fn new(rate: Option<u64>) -> Result<Self> {
        Forward::with(|options| options.rate = rate)
    }

    fn with_tls(tls_in: bool, tls_out: bool) -> Result<Self> {
        Forward::with(|options| set_tls(options, tls_in, tls_out))
    }

    fn with(set: impl FnOnce(&mut Options)) -> Result<Self> {
        let network = Network::new(1);
        network.add_host("target.example.org", ["192.0.2.2".parse()?]);
        let target = Some(network.listen(TARGET)?);
        let clock = network.clone();
        let mut options = Options {
            to: "target.example.org:80".to_owned(),
            rate: None,
            send_proxy: None,
            max_connections: 2,
            idle: MINUTE,
            tls_in: None,
            tls_out: None,
            clock: Rc::new(move || clock.elapsed()),
        };
        set(&mut options);
        let scene = Scene::new(network, || proxy::serve(LISTEN, options))?;
        Ok(Forward { scene, target })
    }

    fn connect(&self) -> Result<(Peer, Peer)> {
        let client = self.network.connect(LISTEN)?;
        self.settle()?;
        let target = self.target.as_ref().and_then(Listener::accept);
        Ok((client, target.ok_or("it was not connected to")?))
    }

    /// The connection to the target, which is made when the handshake of the client is complete.
    fn target_of(&self, client: &mut Side) -> Result<Peer> {
        self.settle()?;
        loop {
            let has_moved = client.exchange();
            self.settle()?;
            match self.target.as_ref().and_then(Listener::accept) {
                Some(target) => return Ok(target),
                None if has_moved => {}
                None => return Err("the target was not connected to".into()),
            }
        }
    }
}

fn set_tls(options: &mut Options, tls_in: bool, tls_out: bool) {
    options.tls_in = tls_in.then(|| server_config().into());
    // The certificate is for this name, not for that of the target.
    let client = || asynchat::tls::Client::from(client_config()).name("localhost");
    options.tls_out = tls_out.then(client);
}

#[test]
fn bytes_and_half_closes_are_forwarded_in_both_directions() -> Result {
    let scene = Forward::new(None)?;
    let (client, target) = scene.connect()?;
    client.send("a question");
    client.finish();
    scene.settle()?;
    assert_eq!(target.received(), b"a question");
    assert_eq!(target.ended(), Some(Ended::Finished));
    target.send("an answer");
    target.finish();
    scene.settle()?;
    assert_eq!(client.received(), b"an answer");
    assert_eq!(client.ended(), Some(Ended::Finished));
    assert_eq!(scene.network.sockets(), 1);
    Ok(())
}

#[test]
fn the_rate_limits_each_direction_of_each_connection() -> Result {
    const RATE: usize = 10_000;
    let scene = Forward::new(Some(RATE as u64))?;
    let (first, second) = (scene.connect()?, scene.connect()?);
    let ways = [
        (&first.0, &first.1),
        (&first.1, &first.0),
        (&second.0, &second.1),
    ];
    for (from, _) in ways {
        from.send(vec![b'x'; 10 * RATE]);
        from.finish();
    }
    for seconds in 1..10 {
        scene.advance(Duration::from_secs(1))?;
        for (_, to) in ways {
            let (received, expected) = (to.received().len(), seconds * RATE);
            let tenth = RATE / 10;
            assert!(
                (expected..=expected + 2 * tenth).contains(&received),
                "{received} after {seconds} s"
            );
            assert!(!to.has_ended());
        }
    }
    scene.advance(Duration::from_secs(1))?;
    for (_, to) in ways {
        assert_eq!(to.received().len(), 10 * RATE);
        assert_eq!(to.ended(), Some(Ended::Finished));
    }
    Ok(())
}

#[test]
fn a_connection_above_the_limit_is_closed_and_others_continue() -> Result {
    let scene = Forward::new(None)?;
    let (_one, _two) = (scene.connect()?, scene.connect()?);
    let three = scene.network.connect(LISTEN)?;
    scene.settle()?;
    assert_eq!(three.ended(), Some(Ended::Finished));
    assert_eq!(scene.event_loop.stats().refused, 1);
    Ok(())
}

#[test]
fn an_unreachable_target_closes_the_client() -> Result {
    let mut scene = Forward::new(None)?;
    scene.target = None;
    let client = scene.network.connect(LISTEN)?;
    client.send("hello?");
    scene.advance(MINUTE)?;
    assert_eq!(client.ended(), Some(Ended::Finished));
    assert_eq!(scene.event_loop.len(), 1, "the listener");
    Ok(())
}

#[test]
fn an_idle_connection_is_closed_at_both_ends() -> Result {
    let scene = Forward::new(None)?;
    let (client, target) = scene.connect()?;
    scene.advance(MINUTE / 2)?;
    client.send("x");
    scene.advance(MINUTE / 2)?;
    assert!(!client.has_ended() && !target.has_ended());
    scene.advance(MINUTE / 2)?;
    assert!(client.has_ended() && target.has_ended());
    Ok(())
}

// ---- TLS

/// The peer of the forwarder at one side: with TLS or without.
enum Side {
    Plain(Peer, Vec<u8>),
    Tls(Box<TlsPeer>),
}

impl Side {
    fn client(peer: Peer, has_tls: bool) -> Side {
        if has_tls {
            Side::Tls(Box::new(TlsPeer::client(peer, client_config())))
        } else {
            Side::Plain(peer, Vec::new())
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        match self {
            Side::Plain(peer, _) => peer.send(bytes),
            Side::Tls(peer) => peer.send(bytes),
        }
    }

    /// Half-closes, with an announcement if there is TLS.
    fn finish(&mut self) {
        if let Side::Tls(peer) = self {
            let end = peer.close_notify();
            peer.peer.send(end);
        }
        self.peer().finish();
    }

    fn peer(&self) -> &Peer {
        match self {
            Side::Plain(peer, _) => peer,
            Side::Tls(peer) => &peer.peer,
        }
    }

    /// Receives and answers the handshake. Returns whether anything moved.
    fn exchange(&mut self) -> bool {
        match self {
            Side::Plain(peer, received) => {
                let mut new = peer.take_received();
                let has_received = !new.is_empty();
                received.append(&mut new);
                has_received
            }
            Side::Tls(peer) => {
                let has_received = peer.receive();
                let output = peer.output();
                peer.peer.send(&output);
                has_received || !output.is_empty()
            }
        }
    }

    fn received(&self) -> &[u8] {
        match self {
            Side::Plain(_, received) => received,
            Side::Tls(peer) => &peer.plaintext,
        }
    }

    /// Whether the stream has ended as a complete one ends.
    fn has_finished(&mut self) -> bool {
        let is_announced = match self {
            Side::Plain(..) => true,
            Side::Tls(peer) => peer.is_closed(),
        };
        is_announced && self.peer().ended() == Some(Ended::Finished)
    }
}

/// A forwarder between a client and a target, at least one of which uses TLS.
struct Secured {
    scene: Forward,
    client: Side,
    target: Side,
}

impl Secured {
    fn new((tls_in, tls_out): (bool, bool)) -> Result<Self> {
        let scene = Forward::with_tls(tls_in, tls_out)?;
        let client = scene.network.connect(LISTEN)?;
        let mut client = Side::client(client, tls_in);
        let target = scene.target_of(&mut client)?;
        let target = if tls_out {
            Side::Tls(Box::new(TlsPeer::server(target)))
        } else {
            Side::Plain(target, Vec::new())
        };
        let mut secured = Secured {
            scene,
            client,
            target,
        };
        secured.settle()?;
        Ok(secured)
    }

    /// Runs until nothing moves at any end.
    fn settle(&mut self) -> Result {
        loop {
            self.scene.settle()?;
            let moved = [self.client.exchange(), self.target.exchange()];
            if moved == [false; 2] {
                return Ok(());
            }
        }
    }
}

/// TLS from the client, to the target, and both.
const WAYS: [(bool, bool); 3] = [(true, false), (false, true), (true, true)];

#[test]
fn with_tls_bytes_and_half_closes_pass_in_both_directions() -> Result {
    for way in WAYS {
        let mut ends = Secured::new(way)?;
        let question: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        let answer: Vec<u8> = question.iter().rev().copied().collect();
        ends.client.send(&question);
        ends.client.finish();
        ends.settle()?;
        assert!(ends.target.received() == question, "{way:?}");
        assert!(ends.target.has_finished(), "{way:?}");
        assert!(!ends.client.peer().has_ended(), "{way:?}");
        ends.target.send(&answer);
        ends.target.finish();
        ends.settle()?;
        assert!(ends.client.received() == answer, "{way:?}");
        assert!(ends.client.has_finished(), "{way:?}");
        ends.scene.advance(MINUTE)?;
        assert_eq!(ends.scene.network.sockets(), 1, "{way:?}: the listener");
    }
    Ok(())
}

/// The header of `--send-proxy` comes first, also before TLS. What a client claims in one of its own comes behind it.
#[test]
fn the_target_learns_the_address_of_the_client_before_everything_else() -> Result {
    const CLAIM: &[u8] = b"PROXY TCP4 203.0.113.1 203.0.113.2 1 2\r\n";
    let from: SocketAddr = "198.51.100.7:40000".parse()?;
    let to: SocketAddr = LISTEN.parse()?;
    for version in [Version::V1, Version::V2] {
        for (tls_in, tls_out) in [(false, false), (true, false), (false, true), (true, true)] {
            let scene = Forward::with(|options| {
                options.send_proxy = Some(version);
                set_tls(options, tls_in, tls_out);
            })?;
            let mut client = Side::client(scene.network.connect_from(from, LISTEN)?, tls_in);
            client.send(CLAIM);
            let target = scene.target_of(&mut client)?;
            client.exchange();
            scene.settle()?;
            let received = target.take_received();
            let mut rest = &received[..];
            let read = |buffer: &mut [u8]| std::io::Read::read(&mut rest, buffer);
            let header = Reader::default().receive(read)?;
            let expected = Header::new(version, from.into(), to.into());
            assert_eq!(
                (header.source(), header.destination()),
                (expected.source(), expected.destination()),
            );
            // TLS of the client ends here, and only version 2 can say so.
            let ssl = header.ssl().filter(|ssl| ssl.uses_tls);
            let tells = tls_in && version == Version::V2;
            let announced = ssl.and_then(|ssl| ssl.version.zip(ssl.cipher));
            let expected = ("TLSv1.3".to_owned(), "TLS_AES_256_GCM_SHA384".to_owned());
            assert_eq!(announced, tells.then_some(expected));
            assert_eq!(header.authority(), tells.then_some("localhost"));
            let forwarded = if tls_out {
                let mut target = TlsPeer::server(target);
                target.tls.read_tls(&mut rest)?;
                target.tls.process_new_packets()?;
                target.exchange(|| scene.settle().expect("the loop runs"));
                target.plaintext
            } else {
                rest.to_vec()
            };
            assert_eq!(forwarded, CLAIM, "{version:?} {tls_in} {tls_out}");
        }
    }
    Ok(())
}

/// What a client sends while the handshake with the target goes on waits for it, and so does its half-close.
#[test]
fn what_is_sent_before_the_target_has_tls_arrives() -> Result {
    let scene = Forward::with_tls(false, true)?;
    let (client, target) = scene.connect()?;
    client.send("a question");
    client.finish();
    scene.settle()?;
    let mut target = Side::Tls(Box::new(TlsPeer::server(target)));
    loop {
        scene.settle()?;
        if !target.exchange() {
            break;
        }
    }
    assert_eq!(target.received(), b"a question");
    assert!(target.has_finished());
    target.send(b"an answer");
    target.finish();
    scene.settle()?;
    assert_eq!(client.received(), b"an answer");
    assert_eq!(client.ended(), Some(Ended::Finished));
    Ok(())
}

/// Both send until all buffers are full, and neither reads.
#[test]
fn with_tls_two_ends_that_both_send_do_not_wait_for_each_other() -> Result {
    for way in WAYS {
        let mut ends = Secured::new(way)?;
        let sent = vec![b'x'; 2_000_000];
        for end in [&mut ends.client, &mut ends.target] {
            end.peer().stop_reading();
            end.send(&sent);
        }
        ends.scene.settle()?;
        for end in [&mut ends.client, &mut ends.target] {
            end.peer().start_reading(usize::MAX);
            end.finish();
        }
        ends.settle()?;
        for end in [&mut ends.client, &mut ends.target] {
            assert_eq!(end.received().len(), sent.len(), "{way:?}");
            assert!(end.has_finished(), "{way:?}");
        }
    }
    Ok(())
}

/// A stream of TLS that ends without an announcement may have been cut by somebody else. The end of one in plaintext
/// is a half-close.
#[test]
fn a_stream_of_tls_that_was_cut_resets_the_other_end() -> Result {
    for way in WAYS {
        for client_is_cut in [false, true] {
            let mut ends = Secured::new(way)?;
            let (cut, other, is_cut) = if client_is_cut {
                (&mut ends.client, &mut ends.target, way.0)
            } else {
                (&mut ends.target, &mut ends.client, way.1)
            };
            cut.send(b"cut sho");
            cut.peer().finish();
            loop {
                ends.scene.settle()?;
                if !other.exchange() {
                    break;
                }
            }
            assert_eq!(other.received(), b"cut sho", "{way:?}");
            assert_eq!(other.has_finished(), !is_cut, "{way:?}");
            let is_reset = other.peer().ended() == Some(Ended::Reset);
            assert_eq!(is_reset, is_cut, "{way:?}");
        }
    }
    Ok(())
}

#[test]
fn a_reset_passes_through_tls_as_a_reset() -> Result {
    for way in WAYS {
        for client_resets in [false, true] {
            let mut ends = Secured::new(way)?;
            let (from, to) = if client_resets {
                (&mut ends.client, &mut ends.target)
            } else {
                (&mut ends.target, &mut ends.client)
            };
            from.send(b"cut sho");
            from.peer().reset();
            ends.scene.settle()?;
            to.exchange();
            assert_eq!(to.received(), b"cut sho", "{way:?}");
            assert_eq!(to.peer().ended(), Some(Ended::Reset), "{way:?}");
        }
    }
    Ok(())
}

#[test]
fn with_tls_the_rate_counts_what_was_encrypted() -> Result {
    const RATE: usize = 10_000;
    let scene = Forward::with(|options| {
        options.rate = Some(RATE as u64);
        options.tls_in = Some(server_config().into());
    })?;
    let mut client = TlsPeer::client(scene.network.connect(LISTEN)?, client_config());
    client.exchange(|| scene.settle().expect("the loop runs"));
    let target = scene.target.as_ref().and_then(Listener::accept);
    let target = target.ok_or("it was not connected to")?;
    client.send(vec![b'x'; 5 * RATE]);
    for seconds in 1..5 {
        scene.advance(Duration::from_secs(1))?;
        let (received, expected) = (target.received().len(), seconds * RATE);
        assert!(
            (expected..=expected + RATE / 5).contains(&received),
            "{received} after {seconds} s"
        );
    }
    scene.advance(Duration::from_secs(1))?;
    assert_eq!(target.received().len(), 5 * RATE);
    Ok(())
}

/// The handshake with the target fails: the client learns it by the end of its connection.
#[test]
fn a_target_without_tls_closes_the_client() -> Result {
    let scene = Forward::with_tls(false, true)?;
    let (client, target) = scene.connect()?;
    client.send("the client has sent something");
    target.send("220 no TLS here\r\n");
    scene.advance(MINUTE)?;
    assert_eq!(client.ended(), Some(Ended::Finished));
    assert!(client.received().is_empty());
    let sent = String::from_utf8_lossy(&target.received()).into_owned();
    assert!(!sent.contains("something"), "it was sent in clear");
    assert_eq!(scene.event_loop.len(), 1, "the listener");
    Ok(())
}

#[test]
fn a_client_without_tls_reaches_no_target() -> Result {
    let scene = Forward::with_tls(true, false)?;
    let client = scene.network.connect(LISTEN)?;
    client.send("GET / HTTP/1.1\r\n\r\n");
    scene.advance(MINUTE)?;
    assert!(client.has_ended());
    assert!(scene.target.as_ref().and_then(Listener::accept).is_none());
    assert_eq!(scene.event_loop.stats().handshakes_failed, 1);
    Ok(())
}

//! Random connections at the same time, over bad networks: who sends a valid header from a trusted address, and
//! nobody else, gets one session, with that address, or is above the quota.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use asynchat::sim::{Conditions, Peer};
use asynchat::{AsyncChat, Chat, Limits, Result};
use fastrand::Rng;

use crate::headers::{field, proxied_from, v2};
use crate::scene::Scene;
use crate::server::{connect_from, server};

/// What the sessions have received, by the address of the client, and with the number of its session.
type Received = Rc<RefCell<BTreeMap<String, Vec<String>>>>;

struct Session {
    chat: Chat,
    received: Received,
}

impl AsyncChat for Session {
    fn handle_connect(&mut self) -> Result {
        self.note("connect");
        Ok(())
    }
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        self.note(&String::from_utf8_lossy(line));
        Ok(())
    }
}

impl Session {
    fn note(&self, what: &str) {
        let peer = self.chat.peer_addr().expect("there is a peer").to_string();
        let mut received = self.received.borrow_mut();
        received.entry(peer).or_default().push(what.to_owned());
    }
}

struct Client {
    peer: Peer,
    unsent: Vec<u8>,
    end: End,
    /// The address of its session, if it has one.
    expected: Option<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Finish,
    Reset,
    Silence,
}

/// A client, whose port is its number.
fn client(scene: &Scene, rng: &mut Rng, number: u16) -> Result<Client> {
    let own = format!("10.0.0.{}:{}", rng.u8(2..5), 20_000 + number);
    let (host, port) = (rng.u8(1..4), 40_000 + number);
    let fields = if rng.bool() {
        field(5, &[b'x'; 300])
    } else {
        Vec::new()
    };
    let header = if rng.bool() {
        format!("PROXY TCP4 192.0.2.{host} 198.51.100.1 {port} 119\r\n").into_bytes()
    } else {
        proxied_from([192, 0, 2, host], port, &fields)
    };
    let mut expected = Some(format!("192.0.2.{host}:{port}"));
    let mut from = own.clone();
    let mut end = End::Finish;
    let mut unsent = [&header[..], b"line\r\n"].concat();
    match rng.u8(..8) {
        // A health check.
        0 => {
            let local = [v2(0x20, 0, b"rubbish"), b"PROXY UNKNOWN\r\n".to_vec()];
            unsent = [&local[rng.usize(..2)][..], b"line\r\n"].concat();
            expected = Some(own);
        }
        // Cut in its middle.
        1 => {
            unsent.truncate(rng.usize(..header.len()));
            end = [End::Finish, End::Reset, End::Silence][rng.usize(..3)];
            expected = None;
        }
        // Not a header any more.
        2 => {
            unsent[rng.usize(..5)] ^= 0x80;
            expected = None;
        }
        3 => {
            from = format!("192.0.2.9:{}", 20_000 + number);
            expected = None;
        }
        _ => {}
    }
    Ok(Client {
        peer: connect_from(&scene.network, &from)?,
        unsent,
        end,
        expected,
    })
}

fn run(seed: u64) -> Result {
    let mut rng = Rng::with_seed(seed);
    let scene = Scene::with_seed(seed)?;
    let mut chance = || f64::from(rng.u8(..4)) / 8.0;
    let conditions = Conditions::default()
        .short_reads(chance())
        .would_block(chance())
        .late_events(chance())
        .shuffled(rng.bool())
        .one_shot(rng.bool());
    let received = Received::default();
    let sessions = Rc::clone(&received);
    // Made under these conditions: see `one_shot`.
    scene.network.set_conditions(conditions);
    let event_loop = scene.network.event_loop()?;
    server()?
        .limits(Limits::default().per_address(3))
        .listen_on(&event_loop, move |chat| Session {
            chat,
            received: Rc::clone(&sessions),
        })?;
    let mut clients = Vec::new();
    for number in 0..12 {
        clients.push(client(&scene, &mut rng, number)?);
    }
    let mut left: Vec<usize> = (0..clients.len()).collect();
    while !left.is_empty() {
        let at = rng.usize(..left.len());
        let client = &mut clients[left[at]];
        let count = rng.usize(1..40).min(client.unsent.len());
        client
            .peer
            .send(client.unsent.drain(..count).collect::<Vec<_>>());
        if client.unsent.is_empty() {
            match client.end {
                End::Finish => client.peer.finish(),
                End::Reset => client.peer.reset(),
                End::Silence => {}
            }
            left.swap_remove(at);
        }
        event_loop.run_once(Duration::ZERO)?;
    }
    scene
        .network
        .advance(&event_loop, Duration::from_secs(60))?;
    let mut received = received.borrow_mut();
    let mut refused = 0;
    for client in &clients {
        assert!(client.peer.has_ended(), "a connection is left");
        match client.expected.as_ref().map(|peer| received.remove(peer)) {
            Some(Some(lines)) => assert_eq!(lines, ["connect", "line"]),
            Some(None) => refused += 1,
            None => {}
        }
    }
    assert!(received.is_empty(), "{received:?}");
    let strangers = clients
        .iter()
        .filter(|it| it.peer.addr().ip().to_string() == "192.0.2.9")
        .count();
    let stats = event_loop.stats();
    assert_eq!(stats.refused, (refused + strangers) as u64);
    // The listener.
    assert_eq!((event_loop.len(), stats.accepted), (1, 12));
    Ok(())
}

#[test]
fn only_valid_headers_of_trusted_addresses_make_sessions() -> Result {
    for seed in 0..200 {
        run(seed).map_err(|error| format!("seed {seed}: {error}"))?;
    }
    Ok(())
}

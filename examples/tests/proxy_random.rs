//! The `proxy` example on a simulated network with random conditions: pipelined requests and responses of every framing,
//! with short reads and writes and late events, arrive complete and in order. `PROXY_SEEDS` sets the number of runs.

#[path = "../http1/mod.rs"]
mod http1;
#[path = "common/scene.rs"]
mod scene;
#[path = "../proxy/server/mod.rs"]
#[allow(dead_code, unreachable_pub)]
mod server;

use std::collections::VecDeque;
use std::time::Duration;

use asynchat::Result;
use asynchat::sim::{Conditions, Network, Peer};
use fastrand::Rng;
use scene::Scene;
use server::access::Access;
use server::resolver::Resolver;
use server::{Options, Proxy};

const LISTEN: &str = "192.0.2.1:8080";
const ORIGIN: &str = "192.0.2.80:80";

/// The framing of a message that is sent.
#[derive(Clone, Copy, PartialEq)]
enum Framing {
    Empty,
    Length,
    Chunked,
    UntilClose,
}

/// A random body, and how it is sent.
fn message(start: &str, framing: Framing, rng: &mut Rng) -> (Vec<u8>, Vec<u8>) {
    let longest = rng.choice([1, 100, 300_000]).unwrap_or(1);
    let mut body = vec![
        0;
        if framing == Framing::Empty {
            0
        } else {
            rng.usize(0..longest)
        }
    ];
    rng.fill(&mut body);
    let mut sent = start.as_bytes().to_vec();
    match framing {
        Framing::Empty | Framing::UntilClose => sent.extend(b"\r\n"),
        Framing::Length => sent.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes()),
        Framing::Chunked => sent.extend(b"Transfer-Encoding: chunked\r\n\r\n"),
    }
    let mut rest = &body[..];
    while framing == Framing::Chunked && !rest.is_empty() {
        let (chunk, behind) = rest.split_at(rng.usize(1..=rest.len()));
        sent.extend(format!("{:x}\r\n", chunk.len()).bytes());
        sent.extend([chunk, b"\r\n"].concat());
        rest = behind;
    }
    match framing {
        Framing::Chunked => sent.extend(b"0\r\n\r\n"),
        _ => sent.extend(rest),
    }
    (sent, body)
}

/// Takes a complete message from the front, and returns its body.
fn take_message(data: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = memchr::memmem::find(data, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&data[..end]).to_lowercase();
    let mut rest = &data[end..];
    let mut body = Vec::new();
    if head.contains("\r\ntransfer-encoding: chunked\r\n") {
        loop {
            let line = memchr::memmem::find(rest, b"\r\n")?;
            let length = std::str::from_utf8(&rest[..line]).expect("digits");
            let length = usize::from_str_radix(length, 16).expect("a length");
            body.extend(rest.get(line + 2..line + 2 + length)?);
            let end = rest.get(line + 2 + length..line + 4 + length)?;
            assert_eq!(end, b"\r\n");
            rest = &rest[line + 4 + length..];
            if length == 0 {
                break;
            }
        }
    } else if let Some((_, length)) = head.split_once("\r\ncontent-length: ") {
        let length = length
            .split('\r')
            .next()
            .and_then(|it| it.parse().ok())
            .expect("a number");
        body.extend(rest.get(..length)?);
        rest = &rest[length..];
    }
    *data = rest.to_vec();
    Some(body)
}

fn run(seed: u64) -> Result {
    let mut rng = Rng::with_seed(seed);
    let network = Network::new(seed);
    let mut chance = |most: f64| rng.f64() * most;
    let conditions = Conditions::default()
        .short_reads(chance(0.9))
        .short_writes(chance(0.9))
        .would_block(chance(0.5))
        .late_events(chance(0.5))
        .shuffled(true)
        .one_shot(seed.is_multiple_of(2));
    network.set_conditions(conditions);
    let origin = network.listen(ORIGIN)?;
    let servers = "192.0.2.64/26".parse()?;
    let options = Options {
        access: Access {
            allow: vec![servers],
            ports: vec![],
            ..Access::default()
        },
        resolver: Resolver::new(0, |_, _| {
            Ok(vec![
                "192.0.2.80:80".parse().map_err(std::io::Error::other)?,
            ])
        }),
        ..Options::default()
    };
    let scene = Scene::new(network, || Proxy::serve(LISTEN, options))?;
    let client = scene.network.connect(LISTEN)?;

    let mut requests = VecDeque::new();
    for _ in 0..rng.usize(1..6) {
        let framing = rng
            .choice([Framing::Empty, Framing::Length, Framing::Chunked])
            .unwrap_or(Framing::Empty);
        let host = rng
            .choice(["one.example", "two.example"])
            .unwrap_or_default();
        let start = format!("PUT http://{host}/ HTTP/1.1\r\nHost: {host}\r\n");
        let (sent, body) = message(&start, framing, &mut rng);
        client.send(sent);
        requests.push_back(body);
    }
    let mut responses = VecDeque::new();
    let (mut server, mut received, mut answered): (Option<Peer>, _, _) =
        (None, Vec::new(), Vec::new());
    // Each turn takes some of the time that a stopped peer may be silent.
    for _ in 0..200_000 {
        if requests.is_empty() && responses.is_empty() {
            break;
        }
        scene.event_loop.run_once(Duration::ZERO)?;
        match rng.u8(0..40) {
            0 => client.stop_reading(),
            1 => client.start_reading(rng.usize(0..50_000)),
            2..=9 => client.start_reading(usize::MAX),
            _ => {}
        }
        if let Some(next) = origin.accept() {
            // The proxy has ended the connection before.
            assert_eq!(received, b"", "seed {seed}");
            server = Some(next);
        }
        if let Some(peer) = &server {
            match rng.u8(0..40) {
                0 => peer.stop_reading(),
                1 => peer.start_reading(rng.usize(0..50_000)),
                2..=9 => peer.start_reading(usize::MAX),
                _ => {}
            }
            received.extend(peer.take_received());
            if let Some(body) = take_message(&mut received) {
                assert!(requests.pop_front() == Some(body), "seed {seed}");
                let framings = [Framing::Length, Framing::Chunked, Framing::UntilClose];
                let framing = rng.choice(framings).unwrap_or(Framing::Length);
                let (sent, body) = message("HTTP/1.1 200 OK\r\n", framing, &mut rng);
                peer.send(sent);
                if framing == Framing::UntilClose {
                    peer.finish();
                }
                responses.push_back(body);
            }
        }
        answered.extend(client.take_received());
        if let Some(body) = take_message(&mut answered) {
            assert!(responses.pop_front() == Some(body), "seed {seed}");
        }
        assert!(
            !client.has_ended(),
            "seed {seed}: {}",
            String::from_utf8_lossy(&answered)
        );
    }
    assert!(
        requests.is_empty() && responses.is_empty(),
        "seed {seed}: it stalls"
    );
    Ok(())
}

#[test]
fn messages_arrive_complete_and_in_order_under_random_conditions() -> Result {
    let count = std::env::var("PROXY_SEEDS")
        .ok()
        .and_then(|count| count.parse().ok());
    (0..count.unwrap_or(60)).try_for_each(run)
}

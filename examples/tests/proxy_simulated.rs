//! The `proxy` example on a simulated network: tunnels, forwarded requests in every segmentation, request smuggling, the
//! access list, deadlines, slow peers and cut responses.

#[path = "../http1/mod.rs"]
mod http1;
#[path = "common/scene.rs"]
mod scene;
#[path = "../proxy/server/mod.rs"]
#[allow(unreachable_pub)]
mod server;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::time::Duration;

use asynchat::Result;
use asynchat::sim::{Ended, Network, Peer, Service, every_segmentation};
use scene::Scene;
use server::resolver::Resolver;
use server::{Options, Proxy};

const LISTEN: &str = "192.0.2.1:8080";
const ORIGIN: &str = "192.0.2.80:80";
const SERVERS: [&str; 3] = ["192.0.2.64/26", "198.51.100.0/24", "2001:db8::/32"];
const SECOND: Duration = Duration::from_secs(1);
const ESTABLISHED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

/// The proxy, and a server at `www.example:80`.
struct World {
    scene: Scene,
    origin: Option<Service>,
}

impl Deref for World {
    type Target = Scene;
    fn deref(&self) -> &Scene {
        &self.scene
    }
}

/// The names of this world, some of which are those of an attacker.
fn resolve(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if name == "holes.example" {
        return Ok((100..200)
            .map(|n| ([198, 51, 100, n], port).into())
            .collect());
    }
    let ips: &[&str] = match name {
        "www.example" | "other.example" => &["192.0.2.80"],
        "down.example" => &["192.0.2.81"],
        "hole.example" => &["192.0.2.82"],
        "six.example" => &["2001:db8::80"],
        "rebind.example" | "localhost" | "127.1" | "2130706433" => &["127.0.0.1"],
        "mapped.example" => &["::ffff:127.0.0.1"],
        "zero.example" => &["0.0.0.0"],
        "metadata.example" => &["169.254.169.254"],
        "self.example" => &["192.0.2.1"],
        "mixed.example" => &["10.0.0.1", "::1", "192.0.2.80"],
        _ => return Err(io::Error::other("no such name")),
    };
    let ips = ips.iter().map(|ip| ip.parse::<IpAddr>());
    let ips: Vec<_> = ips.collect::<Result<_, _>>().map_err(io::Error::other)?;
    Ok(ips
        .into_iter()
        .map(|ip| SocketAddr::new(ip, port))
        .collect())
}

impl World {
    fn new() -> Result<World> {
        World::with(|_| {})
    }

    fn with(set: impl FnOnce(&mut Options)) -> Result<World> {
        let network = Network::new(1);
        let origin = Some(network.listen(ORIGIN)?);
        let mut options = Options {
            resolver: Resolver::new(0, resolve),
            name: "proxy".to_owned(),
            ..Options::default()
        };
        // The servers of this world have addresses of documentation, which are not public.
        for network in SERVERS {
            options.access.allow.push(network.parse()?);
        }
        set(&mut options);
        let scene = Scene::new(network, || Proxy::serve(LISTEN, options))?;
        Ok(World { scene, origin })
    }

    fn client(&self) -> Result<Peer> {
        Ok(self.network.connect(LISTEN)?)
    }

    /// The next connection to the server.
    fn accept(&self) -> Result<Peer> {
        let accepted = self.origin.as_ref().and_then(Service::accept);
        accepted.ok_or_else(|| "the server was not connected to".into())
    }

    fn is_untouched(&self) -> bool {
        self.origin.as_ref().and_then(Service::accept).is_none()
    }

    /// A client that has sent this, and its server.
    fn begin(&self, request: impl AsRef<[u8]>) -> Result<(Peer, Peer)> {
        let client = self.client()?;
        client.send(request);
        self.settle()?;
        let server = self.accept()?;
        self.settle()?;
        Ok((client, server))
    }

    /// What a client receives for this, and how the connection ends for it.
    fn outcome(&self, input: impl AsRef<[u8]>) -> Result<(String, Option<Ended>)> {
        let client = self.client()?;
        client.send(input);
        self.settle()?;
        Ok((text(&client), client.ended()))
    }

    fn send(&self, from: &Peer, data: impl AsRef<[u8]>) -> Result {
        from.send(data);
        self.settle()
    }
}

fn text(peer: &Peer) -> String {
    String::from_utf8_lossy(&peer.take_received()).into_owned()
}

/// Removes the Date field, which the proxy adds where the server has none.
fn without_date(response: &str) -> String {
    let lines = response.split_inclusive("\r\n");
    lines.filter(|line| !line.starts_with("Date: ")).collect()
}

fn get(host: &str) -> String {
    format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

fn status(reply: &str) -> &str {
    reply.get(9..12).unwrap_or_default()
}

/// SOCKS 5 without authentication: the greeting, and a request for a name.
fn socks(name: &str, port: u16) -> Vec<u8> {
    let mut bytes = vec![5, 1, 0, 5, 1, 0, 3, name.len() as u8];
    bytes.extend(name.as_bytes());
    bytes.extend(port.to_be_bytes());
    bytes
}

// ---- tunnels

#[test]
fn connect_opens_a_tunnel_in_every_segmentation() -> Result {
    let input =
        b"CONNECT www.example:80 HTTP/1.1\r\nHost: www.example:80\r\nX: y\r\n\r\nearly bytes";
    every_segmentation(input, |pieces| {
        let world = World::new()?;
        let client = world.client()?;
        for piece in pieces {
            world.send(&client, piece)?;
        }
        let server = world.accept()?;
        assert_eq!(text(&client), ESTABLISHED);
        assert_eq!(text(&server), "early bytes");
        world.send(&server, "an answer")?;
        assert_eq!(text(&client), "an answer");
        Ok(())
    })
}

#[test]
fn socks_opens_a_tunnel_in_every_segmentation() -> Result {
    let mut v4 = vec![5, 2, 0, 2, 5, 1, 0, 1, 192, 0, 2, 80, 0, 80];
    v4.extend(b"early");
    let mut name = socks("www.example", 80);
    name.extend(b"early");
    for input in [v4, name] {
        every_segmentation(&input, |pieces| {
            let world = World::new()?;
            let client = world.client()?;
            for piece in pieces {
                world.send(&client, piece)?;
            }
            let server = world.accept()?;
            let received = client.take_received();
            assert_eq!(received[..6], [5, 0, 5, 0, 0, 1]);
            assert_eq!(received.len(), 2 + 10);
            assert_eq!(text(&server), "early");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn socks_reaches_an_ipv6_address_in_either_form() -> Result {
    let mut address = vec![5, 1, 0, 5, 1, 0, 4];
    address.extend("2001:db8::80".parse::<std::net::Ipv6Addr>()?.octets());
    address.extend(80u16.to_be_bytes());
    for input in [address, socks("2001:db8::80", 80), socks("six.example", 80)] {
        let world = World::new()?;
        let origin = world.network.listen("[2001:db8::80]:80")?;
        let (client, _) = (world.client()?, world.settle()?);
        world.send(&client, input)?;
        assert!(origin.accept().is_some());
        let received = client.take_received();
        assert_eq!(received[..6], [5, 0, 5, 0, 0, 4]);
        assert_eq!(received.len(), 2 + 22);
    }
    Ok(())
}

#[test]
fn half_closes_are_kept_in_both_directions() -> Result {
    let connect = b"CONNECT www.example:80 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    for opening in [connect, socks("www.example", 80)] {
        for client_first in [true, false] {
            let world = World::new()?;
            let (client, server) = world.begin(&opening)?;
            drop(client.take_received());
            let (first, second) = match client_first {
                true => (&client, &server),
                false => (&server, &client),
            };
            first.send("the first half");
            first.finish();
            world.settle()?;
            assert_eq!(second.ended(), Some(Ended::Finished));
            assert_eq!(text(second), "the first half");
            assert_eq!(first.ended(), None);
            second.send("the second half");
            second.finish();
            world.settle()?;
            assert_eq!(text(first), "the second half");
            assert_eq!(first.ended(), Some(Ended::Finished));
            assert_eq!(world.network.sockets(), 1, "the listener");
        }
    }
    Ok(())
}

/// A client may finish sending before the tunnel is open.
#[test]
fn an_early_half_close_reaches_the_server() -> Result {
    let world = World::new()?;
    let client = world.client()?;
    client.send("CONNECT www.example:80 HTTP/1.1\r\nHost: a\r\n\r\nquestion");
    client.finish();
    world.settle()?;
    let server = world.accept()?;
    assert_eq!(
        (text(&server).as_str(), server.ended()),
        ("question", Some(Ended::Finished))
    );
    world.send(&server, "answer")?;
    assert_eq!(text(&client), format!("{ESTABLISHED}answer"));
    assert_eq!(client.ended(), None);
    Ok(())
}

#[test]
fn a_reset_is_passed_on() -> Result {
    let world = World::new()?;
    let (client, server) = world.begin(socks("www.example", 80))?;
    server.reset();
    world.settle()?;
    assert_eq!(client.ended(), Some(Ended::Reset));
    Ok(())
}

#[test]
fn socks_refuses_in_its_own_words() -> Result {
    let world = World::new()?;
    for (input, reply) in [
        // No acceptable method.
        (vec![5, 1, 2], vec![5, 0xff]),
        (vec![5, 0], vec![5, 0xff]),
        // BIND, UDP ASSOCIATE, an unknown type of address, another version.
        (
            vec![5, 1, 0, 5, 2, 0, 1],
            vec![5, 0, 5, 7, 0, 1, 0, 0, 0, 0, 0, 0],
        ),
        (
            vec![5, 1, 0, 5, 3, 0, 1],
            vec![5, 0, 5, 7, 0, 1, 0, 0, 0, 0, 0, 0],
        ),
        (
            vec![5, 1, 0, 5, 1, 0, 9],
            vec![5, 0, 5, 8, 0, 1, 0, 0, 0, 0, 0, 0],
        ),
        (
            vec![5, 1, 0, 4, 1, 0, 1],
            vec![5, 0, 5, 1, 0, 1, 0, 0, 0, 0, 0, 0],
        ),
        // SOCKS 4.
        (
            vec![4, 1, 0, 80, 192, 0, 2, 80, 0],
            vec![0, 91, 0, 0, 0, 0, 0, 0],
        ),
    ] {
        let client = world.client()?;
        world.send(&client, &input)?;
        assert_eq!(client.take_received(), reply, "{input:?}");
        assert_eq!(client.ended(), Some(Ended::Finished), "{input:?}");
    }
    for (name, port, reply) in [
        ("localhost", 80, 2),
        ("www.example", 25, 2),
        ("nowhere.example", 80, 4),
        ("not a name", 80, 4),
        ("", 80, 4),
        ("down.example", 80, 5),
    ] {
        let client = world.client()?;
        world.send(&client, socks(name, port))?;
        assert_eq!(
            client.take_received(),
            [5, 0, 5, reply, 0, 1, 0, 0, 0, 0, 0, 0],
            "{name}"
        );
        assert_eq!(client.ended(), Some(Ended::Finished), "{name}");
    }
    assert!(world.is_untouched());
    Ok(())
}

/// The address that the client has connected to is one of the proxy's host, whose services are not for its clients.
#[test]
fn the_host_of_the_proxy_is_refused_unless_listed() -> Result {
    let requests = [
        get("self.example:9000").into_bytes(),
        get("192.0.2.1:9000").into_bytes(),
        b"CONNECT self.example:9000 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        socks("self.example", 9000),
    ];
    let world = World::new()?;
    let service = world.network.listen("192.0.2.1:9000")?;
    for request in &requests[..3] {
        assert_eq!(status(&world.outcome(request)?.0), "403");
    }
    let client = world.client()?;
    world.send(&client, &requests[3])?;
    assert_eq!(client.take_received()[..4], [5, 0, 5, 2]);
    assert!(service.accept().is_none());

    let listed = "192.0.2.1/32".parse()?;
    let world = World::with(|options| options.access.allow = vec![listed])?;
    let service = world.network.listen("192.0.2.1:9000")?;
    for request in &requests {
        world.outcome(request)?;
        assert!(service.accept().is_some());
    }
    Ok(())
}

/// A name of an attacker has as many addresses as fit into a reply, none of which answers.
#[test]
fn few_addresses_of_a_name_are_tried() -> Result {
    let world = World::with(|options| options.connect = 60 * SECOND)?;
    for n in 100..200 {
        world.network.add_black_hole(([198, 51, 100, n], 80).into());
    }
    let client = world.client()?;
    world.send(&client, get("holes.example"))?;
    let mut most = 0;
    for _ in 0..59 {
        world.advance(SECOND)?;
        most = most.max(world.network.sockets());
    }
    // The listener, and the connection of the client.
    assert!((3..=2 + 8).contains(&most), "{most}");
    world.advance(10 * SECOND)?;
    assert_eq!(status(&text(&client)), "504");
    assert_eq!(world.network.sockets(), 2);
    Ok(())
}

// ---- forwarding

#[test]
fn a_request_and_its_response_are_forwarded_in_every_segmentation() -> Result {
    let request =
        b"POST http://www.example/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
        5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nTrailer: x\r\n\r\n";
    let response = b"HTTP/1.1 200 Fine\r\nDate: now\r\nConnection: x-hop\r\nX-Hop: 1\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
    let check = |sent: &[&[u8]], answered: &[&[u8]]| -> Result {
        let world = World::new()?;
        let client = world.client()?;
        for piece in sent {
            world.send(&client, piece)?;
        }
        let server = world.accept()?;
        let received = text(&server);
        let (head, body) = received.split_once("\r\n\r\n").ok_or("a head")?;
        assert_eq!(
            head,
            "POST /x HTTP/1.1\r\nHost: www.example\r\nVia: 1.1 proxy\r\nTransfer-Encoding: chunked"
        );
        assert_eq!(dechunked(body), "hello world");
        for piece in answered {
            world.send(&server, piece)?;
        }
        let received = text(&client);
        let (head, body) = received.split_once("\r\n\r\n").ok_or("a head")?;
        assert_eq!(
            head,
            "HTTP/1.1 200 Fine\r\nDate: now\r\nVia: 1.1 proxy\r\nTransfer-Encoding: chunked"
        );
        assert_eq!(dechunked(body), "abcd");
        // The connections are kept on both sides.
        world.send(&client, get("www.example"))?;
        assert!(text(&server).starts_with("GET / HTTP/1.1\r\nHost: www.example\r\n"));
        assert!(world.is_untouched());
        Ok(())
    };
    every_segmentation(request, |pieces| check(pieces, &[response]))?;
    every_segmentation(response, |pieces| check(&[request], pieces))
}

/// The content of a complete chunked body without extensions and trailer fields.
fn dechunked(mut body: &str) -> String {
    let mut content = String::new();
    loop {
        let (length, rest) = body.split_once("\r\n").expect("a line");
        let length = usize::from_str_radix(length, 16).expect("a length");
        let (chunk, rest) = rest.split_at(length);
        content += chunk;
        body = rest.strip_prefix("\r\n").expect("the end of a chunk");
        if length == 0 {
            assert_eq!(body, "");
            return content;
        }
    }
}

#[test]
fn each_framing_of_a_response_reaches_each_client() -> Result {
    // The head and the body of the server, whether it closes, the rest of the head for HTTP/1.1, the body, and the rest
    // of the head for HTTP/1.0, which always closes.
    let cases = [
        (
            "GET",
            "200 OK\r\nContent-Length: 3\r\n\r\nabc",
            false,
            "Content-Length: 3",
            "abc",
            "Content-Length: 3\r\n",
        ),
        (
            "GET",
            "200 OK\r\nContent-Length: 0\r\n\r\n",
            false,
            "Content-Length: 0",
            "",
            "Content-Length: 0\r\n",
        ),
        (
            "GET",
            "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            false,
            "Transfer-Encoding: chunked",
            "3\r\nabc\r\n0\r\n\r\n",
            "",
        ),
        (
            "GET",
            "200 OK\r\n\r\nabc",
            true,
            "Transfer-Encoding: chunked",
            "3\r\nabc\r\n0\r\n\r\n",
            "",
        ),
        (
            "HEAD",
            "200 OK\r\nContent-Length: 3\r\n\r\n",
            false,
            "Content-Length: 3",
            "",
            "Content-Length: 3\r\n",
        ),
        (
            "HEAD",
            "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            false,
            "",
            "",
            "",
        ),
        ("GET", "204 No Content\r\n\r\n", false, "", "", ""),
        (
            "GET",
            "304 Not Modified\r\nContent-Length: 9\r\n\r\n",
            false,
            "Content-Length: 9",
            "",
            "Content-Length: 9\r\n",
        ),
    ];
    for (method, answer, closes, framing, body, framing10) in cases {
        for version in ["1.1", "1.0"] {
            let world = World::new()?;
            let (client, server) = world.begin(format!(
                "{method} http://www.example/ HTTP/{version}\r\nHost: a\r\n\r\n"
            ))?;
            assert!(text(&server).starts_with(&format!("{method} / HTTP/1.1\r\n")));
            server.send(format!("HTTP/1.1 {answer}"));
            if closes {
                server.finish();
            }
            world.settle()?;
            let status = &answer[..answer.find('\r').unwrap_or(0)];
            let start = format!("HTTP/1.1 {status}\r\nVia: 1.1 proxy\r\n");
            let received = without_date(&text(&client));
            let is_kept = version == "1.1";
            if is_kept {
                let framing = if framing.is_empty() {
                    String::new()
                } else {
                    format!("{framing}\r\n")
                };
                assert_eq!(received, format!("{start}{framing}\r\n{body}"), "{answer}");
            } else {
                let content = if body.is_empty() { "" } else { "abc" };
                assert_eq!(
                    received,
                    format!("{start}{framing10}Connection: close\r\n\r\n{content}"),
                    "{answer}"
                );
            }
            assert_eq!(client.has_ended(), !is_kept, "{answer}");
        }
    }
    Ok(())
}

#[test]
fn pipelined_requests_are_served_in_order() -> Result {
    let world = World::new()?;
    let requests = [
        get("www.example"),
        get("other.example"),
        get("www.example"),
        get("localhost"),
    ]
    .concat();
    let (client, first) = world.begin(requests)?;
    assert!(text(&first).contains("Host: www.example\r\n"));
    assert!(world.is_untouched(), "one at a time");
    world.send(&first, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1")?;
    let second = world.accept()?;
    assert!(first.has_ended(), "a client has one connection");
    assert!(text(&second).contains("Host: other.example\r\n"));
    world.send(&second, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2")?;
    let third = world.accept()?;
    world.send(&third, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n3")?;
    let received = text(&client);
    let bodies: Vec<_> = received
        .split("\r\n\r\n")
        .skip(1)
        .map(|it| &it[..1])
        .collect();
    assert_eq!(bodies, ["1", "2", "3", "t"]);
    assert!(received.contains("HTTP/1.1 403 Forbidden\r\n"));
    assert!(!client.has_ended());
    Ok(())
}

#[test]
fn interim_responses_are_passed_on() -> Result {
    let expecting = "PUT http://www.example/ HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    let world = World::new()?;
    let (client, server) = world.begin(expecting)?;
    assert!(text(&server).contains("\r\nExpect: 100-continue\r\n"));
    world.send(
        &server,
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
    )?;
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nVia: 1.1 proxy\r\n\r\n";
    assert_eq!(
        text(&client),
        format!("{hints}HTTP/1.1 100 Continue\r\nVia: 1.1 proxy\r\n\r\n")
    );
    world.send(&client, "body")?;
    assert_eq!(text(&server), "body");
    world.send(&server, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")?;
    assert_eq!(
        without_date(&text(&client)),
        "HTTP/1.1 201 Created\r\nVia: 1.1 proxy\r\nContent-Length: 0\r\n\r\n"
    );
    assert!(!client.has_ended());

    // Without 100, the body may follow or not. The proxy cannot tell it from the next request.
    let (client, server) = world.begin(expecting)?;
    world.send(&server, "HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")?;
    let end = "Content-Length: 0\r\nConnection: close\r\n\r\n";
    assert!(text(&client).ends_with(end));
    assert!(client.has_ended() && server.has_ended());

    // A client of HTTP/1.0 knows no interim responses.
    let (client, server) = world.begin("GET http://www.example/ HTTP/1.0\r\n\r\n")?;
    world.send(&server, "HTTP/1.1 103 Early Hints\r\n\r\n")?;
    assert_eq!(text(&client), "");
    world.send(&server, "HTTP/1.1 102 Processing\r\n\r\n".repeat(40))?;
    assert_eq!(status(&text(&client)), "502");
    Ok(())
}

#[test]
fn options_and_trace_have_a_limit_of_forwards() -> Result {
    let world = World::new()?;
    let zero = "OPTIONS http://www.example/ HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n";
    assert_eq!(
        world.outcome(zero)?,
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
            None
        )
    );
    let trace = "TRACE http://www.example/ HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(status(&world.outcome(trace)?.0), "501");
    assert!(world.is_untouched());
    Ok(())
}

// ---- smuggling

/// The head of each of these can be read in two ways. The request behind it must not be seen.
#[test]
fn an_ambiguous_head_is_refused_and_nothing_behind_it_is_read() -> Result {
    let post = "POST http://www.example/ HTTP/1.1\r\nHost: a\r\n";
    let cases = [
        (
            format!("{post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            "400",
        ),
        (
            format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
            "400",
        ),
        (
            format!("{post}Content-Length: 0\r\nContent-Length: 5\r\n\r\n"),
            "400",
        ),
        (format!("{post}Content-Length: 0, 0\r\n\r\n"), "400"),
        (format!("{post}Content-Length: +0\r\n\r\n"), "400"),
        (format!("{post}Content-Length: -1\r\n\r\n"), "400"),
        (format!("{post}Content-Length: 0x0\r\n\r\n"), "400"),
        (format!("{post}Content-Length: \r\n\r\n"), "400"),
        (
            format!("{post}Content-Length: 99999999999999999999\r\n\r\n"),
            "400",
        ),
        (format!("{post}Content-Length : 5\r\n\r\n"), "400"),
        (
            format!("{post}Content_Length: 0\r\nTransfer-Encoding : chunked\r\n\r\n"),
            "400",
        ),
        (format!("{post}Transfer-Encoding: xchunked\r\n\r\n"), "501"),
        (
            format!("{post}Transfer-Encoding: chunked, identity\r\n\r\n"),
            "501",
        ),
        (format!("{post}Transfer-Encoding: identity\r\n\r\n"), "501"),
        (
            format!("{post}Transfer-Encoding: gzip, chunked\r\n\r\n"),
            "501",
        ),
        (
            format!("{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
            "501",
        ),
        (
            format!("{post}Transfer-Encoding:\x0bchunked\r\n\r\n"),
            "400",
        ),
        (
            format!("{post}Transfer-Encoding: \"chunked\"\r\n\r\n"),
            "501",
        ),
        (
            format!("{post}X: y\r\n Transfer-Encoding: chunked\r\n\r\n"),
            "400",
        ),
        (
            format!("{post}X: y\nTransfer-Encoding: chunked\r\n\r\n"),
            "400",
        ),
        (
            format!("{post}X: y\rTransfer-Encoding: chunked\r\n\r\n"),
            "400",
        ),
        (format!("{post}X: \0\r\n\r\n"), "400"),
        (format!("{post} Content-Length: 5\r\n\r\n"), "400"),
        (format!("{post}Host: b\r\n\r\n"), "400"),
        (format!("{post}: x\r\n\r\n"), "400"),
        (
            "POST http://www.example/ HTTP/1.1\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "POST http://www.example/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "GET http://www.example/ HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(),
            "505",
        ),
        ("GET http://www.example/\r\n\r\n".to_owned(), "400"),
        (
            "GET  http://www.example/ HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "GET http://www.example/ HTTP/1.1 \r\nHost: a\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "CONNECT www.example:80 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "CONNECT www.example:80 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                .to_owned(),
            "400",
        ),
        (
            "CONNECT www.example HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "CONNECT http://www.example/ HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            "400",
        ),
    ];
    for (input, expected) in cases {
        let world = World::new()?;
        let (reply, ended) = world.outcome(input.clone() + &get("www.example"))?;
        assert_eq!(status(&reply), expected, "{input:?}\n{reply}");
        assert_eq!(reply.matches("HTTP/1.1 ").count(), 1, "{input:?}\n{reply}");
        assert_eq!(ended, Some(Ended::Finished), "{input:?}");
        assert!(world.is_untouched(), "{input:?}");
    }
    // These are refused, too, but the connection is in order.
    for target in [
        "/",
        "*",
        "ftp://www.example/",
        "http://u@www.example/",
        "http://www.example:0/",
        "http:///",
    ] {
        let world = World::new()?;
        let (reply, ended) = world.outcome(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"))?;
        assert!(
            ["400", "501"].contains(&status(&reply)),
            "{target}: {reply}"
        );
        assert_eq!(ended, None);
        assert!(world.is_untouched());
    }
    Ok(())
}

/// The body of each of these can be read in two ways. The server sees neither an end of it nor the request behind it.
#[test]
fn an_ambiguous_chunk_ends_the_request() -> Result {
    for body in [
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabcXX0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "3 x\r\nabc\r\n0\r\n\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
        "\r\n3\r\nabc\r\n0\r\n\r\n",
        "11111111111111113\r\nabc\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "-1\r\nabc\r\n0\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\nX\r\n\r\n",
        "0\r\n\rX\r\n\r\n",
    ] {
        let world = World::new()?;
        let head =
            "POST http://www.example/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let client = world.client()?;
        world.send(&client, format!("{head}{body}{}", get("www.example")))?;
        let reply = text(&client);
        assert_eq!(status(&reply), "400", "{body:?}\n{reply}");
        assert_eq!(reply.matches("HTTP/1.1 ").count(), 1, "{body:?}\n{reply}");
        assert!(client.has_ended(), "{body:?}");
        if let Ok(server) = world.accept() {
            let received = text(&server);
            assert!(
                !received.contains("GET") && !received.ends_with("0\r\n\r\n"),
                "{body:?}\n{received}"
            );
            assert_eq!(server.ended(), Some(Ended::Reset), "{body:?}");
        }
    }
    Ok(())
}

/// A response that can be read in two ways is none, and neither is one that nobody has asked for.
#[test]
fn an_ambiguous_response_is_not_forwarded() -> Result {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nX : y\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nX: y\nZ: z\r\n\r\nabc",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 99 What\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "220 smtp.example ESMTP\r\n\r\n",
    ] {
        let world = World::new()?;
        let (client, server) = world.begin(get("www.example"))?;
        world.send(&server, response)?;
        assert_eq!(status(&text(&client)), "502", "{response:?}");
        assert_eq!(server.ended(), Some(Ended::Reset), "{response:?}");
    }
    let world = World::new()?;
    let (client, server) = world.begin(get("www.example"))?;
    let two = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2";
    world.send(&server, two)?;
    assert!(text(&client).ends_with("\r\n\r\n1"));
    assert!(server.has_ended());
    world.send(&client, get("www.example"))?;
    let server = world.accept()?;
    world.send(&server, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n3")?;
    assert!(text(&client).ends_with("\r\n\r\n3"));
    Ok(())
}

// ---- who and where

#[test]
fn only_allowed_addresses_are_connected_to() -> Result {
    let hosts = [
        "localhost",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "[::]",
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "169.254.169.254",
        "[fe80::1]",
        "[fd00::1]",
        "[64:ff9b::7f00:1]",
        "rebind.example",
        "mapped.example",
        "zero.example",
        "metadata.example",
        "100.64.0.1",
        "255.255.255.255",
        "224.0.0.1",
    ];
    let world = World::new()?;
    let inside = world.network.listen("127.0.0.1:80")?;
    for host in hosts {
        assert_eq!(status(&world.outcome(get(host))?.0), "403", "{host}");
        let (reply, ended) = world.outcome(format!(
            "CONNECT {host}:80 HTTP/1.1\r\nHost: a\r\n\r\nearly"
        ))?;
        assert_eq!(status(&reply), "403", "{host}");
        assert_eq!(ended, Some(Ended::Finished), "{host}");
        let client = world.client()?;
        world.send(&client, socks(host.trim_matches(['[', ']']), 80))?;
        assert_eq!(client.take_received().get(3), Some(&2), "{host}");
    }
    assert!(inside.accept().is_none());
    let (reply, _) = world.outcome("CONNECT www.example:25 HTTP/1.1\r\nHost: a\r\n\r\n")?;
    assert_eq!(status(&reply), "403");

    // Of several addresses only the allowed ones are tried.
    world.begin("CONNECT mixed.example:80 HTTP/1.1\r\nHost: a\r\n\r\n")?;

    let loopback = vec!["127.0.0.0/8".parse()?];
    let world = World::with(|options| options.access.allow = loopback)?;
    let inside = world.network.listen("127.0.0.1:80")?;
    for host in [
        "localhost",
        "127.0.0.1",
        "[::ffff:127.0.0.1]",
        "mapped.example",
    ] {
        let client = world.client()?;
        world.send(&client, get(host))?;
        assert!(inside.accept().is_some(), "{host}");
    }
    assert_eq!(status(&world.outcome(get("10.0.0.1"))?.0), "403");
    Ok(())
}

/// The end of such a head would never come.
#[test]
fn lines_that_end_with_lf_are_refused_at_once() -> Result {
    let world = World::new()?;
    for request in [
        "GET http://www.example/ HTTP/1.1\nHost: a\n\n",
        "GET http://www.example/ HTTP/1.1\r\nHost: a\n\r\n",
        "CONNECT www.example:80 HTTP/1.1\n\n",
    ] {
        every_segmentation(request.as_bytes(), |pieces| {
            let client = world.client()?;
            for piece in pieces {
                world.send(&client, piece)?;
            }
            assert_eq!(status(&text(&client)), "400", "{request:?}");
            assert_eq!(client.ended(), Some(Ended::Finished));
            Ok(())
        })?;
    }
    assert!(world.is_untouched());
    Ok(())
}

#[test]
fn a_user_is_asked_for_a_password() -> Result {
    let ann = "ann:secret".parse()?;
    let world = World::with(|options| options.users = vec![ann])?;
    let with = |field: &str| format!("GET http://www.example/ HTTP/1.1\r\nHost: a\r\n{field}\r\n");
    for field in [
        "",
        "Proxy-Authorization: Basic YW5uOndyb25n\r\n",
        "Authorization: Basic YW5uOnNlY3JldA==\r\n",
    ] {
        let (reply, ended) = world.outcome(with(field))?;
        assert_eq!(status(&reply), "407");
        assert!(reply.contains("\r\nProxy-Authenticate: Basic realm="));
        assert_eq!(ended, None, "the client tries again on this connection");
    }
    assert_eq!(
        status(
            &world
                .outcome("CONNECT www.example:80 HTTP/1.1\r\nHost: a\r\n\r\n")?
                .0
        ),
        "407"
    );
    assert!(world.is_untouched());
    let (_client, server) = world.begin(with("Proxy-Authorization: Basic YW5uOnNlY3JldA==\r\n"))?;
    assert!(!text(&server).contains("uthorization"));

    let log_in = |password: &str| {
        let mut bytes = vec![5, 2, 0, 2, 1, 3];
        bytes.extend(b"ann");
        bytes.push(password.len() as u8);
        bytes.extend(password.as_bytes());
        bytes.extend(&socks("www.example", 80)[3..]);
        bytes
    };
    let client = world.client()?;
    world.send(&client, log_in("secret"))?;
    assert_eq!(client.take_received()[..6], [5, 2, 1, 0, 5, 0]);
    assert!(world.accept().is_ok());
    for (input, reply) in [
        (log_in("wrong"), vec![5, 2, 1, 1]),
        (log_in(""), vec![5, 2, 1, 1]),
        (vec![5, 1, 0], vec![5, 0xff]),
        (vec![5, 1, 2, 9, 1], vec![5, 2, 1, 1]),
    ] {
        let client = world.client()?;
        world.send(&client, input)?;
        assert_eq!(
            (client.take_received(), client.ended()),
            (reply, Some(Ended::Finished))
        );
    }
    every_segmentation(&log_in("secret"), |pieces| {
        let client = world.client()?;
        for piece in pieces {
            world.send(&client, piece)?;
        }
        assert_eq!(client.take_received()[..6], [5, 2, 1, 0, 5, 0]);
        Ok(())
    })
}

/// HTTP and SOCKS count together, over any number of connections.
#[test]
fn an_address_that_guesses_passwords_is_not_served_for_a_while() -> Result {
    let ann = "ann:secret".parse()?;
    let world = World::with(|options| options.users = vec![ann])?;
    let ask = |from: &str, input: &[u8]| -> Result<Vec<u8>> {
        let from = from.parse::<SocketAddr>()?;
        let client = world.network.connect_from(from, LISTEN)?;
        world.send(&client, input)?;
        Ok(client.take_received())
    };
    let http = |from: &str, credentials: &str| -> Result<String> {
        let field = format!("Proxy-Authorization: Basic {credentials}");
        let head = format!("CONNECT www.example:80 HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
        let reply = String::from_utf8(ask(from, head.as_bytes())?)?;
        Ok(status(&reply).to_owned())
    };
    let socks = |from: &str, password: &[u8; 6]| -> Result<u8> {
        let log_in = [b"\x05\x01\x02\x01\x03ann\x06", &password[..]].concat();
        Ok(ask(from, &log_in)?[3])
    };
    let (guesser, other) = ("192.0.2.7:0", "192.0.2.8:0");
    let (right, wrong) = ("YW5uOnNlY3JldA==", "YW5uOndyb25n");
    assert_eq!(
        (http(guesser, right)?.as_str(), socks(guesser, b"secret")?),
        ("200", 0)
    );
    for _ in 0..5 {
        assert_eq!(
            (http(guesser, wrong)?.as_str(), socks(guesser, b"wrong!")?),
            ("407", 1)
        );
    }
    assert_eq!(
        (http(guesser, right)?.as_str(), socks(guesser, b"secret")?),
        ("407", 1)
    );
    assert_eq!(
        (http(other, right)?.as_str(), socks(other, b"secret")?),
        ("200", 0)
    );
    world.advance(31 * SECOND)?;
    assert_eq!(
        (http(guesser, right)?.as_str(), socks(guesser, b"secret")?),
        ("200", 0)
    );
    Ok(())
}

// ---- servers that fail

#[test]
fn a_server_that_cannot_be_reached_has_a_status() -> Result {
    let world = World::new()?;
    let connect = |host: &str| format!("CONNECT {host}:80 HTTP/1.1\r\nHost: a\r\n\r\n");
    for (host, expected) in [("nowhere.example", "502"), ("down.example", "502")] {
        let (reply, ended) = world.outcome(get(host))?;
        assert_eq!((status(&reply), ended), (expected, None), "{host}");
        let (reply, ended) = world.outcome(connect(host))?;
        assert_eq!(
            (status(&reply), ended),
            (expected, Some(Ended::Finished)),
            "{host}"
        );
    }
    world.network.add_black_hole("192.0.2.82:80".parse()?);
    let clients = [world.client()?, world.client()?, world.client()?];
    clients[0].send(get("hole.example"));
    clients[1].send(connect("hole.example"));
    clients[2].send(socks("hole.example", 80));
    world.advance(11 * SECOND)?;
    assert_eq!(status(&text(&clients[0])), "504");
    assert_eq!(status(&text(&clients[1])), "504");
    assert_eq!(clients[2].take_received()[2..4], [5, 6]);

    // A look-up that hangs. The thread is real, the time is not.
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let hangs = move |_: &str, _| {
        drop(released.lock().map(|it| it.recv()));
        Ok(vec![])
    };
    let world = World::with(|options| options.resolver = Resolver::new(1, hangs))?;
    let clients = [world.client()?, world.client()?, world.client()?];
    clients[0].send(get("www.example"));
    clients[1].send(connect("www.example"));
    clients[2].send(socks("www.example", 80));
    world.advance(11 * SECOND)?;
    assert_eq!(status(&text(&clients[0])), "504");
    assert_eq!(status(&text(&clients[1])), "504");
    assert_eq!(clients[2].take_received()[2..4], [5, 6]);
    drop(release);
    Ok(())
}

#[test]
fn a_response_that_its_server_cuts_never_looks_complete() -> Result {
    for reset in [false, true] {
        for (version, head, ended) in [
            ("1.1", "Content-Length: 10\r\n\r\nabc", Ended::Finished),
            (
                "1.1",
                "Transfer-Encoding: chunked\r\n\r\n9\r\nabc",
                Ended::Finished,
            ),
            (
                "1.1",
                "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
                Ended::Finished,
            ),
            (
                "1.1",
                "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
                Ended::Finished,
            ),
            (
                "1.1",
                "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd",
                Ended::Finished,
            ),
            ("1.0", "Content-Length: 10\r\n\r\nabc", Ended::Finished),
            (
                "1.0",
                "Transfer-Encoding: chunked\r\n\r\n9\r\nabc",
                Ended::Reset,
            ),
            (
                "1.0",
                "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
                Ended::Reset,
            ),
        ] {
            let world = World::new()?;
            let (client, server) = world.begin(format!(
                "GET http://www.example/ HTTP/{version}\r\nHost: a\r\n\r\n"
            ))?;
            world.send(&server, format!("HTTP/1.1 200 OK\r\n{head}"))?;
            match reset {
                true => server.reset(),
                false => server.finish(),
            }
            world.settle()?;
            let received = text(&client);
            assert!(received.contains("abc"), "{head:?}");
            assert!(!received.ends_with("0\r\n\r\n"), "{head:?}");
            assert_eq!(client.ended(), Some(ended), "{head:?}");
        }
        // What ends with its connection is complete, unless that is reset.
        for (version, ended) in [("1.1", Ended::Finished), ("1.0", Ended::Reset)] {
            let world = World::new()?;
            let (client, server) = world.begin(format!(
                "GET http://www.example/ HTTP/{version}\r\nHost: a\r\n\r\n"
            ))?;
            world.send(&server, "HTTP/1.1 200 OK\r\n\r\nabc")?;
            match reset {
                true => server.reset(),
                false => server.finish(),
            }
            world.settle()?;
            match (reset, version) {
                (true, _) => assert_eq!(client.ended(), Some(ended)),
                (false, "1.1") => assert!(text(&client).ends_with("\r\n0\r\n\r\n")),
                (false, _) => assert_eq!(client.ended(), Some(Ended::Finished)),
            }
        }
    }
    Ok(())
}

#[test]
fn a_server_that_says_nothing_is_a_502_or_a_504() -> Result {
    let world = World::new()?;
    let (client, server) = world.begin(get("www.example"))?;
    server.finish();
    world.settle()?;
    assert_eq!(status(&text(&client)), "502");
    assert_eq!(client.ended(), None);
    world.send(&client, get("www.example"))?;
    let _server = world.accept()?;
    world.advance(61 * SECOND)?;
    assert_eq!(status(&text(&client)), "504");
    // Here the server waits for the client.
    let (client, server) = world
        .begin("PUT http://www.example/ HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")?;
    world.advance(61 * SECOND)?;
    assert_eq!(status(&text(&client)), "408");
    assert!(client.has_ended() && server.has_ended());
    // Here the client waits for the server.
    let (client, server) = world
        .begin("PUT http://www.example/ HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n")?;
    server.stop_reading();
    client.send(vec![b'x'; 1 << 20]);
    world.advance(61 * SECOND)?;
    assert_eq!(status(&text(&client)), "504");
    Ok(())
}

#[test]
fn a_request_is_repeated_if_the_kept_connection_has_ended_and_nothing_can_happen_twice() -> Result {
    for (request, is_repeated) in [
        (get("www.example"), true),
        (
            "POST http://www.example/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".to_owned(),
            false,
        ),
        (
            "PUT http://www.example/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1".to_owned(),
            false,
        ),
    ] {
        let world = World::new()?;
        let (client, server) = world.begin(get("www.example"))?;
        world.send(&server, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1")?;
        drop(client.take_received());
        // Both at the same moment.
        client.send(&request);
        world.settle()?;
        server.finish();
        world.settle()?;
        match is_repeated {
            true => {
                let server = world.accept()?;
                assert!(text(&server).starts_with("GET / "));
                world.send(&server, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2")?;
                assert!(text(&client).ends_with("\r\n\r\n2"));
                // Once only.
                world.send(&client, &request)?;
                server.finish();
                world.settle()?;
                world.accept()?.finish();
                world.settle()?;
                assert_eq!(status(&text(&client)), "502");
                assert!(world.is_untouched());
            }
            false => {
                assert_eq!(status(&text(&client)), "502", "{request}");
                assert!(world.is_untouched(), "{request}");
            }
        }
    }
    Ok(())
}

/// The response has begun, and ends with the connection: only a reset tells that it is incomplete.
#[test]
fn a_client_of_http_1_0_that_cuts_its_request_gets_no_complete_response() -> Result {
    let world = World::new()?;
    let head = "PUT http://www.example/ HTTP/1.0\r\nContent-Length: 9\r\n\r\n";
    let (client, server) = world.begin(head)?;
    world.send(&server, "HTTP/1.1 200 OK\r\n\r\nabc")?;
    client.finish();
    world.settle()?;
    assert!(text(&client).ends_with("\r\n\r\nabc"));
    assert_eq!(client.ended(), Some(Ended::Reset));
    assert_eq!(server.ended(), Some(Ended::Reset));

    let (client, server) = world.begin(head)?;
    world.send(&server, "HTTP/1.1 200 OK\r\n\r\nabc")?;
    for _ in 0..30 {
        world.advance(50 * SECOND)?;
        server.send("d");
    }
    assert!(!client.has_ended());
    world.advance(61 * SECOND)?;
    assert_eq!(client.ended(), Some(Ended::Reset));
    Ok(())
}

// ---- slow peers

#[test]
fn a_slow_reader_slows_the_server_down() -> Result {
    const SIZE: usize = 8 << 20;
    for framing in ["Content-Length: 8388608\r\n\r\n", "\r\n"] {
        let world = World::new()?;
        let (client, server) = world.begin(get("www.example"))?;
        client.stop_reading();
        server.send(format!("HTTP/1.1 200 OK\r\n{framing}"));
        server.send(vec![b'x'; SIZE]);
        world.settle()?;
        let taken = SIZE - server.unsent();
        assert!(taken < 1 << 20, "{taken}");
        // An hour at 100 KB a minute is not idle, and fast enough for the deadline.
        let mut read = 0;
        for _ in 0..30 {
            client.start_reading(200_000);
            world.advance(50 * SECOND)?;
            read += client.take_received().len();
            assert!(!client.has_ended());
        }
        assert_eq!(read, 30 * 200_000);
        client.start_reading(usize::MAX);
        server.finish();
        world.settle()?;
        read += client.take_received().len();
        assert!(read > SIZE, "{read}");
        assert_eq!(server.unsent(), 0);
    }
    Ok(())
}

#[test]
fn a_slow_server_slows_the_upload_down_and_may_reply_before_its_end() -> Result {
    const SIZE: usize = 8 << 20;
    let head =
        format!("PUT http://www.example/ HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n");
    let world = World::new()?;
    let (client, server) = world.begin(&head)?;
    server.stop_reading();
    client.send(vec![b'x'; SIZE]);
    world.settle()?;
    let taken = SIZE - client.unsent();
    assert!(taken < 1 << 20, "{taken}");
    server.start_reading(usize::MAX);
    world.settle()?;
    assert!(server.take_received().len() > SIZE);
    world.send(&server, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")?;
    assert_eq!(status(&text(&client)), "201");
    assert!(!client.has_ended());

    let (client, server) = world.begin(&head)?;
    server.stop_reading();
    client.send(vec![b'x'; SIZE]);
    world.settle()?;
    world.send(
        &server,
        "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n",
    )?;
    let reply = text(&client);
    assert_eq!(status(&reply), "413");
    assert!(reply.contains("\r\nConnection: close\r\n"));
    world.advance(120 * SECOND)?;
    assert!(client.has_ended() && server.has_ended());
    Ok(())
}

#[test]
fn a_client_has_a_time_for_its_request() -> Result {
    let world = World::new()?;
    let silent = world.client()?;
    let slow = world.client()?;
    let socks_client = world.client()?;
    world.send(&slow, "GET http://www.exam")?;
    world.send(&socks_client, [5, 1])?;
    for _ in 0..61 {
        world.advance(SECOND)?;
        slow.send("x");
    }
    assert_eq!((text(&silent).as_str(), silent.has_ended()), ("", true));
    assert_eq!(status(&text(&slow)), "408");
    assert!(socks_client.has_ended());
    // Between two requests it is closed without a word.
    let (client, server) = world.begin(get("www.example"))?;
    world.send(&server, "HTTP/1.1 204 No\r\n\r\n")?;
    drop(client.take_received());
    world.advance(61 * SECOND)?;
    assert_eq!(
        (text(&client).as_str(), client.ended()),
        ("", Some(Ended::Finished))
    );
    assert!(server.has_ended());
    world.advance(3 * SECOND)?; // The connections linger.
    assert_eq!(world.network.sockets(), 1, "the listener");
    Ok(())
}

#[test]
fn a_head_has_a_limit() -> Result {
    let world = World::new()?;
    let fields = format!(
        "GET http://www.example/ HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "x".repeat(40_000)
    );
    assert_eq!(status(&world.outcome(fields)?.0), "431");
    let many = format!(
        "GET http://www.example/ HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "X: y\r\n".repeat(200)
    );
    assert_eq!(status(&world.outcome(many)?.0), "431");
    let target = format!(
        "GET http://www.example/{} HTTP/1.1\r\nHost: a\r\n\r\n",
        "x".repeat(40_000)
    );
    assert_eq!(status(&world.outcome(target)?.0), "414");
    assert!(world.is_untouched());
    Ok(())
}

#[test]
fn a_silent_tunnel_is_closed() -> Result {
    let world = World::with(|options| options.tunnel_idle = 100 * SECOND)?;
    let (client, server) = world.begin("CONNECT www.example:80 HTTP/1.1\r\nHost: a\r\n\r\n")?;
    world.advance(90 * SECOND)?;
    world.send(&server, "x")?;
    world.advance(90 * SECOND)?;
    assert!(!client.has_ended() && !server.has_ended());
    world.advance(20 * SECOND)?;
    assert!(client.has_ended() && server.has_ended());
    Ok(())
}

// ---- ends

#[test]
fn a_client_that_leaves_takes_its_connections_with_it() -> Result {
    for opening in [
        get("www.example").into_bytes(),
        b"CONNECT www.example:80 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        socks("www.example", 80),
    ] {
        let world = World::new()?;
        let (client, server) = world.begin(&opening)?;
        client.reset();
        world.settle()?;
        assert_eq!(server.ended(), Some(Ended::Reset));
        assert_eq!(world.network.sockets(), 1, "the listener");
    }
    // Also while the connection is not up.
    let hole = [
        get("hole.example").into_bytes(),
        b"CONNECT hole.example:80 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        socks("hole.example", 80),
    ];
    for opening in hole {
        let world = World::new()?;
        world.network.add_black_hole("192.0.2.82:80".parse()?);
        let client = world.client()?;
        world.send(&client, opening)?;
        assert_eq!(world.network.sockets(), 3);
        client.reset();
        world.settle()?;
        assert_eq!(world.network.sockets(), 1, "the listener");
    }
    Ok(())
}

#[test]
fn a_shutdown_lets_requests_and_tunnels_finish_within_its_grace() -> Result {
    let world = World::new()?;
    let (waiting, waiting_server) = world.begin(get("www.example"))?;
    let (tunnel, tunnel_server) =
        world.begin("CONNECT www.example:80 HTTP/1.1\r\nHost: a\r\n\r\n")?;
    let (endless, _endless_server) = world.begin(socks("www.example", 80))?;
    let (idle, idle_server) = world.begin(get("www.example"))?;
    world.send(&idle_server, "HTTP/1.1 204 No\r\n\r\n")?;
    drop((idle.take_received(), tunnel.take_received()));
    world.event_loop.shutdown(30 * SECOND);
    world.settle()?;
    assert!(idle.has_ended() && idle_server.has_ended());
    world.send(
        &waiting_server,
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    )?;
    let response = text(&waiting);
    assert!(response.contains("\r\nConnection: close\r\n") && response.ends_with("\r\n\r\nabc"));
    assert_eq!(waiting.ended(), Some(Ended::Finished));
    world.send(&tunnel, "still")?;
    assert_eq!(text(&tunnel_server), "still");
    tunnel.finish();
    tunnel_server.finish();
    world.settle()?;
    assert_eq!(tunnel.ended(), Some(Ended::Finished));
    assert!(!endless.has_ended());
    world.advance(31 * SECOND)?;
    assert_eq!(endless.ended(), Some(Ended::Reset));
    assert_eq!(world.network.sockets(), 0);
    Ok(())
}

//! A server behind a proxy: whose address its sessions see, and when.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use asynchat::proxy_protocol::{Header, Ssl, Version};
use asynchat::sim::{Conditions, Network, Peer};
use asynchat::{Addr, AsyncChat, Chat, Close, Limits, Result, Server};

use crate::headers::{V1, field, proxied, proxied_unix, proxied_v6, v2};
use crate::scene::Scene;

pub(crate) const ADDR: &str = "10.0.0.1:119";
pub(crate) const PROXY: &str = "10.0.0.2:50000";

pub(crate) fn server() -> Result<Server> {
    Ok(Server::new(ADDR).proxy_protocol(["10.0.0.0/24".parse()?]))
}

/// A connection of the proxy.
pub(crate) fn connect(scene: &Scene) -> Result<Peer> {
    connect_from(&scene.network, "10.0.0.2:0")
}

pub(crate) fn connect_from(network: &Network, from: &str) -> Result<Peer> {
    let from: SocketAddr = from.parse()?;
    Ok(network.connect_from(from, ADDR)?)
}

/// Logs its callbacks with the address that it sees in them.
struct Witness {
    chat: Chat,
    log: crate::common::Log,
}

impl Witness {
    fn note(&self, what: &str) {
        let peer = self.chat.peer_addr().expect("there is a peer");
        // Also in the last callback.
        assert!(self.chat.proxy_header().is_some() && self.chat.proxy_addr().is_some());
        self.log.add(format!("{what} of {peer}"));
    }
}

impl AsyncChat for Witness {
    fn handle_connect(&mut self) -> Result {
        self.note("connect");
        self.chat.push("200 welcome\r\n");
        Ok(())
    }
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        self.note(&String::from_utf8_lossy(line));
        self.chat.push_slices(&[line, b"\r\n"]);
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.note(&format!("close ({why})"));
    }
}

fn witness(scene: &Scene) -> impl FnMut(Chat) -> Witness + use<> {
    let log = scene.log.clone();
    move |chat| {
        let witness = Witness {
            chat,
            log: log.clone(),
        };
        witness.note("factory");
        witness
    }
}

const EXPECTED: [&str; 5] = [
    "factory of 192.0.2.1:40000",
    "connect of 192.0.2.1:40000",
    "one of 192.0.2.1:40000",
    "two of 192.0.2.1:40000",
    "close (the peer closed the connection) of 192.0.2.1:40000",
];

/// What a server behind a proxy does with one connection that sends this, in these two pieces.
fn conversation(header: &[u8], at: usize) -> Result {
    let scene = Scene::new()?;
    server()?.listen_on(&scene.event_loop, witness(&scene))?;
    let input = [header, b"one\r\ntwo\r\n"].concat();
    let (first, second) = input.split_at(at);
    let peer = connect(&scene)?;
    peer.send(first);
    scene.settle()?;
    if at < header.len() {
        assert_eq!(scene.log.lines(), [""; 0], "{at}");
        assert_eq!(peer.received(), b"", "{at}");
    }
    peer.send(second);
    peer.finish();
    scene.settle()?;
    assert_eq!(scene.log.lines(), EXPECTED, "{at}");
    assert_eq!(peer.received(), b"200 welcome\r\none\r\ntwo\r\n", "{at}");
    Ok(())
}

#[test]
fn the_client_is_the_peer_from_the_first_callback_wherever_the_header_is_cut() -> Result {
    for header in [V1, &proxied(&[]), &proxied(&field(5, b"id"))] {
        for at in 0..=header.len() + 10 {
            conversation(header, at)?;
        }
    }
    Ok(())
}

#[test]
fn a_header_that_comes_byte_by_byte_costs_one_wake_up_for_each() -> Result {
    for header in [V1, &proxied(&[])] {
        let scene = Scene::new()?;
        server()?.listen_on(&scene.event_loop, witness(&scene))?;
        let peer = connect(&scene)?;
        scene.settle()?;
        for byte in [header, b"one\r\ntwo\r\n"].concat() {
            let before = scene.event_loop.stats().turns;
            peer.send([byte]);
            scene.settle()?;
            let turns = scene.event_loop.stats().turns - before;
            assert!(turns <= 4, "{turns}");
        }
        peer.finish();
        scene.settle()?;
        assert_eq!(scene.log.lines(), EXPECTED);
        // The header is no input of the session.
        assert_eq!(scene.event_loop.stats().bytes_in, 10);
    }
    Ok(())
}

#[test]
fn bad_conditions_of_the_network_change_nothing() -> Result {
    for seed in 0..200 {
        let scene = Scene::with_seed(seed)?;
        let conditions = Conditions::default()
            .short_reads(0.5)
            .would_block(0.3)
            .late_events(0.3);
        scene.network.set_conditions(conditions);
        server()?.listen_on(&scene.event_loop, witness(&scene))?;
        let peer = connect(&scene)?;
        let header = if seed % 2 == 0 {
            V1.to_vec()
        } else {
            proxied(&[])
        };
        peer.send([&header[..], b"one\r\ntwo\r\n"].concat());
        peer.finish();
        scene.settle()?;
        assert_eq!(scene.log.lines(), EXPECTED, "{seed}");
    }
    Ok(())
}

#[test]
fn a_poller_that_reports_once_is_asked_again() -> Result {
    let network = Network::new(1);
    network.set_conditions(Conditions::default().one_shot(true));
    let event_loop = network.event_loop()?;
    let log = crate::common::Log::default();
    server()?.listen_on(&event_loop, log.session())?;
    let peer = connect_from(&network, PROXY)?;
    for byte in [V1, b"one\r\n"].concat() {
        peer.send([byte]);
        network.settle(&event_loop)?;
    }
    assert_eq!(log.lines(), ["connect", "record one"]);
    Ok(())
}

#[cfg(feature = "tls")]
#[test]
fn tls_follows_the_header_wherever_that_is_cut() -> Result {
    use crate::tls::{TlsPeer, client_config, server_config};

    for header in [V1, &proxied(&[])] {
        for at in 0..=header.len() {
            let scene = Scene::new()?;
            server()?
                .tls(server_config())
                .listen_on(&scene.event_loop, witness(&scene))?;
            let mut peer = TlsPeer::client(connect(&scene)?, client_config());
            // The first message of the handshake follows in the same segment.
            let input = [header, &peer.output()].concat();
            let (first, second) = input.split_at(at);
            peer.peer.send(first);
            scene.settle()?;
            peer.peer.send(second);
            peer.exchange(|| scene.settle().unwrap());
            peer.send("one\r\ntwo\r\n");
            let end = peer.close_notify();
            peer.peer.send(end);
            peer.peer.finish();
            peer.exchange(|| scene.settle().unwrap());
            assert_eq!(scene.log.lines(), EXPECTED, "{at}");
            assert_eq!(peer.text(), "200 welcome\r\none\r\ntwo\r\n", "{at}");
        }
    }
    Ok(())
}

/// The address and the header that the session of a connection sees which begins like this.
fn seen(header: &[u8]) -> Result<(Addr, Header)> {
    let scene = Scene::new()?;
    let seen = Rc::new(RefCell::new(None));
    let sees = Rc::clone(&seen);
    server()?.listen_on(&scene.event_loop, move |chat| {
        assert_eq!(
            chat.proxy_addr().map(|addr| addr.to_string()).as_deref(),
            Some(PROXY)
        );
        *sees.borrow_mut() = chat.peer_addr().zip(chat.proxy_header());
        |_: &[u8]| Ok(())
    })?;
    let peer = connect_from(&scene.network, PROXY)?;
    peer.send(header);
    scene.settle()?;
    let seen = seen.borrow_mut().take();
    Ok(seen.ok_or_else(|| format!("no session for {}", header.escape_ascii()))?)
}

fn peer_of(header: &[u8]) -> Result<String> {
    Ok(seen(header)?.0.to_string())
}

#[test]
fn each_family_has_its_addresses() -> Result {
    assert_eq!(peer_of(V1)?, "192.0.2.1:40000");
    assert_eq!(
        peer_of(b"PROXY TCP6 2001:db8::1 ::1 65535 0\r\n")?,
        "[2001:db8::1]:65535"
    );
    let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let line = format!("PROXY TCP6 {longest} {longest} 65535 65535\r\n");
    assert_eq!(line.len(), 104);
    assert_eq!(peer_of(line.as_bytes())?, format!("[{longest}]:65535"));
    assert_eq!(peer_of(&proxied(&[]))?, "192.0.2.1:40000");
    assert_eq!(
        peer_of(&proxied_v6("2001:db8::1".parse()?, 7))?,
        "[2001:db8::1]:7"
    );
    // haproxy writes an IPv4 client in IPv6 form if it has IPv6 itself.
    assert_eq!(
        peer_of(&proxied_v6("::ffff:192.0.2.1".parse()?, 7))?,
        "192.0.2.1:7"
    );
    let (_, header) = seen(V1)?;
    assert_eq!(header.version(), Version::V1);
    let destination = header.destination().map(Addr::to_string);
    assert_eq!(destination.as_deref(), Some("198.51.100.1:119"));
    Ok(())
}

#[test]
fn unix_domain_clients_have_their_names() -> Result {
    assert_eq!(
        peer_of(&proxied_unix(b"/run/client", b"/run/server"))?,
        "unix:/run/client"
    );
    assert_eq!(peer_of(&proxied_unix(b"", b"/run/server"))?, "unix socket");
    assert_eq!(
        peer_of(&proxied_unix(b"\0name\x07", b""))?,
        "unix:@name\\x07"
    );
    let full = [b'x'; 108];
    let (client, header) = seen(&proxied_unix(&full, &full))?;
    assert_eq!(client.to_string(), format!("unix:{}", "x".repeat(108)));
    assert_eq!(header.destination(), Some(&client));
    Ok(())
}

#[test]
fn local_and_unknown_connections_have_the_address_of_the_proxy() -> Result {
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 16));
    assert_eq!(longest.len(), 107);
    let unknown = [
        &b"PROXY UNKNOWN\r\n"[..],
        b"PROXY UNKNOWN 2001:db8::1 ::1 1 2\r\n",
        b"PROXY UNKNOWN a b c d e f g h\r\n",
        longest.as_bytes(),
        &v2(0x21, 0x00, b""),
        // Addresses that only the sender knows.
        &v2(0x21, 0x00, b"\xff\xff\xff\xff"),
    ];
    for header in unknown {
        let (peer, header) = seen(header)?;
        assert_eq!(peer.to_string(), PROXY);
        assert!(!header.is_local() && header.source().is_none());
    }
    // What follows LOCAL is ignored, the family as well.
    for local in [
        v2(0x20, 0, b""),
        v2(0x20, 0x11, b""),
        v2(0x20, 0xff, b"rubbish"),
        v2(0x20, 0x11, &[9; 12]),
    ] {
        let (peer, header) = seen(&local)?;
        assert_eq!(peer.to_string(), PROXY);
        assert!(header.is_local() && header.source().is_none() && header.tlvs().count() == 0);
    }
    Ok(())
}

#[test]
fn the_other_fields_are_available() -> Result {
    let ssl = [
        &[0b111][..],
        &[0; 4],
        &field(0x21, b"TLSv1.3"),
        &field(0x22, b"ann"),
        &field(0x23, b"TLS_AES_128_GCM_SHA256"),
    ];
    let fields = [
        field(0x01, b"nntp"),
        field(0x02, b"news.example.org"),
        field(0x04, b"\0\0"),
        field(0x05, b"4711"),
        field(0x20, &ssl.concat()),
        field(0xe0, b"own"),
    ];
    let (peer, header) = seen(&proxied(&fields.concat()))?;
    assert_eq!(peer.to_string(), "192.0.2.1:40000");
    assert_eq!(header.alpn(), Some(&b"nntp"[..]));
    assert_eq!(header.authority(), Some("news.example.org"));
    assert_eq!(header.unique_id(), Some(&b"4711"[..]));
    assert_eq!(header.tlv(0xe0), Some(&b"own"[..]));
    assert_eq!(header.tlv(0xe1), None);
    assert_eq!(header.tlvs().count(), 6);
    let ssl = header.ssl().ok_or("no TLS")?;
    assert!(ssl.uses_tls && ssl.has_certificate && ssl.session_has_certificate && ssl.is_verified);
    assert_eq!(ssl.version.as_deref(), Some("TLSv1.3"));
    assert_eq!(ssl.common_name.as_deref(), Some("ann"));
    assert_eq!(ssl.cipher.as_deref(), Some("TLS_AES_128_GCM_SHA256"));
    assert_eq!(ssl.key_algorithm, None);
    // A client without a certificate, whose `verify` says nothing.
    let (_, header) = seen(&proxied(&field(0x20, &[1, 0, 0, 0, 0])))?;
    let expected = Ssl::default();
    let ssl = header.ssl().ok_or("no TLS")?;
    assert!(ssl.uses_tls && !ssl.is_verified && ssl.version == expected.version);
    // What cannot be read is absent.
    let (_, header) = seen(&proxied(
        &[field(0x02, b"\xff"), field(0x20, b"1")].concat(),
    ))?;
    assert_eq!((header.authority(), header.ssl()), (None, None));
    Ok(())
}

#[test]
fn a_quota_counts_clients_and_not_the_proxy() -> Result {
    let scene = Scene::new()?;
    let limits = Limits::default().per_address(2).connections(5);
    server()?
        .limits(limits)
        .refusal("400 too many\r\n")
        .listen_on(&scene.event_loop, scene.log.session())?;
    let client = |number: u8| -> Result<Peer> {
        let peer = connect(&scene)?;
        peer.send(format!(
            "PROXY TCP4 192.0.2.{number} 198.51.100.1 40000 119\r\n"
        ));
        scene.settle()?;
        Ok(peer)
    };
    let peers = [client(1)?, client(1)?, client(2)?];
    assert!(peers.iter().all(|peer| !peer.has_ended()));
    let third = client(1)?;
    assert_eq!(third.received(), b"400 too many\r\n");
    assert!(third.has_ended());
    assert_eq!(scene.event_loop.stats().refused, 1);
    // One that has not said who it is counts for the total.
    let [first, others @ ..] = peers;
    let silent = [connect(&scene)?, connect(&scene)?];
    scene.settle()?;
    let sixth = connect(&scene)?;
    scene.settle()?;
    assert_eq!(sixth.received(), b"400 too many\r\n");
    drop(silent);
    first.finish();
    scene.settle()?;
    assert!(!client(1)?.has_ended());
    drop(others);
    Ok(())
}

#[test]
fn accept_if_sees_the_client() -> Result {
    let scene = Scene::new()?;
    let log = scene.log.clone();
    server()?
        .accept_if(move |client| {
            log.add(format!("asked for {client}"));
            client.port() == Some(40_000)
        })
        .listen_on(&scene.event_loop, scene.log.session())?;
    let accepted = connect(&scene)?;
    accepted.send(V1);
    scene.settle()?;
    let refused = connect(&scene)?;
    refused.send("PROXY TCP4 192.0.2.1 198.51.100.1 40001 119\r\n");
    scene.settle()?;
    assert!(!accepted.has_ended() && refused.has_ended());
    assert_eq!(
        scene.log.lines(),
        [
            "asked for 192.0.2.1:40000",
            "connect",
            "asked for 192.0.2.1:40001"
        ]
    );
    assert_eq!(scene.event_loop.stats().refused, 1);
    Ok(())
}

#[test]
fn a_server_for_one_connection_serves_it() -> Result {
    let scene = Scene::new()?;
    let listener = server()?
        .once(std::time::Duration::from_secs(60))
        .listen_on(&scene.event_loop, scene.log.session())?;
    // A port check, and one that says nothing, do not take the place of the client.
    connect(&scene)?.finish();
    let silent = connect(&scene)?;
    scene.settle()?;
    assert!(listener.is_open());
    let peer = connect(&scene)?;
    peer.send([V1, b"one\r\n"].concat());
    scene.settle()?;
    assert!(!listener.is_open());
    assert_eq!(scene.log.lines(), ["connect", "record one"]);
    silent.send([V1, b"two\r\n"].concat());
    scene.settle()?;
    assert!(silent.has_ended());
    assert_eq!(scene.log.lines(), ["connect", "record one"]);
    Ok(())
}

#[test]
fn a_factory_that_fails_ends_its_connection() -> Result {
    let scene = Scene::new()?;
    server()?.listen_on(&scene.event_loop, |chat| {
        chat.push("400 not today\r\n");
        match chat.proxy_header() {
            Some(_) => Err("no".into()),
            None => Ok(|_: &[u8]| Ok(())),
        }
    })?;
    let peer = connect(&scene)?;
    peer.send(V1);
    scene.settle()?;
    assert_eq!(peer.received(), b"400 not today\r\n");
    assert!(peer.has_ended());
    Ok(())
}

#[test]
fn a_server_without_a_trusted_network_does_not_start() -> Result {
    let scene = Scene::new()?;
    let server = Server::new(ADDR).proxy_protocol([]);
    let error = server.listen_on(&scene.event_loop, scene.log.session());
    assert_eq!(
        error.unwrap_err().to_string(),
        "proxy_protocol without a trusted network would refuse every connection"
    );
    Ok(())
}

/// HAProxy's `check` with `check-send-proxy` looks at a port of TLS so, unless it has `check-ssl`.
#[cfg(feature = "tls")]
#[test]
fn a_header_without_a_handshake_behind_it_is_no_failed_handshake() -> Result {
    for header in [v2(0x20, 0, b""), V1.to_vec()] {
        for with_reset in [false, true] {
            let scene = Scene::new()?;
            server()?
                .tls(crate::tls::server_config())
                .listen_on(&scene.event_loop, scene.log.session())?;
            let peer = connect(&scene)?;
            peer.send(&header);
            scene.settle()?;
            if with_reset {
                peer.reset();
            } else {
                peer.finish();
            }
            scene.settle()?;
            let stats = scene.event_loop.stats();
            assert_eq!((stats.handshakes_failed, stats.closes.tls), (0, 0));
            assert_eq!(stats.closes.eof + stats.closes.reset, 1);
            assert_eq!(scene.log.lines(), [""; 0]);
        }
    }
    Ok(())
}

//! More clients than there are places for: each of them is told, also one that talks first, and a
//! place that is left is taken.

use std::net::SocketAddr;

use asynchat::{Channel, EventLoop, Limits, Server};
use socket2::{Domain, Socket, Type};

use crate::common::{Log, Peer, addr_of, new_loop, run_until};
use crate::stage;

const LAST_WORDS: &str = "400 too many connections\r\n";

/// A server under these limits that echoes.
fn server(limits: Limits) -> (EventLoop, Log, Channel) {
    let (event_loop, log) = (new_loop(), Log::default());
    let echo = log.session_with(|chat, line| {
        chat.push_slice(line);
        Ok(())
    });
    let listener = Server::new("127.0.0.1:0")
        .limits(limits)
        .refusal(LAST_WORDS)
        .listen_on(&event_loop, echo)
        .unwrap();
    (event_loop, log, listener)
}

#[track_caller]
fn is_served(event_loop: &EventLoop, peer: &mut Peer) {
    peer.send("hello\r\n");
    peer.expect(event_loop, "hello");
}

#[track_caller]
fn is_refused(event_loop: &EventLoop, peer: &mut Peer) {
    assert_eq!(peer.receive_all(event_loop), LAST_WORDS.as_bytes());
}

#[test]
fn one_more_than_there_are_places_for_is_told_and_a_place_comes_back() {
    let (event_loop, log, listener) = server(Limits::default().connections(2));
    let connect = || Peer::connect(addr_of(&listener));
    let (mut first, mut second) = (connect(), connect());
    is_served(&event_loop, &mut first);
    is_served(&event_loop, &mut second);
    let mut third = connect();
    is_refused(&event_loop, &mut third);
    let stats = event_loop.stats();
    assert_eq!((stats.accepted, stats.refused), (3, 1));
    // The refused one was no connection of the server's.
    assert_eq!(
        (stats.opened, stats.closed, log.count("connect")),
        (3, 0, 2)
    );

    drop(first);
    run_until(&event_loop, || log.has("close"));
    let mut next = connect();
    is_served(&event_loop, &mut next);
    is_refused(&event_loop, &mut connect());
}

#[test]
fn a_client_that_talks_before_it_listens_is_told_all_the_same() {
    let (event_loop, _, listener) = server(Limits::default().connections(0));
    for barrage in [64 * 1024, 4 << 20] {
        let mut peer = Peer::connect(addr_of(&listener));
        peer.send_all(&event_loop, "HELP\r\n".repeat(barrage / 6).as_bytes());
        is_refused(&event_loop, &mut peer);
    }
}

/// A connection from this address of the loopback network: all of it is this machine, on Linux.
#[cfg(target_os = "linux")]
fn connect_from(host: u8, addr: SocketAddr) -> Peer {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let source: SocketAddr = ([127, 0, 0, host], 0).into();
    socket.bind(&source.into()).unwrap();
    socket.connect(&addr.into()).unwrap();
    Peer::new(socket.into())
}

#[cfg(target_os = "linux")]
#[test]
fn an_address_with_all_its_places_taken_leaves_those_of_others_alone() {
    let (event_loop, log, listener) = server(Limits::default().per_address(2));
    let connect = |host| connect_from(host, addr_of(&listener));
    let (mut first, mut second) = (connect(1), connect(1));
    is_served(&event_loop, &mut first);
    is_served(&event_loop, &mut second);
    is_refused(&event_loop, &mut connect(1));
    is_served(&event_loop, &mut connect(2));
    run_until(&event_loop, || log.has("close"));
    // The place that was left is another address's.
    is_refused(&event_loop, &mut connect(1));
    drop(second);
    run_until(&event_loop, || log.count("close") == 2);
    is_served(&event_loop, &mut connect(1));
    assert_eq!(event_loop.stats().refused, 2);
}

#[test]
fn by_default_an_address_has_a_thousand() {
    const TEST: &str = "places::by_default_an_address_has_a_thousand";
    stage::play(TEST, &[("all", a_thousand)]);
}

fn a_thousand() {
    if stage::descriptors() < 2100 {
        return println!("too few descriptors for a thousand connections");
    }
    let (event_loop, log, listener) = server(Limits::default());
    let mut peers: Vec<Peer> = (0..1000)
        .map(|_| Peer::connect(addr_of(&listener)))
        .collect();
    run_until(&event_loop, || log.count("connect") == 1000);
    is_refused(&event_loop, &mut Peer::connect(addr_of(&listener)));
    peers.truncate(999);
    run_until(&event_loop, || log.has("close"));
    is_served(&event_loop, &mut Peer::connect(addr_of(&listener)));
}

//! More clients than the quota allows: each receives the refusal, even one that sends first, and a
//! slot that becomes free is used.

#[cfg(target_os = "linux")]
use std::net::SocketAddr;

use asynchat::{Channel, EventLoop, Limits, Server};
#[cfg(target_os = "linux")]
use socket2::{Domain, Socket, Type};

use crate::common::{Log, Peer, addr_of, new_loop, run_until};
use crate::process;

const REFUSAL: &str = "400 too many connections\r\n";

/// An echo server with these limits.
fn server(limits: Limits) -> (EventLoop, Log, Channel) {
    let (event_loop, log) = (new_loop(), Log::default());
    let echo = log.session_with(|chat, line| {
        chat.push_slice(line);
        Ok(())
    });
    let listener = Server::new("127.0.0.1:0")
        .limits(limits)
        .refusal(REFUSAL)
        .listen_on(&event_loop, echo)
        .unwrap();
    (event_loop, log, listener)
}

#[track_caller]
fn assert_served(event_loop: &EventLoop, peer: &mut Peer) {
    peer.send("hello\r\n");
    peer.expect(event_loop, "hello");
}

#[track_caller]
fn assert_refused(event_loop: &EventLoop, peer: &mut Peer) {
    assert_eq!(peer.receive_all(event_loop), REFUSAL.as_bytes());
}

#[test]
fn a_client_above_the_quota_is_refused_until_a_connection_closes() {
    let (event_loop, log, listener) = server(Limits::default().connections(2));
    let connect = || Peer::connect(addr_of(&listener));
    let (mut first, mut second) = (connect(), connect());
    assert_served(&event_loop, &mut first);
    assert_served(&event_loop, &mut second);
    let mut third = connect();
    assert_refused(&event_loop, &mut third);
    let stats = event_loop.stats();
    assert_eq!((stats.accepted, stats.refused), (3, 1));
    // The refused client does not count as a connection.
    assert_eq!(
        (stats.opened, stats.closed, log.count("connect")),
        (3, 0, 2)
    );

    drop(first);
    run_until(&event_loop, || log.has("close"));
    let mut next = connect();
    assert_served(&event_loop, &mut next);
    assert_refused(&event_loop, &mut connect());
}

#[test]
fn a_client_that_sends_before_it_reads_receives_the_refusal() {
    let (event_loop, _, listener) = server(Limits::default().connections(0));
    for barrage in [64 * 1024, 4 << 20] {
        let mut peer = Peer::connect(addr_of(&listener));
        peer.send_all(&event_loop, "HELP\r\n".repeat(barrage / 6).as_bytes());
        assert_refused(&event_loop, &mut peer);
    }
}

/// A connection from 127.0.0.`host`. On Linux the whole network 127.0.0.0/8 is this machine.
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
fn a_full_quota_of_one_address_does_not_affect_others() {
    let (event_loop, log, listener) = server(Limits::default().per_address(2));
    let connect = |host| connect_from(host, addr_of(&listener));
    let (mut first, mut second) = (connect(1), connect(1));
    assert_served(&event_loop, &mut first);
    assert_served(&event_loop, &mut second);
    assert_refused(&event_loop, &mut connect(1));
    assert_served(&event_loop, &mut connect(2));
    run_until(&event_loop, || log.has("close"));
    // The connection that was closed belongs to another address.
    assert_refused(&event_loop, &mut connect(1));
    drop(second);
    run_until(&event_loop, || log.count("close") == 2);
    assert_served(&event_loop, &mut connect(1));
    assert_eq!(event_loop.stats().refused, 2);
}

#[test]
fn by_default_an_address_may_have_a_thousand_connections() {
    const TEST: &str = "quota::by_default_an_address_may_have_a_thousand_connections";
    process::run(TEST, &[("all", a_thousand)]);
}

fn a_thousand() {
    if process::descriptors() < 2100 {
        return println!("too few descriptors for a thousand connections");
    }
    let (event_loop, log, listener) = server(Limits::default());
    let mut peers: Vec<Peer> = (0..1000)
        .map(|_| Peer::connect(addr_of(&listener)))
        .collect();
    run_until(&event_loop, || log.count("connect") == 1000);
    assert_refused(&event_loop, &mut Peer::connect(addr_of(&listener)));
    peers.truncate(999);
    run_until(&event_loop, || log.has("close"));
    assert_served(&event_loop, &mut Peer::connect(addr_of(&listener)));
}

//! A socket that the program connects itself, and that a channel adopts before it is connected.

#![cfg(unix)]

mod common;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use asynchat::{Channel, Close, Connector, Dispatcher, EventLoop, Result, Socket};
use common::{Log, Peer, idle, new_loop, refusing, run_to_end, run_until};
use socket2::{Domain, Type};

/// A socket whose `connect` to this address was called.
fn connecting(addr: SocketAddr) -> Socket {
    Socket::connecting(TcpStream::from(begun(addr)))
}

fn begun(addr: SocketAddr) -> socket2::Socket {
    let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    let _ = socket.connect(&addr.into());
    socket
}

/// A listener whose backlog is full: a further connection stays in progress. With its connections.
#[cfg(target_os = "linux")]
fn full() -> (TcpListener, SocketAddr, Vec<socket2::Socket>) {
    let listener = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    listener.listen(0).unwrap();
    let listener = TcpListener::from(listener);
    let addr = listener.local_addr().unwrap();
    let waiting = (0..3).map(|_| begun(addr)).collect();
    (listener, addr, waiting)
}

struct Caller {
    channel: Channel,
    log: Log,
}

impl Dispatcher for Caller {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn handle_connect(&mut self) -> Result {
        self.log.add("connect");
        assert!(self.channel.is_connected() && self.channel.peer_addr().is_some());
        self.channel.send(b"hello")?;
        Ok(())
    }
    fn handle_read(&mut self) -> Result {
        self.channel.recv(&mut [0; 100])?;
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(format!("close {why}"));
    }
}

fn register(event_loop: &EventLoop, socket: Socket) -> (Channel, Log) {
    let (channel, log) = (Channel::adopt(socket).unwrap(), Log::default());
    assert!(channel.is_connecting() && !channel.is_connected());
    let caller = Caller {
        channel: channel.clone(),
        log: log.clone(),
    };
    event_loop.register(caller).unwrap();
    (channel, log)
}

#[test]
fn a_connect_that_is_complete_already_is_reported_as_well() {
    let event_loop = new_loop();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (channel, log) = register(&event_loop, connecting(listener.local_addr().unwrap()));
    let mut peer = Peer::new(listener.accept().unwrap().0);
    peer.expect(&event_loop, "hello");
    assert_eq!(log.lines(), ["connect"]);
    assert!(channel.is_connected() && !channel.is_connecting());
    drop(peer);
    run_to_end(&event_loop);
    assert_eq!(
        log.lines(),
        ["connect", "close the peer closed the connection"]
    );
}

#[cfg(target_os = "linux")] // Other systems refuse a connection that does not fit into the backlog.
#[test]
fn a_connect_in_progress_is_reported_when_it_is_complete() {
    let event_loop = new_loop();
    let (listener, addr, _waiting) = full();
    let (channel, log) = register(&event_loop, connecting(addr));
    idle(&event_loop);
    assert!(channel.is_connecting() && channel.is_open());
    assert_eq!(
        channel.recv(&mut [0]).unwrap_err().kind(),
        std::io::ErrorKind::NotConnected
    );
    // Room in the backlog. The kernel of the client repeats its SYN after a second.
    listener.set_nonblocking(true).unwrap();
    let mut accepted = Vec::new();
    run_until(&event_loop, || {
        accepted.extend(listener.accept());
        log.has("connect")
    });
    assert_eq!(log.lines(), ["connect"]);
    channel.close();
    run_to_end(&event_loop);
}

#[test]
fn a_connect_that_is_refused_is_a_failed_connect() {
    let (_bound, addr) = refusing();
    for before in [true, false] {
        let event_loop = new_loop();
        let socket = connecting(addr);
        if before {
            idle(&event_loop); // The refusal has arrived by now.
        }
        let (channel, log) = register(&event_loop, socket);
        run_to_end(&event_loop);
        let lines = log.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let why = "close could not connect: connect an adopted socket: ";
        assert!(lines[0].starts_with(why), "{lines:?}");
        assert!(!channel.is_connecting() && !channel.is_open());
    }
}

#[test]
fn a_socket_that_was_never_connected_fails_and_does_not_spin() {
    let event_loop = new_loop();
    let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let socket = Socket::connecting(TcpStream::from(socket));
    let (channel, log) = register(&event_loop, socket);
    // Where no poller reports such a socket, only its deadline ends it.
    channel.set_deadlines(channel.deadlines().connect(Duration::from_secs(1)));
    run_to_end(&event_loop);
    assert!(log.has("close could not connect: "), "{:?}", log.lines());
    assert!(
        event_loop.stats().turns < 50,
        "{}",
        event_loop.stats().turns
    );
}

#[test]
fn a_chat_waits_for_the_connect_of_its_socket() {
    let (event_loop, log) = (new_loop(), Log::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = connecting(listener.local_addr().unwrap());
    let chat = Connector::adopt(socket)
        .connect_on(&event_loop, log.session())
        .unwrap();
    assert!(chat.is_connecting());
    chat.push("hello\r\n");
    let mut peer = Peer::new(listener.accept().unwrap().0);
    peer.expect(&event_loop, "hello\r\n");
    assert_eq!(log.lines(), ["connect"]);
    assert_eq!(chat.peer_addr().unwrap().inet(), listener.local_addr().ok());
    // Urgent data is received in its place, as by any chat.
    socket2::SockRef::from(&peer.stream)
        .send_out_of_band(b"ABOR\r\n")
        .unwrap();
    run_until(&event_loop, || log.has("record ABOR"));
    let (_bound, addr) = refusing();
    let failed = Log::default();
    Connector::adopt(connecting(addr))
        .connect_on(&event_loop, failed.session())
        .unwrap();
    run_until(&event_loop, || failed.has("close"));
    assert_eq!(failed.lines(), ["close ConnectFailed"]);
}

#[test]
fn only_a_stream_socket_can_be_connecting() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = Channel::adopt(Socket::connecting(listener)).unwrap_err();
    assert!(refused.to_string().contains("only a stream socket"));
    let (near, far) = common::tcp_pair();
    let halves = Socket::halves(near, far);
    assert!(Channel::adopt(Socket::connecting(halves)).is_err());
}

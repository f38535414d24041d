//! A close that loses nothing: output that was pushed before it reaches a peer that is still
//! sending, and the cost of the connection after that is bounded.

use std::io::Write;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use asynchat::{Chat, Connector, Deadlines, EventLoop, Limits, Server};

use crate::common::{DEADLINE, Log, Peer, Slot, addr_of, idle, new_loop, run_to_end, run_until};
use crate::process;

const LONG: Duration = Duration::from_secs(3600);

/// More than the peer's kernel buffers before the peer reads.
const REPLY: usize = 256 * 1024;

/// A connection whose server answers any line with `reply` bytes and closes. The listener is
/// closed.
fn closing(linger: Duration, reply: usize) -> (EventLoop, Log, Peer) {
    let (event_loop, log, slot) = (new_loop(), Log::default(), Slot::default());
    let session = log.session_with(move |chat, _| {
        chat.push(vec![b'x'; reply]);
        chat.close_when_done();
        Ok(())
    });
    let listener = Server::new("127.0.0.1:0")
        .deadlines(Deadlines::default().linger(linger))
        .listen_on(&event_loop, slot.capture(session))
        .unwrap();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&addr_of(&listener).into()).unwrap();
    let peer = Peer::new(socket.into());
    run_until(&event_loop, || slot.is_filled());
    listener.close();
    run_until(&event_loop, || event_loop.len() == 1);
    (event_loop, log, peer)
}

/// The same, after the session is closed: only the lingering socket is left.
fn lingering(linger: Duration) -> (EventLoop, Peer) {
    let (event_loop, log, mut peer) = closing(linger, 100);
    peer.send("quit\r\n");
    run_until(&event_loop, || log.has("close Local"));
    assert_eq!(event_loop.len(), 1);
    assert_eq!(event_loop.stats().closed, 2);
    (event_loop, peer)
}

#[test]
fn a_reply_reaches_a_peer_that_keeps_sending() {
    let (event_loop, log, mut peer) = closing(LONG, REPLY);
    peer.send("quit\r\n");
    // More than the buffers of the kernel have room for: 38 MB.
    peer.send_all(
        &event_loop,
        "and another thing\r\n".repeat(2_000_000).as_bytes(),
    );
    assert_eq!(peer.receive_all(&event_loop).len(), REPLY);
    // The first line, and none that came after the close.
    assert_eq!(log.count("record"), 1);
    drop(peer);
    run_to_end(&event_loop);
}

/// The kernel has received all of the peer's input, and its end, before the server reads any of it.
/// A poller reports that like a reset, once the server has finished sending as well.
#[test]
fn a_reply_reaches_a_peer_that_has_finished_sending_before_it_is_served() {
    const REQUEST: usize = 200_000;
    let (event_loop, log) = (new_loop(), Log::default());
    let buffers = |receive| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.set_recv_buffer_size(receive).unwrap();
        socket
    };
    let listener = buffers(2 * REQUEST);
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    listener.bind(&any.into()).unwrap();
    listener.listen(1).unwrap();
    let client = buffers(4096);
    client.connect(&listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();

    let mut request = b"quit\r\n".to_vec();
    request.resize(REQUEST, b'x');
    client.set_write_timeout(Some(DEADLINE)).unwrap();
    (&client).write_all(&request).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    accepted.set_read_timeout(Some(DEADLINE)).unwrap();
    let (started, mut unread) = (Instant::now(), vec![MaybeUninit::uninit(); REQUEST]);
    while accepted.peek(&mut unread).unwrap() < REQUEST {
        assert!(started.elapsed() < DEADLINE, "the request does not arrive");
    }

    let session = log.session_with(|chat, _| {
        chat.push(vec![b'x'; REPLY]);
        chat.close_when_done();
        Ok(())
    });
    Connector::adopt(TcpStream::from(accepted))
        .deadlines(Deadlines::default().linger(LONG))
        .connect_on(&event_loop, session)
        .unwrap();
    // The socket is closed when its input has been read to the end. The kernel has the output.
    run_to_end(&event_loop);
    assert_eq!(log.lines().last().unwrap(), "close Local");
    let mut peer = Peer::new(client.into());
    assert_eq!(peer.receive_all(&event_loop).len(), REPLY);
}

/// The kernel still has output for a peer that reads slowly and keeps sending.
#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "netbsd",
    target_vendor = "apple"
))]
#[test]
fn a_reply_reaches_a_peer_that_reads_longer_than_the_linger_time() {
    use std::io::Read;

    const LINGER: Duration = Duration::from_millis(500);
    let (event_loop, log, mut peer) = closing(LINGER, REPLY);
    peer.send("quit\r\n");
    run_until(&event_loop, || log.has("close Local"));
    let (closed, mut received) = (Instant::now(), 0);
    run_until(&event_loop, || {
        // The peer reads everything, in twice the linger time.
        let due = closed.elapsed().as_secs_f64() / (LINGER * 2).as_secs_f64();
        let due = (due * REPLY as f64) as usize - received;
        if due == 0 {
            return false;
        }
        peer.send("and another thing\r\n");
        match peer.stream.read(&mut vec![0; due]) {
            Ok(0) => return true,
            Ok(count) => received += count,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}"),
        }
        false
    });
    assert_eq!(received, REPLY);
}

/// The reason for lingering: without it the kernel discards the reply.
#[cfg(target_os = "linux")]
#[test]
fn without_lingering_a_peer_that_keeps_sending_loses_the_reply() {
    let (event_loop, log, mut peer) = closing(Duration::ZERO, REPLY);
    peer.send("quit\r\n".to_owned() + &"and another thing\r\n".repeat(4000));
    run_until(&event_loop, || log.has("close Local"));
    assert!(peer.wait_for_end(&event_loop).is_err());
    assert!(peer.look().len() < REPLY);
}

#[test]
fn lingering_ends_when_the_peer_closes() {
    let (event_loop, mut peer) = lingering(LONG);
    peer.send("something that nobody reads\r\n");
    idle(&event_loop);
    assert_eq!(event_loop.len(), 1);
    peer.finish();
    run_to_end(&event_loop);
    assert!(peer.wait_for_end(&event_loop).is_ok());
}

#[test]
fn lingering_ends_after_the_linger_time() {
    let (event_loop, peer) = lingering(Duration::from_millis(50));
    run_to_end(&event_loop);
    drop(peer);
}

#[test]
fn lingering_ends_when_the_peer_has_sent_too_much() {
    const BOUND: usize = 1 << 30;
    let (event_loop, mut peer) = lingering(LONG);
    let (much, mut sent, mut is_reset) = (vec![b'x'; 64 * 1024], 0, false);
    while !is_reset {
        // Each write has its own deadline: a slow machine needs long for all of them.
        run_until(&event_loop, || match peer.stream.write(&much) {
            Ok(count) => {
                sent += count;
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => false,
            Err(_) => {
                is_reset = true;
                true
            }
        });
    }
    assert!(sent >= BOUND, "reset after {sent} bytes");
    assert!(event_loop.is_empty());
}

#[test]
fn lingering_does_not_delay_a_shutdown() {
    let (event_loop, peer) = lingering(LONG);
    event_loop.shutdown(Duration::from_millis(50));
    run_to_end(&event_loop);
    drop(peer);
}

#[test]
fn close_all_closes_lingering_sockets() {
    let (event_loop, peer) = lingering(LONG);
    event_loop.close_all();
    run_to_end(&event_loop);
    drop(peer);
}

#[test]
fn lingering_sockets_are_closed_with_their_loop() {
    let (event_loop, mut peer) = lingering(LONG);
    drop(event_loop);
    peer.stream.set_nonblocking(false).unwrap();
    // The first write is answered with a reset, and a later one fails.
    let started = Instant::now();
    while peer.stream.write(b"nobody reads this\r\n").is_ok() {
        assert!(
            started.elapsed() < DEADLINE,
            "the socket still accepts data"
        );
    }
}

#[test]
fn a_new_connection_is_served_while_others_linger() {
    let (event_loop, mut peer) = lingering(LONG);
    let listener = event_loop
        .listen("127.0.0.1:0", |chat: Chat| {
            move |line: &[u8]| {
                chat.push_slice(line);
                Ok(())
            }
        })
        .unwrap();
    let mut next = Peer::connect(addr_of(&listener));
    next.send("hello\r\n");
    next.expect(&event_loop, "hello");
    // The new connection has the slab entry of the lingering one, but not its events.
    peer.send("nobody reads this\r\n");
    idle(&event_loop);
    next.send("are you there?\r\n");
    next.expect(&event_loop, "are you there?");
    assert_eq!(event_loop.len(), 3);
    drop(peer);
    run_until(&event_loop, || event_loop.len() == 2);
}

#[test]
fn the_oldest_socket_is_closed_when_too_many_linger() {
    const TEST: &str = "lingering::the_oldest_socket_is_closed_when_too_many_linger";
    process::run(TEST, &[("all", too_many)]);
}

fn too_many() {
    const MOST: usize = 1024;
    if process::descriptors() < 2 * MOST + 100 {
        return println!("too few descriptors for {MOST} connections");
    }
    let (event_loop, log) = (new_loop(), Log::default());
    let session = log.session_with(|chat, _| {
        chat.close_when_done();
        Ok(())
    });
    let listener = Server::new("127.0.0.1:0")
        .deadlines(Deadlines::default().linger(LONG))
        .listen_on(&event_loop, session)
        .unwrap();
    let mut peers = Vec::new();
    for n in 0..=MOST {
        let mut peer = Peer::connect(addr_of(&listener));
        peer.send("quit\r\n");
        peers.push(peer);
        run_until(&event_loop, || log.count("close") == n + 1);
    }
    idle(&event_loop);
    assert_eq!(event_loop.len(), 1 + MOST);
    assert!(!is_lingering(&event_loop, &mut peers[0]));
    assert!(is_lingering(&event_loop, &mut peers[1]));
}

/// Data to a closed socket is answered with a reset. A lingering socket accepts it.
fn is_lingering(event_loop: &EventLoop, peer: &mut Peer) -> bool {
    peer.send("nobody reads this\r\n");
    idle(event_loop);
    peer.stream.write(b"nor this\r\n").is_ok()
}

#[test]
fn fewer_refused_clients_may_linger() {
    const MOST: usize = 64;
    let event_loop = new_loop();
    let listener = Server::new("127.0.0.1:0")
        .limits(Limits::default().connections(0))
        .deadlines(Deadlines::default().linger(LONG))
        .refusal("400 too many connections\r\n")
        .listen_on(&event_loop, Log::default().session())
        .unwrap();
    let mut peers = Vec::new();
    for n in 0..=MOST {
        peers.push(Peer::connect(addr_of(&listener)));
        run_until(&event_loop, || event_loop.stats().refused == n as u64 + 1);
    }
    assert_eq!(event_loop.len(), 1 + MOST);
    assert!(!is_lingering(&event_loop, &mut peers[0]));
    assert!(is_lingering(&event_loop, &mut peers[1]));
}

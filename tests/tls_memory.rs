//! The memory of a connection with TLS. This test binary has one test, because the allocator counts the whole
//! process.

#[path = "common/allocator.rs"]
mod allocator;
#[path = "common/mod.rs"]
mod common;
#[path = "common/tls.rs"]
mod tls;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::RangeInclusive;

use allocator::in_use;
use asynchat::tls::ServerName;
use asynchat::tls::rustls::version::{TLS12, TLS13};
use asynchat::tls::rustls::{ClientConnection, SupportedProtocolVersion};
use asynchat::{AsyncChat, Chat, EventLoop, Result, Server};

use common::{addr_of, idle, new_loop, run_until};
use tls::{client_config, client_config_of, server_config};

const CONNECTIONS: usize = 40;
const LISTING: usize = 60_000;

fn busy(chat: Chat) -> impl AsyncChat {
    move |_: &[u8]| {
        chat.push(vec![b'x'; LISTING]);
        Ok(())
    }
}

/// A connection that has received 300,000 bytes. What TLS needs on the side of the client is dropped.
fn connect_and_list(event_loop: &EventLoop, addr: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_nonblocking(true)?;
    let name = ServerName::try_from("localhost")?;
    let mut tls = ClientConnection::new(client_config(), name)?;
    let mut received = 0;
    tls.writer().write_all("list\r\n".repeat(5).as_bytes())?;
    run_until(event_loop, || {
        while tls.wants_write() {
            tls.write_tls(&mut stream).expect("there is room");
        }
        match tls.read_tls(&mut stream) {
            Ok(_) => {
                let state = tls.process_new_packets().expect("it is TLS");
                let mut plaintext = vec![0; state.plaintext_bytes_to_read()];
                if !plaintext.is_empty() {
                    tls.reader()
                        .read_exact(&mut plaintext)
                        .expect("it is there");
                }
                received += plaintext.len();
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
        received == 5 * LISTING
    });
    Ok(stream)
}

/// A message that says it has 64 KiB, in records of four bytes.
fn endless(kind: u8, version: u8) -> Vec<u8> {
    let message: Vec<u8> = [kind, 0, 0xff, 0xf0]
        .into_iter()
        .chain([0; 64_000])
        .collect();
    let record = |piece: &[u8]| [&[22, 3, version, 0, 4], piece].concat();
    message.chunks(4).flat_map(record).collect()
}

/// Sends the bytes to the loop on each stream, in pieces that it receives at once.
fn send_all(event_loop: &EventLoop, streams: &mut [TcpStream], bytes: &[u8]) -> Result {
    for piece in bytes.chunks(5000) {
        for stream in &mut *streams {
            stream.write_all(piece)?;
        }
        idle(event_loop);
    }
    assert_eq!(event_loop.len(), streams.len() + 2, "none was closed");
    Ok(())
}

/// Connections whose clients have sent the first message, and got the answer.
fn answered(
    event_loop: &EventLoop,
    addr: SocketAddr,
    version: &'static SupportedProtocolVersion,
) -> Result<Vec<TcpStream>> {
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        let name = ServerName::try_from("localhost")?;
        let mut tls = ClientConnection::new(client_config_of(version), name)?;
        let mut stream = TcpStream::connect(addr)?;
        tls.write_tls(&mut stream)?;
        stream.set_nonblocking(true)?;
        streams.push(stream);
    }
    let is_answered = |stream: &TcpStream| stream.peek(&mut [0]).is_ok_and(|count| count > 0);
    run_until(event_loop, || streams.iter().all(is_answered));
    Ok(streams)
}

/// The figures are those of docs/security.md.
#[test]
fn a_connection_holds_little_before_its_handshake_and_no_buffer_after_a_burst() -> Result {
    let event_loop = new_loop();
    let listener = Server::new("127.0.0.1:0")
        .tls(server_config())
        .listen_on(&event_loop, busy)?;
    let addr = addr_of(&listener);
    // What the loop shares is there already.
    let _first = connect_and_list(&event_loop, addr)?;
    let holds = |before: usize, what: &str, expected: RangeInclusive<usize>| {
        let held = || in_use().saturating_sub(before) / CONNECTIONS;
        // A turn takes a few handshakes only, so what was sent last may wait for the next turns.
        run_until(&event_loop, || held() >= *expected.start());
        let held = held();
        println!("{what}: {held}");
        assert!(expected.contains(&held), "{what}: {held} bytes for each");
    };
    let forget = |streams: Vec<TcpStream>| {
        drop(streams);
        run_until(&event_loop, || event_loop.len() == 2);
    };

    let before = in_use();
    let streams = (0..CONNECTIONS).map(|_| TcpStream::connect(addr));
    let mut streams = streams.collect::<std::io::Result<Vec<_>>>()?;
    run_until(&event_loop, || event_loop.len() == CONNECTIONS + 2);
    // On Windows the poller has an entry for each socket.
    let entry = if cfg!(windows) { 128 } else { 0 };
    holds(before, "silent", 500..=1_700 + entry);

    // As much as is kept of a first message that never ends.
    let most = 16 * 1024;
    send_all(&event_loop, &mut streams, &endless(1, 1)[..most])?;
    holds(before, "unfinished first message", most..=most + 2_000);
    forget(streams);

    let before = in_use();
    let streams = answered(&event_loop, addr, &TLS13)?;
    holds(before, "answered, TLS 1.3", 1_000..=6_000);
    forget(streams);

    // The same of the message behind the answer.
    let before = in_use();
    let mut streams = answered(&event_loop, addr, &TLS12)?;
    holds(before, "answered, TLS 1.2", 1_000..=4_000 + entry);
    let most = 68 * 1024;
    send_all(&event_loop, &mut streams, &endless(16, 3)[..most])?;
    holds(before, "unfinished second message", most..=most + 4_500);
    forget(streams);

    let before = in_use();
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        streams.push(connect_and_list(&event_loop, addr)?);
    }
    holds(before, "idle after a burst", 1_000..=6_000);
    Ok(())
}

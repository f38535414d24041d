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

use allocator::in_use;
use asynchat::tls::ServerName;
use asynchat::tls::rustls::ClientConnection;
use asynchat::{AsyncChat, Chat, EventLoop, Result, Server};

use common::{addr_of, idle, new_loop, run_until};
use tls::{client_config, server_config};

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

#[test]
fn a_connection_holds_little_before_its_handshake_and_no_buffer_after_a_burst() -> Result {
    let event_loop = new_loop();
    let listener = Server::new("127.0.0.1:0")
        .tls(server_config())
        .listen_on(&event_loop, busy)?;
    let addr = addr_of(&listener);
    // What the loop shares is there already.
    let _first = connect_and_list(&event_loop, addr)?;
    let each = |before: usize| in_use().saturating_sub(before) / CONNECTIONS;

    let before = in_use();
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS {
        silent.push(TcpStream::connect(addr)?);
    }
    run_until(&event_loop, || event_loop.len() == CONNECTIONS + 2);
    let held = each(before);
    println!("before the handshake: {held}");
    assert!(held < 4096, "{held} bytes for each");

    // A first message that never ends.
    let before = in_use();
    for stream in &mut silent {
        stream.write_all(&[22, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xf0])?;
        stream.write_all(&[0; 15_000])?;
    }
    idle(&event_loop);
    let held = each(before);
    println!("with an unfinished first message: {held}");
    assert!(held < 32 * 1024, "{held} bytes for each");
    drop(silent);
    run_until(&event_loop, || event_loop.len() == 2);

    let before = in_use();
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS {
        idle.push(connect_and_list(&event_loop, addr)?);
    }
    let held = each(before);
    println!("idle after a burst: {held}");
    assert!(held < 12 * 1024, "{held} bytes for each");
    Ok(())
}

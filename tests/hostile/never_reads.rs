//! Nearly a thousand clients, as many as one address may have and a good one, that ask for much and read nothing (CVE-2025-21605, CVE-2024-12254): each
//! costs what it may have queued, and no more.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};

use asynchat::{AsyncChat, Chat, More, Producer, Result, Server};
use bytes::Bytes;
use socket2::{Domain, Socket, Type};

use crate::allocator::in_use;
use crate::common::{Peer, addr_of, idle, new_loop, run_until};
use crate::stage::{self, Process};

const CLIENTS: usize = 990;

/// What each may cost: the high-water mark, the reply that went over it, and what had been read.
const EACH: usize = 96 * 1024;

/// What each sends, if the kernel takes it.
const BARRAGE: usize = 64 * 1024;

#[test]
fn a_thousand_that_ask_for_lines() {
    const TEST: &str = "never_reads::a_thousand_that_ask_for_lines";
    let server = || serve(TEST, "text");
    stage::play(TEST, &[("server", server), ("clients", clients)]);
}

#[test]
fn a_thousand_that_ask_for_files() {
    const TEST: &str = "never_reads::a_thousand_that_ask_for_files";
    let server = || serve(TEST, "file");
    stage::play(TEST, &[("server", server), ("clients", clients)]);
}

#[test]
fn a_thousand_that_ask_for_this_and_that() {
    const TEST: &str = "never_reads::a_thousand_that_ask_for_this_and_that";
    let server = || serve(TEST, "text,text,file,text");
    stage::play(TEST, &[("server", server), ("clients", clients)]);
}

/// Answers with a line of a kibibyte, or with a file of a hundred of them.
struct Replies(Chat);

impl AsyncChat for Replies {
    fn found_terminator(&mut self, command: &[u8]) -> Result {
        match command {
            b"file" => self.0.push_with_producer(Lines(100)),
            _ => self.0.push_slice(&LINE),
        }
        Ok(())
    }
}

static LINE: [u8; 1024] = [b'x'; 1024];

struct Lines(u8);

impl Producer for Lines {
    fn more(&mut self, _: usize) -> std::io::Result<More> {
        if self.0 == 0 {
            return Ok(More::Done);
        }
        self.0 -= 1;
        Ok(More::Chunk(Bytes::from_static(&LINE)))
    }
}

fn serve(test: &str, commands: &str) {
    let event_loop = new_loop();
    // The kernel's own buffers are small, so that nearly all of it has to wait in the process.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    socket.bind(&any.into()).unwrap();
    socket.set_send_buffer_size(4096).unwrap();
    socket.listen(4096).unwrap();
    let server = Server::adopt(TcpListener::from(socket));
    let listener = server.listen_on(&event_loop, Replies).unwrap();
    let before = in_use();
    let about = format!("{} {commands}", addr_of(&listener));
    let mut clients = Process::start(test, "clients", &about, None);
    let mut most = 0;
    run_until(&event_loop, || {
        most = most.max(in_use() - before);
        clients.heard().is_some()
    });
    // Until a few glances bring nothing new.
    let mut seen = 0;
    run_until(&event_loop, || {
        idle(&event_loop);
        most = most.max(in_use() - before);
        std::mem::replace(&mut seen, event_loop.stats().events) == event_loop.stats().events
    });
    assert_eq!(event_loop.len(), CLIENTS + 1);
    let (each, stats) = (most / CLIENTS, event_loop.stats());
    let answered = stats.records_in / CLIENTS as u64;
    println!("{each} bytes for each, who got {answered} answers");
    // Each was over its mark: else it would be no wonder.
    assert!(stats.records_in > 64 * CLIENTS as u64 / commands.len() as u64);
    assert!(each <= EACH, "{each} bytes for each");

    let mut good = Peer::connect(addr_of(&listener));
    good.send("text\r\n");
    good.expect(&event_loop, LINE);
    clients.tell("enough");
    clients.finish();
}

fn clients() {
    let about = stage::about();
    let (addr, commands) = about.split_once(' ').unwrap();
    let addr: SocketAddr = addr.parse().unwrap();
    let commands = commands.replace(',', "\r\n") + "\r\n";
    let barrage = commands.repeat(BARRAGE / commands.len());
    let clients: Vec<Socket> = (0..CLIENTS)
        .map(|_| {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            client.set_recv_buffer_size(2048).unwrap();
            client.connect(&addr.into()).unwrap();
            client.set_nonblocking(true).unwrap();
            if let Err(error) = (&client).write(barrage.as_bytes()) {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
            }
            client
        })
        .collect();
    stage::say("they have asked");
    stage::told().next();
    drop(clients);
}

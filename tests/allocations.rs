//! Processing records allocates nothing. This test binary has one test, because the allocator
//! counts the whole process.

#[path = "common/allocator.rs"]
mod allocator;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use allocator::{in_use, made};
use asynchat::{AsyncChat, Channel, Chat, Deadlines, EventLoop, Result, Server, Terminator};
use bytes::Bytes;

/// Longer than the test runs.
const LONG: Duration = Duration::from_secs(3600);

const LINE: &[u8] = b"a line of thirty-two bytes, CRLF\r\n";

#[test]
fn a_record_allocates_nothing_and_a_connection_little() {
    let event_loop = EventLoop::new().unwrap();
    records_cost_nothing(&event_loop, Deadlines::default());
    let all = Deadlines::default().idle(LONG).lifetime(LONG);
    records_cost_nothing(&event_loop, all.record(LONG).drain(LONG));
    connections_cost_little(&event_loop);
}

/// Sets the terminator that each record names, and answers each record.
struct Session {
    chat: Chat,
    line: Terminator,
    large: Bytes,
    /// The terminator of the next record, if it is not a line.
    body: bool,
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        let next = match record {
            _ if std::mem::take(&mut self.body) => Some(self.line.clone()),
            b"body" => Some(Terminator::count(10)),
            b"stream" => Some(Terminator::count(10).streamed()),
            b"block" => Some(Terminator::dot_block()),
            _ => None,
        };
        match next {
            Some(terminator) => {
                self.body = terminator != self.line;
                self.chat.set_terminator(terminator);
            }
            None if record == b"large" => self.chat.push(self.large.clone()),
            None if record == b"written" => write!(self.chat, "{:>10}", record.len()),
            None => self.chat.push_slice(record),
        }
        self.chat.push("\r\n");
        Ok(())
    }

    fn collect_incoming_data(&mut self, chunk: &[u8]) -> Result {
        self.chat.push_slice(chunk);
        Ok(())
    }
}

fn records_cost_nothing(event_loop: &EventLoop, deadlines: Deadlines) {
    let large = Bytes::from(vec![b'x'; 10_000]);
    let listener = Server::new("127.0.0.1:0")
        .deadlines(deadlines)
        .listen_on(event_loop, move |chat| Session {
            chat,
            line: Terminator::crlf(),
            large: large.clone(),
            body: false,
        })
        .unwrap();
    let mut peer = connect_to(&listener);
    let barrage = LINE.repeat(1000);
    let mut ask =
        |question: &[u8], answer: usize| exchange(event_loop, &mut peer, question, answer);
    // What is pushed after a large push has a buffer of its own.
    let cases: [(&str, &[u8], usize, usize); 7] = [
        ("a line", LINE, LINE.len(), 0),
        ("a thousand lines at once", &barrage, barrage.len(), 0),
        ("a formatted reply", b"written\r\n", 12, 0),
        ("a line and a body by count", b"body\r\n0123456789", 4, 0),
        ("a body that streams", b"stream\r\n0123456789", 14, 0),
        ("a block of lines", b"block\r\none\r\n..two\r\n.\r\n", 4, 0),
        ("a large reply that is shared", b"large\r\n", 10_002, 2),
    ];
    for (what, question, answer, each) in cases {
        // In the first rounds the buffers grow.
        for _ in 0..10 {
            ask(question, answer);
        }
        let before = made();
        for _ in 0..100 {
            ask(question, answer);
        }
        let made = made() - before;
        assert!(made <= 100 * each, "{what}: {made} allocations");
    }
}

/// Their state, handlers, and registrations.
fn connections_cost_little(event_loop: &EventLoop) {
    const CONNECTIONS: usize = 900;
    let small = |chat: Chat| {
        move |record: &[u8]| {
            chat.push_slice(record);
            chat.push("\r\n");
            Ok(())
        }
    };
    let listener = event_loop.listen("127.0.0.1:0", small).unwrap();
    let mut peers = Vec::with_capacity(CONNECTIONS);
    let before = in_use();
    for _ in 0..CONNECTIONS {
        let mut peer = connect_to(&listener);
        exchange(event_loop, &mut peer, LINE, LINE.len());
        peers.push(peer);
    }
    let each = (in_use() - before) / CONNECTIONS;
    println!("{each} bytes for each connection");
    // A simulated network has more state for each connection, and poll(2) has a table of all.
    let plain = !cfg!(any(feature = "sim", polling_test_poll_backend));
    let most = if plain { 512 } else { 576 };
    assert!(each <= most, "{each} bytes for each connection");
}

fn connect_to(listener: &Channel) -> TcpStream {
    let addr = listener.local_addr().and_then(|addr| addr.inet()).unwrap();
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_nonblocking(true).unwrap();
    stream
}

/// Runs turns until `answer` bytes have been received.
fn exchange(event_loop: &EventLoop, peer: &mut TcpStream, question: &[u8], answer: usize) {
    peer.write_all(question).unwrap();
    let (mut buffer, mut left) = ([0; 65_536], answer);
    while left > 0 {
        match peer.read(&mut buffer) {
            Ok(0) => panic!("it closed"),
            Ok(count) => left -= count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                event_loop.run_once(Duration::from_millis(5)).unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

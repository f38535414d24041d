//! Processing records allocates nothing. This test binary has one test, because the allocator
//! counts the whole process.

#[path = "common/allocator.rs"]
mod allocator;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use allocator::{allocated, balance, in_use, made};
use asynchat::{
    AsyncChat, Channel, Chat, Deadlines, EventLoop, Limits, More, Producer, ReadProducer, Result,
    Server, Terminator,
};
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
    an_owned_record_is_copied_once(&event_loop);
    a_long_record_is_pushed_without_a_copy(&event_loop);
    a_part_of_a_long_record_is_copied(&event_loop);
    a_file_needs_no_new_buffer();
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

/// The length of a body, then the body, which is owned.
struct Upload {
    chat: Chat,
    before: (usize, isize),
    measured: Rc<RefCell<Vec<(usize, isize)>>>,
}

impl AsyncChat for Upload {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        let length = std::str::from_utf8(line)?.parse()?;
        let body = Terminator::count(length).limit(1 << 30).owned();
        self.chat.set_terminator(body);
        self.before = (made(), balance());
        Ok(())
    }

    fn found_record(&mut self, body: Bytes) -> Result {
        let (made, balance) = (made() - self.before.0, balance() - self.before.1);
        self.measured.borrow_mut().push((made, balance));
        write!(self.chat, "{:>10}", body.len());
        self.chat.set_terminator(Terminator::crlf());
        Ok(())
    }
}

/// Pushes a part of a record. Measures what the push allocates.
struct Part {
    chat: Chat,
    length: usize,
    measured: Rc<Cell<Option<usize>>>,
}

impl AsyncChat for Part {
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        // It never has anything: what follows stays in the queue.
        self.chat.push_with_producer(Never);
        let before = allocated();
        self.chat.push_slice(&record[..self.length]);
        self.measured.set(Some(allocated() - before));
        Ok(())
    }
}

struct Never;

impl Producer for Never {
    fn more(&mut self, _: usize) -> std::io::Result<More> {
        Ok(More::Pending)
    }
}

const RECORD: usize = 1 << 20;

/// Sends a record of [`RECORD`] bytes to a session that pushes so much of it. Returns what the push has allocated, and
/// how many bytes the queue occupies.
fn push_part(event_loop: &EventLoop, length: usize) -> (usize, isize) {
    let measured = Rc::new(Cell::new(None));
    let log = Rc::clone(&measured);
    let server = Server::new("127.0.0.1:0").limits(Limits::default().record(2 << 20));
    let part = move |chat| Part {
        chat,
        length,
        measured: Rc::clone(&log),
    };
    let listener = server.listen_on(event_loop, part).unwrap();
    let mut peer = connect_to(&listener);
    let (line, before) = ([&vec![b'x'; RECORD][..], b"\r\n"].concat(), balance());
    let mut left = &line[..];
    while measured.get().is_none() {
        match peer.write(left) {
            Ok(count) => left = &left[count..],
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        event_loop.run_once(Duration::ZERO).unwrap();
    }
    let occupied = balance() - before;
    event_loop.close_all();
    event_loop.run().unwrap();
    (measured.get().unwrap(), occupied)
}

/// The queue gets a reference to it.
fn a_long_record_is_pushed_without_a_copy(event_loop: &EventLoop) {
    let most = (RECORD + RECORD / 4 + 100_000).cast_signed();
    for length in [RECORD, RECORD - RECORD / 20] {
        let (allocated, occupied) = push_part(event_loop, length);
        assert!(allocated <= 1024, "{allocated} bytes");
        assert!(occupied <= most, "{occupied} bytes");
    }
}

/// A reference would keep the whole record in memory.
fn a_part_of_a_long_record_is_copied(event_loop: &EventLoop) {
    for length in [5_000, RECORD / 2] {
        push_part(event_loop, length);
        let (allocated, occupied) = push_part(event_loop, length);
        assert!(
            (length..length + 1000).contains(&allocated),
            "{allocated} bytes"
        );
        assert!(
            occupied < (length + 100_000).cast_signed(),
            "{occupied} bytes"
        );
    }
}

/// From the buffer of the loop into the record. The handler gets that, and not a copy of it.
fn an_owned_record_is_copied_once(event_loop: &EventLoop) {
    const LENGTH: usize = 8 << 20;
    let measured = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&measured);
    let listener = event_loop
        .listen("127.0.0.1:0", move |chat| Upload {
            chat,
            before: (0, 0),
            measured: Rc::clone(&log),
        })
        .unwrap();
    let mut peer = connect_to(&listener);
    // The first terminator that is not the default one is stored for the connection.
    exchange(event_loop, &mut peer, b"0\r\n", 10);
    exchange(event_loop, &mut peer, b"0\r\n", 10);
    exchange(event_loop, &mut peer, b"8388608\r\n", 0);
    let mut body = &vec![b'x'; LENGTH][..];
    while !body.is_empty() {
        match peer.write(body) {
            Ok(count) => body = &body[count..],
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        event_loop.run_once(Duration::ZERO).unwrap();
    }
    exchange(event_loop, &mut peer, b"", 10);
    let measured = measured.borrow();
    let [_, (0, 0), (made, balance)] = measured[..] else {
        panic!("{measured:?}");
    };
    // The buffer begins with the bytes of one read, and doubles.
    assert!(made <= 20, "{made} allocations");
    let most = (LENGTH + 65_536).cast_signed();
    assert!(balance <= most, "{balance} bytes for {LENGTH}");
}

/// What allocates no buffer fills none with zeros.
fn a_file_needs_no_new_buffer() {
    let send = |length: usize| {
        let file = vec![b'x'; length];
        let mut producer = ReadProducer::new(&file[..]);
        let (before, mut sent) = (allocated(), 0);
        while let More::Chunk(chunk) = producer.more(65_536).unwrap() {
            sent += chunk.len();
        }
        assert_eq!(sent, length);
        allocated() - before
    };
    send(100_000);
    for (length, most) in [(12, 64), (100_000, 1024), (10_000_000, 64 * 1024)] {
        let allocated = send(length);
        assert!(allocated <= most, "{allocated} bytes for {length}");
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
    let simulated = if cfg!(feature = "sim") { 64 } else { 0 };
    // `polling` has a table of all sockets for poll(2), and an entry of its own for each one on Windows.
    let entry = match () {
        () if cfg!(windows) => 128,
        () if cfg!(polling_test_poll_backend) => 84,
        () => 0,
    };
    let most = 400 + simulated + entry;
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

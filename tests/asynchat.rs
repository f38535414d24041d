//! The tests of CPython 3.11's `test_asynchat.py`, over IPv4, IPv6 and Unix sockets.

mod common;

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;
use std::thread::{self, JoinHandle};

use asynchat::{
    AsyncChat, Chat, Close, Connector, EventLoop, IterProducer, Result, SimpleProducer, Socket,
    Terminator,
};
use bytes::Bytes;
use common::family::{Family, over_all_families};
use common::{new_loop, run_to_end};

const QUIT: &str = "QUIT\n";

/// The peer of a test: collects input until it receives QUIT, then sends everything back, `chunk`
/// bytes at a time. Returns what it has collected.
fn echo(mut socket: impl Read + Write + Send + 'static, chunk: usize) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let (mut collected, mut buffer) = (Vec::new(), [0; 100]);
        while !collected.ends_with(QUIT.as_bytes()) {
            match socket.read(&mut buffer).expect("the client is there") {
                0 => break,
                count => collected.extend_from_slice(&buffer[..count]),
            }
        }
        let end = collected.len() - QUIT.len();
        collected.truncate(end);
        for piece in collected.chunks(chunk) {
            match socket.write_all(piece) {
                Ok(()) => {}
                // The client may have closed by then.
                Err(error) => {
                    let kind = error.kind();
                    assert!(matches!(
                        kind,
                        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
                    ));
                    break;
                }
            }
        }
        collected
    })
}

/// What the client has received.
#[derive(Default)]
struct Got {
    contents: Vec<String>,
    /// Data without a terminator at the end.
    buffer: Vec<u8>,
    closed: Option<String>,
}

struct EchoClient {
    got: Rc<RefCell<Got>>,
}

impl AsyncChat for EchoClient {
    fn collect_incoming_data(&mut self, chunk: &[u8]) -> Result {
        self.got.borrow_mut().buffer.extend_from_slice(chunk);
        Ok(())
    }
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        let mut got = self.got.borrow_mut();
        let mut buffer = std::mem::take(&mut got.buffer);
        buffer.extend_from_slice(record);
        got.contents.push(String::from_utf8(buffer)?);
        Ok(())
    }
    fn handle_eof(&mut self, partial: &[u8]) -> Result<asynchat::Eof> {
        self.got.borrow_mut().buffer.extend_from_slice(partial);
        Ok(asynchat::Eof::CloseWhenDone)
    }
    fn handle_close(&mut self, why: &Close) {
        self.got.borrow_mut().closed = Some(common::name(why));
    }
}

/// Runs a client to its end against an echo server. Returns what the client and the server
/// received.
fn talk(
    family: Family,
    terminator: Terminator,
    chunk: usize,
    say: impl FnOnce(&Chat),
) -> (Got, Vec<u8>) {
    let (event_loop, got) = (new_loop(), Rc::<RefCell<Got>>::default());
    let (near, server) = connected(family, chunk);
    let client = EchoClient {
        got: Rc::clone(&got),
    };
    let chat = connect(&event_loop, near, client);
    chat.set_terminator(terminator);
    say(&chat);
    run_to_end(&event_loop);
    let collected = server.join().expect("the server does not panic");
    (got.take(), collected)
}

fn connect(event_loop: &EventLoop, socket: Socket, client: EchoClient) -> Chat {
    let connector = Connector::adopt(socket);
    let chat = connector.connect_on(event_loop, |_| client);
    chat.expect("the loop takes it")
}

/// A socket that is connected to an echo server.
fn connected(family: Family, chunk: usize) -> (Socket, JoinHandle<Vec<u8>>) {
    let addr = match family {
        Family::Ipv4 => "127.0.0.1:0",
        Family::Ipv6 => "[::1]:0",
        #[cfg(unix)]
        Family::Unix => {
            let pair = std::os::unix::net::UnixStream::pair();
            let (near, far) = pair.expect("sockets can be made");
            return (near.into(), echo(far, chunk));
        }
    };
    let listener = std::net::TcpListener::bind(addr).expect("a port is free");
    let addr = listener.local_addr().expect("it is bound");
    let near = std::net::TcpStream::connect(addr).expect("it listens");
    let (far, _) = listener.accept().expect("it has a connection");
    far.set_nodelay(true).expect("an option of the socket");
    (near.into(), echo(far, chunk))
}

over_all_families!(
    line_terminator_1,
    line_terminator_2,
    line_terminator_3,
    numeric_terminator_1,
    numeric_terminator_2,
    none_terminator,
    simple_producer,
    string_producer,
    empty_line,
    close_when_done,
    push,
    a_partial_terminator_at_the_end_of_the_input_is_held_back,
);

/// A terminator of one, two or three bytes; the server sends one, two or three bytes at a time.
fn line_terminator_check(family: Family, terminator: &str) {
    for chunk in [1, 2, 3] {
        let ends = Terminator::try_bytes(terminator.as_bytes()).unwrap();
        let (got, _) = talk(family, ends, chunk, |chat| {
            chat.push("hello ");
            write!(chat, "world{terminator}");
            write!(chat, "I'm not dead yet!{terminator}");
            chat.push(QUIT);
        });
        assert_eq!(got.contents, ["hello world", "I'm not dead yet!"]);
        assert_eq!(got.closed.as_deref(), Some("Eof"));
    }
}

fn line_terminator_1(family: Family) {
    line_terminator_check(family, "\n");
}

fn line_terminator_2(family: Family) {
    line_terminator_check(family, "\r\n");
}

fn line_terminator_3(family: Family) {
    line_terminator_check(family, "qqq");
}

/// In asynchat the count stayed at 0, which swallowed the rest. In this crate each `n` bytes are a
/// record.
fn numeric_terminator_check(family: Family, length: usize) {
    let data = "hello world, I'm not dead yet!\n";
    let (got, _) = talk(family, Terminator::count(length as u64), 1, |chat| {
        chat.push(data);
        chat.push(QUIT);
    });
    let wanted: Vec<&str> = (0..data.len() / length)
        .map(|n| &data[n * length..(n + 1) * length])
        .collect();
    assert_eq!(got.contents, wanted);
    assert_eq!(got.buffer, &data.as_bytes()[wanted.len() * length..]);
}

fn numeric_terminator_1(family: Family) {
    numeric_terminator_check(family, 1);
}

fn numeric_terminator_2(family: Family) {
    numeric_terminator_check(family, 6);
}

fn none_terminator(family: Family) {
    let data = "hello world, I'm not dead yet!\n";
    let (got, _) = talk(family, Terminator::none(), 1, |chat| {
        chat.push(data);
        chat.push(QUIT);
    });
    assert_eq!(got.contents, [""; 0]);
    assert_eq!(got.buffer, data.as_bytes());
}

const LINES: &str = "hello world\nI'm not dead yet!\nQUIT\n";

fn simple_producer(family: Family) {
    let (got, _) = talk(family, Terminator::bytes(b"\n"), 1, |chat| {
        chat.push_with_producer(SimpleProducer::new(LINES).chunk_size(8));
    });
    assert_eq!(got.contents, ["hello world", "I'm not dead yet!"]);
}

fn string_producer(family: Family) {
    let (got, _) = talk(family, Terminator::bytes(b"\n"), 1, |chat| {
        chat.push_with_producer(LINES);
    });
    assert_eq!(got.contents, ["hello world", "I'm not dead yet!"]);
}

fn empty_line(family: Family) {
    let (got, _) = talk(family, Terminator::bytes(b"\n"), 1, |chat| {
        chat.push("hello world\n\nI'm not dead yet!\n");
        chat.push(QUIT);
    });
    assert_eq!(got.contents, ["hello world", "", "I'm not dead yet!"]);
}

/// All that was pushed reaches the server; its answers are not delivered.
fn close_when_done(family: Family) {
    let (got, collected) = talk(family, Terminator::bytes(b"\n"), 1, |chat| {
        chat.push("hello world\nI'm not dead yet!\n");
        chat.push(QUIT);
        chat.close_when_done();
    });
    assert_eq!(got.contents, [""; 0]);
    assert_eq!(got.closed.as_deref(), Some("Local"));
    assert_eq!(collected, b"hello world\nI'm not dead yet!\n");
}

/// bpo-12523: `push` accepted objects that it could not send. Here the types prevent that.
fn push(family: Family) {
    let (got, _) = talk(family, Terminator::bytes(b"\n"), 1, |chat| {
        chat.push("bytes\n");
        chat.push(b"bytes\n".as_slice());
        chat.push(String::from("bytes\n"));
        chat.push(Vec::from("bytes\n"));
        chat.push(Bytes::from("bytes\n"));
        chat.push_slice(&bytes::BytesMut::from("bytes\n"));
        chat.push_with_producer(IterProducer::new([QUIT]));
    });
    assert_eq!(got.contents, ["bytes"; 6]);
}

/// `test_find_prefix_at_end`: bytes that may be the start of a terminator are held back, and others
/// are delivered.
fn a_partial_terminator_at_the_end_of_the_input_is_held_back(family: Family) {
    let (got, _) = talk(family, Terminator::crlf(), 7, |chat| {
        // "qwerty\r", "\nqwert\r", "x\r\n".
        chat.push("qwerty\r\nqwert\rx\r\n");
        chat.push(QUIT);
    });
    assert_eq!(got.contents, ["qwerty", "qwert\rx"]);
}

/// `test_disallow_negative_terminator` (bpo-11259): a count is unsigned, and a terminator is not
/// empty.
#[test]
fn an_empty_terminator_is_rejected() {
    assert!(Terminator::try_bytes(b"").is_err());
    assert_eq!(Terminator::count(0), Terminator::count(0));
}

//! One conversation with the `nntp` example over a loopback connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use super::super::naive::{self, Kind, find, read};
use super::server::article::Memory;
use super::server::head::Head;
use super::server::passwords::{CheckPassword, Checked};
use super::server::{Options, Spool, serve};

/// Ends the current line or article, and the session.
const EPILOGUE: &[u8] = b"\r\n.\r\nQUIT\r\n";

/// An upper bound: a conversation takes at most one or two turns for each byte.
const TURNS: usize = 20_000;

/// How long the loop waits in a turn after all input has been sent.
const WAIT: Duration = Duration::from_millis(1);

/// How long the loop may take to end the remaining connections.
const END_WAIT: Duration = Duration::from_secs(1);

pub fn converse(input: &[u8]) {
    let options = Options {
        check_password: input.starts_with(b"AUTHINFO").then(check_password),
        insecure_auth: true,
        ..Options::default()
    };
    let listener = serve("127.0.0.1:0", spool(), options).expect("a port is free");
    let addr = listener
        .local_addr()
        .and_then(|addr| addr.to_string().parse().ok());
    let input = [input, EPILOGUE].concat();
    let received = talk(addr.expect("it listens"), &input);
    asynchat::shutdown(END_WAIT);
    while asynchat::run_once(WAIT).expect("the loop works") {}
    follow(&input, &received);
}

fn check_password() -> Box<CheckPassword> {
    Box::new(|_, name, password| match (name, password) {
        ("ann", "secret") => Some(Checked::Right),
        _ => Some(Checked::Wrong(Duration::ZERO)),
    })
}

/// One group of each kind, and one article with hostile content.
fn spool() -> Spool {
    let mut spool = Spool::demo(3);
    spool.add_group("a.closed", "No posts", 0, false);
    let group = spool.add_group("a.talk", "Talk", 1_000_000_000, true);
    let head = "From: a\tb <a@b.invalid>\r\nSubject: one\n two\0three\r\n four\rfive\r\n\
                Message-ID: <1@b.invalid>\r\nX-A: x\r\n";
    let head = Head::repair(head.as_bytes());
    let body = ".\r\n..\r\nsix\n.\nseven\rand\0eight\r\n";
    spool.append(&group, Memory::new(head, body).article(0));
    spool
}

/// Sends all of the input, and receives until the server closes.
fn talk(addr: SocketAddr, mut input: &[u8]) -> Vec<u8> {
    let mut client = TcpStream::connect(addr).expect("it listens");
    client.set_nonblocking(true).expect("a socket can");
    // A reset at the end, because TIME_WAIT sockets would use up all ports.
    let linger = SockRef::from(&client).set_linger(Some(Duration::ZERO));
    linger.expect("a socket can");
    let mut received = vec![];
    let mut buffer = [0; 4096];
    let mut wait = Duration::ZERO;
    for _ in 0..TURNS {
        if !input.is_empty() {
            match client.write(input) {
                Ok(n) => input = &input[n..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The server has closed. What it sent before is still to be received.
                Err(_) => input = &[],
            }
        }
        asynchat::run_once(wait).expect("the loop works");
        wait = Duration::ZERO;
        match client.read(&mut buffer) {
            Ok(0) => return received,
            Ok(n) => received.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait = WAIT,
            Err(error) => panic!("after {}: {error}", received.escape_ascii()),
        }
    }
    panic!("no end after {}", received.escape_ascii());
}

/// Checks the replies against the commands, one by one.
fn follow(input: &[u8], received: &[u8]) {
    let mut input = input;
    let mut received = received;
    let mut code = reply(&mut received);
    assert!(matches!(code, 200 | 201), "greeted with {code}");
    // The server closes after these two.
    while !matches!(code, 205 | 400) {
        let wants_article = matches!(code, 335 | 340);
        let kind = if wants_article {
            Kind::DotBlock
        } else {
            Kind::Crlf
        };
        let next = read(&kind, input).next.expect("the epilogue ends it");
        let line = &input[..next];
        input = &input[next..];
        code = reply(&mut received);
        let is_right = match code {
            235 | 240 | 436 | 437 | 441 => wants_article,
            _ => !wants_article,
        };
        assert!(is_right, "{code} to {}", line.escape_ascii());
        if !wants_article && line.len() > 512 {
            assert!(matches!(code, 400 | 501), "{code} to a long line");
        }
    }
    assert_eq!(received, b"", "after the goodbye");
}

/// Takes one reply from the front of what was received.
fn reply(received: &mut &[u8]) -> u16 {
    let end =
        find(b"\r\n", received).unwrap_or_else(|| panic!("no line: {}", received.escape_ascii()));
    let line = &received[..end];
    *received = &received[end + 2..];
    let text = std::str::from_utf8(line).expect("a status line is text");
    assert!(!text.contains(['\r', '\n', '\0']), "{text:?}");
    assert!(text.len() <= 510, "{text:?}");
    let (code, _) = text.split_once(' ').expect("a code and what it means");
    assert!(code.len() == 3, "{text:?}");
    let code = code.parse().expect("a code");
    let is_multi_line = match code {
        100 | 101 | 215 | 220 | 221 | 222 | 224 | 225 | 230 | 231 => true,
        211 => text.ends_with(" list follows"),
        _ => false,
    };
    if is_multi_line {
        let block = naive::read(&Kind::DotBlock, received);
        *received = &received[block.next.expect("a block has an end")..];
        check_lines(&block.content);
    }
    code
}

fn check_lines(content: &[u8]) {
    for line in content.split_inclusive(|&b| b == b'\n') {
        let line = line.strip_suffix(b"\r\n").expect("CR LF ends a line");
        let is_clean = !line.iter().any(|octet| b"\r\n\0".contains(octet));
        assert!(is_clean, "{}", line.escape_ascii());
    }
}

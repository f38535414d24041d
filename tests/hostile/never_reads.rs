//! Nearly a thousand clients, as many as one address may have beside a good client, send many
//! requests and read no reply (CVE-2025-21605, CVE-2024-12254): each costs its bounded queue and no
//! more.

use std::cell::RefCell;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;

use asynchat::{AsyncChat, Chat, More, Producer, Result, Server};
use bytes::Bytes;
use socket2::{Domain, Socket, Type};

use crate::allocator::in_use;
use crate::common::{Peer, addr_of, idle, new_loop, run_until};
use crate::process::{self, Process};

const CLIENTS: usize = 990;

/// What each may cost: the high-water mark, the reply that exceeded it, and the input that was
/// read.
const EACH: usize = 96 * 1024;

/// What each sends first, in lines without a reply: a client must not cost more because much was
/// read from it before.
const WARM_UP: usize = 40 * 1024;

/// What each sends then, as far as the kernel accepts it.
const BARRAGE: usize = 128 * 1024;

#[test]
fn a_thousand_unread_connections_that_request_lines_cost_little() {
    const TEST: &str = "never_reads::a_thousand_unread_connections_that_request_lines_cost_little";
    let server = || serve(TEST, "text");
    process::run(TEST, &[("server", server), ("clients", clients)]);
}

#[test]
fn a_thousand_unread_connections_that_request_files_cost_little() {
    const TEST: &str = "never_reads::a_thousand_unread_connections_that_request_files_cost_little";
    let server = || serve(TEST, "file");
    process::run(TEST, &[("server", server), ("clients", clients)]);
}

#[test]
fn a_thousand_unread_connections_that_request_lines_and_files_cost_little() {
    const TEST: &str =
        "never_reads::a_thousand_unread_connections_that_request_lines_and_files_cost_little";
    let server = || serve(TEST, "text,text,file,text");
    process::run(TEST, &[("server", server), ("clients", clients)]);
}

/// Answers with a line of 1 KiB, with a producer of 100 KiB, or not at all.
struct Replies(Chat);

impl AsyncChat for Replies {
    fn found_terminator(&mut self, command: &[u8]) -> Result {
        match command {
            b"file" => self.0.push_with_producer(Lines(100)),
            [b'#', ..] => {}
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
    // The kernel's buffers are small, so that nearly all output waits in the process.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    socket.bind(&any.into()).unwrap();
    socket.set_send_buffer_size(4096).unwrap();
    socket.listen(4096).unwrap();
    let server = Server::adopt(TcpListener::from(socket));
    let chats: Rc<RefCell<Vec<Chat>>> = Rc::default();
    let served = Rc::clone(&chats);
    let factory = move |chat: Chat| {
        served.borrow_mut().push(chat.clone());
        Replies(chat)
    };
    let listener = server.listen_on(&event_loop, factory).unwrap();
    let before = in_use();
    let argument = format!("{} {commands}", addr_of(&listener));
    let mut clients = Process::start(test, "clients", &argument, None);
    let mut most = 0;
    run_until(&event_loop, || {
        most = most.max(in_use() - before);
        let chats = chats.borrow();
        chats.len() == CLIENTS && chats.iter().all(|chat| read_of(chat) == WARM_UP)
    });
    clients.send("ask");
    let mut least = None;
    run_until(&event_loop, || {
        most = most.max(in_use() - before);
        least = clients.try_next_report();
        least.is_some()
    });
    // Until several rounds bring no progress.
    let mut seen = 0;
    run_until(&event_loop, || {
        idle(&event_loop);
        most = most.max(in_use() - before);
        std::mem::replace(&mut seen, event_loop.stats().events) == event_loop.stats().events
    });
    assert_eq!(event_loop.len(), CLIENTS + 1);
    // Each queue is above the high-water mark, with more input unread. Otherwise the test proves
    // nothing.
    let sent = WARM_UP + least.unwrap().parse::<usize>().unwrap();
    for chat in chats.borrow().iter() {
        let (queued, read) = (chat.queued(), read_of(chat));
        assert!(queued > 0 && read < sent, "{queued} queued, {read} read");
    }
    let each = most / CLIENTS;
    println!("{each} bytes for each connection");
    assert!(each <= EACH, "{each} bytes for each connection");

    let mut good = Peer::connect(addr_of(&listener));
    good.send("text\r\n");
    good.expect(&event_loop, LINE);
    clients.send("enough");
    clients.finish();
}

fn read_of(chat: &Chat) -> usize {
    usize::try_from(chat.stats().bytes_in).unwrap()
}

fn clients() {
    let argument = process::argument();
    let (addr, commands) = argument.split_once(' ').unwrap();
    let addr: SocketAddr = addr.parse().unwrap();
    let comments = format!("#{:>1021}\r\n", "").repeat(WARM_UP / 1024);
    let clients: Vec<Socket> = (0..CLIENTS)
        .map(|_| {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            client.set_recv_buffer_size(2048).unwrap();
            client.connect(&addr.into()).unwrap();
            (&client).write_all(comments.as_bytes()).unwrap();
            client.set_nonblocking(true).unwrap();
            client
        })
        .collect();
    let mut control = process::commands();
    control.next();
    let commands = commands.replace(',', "\r\n") + "\r\n";
    let barrage = commands.repeat(BARRAGE / commands.len());
    let sent = clients
        .iter()
        .map(|mut client| match client.write(barrage.as_bytes()) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => panic!("{error}"),
        });
    process::report(&sent.min().unwrap().to_string());
    control.next();
    drop(clients);
}

//! Nearly a thousand clients, as many as one address may have and a good one, that ask for much and
//! read nothing (CVE-2025-21605, CVE-2024-12254): each costs what it may have queued, and no more.

use std::cell::RefCell;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;

use asynchat::{AsyncChat, Chat, More, Producer, Result, Server};
use bytes::Bytes;
use socket2::{Domain, Socket, Type};

use crate::allocator::in_use;
use crate::common::{Peer, addr_of, idle, new_loop, run_until};
use crate::stage::{self, Process};

const CLIENTS: usize = 990;

/// What each may cost: the high-water mark, the reply that went over it, and what had been read.
const EACH: usize = 96 * 1024;

/// What each sends first, of lines that nobody answers: who has been read much of is not to cost
/// more for it afterwards.
const WARM_UP: usize = 40 * 1024;

/// What each sends then, if the kernel takes it.
const BARRAGE: usize = 128 * 1024;

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

/// Answers with a line of a kibibyte, or with a file of a hundred of them; or not at all.
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
    // The kernel's own buffers are small, so that nearly all of it has to wait in the process.
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
    let about = format!("{} {commands}", addr_of(&listener));
    let mut clients = Process::start(test, "clients", &about, None);
    let mut most = 0;
    run_until(&event_loop, || {
        most = most.max(in_use() - before);
        let chats = chats.borrow();
        chats.len() == CLIENTS && chats.iter().all(|chat| read_of(chat) == WARM_UP)
    });
    clients.tell("ask");
    let mut least = None;
    run_until(&event_loop, || {
        most = most.max(in_use() - before);
        least = clients.heard();
        least.is_some()
    });
    // Until a few glances bring nothing new.
    let mut seen = 0;
    run_until(&event_loop, || {
        idle(&event_loop);
        most = most.max(in_use() - before);
        std::mem::replace(&mut seen, event_loop.stats().events) == event_loop.stats().events
    });
    assert_eq!(event_loop.len(), CLIENTS + 1);
    // Each is over its mark, else it would be no wonder: there is more to read of it, and it rests.
    let sent = WARM_UP + least.unwrap().parse::<usize>().unwrap();
    for chat in chats.borrow().iter() {
        let (queued, read) = (chat.queued(), read_of(chat));
        assert!(queued > 0 && read < sent, "{queued} queued, {read} read");
    }
    let each = most / CLIENTS;
    println!("{each} bytes for each");
    assert!(each <= EACH, "{each} bytes for each");

    let mut good = Peer::connect(addr_of(&listener));
    good.send("text\r\n");
    good.expect(&event_loop, LINE);
    clients.tell("enough");
    clients.finish();
}

fn read_of(chat: &Chat) -> usize {
    usize::try_from(chat.stats().bytes_in).unwrap()
}

fn clients() {
    let about = stage::about();
    let (addr, commands) = about.split_once(' ').unwrap();
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
    let mut orders = stage::told();
    orders.next();
    let commands = commands.replace(',', "\r\n") + "\r\n";
    let barrage = commands.repeat(BARRAGE / commands.len());
    let sent = clients
        .iter()
        .map(|mut client| match client.write(barrage.as_bytes()) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => panic!("{error}"),
        });
    stage::say(&sent.min().unwrap().to_string());
    orders.next();
    drop(clients);
}

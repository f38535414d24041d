//! Workloads whose instructions `check.py` counts with callgrind. Each run executes one workload.
//!
//! ```text
//! cargo bench --bench instructions -- pipelined 1000
//! ```
//!
//! The peer and the server alternate on one thread, so that all runs are the same. Only the instructions
//! within [`turn`], which runs the loop, are counted. In the workloads with workers the peer waits until the
//! workers have done what it asks for.

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use asynchat::{
    AsyncChat, Chat, Deadlines, EventLoop, Group, IntoSession, Limits, Result, Server, Service,
    SimpleProducer, Terminator, Worker, Workers,
};
use bytes::Bytes;

const BULK: usize = 1 << 20;
const LINE: &[u8] = b"a line of thirty-two bytes, CRLF\r\n";
/// The number of connections that receive a broadcast.
const MEMBERS: usize = 100;

fn main() -> Result {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|it| it != "--bench")
        .collect();
    let [workload, count] = &arguments[..] else {
        return Err("usage: instructions WORKLOAD COUNT".into());
    };
    let count = count.parse()?;
    match workload.as_str() {
        "ping-pong" => lines(count, 1, Deadlines::default()),
        "timed" => lines(count, 1, all_deadlines()),
        "pipelined" => lines(count, 500, Deadlines::default()),
        "article" => articles(count),
        "one-push" => articles_in_one_push(count),
        "broadcast" => broadcast(count),
        "gathered" => gathered(count),
        "block" => blocks(count),
        "bulk" => bulk(count),
        "churn" => churn(count, |peer| peer.send(b"QUIT\r\n")),
        "ended" => churn(count, |peer| Ok(peer.0.shutdown(Shutdown::Write)?)),
        "quit" => churn_without_linger(count),
        "long" => long_lines(count),
        "cut" => cut_lines(count, 64 << 10),
        "cut-mib" => cut_lines(count, 1 << 20),
        "pipe" => piped(count),
        // The same work: check.py counts the acceptor's part of it, and that of all loops.
        "hand-over" | "on-worker" => hand_over(count),
        "shared" => shared(count),
        _ => Err(format!("no such workload: {workload}").into()),
    }
}

/// `count` lines and their replies, with `depth` lines in flight.
fn lines(count: usize, depth: usize, deadlines: Deadlines) -> Result {
    let (event_loop, addr, room) = serve()?;
    let mut peer = Peer::connect(addr)?;
    peer.ask(&event_loop, b"JOIN\r\n", 4)?;
    for chat in room.borrow_mut().drain(..) {
        chat.set_deadlines(deadlines);
    }
    let barrage = LINE.repeat(depth);
    for _ in 0..count / depth {
        peer.ask(&event_loop, &barrage, depth * (LINE.len() + 4))?;
    }
    Ok(())
}

/// Deadlines that do not pass.
fn all_deadlines() -> Deadlines {
    let long = Duration::from_secs(600);
    Deadlines::default()
        .idle(long)
        .record(long)
        .input(long)
        .drain(long)
        .lifetime(long)
}

/// `count` replies that consist of many pushes.
fn articles(count: usize) -> Result {
    let (event_loop, addr, _) = serve()?;
    let mut peer = Peer::connect(addr)?;
    for _ in 0..count {
        peer.ask(&event_loop, b"ARTICLE\r\n", 32 * LINE.len() + 8192)?;
    }
    Ok(())
}

/// `count` articles of 2 KB, each with one push.
fn articles_in_one_push(count: usize) -> Result {
    let article = [b'x'; 2000];
    let (event_loop, addr) = serve_sessions(move |chat: Chat| {
        move |number: &[u8]| {
            chat.push_slices(&[b"220 ", number, b"\r\n", &article]);
            Ok(())
        }
    })?;
    let mut peer = Peer::connect(addr)?;
    for _ in 0..count {
        peer.ask(&event_loop, b"123\r\n", article.len() + 9)?;
    }
    Ok(())
}

/// `count` dot blocks of thirty lines, half of which are dot-stuffed.
fn blocks(count: usize) -> Result {
    let (event_loop, addr, _) = serve()?;
    let mut peer = Peer::connect(addr)?;
    let block = [
        b"BLOCK\r\n",
        &[LINE, b"..\r\n"].concat().repeat(15)[..],
        b".\r\n",
    ]
    .concat();
    for _ in 0..count {
        peer.ask(&event_loop, &block, 4)?;
    }
    Ok(())
}

/// `count` producers of a MiB each.
fn bulk(count: usize) -> Result {
    let (event_loop, addr, _) = serve()?;
    let mut peer = Peer::connect(addr)?;
    for _ in 0..count {
        peer.ask(&event_loop, b"BULK\r\n", BULK)?;
    }
    Ok(())
}

/// Lines that are sent to a hundred members each, `count` deliveries in all.
fn broadcast(count: usize) -> Result {
    let (event_loop, addr, room) = serve()?;
    let mut peers = Vec::new();
    for _ in 0..MEMBERS {
        let mut peer = Peer::connect(addr)?;
        peer.ask(&event_loop, b"JOIN\r\n", 4)?;
        peers.push(peer);
    }
    assert_eq!(room.borrow().len(), MEMBERS);
    for _ in 0..count / MEMBERS {
        peers[0].send(b"SAY\r\n")?;
        for peer in &mut peers {
            peer.receive(&event_loop, LINE.len())?;
        }
    }
    Ok(())
}

/// Sixteen lines in a turn, which are sent to a hundred members together, `count` deliveries in all.
fn gathered(count: usize) -> Result {
    const LINES: usize = 16;
    let hall = Rc::<Hall>::default();
    let entered = Rc::clone(&hall);
    let (event_loop, addr) = serve_sessions(move |chat: Chat| {
        entered.members.add(&chat);
        let hall = Rc::clone(&entered);
        move |line: &[u8]| {
            hall.say(line);
            Ok(())
        }
    })?;
    let mut peers = Vec::new();
    for member in 1..=MEMBERS {
        peers.push(Peer::connect(addr)?);
        while hall.members.len() < member {
            turn(&event_loop)?;
        }
    }
    let lines = LINE.repeat(LINES);
    for _ in 0..count / MEMBERS {
        peers[0].send(&lines)?;
        for peer in &mut peers {
            peer.receive(&event_loop, lines.len())?;
        }
    }
    Ok(())
}

/// A room in which what is said in one turn is pushed to the members together.
#[derive(Default)]
struct Hall {
    members: Group,
    said: RefCell<Vec<u8>>,
}

impl Hall {
    fn say(self: &Rc<Self>, line: &[u8]) {
        let mut said = self.said.borrow_mut();
        if said.is_empty() {
            let hall = Rc::clone(self);
            asynchat::call_soon(move || {
                hall.members.push(hall.said.take());
            });
        }
        said.extend_from_slice(line);
        said.extend_from_slice(b"\r\n");
    }
}

/// `count` connections that send one line. The peer calls `end`, and the server closes.
fn churn(count: usize, end: impl Fn(&mut Peer) -> Result) -> Result {
    let (event_loop, addr, _) = serve()?;
    connections(count, &event_loop, addr, end)
}

/// `count` connections that send one line and are closed by a server that does not wait for the peer's end.
fn churn_without_linger(count: usize) -> Result {
    let (event_loop, addr) = serve_sessions(|chat: Chat| {
        move |line: &[u8]| {
            if line == b"QUIT" {
                chat.push("205 bye\r\n");
                chat.close_when_done();
                chat.skip_linger();
            } else {
                chat.push_slices(&[b"200 ", line, b"\r\n"]);
            }
            Ok(())
        }
    })?;
    connections(count, &event_loop, addr, |peer| peer.send(b"QUIT\r\n"))
}

fn connections(
    count: usize,
    event_loop: &EventLoop,
    addr: SocketAddr,
    end: impl Fn(&mut Peer) -> Result,
) -> Result {
    for _ in 0..count {
        let mut peer = Peer::connect(addr)?;
        peer.ask(event_loop, LINE, LINE.len() + 4)?;
        end(&mut peer)?;
        peer.receive(event_loop, usize::MAX)?;
        drop(peer);
        while event_loop.len() > 1 {
            turn(event_loop)?;
        }
    }
    Ok(())
}

/// `count` lines of 16 KiB, each of which is sent back.
fn long_lines(count: usize) -> Result {
    let line = line_of(16 << 10);
    let (event_loop, addr) = serve_echo()?;
    let mut peer = Peer::connect(addr)?;
    for _ in 0..count {
        peer.ask(&event_loop, &line, line.len())?;
    }
    Ok(())
}

/// `count` lines, each of which arrives in segments of 1,400 bytes and is sent back.
fn cut_lines(count: usize, length: usize) -> Result {
    let line = line_of(length);
    let (event_loop, addr) = serve_echo()?;
    let mut peer = Peer::connect(addr)?;
    peer.0.set_nodelay(true)?;
    for _ in 0..count {
        for segment in line.chunks(1400) {
            peer.send(segment)?;
            turn(&event_loop)?;
        }
        peer.receive(&event_loop, line.len())?;
    }
    Ok(())
}

/// `count` blocks of 64 KiB through two connections that are piped.
fn piped(count: usize) -> Result {
    let event_loop = EventLoop::new()?;
    let mut first = None;
    let listener = event_loop.listen("127.0.0.1:0", move |chat: Chat| {
        match first.take() {
            None => first = Some(chat),
            Some(first) => asynchat::pipe(&first, &chat)?,
        }
        Ok(|_: &[u8]| Ok(()))
    })?;
    let addr = listener.local_addr().and_then(|addr| addr.inet());
    let addr = addr.ok_or("no address")?;
    let (mut near, mut far) = (Peer::connect(addr)?, Peer::connect(addr)?);
    let block = [b'x'; 64 << 10];
    for _ in 0..count {
        near.send(&block)?;
        far.receive(&event_loop, block.len())?;
    }
    Ok(())
}

/// `count` connections that are handed to one of two workers, one by one. The loop of this thread accepts them.
fn hand_over(count: usize) -> Result {
    let event_loop = EventLoop::new()?;
    let (service, addr) = start_workers(&event_loop)?;
    for _ in 0..count {
        let mut peer = join_on_a_worker(&event_loop, addr)?;
        peer.0.shutdown(Shutdown::Write)?;
        peer.0.read_to_end(&mut Vec::new())?;
    }
    service.finish()?;
    Ok(())
}

/// Lines that are sent to a hundred members on two workers, `count` deliveries in all.
fn shared(count: usize) -> Result {
    let event_loop = EventLoop::new()?;
    let (service, addr) = start_workers(&event_loop)?;
    let mut peers = Vec::new();
    for _ in 0..MEMBERS {
        peers.push(join_on_a_worker(&event_loop, addr)?);
    }
    let mut received = [0; LINE.len()];
    for _ in 0..count / MEMBERS {
        peers[0].send(LINE)?;
        for peer in &mut peers {
            peer.0.read_exact(&mut received)?;
        }
    }
    service.finish()?;
    Ok(())
}

/// Starts two workers. Each connection is greeted when it has joined their group, and its lines are sent to the group.
fn start_workers(event_loop: &EventLoop) -> Result<(Service, SocketAddr)> {
    let set_up = |worker: &Worker| {
        let room = worker.group("room");
        worker.listen(Server::new("127.0.0.1:0"), move |chat: Chat| {
            room.add(&chat);
            chat.push("ok\r\n");
            let room = room.clone();
            move |line: &[u8]| {
                room.push([line, b"\r\n"].concat());
                Ok(())
            }
        })?;
        Ok(())
    };
    let service = Workers::new().threads(2).start_on(event_loop, set_up)?;
    let addr = service.local_addrs()[0].inet().ok_or("no address")?;
    Ok((service, addr))
}

/// Connects, and waits for the greeting.
fn join_on_a_worker(event_loop: &EventLoop, addr: SocketAddr) -> Result<Peer> {
    let mut peer = Peer::connect(addr)?;
    turn(event_loop)?;
    peer.0.set_nonblocking(false)?;
    peer.0.read_exact(&mut [0; 4])?;
    Ok(peer)
}

fn line_of(length: usize) -> Vec<u8> {
    let mut line = vec![b'x'; length];
    line.extend_from_slice(b"\r\n");
    line
}

/// One turn of the loop. `check.py` counts the instructions within this function.
#[inline(never)]
fn turn(event_loop: &EventLoop) -> Result {
    event_loop.run_once(Duration::ZERO)?;
    Ok(())
}

type Room = Rc<RefCell<Vec<Chat>>>;

fn serve() -> Result<(EventLoop, SocketAddr, Room)> {
    let event_loop = EventLoop::new()?;
    let room = Room::default();
    let members = Rc::clone(&room);
    let large: Bytes = vec![b'x'; 8192].into();
    let bulk: Bytes = vec![b'x'; BULK].into();
    let listener = event_loop.listen("127.0.0.1:0", move |chat| Session {
        chat,
        room: Rc::clone(&members),
        large: large.clone(),
        bulk: bulk.clone(),
    })?;
    let addr = listener.local_addr().and_then(|addr| addr.inet());
    Ok((event_loop, addr.ok_or("no address")?, room))
}

/// Sends each line back.
fn serve_echo() -> Result<(EventLoop, SocketAddr)> {
    serve_sessions(|chat: Chat| {
        move |line: &[u8]| {
            chat.push_slices(&[line, b"\r\n"]);
            Ok(())
        }
    })
}

fn serve_sessions<I: IntoSession>(
    factory: impl FnMut(Chat) -> I + 'static,
) -> Result<(EventLoop, SocketAddr)> {
    let event_loop = EventLoop::new()?;
    let server = Server::new("127.0.0.1:0").limits(Limits::default().record(1 << 20));
    let listener = server.listen_on(&event_loop, factory)?;
    let addr = listener.local_addr().and_then(|addr| addr.inet());
    Ok((event_loop, addr.ok_or("no address")?))
}

struct Session {
    chat: Chat,
    room: Room,
    large: Bytes,
    bulk: Bytes,
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        let chat = &self.chat;
        match line {
            b"ARTICLE" => {
                for _ in 0..32 {
                    chat.push_slice(LINE);
                }
                chat.push(self.large.clone());
            }
            b"JOIN" => {
                self.room.borrow_mut().push(chat.clone());
                chat.push("ok\r\n");
            }
            b"SAY" => {
                for member in self.room.borrow().iter() {
                    member.push_slice(LINE);
                }
            }
            b"QUIT" => chat.close_when_done(),
            b"BLOCK" => chat.set_terminator(Terminator::dot_block()),
            block if block.len() > LINE.len() => {
                chat.push("ok\r\n");
                chat.set_terminator(Terminator::crlf());
            }
            b"BULK" => chat.push_with_producer(SimpleProducer::new(self.bulk.clone())),
            line => {
                chat.push_slices(&[b"200 ", line, b"\r\n"]);
            }
        }
        Ok(())
    }
}

/// The client, which runs turns of the loop while it waits.
struct Peer(TcpStream);

impl Peer {
    fn connect(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nonblocking(true)?;
        Ok(Peer(stream))
    }

    fn send(&mut self, data: &[u8]) -> Result {
        Ok(self.0.write_all(data)?)
    }

    fn ask(&mut self, event_loop: &EventLoop, data: &[u8], reply: usize) -> Result {
        self.send(data)?;
        self.receive(event_loop, reply)
    }

    /// Waits for `count` bytes, or for the end of the stream.
    fn receive(&mut self, event_loop: &EventLoop, count: usize) -> Result {
        let (mut buffer, mut left) = ([0; 65_536], count);
        while left > 0 {
            match self.0.read(&mut buffer) {
                Ok(0) => break,
                Ok(received) => left -= received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => turn(event_loop)?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

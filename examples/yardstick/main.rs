//! The server of a small benchmark protocol.
//!
//! ```text
//! cargo run --release --example yardstick -- 7007
//! cargo run --release --example yardstick -- 7007 --threads 2
//! cargo run --release --example yardstick -- 7007 --workers 2
//! cargo run --release --example yardstick -- 7007 --tls-cert cert.pem --tls-key key.pem
//! ```
//!
//! Lines end with CRLF.
//!
//! | command | reply |
//! |---|---|
//! | `BULK n` | `211 n`, then n bytes and CRLF |
//! | `ARTICLE k` | `220 k`, then thirty lines of text and a dot line |
//! | `JOIN` | `200 JOIN`; the connection joins the room |
//! | `SAY x` | `300 x` to all connections in the room, on one loop after the replies to other commands that came with it |
//! | `QUIT` | `205 bye`, then the connection is closed |
//! | any other line | `200` and the line |
//!
//! Ctrl-C and SIGTERM end it, and a second signal ends it at once. SIGHUP does nothing.

#[path = "../common/mod.rs"]
mod common;

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use asynchat::{
    AsyncChat, Chat, Group, Limits, More, Producer, Result, Server, SharedGroup, Worker, Workers,
    tls,
};
use bytes::Bytes;
use clap::Parser;

/// The time that connections have for their queued output at the end.
const GRACE: Duration = Duration::from_secs(1);

/// Serves the benchmark protocol on 127.0.0.1.
#[derive(Parser)]
#[command(after_help = common::SIGNALS)]
struct Args {
    /// The port; 0 chooses a free one.
    port: u16,
    /// How many threads to start. Each has its own loop, its own share of the connections and its
    /// own room. More than one requires SO_REUSEPORT.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    /// How many `Workers` to start. Another thread accepts for them, and they have one room.
    #[arg(long, conflicts_with = "threads", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,
    /// Use TLS with this certificate (PEM). The example `test_certificate` makes one.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl Args {
    /// How TLS connections are accepted, if the server is to use TLS.
    fn acceptor(&self) -> Result<Option<tls::Acceptor>> {
        let files = self.tls_cert.as_ref().zip(self.tls_key.as_ref());
        let config = files.map(|(cert, key)| tls::server_config_from_files(cert, key));
        Ok(config.transpose()?.map(tls::Acceptor::from))
    }
}

/// The state that the sessions of one loop share.
struct Shared {
    room: Room,
    article: Bytes,
    fill: Bytes,
}

impl Shared {
    fn new(room: Room) -> Rc<Self> {
        Rc::new(Shared {
            room,
            article: article(),
            fill: vec![b'x'; 64 * 1024].into(),
        })
    }
}

/// The connections that have joined.
enum Room {
    OfLoop(Rc<Hall>),
    OfWorkers(SharedGroup),
}

impl Room {
    fn join(&self, chat: &Chat) {
        match self {
            Room::OfLoop(hall) => {
                hall.push_said();
                hall.members.add(chat);
            }
            Room::OfWorkers(group) => group.add(chat),
        }
    }

    /// A connection is about to close. What it has said comes first.
    fn leave(&self) {
        if let Room::OfLoop(hall) = self {
            hall.push_said();
        }
    }

    fn say(&self, parts: &[&[u8]]) {
        match self {
            Room::OfLoop(hall) => hall.say(parts),
            Room::OfWorkers(group) => {
                group.push(parts.concat());
            }
        }
    }
}

/// A room of one loop. What is said in one turn of the loop is pushed to the members together.
#[derive(Default)]
struct Hall {
    members: Group,
    said: RefCell<Vec<u8>>,
}

impl Hall {
    fn say(self: &Rc<Self>, parts: &[&[u8]]) {
        if self.said.borrow().is_empty() {
            let hall = Rc::clone(self);
            asynchat::call_soon(move || hall.push_said());
        }
        let length = {
            let mut said = self.said.borrow_mut();
            parts.iter().for_each(|part| said.extend_from_slice(part));
            said.len()
        };
        // The limit of a member's queue counts each push when it is made.
        if length > 16 * 1024 {
            self.push_said();
        }
    }

    fn push_said(&self) {
        let said = self.said.take();
        if !said.is_empty() {
            self.members.push(said);
        }
    }
}

struct Session {
    chat: Chat,
    shared: Rc<Shared>,
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        let chat = &self.chat;
        match line {
            [b'B', b'U', b'L', b'K', b' ', count @ ..] => {
                let count = std::str::from_utf8(count)?.parse()?;
                write!(chat, "211 {count}\r\n");
                chat.push_with_producer(Fill {
                    left: count,
                    from: self.shared.fill.clone(),
                });
                chat.push("\r\n");
            }
            [b'A', b'R', b'T', b'I', b'C', b'L', b'E', b' ', number @ ..] => {
                chat.push_slices(&[b"220 ", number, b"\r\n", &self.shared.article]);
            }
            b"JOIN" => {
                self.shared.room.join(chat);
                chat.push("200 JOIN\r\n");
            }
            [b'S', b'A', b'Y', b' ', words @ ..] => {
                self.shared.room.say(&[b"300 ", words, b"\r\n"]);
            }
            b"QUIT" => {
                self.shared.room.leave();
                chat.push("205 bye\r\n");
                chat.close_when_done();
                chat.skip_linger();
            }
            line => chat.push_slices(&[b"200 ", line, b"\r\n"]),
        }
        Ok(())
    }
}

/// Produces a number of bytes, as slices of one buffer.
struct Fill {
    left: usize,
    from: Bytes,
}

impl Producer for Fill {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        let count = self.left.min(budget).min(self.from.len());
        if count == 0 {
            return Ok(More::Done);
        }
        self.left -= count;
        Ok(More::Chunk(self.from.slice(..count)))
    }
}

/// Thirty lines of seventy letters, and a dot line.
fn article() -> Bytes {
    let mut article = Vec::new();
    for line in 0..30u8 {
        article.extend_from_slice(&[b'a' + line % 26; 70]);
        article.extend_from_slice(b"\r\n");
    }
    article.extend_from_slice(b".\r\n");
    article.into()
}

/// What all servers have in common.
fn server(addr: SocketAddr, tls: Option<&tls::Acceptor>) -> Server {
    let limits = Limits::default()
        // Clients of the protocol send lines of up to one mebibyte.
        .record(2 << 20)
        // All clients have the same address, and there are tens of thousands of them.
        .connections(65_536)
        .per_address(Limits::UNLIMITED);
    let server = Server::new(addr).limits(limits);
    match tls {
        Some(acceptor) => server.tls(acceptor),
        None => server,
    }
}

fn main() -> Result {
    let args = Args::parse();
    let tls = args.acceptor()?;
    let addr = (Ipv4Addr::LOCALHOST, args.port).into();
    match args.workers {
        Some(count) => serve_on_workers(addr, count.into(), tls),
        None => serve_on_threads(addr, args.threads, tls.as_ref()),
    }
}

fn serve_on_workers(addr: SocketAddr, count: usize, tls: Option<tls::Acceptor>) -> Result {
    let set_up = move |worker: &Worker| {
        let shared = Shared::new(Room::OfWorkers(worker.group("room")));
        worker.listen(server(addr, tls.as_ref()), move |chat| Session {
            chat,
            shared: Rc::clone(&shared),
        })?;
        Ok(())
    };
    let service = Workers::new().threads(count).start(set_up)?;
    common::shutdown_on_ctrl_c(GRACE)?;
    common::announce(&service.local_addrs()[0]);
    asynchat::run()?;
    service.finish()?;
    Ok(())
}

fn serve_on_threads(addr: SocketAddr, count: u16, tls: Option<&tls::Acceptor>) -> Result {
    let addr = serve(addr, count > 1, tls)?;
    for _ in 1..count {
        serve_on_new_thread(addr, tls.cloned())?;
    }
    common::announce(addr);
    asynchat::run()?;
    Ok(())
}

/// Starts the server on this thread's loop. Returns its address.
fn serve(addr: SocketAddr, shares_port: bool, tls: Option<&tls::Acceptor>) -> Result<SocketAddr> {
    let shared = Shared::new(Room::OfLoop(Rc::default()));
    let server = server(addr, tls).reuse_port(shares_port);
    let listener = server.listen(move |chat| Session {
        chat,
        shared: Rc::clone(&shared),
    })?;
    common::shutdown_on_ctrl_c(GRACE)?;
    let addr = listener.local_addr().and_then(|addr| addr.inet());
    Ok(addr.ok_or("the listener has no address")?)
}

/// Starts the server on the loop of a new thread.
fn serve_on_new_thread(addr: SocketAddr, tls: Option<tls::Acceptor>) -> Result {
    let (sender, served) = mpsc::channel();
    thread::spawn(move || {
        let outcome = serve(addr, true, tls.as_ref()).map_err(|error| error.to_string());
        let serves = outcome.is_ok();
        // `send` cannot fail, because the receiver waits below.
        let _ = sender.send(outcome);
        if serves && let Err(error) = asynchat::run() {
            common::print_to_stderr(format_args!("yardstick: {error}"));
        }
    });
    served.recv()??;
    Ok(())
}

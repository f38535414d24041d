//! `Workers`: several loops on several threads, which serve the connections of one server.

#[path = "../common/mod.rs"]
mod common;

mod admission;
mod deadlines;
mod end;
mod failure;
mod group;
mod load;
mod quota;
mod remotes;
mod reuse_port;
mod setup;
mod signals;
mod spread;
mod starved;
#[cfg(all(feature = "sim", feature = "tls"))]
mod tls;
#[cfg(all(feature = "sim", feature = "tls"))]
#[path = "../common/tls.rs"]
mod tls_peer;
mod unix_domain;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use asynchat::{
    AsyncChat, AtShutdown, Chat, Deadlines, Error, Remotes, Result, Server, Worker, Workers,
};
use common::DEADLINE;

/// Workers whose accepting loop runs on a thread of its own.
struct Running {
    addr: SocketAddr,
    remotes: Remotes,
    outcome: Receiver<Result<(), Error>>,
}

impl Running {
    fn connect(&self) -> Client {
        Client::connect(self.addr)
    }

    /// How the service ends.
    fn outcome(&self) -> Result<(), Error> {
        let outcome = self.outcome.recv_timeout(DEADLINE);
        outcome.expect("the service ends in time")
    }

    fn shutdown(&self) -> Result<(), Error> {
        self.remotes.shutdown(DEADLINE)?;
        self.outcome()
    }
}

/// Starts workers, and runs the loop that accepts on another thread.
fn start(
    workers: Workers,
    setup: impl Fn(&Worker) -> Result + Send + Sync + 'static,
) -> Result<Running, Error> {
    let (sender, started) = mpsc::channel();
    let (ended, outcome) = mpsc::channel();
    thread::spawn(move || {
        let service = match workers.start(setup) {
            Ok(service) => service,
            Err(error) => return sender.send(Err(error)).unwrap(),
        };
        let addr = service.local_addrs().first().and_then(asynchat::Addr::inet);
        let addr = addr.unwrap_or_else(|| ([127, 0, 0, 1], 0).into());
        sender.send(Ok((addr, service.remotes()))).unwrap();
        let ran = asynchat::run();
        let finished = service.finish();
        // A test that has seen enough does not wait for it.
        let _ = ended.send(finished.and(ran));
    });
    let started = started.recv_timeout(DEADLINE).expect("it starts in time");
    started.map(|(addr, remotes)| Running {
        addr,
        remotes,
        outcome,
    })
}

/// Starts workers that serve [`Session`]s, with this server.
fn start_serving(threads: usize, server: impl Fn() -> Server + Send + Sync + 'static) -> Running {
    let running = start(Workers::new().threads(threads), move |worker| {
        listen(worker, server())
    });
    running.expect("it starts")
}

fn listen(worker: &Worker, server: Server) -> Result {
    let number = worker.number();
    worker.listen(server, move |chat| Session { chat, number })?;
    Ok(())
}

/// Clients that stay open must not delay the end of a test.
fn any_port() -> Server {
    Server::new("127.0.0.1:0").deadlines(Deadlines::default().linger(LINGER))
}

const LINGER: Duration = Duration::from_millis(100);

/// Replies to each line with the number of its worker and the line.
struct Session {
    chat: Chat,
    number: usize,
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        match line {
            b"ID" => {
                let number = self.chat.id().worker();
                write!(self.chat, "{number:?} {}\r\n", self.chat.id());
            }
            b"STOP" => asynchat::stop(),
            b"CLOSE ALL" => asynchat::close_all(),
            b"SHUTDOWN" => asynchat::shutdown(DEADLINE),
            b"FAIL" => return Err("it was asked to".into()),
            b"PANIC" => panic!("it was asked to"),
            _ => write!(
                self.chat,
                "{} {}\r\n",
                self.number,
                String::from_utf8_lossy(line)
            ),
        }
        Ok(())
    }

    fn handle_shutdown(&mut self) -> Result<asynchat::AtShutdown> {
        self.chat.push("bye\r\n");
        Ok(asynchat::AtShutdown::CloseWhenDone)
    }
}

/// A session that answers each line, and stays when its worker shuts down.
struct Stays(Chat);

impl AsyncChat for Stays {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        self.0.push_slice(line);
        self.0.push("\r\n");
        Ok(())
    }

    fn handle_shutdown(&mut self) -> Result<AtShutdown> {
        self.0.push("staying\r\n");
        Ok(AtShutdown::Stay)
    }
}

/// Two workers, and four clients of sessions that stay.
fn four_that_stay() -> (Running, Vec<Client>) {
    let running = start(Workers::new().threads(2), |worker| {
        worker.listen(any_port(), Stays)?;
        Ok(())
    });
    let running = running.unwrap();
    let mut clients: Vec<_> = (0..4).map(|_| running.connect()).collect();
    for client in &mut clients {
        client.ask("hello");
    }
    (running, clients)
}

/// A client on a plain socket.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("it accepts");
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Client(BufReader::new(stream))
    }

    fn send(&mut self, line: &str) {
        // In one piece: the second of two would wait for an acknowledgement of the first (Nagle's algorithm).
        let line = format!("{line}\r\n");
        self.0.get_mut().write_all(line.as_bytes()).unwrap();
    }

    /// The next line, empty at the end of the stream. A reset is an error.
    fn try_line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    fn line(&mut self) -> String {
        self.try_line().expect("no reset")
    }

    fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.line()
    }

    /// The reply on a connection that may have been closed by now.
    fn try_ask(&mut self, line: &str) -> std::io::Result<String> {
        let line = format!("{line}\r\n");
        // If this fails, what was received before can still be read.
        let _ = self.0.get_mut().write_all(line.as_bytes());
        self.try_line()
    }

    /// The worker that serves it.
    fn worker(&mut self) -> usize {
        let reply = self.ask("which");
        let number = reply.split(' ').next().and_then(|it| it.parse().ok());
        number.unwrap_or_else(|| panic!("{reply}"))
    }
}

/// Waits until something is so that no event announces.
#[track_caller]
fn wait_until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "the deadline has passed");
        thread::yield_now();
    }
}

/// What the loops of the workers have counted.
fn stats(running: &Running) -> Vec<asynchat::LoopStats> {
    stats_of(&running.remotes)
}

fn stats_of(workers: &Remotes) -> Vec<asynchat::LoopStats> {
    let (sender, answer) = mpsc::channel();
    let remotes = workers.clone();
    // On a loop that runs: that of the first worker.
    let ask = move || remotes.stats(move |stats| sender.send(stats).unwrap());
    let first = workers.get(0).expect("there is a worker");
    first.post(move || ask().unwrap()).unwrap();
    answer.recv_timeout(DEADLINE).expect("they answer in time")
}

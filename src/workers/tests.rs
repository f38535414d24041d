//! A worker whose thread dies.

use std::io::{self, BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use super::crew::Crew;
use super::*;
use crate::chat::handle::Chat;
use crate::chat::session::{AsyncChat, AtShutdown};
use crate::net::server::Server;
use crate::runtime::counters::LoopStats;
use crate::time::deadlines::Deadlines;

const DEADLINE: Duration = Duration::from_secs(60);

/// Says on which worker it is, and says goodbye. Closes at the line `quit`.
pub(super) struct Session(Chat);

impl Session {
    pub(super) fn new(chat: Chat, worker: usize) -> Self {
        write!(chat, "{worker}\r\n");
        Session(chat)
    }
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        if line == b"quit" {
            self.0.close_when_done();
        }
        Ok(())
    }

    fn handle_shutdown(&mut self) -> Result<AtShutdown> {
        self.0.push("bye\r\n");
        Ok(AtShutdown::CloseWhenDone)
    }
}

/// Two workers, whose accepting loop runs on a thread of its own.
struct Scene {
    addr: SocketAddr,
    crew: Arc<Crew>,
    outcome: Receiver<Result<Vec<LoopStats>, Error>>,
}

impl Scene {
    fn start() -> Self {
        let (sender, started) = mpsc::channel();
        let (ended, outcome) = mpsc::channel();
        thread::spawn(move || {
            let service = Workers::new().threads(2).start(|worker| {
                let number = worker.number();
                let server = Server::new("127.0.0.1:0")
                    .deadlines(Deadlines::default().linger(Duration::from_millis(100)));
                worker.listen(server, move |chat| Session::new(chat, number))?;
                Ok(())
            });
            let service = service.unwrap();
            let addr = service.local_addrs()[0].inet().unwrap();
            sender.send((addr, service.crew())).unwrap();
            crate::run().unwrap();
            ended.send(service.finish()).unwrap();
        });
        let (addr, crew) = started.recv_timeout(DEADLINE).unwrap();
        Scene {
            addr,
            crew,
            outcome,
        }
    }

    fn connect(&self) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        BufReader::new(stream)
    }

    fn loads(&self) -> Vec<usize> {
        let loads = self.crew.loads.iter();
        loads.map(|load| load.connections()).collect()
    }

    fn wait_for_loads(&self, expected: [usize; 2]) {
        let deadline = Instant::now() + DEADLINE;
        while self.loads() != expected {
            assert!(Instant::now() < deadline, "{:?}", self.loads());
            thread::yield_now();
        }
    }
}

/// What arrives until the end of the connection. The error is the kind of a reset, or `WouldBlock` if it does not end.
fn rest(client: &mut BufReader<TcpStream>) -> Result<String, io::ErrorKind> {
    let mut text = String::new();
    let outcome = client.read_to_string(&mut text);
    outcome.map(|_| text).map_err(|error| error.kind())
}

/// No panic of user code leaves the loop. The loop itself panics here, as it would with a defect.
#[test]
fn a_worker_that_panics_ends_the_service_and_no_socket_leaks() {
    let scene = Scene::start();
    let mut served = [scene.connect(), scene.connect()];
    for (number, client) in served.iter_mut().enumerate() {
        let mut line = String::new();
        client.read_line(&mut line).unwrap();
        assert_eq!(line, format!("{number}\r\n"));
    }
    let (release, blocked) = mpsc::channel::<()>();
    let remotes = scene.crew.remotes();
    let panics_later = move || {
        let _ = blocked.recv_timeout(DEADLINE);
        let event_loop = EventLoop::current().unwrap();
        event_loop.0.panic_in_next_turn();
    };
    remotes.get(0).unwrap().post(panics_later).unwrap();
    // Handed over to the worker that is blocked, which never registers it.
    let mut handed_over = scene.connect();
    scene.wait_for_loads([2, 1]);
    drop(release);

    let outcome = scene.outcome.recv_timeout(DEADLINE).unwrap();
    let reason = outcome.unwrap_err().to_string();
    assert!(
        reason.starts_with("worker 0: its loop panicked"),
        "{reason}"
    );
    let [of_dead, of_other] = &mut served;
    assert_eq!(rest(of_other), Ok(String::from("bye\r\n")));
    // With input or output that is left, the close is a reset. A socket that has leaked would stay open.
    for client in [of_dead, &mut handed_over] {
        let end = rest(client);
        // A read that takes too long is one or the other, by the system.
        let is_open = matches!(
            end,
            Err(io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
        );
        assert!(!is_open, "it is still open");
    }
    assert_eq!(scene.loads(), [0, 0]);
}

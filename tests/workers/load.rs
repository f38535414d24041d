//! No connection is lost while the service starts, stops and is replaced, under load.

use super::*;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How a client's connection went.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// It got the reply to its request.
    Served,
    /// It got the reply of the shutdown.
    ShutDown,
    /// It got the refusal.
    Refused,
    /// Its connection was closed without a word, or reset: it was not accepted, or it is lost.
    Closed,
}

fn visit(addr: SocketAddr) -> Option<Outcome> {
    let stream = TcpStream::connect(addr).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut client = Client(BufReader::new(stream));
    let reply = client.try_ask("hello").unwrap_or_else(|error| {
        // Neither an answer nor an end: the connection hangs.
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
        String::new()
    });
    Some(match &*reply {
        "bye" => Outcome::ShutDown,
        "full" => Outcome::Refused,
        reply if reply.ends_with(" hello") => Outcome::Served,
        _ => Outcome::Closed,
    })
}

/// Clients that come one after another, on several threads, until they have to stop.
struct Visitors {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    threads: Vec<thread::JoinHandle<Vec<Outcome>>>,
}

impl Visitors {
    fn start(addr: SocketAddr) -> Self {
        let (stop, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let visit_often = |_| {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            thread::spawn(move || {
                let mut outcomes = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let Some(outcome) = visit(addr) else { break };
                    let is_served = outcome == Outcome::Served;
                    served.fetch_add(usize::from(is_served), Ordering::Relaxed);
                    outcomes.push(outcome);
                }
                outcomes
            })
        };
        let threads = (0..4).map(visit_often).collect();
        Visitors {
            stop,
            served,
            threads,
        }
    }

    /// Waits until so many more were served.
    fn wait_for(&self, count: usize) {
        let before = self.served.load(Ordering::Relaxed);
        wait_until(|| self.served.load(Ordering::Relaxed) >= before + count);
    }

    fn stop(self) -> Vec<Outcome> {
        self.stop.store(true, Ordering::Relaxed);
        let outcomes = self.threads.into_iter().map(|it| it.join().unwrap());
        outcomes.flatten().collect()
    }
}

/// A session that answers one request before its worker may end.
struct AnswersFirst {
    session: Session,
    has_answered: bool,
    is_retiring: bool,
}

impl AsyncChat for AnswersFirst {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        self.session.found_terminator(line)?;
        self.has_answered = true;
        if self.is_retiring {
            self.session.chat.close_when_done();
        }
        Ok(())
    }

    fn handle_shutdown(&mut self) -> Result<AtShutdown> {
        self.is_retiring = true;
        Ok(if self.has_answered {
            AtShutdown::CloseWhenDone
        } else {
            AtShutdown::Stay
        })
    }
}

/// The service is replaced by another one that has the same listening socket. The connections that wait in the kernel
/// are those of the new one, and the old one answers the requests of those that it has accepted.
#[test]
fn every_request_is_answered_while_services_replace_each_other() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    let start = || {
        let socket = socket.try_clone().unwrap();
        let running = start(Workers::new().threads(3), move |worker| {
            let number = worker.number();
            worker.listen(Server::adopt(socket.try_clone()?), move |chat| {
                AnswersFirst {
                    session: Session { chat, number },
                    has_answered: false,
                    is_retiring: false,
                }
            })?;
            Ok(())
        });
        running.unwrap()
    };
    // Clients come before the first service is there.
    let visitors = Visitors::start(addr);
    let mut running = start();
    for _ in 0..5 {
        visitors.wait_for(100);
        let next = start();
        running.shutdown().unwrap();
        running = next;
    }
    visitors.wait_for(100);
    let outcomes = visitors.stop();
    running.shutdown().unwrap();
    let lost = outcomes.iter().filter(|it| **it != Outcome::Served).count();
    assert_eq!(lost, 0, "of {}", outcomes.len());
}

/// Every connection that was accepted gets an answer: it is served, or gets the reply of the shutdown or the refusal.
#[test]
fn every_accepted_connection_is_answered_when_the_service_shuts_down() {
    for _ in 0..10 {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap();
        let accepting = socket.try_clone().unwrap();
        let running = start_serving(3, move || {
            Server::adopt(accepting.try_clone().unwrap()).refusal("full\r\n")
        });
        let visitors = Visitors::start(addr);
        visitors.wait_for(50);
        running.shutdown().unwrap();
        // Those that wait in the kernel were not accepted. They are the test's, which closes them.
        visitors.stop.store(true, Ordering::Relaxed);
        socket.set_nonblocking(true).unwrap();
        let mut not_accepted = 0;
        while !visitors.threads.iter().all(thread::JoinHandle::is_finished) {
            not_accepted += usize::from(socket.accept().is_ok());
            thread::yield_now();
        }
        let outcomes = visitors.stop();
        let closed = outcomes.iter().filter(|it| **it == Outcome::Closed).count();
        assert_eq!(closed, not_accepted, "of {}", outcomes.len());
    }
}

/// A stop closes connections, as on one loop, but leaves none open without anybody who serves it.
#[test]
fn no_connection_hangs_after_a_stop() {
    for _ in 0..10 {
        let running = start_serving(3, any_port);
        let visitors = Visitors::start(running.addr);
        visitors.wait_for(50);
        running.remotes.stop().unwrap();
        running.outcome().unwrap();
        visitors.stop();
    }
}

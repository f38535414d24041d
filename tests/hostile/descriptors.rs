//! A server with 64 descriptors and a hundred clients (CVE-2010-3492): connections that it has are
//! served, it does not retry accept in every turn, and the other clients are served later.
#![cfg(unix)]

use std::cell::RefCell;
use std::fs::File;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use asynchat::{Chat, Deadlines, EventLoop, Result, Server};

use crate::common::{Peer, addr_of, new_loop, run_until};
use crate::process::{self, Process};

const TEST: &str = "descriptors::a_server_with_few_descriptors_serves_a_hundred_clients_in_turn";
const CLIENTS: usize = 100;
const LONG: Duration = Duration::from_secs(3600);

/// How many descriptors the server holds until it is asked to close them.
const HOARDED: usize = 10;

#[test]
fn a_server_with_few_descriptors_serves_a_hundred_clients_in_turn() {
    process::run(TEST, &[("clients", clients), ("server", server)]);
}

fn server() {
    let event_loop = new_loop();
    let hoard: Rc<RefCell<Vec<File>>> = Rc::default();
    let binary = std::env::current_exe().unwrap();
    for _ in 0..HOARDED {
        hoard.borrow_mut().push(File::open(&binary).unwrap());
    }
    let inner = event_loop.clone();
    let session = move |chat: Chat| {
        let (event_loop, hoard) = (inner.clone(), Rc::clone(&hoard));
        move |line: &[u8]| answer(&event_loop, &hoard, &chat, line)
    };
    let listener = Server::new("127.0.0.1:0")
        .deadlines(Deadlines::default().linger(LONG))
        .listen_on(&event_loop, session)
        .unwrap();
    process::report(&addr_of(&listener).to_string());
    let remote = event_loop.remote();
    let end = thread::spawn(move || {
        process::commands().for_each(drop);
        remote.stop()
    });
    event_loop.run().unwrap();
    end.join().unwrap().unwrap();
}

fn answer(event_loop: &EventLoop, hoard: &RefCell<Vec<File>>, chat: &Chat, line: &[u8]) -> Result {
    match line {
        b"failed" => write!(chat, "{}", event_loop.stats().accepts_failed),
        b"release" => hoard.borrow_mut().clear(),
        _ => {}
    }
    chat.push("\r\n");
    if line == b"quit" {
        chat.close_when_done();
    }
    Ok(())
}

/// The clients, in the order in which they connected. Those that have been answered come first.
struct Clients {
    event_loop: EventLoop,
    peers: Vec<Peer>,
    /// How many of the remaining ones have been served.
    served: usize,
}

impl Clients {
    /// Counts the clients that have been served since the last count.
    fn count(&mut self) {
        for peer in &mut self.peers[self.served..] {
            if peer.look().is_empty() {
                break;
            }
            peer.expect(&self.event_loop, "\r\n");
            self.served += 1;
        }
    }

    /// Waits until `more` further clients have been served.
    #[track_caller]
    fn wait_for(&mut self, more: usize) {
        let wanted = self.served + more;
        let patience = self.event_loop.clone();
        run_until(&patience, || {
            self.count();
            self.served >= wanted
        });
    }

    /// Sends a request to the server on the connection of a served client, and returns the answer.
    #[track_caller]
    fn ask(&mut self, client: usize, question: &str) -> String {
        let peer = &mut self.peers[client];
        peer.send(format!("{question}\r\n"));
        run_until(&self.event_loop, || peer.look().ends_with(b"\r\n"));
        let answer = String::from_utf8_lossy(peer.look()).into_owned();
        peer.expect(&self.event_loop, &answer);
        answer.trim_end().to_owned()
    }

    #[track_caller]
    fn failed(&mut self) -> usize {
        self.ask(0, "failed").parse().unwrap()
    }
}

fn clients() {
    let server = Process::start(TEST, "server", "", Some(64));
    let addr = server.next_report().parse().unwrap();
    let event_loop = new_loop();
    event_loop.call_every(LONG, || ());
    // All of them are connected for the kernel, which holds the others in the backlog.
    let peers = (0..CLIENTS).map(|_| Peer::connect(addr)).collect();
    let mut clients = Clients {
        event_loop,
        peers,
        served: 0,
    };
    for peer in &mut clients.peers {
        peer.send("hello\r\n");
    }
    clients.wait_for(40 - HOARDED);
    while clients.failed() == 0 {}
    // A connection that is accepted in one turn is served in the next.
    clients.failed();
    clients.count();
    let accepted = clients.served;
    println!("{accepted} clients are accepted");

    // The other clients wait. Meanwhile the server does not retry accept in every turn.
    let before = clients.failed();
    for n in 0..200 {
        assert_eq!(clients.ask(n % accepted, "still here?"), "");
    }
    let tried = clients.failed() - before;
    assert!(tried <= 20, "{tried} accepts failed in two hundred turns");

    // Some clients leave, and as many others are accepted.
    clients.peers.drain(1..11);
    clients.served -= 10;
    clients.wait_for(10);

    // The server closes some connections whose clients stay. Their lingering sockets must be closed
    // first.
    for client in 1..6 {
        assert_eq!(clients.ask(client, "quit"), "");
    }
    clients.wait_for(5);

    // Descriptors are free again, and no event tells the loop.
    clients.ask(0, "release");
    clients.wait_for(HOARDED);

    let tried = clients.failed() - before;
    assert!(tried <= 60, "{tried} accepts failed in all");
    while clients.served < clients.peers.len() {
        clients.peers.drain(1..clients.served);
        clients.served = 1;
        clients.wait_for(1);
    }
    clients.peers.clear();
    server.finish();
}

//! The `gold` example: work on other threads, the order of the replies, and cancellation.

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../gold/furnace.rs"]
mod furnace;
#[path = "../gold/session.rs"]
mod session;

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

use asynchat::EventLoop;
use common::{DEADLINE, Peer, addr_of, idle, new_loop, run_to_end, run_until};
use furnace::{Furnace, stir};
use session::{Mode, Service, Session};

/// The work in these tests, which counts its rounds. The first byte of the water selects what a round does:
/// `g` waits until the gate is open, `!` panics.
struct Works {
    /// The number of rounds for each first byte.
    rounds: [AtomicU64; 128],
    open: Mutex<bool>,
    opened: Condvar,
}

impl Works {
    fn new() -> Arc<Works> {
        Arc::new(Works {
            rounds: [const { AtomicU64::new(0) }; 128],
            open: Mutex::default(),
            opened: Condvar::new(),
        })
    }

    fn round(&self, gold: u64, water: &[u8]) -> u64 {
        self.rounds[usize::from(water[0])].fetch_add(1, Ordering::Relaxed);
        match water[0] {
            b'g' => {
                let open = self.open.lock().unwrap();
                drop(
                    self.opened
                        .wait_timeout_while(open, DEADLINE, |open| !*open),
                );
            }
            b'!' => panic!("on purpose"),
            _ => {}
        }
        stir(gold, water)
    }

    fn open_the_gate(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn rounds_of(&self, water: u8) -> u64 {
        self.rounds[usize::from(water)].load(Ordering::Relaxed)
    }
}

/// A server, and its furnace.
struct Server {
    event_loop: EventLoop,
    addr: std::net::SocketAddr,
    works: Arc<Works>,
    service: Rc<Service>,
}

impl Server {
    fn new(mode: Mode, threads: usize, rounds: u32) -> Self {
        let (event_loop, works) = (new_loop(), Works::new());
        let round = Arc::clone(&works);
        let furnace = Furnace::new(threads, rounds, move |gold, water| round.round(gold, water));
        let service = Rc::new(Service {
            furnace: furnace.unwrap(),
            mode,
            max_pending: 3,
            bucket: 1000,
            remote: event_loop.remote(),
        });
        let for_sessions = Rc::clone(&service);
        let factory = move |chat| Session::new(chat, Rc::clone(&for_sessions));
        let addr = addr_of(&event_loop.listen("127.0.0.1:0", factory).unwrap());
        Server {
            event_loop,
            addr,
            works,
            service,
        }
    }

    fn client(&self) -> Peer {
        Peer::connect(self.addr)
    }

    /// Asserts that the server replies to another client.
    #[track_caller]
    fn answers_others(&self) {
        let mut other = self.client();
        other.send("PING\r\n");
        other.expect(&self.event_loop, "200 pong\r\n");
    }

    #[track_caller]
    fn until_begun(&self, water: u8, times: u64) {
        run_until(&self.event_loop, || self.works.rounds_of(water) == times);
        idle(&self.event_loop);
        assert_eq!(self.works.rounds_of(water), times);
    }
}

fn gold(water: &str) -> String {
    let gold = stir(0xcbf2_9ce4_8422_2325, water.as_bytes());
    format!("250 gold {gold:016x}\r\n")
}

#[test]
fn pipelined_replies_are_sent_in_the_order_of_the_requests() {
    let server = Server::new(Mode::Pipelined, 2, 1);
    let mut client = server.client();
    client.send("TURN 4\r\ngateTURN 3\r\nseaPING\r\n");
    server.until_begun(b's', 1);
    assert_eq!(server.works.rounds_of(b'g'), 1);
    assert_eq!(
        client.look(),
        b"",
        "the second reply is ready and must wait for the first"
    );
    server.answers_others();
    server.works.open_the_gate();
    let wanted = gold("gate") + &gold("sea") + "200 pong\r\n";
    client.expect(&server.event_loop, wanted);
}

#[test]
fn a_paused_connection_is_not_read_before_its_reply() {
    let server = Server::new(Mode::Paused, 2, 1);
    let mut client = server.client();
    client.send("TURN 4\r\ngateTURN 3\r\nseaPING\r\n");
    server.until_begun(b'g', 1);
    assert_eq!(server.works.rounds_of(b's'), 0);
    server.answers_others();
    server.works.open_the_gate();
    let wanted = gold("gate") + &gold("sea") + "200 pong\r\n";
    client.expect(&server.event_loop, wanted);
}

#[test]
fn a_pipelined_connection_has_a_limited_number_of_pending_replies() {
    let server = Server::new(Mode::Pipelined, 8, 1);
    let mut client = server.client();
    client.send("TURN 1\r\ng".repeat(10) + "QUIT\r\n");
    server.until_begun(b'g', 3);
    server.answers_others();
    server.works.open_the_gate();
    let wanted = gold("g").repeat(10) + "221 bye\r\n";
    client.expect(&server.event_loop, wanted);
    assert_eq!(server.works.rounds_of(b'g'), 10);
}

#[test]
fn the_work_of_a_disconnected_client_is_cancelled() {
    // The only thread would be busy for hours.
    let server = Server::new(Mode::Pipelined, 1, u32::MAX);
    let mut client = server.client();
    client.send("TURN 5\r\nwaterTURN 3\r\nsea");
    run_until(&server.event_loop, || server.works.rounds_of(b'w') > 0);
    client.reset();
    // The thread takes the next bucket. Buckets are started in the order of the requests.
    let mut next = server.client();
    next.send("TURN 1\r\n!");
    next.expect(&server.event_loop, "451 the furnace burst\r\n");
    let rounds = server.works.rounds_of(b'w');
    assert_eq!(
        server.works.rounds_of(b's'),
        0,
        "the second bucket was cancelled before it started"
    );
    idle(&server.event_loop);
    assert_eq!(server.works.rounds_of(b'w'), rounds);
}

#[test]
fn a_panic_in_the_work_causes_a_reply_and_the_session_continues() {
    for mode in [Mode::Paused, Mode::Pipelined] {
        let server = Server::new(mode, 2, 1);
        let mut client = server.client();
        client.send("TURN 1\r\n!TURN 3\r\nseaPING\r\n");
        let wanted = String::from("451 the furnace burst\r\n") + &gold("sea") + "200 pong\r\n";
        client.expect(&server.event_loop, wanted);
    }
}

#[test]
fn a_shutdown_waits_for_pending_replies() {
    let server = Server::new(Mode::Pipelined, 1, 1);
    let mut client = server.client();
    client.send("TURN 4\r\ngateTURN 3\r\nsea");
    server.until_begun(b'g', 1);
    server.event_loop.shutdown(Duration::from_secs(60));
    idle(&server.event_loop);
    server.works.open_the_gate();
    client.expect(&server.event_loop, gold("gate") + &gold("sea"));
    assert!(client.wait_for_end(&server.event_loop).is_ok());
    drop(client);
    run_to_end(&server.event_loop);
}

#[test]
fn a_shutdown_cancels_work_that_exceeds_its_grace() {
    for (mode, grace) in [(Mode::Pipelined, 0), (Mode::Paused, 60)] {
        let server = Server::new(mode, 1, u32::MAX);
        let mut client = server.client();
        client.send("TURN 5\r\nwater");
        run_until(&server.event_loop, || server.works.rounds_of(b'w') > 0);
        server.event_loop.shutdown(Duration::from_secs(grace));
        run_until(&server.event_loop, || {
            server.event_loop.is_empty() || !client.look().is_empty()
        });
        assert_eq!(client.look(), b"");
        // The thread is free again.
        let (sender, receiver) = mpsc::channel();
        let alive = Arc::default();
        server
            .service
            .furnace
            .turn(vec![b'!'], Arc::downgrade(&alive), move |gold| {
                sender.send(gold.is_err()).unwrap();
            });
        assert_eq!(receiver.recv_timeout(DEADLINE), Ok(true));
    }
}

#[test]
fn a_session_stays_in_sync_after_empty_and_oversized_buckets() {
    for mode in [Mode::Paused, Mode::Pipelined] {
        let server = Server::new(mode, 2, 0);
        let mut client = server.client();
        let nothing = "250 gold cbf29ce484222325\r\n"; // the result of 0 rounds
        let input = format!(
            "TURN 0\r\nTURN 1001\r\n{}turn 2\r\n\r\nQUIT\r\n",
            "x".repeat(1001)
        );
        for byte in input.as_bytes() {
            client.send([*byte]);
            server.event_loop.run_once(Duration::ZERO).unwrap();
        }
        let wanted = format!("{nothing}552 the bucket is too large\r\n{nothing}221 bye\r\n");
        assert_eq!(client.receive_all(&server.event_loop), wanted.as_bytes());
        let mut client = server.client();
        client.send("WINE\r\nTURN water\r\n");
        let wanted = "500 TURN n, PING or QUIT\r\n501 TURN n, and n bytes of water\r\n";
        assert_eq!(client.receive_all(&server.event_loop), wanted.as_bytes());
    }
}

//! The memory of a silent connection.
#[path = "common/allocator.rs"]
mod allocator;
mod common;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use allocator::balance;
use asynchat::{
    AsyncChat, Chat, Connector, Deadlines, EventLoop, Limits, More, Producer, Result, Terminator,
};
use bytes::Bytes;
use common::{Log, Peer, addr_of, idle, new_loop, run_until, run_until_blocked, served, tcp_pair};

/// A simulated network has more state for each connection, and poll(2) has a table of all. On Windows `polling`
/// has an entry of its own for each socket.
const MOST: isize = if cfg!(any(feature = "sim", polling_test_poll_backend)) {
    576 + IOCP
} else {
    512 + IOCP
};
const IOCP: isize = if cfg!(windows) { 128 } else { 0 };

/// Connections share buffers. If each connection held the one that a busy connection has grown, all
/// of them would cost as much as that one.
#[test]
fn silent_connections_beside_a_busy_one_hold_no_buffer() {
    const CONNECTIONS: usize = 100;
    const LISTING: usize = 60_000;
    let (event_loop, records) = (new_loop(), Rc::new(Cell::new(0)));
    let counted = Rc::clone(&records);
    let listener = event_loop
        .listen("127.0.0.1:0", move |chat: Chat| {
            let counted = Rc::clone(&counted);
            move |record: &[u8]| {
                counted.set(counted.get() + 1);
                if record == b"list" {
                    for _ in 0..LISTING / 100 {
                        chat.push_slice(&[b'x'; 100]);
                    }
                }
                Ok(())
            }
        })
        .unwrap();
    let mut busy = Peer::connect(addr_of(&listener));
    let mut list = || {
        busy.send("list\r\n");
        busy.expect(&event_loop, vec![b'x'; LISTING]);
    };
    list();
    let before = balance();
    let mut silent: Vec<_> = (0..CONNECTIONS)
        .map(|_| Peer::connect(addr_of(&listener)))
        .collect();
    let connected = CONNECTIONS + 2;
    run_until(&event_loop, || event_loop.len() == connected);
    let up = balance();
    for peer in &mut silent {
        let before = records.get();
        peer.send("x\r\n");
        run_until(&event_loop, || records.get() > before);
        list();
    }
    let each = |since: isize| (balance() - since) / CONNECTIONS.cast_signed();
    let (held, all) = (each(up), each(before));
    assert!(held < 1024, "{held} bytes held by each");
    // Including the channel itself, its handler, its registration, and its peer.
    assert!(all < 4096, "{all} bytes for each");
}

/// Outgoing connections that are idle.
struct Idle {
    event_loop: EventLoop,
    chats: Vec<Chat>,
    peers: Vec<Peer>,
}

impl Idle {
    const COUNT: usize = 64;

    fn new() -> Self {
        let mut all = Idle {
            event_loop: new_loop(),
            chats: Vec::with_capacity(2 * Self::COUNT),
            peers: Vec::with_capacity(2 * Self::COUNT),
        };
        all.connect();
        all.connect();
        all
    }

    fn connect(&mut self) {
        for _ in 0..Self::COUNT {
            let (near, far) = tcp_pair();
            let connector = Connector::adopt(near);
            let chat = connector.connect_on(&self.event_loop, |_| |_: &[u8]| Ok(()));
            self.chats.push(chat.unwrap());
            self.peers.push(Peer::new(far));
        }
        idle(&self.event_loop);
    }

    /// How many bytes each connection takes more, once it has been used and is idle again. The first half of the
    /// connections is used before: what the loop allocates then for all of them is not counted.
    #[track_caller]
    fn cost_of(&self, using: impl Fn(&Chat)) -> isize {
        let (first, second) = self.chats.split_at(Self::COUNT);
        let use_each = |chats: &[Chat]| {
            chats.iter().for_each(&using);
            idle(&self.event_loop);
            run_until(&self.event_loop, || {
                chats.iter().all(|chat| chat.queued() == 0)
            });
            idle(&self.event_loop);
        };
        use_each(first);
        let before = balance();
        use_each(second);
        (balance() - before) / Self::COUNT.cast_signed()
    }
}

#[test]
fn an_outgoing_connection_costs_no_more_than_an_accepted_one() {
    let mut all = Idle::new();
    let before = balance();
    all.chats.reserve_exact(Idle::COUNT);
    all.peers.reserve_exact(Idle::COUNT);
    let reserved = balance() - before;
    all.connect();
    let each = (balance() - before - reserved) / Idle::COUNT.cast_signed();
    assert!(each <= MOST, "{each} bytes for each connection");
}

#[test]
fn what_a_connection_was_used_for_costs_nothing_once_it_is_idle_again() {
    type Use = (&'static str, fn(&Chat));
    let uses: [Use; 10] = [
        ("a push", |chat| chat.push("x")),
        ("a large push", |chat| {
            chat.push(Bytes::from_static(&[b'x'; 5000]));
        }),
        ("a producer", |chat| chat.push_with_producer("x")),
        ("a hook", |chat| chat.push_hook(|| ())),
        ("a promise", |chat| chat.promise().fulfill("x")),
        ("output that is discarded", |chat| {
            chat.push_with_producer("x");
            chat.discard_buffers();
        }),
        ("another session", |chat| {
            chat.replace_session(|_: &[u8]| Ok(()));
        }),
        ("a timer that fires", |chat| {
            chat.call_later(Duration::ZERO);
        }),
        ("a timer that is cancelled", |chat| {
            assert!(chat.cancel(chat.call_later(Duration::from_secs(3600))));
        }),
        ("a pause", |chat| {
            chat.pause_reading();
            chat.resume_reading();
        }),
    ];
    for (what, using) in uses {
        let cost = Idle::new().cost_of(using);
        assert_eq!(cost, 0, "bytes for {what}");
    }
}

/// What is set on a connection, and not by its server, has to be stored for it.
#[test]
fn what_is_set_on_a_connection_costs_what_it_takes() {
    type Use = (&'static str, isize, fn(&Chat));
    let uses: [Use; 3] = [
        ("terminator", 80, |chat| {
            chat.set_terminator(Terminator::line());
        }),
        ("limits", 112, |chat| {
            chat.set_limits(Limits::default().record(100));
        }),
        ("deadlines", 448, |chat| {
            chat.set_deadlines(Deadlines::default().idle(Duration::from_secs(3600)));
        }),
    ];
    for (what, most, using) in uses {
        let cost = Idle::new().cost_of(using);
        assert!(cost <= most, "{cost} bytes for {what}");
    }
}

/// Queues many items when it receives a line.
fn bursts(chat: &Chat, line: &[u8]) -> Result {
    let large = Bytes::from_static(&[b'x'; 4096]);
    for _ in 0..10_000 {
        match line {
            b"hooks" => chat.push_hook(|| ()),
            b"producers" => chat.push_with_producer(""),
            _ => chat.push(large.clone()),
        }
    }
    chat.push("end");
    Ok(())
}

#[test]
fn an_idle_connection_keeps_nothing_of_its_longest_queue() {
    for line in ["hooks", "producers", "large"] {
        let event_loop = new_loop();
        let log = Log::default();
        let (_other, mut warm) = served(&event_loop, log.session_with(bursts));
        let (chat, mut peer) = served(&event_loop, log.session_with(bursts));
        let burst = |peer: &mut Peer| {
            peer.send(format!("{line}\r\n"));
            run_until(&event_loop, || {
                let is_over = peer.look().ends_with(b"end");
                peer.forget();
                is_over
            });
            idle(&event_loop);
        };
        burst(&mut warm);
        let before = balance();
        burst(&mut peer);
        assert_eq!(chat.queued(), 0);
        let kept = balance() - before;
        assert!(kept < 4096, "{kept} bytes after a burst of {line}");
    }
}

#[test]
fn a_queue_that_waits_for_its_last_item_gives_back_the_room_of_the_others() {
    let (event_loop, promises) = (new_loop(), Rc::new(RefCell::new(Vec::new())));
    let made = Rc::clone(&promises);
    let on_record = move |chat: &Chat, line: &[u8]| {
        bursts(chat, line)?;
        made.borrow_mut().push(chat.promise());
        Ok(())
    };
    let (_other, mut warm) = served(&event_loop, Log::default().session());
    warm.send("x\r\n");
    idle(&event_loop);
    let (_chat, mut peer) = served(&event_loop, Log::default().session_with(on_record));
    let before = balance();
    peer.send("hooks\r\n");
    peer.expect(&event_loop, "end");
    idle(&event_loop);
    let kept = balance() - before;
    assert!(kept < 4096, "{kept} bytes for one promise");
    assert!(promises.borrow()[0].is_wanted());
}

/// A session that sends a file for each record must not allocate a queue for each.
#[test]
fn a_producer_for_each_record_allocates_no_queue_for_each() {
    /// Allocates nothing: a box of nothing is a pointer.
    struct Empty;
    impl Producer for Empty {
        fn more(&mut self, _: usize) -> io::Result<More> {
            Ok(More::Done)
        }
    }
    let event_loop = new_loop();
    let log = Rc::new(RefCell::new(Vec::with_capacity(300)));
    let made = Rc::clone(&log);
    let listener = event_loop
        .listen("127.0.0.1:0", move |chat: Chat| {
            let made = Rc::clone(&made);
            move |_: &[u8]| {
                chat.push_with_producer(Empty);
                made.borrow_mut().push(allocator::made());
                Ok(())
            }
        })
        .unwrap();
    let mut peer = Peer::connect(addr_of(&listener));
    for round in 1..=200 {
        peer.send("x\r\n");
        run_until(&event_loop, || log.borrow().len() == round);
    }
    let log = log.borrow();
    assert_eq!(log[199] - log[99], 0, "allocations for 100 records");
}

/// Keeps its records.
struct Archive(Rc<RefCell<Vec<Bytes>>>);

impl AsyncChat for Archive {
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(())
    }
    fn found_record(&mut self, record: Bytes) -> Result {
        self.0.borrow_mut().push(record);
        Ok(())
    }
}

#[test]
fn owned_records_take_a_quarter_more_than_their_length_at_most() {
    let (event_loop, records) = (new_loop(), Rc::new(RefCell::new(Vec::with_capacity(64))));
    let (near, far) = tcp_pair();
    let mut peer = Peer::new(far);
    let archive = Archive(Rc::clone(&records));
    Connector::adopt(near)
        .connect_on(&event_loop, |chat| {
            chat.set_terminator(Terminator::crlf().owned().limit(10 << 20));
            archive
        })
        .unwrap();
    peer.send("warm up\r\n");
    run_until(&event_loop, || records.borrow().len() == 1);
    let before = balance();
    // Lengths for which a capacity that doubles leaves between nothing and half of it unused.
    for length in (40_000..80_000).step_by(5000) {
        let count = records.borrow().len();
        for _ in 0..length / 1000 {
            peer.send([b'x'; 1000]);
            event_loop.run_once(Duration::ZERO).unwrap();
        }
        peer.send("\r\n");
        run_until(&event_loop, || records.borrow().len() > count);
    }
    let length: usize = records.borrow().iter().map(Bytes::len).sum();
    let taken = usize::try_from(balance() - before).unwrap();
    assert!(taken <= length * 5 / 4 + 1024, "{taken} bytes for {length}");
}

/// A peer that does not read: what others have pushed to it is gone from memory when it has read that.
#[test]
fn a_slow_reader_costs_nothing_when_it_has_read() {
    let event_loop = new_loop();
    let large = Bytes::from_static(&[b'x'; 4096]);
    let (near, far) = tcp_pair();
    // Otherwise the kernel enlarges its buffers, sometimes until they have room for everything.
    let small = 64 * 1024;
    asynchat::socket2::SockRef::from(&near)
        .set_send_buffer_size(small)
        .unwrap();
    asynchat::socket2::SockRef::from(&far)
        .set_recv_buffer_size(small)
        .unwrap();
    let mut peer = Peer::new(far);
    let connector = Connector::adopt(near);
    let chat = connector.connect_on(&event_loop, |_| |_: &[u8]| Ok(()));
    let chat = chat.unwrap();
    let mut flood = || {
        for _ in 0..1900 {
            chat.push(large.clone());
        }
        run_until_blocked(&event_loop, &chat);
        run_until(&event_loop, || {
            peer.look();
            peer.forget();
            chat.queued() == 0
        });
        idle(&event_loop);
    };
    flood();
    let before = balance();
    flood();
    let kept = balance() - before;
    assert!(kept < 4096, "{kept} bytes");
}

/// Behind a proxy: a flood of connections whose header is not complete.
#[cfg(feature = "proxy-protocol")]
#[test]
fn a_connection_holds_what_it_has_sent_of_its_header() {
    use std::io::Write;
    use std::net::TcpStream;

    const COUNT: usize = 64;
    let event_loop = new_loop();
    let listener = asynchat::Server::new("127.0.0.1:0")
        .proxy_protocol(["127.0.0.0/8".parse().unwrap()])
        .listen_on(&event_loop, |_| |_: &[u8]| Ok(()))
        .unwrap();
    let addr = addr_of(&listener);
    // It announces 4,096 bytes.
    let header = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x0f\xf0", &[0; 4000][..]].concat();
    let mut all: Vec<TcpStream> = Vec::with_capacity(4 * COUNT);
    let mut cost = |sent: &[u8]| {
        let before = balance();
        for _ in 0..COUNT {
            let mut stream = TcpStream::connect(addr).unwrap();
            stream.write_all(sent).unwrap();
            all.push(stream);
        }
        run_until(&event_loop, || event_loop.len() == 1 + all.len());
        idle(&event_loop);
        (balance() - before) / COUNT.cast_signed()
    };
    // What the loop allocates for all connections is not counted.
    cost(b"");
    let (silent, started) = (cost(b""), cost(&header[..16]));
    let most = cost(&header);
    assert!(silent <= MOST + 768, "{silent} bytes for a silent one");
    assert!(
        started <= silent + 64,
        "{started} bytes for one that has announced a header"
    );
    assert!(
        most <= silent + 4352,
        "{most} bytes for a header without its end"
    );
}

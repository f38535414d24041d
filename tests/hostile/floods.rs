//! Peers that send or receive as fast as they can, beside a client with a small request: the client
//! is served after at most a few turns of the others. The tests count turns, not time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};

use asynchat::{Chat, EventLoop, IterProducer, Limits, Server};

use crate::common::{Log, Peer, Slot, addr_of, new_loop, run_until, served};

/// How many turns of a flooding peer another client may have to wait: the current turn, and one
/// before its own. The rest is a margin for systems whose loopback interface has a delay.
const TURNS: u64 = 6;

/// Sends this line repeatedly, as fast as the connection accepts it, until it ends.
fn flooder(addr: SocketAddr, line: &'static str) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        let lines = line.repeat(64 * 1024 / line.len());
        while stream.write_all(lines.as_bytes()).is_ok() {}
    })
}

/// Serves `count` flooding peers and one echo session. Runs until each flood has begun.
fn flooded(line: &'static str, count: usize) -> (EventLoop, Vec<Chat>, Vec<JoinHandle<()>>, Peer) {
    let event_loop = new_loop();
    let (_, good) = served(
        &event_loop,
        Log::default().session_with(|chat, line| {
            chat.push_slice(line);
            Ok(())
        }),
    );
    let (chats, floods) = (0..count)
        .map(|_| {
            let slot = Slot::default();
            let silent = slot.capture(|_: Chat| |_: &[u8]| Ok(()));
            let listener = event_loop.listen("127.0.0.1:0", silent).unwrap();
            let flood = flooder(addr_of(&listener), line);
            run_until(&event_loop, || {
                slot.is_filled() && slot.chat().stats().records_in > 20_000
            });
            listener.close();
            (slot.chat(), flood)
        })
        .unzip();
    (event_loop, chats, floods, good)
}

#[track_caller]
fn a_client_is_served_beside(line: &'static str, count: usize) {
    let (event_loop, chats, floods, mut good) = flooded(line, count);
    let most = TURNS * Limits::default().turn_records as u64;
    let records = |chat: &Chat| chat.stats().records_in;
    for _ in 0..50 {
        let before: Vec<u64> = chats.iter().map(records).collect();
        good.send("a question\r\n");
        good.expect(&event_loop, "a question");
        for (chat, before) in chats.iter().zip(before) {
            let meanwhile = records(chat) - before;
            assert!(meanwhile <= most, "{meanwhile} records went first");
        }
    }
    // The floods did not stop meanwhile.
    let before: Vec<u64> = chats.iter().map(records).collect();
    let go_on = |(chat, before): (&Chat, &u64)| records(chat) > before + most;
    run_until(&event_loop, || chats.iter().zip(&before).all(go_on));
    event_loop.close_all();
    run_until(&event_loop, || event_loop.is_empty());
    floods.into_iter().for_each(|flood| flood.join().unwrap());
}

#[test]
fn a_client_is_served_beside_a_flood_of_empty_lines() {
    a_client_is_served_beside("\r\n", 1);
}

#[test]
fn a_client_is_served_beside_a_flood_of_commands() {
    a_client_is_served_beside("GET\r\n", 1);
}

#[test]
fn a_client_is_served_beside_several_floods() {
    a_client_is_served_beside("\r\n", 5);
}

/// However many lines one read returns, a turn delivers the budget, and each line is delivered
/// once.
#[test]
fn a_turn_delivers_at_most_its_budget_of_empty_lines() {
    const LINES: usize = 1 << 20;
    let event_loop = new_loop();
    let slot = Slot::default();
    let silent = slot.capture(|_: Chat| |_: &[u8]| Ok(()));
    let listener = event_loop.listen("127.0.0.1:0", silent).unwrap();
    let mut stream = TcpStream::connect(addr_of(&listener)).unwrap();
    let flood = thread::spawn(move || {
        stream.write_all("\r\n".repeat(LINES).as_bytes()).unwrap();
        stream
    });
    let budget = Limits::default().turn_records as u64;
    let (mut records, mut most, mut full) = (0, 0, 0);
    run_until(&event_loop, || {
        let now = event_loop.stats().records_in;
        most = most.max(now - records);
        full += u64::from(now - records == budget);
        records = now;
        records == LINES as u64
    });
    assert_eq!(most, budget);
    // Nearly all turns use the whole budget: no line costs a turn of its own.
    assert!(full >= LINES as u64 / budget / 2, "{full} full turns");
    assert_eq!(slot.chat().stats().bytes_in, 2 * LINES as u64);
    drop(flood.join().unwrap());
}

/// Receives until the end. Returns the number of bytes.
fn reader(addr: SocketAddr) -> JoinHandle<usize> {
    thread::spawn(move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        let (mut buffer, mut total) = (vec![0; 256 * 1024], 0);
        loop {
            match stream.read(&mut buffer).unwrap() {
                0 => return total,
                count => total += count,
            }
        }
    })
}

#[track_caller]
fn a_client_is_served_beside_bulk(queue: impl Fn(&Chat)) {
    const BULK: usize = 15 << 20;
    let event_loop = new_loop();
    let (_, mut good) = served(
        &event_loop,
        Log::default().session_with(|chat, line| {
            chat.push_slice(line);
            Ok(())
        }),
    );
    let slot = Slot::default();
    let listener = Server::new("127.0.0.1:0")
        .limits(Limits::default().output(Limits::UNLIMITED))
        .listen_on(&event_loop, slot.capture(Log::default().session()))
        .unwrap();
    let bulk = reader(addr_of(&listener));
    run_until(&event_loop, || slot.is_filled());
    let chat = slot.chat();
    queue(&chat);
    chat.close_when_done();
    let most = TURNS * Limits::default().turn_write as u64;
    let sent = || chat.stats().bytes_out;
    let mut questions = 0;
    while sent() < BULK as u64 {
        let before = sent();
        good.send("a question\r\n");
        good.expect(&event_loop, "a question");
        let meanwhile = sent() - before;
        assert!(meanwhile <= most, "{meanwhile} bytes went first");
        questions += 1;
    }
    assert!(questions >= BULK as u64 / most, "{questions}");
    run_until(&event_loop, || event_loop.len() == 2);
    assert_eq!(bulk.join().unwrap(), BULK);
}

#[test]
fn a_client_is_served_beside_fifteen_megabytes() {
    a_client_is_served_beside_bulk(|chat| chat.push(vec![b'x'; 15 << 20]));
}

#[test]
fn a_client_is_served_beside_a_producer_of_fifteen_megabytes() {
    a_client_is_served_beside_bulk(|chat| {
        let pieces = std::iter::repeat_n(vec![b'x'; 1 << 20], 15);
        chat.push_with_producer(IterProducer::new(pieces));
    });
}

//! Output is a FIFO and is exact, wherever it is pushed from.

mod common;

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use asynchat::{AsyncChat, Chat, Close, Limits, More, Producer, Result, Terminator};
use bytes::Bytes;
use common::{
    Drops, Log, Peer, Token, addr_of, idle, new_loop, run_to_end, run_until, run_until_blocked,
    served,
};

#[test]
fn output_is_sent_in_the_order_it_was_pushed() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    let hooked = log.clone();
    chat.push("a");
    chat.push_slice(b"b");
    let end = 'd';
    write!(chat, "c{end}");
    chat.push_with_producer("e");
    chat.push(vec![b'f'; 100_000]);
    chat.push_hook(move || hooked.add("hook"));
    chat.push("g");
    io::Write::write_all(&mut &chat, b"h").unwrap();
    chat.push_with_producer(asynchat::IterProducer::new(["i", "", "j"]));
    chat.push("");
    chat.push("k");
    let wanted = format!("abcde{}ghijk", "f".repeat(100_000));
    peer.expect(&event_loop, wanted);
    assert_eq!(chat.queued(), 0);
    assert_eq!(log.count("hook"), 1);
}

/// Produces numbered lines, as many as fit in the budget.
struct Numbers {
    next: u32,
    end: u32,
}

impl Producer for Numbers {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        if self.next == self.end {
            return Ok(More::Done);
        }
        let mut chunk = Vec::new();
        while self.next < self.end && chunk.len() + 9 <= budget.max(9) {
            writeln!(chunk, "{:08}", self.next)?;
            self.next += 1;
        }
        Ok(More::Chunk(chunk.into()))
    }
}

#[test]
fn a_slow_reader_receives_exactly_what_was_pushed() {
    const LINES: u32 = 1_000_000;
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, peer) = served(&event_loop, log.session());
    let half = LINES / 2;
    chat.push_with_producer(Numbers { next: 0, end: half });
    chat.push_with_producer(Numbers {
        next: half,
        end: LINES,
    });
    chat.close_when_done();
    // A thread that reads a little at a time, so that writes are cut at arbitrary places.
    let mut stream = peer.stream;
    stream.set_nonblocking(false).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let reader = thread::spawn(move || {
        let (mut received, mut buffer) = (Vec::new(), [0; 7777]);
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => break received,
                Ok(count) => received.extend_from_slice(&buffer[..count]),
                Err(error) => panic!("{error}"),
            }
        }
    });
    run_to_end(&event_loop);
    let received = reader.join().unwrap();
    assert_eq!(received.len(), 9 * LINES as usize);
    let exact = received
        .chunks(9)
        .zip(0..LINES)
        .all(|(line, n)| line == format!("{n:08}\n").as_bytes());
    assert!(exact);
}

#[test]
fn a_push_to_another_connection_is_sent_before_the_loop_sleeps() {
    let event_loop = new_loop();
    let (near, far) = (Log::default(), Log::default());
    let (to, mut listens) = served(&event_loop, far.session());
    let (_, mut speaks) = served(
        &event_loop,
        near.session_with(move |_, record| {
            to.push_slice(record);
            Ok(())
        }),
    );
    speaks.send("pass it on\r\n");
    while !near.has("record") {
        event_loop.run_once(Duration::from_secs(20)).unwrap();
    }
    // The turn that delivered the record has sent it on.
    let mut buffer = [0; 100];
    listens.stream.set_nonblocking(false).unwrap();
    listens
        .stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    assert_eq!(listens.stream.read(&mut buffer).unwrap(), 10);
    assert_eq!(&buffer[..10], b"pass it on");
}

#[test]
fn a_push_to_a_closed_connection_is_ignored() {
    let event_loop = new_loop();
    let (near, far) = (Log::default(), Log::default());
    let (to, _peer) = served(&event_loop, far.session());
    let gone = to.clone();
    let (_, mut speaks) = served(
        &event_loop,
        near.session_with(move |chat, record| {
            gone.push_slice(record);
            chat.push("done\r\n");
            Ok(())
        }),
    );
    to.close();
    speaks.send("pass it on\r\n");
    speaks.expect(&event_loop, "done\r\n");
    assert_eq!(far.lines(), ["connect", "close Local"]);
}

#[test]
fn pushes_from_a_timer_a_deferred_call_and_another_thread_are_sent() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    let from_timer = chat.clone();
    event_loop.call_later(Duration::ZERO, move || from_timer.push("timer\r\n"));
    peer.expect(&event_loop, "timer\r\n");
    let from_call = chat.clone();
    event_loop.call_soon(move || from_call.push("call\r\n"));
    peer.expect(&event_loop, "call\r\n");
    let (remote, id) = (event_loop.remote(), chat.id());
    let worker = thread::spawn(move || {
        remote.post(move || {
            let chat = asynchat::chat(id).expect("it is open");
            chat.push("thread\r\n");
        })
    });
    peer.expect(&event_loop, "thread\r\n");
    worker.join().unwrap().unwrap();
}

#[test]
fn a_hook_is_called_when_everything_before_it_is_sent() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    chat.set_limits(Limits::default().output(Limits::UNLIMITED));
    let much = 32 << 20;
    chat.push(vec![b'x'; much]);
    let hooked = log.clone();
    chat.push_hook(move || hooked.add("hook"));
    run_until_blocked(&event_loop, &chat);
    assert!(!log.has("hook"));
    run_until(&event_loop, || peer.look().len() == much);
    run_until(&event_loop, || log.has("hook"));
    assert_eq!(chat.queued(), 0);
}

#[test]
fn a_push_inside_a_hook_is_queued_at_the_end() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    let inside = chat.clone();
    chat.push("1");
    chat.push_hook(move || {
        inside.push("3");
        let pushing = inside.clone();
        inside.push_hook(move || pushing.push("4"));
    });
    chat.push("2");
    peer.expect(&event_loop, "1234");
}

#[test]
fn a_hook_that_queues_itself_for_ever_does_not_delay_others() {
    fn push_hook_again(chat: &Chat) {
        let next = chat.clone();
        chat.push_hook(move || push_hook_again(&next));
    }
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, _peer) = served(&event_loop, log.session());
    let (_, mut other) = served(&event_loop, log.session());
    push_hook_again(&chat);
    other.send("here too\r\n");
    run_until(&event_loop, || log.has("record here too"));
    chat.close();
    idle(&event_loop);
    assert_eq!(log.count("close Local"), 1);
}

/// Produces what it receives; `Pending` while there is nothing.
struct Piped(mpsc::Receiver<Bytes>);

impl Producer for Piped {
    fn more(&mut self, _: usize) -> io::Result<More> {
        match self.0.try_recv() {
            Ok(chunk) => Ok(More::Chunk(chunk)),
            Err(mpsc::TryRecvError::Empty) => Ok(More::Pending),
            Err(mpsc::TryRecvError::Disconnected) => Ok(More::Done),
        }
    }
}

#[test]
fn a_pending_producer_blocks_the_queue_until_another_thread_resumes_it() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    let (sender, receiver) = mpsc::channel();
    chat.push("begin ");
    chat.push_with_producer(Piped(receiver));
    chat.push("end");
    peer.expect(&event_loop, "begin ");
    idle(&event_loop);
    assert_eq!(peer.look(), b"");
    let (remote, id) = (event_loop.remote(), chat.id());
    let worker = thread::spawn(move || -> Result {
        let resume = || remote.post(move || asynchat::chat(id).unwrap().resume_producing());
        for chunk in ["one ", "two "] {
            sender.send(chunk.into())?;
            resume()?;
        }
        drop(sender);
        Ok(resume()?)
    });
    peer.expect(&event_loop, "one two end");
    worker.join().unwrap().unwrap();
}

#[test]
fn resuming_a_producer_that_is_still_pending_has_no_effect() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    let (sender, receiver) = mpsc::channel();
    chat.push_with_producer(Piped(receiver));
    chat.push("end");
    for _ in 0..3 {
        chat.resume_producing();
        idle(&event_loop);
    }
    sender.send("at last ".into()).unwrap();
    drop(sender);
    chat.resume_producing();
    peer.expect(&event_loop, "at last end");
}

/// Fails after one chunk.
struct Fails(Option<&'static str>, #[allow(dead_code)] Token);

impl Producer for Fails {
    fn more(&mut self, _: usize) -> io::Result<More> {
        match self.0.take() {
            Some(chunk) => Ok(More::Chunk(chunk.into())),
            None => Err(io::Error::other("the disk is gone")),
        }
    }
}

#[test]
fn a_producer_that_fails_closes_the_connection_and_is_dropped_once() {
    let (event_loop, log, drops) = (new_loop(), Log::default(), Drops::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    chat.push("a ");
    chat.push_with_producer(Fails(Some("b"), drops.token()));
    chat.push_with_producer(Fails(Some("not asked"), drops.token()));
    let end = peer.wait_for_end(&event_loop);
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(b"a b".starts_with(peer.look()));
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "close Handler"]);
    assert_eq!(drops.count(), 2);
}

/// A large push is sent before the producer behind it is asked.
#[test]
fn output_before_a_producer_that_fails_is_sent() {
    let (event_loop, log, drops) = (new_loop(), Log::default(), Drops::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    chat.push(vec![b'x'; 20_000]);
    chat.push_with_producer(Fails(None, drops.token()));
    let end = peer.wait_for_end(&event_loop);
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(peer.look().len(), 20_000);
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "close Handler"]);
}

#[test]
fn producers_and_hooks_of_a_connection_that_ends_are_dropped_once() {
    let (event_loop, log, drops) = (new_loop(), Log::default(), Drops::default());
    let (chat, peer) = served(&event_loop, log.session());
    chat.push(vec![b'x'; 8 << 20]);
    chat.push_with_producer(Fails(None, drops.token()));
    let token = drops.token();
    chat.push_hook(move || panic!("the hook was called, with {}", drop_name(&token)));
    run_until_blocked(&event_loop, &chat);
    assert_eq!(drops.count(), 0);
    peer.reset();
    run_to_end(&event_loop);
    assert_eq!(log.lines().last().unwrap(), "close Reset");
    assert_eq!(drops.count(), 2);
}

fn drop_name(_: &Token) -> &'static str {
    "a token"
}

#[test]
fn discard_buffers_drops_the_queue_but_not_the_close() {
    let (event_loop, log, drops) = (new_loop(), Log::default(), Drops::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    chat.push("lost");
    chat.push_with_producer(Fails(None, drops.token()));
    let token = drops.token();
    chat.push_hook(move || panic!("the hook was called, with {}", drop_name(&token)));
    chat.push(vec![b'x'; 10_000]);
    chat.close_when_done();
    chat.discard_buffers();
    assert_eq!(chat.queued(), 0);
    assert_eq!(peer.receive_all(&event_loop), b"");
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "close Local"]);
    assert_eq!(drops.count(), 2);
}

#[test]
fn pushes_after_a_discard_are_sent() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    let (_sender, receiver) = mpsc::channel();
    chat.push_with_producer(Piped(receiver));
    idle(&event_loop);
    chat.discard_buffers();
    chat.push("sent");
    peer.expect(&event_loop, "sent");
}

/// A producer that discards the queue while it is asked.
struct Discards(Chat);

impl Producer for Discards {
    fn more(&mut self, _: usize) -> io::Result<More> {
        self.0.discard_buffers();
        self.0.push("instead");
        Ok(More::Chunk("not sent".into()))
    }
}

#[test]
fn a_producer_may_discard_its_own_queue() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    chat.push_with_producer(Discards(chat.clone()));
    chat.push("not sent either");
    peer.expect(&event_loop, "instead");
    idle(&event_loop);
    assert_eq!(peer.look(), b"");
}

#[test]
fn queued_counts_pushed_bytes_that_are_not_sent() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    chat.push("12345");
    chat.push_with_producer("not counted");
    chat.push_slice(b"678");
    assert_eq!(chat.queued(), 8);
    peer.expect(&event_loop, "12345not counted678");
    assert_eq!(chat.queued(), 0);
    assert_eq!(chat.stats().bytes_out, 19);
}

/// A proxy: two sessions with each other's chat; one waits for the other's low-water mark.
struct Relay {
    to: Rc<RefCell<Option<Chat>>>,
    moved: Rc<Cell<usize>>,
}

impl AsyncChat for Relay {
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(())
    }
    fn collect_incoming_data(&mut self, chunk: &[u8]) -> Result {
        self.moved.set(self.moved.get() + chunk.len());
        if let Some(to) = &*self.to.borrow() {
            to.push_slice(chunk);
        }
        Ok(())
    }
    fn handle_close(&mut self, _: &Close) {
        if let Some(to) = self.to.take() {
            to.close_when_done();
        }
    }
}

#[test]
fn a_relay_loses_nothing() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (out, mut sink) = served(&event_loop, log.session());
    out.set_limits(Limits::default().output(Limits::UNLIMITED));
    let moved = Rc::new(Cell::new(0));
    let relay_to = Rc::new(RefCell::new(Some(out)));
    let counted = Rc::clone(&moved);
    let listener = event_loop
        .listen("127.0.0.1:0", move |chat: Chat| {
            chat.set_terminator(Terminator::none());
            Relay {
                to: Rc::clone(&relay_to),
                moved: Rc::clone(&counted),
            }
        })
        .unwrap();
    let data: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 253) as u8).collect();
    let mut source = Peer::connect(addr_of(&listener));
    source.send_all(&event_loop, &data);
    drop(source);
    listener.close();
    assert!(sink.receive_all(&event_loop) == data);
    assert_eq!(moved.get(), data.len());
}

#[test]
fn a_session_may_push_back_the_record_it_has_just_received() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (_, mut peer) = served(
        &event_loop,
        log.session_with(|chat, record| {
            chat.push_slice(record);
            chat.push("\r\n");
            Ok(())
        }),
    );
    let barrage: String = (0..5000).map(|n| format!("line {n}\r\n")).collect();
    peer.send_all(&event_loop, barrage.as_bytes());
    peer.expect(&event_loop, &barrage);
}

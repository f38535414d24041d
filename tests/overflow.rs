//! Records above their limit.

mod common;

use std::cell::RefCell;
use std::rc::Rc;

use asynchat::{
    AsyncChat, Chat, Close, Connector, EventLoop, Limits, Overflow, RecordLimit, Result, Server,
    SimpleProducer, Terminator,
};
use common::{Log, Peer, addr_of, new_loop, run_to_end, run_until, served, tcp_pair};

#[test]
fn a_record_may_be_as_long_as_the_limit_and_no_longer() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    chat.set_limits(Limits::default().record(5));
    peer.send("12345\r\n123456\r\nnever\r\n");
    run_to_end(&event_loop);
    assert_eq!(
        log.lines(),
        ["connect", "record 12345", "overflow", "close InputLimit"]
    );
}

#[test]
fn the_default_limit_is_eight_kibibytes() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (_, mut peer) = served(&event_loop, log.session());
    peer.send("x".repeat(8192) + "\r\n" + &"x".repeat(8193));
    run_to_end(&event_loop);
    assert_eq!(log.count("record"), 1);
    assert_eq!(log.lines()[2..], ["overflow", "close InputLimit"]);
}

/// Sends an error message, and closes the connection.
struct Complains(asynchat::Chat, Log);

impl asynchat::AsyncChat for Complains {
    fn found_terminator(&mut self, _: &[u8]) -> asynchat::Result {
        Ok(())
    }
    fn handle_overflow(
        &mut self,
        _limit: &asynchat::RecordLimit,
    ) -> asynchat::Result<asynchat::Overflow> {
        self.0.push("500 line too long\r\n");
        Ok(asynchat::Overflow::CloseWhenDone)
    }
    fn handle_close(&mut self, why: &asynchat::Close) {
        self.1.add(common::name(why));
    }
}

#[test]
fn an_error_message_is_sent_before_the_close() {
    let (event_loop, log) = (new_loop(), Log::default());
    let log_clone = log.clone();
    let listener = Server::new("127.0.0.1:0")
        .limits(Limits::default().record(10))
        .listen_on(&event_loop, move |chat| Complains(chat, log_clone.clone()))
        .unwrap();
    let mut peer = Peer::connect(addr_of(&listener));
    peer.send("much too long for this\r\n");
    assert_eq!(peer.receive_all(&event_loop), b"500 line too long\r\n");
    listener.close();
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["InputLimit"]);
}

/// Replies with the limit, after a long text.
struct Explains {
    chat: Chat,
    log: Log,
    then: Overflow,
}

const TEXT: usize = 4 << 20;

impl AsyncChat for Explains {
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        self.log.add(String::from_utf8_lossy(record));
        Ok(())
    }
    fn collect_incoming_data(&mut self, _: &[u8]) -> Result {
        Ok(())
    }
    fn handle_overflow(&mut self, limit: &RecordLimit) -> Result<Overflow> {
        let (bytes, announced, source) = (limit.bytes, limit.announced, limit.source);
        self.log.add(format!("{bytes} {announced:?} {source:?}"));
        self.chat.set_terminator(Terminator::crlf());
        self.chat
            .push_with_producer(SimpleProducer::new(vec![b'x'; TEXT]));
        write!(self.chat, "at most {bytes}\r\n");
        Ok(self.then)
    }
    fn handle_close(&mut self, why: &Close) {
        match why {
            Close::InputLimit(limit) => self.log.add(format!("{} {limit}", limit.bytes)),
            why => self.log.add(common::name(why)),
        }
    }
}

/// A connection with such a session, whose records have at most 20 bytes.
fn explained(terminator: Terminator, then: Overflow) -> (EventLoop, Log, Peer) {
    let (event_loop, log) = (new_loop(), Log::default());
    let (near, far) = tcp_pair();
    let of_session = log.clone();
    Connector::adopt(near)
        .limits(Limits::default().record(20))
        .connect_on(&event_loop, move |chat| {
            chat.set_terminator(terminator);
            Explains {
                chat,
                log: of_session,
                then,
            }
        })
        .unwrap();
    (event_loop, log, Peer::new(far))
}

#[test]
fn handle_overflow_receives_the_limit() {
    let line = Terminator::crlf;
    for (terminator, expected) in [
        (line(), "20 None Limits"),
        (line().limit(10), "10 None Terminator"),
        (line().streamed().limit(10), "10 None Terminator"),
        (line().inclusive().limit(10), "10 None Terminator"),
        (line().owned(), "20 None Limits"),
        (Terminator::dot_block(), "20 None Limits"),
        (Terminator::count(25), "20 Some(25) Limits"),
        (Terminator::count(25).limit(10), "10 Some(25) Terminator"),
        (
            Terminator::count(25).streamed().limit(10),
            "10 Some(25) Terminator",
        ),
    ] {
        let (event_loop, log, mut peer) = explained(terminator, Overflow::Discard);
        peer.send("x".repeat(25));
        run_until(&event_loop, || !log.lines().is_empty());
        assert_eq!(log.lines(), [expected]);
    }
}

#[test]
fn a_session_that_discards_can_reply_with_the_limit() {
    let (event_loop, log, mut peer) = explained(Terminator::crlf(), Overflow::Discard);
    peer.send("x".repeat(50) + "\r\nnext\r\n");
    peer.finish();
    let received = peer.receive_all(&event_loop);
    assert_eq!(received.len(), TEXT + "at most 20\r\n".len());
    assert!(received.ends_with(b"at most 20\r\n"));
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["20 None Limits", "next", "Eof"]);
}

/// Also a producer, and what no kernel buffers. The records behind are not delivered.
#[test]
fn close_when_done_sends_the_whole_queue_first() {
    let (event_loop, log, mut peer) = explained(Terminator::crlf(), Overflow::CloseWhenDone);
    peer.send("x".repeat(50) + "\r\nnext\r\n");
    let received = peer.receive_all(&event_loop);
    assert_eq!(received.len(), TEXT + "at most 20\r\n".len());
    assert!(received.ends_with(b"at most 20\r\n"));
    drop(peer);
    run_to_end(&event_loop);
    let expected = [
        "20 None Limits",
        "20 a record exceeds Limits::record (20 bytes)",
    ];
    assert_eq!(log.lines(), expected);
}

#[test]
fn a_session_that_discards_stays_in_sync() {
    let (event_loop, log) = (new_loop(), Log::default());
    let session = log.session();
    let (chat, mut peer) = served(&event_loop, move |chat| session(chat).skipping());
    chat.set_limits(Limits::default().record(5));
    peer.send("a\r\nmuch too ");
    run_until(&event_loop, || log.has("overflow"));
    peer.send("long\r\nb\r\nagain too long\r\nc\r\n");
    run_until(&event_loop, || log.has("record c"));
    assert_eq!(
        log.lines(),
        [
            "connect", "record a", "overflow", "record b", "overflow", "record c"
        ]
    );
}

#[test]
fn a_limit_may_change_with_each_record() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (_, mut peer) = served(
        &event_loop,
        log.session_with(|chat, record| {
            let length = std::str::from_utf8(record)?.trim().parse()?;
            chat.set_limits(Limits::default().record(length));
            Ok(())
        }),
    );
    peer.send("3\r\n  4\r\n   2\r\n  9\r\n");
    run_to_end(&event_loop);
    assert_eq!(
        log.lines()[1..],
        [
            "record 3",
            "record   4",
            "record    2",
            "overflow",
            "close InputLimit"
        ]
    );
}

#[test]
fn the_limit_of_a_terminator_overrides_that_of_the_connection() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    chat.set_limits(Limits::default().record(3));
    chat.set_terminator(Terminator::crlf().limit(6));
    peer.send("123456\r\n1234567\r\n");
    run_to_end(&event_loop);
    assert_eq!(
        log.lines()[1..],
        ["record 123456", "overflow", "close InputLimit"]
    );
}

/// Stores the reason of its close.
struct Reports(Rc<RefCell<Option<String>>>);

impl asynchat::AsyncChat for Reports {
    fn found_terminator(&mut self, _: &[u8]) -> asynchat::Result {
        Ok(())
    }
    fn handle_close(&mut self, why: &asynchat::Close) {
        *self.0.borrow_mut() = Some(why.to_string());
    }
}

/// Before its first byte arrives: the peer sends nothing here.
#[test]
fn the_reason_of_the_close_says_which_limit_a_count_has_exceeded() {
    let above_default = "a record of 500000 bytes exceeds Limits::record (8192 bytes): \
                         Terminator::limit raises it, Terminator::streamed needs none";
    let above_own = "a record of 500000 bytes exceeds the limit of its terminator (65536 bytes)";
    let count = || Terminator::count(500_000);
    for (terminator, expected) in [
        (count(), above_default),
        (count().owned(), above_default),
        (count().limit(65_536), above_own),
        (count().limit(65_536).streamed(), above_own),
    ] {
        let event_loop = new_loop();
        let reason = Rc::default();
        let reports = Reports(Rc::clone(&reason));
        let (near, _far) = tcp_pair();
        Connector::adopt(near)
            .connect_on(&event_loop, move |chat| {
                chat.set_terminator(terminator);
                reports
            })
            .unwrap();
        run_until(&event_loop, || reason.borrow().is_some());
        assert_eq!(reason.borrow().as_deref(), Some(expected));
    }
}

#[test]
fn a_streamed_record_is_limited_by_its_terminator_only() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    chat.set_terminator(Terminator::crlf().streamed());
    peer.send("x".repeat(100_000) + "\r\n");
    run_until(&event_loop, || log.has("record"));
    let chunks: usize = log
        .lines()
        .iter()
        .filter_map(|line| line.strip_prefix("chunk "))
        .map(str::len)
        .sum();
    assert_eq!(chunks, 100_000);
    assert!(!log.has("overflow"));
}

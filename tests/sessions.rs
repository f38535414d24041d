//! What a session receives and sends while it is busy, paused, or at the end of its input.

mod common;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use asynchat::{
    AsyncChat, Chat, Connector, Eof, Group, More, Producer, Result, Socket, Terminator,
};
use bytes::Bytes;
use common::{Log, Peer, addr_of, idle, new_loop, run_to_end, run_until, served, tcp_pair};

/// Produces small chunks without end.
struct Endless;

impl Producer for Endless {
    fn more(&mut self, _: usize) -> io::Result<More> {
        Ok(More::Chunk(Bytes::from_static(&[b'x'; 1000])))
    }
}

#[test]
fn input_is_read_during_endless_output() {
    const MUCH: usize = 32 << 20;
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(
        &event_loop,
        log.session_with(|chat, _| {
            chat.close();
            Ok(())
        }),
    );
    chat.push_with_producer(Endless);
    // The peer reads everything after each turn, so there is always room for output.
    run_until(&event_loop, || peer.look().len() > 100_000);
    peer.send("stop\r\n");
    run_until(&event_loop, || {
        assert!(peer.look().len() < MUCH, "the input is not read");
        log.has("close")
    });
    assert_eq!(log.lines(), ["connect", "record stop", "close Dropped"]);
}

/// Resumes itself while it is asked, as a producer does whose data arrives at that moment.
struct ResumesItself {
    chat: Chat,
    answers: VecDeque<More>,
}

impl Producer for ResumesItself {
    fn more(&mut self, _: usize) -> io::Result<More> {
        self.chat.resume_producing();
        Ok(self.answers.pop_front().unwrap_or(More::Done))
    }
}

#[test]
fn a_producer_resumed_while_it_returns_pending_is_asked_again() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    chat.push_with_producer(ResumesItself {
        chat: chat.clone(),
        answers: [More::Pending, More::Chunk("it came".into())].into(),
    });
    peer.expect(&event_loop, "it came");
}

/// Produces the data that exists, and returns `WouldBlock` like a non-blocking source if there is
/// none.
#[derive(Clone, Default)]
struct Source {
    there: Rc<RefCell<VecDeque<&'static str>>>,
    asked: Rc<Cell<usize>>,
}

impl Producer for Source {
    fn more(&mut self, _: usize) -> io::Result<More> {
        self.asked.set(self.asked.get() + 1);
        let text = self.there.borrow_mut().pop_front();
        let text = text.ok_or(ErrorKind::WouldBlock)?;
        Ok(More::Chunk(text.into()))
    }
}

#[test]
fn a_producer_that_would_block_waits_until_it_is_resumed() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    let source = Source::default();
    chat.push_with_producer(source.clone());
    idle(&event_loop);
    assert_eq!(source.asked.get(), 1);
    source.there.borrow_mut().extend(["some ", "more"]);
    idle(&event_loop);
    assert_eq!(source.asked.get(), 1);
    chat.resume_producing();
    peer.expect(&event_loop, "some more");
    assert!(chat.is_open(), "{:?}", log.lines());
}

#[test]
fn a_session_that_returns_would_block_is_closed_for_its_error() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (_chat, mut peer) = served(
        &event_loop,
        log.session_with(|_, _| Err(io::Error::from(ErrorKind::WouldBlock).into())),
    );
    peer.send("a\r\nb\r\n");
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "record a", "close Handler"]);
}

#[test]
fn close_when_done_after_a_failed_send_closes_a_paused_session() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, peer) = served(&event_loop, log.session());
    chat.pause_reading();
    idle(&event_loop);
    peer.reset();
    // The reset of the first push is reported with the second one, in case the kernel accepts the
    // first.
    chat.push("into the void");
    idle(&event_loop);
    chat.push("into the void");
    idle(&event_loop);
    chat.close_when_done();
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "close Reset"]);
}

/// A push that failed would end the connection, and its input with it.
#[test]
fn a_push_after_shutdown_write_is_dropped_and_input_is_still_received() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    let group = Group::default();
    group.add(&chat);
    chat.push("the last\r\n");
    chat.shutdown_write();
    chat.push("queued behind the end");
    idle(&event_loop);
    chat.push("sent after the end");
    let hook = log.clone();
    chat.push_hook(move || hook.add("hook"));
    assert_eq!(group.push("a broadcast"), 0);
    assert_eq!(chat.queued(), 0);
    idle(&event_loop);
    assert_eq!(peer.receive_all(&event_loop), b"the last\r\n");
    assert!(log.has("hook"));
    peer.send("a late reply\r\n");
    run_until(&event_loop, || log.has("record a late reply"));
    chat.close_when_done();
    run_to_end(&event_loop);
    assert_eq!(log.lines().last().map(String::as_str), Some("close Local"));
}

#[test]
fn an_idle_gap_ends_a_record_received_while_paused() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(
        &event_loop,
        log.session_with(|chat, record| {
            if record == b"wait" {
                chat.set_terminator(Terminator::idle_gap(Duration::from_millis(1)));
                chat.pause_reading();
            }
            Ok(())
        }),
    );
    peer.send("wait\r\nabc");
    run_until(&event_loop, || log.has("record wait"));
    idle(&event_loop);
    assert_eq!(log.lines(), ["connect", "record wait"]);
    chat.resume_reading();
    run_until(&event_loop, || log.has("record abc"));
}

#[test]
fn a_streamed_record_counts_once_however_many_its_chunks() {
    let (event_loop, log) = (new_loop(), Log::default());
    let session = log.session();
    let (chat, mut peer) = served(&event_loop, move |chat| {
        chat.set_terminator(Terminator::crlf().streamed());
        session(chat)
    });
    for chunks in 1..=3 {
        peer.send("ab");
        run_until(&event_loop, || log.count("chunk") == chunks);
    }
    assert_eq!(chat.stats().records_in, 0);
    peer.send("\r\n");
    run_until(&event_loop, || log.has("record"));
    assert_eq!(chat.stats().records_in, 1);
}

#[test]
fn discard_buffers_drops_input_that_was_not_delivered() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(
        &event_loop,
        log.session_with(|chat, record| {
            if record == b"wait" {
                chat.pause_reading();
            }
            Ok(())
        }),
    );
    peer.send("wait\r\nlost\r\nlost in the mid");
    run_until(&event_loop, || log.has("record wait"));
    chat.discard_buffers();
    chat.resume_reading();
    idle(&event_loop);
    assert_eq!(log.lines(), ["connect", "record wait"]);
    peer.send("later\r\n");
    run_until(&event_loop, || log.count("record") == 2);
    assert_eq!(log.lines()[2..], ["record later"]);
}

/// Sets a terminator in `handle_eof`.
struct AtEof {
    chat: Chat,
    log: Log,
}

impl AsyncChat for AtEof {
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        let record = String::from_utf8_lossy(record);
        self.log.add(format!("record {record}"));
        Ok(())
    }
    fn handle_eof(&mut self, partial: &[u8]) -> Result<Eof> {
        let partial = String::from_utf8_lossy(partial);
        self.log.add(format!("eof {partial}"));
        self.chat.set_terminator(Terminator::count(3));
        Ok(Eof::StayOpen)
    }
}

#[test]
fn the_partial_record_is_not_delivered_again_after_a_terminator_is_set_in_handle_eof() {
    let (event_loop, log) = (new_loop(), Log::default());
    let log_clone = log.clone();
    let listener = event_loop
        .listen("127.0.0.1:0", move |chat| AtEof {
            chat,
            log: log_clone.clone(),
        })
        .unwrap();
    let mut peer = Peer::connect(addr_of(&listener));
    peer.send("ab");
    idle(&event_loop);
    peer.send("c");
    peer.finish();
    run_until(&event_loop, || log.has("eof"));
    idle(&event_loop);
    assert_eq!(log.lines(), ["eof abc"]);
}

/// A session on an adopted connected socket gets `handle_connect`, receives and answers.
#[track_caller]
fn assert_session_works(near: impl Into<Socket>, mut far: impl Read + Write) {
    let (event_loop, log) = (new_loop(), Log::default());
    let session = log.session_with(|chat, _| {
        chat.push("welcome");
        chat.close_when_done();
        Ok(())
    });
    let chat = Connector::adopt(near)
        .connect_on(&event_loop, session)
        .unwrap();
    assert!(chat.is_open());
    run_until(&event_loop, || log.has("connect"));
    far.write_all(b"hello\r\n").unwrap();
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "record hello", "close Local"]);
    let mut reply = String::new();
    far.read_to_string(&mut reply).unwrap();
    assert_eq!(reply, "welcome");
}

#[test]
fn a_session_works_on_a_connected_tcp_stream() {
    let (near, far) = tcp_pair();
    assert_session_works(near, far);
}

#[cfg(unix)]
#[test]
fn a_session_works_on_a_connected_unix_stream() {
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    assert_session_works(near, far);
}

/// Bytes held back as a partial terminator are parsed again, before the input that follows them.
#[test]
fn a_terminator_set_within_a_chunk_reparses_the_held_back_bytes() {
    struct Switching(asynchat::Chat, Log);
    impl asynchat::AsyncChat for Switching {
        fn collect_incoming_data(&mut self, chunk: &[u8]) -> asynchat::Result {
            self.1.add(format!("chunk {}", chunk.escape_ascii()));
            self.0.set_terminator(asynchat::Terminator::bytes(b";"));
            Ok(())
        }
        fn found_terminator(&mut self, record: &[u8]) -> asynchat::Result {
            self.1.add(format!("record {}", record.escape_ascii()));
            Ok(())
        }
    }
    let (event_loop, log, slot) = (common::new_loop(), Log::default(), common::Slot::default());
    let log_clone = log.clone();
    let listener = event_loop
        .listen(
            "127.0.0.1:0",
            slot.capture(move |chat| {
                chat.set_terminator(asynchat::Terminator::bytes(b"aab").streamed());
                Switching(chat, log_clone.clone())
            }),
        )
        .unwrap();
    let mut peer = common::Peer::connect(common::addr_of(&listener));
    peer.send("aa");
    common::run_until(&event_loop, || {
        slot.is_filled() && slot.chat().stats().bytes_in == 2
    });
    peer.send("axyz;");
    common::run_until(&event_loop, || log.has("record"));
    assert_eq!(log.lines(), ["chunk a", "record aaxyz"]);
}

/// `count(0)` needs no input, wherever it is set.
#[test]
fn count_zero_set_in_the_factory_is_delivered_after_handle_connect() {
    let (event_loop, log) = (new_loop(), Log::default());
    let session = log.session_with(|chat, _| {
        chat.set_terminator(Terminator::crlf());
        Ok(())
    });
    let (_chat, _peer) = served(&event_loop, move |chat| {
        chat.set_terminator(Terminator::count(0));
        session(chat)
    });
    run_until(&event_loop, || log.has("record"));
    assert_eq!(log.lines(), ["connect", "record "]);
}

/// A session that does not override `found_record`, such as a closure, handles both kinds of records.
#[test]
fn an_owned_record_is_passed_to_found_terminator_by_default() {
    let (event_loop, log) = (new_loop(), Log::default());
    let session = log.session_with(|chat, record| {
        chat.set_terminator(match record {
            b"body" => Terminator::count(3).owned(),
            _ => Terminator::line().inclusive(),
        });
        Ok(())
    });
    let (_chat, mut peer) = served(&event_loop, session);
    peer.send("body\r\na\r\none\ntwo\r\n");
    run_until(&event_loop, || log.has("record two"));
    assert_eq!(
        log.lines()[1..],
        [
            "record body",
            "record a\r\n",
            "record one\n",
            "record two\r\n"
        ]
    );
}

//! A callback that fails ends its own connection, after what was pushed before the failure has been
//! sent. An output stream that is cut off in the middle ends with a reset.

mod common;
#[path = "common/scene.rs"]
mod scene;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use asynchat::sim::{self, Ended};
use asynchat::{
    AsyncChat, Chat, Deadlines, Eof, Group, Limits, LinesProducer, More, Producer, Result,
    SlowReader, Terminator,
};
use common::{Log, Session, failure, name};
use scene::Scene;

/// Echoes each record. A record that names a failure is echoed before the callback fails.
fn on_record(chat: &Chat, record: &[u8]) -> Result {
    chat.push_slice(record);
    chat.push("\r\n");
    match record {
        b"fail" => Err(failure()),
        b"panic" => panic!("it was to panic"),
        b"close" => {
            chat.close_when_done();
            Err(failure())
        }
        _ => Ok(()),
    }
}

#[test]
fn output_pushed_before_the_failure_is_sent_under_every_segmentation() -> Result {
    for (how, reason) in [
        ("fail", "Handler"),
        ("panic", "Panic"),
        ("close", "Handler"),
    ] {
        let log = Log::default();
        let input = format!("one\r\ntwo\r\n{how}\r\nthree\r\n");
        let transcript =
            sim::drive_every_segmentation(log.session_with(on_record), input.as_bytes())?;
        assert_eq!(transcript.text(), format!("one\r\ntwo\r\n{how}\r\n"));
        assert_eq!(transcript.ended, Some(Ended::Finished));
        assert_eq!(name(&transcript.close.unwrap()), reason);
    }
    Ok(())
}

/// Says how much it was asked for.
struct Asked(usize);

impl Producer for Asked {
    fn more(&mut self, budget: usize) -> std::io::Result<More> {
        self.0 += 1;
        Ok(match self.0 {
            1..=3 => More::Chunk(format!("{budget}\r\n").into()),
            _ => More::Done,
        })
    }
}

/// Input counts against the queue while it waits to be parsed. After a failure it never is.
#[test]
fn input_behind_a_failure_does_not_slow_the_output_before_it() -> Result {
    let mut outputs = Vec::new();
    for rest in [0, 60_000] {
        for how in ["fail", "panic"] {
            let factory = |chat: Chat| {
                move |line: &[u8]| {
                    if line == b"ask" {
                        chat.push_with_producer(Asked(0));
                        return Ok(());
                    }
                    on_record(&chat, line)
                }
            };
            let input = [format!("ask\r\n{how}\r\n").as_bytes(), &vec![b'x'; rest]].concat();
            let transcript = sim::drive(factory, input)?;
            outputs.push(transcript.text().replace(how, ""));
        }
    }
    outputs.dedup();
    assert_eq!(outputs.len(), 1, "{outputs:?}");
    Ok(())
}

/// Fails in this callback, after a push.
struct FailsIn {
    chat: Chat,
    callback: &'static str,
}

impl FailsIn {
    fn enter(&self, callback: &str) -> Result {
        self.chat.push(format!("{callback}\r\n"));
        if callback == self.callback {
            Err(failure())
        } else {
            Ok(())
        }
    }
}

impl AsyncChat for FailsIn {
    fn handle_connect(&mut self) -> Result {
        self.enter("connect")
    }
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        self.enter("record")
    }
    fn handle_eof(&mut self, _: &[u8]) -> Result<Eof> {
        self.enter("eof")?;
        Ok(Eof::CloseWhenDone)
    }
}

#[test]
fn output_pushed_in_a_failing_callback_is_sent_in_full() -> Result {
    for (callback, output) in [
        ("connect", "connect\r\n"),
        ("record", "connect\r\nrecord\r\n"),
        ("eof", "connect\r\nrecord\r\neof\r\n"),
    ] {
        let factory = move |chat| FailsIn { chat, callback };
        let transcript = sim::drive_every_segmentation(factory, b"x\r\n")?;
        assert_eq!(transcript.text(), output);
        assert_eq!(name(&transcript.close.unwrap()), "Handler");
    }
    Ok(())
}

#[test]
fn a_failed_session_gets_handle_close_only() -> Result {
    let scene = Scene::new()?;
    let (chat, peer) = scene.connection(scene.log.session_with(|chat, _| {
        chat.push(vec![b'x'; 1 << 20]);
        Err(failure())
    }))?;
    peer.stop_reading();
    peer.send("x\r\n");
    chat.call_every(Duration::from_millis(100));
    scene.settle()?;
    peer.send("more\r\n");
    peer.finish();
    let refused = chat.post(|_: &mut Session| unreachable!("the session has failed"));
    assert!(refused.is_err() && !chat.is_open());
    scene.advance(1)?;
    assert_eq!(scene.log.lines(), ["connect", "record x"]);
    // The peer reads before the linger time is over, and receives everything.
    peer.start_reading(usize::MAX);
    scene.settle()?;
    assert_eq!(peer.received().len(), 1 << 20);
    assert_eq!(peer.ended(), Some(Ended::Finished));
    assert_eq!(scene.log.lines(), ["connect", "record x", "close Handler"]);
    Ok(())
}

/// The connection of a failed session waits for a peer that does not read as long as a close
/// lingers.
#[test]
fn output_of_a_failed_session_waits_for_its_peer_for_the_linger_time() -> Result {
    for (linger, lasts) in [(7, 7), (0, 2)] {
        let scene = Scene::new()?;
        let (chat, peer) = scene.connection(scene.log.session_with(|chat, _| {
            chat.push(vec![b'x'; 1 << 20]);
            Err(failure())
        }))?;
        chat.set_deadlines(Deadlines::default().linger(Duration::from_secs(linger)));
        peer.stop_reading();
        peer.send("x\r\n");
        scene.advance(lasts - 1)?;
        assert!(!scene.log.has("close"));
        // What the kernel accepted at first counted as progress.
        scene.advance(lasts + 2)?;
        assert!(scene.log.has("close Handler"), "{:?}", scene.log.lines());
        assert_eq!(peer.ended(), Some(Ended::Reset));
        assert!(scene.is_empty());
    }
    Ok(())
}

/// While the peer reads, however slowly, it receives everything.
#[test]
fn a_slow_peer_of_a_failed_session_receives_everything() -> Result {
    let scene = Scene::new()?;
    let (_, peer) = scene.connection(scene.log.session_with(|chat, _| {
        chat.push(vec![b'x'; 1 << 20]);
        Err(failure())
    }))?;
    peer.stop_reading();
    peer.send("x\r\n");
    for _ in 0..16 {
        peer.start_reading(64 * 1024);
        scene.advance(1)?;
    }
    assert_eq!(peer.received().len(), 1 << 20);
    assert!(scene.log.has("close Handler"));
    assert_eq!(peer.ended(), Some(Ended::Finished));
    Ok(())
}

/// A producer that is always pending.
struct Never;

impl Producer for Never {
    fn more(&mut self, _: usize) -> std::io::Result<More> {
        Ok(More::Pending)
    }
}

/// Replies to earlier records are sent, including one that a worker is still producing.
#[test]
fn a_promise_fulfilled_after_the_failure_is_sent() -> Result {
    let scene = Scene::new()?;
    let promises = Rc::new(RefCell::new(Vec::new()));
    let made = Rc::clone(&promises);
    let (_, peer) = scene.connection(scene.log.session_with(move |chat, record| {
        if record == b"bad" {
            return Err(failure());
        }
        made.borrow_mut().push(chat.promise());
        Ok(())
    }))?;
    peer.send("job\r\nbad\r\n");
    scene.advance(1)?;
    promises
        .take()
        .into_iter()
        .for_each(|promise| promise.fulfill("done\r\n"));
    scene.settle()?;
    assert_eq!(peer.received(), b"done\r\n");
    assert_eq!(peer.ended(), Some(Ended::Finished));
    assert_eq!(scene.log.lines().last().unwrap(), "close Handler");
    Ok(())
}

#[test]
fn a_pending_producer_does_not_keep_a_failed_session_open() -> Result {
    let scene = Scene::new()?;
    let (_, peer) = scene.connection(scene.log.session_with(|chat, _| {
        chat.push("before ");
        chat.push_with_producer(Never);
        Err(failure())
    }))?;
    peer.send("x\r\n");
    scene.advance(5)?;
    assert!(scene.log.has("close Handler"));
    assert_eq!(peer.received(), b"before ");
    assert_eq!(peer.ended(), Some(Ended::Reset));
    Ok(())
}

#[test]
fn output_before_a_failed_producer_is_followed_by_a_reset() -> Result {
    for (lines, sent) in [
        (&["ok", "bad\nname", "never"][..], "hello\r\nok\r\n"),
        (&["bad\rname"], "hello\r\n"),
    ] {
        let scene = Scene::new()?;
        let (chat, peer) = scene.connection(scene.log.session())?;
        chat.push("hello\r\n");
        chat.push_with_producer(LinesProducer::new(lines.iter().copied()));
        chat.push("never");
        let called = Rc::new(Cell::new(false));
        let call = Rc::clone(&called);
        chat.push_hook(move || call.set(true));
        // The reset waits until the peer has received what was sent before it.
        scene.advance(1)?;
        assert_eq!(peer.received(), sent.as_bytes());
        assert_eq!(peer.ended(), Some(Ended::Reset));
        assert_eq!(scene.log.lines(), ["connect", "close Handler"]);
        assert!(!called.get());
    }
    Ok(())
}

/// A producer that panics.
struct Panics;

impl Producer for Panics {
    fn more(&mut self, _: usize) -> std::io::Result<More> {
        panic!("it was to panic")
    }
}

#[test]
fn output_before_a_panicking_producer_is_followed_by_a_reset() -> Result {
    let scene = Scene::new()?;
    let (chat, peer) = scene.connection(scene.log.session())?;
    chat.push("hello");
    chat.push_with_producer(Panics);
    chat.push("never");
    let turns = scene.event_loop.stats().turns;
    scene.advance(1)?;
    assert_eq!(peer.received(), b"hello");
    assert_eq!(peer.ended(), Some(Ended::Reset));
    assert_eq!(scene.log.lines(), ["connect", "close Panic"]);
    let turns = scene.event_loop.stats().turns - turns;
    assert!(turns < 30, "{turns} turns");
    Ok(())
}

#[test]
fn the_first_failure_is_the_reason() -> Result {
    let scene = Scene::new()?;
    let (chat, peer) = scene.connection(scene.log.session_with(|chat, _| {
        chat.push_with_producer(LinesProducer::new(["bad\nname"]));
        panic!("it fails first")
    }))?;
    peer.send("x\r\n");
    scene.advance(1)?;
    assert_eq!(scene.log.lines(), ["connect", "record x", "close Panic"]);
    assert_eq!(peer.ended(), Some(Ended::Reset));
    assert!(!chat.is_open());
    Ok(())
}

/// The peer has finished sending, as `nc -N` does, and reads slowly.
#[test]
fn output_before_a_cut_reaches_a_half_closed_peer() -> Result {
    let scene = Scene::new()?;
    let session = scene.log.session_with(|chat, _| {
        chat.push(vec![b'x'; 1 << 20]);
        chat.push_with_producer(LinesProducer::new(["bad\nname"]));
        Ok(())
    });
    let (_, peer) = scene.connection(session)?;
    peer.stop_reading();
    peer.send("x\r\n");
    scene.settle()?;
    peer.finish();
    for _ in 0..40 {
        peer.start_reading(32 * 1024);
        scene.advance(1)?;
    }
    assert_eq!(peer.received().len(), 1 << 20);
    assert_eq!(peer.ended(), Some(Ended::Reset));
    assert!(scene.event_loop.is_empty());
    Ok(())
}

/// An idle gap ends the record in a timer. The reply to it is sent like any other.
#[test]
fn a_long_reply_to_a_record_ended_by_an_idle_gap_arrives() -> Result {
    let scene = Scene::new()?;
    let (chat, peer) = scene.connection(scene.log.session_with(|chat, _| {
        for _ in 0..20 {
            chat.push(vec![b'x'; 1 << 20]);
        }
        Ok(())
    }))?;
    chat.set_terminator(Terminator::idle_gap(Duration::from_millis(100)));
    peer.send("x");
    scene.advance(2)?;
    assert_eq!(peer.received().len(), 20 << 20);
    assert!(chat.is_open());
    Ok(())
}

/// Replies above the output limit, in bytes and in producers and hooks, to a peer that reads.
#[test]
fn a_reply_above_the_output_limit_reaches_a_peer_that_reads() -> Result {
    let scene = Scene::new()?;
    let (chat, peer) = scene.connection(scene.log.session_with(|chat, _| {
        for _ in 0..20 {
            chat.push(vec![b'x'; 1 << 20]);
        }
        for _ in 0..3_000 {
            chat.push_with_producer("y");
            chat.push_hook(|| ());
        }
        Ok(())
    }))?;
    peer.send("x\r\nx\r\n");
    scene.settle()?;
    assert_eq!(peer.received().len(), 2 * ((20 << 20) + 3_000));
    assert!(chat.is_open());
    Ok(())
}

/// A worker posts its answer to the loop.
#[test]
fn a_posted_long_reply_arrives_and_a_flood_of_them_is_cut_off() -> Result {
    let scene = Scene::new()?;
    let (chat, peer) = scene.connection(scene.log.session())?;
    let reply = |session: &mut Session| {
        for _ in 0..20 {
            session.chat.push(vec![b'x'; 1 << 20]);
        }
        Ok(())
    };
    chat.post(reply)?;
    scene.settle()?;
    assert_eq!(peer.take_received().len(), 20 << 20);
    peer.stop_reading();
    for _ in 0..100 {
        let _ = chat.post(reply);
        scene.settle()?;
    }
    let lines = ["connect", "low water", "close OutputLimit"];
    assert_eq!(scene.log.lines(), lines);
    assert!(!peer.has_ended() || peer.ended() == Some(Ended::Reset));
    Ok(())
}

#[test]
fn exceeding_the_output_limit_resets_the_connection() -> Result {
    let scene = Scene::new()?;
    let (chat, peer) = scene.connection(scene.log.session())?;
    chat.set_limits(Limits::default().output(100_000));
    peer.stop_reading();
    for _ in 0..5_000 {
        chat.push("a line of a broadcast that nobody reads, of some length\r\n");
        scene.event_loop.run_once(Duration::ZERO)?;
    }
    scene.settle()?;
    assert_eq!(scene.log.lines().last().unwrap(), "close OutputLimit");
    assert_eq!(peer.ended(), Some(Ended::Reset));
    Ok(())
}

#[test]
fn a_slow_member_of_a_group_is_reset() -> Result {
    let scene = Scene::new()?;
    let (chat, peer) = scene.connection(scene.log.session())?;
    let group = Group::default();
    group.add(&chat);
    group.set_slow_readers(100_000, SlowReader::Abort);
    peer.stop_reading();
    for _ in 0..300 {
        group.push(vec![b'x'; 1000]);
        scene.event_loop.run_once(Duration::ZERO)?;
    }
    scene.settle()?;
    assert_eq!(scene.log.lines(), ["connect", "close OutputLimit"]);
    assert_eq!(peer.ended(), Some(Ended::Reset));
    Ok(())
}

/// A deadline that passes while output is queued also cuts the output off.
#[test]
fn a_deadline_that_passes_while_output_is_queued_resets_the_connection() -> Result {
    for (queued, ended) in [(0, Ended::Finished), (1 << 20, Ended::Reset)] {
        let scene = Scene::new()?;
        let (chat, peer) = scene.connection(scene.log.session())?;
        chat.set_deadlines(Deadlines::default().idle(Duration::from_secs(9)));
        peer.stop_reading();
        chat.push(vec![b'x'; queued]);
        scene.advance(10)?;
        peer.start_reading(usize::MAX);
        scene.settle()?;
        assert!(
            scene
                .log
                .lines()
                .last()
                .unwrap()
                .starts_with("close Timeout")
        );
        assert_eq!(peer.ended(), Some(ended));
    }
    Ok(())
}

#[test]
fn pushes_to_a_failed_session_are_dropped() -> Result {
    let scene = Scene::new()?;
    let (chat, peer) = scene.connection(scene.log.session_with(|chat, _| {
        chat.push("last words");
        Err(failure())
    }))?;
    peer.stop_reading();
    peer.send("x\r\n");
    scene.event_loop.run_once(Duration::ZERO)?;
    chat.push("too late");
    chat.push_hook(|| unreachable!("it was pushed too late"));
    peer.start_reading(usize::MAX);
    scene.settle()?;
    assert_eq!(peer.received(), b"last words");
    assert!(matches!(peer.ended(), Some(Ended::Finished)));
    Ok(())
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("a destructor");
    }
}

#[test]
fn a_posted_call_for_a_failed_session_is_dropped_and_its_panic_ends_nothing() -> Result {
    let scene = Scene::new()?;
    let fails = scene.log.session_with(|chat, _| {
        chat.push_with_producer(Never);
        Err(failure())
    });
    let (chat, peer) = scene.connection(fails)?;
    peer.send("a\r\n");
    scene.settle()?;
    let captured = PanicsWhenDropped;
    let call = move |_: &mut Session| {
        let _ = &captured;
        Ok(())
    };
    scene.event_loop.remote().post_to(chat.id(), call)?;
    let called = Rc::new(Cell::new(false));
    let calls = Rc::clone(&called);
    scene.event_loop.call_soon(move || calls.set(true));
    scene.settle()?;
    assert!(called.get());
    Ok(())
}

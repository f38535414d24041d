//! Half-closed connections: a peer that has finished sending may still receive.

mod common;

use std::time::Duration;

use asynchat::{Channel, Close, Dispatcher, Result, Terminator};
use common::{Log, Peer, Session, new_loop, run_to_end, run_until, served, tcp_pair};

/// asyncore delivered 65,536 of 3,000,000 bytes here (gh-80094).
#[test]
fn a_half_closed_peer_receives_a_reply_of_three_megabytes() {
    let reply: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let (event_loop, log) = (new_loop(), Log::default());
    let sent = reply.clone();
    let (_, mut peer) = served(
        &event_loop,
        log.session_with(move |chat, _| {
            chat.push(sent.clone());
            Ok(())
        }),
    );
    peer.send("everything\r\n");
    peer.finish();
    assert!(peer.receive_all(&event_loop) == reply);
    run_to_end(&event_loop);
    assert_eq!(log.lines().last().unwrap(), "close Eof");
}

#[test]
fn all_records_precede_handle_eof_which_gets_the_partial_record() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (_, mut peer) = served(&event_loop, log.session());
    // More records than one turn delivers.
    peer.send("a\r\n".repeat(3000) + "unfinished");
    peer.finish();
    run_to_end(&event_loop);
    assert_eq!(log.count("record a"), 3000);
    assert_eq!(log.lines()[3001..], ["eof unfinished", "close Eof"]);
}

#[test]
fn a_partial_terminator_is_part_of_the_partial_record() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (_, mut peer) = served(&event_loop, log.session());
    peer.send("unfinished\r");
    peer.finish();
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "eof unfinished\r", "close Eof"]);
}

fn staying_open(log: &Log) -> impl Fn(asynchat::Chat) -> Session + use<> {
    let session = log.session();
    move |chat| session(chat).staying_open()
}

#[test]
fn a_session_may_stay_open_and_continue_to_send() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, staying_open(&log));
    peer.finish();
    run_until(&event_loop, || log.has("eof"));
    for n in 0..3 {
        common::idle(&event_loop);
        write!(chat, "{n}\r\n");
        peer.expect(&event_loop, format!("{n}\r\n"));
    }
    chat.close_when_done();
    assert_eq!(peer.receive_all(&event_loop), b"");
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "eof ", "close Local"]);
}

/// A count of zero would otherwise fire at once, and a count above the limit would overflow.
#[test]
fn a_terminator_set_after_the_end_of_input_does_not_fire() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, peer) = served(&event_loop, staying_open(&log));
    peer.finish();
    run_until(&event_loop, || log.has("eof"));
    for terminator in [Terminator::count(0), Terminator::count(u64::MAX)] {
        chat.set_terminator(terminator);
        common::idle(&event_loop);
    }
    assert_eq!(log.lines(), ["connect", "eof "]);
}

#[test]
fn a_session_that_stays_open_ends_when_its_peer_is_gone() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, peer) = served(&event_loop, staying_open(&log));
    peer.finish();
    run_until(&event_loop, || log.has("eof"));
    peer.reset();
    run_until(&event_loop, || {
        chat.push("is anybody there?");
        !chat.is_open()
    });
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "eof ", "close Reset"]);
}

#[test]
fn the_end_of_input_is_reported_for_a_streamed_terminator() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    chat.set_terminator(Terminator::none());
    peer.send("all of it");
    run_until(&event_loop, || log.has("chunk all of it"));
    peer.finish();
    run_to_end(&event_loop);
    assert_eq!(
        log.lines(),
        ["connect", "chunk all of it", "eof ", "close Eof"]
    );
}

#[test]
fn shutdown_write_takes_effect_after_queued_output_and_input_continues() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    chat.push_with_producer("all that ");
    chat.push("we have");
    chat.shutdown_write();
    assert_eq!(peer.receive_all(&event_loop), b"all that we have");
    assert!(chat.is_open());
    peer.send("thanks\r\n");
    run_until(&event_loop, || log.has("record thanks"));
    drop(peer);
    run_to_end(&event_loop);
    assert_eq!(
        log.lines(),
        ["connect", "record thanks", "eof ", "close Eof"]
    );
}

/// Reads to the end. It stays open after it if the flag is set.
struct Reader {
    channel: Channel,
    log: Log,
}

impl Dispatcher for Reader {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn handle_read(&mut self) -> Result {
        let count = self.channel.recv(&mut [0; 100])?;
        self.log.add(format!("read {count}"));
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(format!("close {}", common::name(why)));
    }
}

#[test]
fn a_dispatcher_ends_with_its_input_unless_it_allows_half_open() {
    for half_open in [false, true] {
        let (event_loop, log) = (new_loop(), Log::default());
        let (near, far) = tcp_pair();
        let channel = Channel::adopt(near).unwrap();
        channel.allow_half_open(half_open);
        let handle = channel.clone();
        let reader = Reader {
            channel,
            log: log.clone(),
        };
        event_loop.register(reader).unwrap();
        let mut peer = Peer::new(far);
        peer.finish();
        run_until(&event_loop, || log.has("read 0"));
        common::idle(&event_loop);
        assert_eq!(handle.is_open(), half_open);
        if half_open {
            handle.send(b"still here").unwrap();
            peer.expect(&event_loop, "still here");
            handle.allow_half_open(false);
        }
        run_to_end(&event_loop);
        assert_eq!(log.lines(), ["read 0", "close Eof"]);
    }
}

#[test]
fn a_dispatcher_may_shut_its_sending_side_and_keep_reading() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (near, far) = tcp_pair();
    let channel = Channel::adopt(near).unwrap();
    let handle = channel.clone();
    let reader = Reader {
        channel,
        log: log.clone(),
    };
    event_loop.register(reader).unwrap();
    event_loop.run_once(Duration::ZERO).unwrap();
    handle.shutdown_write().unwrap();
    let mut peer = Peer::new(far);
    assert_eq!(peer.receive_all(&event_loop), b"");
    peer.send("12345");
    run_until(&event_loop, || log.has("read 5"));
    assert!(handle.is_open());
}

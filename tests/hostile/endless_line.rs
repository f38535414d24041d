//! A line without an end (CVE-2013-1752, CVE-2022-21716): the session stores no more of it than the
//! record limit, and a peer that is still sending receives the reason for the close.

use std::cell::RefCell;
use std::rc::Rc;

use asynchat::{AsyncChat, Chat, Close, Limits, Overflow, RecordLimit, Result};

use crate::allocator::in_use;
use crate::common::{Peer, addr_of, name, new_loop, run_until};
use crate::process;

const BARRAGE: usize = 8 << 20;

/// What the connection may allocate: a record, the input of one read, and its own state.
const MOST_BYTES: usize = 96 * 1024;

/// The callbacks of a session, and how many bytes it had received by then.
type Calls = Rc<RefCell<Vec<(String, u64)>>>;

struct Session {
    chat: Chat,
    calls: Calls,
    overflow: Overflow,
}

impl Session {
    fn record(&self, what: String) {
        let received = self.chat.stats().bytes_in;
        self.calls.borrow_mut().push((what, received));
    }
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        self.chat.push_slice(line);
        self.chat.push("\r\n");
        Ok(())
    }

    fn handle_overflow(&mut self, _limit: &RecordLimit) -> Result<Overflow> {
        self.record("overflow".to_owned());
        self.chat.push("500 line too long\r\n");
        Ok(self.overflow)
    }

    fn handle_close(&mut self, why: &Close) {
        self.record(name(why));
    }
}

/// Sends 8 MiB of a line. Returns the callbacks and the peer.
fn send_a_line_without_an_end(overflow: Overflow) -> (asynchat::EventLoop, Calls, Peer) {
    let (event_loop, calls) = (new_loop(), Calls::default());
    let session = {
        let calls = Rc::clone(&calls);
        move |chat| Session {
            chat,
            calls: Rc::clone(&calls),
            overflow,
        }
    };
    let listener = event_loop.listen("127.0.0.1:0", session).unwrap();
    let mut peer = Peer::connect(addr_of(&listener));
    run_until(&event_loop, || event_loop.len() == 2);
    listener.close();
    let line = vec![b'x'; BARRAGE];
    let (before, mut most) = (in_use(), 0);
    let mut left = &line[..];
    while !left.is_empty() {
        let (piece, rest) = left.split_at(16 * 1024);
        peer.send_all(&event_loop, piece);
        left = rest;
        most = most.max(in_use().saturating_sub(before));
    }
    assert!(most <= MOST_BYTES, "{most} bytes in use");
    (event_loop, calls, peer)
}

/// Checks that this callback came before the session had received much more than the limit.
#[track_caller]
fn assert_called_in_time(calls: &Calls, what: &str) {
    let most = (Limits::default().record + Limits::default().turn_read) as u64;
    let calls = calls.borrow();
    let of_it = calls.iter().filter(|(calls, _)| calls == what);
    let received: Vec<u64> = of_it.map(|(_, received)| *received).collect();
    assert!(
        matches!(received[..], [received] if received <= most),
        "{calls:?}"
    );
}

#[test]
fn a_peer_that_keeps_sending_receives_the_reason_for_the_close() {
    const TEST: &str = "endless_line::a_peer_that_keeps_sending_receives_the_reason_for_the_close";
    process::run(TEST, &[("all", cut_off)]);
}

fn cut_off() {
    let (event_loop, calls, mut peer) = send_a_line_without_an_end(Overflow::CloseWhenDone);
    assert_eq!(peer.receive_all(&event_loop), b"500 line too long\r\n");
    assert_called_in_time(&calls, "overflow");
    assert_called_in_time(&calls, "InputLimit");
    drop(peer);
    run_until(&event_loop, || event_loop.is_empty());
    assert_eq!(event_loop.stats().closes.input_limit, 1);
}

#[test]
fn discarded_input_is_not_stored() {
    const TEST: &str = "endless_line::discarded_input_is_not_stored";
    process::run(TEST, &[("all", skipped)]);
}

fn skipped() {
    let (event_loop, calls, mut peer) = send_a_line_without_an_end(Overflow::Discard);
    peer.send_all(&event_loop, b"its end\r\nand the next\r\n");
    peer.expect(&event_loop, "500 line too long\r\nand the next\r\n");
    assert_called_in_time(&calls, "overflow");
}

//! A line without an end (CVE-2013-1752, CVE-2022-21716): no more of it is kept than a record may
//! have, and a peer that is still sending it hears why it is sent away.

use std::cell::RefCell;
use std::rc::Rc;

use asynchat::{AsyncChat, Chat, Close, Limits, Overflow, Result};

use crate::allocator::in_use;
use crate::common::{Peer, addr_of, name, new_loop, run_until};
use crate::stage;

const BARRAGE: usize = 8 << 20;

/// What the connection may hold: a record, one read's worth of input, and what it is made of.
const HELD: usize = 96 * 1024;

/// What happened to a session, and how much it had received by then.
type Told = Rc<RefCell<Vec<(String, u64)>>>;

struct Session {
    chat: Chat,
    told: Told,
    overflow: Overflow,
}

impl Session {
    fn tell(&self, what: String) {
        let received = self.chat.stats().bytes_in;
        self.told.borrow_mut().push((what, received));
    }
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        self.chat.push_slice(line);
        self.chat.push("\r\n");
        Ok(())
    }

    fn handle_overflow(&mut self) -> Overflow {
        self.tell("overflow".to_owned());
        self.chat.push("500 line too long\r\n");
        self.overflow
    }

    fn handle_close(&mut self, why: &Close) {
        self.tell(name(why));
    }
}

/// Sends 8 MiB of a line; what was told, and the peer.
fn send_a_line_without_an_end(overflow: Overflow) -> (asynchat::EventLoop, Told, Peer) {
    let (event_loop, told) = (new_loop(), Told::default());
    let session = {
        let told = Rc::clone(&told);
        move |chat| Session {
            chat,
            told: Rc::clone(&told),
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
    assert!(most <= HELD, "{most} bytes held");
    (event_loop, told, peer)
}

/// Whether the session was told so, and before it had received much more than the limit.
#[track_caller]
fn was_told_in_time(told: &Told, what: &str) {
    let most = (Limits::default().record + Limits::default().turn_read) as u64;
    let told = told.borrow();
    let of_it = told.iter().filter(|(told, _)| told == what);
    let received: Vec<u64> = of_it.map(|(_, received)| *received).collect();
    assert!(
        matches!(received[..], [received] if received <= most),
        "{told:?}"
    );
}

#[test]
fn a_peer_that_goes_on_sending_hears_why_it_was_cut_off() {
    const TEST: &str = "endless_line::a_peer_that_goes_on_sending_hears_why_it_was_cut_off";
    stage::play(TEST, &[("all", cut_off)]);
}

fn cut_off() {
    let (event_loop, told, mut peer) = send_a_line_without_an_end(Overflow::Close);
    assert_eq!(peer.receive_all(&event_loop), b"500 line too long\r\n");
    was_told_in_time(&told, "overflow");
    was_told_in_time(&told, "InputLimit");
    drop(peer);
    run_until(&event_loop, || event_loop.is_empty());
    assert_eq!(event_loop.stats().closes.input_limit, 1);
}

#[test]
fn what_is_skipped_is_not_kept() {
    const TEST: &str = "endless_line::what_is_skipped_is_not_kept";
    stage::play(TEST, &[("all", skipped)]);
}

fn skipped() {
    let (event_loop, told, mut peer) = send_a_line_without_an_end(Overflow::Discard);
    peer.send_all(&event_loop, b"its end\r\nand the next\r\n");
    peer.expect(&event_loop, "500 line too long\r\nand the next\r\n");
    was_told_in_time(&told, "overflow");
}

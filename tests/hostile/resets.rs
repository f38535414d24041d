//! A hundred thousand clients that connect and reset the connection, before or after it is
//! accepted: nothing leaks.

use asynchat::{Chat, EventLoop};

use crate::common::{Log, Peer, addr_of, new_loop, run_until};
use crate::process;

const CLIENTS: u64 = 100_000;
const BATCH: u64 = 500;

#[test]
fn a_hundred_thousand_resets_leave_nothing_behind() {
    const TEST: &str = "resets::a_hundred_thousand_resets_leave_nothing_behind";
    process::run(TEST, &[("all", resets)]);
}

fn resets() {
    let event_loop = new_loop();
    let silent = |_: Chat| |_: &[u8]| Ok(());
    let listener = event_loop.listen("127.0.0.1:0", silent).unwrap();
    let addr = addr_of(&listener);
    // The first time may open descriptors that stay open.
    reset(&event_loop, || Peer::connect(addr), false);
    let before = open_descriptors();
    for batch in 1..CLIENTS / BATCH {
        reset(&event_loop, || Peer::connect(addr), batch % 2 == 1);
    }
    let stats = event_loop.stats();
    assert_eq!(stats.accepted + stats.accepts_failed, CLIENTS);
    assert_eq!(stats.refused, 0);
    assert_eq!(stats.closes.reset, stats.accepted);
    assert_eq!(open_descriptors(), before);

    let log = Log::default();
    let session = log.session();
    let another = event_loop.listen("127.0.0.1:0", session).unwrap();
    for listener in [&another, &listener] {
        Peer::connect(addr_of(listener)).send("served\r\n");
    }
    run_until(&event_loop, || log.has("record served"));
    run_until(&event_loop, || event_loop.stats().closes.eof == 2);
}

/// Connects and resets a batch of clients, and runs the loop until their connections have ended.
fn reset(event_loop: &EventLoop, connect: impl Fn() -> Peer, accepted_first: bool) {
    let stats = || event_loop.stats();
    let over = stats().accepted + stats().accepts_failed + BATCH;
    let peers: Vec<Peer> = (0..BATCH).map(|_| connect()).collect();
    if accepted_first {
        run_until(event_loop, || {
            stats().accepted + stats().accepts_failed == over
        });
    }
    peers.into_iter().for_each(Peer::reset);
    run_until(event_loop, || {
        stats().accepted + stats().accepts_failed == over && event_loop.len() == 1
    });
}

/// How many descriptors this process has open, where the system reports it.
fn open_descriptors() -> Option<usize> {
    let listed = std::fs::read_dir("/proc/self/fd").ok()?;
    Some(listed.count())
}

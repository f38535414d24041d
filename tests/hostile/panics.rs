//! Ten thousand panics, one in each of ten thousand connections, in every kind of callback: the
//! loop and another connection go on, and nothing leaks.

use std::time::Duration;

use asynchat::{AsyncChat, Chat, More, Producer, Result, TimerId};

use crate::allocator::in_use;
use crate::common::{Peer, addr_of, new_loop, run_until};
use crate::process;

const BATCH: usize = 100;
const BATCHES: usize = 100;

const CALLBACKS: [&str; 5] = ["record", "timer", "hook", "producer", "close"];

/// Panic messages that begin with this are not printed.
const ON_PURPOSE: &str = "on purpose";

struct Fragile(Chat);

impl AsyncChat for Fragile {
    fn found_terminator(&mut self, callback: &[u8]) -> Result {
        match callback {
            b"record" => panic!("{ON_PURPOSE}: in found_terminator"),
            b"timer" => drop(self.0.call_later(Duration::ZERO)),
            b"hook" => self.0.push_hook(|| panic!("{ON_PURPOSE}: in a hook")),
            b"producer" => self.0.push_with_producer(PanickingProducer),
            b"close" => self.0.close(),
            _ => self.0.push_slice(callback),
        }
        Ok(())
    }

    fn handle_timer(&mut self, _: TimerId) -> Result {
        panic!("{ON_PURPOSE}: in handle_timer");
    }

    fn handle_close(&mut self, _: &asynchat::Close) {
        panic!("{ON_PURPOSE}: in handle_close");
    }
}

struct PanickingProducer;

impl Producer for PanickingProducer {
    fn more(&mut self, _: usize) -> std::io::Result<More> {
        panic!("{ON_PURPOSE}: in a producer");
    }
}

#[test]
fn ten_thousand_panics_close_ten_thousand_connections_and_no_other() {
    const TEST: &str = "panics::ten_thousand_panics_close_ten_thousand_connections_and_no_other";
    process::run(TEST, &[("all", panics)]);
}

fn panics() {
    // The panic hook of the whole process, which runs no other test.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.to_string().contains(ON_PURPOSE) {
            usual(panic);
        }
    }));
    let event_loop = new_loop();
    let listener = event_loop.listen("127.0.0.1:0", Fragile).unwrap();
    let mut bystander = Peer::connect(addr_of(&listener));
    let mut before = 0;
    for batch in 0..BATCHES {
        let peers = [(); BATCH].map(|()| Peer::connect(addr_of(&listener)));
        for (n, mut peer) in peers.into_iter().enumerate() {
            peer.send(format!("{}\r\n", CALLBACKS[n % CALLBACKS.len()]));
        }
        run_until(&event_loop, || {
            event_loop.stats().closed == (batch as u64 + 1) * BATCH as u64
        });
        bystander.send("still here\r\n");
        bystander.expect(&event_loop, "still here");
        if batch == 0 {
            before = in_use();
        }
    }
    let closes = event_loop.stats().closes;
    // The one that panics in `handle_close` has been closed for another reason.
    assert_eq!(closes.local, (BATCH * BATCHES / CALLBACKS.len()) as u64);
    assert_eq!(closes.panic, 4 * closes.local);
    let leaked = in_use().saturating_sub(before);
    assert!(leaked < 64 * 1024, "{leaked} bytes are leaked");
}

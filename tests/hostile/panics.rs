//! Ten thousand panics, one in each of as many connections, in every kind of callback: the loop and
//! a bystander live, and nothing is left behind.

use std::time::Duration;

use asynchat::{AsyncChat, Chat, More, Producer, Result, TimerId};

use crate::allocator::in_use;
use crate::common::{Peer, addr_of, new_loop, run_until};
use crate::stage;

const BATCH: usize = 100;
const BATCHES: usize = 100;

const PLACES: [&str; 5] = ["record", "timer", "hook", "producer", "close"];

/// So begins what is not to be printed.
const ON_PURPOSE: &str = "on purpose";

struct Fragile(Chat);

impl AsyncChat for Fragile {
    fn found_terminator(&mut self, place: &[u8]) -> Result {
        match place {
            b"record" => panic!("{ON_PURPOSE}: in found_terminator"),
            b"timer" => drop(self.0.call_later(Duration::ZERO)),
            b"hook" => self.0.push_hook(|| panic!("{ON_PURPOSE}: in a hook")),
            b"producer" => self.0.push_with_producer(Bomb),
            b"close" => self.0.close(),
            _ => self.0.push_slice(place),
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

struct Bomb;

impl Producer for Bomb {
    fn more(&mut self, _: usize) -> std::io::Result<More> {
        panic!("{ON_PURPOSE}: in a producer");
    }
}

#[test]
fn ten_thousand_panics_are_ten_thousand_closed_connections() {
    const TEST: &str = "panics::ten_thousand_panics_are_ten_thousand_closed_connections";
    stage::play(TEST, &[("all", panics)]);
}

fn panics() {
    // Of the whole process, which has no other test.
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
            peer.send(format!("{}\r\n", PLACES[n % PLACES.len()]));
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
    // The one that panics as it is told of its close had been closed for another reason.
    assert_eq!(closes.local, (BATCH * BATCHES / PLACES.len()) as u64);
    assert_eq!(closes.panic, 4 * closes.local);
    let kept = in_use().saturating_sub(before);
    assert!(kept < 64 * 1024, "{kept} bytes are kept");
}

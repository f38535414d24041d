//! Busy polling: a loop that asks for events for a while before it sleeps.

mod common;

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use asynchat::Result;
use common::{DEADLINE, Log, new_loop, served};

#[test]
fn a_loop_that_polls_takes_turns_without_events() -> Result {
    let event_loop = new_loop();
    event_loop.set_busy_poll(Duration::MAX);
    let (_chat, mut peer) = served(&event_loop, Log::default().session());
    // The event after which it does not sleep any more.
    peer.send("a line\r\n");
    let deadline = Instant::now() + DEADLINE;
    let polled = Rc::new(Cell::new(false));
    let (outcome, asked) = (Rc::clone(&polled), event_loop.clone());
    let mut turns = None;
    event_loop.call_every(Duration::from_millis(10), move || {
        let now = asked.stats().turns;
        // A loop that sleeps takes one turn for each call of a timer, and one or two for the line.
        let before = turns.replace(now).unwrap_or(now);
        outcome.set(now - before > 10);
        if outcome.get() || Instant::now() >= deadline {
            asked.stop();
        }
    });
    event_loop.run()?;
    assert!(polled.get(), "it slept");
    Ok(())
}

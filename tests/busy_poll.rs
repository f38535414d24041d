//! Busy polling: a loop that asks for events for a while before it sleeps.

mod common;

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use asynchat::{EventLoop, Result};
use common::{DEADLINE, Log, new_loop, run_until, served};

#[test]
fn a_loop_that_polls_takes_turns_without_events() -> Result {
    let event_loop = new_loop();
    event_loop.set_busy_poll(Duration::MAX);
    let (_chat, mut peer) = served(&event_loop, Log::default().session());
    // The event after which it does not sleep any more.
    peer.send("a line\r\n");
    let polled = turns_of_a_period(&event_loop, |turns| turns > 10);
    event_loop.run()?;
    assert!(polled.get(), "it slept");
    Ok(())
}

#[test]
fn it_sleeps_when_the_time_has_passed() -> Result {
    let event_loop = new_loop();
    event_loop.set_busy_poll(Duration::from_millis(1));
    let (_chat, mut peer) = served(&event_loop, Log::default().session());
    peer.send("a line\r\n");
    let sleeps = turns_of_a_period(&event_loop, |turns| turns <= 2);
    event_loop.run()?;
    assert!(sleeps.get(), "it polled for ever");
    Ok(())
}

#[test]
fn a_single_turn_waits_as_it_is_told() -> Result {
    let event_loop = new_loop();
    event_loop.set_busy_poll(Duration::MAX);
    let log = Log::default();
    let (_chat, mut peer) = served(&event_loop, log.session());
    peer.send("a line\r\n");
    run_until(&event_loop, || log.has("record"));
    let fired = Rc::new(Cell::new(false));
    let timer = Rc::clone(&fired);
    event_loop.call_later(Duration::from_millis(10), move || timer.set(true));
    event_loop.run_once(None)?;
    assert!(fired.get(), "it returned before anything had happened");
    Ok(())
}

#[cfg(feature = "sim")]
#[test]
fn a_loop_on_a_simulated_network_does_not_poll() -> Result {
    let network = asynchat::sim::Network::new(1);
    let event_loop = network.event_loop()?;
    event_loop.set_busy_poll(Duration::MAX);
    let (socket, peer) = network.pair();
    let _chat =
        asynchat::Connector::adopt(socket).connect_on(&event_loop, |_| |_: &[u8]| Ok(()))?;
    peer.send("a line\r\n");
    let stopping = event_loop.clone();
    // Virtual time reaches this only if the loop sleeps.
    event_loop.call_later(Duration::from_secs(1), move || stopping.stop());
    common::run_to_end(&event_loop);
    Ok(())
}

/// Stops the loop when the number of turns that it takes in a period is as wanted, or after the deadline. The cell tells
/// which. A loop that sleeps takes one turn in a period, and one or two for the line.
fn turns_of_a_period(event_loop: &EventLoop, wanted: fn(u64) -> bool) -> Rc<Cell<bool>> {
    let deadline = Instant::now() + DEADLINE;
    let outcome = Rc::new(Cell::new(false));
    let (is_wanted, asked) = (Rc::clone(&outcome), event_loop.clone());
    let mut last = None;
    event_loop.call_every(Duration::from_millis(10), move || {
        let turns = asked.stats().turns;
        let before = last.replace(turns);
        is_wanted.set(before.is_some_and(|before| wanted(turns - before)));
        if is_wanted.get() || Instant::now() >= deadline {
            asked.stop();
        }
    });
    outcome
}

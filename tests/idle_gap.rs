//! Records that silence ends: which silence counts, and when it is over.
//!
//! The network is simulated and its time is virtual, so the tests do not wait.

mod common;
#[path = "common/scene.rs"]
mod scene;

use std::time::Duration;

use asynchat::sim::Peer;
use asynchat::{Chat, Limits, Result, Terminator};
use common::Log;
use scene::Scene;

const GAP: Duration = Duration::from_millis(100);
const HOUR: Duration = Duration::from_secs(3600);

/// A connection whose records end after `GAP`.
fn connected() -> Result<(Scene, Chat, Peer)> {
    let scene = Scene::new()?;
    let (chat, peer) = scene.connection(scene.log.session())?;
    chat.set_terminator(Terminator::idle_gap(GAP));
    scene.settle()?;
    Ok((scene, chat, peer))
}

/// The lengths of the records that were delivered.
fn lengths(log: &Log) -> Vec<usize> {
    let records = log.lines();
    let records = records.iter().filter_map(|it| it.strip_prefix("record "));
    records.map(str::len).collect()
}

/// Makes a call when the silence after what is sent now is over, and before the loop acts on that.
fn at_the_end_of_the_gap(scene: &Scene, call: impl FnOnce() + 'static) {
    scene.event_loop.call_later(GAP, call);
}

#[test]
fn input_that_waits_for_room_in_the_queue_belongs_to_the_record_before_the_gap() -> Result {
    let (scene, chat, peer) = connected()?;
    chat.set_limits(Limits::default().record(100_000));
    peer.stop_reading();
    while chat.queued() < 30_000 {
        chat.push(vec![b'x'; 30_000]);
        scene.settle()?;
    }
    peer.send("ab");
    scene.settle()?;
    // So much input leaves less room to the queue than it takes: the input waits.
    peer.send(vec![b'c'; 60_000]);
    scene.settle()?;
    scene.advance(1)?;
    assert_eq!(chat.stats().bytes_in, 60_002);
    assert_eq!(lengths(&scene.log), []);
    peer.start_reading(usize::MAX);
    scene.advance(1)?;
    assert_eq!(lengths(&scene.log), [60_002]);
    Ok(())
}

#[test]
fn silence_is_counted_again_when_a_session_goes_on_reading() -> Result {
    let (scene, chat, peer) = connected()?;
    let resumes = chat.clone();
    at_the_end_of_the_gap(&scene, move || resumes.resume_reading());
    peer.send("abc");
    scene.event_loop.run_once(Duration::ZERO)?;
    assert_eq!(chat.stats().bytes_in, 3);
    chat.pause_reading();
    scene.settle()?;
    peer.send("def");
    scene.advance(1)?;
    assert_eq!(lengths(&scene.log), [6]);
    Ok(())
}

#[test]
fn a_shorter_gap_ends_the_record_that_has_begun_under_a_longer_one() -> Result {
    let (scene, chat, peer) = connected()?;
    chat.set_terminator(Terminator::idle_gap(HOUR));
    peer.send("abc");
    scene.settle()?;
    chat.set_terminator(Terminator::idle_gap(GAP));
    scene.network.advance(&scene.event_loop, GAP - GAP / 10)?;
    assert_eq!(lengths(&scene.log), []);
    scene.network.advance(&scene.event_loop, GAP / 10)?;
    assert_eq!(lengths(&scene.log), [3]);
    Ok(())
}

#[test]
fn a_gap_does_not_wait_for_that_of_an_earlier_record() -> Result {
    let (scene, chat, peer) = connected()?;
    chat.set_terminator(Terminator::idle_gap(HOUR));
    peer.send("a line\r\n");
    scene.settle()?;
    chat.set_terminator(Terminator::crlf());
    scene.settle()?;
    assert_eq!(lengths(&scene.log), [6]);
    chat.set_terminator(Terminator::idle_gap(GAP));
    scene.advance(1)?;
    peer.send("abc");
    scene.network.advance(&scene.event_loop, GAP - GAP / 10)?;
    assert_eq!(lengths(&scene.log), [6]);
    scene.network.advance(&scene.event_loop, GAP / 10)?;
    assert_eq!(lengths(&scene.log), [6, 3]);
    Ok(())
}

#[test]
fn a_longer_gap_takes_the_place_of_a_shorter_one() -> Result {
    let (scene, chat, peer) = connected()?;
    peer.send("abc");
    scene.settle()?;
    chat.set_terminator(Terminator::idle_gap(HOUR));
    scene.network.advance(&scene.event_loop, HOUR - GAP)?;
    assert_eq!(lengths(&scene.log), []);
    scene.network.advance(&scene.event_loop, GAP)?;
    assert_eq!(lengths(&scene.log), [3]);
    Ok(())
}

#[test]
fn silence_ends_no_record_that_was_discarded_in_the_same_turn() -> Result {
    let (scene, chat, peer) = connected()?;
    let discards = chat.clone();
    at_the_end_of_the_gap(&scene, move || discards.discard_buffers());
    peer.send("abc");
    scene.event_loop.run_once(Duration::ZERO)?;
    scene.advance(1)?;
    assert_eq!(lengths(&scene.log), []);
    peer.send("later");
    scene.advance(1)?;
    assert_eq!(lengths(&scene.log), [5]);
    Ok(())
}

#[test]
fn silence_ends_no_record_whose_terminator_was_replaced_in_the_same_turn() -> Result {
    let (scene, chat, peer) = connected()?;
    let replaces = chat.clone();
    at_the_end_of_the_gap(&scene, move || replaces.set_terminator(Terminator::crlf()));
    peer.send("abc");
    scene.event_loop.run_once(Duration::ZERO)?;
    scene.advance(1)?;
    assert_eq!(lengths(&scene.log), []);
    peer.send("def\r\n");
    scene.settle()?;
    assert_eq!(lengths(&scene.log), [6]);
    Ok(())
}

#[test]
fn silence_ends_no_record_of_a_session_that_was_piped_in_the_same_turn() -> Result {
    let (scene, near, near_peer) = connected()?;
    let (far, far_peer) = scene.connection(scene.log.session())?;
    let pipes = near.clone();
    at_the_end_of_the_gap(&scene, move || asynchat::pipe(&pipes, &far).unwrap());
    near_peer.send("abc");
    scene.event_loop.run_once(Duration::ZERO)?;
    scene.advance(1)?;
    assert_eq!(lengths(&scene.log), []);
    assert_eq!(far_peer.received(), b"abc");
    Ok(())
}

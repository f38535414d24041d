//! Long records: a push of the record that is being delivered need not copy it.
#![cfg(feature = "sim")]

mod common;
#[path = "common/scene.rs"]
mod scene;

use asynchat::{Chat, Group, Limits, Result};
use scene::Scene;

/// Longer than what the loop reads at once.
const LONG: usize = 300_000;

/// Sends a line of this length in parts.
fn send_line(scene: &Scene, peer: &asynchat::sim::Peer, length: usize) -> Result<Vec<u8>> {
    let line: Vec<u8> = (0..length).map(|n| b'a' + (n % 23) as u8).collect();
    for part in [&line[..], b"\r\n"].concat().chunks(40_000) {
        peer.send(part);
        scene.settle()?;
    }
    Ok(line)
}

/// A connection whose session gets each line, without a limit of its length.
fn connection(
    scene: &Scene,
    mut handle: impl FnMut(&Chat, &[u8]) -> Result + 'static,
) -> Result<(Chat, asynchat::sim::Peer)> {
    scene.connection(move |chat| {
        chat.set_limits(Limits::default().record(1 << 20));
        move |line: &[u8]| handle(&chat, line)
    })
}

#[test]
fn a_record_is_pushed_to_its_own_chat_and_to_others() -> Result {
    let scene = Scene::new()?;
    let (other, other_peer) = scene.connection(|_| |_: &[u8]| Ok(()))?;
    let room = Group::default();
    let mut peers = Vec::new();
    for _ in 0..3 {
        let (member, peer) = scene.connection(|_| |_: &[u8]| Ok(()))?;
        room.add(&member);
        peers.push(peer);
    }
    let (_, peer) = connection(&scene, move |chat, line| {
        chat.push("before ");
        chat.push_slice(line);
        chat.push_slices(&[b" between ", line, b" after"]);
        other.push_slice(line);
        for member in room.iter() {
            member.push_slice(line);
            member.push("\r\n");
        }
        Ok(())
    })?;
    for length in [65_535, 65_536, LONG, 10, LONG] {
        let line = send_line(&scene, &peer, length)?;
        let reply = [b"before ", &line[..], b" between ", &line, b" after"].concat();
        assert!(peer.take_received() == reply, "{length}");
        assert!(other_peer.take_received() == line, "{length}");
        for peer in &peers {
            assert!(
                peer.take_received() == [&line[..], b"\r\n"].concat(),
                "{length}"
            );
        }
    }
    Ok(())
}

#[test]
fn parts_of_a_record_are_pushed_as_they_are() -> Result {
    let scene = Scene::new()?;
    let (_, peer) = connection(&scene, move |chat, line| {
        // Most of the record, a small part, and an empty part at its end.
        chat.push_slices(&[&line[1..], &line[..7], &line[line.len()..]]);
        // These bytes are equal and elsewhere.
        chat.push_slice(&line.to_vec());
        chat.push_slice(&line[..line.len() - 1]);
        Ok(())
    })?;
    let line = send_line(&scene, &peer, LONG)?;
    let reply = [&line[1..], &line[..7], &line, &line[..LONG - 1]].concat();
    assert!(peer.received() == reply);
    Ok(())
}

/// A peer that does not read leaves the reference in the queue, while more records follow.
#[test]
fn a_record_stays_what_it_was_while_the_next_ones_arrive() -> Result {
    let scene = Scene::new()?;
    let (other, other_peer) = scene.connection(|chat| {
        chat.set_limits(Limits::default().output(Limits::UNLIMITED));
        |_: &[u8]| Ok(())
    })?;
    other_peer.stop_reading();
    let (_, peer) = connection(&scene, move |_, line| {
        other.push_slice(line);
        Ok(())
    })?;
    let mut sent = Vec::new();
    for length in [LONG, 100_000, 70_000, LONG + 1] {
        sent.extend(send_line(&scene, &peer, length)?);
    }
    other_peer.start_reading(usize::MAX);
    scene.settle()?;
    assert!(other_peer.received() == sent);
    Ok(())
}

#[test]
fn what_was_pushed_before_a_failure_is_sent() -> Result {
    for panics in [false, true] {
        let scene = Scene::new()?;
        let (_, peer) = connection(&scene, move |chat, line| {
            chat.push_slice(line);
            assert!(!panics, "this panic is a part of the test");
            Err("failed".into())
        })?;
        let line = send_line(&scene, &peer, LONG)?;
        scene.advance(10)?;
        assert!(peer.received() == line);
        assert!(scene.is_empty());
    }
    Ok(())
}

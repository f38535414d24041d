//! Long records: a push of the record that is being delivered refers to it.
#![cfg(feature = "sim")]

mod common;
#[path = "common/scene.rs"]
mod scene;

use asynchat::{AsyncChat, Chat, Group, Limits, Result, Terminator};
use common::Log;
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
    for length in [32_767, 32_768, 65_536, 131_072, LONG, 10, LONG] {
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
        // Nearly all of the record, a small part, and an empty part at its end.
        chat.push_slices(&[&line[1..], &line[..7], &line[line.len()..]]);
        // These bytes are equal and elsewhere.
        let elsewhere = line.to_vec();
        chat.push_slice(&elsewhere);
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

/// What a session does with a long record, before it pushes it again.
#[derive(Clone, Copy, Debug)]
enum Act {
    Nothing,
    Terminator,
    Limits,
    Discard,
    Replace,
    Post,
    Close,
    Fail,
}

/// Input follows the long record. What is called and what is sent depends on the bytes only, not on their segmentation.
#[test]
fn what_follows_a_long_record_does_not_depend_on_the_segmentation() -> Result {
    use Act::{Close, Discard, Fail, Limits, Nothing, Post, Replace, Terminator};
    let long: Vec<u8> = (0..LONG).map(|n| b'a' + (n % 23) as u8).collect();
    let input = [&long[..], b"\r\nshort\r\nx\r\n", &long, b"\r\nlast\r\n"].concat();
    // Between the CR and the LF, and after the LF.
    let cuts = [LONG + 1, LONG + 2];
    for act in [
        Nothing, Terminator, Limits, Discard, Replace, Post, Close, Fail,
    ] {
        let outcome = |parts: Vec<&[u8]>| -> Result<(Vec<String>, Vec<u8>)> {
            let scene = Scene::new()?;
            let log = scene.log.clone();
            let (chat, peer) = scene.connection(move |chat| Actor { chat, act, log })?;
            chat.set_limits(asynchat::Limits::default().record(1 << 20));
            for part in parts {
                peer.send(part);
                scene.settle()?;
            }
            scene.advance(10)?;
            Ok((scene.log.lines(), peer.received()))
        };
        let expected = outcome(input.chunks(40_000).collect())?;
        assert!(expected.1.starts_with(&long), "{act:?}: {:?}", expected.0);
        // What was received and is discarded depends on the segmentation.
        if let Discard = act {
            continue;
        }
        for size in [1_400, 65_536, 65_537, input.len()] {
            let outcome = outcome(input.chunks(size).collect())?;
            assert_eq!(outcome.0, expected.0, "{act:?} {size}");
            assert!(outcome.1 == expected.1, "{act:?} {size}");
        }
        for cut in cuts {
            let outcome = outcome(vec![&input[..cut], &input[cut..]])?;
            assert_eq!(outcome.0, expected.0, "{act:?} {cut}");
            assert!(outcome.1 == expected.1, "{act:?} {cut}");
        }
    }
    Ok(())
}

struct Actor {
    chat: Chat,
    act: Act,
    log: Log,
}

impl AsyncChat for Actor {
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        self.log.add(format!("record of {}", record.len()));
        if record.len() < LONG {
            self.chat.push_slice(record);
            return Ok(());
        }
        let (chat, log) = (&self.chat, self.log.clone());
        match self.act {
            Act::Nothing | Act::Close | Act::Fail => {}
            Act::Terminator => chat.set_terminator(Terminator::bytes(b"x\r\n")),
            Act::Limits => chat.set_limits(Limits::default().record(2 << 20)),
            Act::Discard => chat.discard_buffers(),
            Act::Replace => {
                let pushed_to = chat.clone();
                chat.replace_session(move |line: &[u8]| {
                    log.add(format!("replaced: {}", line.len()));
                    pushed_to.push_slice(line);
                    Ok(())
                });
            }
            Act::Post => chat.post(move |actor: &mut Actor| {
                actor.log.add("posted");
                Ok(())
            })?,
        }
        self.chat.push_slice(record);
        match self.act {
            Act::Close => self.chat.close_when_done(),
            Act::Fail => return Err("a part of the test".into()),
            _ => {}
        }
        Ok(())
    }
}

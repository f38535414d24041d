//! Groups: who receives a push, who does not, and what it costs.

mod common;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use asynchat::sim::{Conditions, Ended, Network, Peer};
use asynchat::{ChannelId, Chat, Close, EventLoop, Group, Limits, Result, Server, SlowReader};
use bytes::Bytes;
use common::Log;

const ADDR: &str = "10.0.0.1:7007";

/// A group of all connections.
struct Scene {
    network: Network,
    event_loop: EventLoop,
    room: Group,
    log: Log,
}

impl Scene {
    fn new() -> Result<Self> {
        let network = Network::new(1);
        let event_loop = network.event_loop()?;
        let (room, log) = (Group::default(), Log::default());
        let (joined, session) = (room.clone(), log.session());
        event_loop.listen(ADDR, move |chat: Chat| {
            joined.add(&chat);
            session(chat)
        })?;
        Ok(Scene {
            network,
            event_loop,
            room,
            log,
        })
    }

    fn settle(&self) -> Result {
        Ok(self.network.settle(&self.event_loop)?)
    }

    fn members<const COUNT: usize>(&self) -> Result<[Peer; COUNT]> {
        let mut peers = Vec::new();
        for _ in 0..COUNT {
            peers.push(self.network.connect(ADDR)?);
            self.settle()?;
        }
        Ok(peers.try_into().expect("that many"))
    }

    fn ids(&self) -> Vec<ChannelId> {
        self.room.iter().map(|chat| chat.id()).collect()
    }
}

#[test]
fn every_member_receives_a_push_but_the_excepted_one() -> Result {
    let scene = Scene::new()?;
    let peers = scene.members::<3>()?;
    scene.room.push("all, ");
    let ids = scene.ids();
    scene.room.push_except(ids[1], "but one");
    scene.settle()?;
    assert_eq!(
        peers.map(|peer| peer.received()),
        [&b"all, but one"[..], b"all, ", b"all, but one"]
    );
    Ok(())
}

#[test]
fn a_push_returns_how_many_members_it_was_queued_for() -> Result {
    let scene = Scene::new()?;
    assert_eq!(scene.room.push("nobody"), 0);
    let peers = scene.members::<4>()?;
    assert_eq!(scene.room.push("all"), 4);
    let members: Vec<Chat> = scene.room.iter().collect();
    assert_eq!(scene.room.push_except(members[0].id(), "most"), 3);
    // The push is dropped when a close is queued, or the connection is ending.
    members[0].close_when_done();
    members[1].close();
    assert_eq!(scene.room.push("two"), 2);
    scene.settle()?;
    // A slow member that is left out, or closed, is not reached.
    scene.room.set_slow_readers(1000, SlowReader::Skip);
    peers[2].stop_reading();
    assert_eq!(scene.room.push(vec![b'x'; 1 << 20]), 2);
    scene.settle()?;
    assert_eq!(scene.room.push("one"), 1);
    scene.room.set_slow_readers(1000, SlowReader::Abort);
    assert_eq!(scene.room.push("one"), 1);
    Ok(())
}

#[test]
fn a_member_added_twice_receives_a_push_once_and_a_removed_one_never() -> Result {
    let scene = Scene::new()?;
    let peers = scene.members::<2>()?;
    let chats: Vec<_> = scene.room.iter().collect();
    scene.room.add(&chats[0]);
    assert_eq!(scene.room.len(), 2);
    assert!(scene.room.remove(chats[1].id()));
    assert!(!scene.room.remove(chats[1].id()));
    assert!(scene.room.contains(chats[0].id()) && !scene.room.contains(chats[1].id()));
    scene.room.push("once");
    scene.settle()?;
    assert_eq!(peers.map(|peer| peer.received()), [&b"once"[..], b""]);
    assert!(chats[1].is_open());
    Ok(())
}

#[test]
fn a_closed_connection_leaves_the_group() -> Result {
    let scene = Scene::new()?;
    let [ann, bob] = scene.members::<2>()?;
    let chats: Vec<_> = scene.room.iter().collect();
    ann.reset();
    scene.settle()?;
    assert!(!scene.room.contains(chats[0].id()));
    assert_eq!(scene.ids(), [chats[1].id()]);
    assert_eq!(scene.room.len(), 1);
    scene.room.add(&chats[0]);
    assert_eq!(
        scene.room.len(),
        1,
        "a connection that has ended is not added"
    );
    scene.room.push("Bob?");
    chats[1].close();
    assert!(scene.room.is_empty(), "a closed member is removed at once");
    scene.settle()?;
    assert!(bob.has_ended());
    Ok(())
}

#[test]
fn large_data_is_shared_and_not_copied() -> Result {
    let scene = Scene::new()?;
    let peers = scene.members::<3>()?;
    for peer in &peers {
        peer.stop_reading();
    }
    let large = Bytes::from(vec![b'x'; 1 << 20]);
    scene.room.push(large.clone());
    assert!(!large.is_unique(), "the queues refer to it");
    scene.settle()?;
    for peer in &peers {
        peer.start_reading(usize::MAX);
    }
    scene.settle()?;
    assert!(large.is_unique(), "the queues have released it");
    assert!(peers.iter().all(|peer| peer.received() == large));
    Ok(())
}

/// Pushes until the slow reader has more queued than the kernel accepts, and then some more.
fn push_past_the_bound(scene: &Scene, other: &Peer) -> Result {
    for n in 0..100 {
        scene.room.push(vec![b'x'; 5_000]);
        scene.settle()?;
        assert_eq!(other.take_received().len(), 5_000, "{n}");
    }
    Ok(())
}

#[test]
fn a_slow_reader_is_skipped_until_its_queue_is_sent() -> Result {
    const BOUND: usize = 20_000;
    let scene = Scene::new()?;
    scene.room.set_slow_readers(BOUND, SlowReader::Skip);
    let [slow, other] = scene.members::<2>()?;
    slow.stop_reading();
    push_past_the_bound(&scene, &other)?;
    let queued = scene.room.iter().next().map(|chat| chat.queued());
    assert!(queued.is_some_and(|queued| (BOUND..=BOUND + 5_000).contains(&queued)));
    slow.start_reading(usize::MAX);
    scene.settle()?;
    let came = slow.take_received().len();
    assert!(came < 200_000, "{came}");
    assert_eq!(came % 5_000, 0, "each push arrives whole or not at all");
    scene.room.push("again");
    scene.settle()?;
    assert_eq!(slow.received(), b"again");
    Ok(())
}

#[test]
fn a_slow_reader_is_closed_and_the_others_are_not_affected() -> Result {
    let scene = Scene::new()?;
    scene.room.set_slow_readers(20_000, SlowReader::Abort);
    let [slow, other] = scene.members::<2>()?;
    slow.stop_reading();
    push_past_the_bound(&scene, &other)?;
    assert_eq!(scene.room.len(), 1);
    assert_eq!(scene.event_loop.stats().closes.output_limit, 1);
    assert_eq!(
        scene.log.lines().last().map(String::as_str),
        Some("close OutputLimit")
    );
    // It has a part of the output, so it must be able to tell that the rest is missing.
    slow.start_reading(usize::MAX);
    scene.settle()?;
    assert_eq!(slow.ended(), Some(Ended::Reset));
    assert!(slow.received().len() < 100 * 5_000);
    Ok(())
}

#[test]
fn without_a_policy_the_output_limit_applies() -> Result {
    let scene = Scene::new()?;
    scene
        .event_loop
        .set_limits(Limits::default().output(300_000));
    let [slow, other] = scene.members::<2>()?;
    for chat in scene.room.iter() {
        chat.set_limits(Limits::default().output(300_000));
    }
    slow.stop_reading();
    push_past_the_bound(&scene, &other)?;
    assert_eq!(scene.event_loop.stats().closes.output_limit, 1);
    Ok(())
}

/// Each sender may cause a turn's input for every member, and a turn sends as much to a member only once. The queue of a
/// member that reads everything must not grow to its limit because of that.
#[test]
fn several_senders_that_flood_do_not_end_a_member_that_reads() -> Result {
    for (senders, line) in [(2, 200), (4, 200), (8, 20)] {
        let network = Network::new(1);
        // The peer reads between the turns only.
        network.set_conditions(Conditions::default().buffer(1 << 20));
        let event_loop = network.event_loop()?;
        let room = Group::default();
        let pushed = Rc::new(Cell::new(0));
        let pushed_by_sessions = Rc::clone(&pushed);
        let server = Server::new(ADDR).limits(Limits::default().output(256 << 10));
        server.listen_on(&event_loop, move |chat: Chat| {
            let (room, pushed) = (room.clone(), Rc::clone(&pushed_by_sessions));
            move |line: &[u8]| {
                if line == b"join" {
                    room.add(&chat);
                } else {
                    room.push([line, b"\r\n"].concat());
                    pushed.set(pushed.get() + line.len() + 2);
                }
                Ok(())
            }
        })?;
        let member = network.connect(ADDR)?;
        member.send("join\r\n");
        network.settle(&event_loop)?;
        let senders = (0..senders).map(|_| network.connect(ADDR));
        let senders = senders.collect::<Result<Vec<_>, _>>()?;
        let input = format!("{}\r\n", "x".repeat(line - 2)).repeat(65_536 / line);
        let mut received = 0;
        for _ in 0..200 {
            senders.iter().for_each(|it| it.send(input.clone()));
            event_loop.run_once(Duration::ZERO)?;
            received += member.take_received().len();
        }
        network.settle(&event_loop)?;
        received += member.take_received().len();
        assert!(!member.has_ended(), "{} senders", senders.len());
        assert_eq!(received, pushed.get());
        assert!(received > 10 << 20, "{received} bytes are no flood");

        member.stop_reading();
        for _ in 0..200 {
            senders.iter().for_each(|it| it.send(input.clone()));
            event_loop.run_once(Duration::ZERO)?;
        }
        assert_eq!(event_loop.stats().closes.output_limit, 1);
    }
    Ok(())
}

#[test]
fn a_member_without_a_turn_since_the_push_is_not_slow() -> Result {
    let scene = Scene::new()?;
    scene.room.set_slow_readers(1_000, SlowReader::Abort);
    let [reader] = scene.members::<1>()?;
    for _ in 0..50 {
        scene.room.push(vec![b'x'; 1_000]);
    }
    scene.settle()?;
    assert_eq!(reader.received().len(), 50_000);
    assert!(!reader.has_ended());
    Ok(())
}

/// Rule 1: the group is pushed to from callbacks of its members, `handle_close` included.
#[test]
fn members_may_push_in_their_callbacks_and_in_handle_close() -> Result {
    struct Member(Chat, Group);
    impl asynchat::AsyncChat for Member {
        fn found_terminator(&mut self, line: &[u8]) -> Result {
            self.1.push([line, b"\r\n"].concat());
            for chat in self.1.iter() {
                self.1.remove(chat.id());
                self.1.add(&chat);
            }
            Ok(())
        }
        fn handle_close(&mut self, _: &Close) {
            let id = self.0.id();
            assert!(!self.1.contains(id));
            self.1.push(format!("{id} has left\r\n"));
        }
    }
    let network = Network::new(1);
    let event_loop = network.event_loop()?;
    let room = Group::default();
    event_loop.listen(ADDR, move |chat| {
        room.add(&chat);
        Member(chat, room.clone())
    })?;
    let (ann, bob) = (network.connect(ADDR)?, network.connect(ADDR)?);
    network.settle(&event_loop)?;
    ann.send("hello\r\n");
    ann.finish();
    network.settle(&event_loop)?;
    let text = String::from_utf8(bob.received())?;
    assert!(
        text.starts_with("hello\r\n#") && text.ends_with(" has left\r\n"),
        "{text}"
    );
    assert_eq!(ann.received(), b"hello\r\n");
    Ok(())
}

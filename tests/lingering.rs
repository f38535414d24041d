//! How long the socket of a closed connection lingers, in virtual time: for as long as its peer
//! reads output that the kernel holds, and then for the peer's close, also when the peer has much to send before it.

mod common;

use std::io::{self, Read};
use std::time::Duration;

use asynchat::sim::{Conditions, Ended, Network, Peer};
use asynchat::{Chat, Deadlines, EventLoop, ReadProducer, Result, Server};

const ADDR: &str = "10.0.0.1:119";
const LINGER: Duration = Duration::from_secs(2);
const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

/// More than the peers below read within the linger time.
const REPLY: usize = 60_000;

/// A file that cannot be read.
struct Failing;

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the disk has failed"))
    }
}

/// A server that answers any line with `reply` bytes and closes.
struct Scene {
    network: Network,
    event_loop: EventLoop,
    reply: usize,
}

impl Scene {
    fn new(deadlines: Deadlines, reply: usize) -> Result<Self> {
        Scene::with(deadlines, reply, |chat| {
            chat.close_when_done();
            Ok(())
        })
    }

    /// The client has said that it sends nothing more.
    fn that_skips_linger() -> Result<Self> {
        Scene::with(Deadlines::default(), REPLY, |chat| {
            chat.close_when_done();
            chat.skip_linger();
            Ok(())
        })
    }

    /// The server calls `close` after it has pushed its reply.
    fn with(
        deadlines: Deadlines,
        reply: usize,
        close: impl Fn(&Chat) -> Result + Copy + 'static,
    ) -> Result<Self> {
        let network = Network::new(1);
        network.set_conditions(Conditions::default().buffer(1 << 20));
        let event_loop = network.event_loop()?;
        let session = move |chat: Chat| {
            move |_: &[u8]| {
                chat.push(vec![b'x'; reply]);
                close(&chat)
            }
        };
        Server::new(ADDR)
            .deadlines(deadlines)
            .listen_on(&event_loop, session)?;
        Ok(Scene {
            network,
            event_loop,
            reply,
        })
    }

    fn advance(&self, time: Duration) -> Result {
        Ok(self.network.advance(&self.event_loop, time)?)
    }

    /// A client that has sent its line and has read nothing. The server has closed.
    fn client(&self) -> Result<Peer> {
        let client = self.network.connect(ADDR)?;
        client.stop_reading();
        client.send("QUIT\r\n");
        self.network.settle(&self.event_loop)?;
        Ok(client)
    }

    /// The client reads `count` bytes in each `period` and keeps sending, until its connection has
    /// ended or it has the whole reply.
    fn read_on(&self, client: &Peer, count: usize, period: Duration) -> Result {
        while !client.has_ended() && client.received().len() < self.reply {
            client.send("DATE\r\n");
            client.start_reading(count);
            self.advance(period)?;
        }
        Ok(())
    }

    fn lingering(&self) -> usize {
        self.event_loop.len() - 1
    }
}

#[track_caller]
fn assert_complete(client: &Peer) {
    assert_eq!(client.received().len(), REPLY);
    assert_eq!(client.ended(), Some(Ended::Finished));
}

#[test]
fn a_peer_that_keeps_reading_receives_everything_however_long_it_takes() -> Result {
    let scene = Scene::new(Deadlines::default(), REPLY)?;
    let client = scene.client()?;
    scene.read_on(&client, 500, LINGER / 4)?;
    assert!(scene.network.elapsed() > LINGER * 20);
    assert_complete(&client);
    // After that the peer has the linger time for its close, and does not close.
    scene.advance(LINGER * 2)?;
    assert_eq!(scene.lingering(), 0);
    Ok(())
}

#[test]
fn the_socket_lingers_while_its_peer_reads_within_each_linger_time() -> Result {
    let scene = Scene::new(Deadlines::default(), REPLY)?;
    let client = scene.client()?;
    scene.read_on(&client, 5000, LINGER - Duration::from_millis(1))?;
    assert_complete(&client);
    Ok(())
}

#[test]
fn a_peer_that_reads_nothing_is_abandoned_after_the_linger_time() -> Result {
    let scene = Scene::new(Deadlines::default(), REPLY)?;
    let client = scene.client()?;
    scene.advance(LINGER - Duration::from_millis(1))?;
    assert_eq!(scene.lingering(), 1);
    scene.advance(Duration::from_millis(1))?;
    assert_eq!(scene.lingering(), 0);
    // Without a drain deadline the kernel goes on.
    client.start_reading(usize::MAX);
    scene.advance(LINGER)?;
    assert_complete(&client);
    Ok(())
}

#[test]
fn a_peer_that_stops_reading_is_abandoned_after_the_linger_time() -> Result {
    let scene = Scene::new(Deadlines::default(), REPLY)?;
    let client = scene.client()?;
    client.start_reading(REPLY / 2);
    scene.advance(LINGER * 3)?;
    assert_eq!(scene.lingering(), 0);
    Ok(())
}

#[test]
fn after_delivery_the_socket_waits_for_the_peers_close() -> Result {
    let scene = Scene::new(Deadlines::default(), REPLY)?;
    let client = scene.client()?;
    client.start_reading(usize::MAX);
    scene.advance(LINGER)?;
    assert_complete(&client);
    scene.advance(LINGER)?;
    assert_eq!(scene.lingering(), 0);
    Ok(())
}

// ---- a peer that sends everything before it reads

/// A client that is still sending, to which the kernel has delivered the reply. Its program has not read it, and a reset
/// would destroy it.
fn delivered(deadlines: Deadlines) -> Result<(Scene, Peer)> {
    let scene = Scene::new(deadlines, REPLY)?;
    let client = scene.network.connect(ADDR)?;
    client.send("PUT\r\n");
    scene.network.settle(&scene.event_loop)?;
    assert_eq!(client.received().len(), REPLY);
    // The loop notices that when it checks for the first time.
    scene.advance(scene.event_loop.next_timeout().unwrap_or_default())?;
    assert_eq!(scene.lingering(), 1);
    Ok((scene, client))
}

/// When the socket was closed whose peer sends `data` in each period, for at most so long.
fn send_on(
    (scene, client): &(Scene, Peer),
    data: &[u8],
    period: Duration,
    most: Duration,
) -> Result<Option<Duration>> {
    let start = scene.network.elapsed();
    loop {
        let before = scene.network.elapsed() - start;
        if before >= most {
            return Ok(None);
        }
        client.send(data);
        scene.network.settle(&scene.event_loop)?;
        // The loop wakes up for its timer.
        while scene.network.elapsed() < start + before + period {
            let left = start + before + period - scene.network.elapsed();
            let next = scene.event_loop.next_timeout().unwrap_or(left);
            scene.advance(next.min(left))?;
            if scene.lingering() == 0 {
                return Ok(Some(scene.network.elapsed() - start));
            }
        }
    }
}

#[test]
fn a_peer_that_sends_for_long_before_it_reads_receives_the_reply() -> Result {
    let scene = delivered(Deadlines::default())?;
    // 40 MB, which a peer with many buffers does not have under way.
    let chunk = vec![b'x'; 1_000_000];
    let closed = send_on(&scene, &chunk, SECOND / 2, 20 * SECOND)?;
    let (scene, client) = scene;
    assert_eq!(closed, None);
    client.finish();
    scene.network.settle(&scene.event_loop)?;
    assert_eq!(client.unsent(), 0);
    assert_complete(&client);
    assert_eq!(scene.lingering(), 0);
    Ok(())
}

#[test]
fn a_peer_that_does_not_end_is_closed_after_fifteen_linger_times() -> Result {
    for linger in [SECOND, LINGER, 3 * LINGER] {
        let scene = delivered(Deadlines::default().linger(linger))?;
        let closed = send_on(&scene, b"x", linger / 2, HOUR)?;
        assert_eq!(closed, Some(15 * linger));
    }
    Ok(())
}

#[test]
fn a_peer_that_becomes_silent_is_closed_one_linger_time_after_its_last_byte() -> Result {
    let scene = delivered(Deadlines::default())?;
    assert_eq!(send_on(&scene, b"x", SECOND, 5 * SECOND)?, None);
    let (scene, _client) = scene;
    // The last byte was sent a second ago.
    scene.advance(LINGER - SECOND - Duration::from_millis(1))?;
    assert_eq!(scene.lingering(), 1);
    scene.advance(Duration::from_millis(1))?;
    assert_eq!(scene.lingering(), 0);
    Ok(())
}

#[test]
fn a_silent_peer_is_closed_after_one_linger_time_without_another_wake_up() -> Result {
    let (scene, client) = delivered(Deadlines::default())?;
    assert_eq!(scene.event_loop.next_timeout(), Some(LINGER));
    let before = scene.event_loop.stats().turns;
    scene.advance(LINGER - Duration::from_millis(1))?;
    assert_eq!(scene.lingering(), 1);
    scene.advance(Duration::from_millis(1))?;
    assert_eq!(scene.lingering(), 0);
    let turns = scene.event_loop.stats().turns - before;
    assert!(turns <= 4, "{turns}");
    assert_complete(&client);
    Ok(())
}

/// However much arrives: the loop sets no timer for an event.
#[test]
fn a_peer_that_sends_costs_a_timer_in_each_linger_time() -> Result {
    let (scene, client) = delivered(Deadlines::default())?;
    let due = || scene.event_loop.next_timeout().unwrap_or_default();
    for n in 0..10 {
        assert_eq!(due(), LINGER - n * SECOND / 10);
        client.send("x");
        scene.advance(SECOND / 10)?;
    }
    scene.advance(due())?;
    // The last byte was sent 1.1 s before.
    assert_eq!(due(), LINGER - 11 * SECOND / 10);
    Ok(())
}

#[test]
fn a_lifetime_bounds_how_long_a_peer_may_send() -> Result {
    let scene = delivered(Deadlines::default().lifetime(5 * SECOND))?;
    assert!(send_on(&scene, b"x", SECOND, HOUR)?.is_some());
    assert_eq!(scene.0.network.elapsed(), 5 * SECOND);
    Ok(())
}

#[test]
fn a_shutdown_waits_for_a_peer_that_sends_at_most_for_its_grace() -> Result {
    for (grace, lasts) in [(5 * SECOND, 5 * SECOND), (HOUR, 15 * LINGER)] {
        let (scene, client) = delivered(Deadlines::default())?;
        scene.event_loop.shutdown(grace);
        let start = scene.network.elapsed();
        while !scene.event_loop.is_empty() {
            client.send("x");
            scene.advance(SECOND)?;
        }
        assert_eq!(scene.network.elapsed() - start, lasts);
    }
    Ok(())
}

/// A host that runs the loop in slices may go on with a turn much later, without having polled again.
#[test]
fn a_peer_is_not_silent_whose_bytes_wait_for_the_loop() -> Result {
    let (scene, client) = delivered(Deadlines::default())?;
    for _ in 0..3 {
        scene.event_loop.remote().post(|| {})?;
    }
    // The turn reads a part of it, and is cut at a post.
    client.send(vec![b'x'; 500_000]);
    while scene.event_loop.stats().bytes_in < 10_000 {
        scene.event_loop.run_for(Duration::ZERO)?;
    }
    scene.event_loop.run_for(Duration::ZERO)?;
    scene.network.spend(5 * LINGER);
    scene.event_loop.run_once(Duration::ZERO)?;
    assert_eq!(scene.lingering(), 1);
    client.finish();
    scene.network.settle(&scene.event_loop)?;
    assert_complete(&client);
    Ok(())
}

// ---- a peer that sends nothing more

/// The peer receives what the kernel has accepted.
#[test]
fn the_socket_of_a_peer_that_sends_nothing_more_is_closed_at_once() -> Result {
    let scene = Scene::that_skips_linger()?;
    let client = scene.client()?;
    assert_eq!(scene.lingering(), 0);
    client.start_reading(usize::MAX);
    scene.advance(LINGER)?;
    assert_complete(&client);
    Ok(())
}

/// A peer that sends after QUIT.
#[test]
fn a_peer_that_sends_all_the_same_gets_a_reset() -> Result {
    let scene = Scene::that_skips_linger()?;
    let client = scene.client()?;
    client.send("DATE\r\n");
    assert_eq!(client.ended(), Some(Ended::Reset));
    Ok(())
}

/// The reset that follows a cut would destroy what was sent before, whatever the peer sends.
#[test]
fn a_stream_that_is_cut_lingers_although_the_peer_sends_nothing_more() -> Result {
    let scene = Scene::with(Deadlines::default(), REPLY, |chat| {
        chat.skip_linger();
        chat.push_with_producer(ReadProducer::new(Failing));
        Ok(())
    })?;
    let client = scene.client()?;
    assert_eq!(scene.lingering(), 1);
    client.start_reading(usize::MAX);
    scene.advance(LINGER)?;
    assert_eq!(client.received().len(), REPLY);
    assert_eq!(client.ended(), Some(Ended::Reset));
    Ok(())
}

/// Both sides have finished sending then, which a poller reports like a reset.
#[test]
fn a_peer_that_has_finished_sending_receives_everything_although_much_of_its_input_is_unread()
-> Result {
    let scene = Scene::new(Deadlines::default(), REPLY)?;
    let client = scene.network.connect(ADDR)?;
    client.stop_reading();
    client.send("QUIT\r\n".to_owned() + &"x".repeat(500_000));
    client.finish();
    assert_eq!(client.unsent(), 0);
    scene.network.settle(&scene.event_loop)?;
    client.start_reading(usize::MAX);
    scene.network.settle(&scene.event_loop)?;
    assert_complete(&client);
    assert_eq!(scene.lingering(), 0);
    Ok(())
}

#[test]
fn a_drain_deadline_bounds_how_long_a_peer_may_read_nothing() -> Result {
    let scene = Scene::new(Deadlines::default().drain(LINGER * 30), REPLY)?;
    let client = scene.client()?;
    scene.advance(LINGER * 29)?;
    scene.read_on(&client, REPLY, LINGER / 2)?;
    assert_complete(&client);
    drop(client);

    let idle = scene.client()?;
    scene.advance(LINGER * 30 - Duration::from_millis(1))?;
    assert_eq!(scene.lingering(), 1);
    scene.advance(Duration::from_millis(1))?;
    assert_eq!(scene.lingering(), 0);
    // The kernel does not keep what was left.
    idle.start_reading(usize::MAX);
    scene.advance(LINGER)?;
    assert_eq!(idle.ended(), Some(Ended::Reset));
    assert_eq!(idle.received().len(), 0);
    Ok(())
}

/// As while the connection was open: 64 KiB within the time suffice, and single bytes do not.
#[test]
fn a_drain_deadline_requires_a_minimum_rate() -> Result {
    let scene = Scene::new(Deadlines::default().drain(LINGER * 30), 200_000)?;
    let dripping = scene.client()?;
    scene.read_on(&dripping, 1, LINGER)?;
    assert_eq!(dripping.ended(), Some(Ended::Reset));
    assert_eq!(dripping.received().len(), 30);

    let slow = scene.client()?;
    scene.read_on(&slow, 65_536, LINGER * 29)?;
    assert_eq!(slow.received().len(), 200_000);
    Ok(())
}

#[test]
fn a_lifetime_ends_the_lingering() -> Result {
    let scene = Scene::new(Deadlines::default().lifetime(LINGER * 5), REPLY)?;
    let client = scene.client()?;
    scene.read_on(&client, 500, LINGER / 4)?;
    assert_eq!(client.ended(), Some(Ended::Reset));
    assert_eq!(client.received().len(), 5 * 4 * 500);
    Ok(())
}

#[test]
fn a_shutdown_waits_for_lingering_sockets_at_most_for_its_grace() -> Result {
    for (grace, delivered) in [(LINGER * 60, true), (LINGER * 5, false)] {
        let scene = Scene::new(Deadlines::default(), REPLY)?;
        let client = scene.client()?;
        scene.event_loop.shutdown(grace);
        scene.read_on(&client, 1000, LINGER / 2)?;
        assert_eq!(client.received().len() == REPLY, delivered);
        scene.advance(LINGER * 2)?;
        assert!(scene.event_loop.is_empty());
    }
    Ok(())
}

#[test]
fn lingering_for_a_reader_takes_a_few_turns_per_second() -> Result {
    for linger in [LINGER, Duration::from_millis(1)] {
        let scene = Scene::new(Deadlines::default().linger(linger), REPLY)?;
        let client = scene.client()?;
        let mut looks = 0;
        while scene.network.elapsed() < Duration::from_secs(60) {
            client.start_reading(100);
            scene.network.settle(&scene.event_loop)?;
            let Some(next) = scene.event_loop.next_timeout() else {
                panic!("it waits for a reader with a timer");
            };
            scene.advance(next)?;
            looks += 1;
        }
        assert_eq!(scene.lingering(), 1);
        assert!(looks <= 4 * 60 + 4, "{looks}");
    }
    Ok(())
}

#[test]
fn an_unrepresentable_deadline_never_passes() -> Result {
    let endless = Deadlines::default()
        .linger(Duration::MAX)
        .drain(Duration::MAX)
        .lifetime(Duration::MAX);
    let scene = Scene::new(endless, REPLY)?;
    let client = scene.client()?;
    scene.advance(HOUR)?;
    assert_eq!(scene.lingering(), 1);
    client.start_reading(usize::MAX);
    scene.advance(HOUR)?;
    assert_complete(&client);
    assert_eq!(scene.lingering(), 1);
    Ok(())
}

/// The limit counts the sockets that linger now, not those that have ended.
#[test]
fn sockets_that_have_ended_do_not_count_against_the_limit() -> Result {
    const MOST: usize = 1024;
    let scene = Scene::new(Deadlines::default().linger(HOUR), 10)?;
    let oldest = scene.client()?;
    for _ in 0..MOST + 10 {
        let client = scene.client()?;
        client.start_reading(usize::MAX);
        client.finish();
        scene.advance(Duration::ZERO)?;
        drop(client);
        assert_eq!(scene.lingering(), 1);
    }
    oldest.start_reading(usize::MAX);
    oldest.send("DATE\r\n");
    scene.advance(Duration::ZERO)?;
    assert_eq!(oldest.received().len(), 10);
    assert_eq!(oldest.ended(), Some(Ended::Finished));
    assert_eq!(scene.lingering(), 1);
    Ok(())
}

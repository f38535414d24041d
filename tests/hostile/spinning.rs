//! Connections on which nothing can be done: the loop sleeps for five seconds.

use std::net::TcpStream;
use std::time::Duration;

#[cfg(unix)]
use asynchat::Server;
use asynchat::{
    Channel, ChannelStats, Chat, Close, Deadlines, Dispatcher, EventLoop, More, Producer,
};
use socket2::SockRef;

#[cfg(unix)]
use crate::common::addr_of;
use crate::common::{
    Log, Peer, idle, name, new_loop, run_until, run_until_blocked, served, tcp_pair,
};
#[cfg(unix)]
use crate::process;

const LONG: Duration = Duration::from_secs(3600);

/// How long the loop must sleep, and how often it may wake up meanwhile.
const PERIOD: Duration = Duration::from_secs(5);
const MOST: u64 = 10;

/// A channel or a chat: what it is, and its counters.
type Watched = (&'static str, Box<dyn Fn() -> ChannelStats>);

fn watch(channel: &Channel) -> Box<dyn Fn() -> ChannelStats> {
    let channel = channel.clone();
    Box::new(move || channel.stats())
}

/// Runs the loop for five seconds. Checks that it, and each channel, wakes up at most `MOST` times.
#[track_caller]
fn assert_idle(event_loop: &EventLoop, watched: &[Watched]) {
    let wakeups = || watched.iter().map(|(_, stats)| stats().wakeups);
    let (before, each_before): (_, Vec<u64>) = (event_loop.stats(), wakeups().collect());
    let stopping = event_loop.clone();
    event_loop.call_later(PERIOD, move || stopping.stop());
    event_loop.run().unwrap();
    for ((what, _), (after, before)) in watched.iter().zip(wakeups().zip(each_before)) {
        assert!(
            after - before <= MOST,
            "{what}: {} wake-ups",
            after - before
        );
    }
    let after = event_loop.stats();
    let (wakeups, turns) = (after.wakeups - before.wakeups, after.turns - before.turns);
    assert!(wakeups <= MOST, "{wakeups} wake-ups in all");
    // A turn without an event was caused by a timer or a request.
    assert!(turns <= 2 * MOST, "{turns} turns");
}

struct Never;

impl Producer for Never {
    fn more(&mut self, _: usize) -> std::io::Result<More> {
        Ok(More::Pending)
    }
}

/// Neither reads nor closes, and ignores urgent data.
struct Deaf(Channel, Log);

impl Dispatcher for Deaf {
    fn channel(&self) -> &Channel {
        &self.0
    }
    fn readable(&self) -> bool {
        false
    }
    fn handle_close(&mut self, why: &Close) {
        self.1.add(name(why));
    }
}

fn send_urgent(peer: &TcpStream) {
    SockRef::from(peer).send_out_of_band(b"!").unwrap();
}

#[test]
fn the_loop_sleeps_while_peers_in_unusual_states_do_nothing() {
    let (event_loop, log) = (new_loop(), Log::default());
    let mut channels: Vec<Watched> = Vec::new();
    let mut peers = Vec::new();
    let mut add = |what, chat: &Chat| {
        let chat = chat.clone();
        channels.push((what, Box::new(move || chat.stats())));
    };

    let (chat, peer) = served(&event_loop, log.session());
    add("silent", &chat);
    peers.push(peer);

    #[cfg(unix)]
    {
        let (near, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
        let chat = asynchat::Connector::adopt(near)
            .connect_on(&event_loop, log.session())
            .unwrap();
        add("paused and hung up with input unread", &chat);
        chat.pause_reading();
        idle(&event_loop);
        std::io::Write::write_all(&mut far, b"in band").unwrap();
    }

    let (chat, peer) = served(&event_loop, log.session());
    add("urgent", &chat);
    send_urgent(&peer.stream);
    peers.push(peer);

    let (chat, mut peer) = served(&event_loop, log.session());
    add("paused and urgent", &chat);
    chat.pause_reading();
    peer.send("in band");
    send_urgent(&peer.stream);
    peers.push(peer);

    let (chat, mut peer) = served(&event_loop, log.session());
    add("reads nothing and urgent", &chat);
    chat.push(vec![b'x'; 8 << 20]);
    run_until_blocked(&event_loop, &chat);
    peer.send("in band");
    send_urgent(&peer.stream);
    peers.push(peer);

    let session = log.session();
    let (chat, peer) = served(&event_loop, move |chat| session(chat).staying_open());
    add("half-closed", &chat);
    peer.finish();
    peers.push(peer);

    let session = log.session();
    let (chat, peer) = served(&event_loop, move |chat| session(chat).staying_open());
    add("half-closed, with a producer that has nothing", &chat);
    chat.push_with_producer(Never);
    peer.finish();
    peers.push(peer);

    let (chat, peer) = served(&event_loop, log.session());
    add("a producer that has nothing", &chat);
    chat.push("something");
    chat.push_with_producer(Never);
    peers.push(peer);

    let (chat, peer) = served(&event_loop, log.session());
    add("timed", &chat);
    let all = Deadlines::default().idle(LONG).lifetime(LONG);
    chat.set_deadlines(all.record(LONG).drain(LONG));
    peers.push(peer);

    let (chat, mut peer) = served(&event_loop, log.session());
    chat.set_deadlines(Deadlines::default().linger(LONG));
    chat.close_when_done();
    run_until(&event_loop, || log.has("close Local"));
    // Its socket lingers. Only the loop's count includes it.
    assert_eq!(event_loop.len(), channels.len() + 1);
    peer.send("in band");
    send_urgent(&peer.stream);
    peers.push(peer);

    let (near, far) = tcp_pair();
    let deaf = Channel::adopt(near).unwrap();
    event_loop
        .register(Deaf(deaf.clone(), log.clone()))
        .unwrap();
    channels.push(("a dispatcher that does not read", watch(&deaf)));
    let mut far = Peer::new(far);
    far.send("in band");
    send_urgent(&far.stream);
    peers.push(far);

    idle(&event_loop);
    assert_idle(&event_loop, &channels);
    // All of them are still open. The loop is not idle because they have ended.
    assert_eq!(event_loop.len(), channels.len() + 1);
    assert_eq!(log.count("close"), 1);
}

#[cfg(unix)]
#[test]
fn the_loop_sleeps_while_a_listener_has_no_descriptors() {
    const TEST: &str = "spinning::the_loop_sleeps_while_a_listener_has_no_descriptors";
    const DESCRIPTORS: usize = 64;
    // The second part has few descriptors, so another process must start it.
    let outer = || process::Process::start(TEST, "listener", "", Some(DESCRIPTORS)).finish();
    process::run(TEST, &[("outer", outer), ("listener", listener)]);
}

#[cfg(unix)]
fn listener() {
    let (event_loop, log) = (new_loop(), Log::default());
    let listener = Server::new("127.0.0.1:0")
        .listen_on(&event_loop, log.session())
        .unwrap();
    let mut hoard: Vec<TcpStream> = Vec::new();
    while let Ok(stream) = TcpStream::connect(addr_of(&listener)) {
        hoard.push(stream);
    }
    idle(&event_loop);
    assert!(event_loop.stats().accepts_failed > 0);
    assert_idle(&event_loop, &[("listener", watch(&listener))]);
    assert!(!log.has("connect"));
}

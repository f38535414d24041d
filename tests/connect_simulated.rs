//! Parallel connection attempts (RFC 8305), in virtual time: when each begins, which one wins, and
//! that there is one outcome.

mod common;

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use asynchat::sim::{Call, Conditions, Network, Peer};
use asynchat::{AsyncChat, Channel, Chat, Close, Connector, Dispatcher, EventLoop, Result};
use common::Log;

const DELAY: Duration = Duration::from_millis(250);

fn v4(host: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], 119))
}

fn v6(host: u16) -> SocketAddr {
    SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, host], 119))
}

/// A network, a loop on it, and the log of its one connection.
struct Scene {
    network: Network,
    event_loop: EventLoop,
    log: Log,
}

impl Scene {
    fn new(black_holes: &[SocketAddr]) -> Result<Self> {
        let network = Network::new(1);
        black_holes
            .iter()
            .for_each(|it| network.add_black_hole(*it));
        Ok(Scene {
            event_loop: network.event_loop()?,
            network,
            log: Log::default(),
        })
    }

    fn connect(&self, connector: Connector) -> Result<Chat> {
        let chat = connector.connect_on(&self.event_loop, self.log.session())?;
        self.network.settle(&self.event_loop)?;
        Ok(chat)
    }

    fn advance(&self, time: Duration) -> Result {
        Ok(self.network.advance(&self.event_loop, time)?)
    }
}

fn peer_of(chat: &Chat) -> Option<SocketAddr> {
    chat.peer_addr().and_then(|addr| addr.inet())
}

#[test]
fn an_address_that_does_not_answer_costs_one_delay() -> Result {
    let scene = Scene::new(&[v6(1)])?;
    let service = scene.network.listen(v4(1))?;
    let chat = scene.connect(Connector::new(vec![v6(1), v4(1)]))?;
    chat.push("hello");
    assert_eq!(scene.network.sockets(), 1);
    scene.advance(DELAY - Duration::from_nanos(1))?;
    assert_eq!(scene.log.lines(), [""; 0]);
    scene.advance(Duration::from_nanos(1))?;
    assert_eq!(scene.log.lines(), ["connect"]);
    assert_eq!(peer_of(&chat), Some(v4(1)));
    // The other attempt is cancelled, and so is its timer.
    assert_eq!(scene.network.sockets(), 1);
    assert_eq!(scene.network.registrations(), 1);
    assert_eq!(scene.event_loop.next_timeout(), None);

    let peer = service.accept().ok_or("the client has connected")?;
    assert_eq!(peer.received(), b"hello");
    peer.send("welcome\r\n");
    peer.finish();
    scene.network.settle(&scene.event_loop)?;
    assert_eq!(
        scene.log.lines(),
        ["connect", "record welcome", "eof ", "close Eof"]
    );
    Ok(())
}

#[test]
fn address_families_alternate_and_a_refused_address_costs_no_delay() -> Result {
    // Refused, not answered, refused, accepted. The fifth is not tried.
    let scene = Scene::new(&[v4(1)])?;
    let _service = scene.network.listen(v4(2))?;
    let chat = scene.connect(Connector::new(vec![v6(1), v6(2), v4(1), v4(2), v4(3)]))?;
    assert_eq!(scene.log.lines(), [""; 0]);
    scene.advance(DELAY)?;
    assert_eq!(scene.log.lines(), ["connect"]);
    assert_eq!(peer_of(&chat), Some(v4(2)));
    // Its timer is cancelled too.
    assert_eq!(scene.event_loop.next_timeout(), None);
    Ok(())
}

#[test]
fn the_first_attempt_to_be_up_wins_even_if_later_ones_have_begun() -> Result {
    let scene = Scene::new(&[v4(1), v4(2)])?;
    // Its backlog is full, so it answers when there is room.
    let (full, _waiting) = listener_with_a_full_queue(&scene, v4(9))?;
    let chat = scene.connect(Connector::new(vec![v4(9), v4(1), v4(2)]))?;
    scene.advance(DELAY * 3)?;
    assert_eq!(scene.log.lines(), [""; 0]);
    assert_eq!(scene.network.sockets(), 3 + 1);
    full.resume_reading();
    scene.network.settle(&scene.event_loop)?;
    assert_eq!(scene.log.lines(), ["connect"]);
    assert_eq!(peer_of(&chat), Some(v4(9)));
    Ok(())
}

#[test]
fn the_event_of_a_losing_attempt_in_the_same_batch_is_dropped() -> Result {
    let scene = Scene::new(&[])?;
    let (first, _waiting) = listener_with_a_full_queue(&scene, v4(9))?;
    let (second, _too) = listener_with_a_full_queue(&scene, v4(8))?;
    let chat = scene.connect(Connector::new(vec![v4(9), v4(8)]))?;
    scene.advance(DELAY)?;
    [first, second].iter().for_each(Channel::resume_reading);
    scene.network.settle(&scene.event_loop)?;
    assert_eq!(scene.log.lines(), ["connect"]);
    assert_eq!(peer_of(&chat), Some(v4(9)));
    // The poller reports both in one batch and with one key. The second event is stale.
    assert_eq!(chat.stats().wakeups, 1);
    Ok(())
}

/// A server that accepts no connection for now, and the client that fills its backlog of one.
fn listener_with_a_full_queue(scene: &Scene, addr: SocketAddr) -> Result<(Channel, Peer)> {
    let listener = asynchat::Server::new(addr)
        .backlog(1)
        .listen_on(&scene.event_loop, |_| |_: &[u8]| Ok(()))?;
    listener.pause_reading();
    scene.network.settle(&scene.event_loop)?;
    let waiting = scene.network.connect(addr)?;
    Ok((listener, waiting))
}

#[test]
fn when_all_attempts_fail_one_failure_is_reported_after_the_last() -> Result {
    let scene = Scene::new(&[])?;
    scene.connect(Connector::new(vec![v6(1), v4(1), v4(2)]))?;
    assert_eq!(scene.log.lines(), ["close ConnectFailed"]);
    assert_eq!(scene.network.elapsed(), Duration::ZERO);
    assert_eq!(scene.network.sockets(), 0);
    assert!(scene.event_loop.is_empty());
    Ok(())
}

#[test]
fn the_connect_deadline_ends_all_attempts_and_its_error_names_them() -> Result {
    let scene = Scene::new(&[v6(1), v4(1), v4(2)])?;
    let errors: Rc<RefCell<Vec<String>>> = Rc::default();
    let errors_clone = Rc::clone(&errors);
    Connector::new(vec![v6(1), v4(1), v4(2)])
        .connect_timeout(Duration::from_millis(400))
        .connect_on(&scene.event_loop, |_| Failing(errors_clone))?;
    scene.event_loop.run()?;
    assert_eq!(scene.network.elapsed(), Duration::from_millis(400));
    let error = errors.take().join("; ");
    assert!(
        error.contains("[2001:db8::1]:119, 10.0.0.1:119: "),
        "{error}"
    );
    assert_eq!(scene.network.sockets(), 0);
    Ok(())
}

/// Stores why the connection failed.
struct Failing(Rc<RefCell<Vec<String>>>);

impl AsyncChat for Failing {
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.0.borrow_mut().push(why.to_string());
    }
}

#[test]
fn all_addresses_of_a_host_are_tried() -> Result {
    let scene = Scene::new(&[v6(1)])?;
    let addrs = [v6(1).ip(), v4(1).ip()];
    scene.network.add_host("news.example.org", addrs);
    scene
        .network
        .add_host("nowhere.example.org", [] as [IpAddr; 0]);
    let _service = scene.network.listen(v4(1))?;
    let chat = scene.connect(Connector::new("news.example.org:119"))?;
    scene.advance(DELAY)?;
    assert_eq!(peer_of(&chat), Some(v4(1)));
    scene.connect(Connector::new("nowhere.example.org:119"))?;
    assert_eq!(scene.log.lines(), ["connect", "close ConnectFailed"]);
    Ok(())
}

#[test]
fn the_attempt_delay_can_be_set_and_an_infinite_one_tries_one_address_at_a_time() -> Result {
    let scene = Scene::new(&[v4(1)])?;
    let _service = scene.network.listen(v4(2))?;
    let connector = || Connector::new(vec![v4(1), v4(2)]);
    scene.connect(connector().attempt_delay(Duration::from_secs(2)))?;
    scene.advance(Duration::from_millis(1_999))?;
    assert_eq!(scene.log.lines(), [""; 0]);
    scene.advance(Duration::from_millis(1))?;
    assert_eq!(scene.log.lines(), ["connect"]);

    let patient = connector()
        .attempt_delay(Duration::MAX)
        .connect_timeout(Duration::from_secs(3600));
    scene.connect(patient)?;
    scene.advance(Duration::from_secs(3600))?;
    assert_eq!(scene.log.lines(), ["connect", "close ConnectFailed"]);
    Ok(())
}

#[test]
fn an_attempt_that_cannot_begin_or_be_registered_counts_as_failed() -> Result {
    for call in [Call::Connect, Call::Watch] {
        let scene = Scene::new(&[])?;
        let _service = scene.network.listen(v4(2))?;
        scene
            .network
            .fail(call, io::Error::other("out of descriptors"));
        let chat = scene.connect(Connector::new(vec![v4(2), v4(2)]))?;
        assert_eq!(scene.log.lines(), ["connect"], "{call:?}");
        assert!(chat.is_open());
        let registered = scene.network.registrations();

        scene
            .network
            .fail(call, io::Error::other("out of descriptors"));
        let failed = Log::default();
        Connector::new(v4(2)).connect_on(&scene.event_loop, failed.session())?;
        scene.network.settle(&scene.event_loop)?;
        assert_eq!(failed.lines(), ["close ConnectFailed"], "{call:?}");
        assert_eq!(scene.network.registrations(), registered, "{call:?}");
    }
    Ok(())
}

#[test]
fn a_connection_closed_during_several_attempts_gets_handle_close_only() -> Result {
    let scene = Scene::new(&[v4(1), v4(2)])?;
    let chat = scene.connect(Connector::new(vec![v4(1), v4(2)]))?;
    scene.advance(DELAY)?;
    assert_eq!(scene.network.sockets(), 2);
    chat.close();
    scene.event_loop.run()?;
    assert_eq!(scene.log.lines(), ["close Dropped"]);
    assert_eq!(scene.network.sockets(), 0);
    assert_eq!(scene.network.registrations(), 0);
    assert_eq!(scene.network.elapsed(), DELAY);
    Ok(())
}

#[test]
fn one_shot_polling_does_not_lose_an_attempt() -> Result {
    let network = Network::new(1);
    network.set_conditions(Conditions::default().one_shot(true));
    let event_loop = network.event_loop()?;
    network.add_black_hole(v6(1));
    let (service, log) = (network.listen(v4(2))?, Log::default());
    let connector = Connector::new(vec![v6(1), v4(1), v4(2)]);
    connector.connect_on(&event_loop, log.session())?;
    network.advance(&event_loop, DELAY)?;
    assert_eq!(log.lines(), ["connect"]);
    let peer = service.accept().ok_or("the client has connected")?;
    peer.send("hello\r\n");
    network.settle(&event_loop)?;
    assert_eq!(log.lines(), ["connect", "record hello"]);
    assert_eq!(peer.ended(), None);
    Ok(())
}

/// A dispatcher of layer 1, which connects by itself.
struct Recorder {
    channel: Channel,
    log: Log,
}

impl Dispatcher for Recorder {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn handle_connect(&mut self) -> Result {
        self.log.add("connect");
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(format!("close {}", common::name(why)));
    }
}

#[test]
fn a_dispatcher_tries_addresses_in_the_same_way() -> Result {
    let scene = Scene::new(&[v4(1)])?;
    let _service = scene.network.listen(v4(2))?;
    let channel = Channel::connect(&[v4(1), v4(2)][..])?;
    let log = scene.log.clone();
    scene.event_loop.register(Recorder { channel, log })?;
    scene.advance(DELAY - Duration::from_nanos(1))?;
    assert_eq!(scene.log.lines(), [""; 0]);
    scene.advance(Duration::from_nanos(1))?;
    assert_eq!(scene.log.lines(), ["connect"]);
    Ok(())
}

/// Connects to a host whose name is never resolved. Returns the error.
fn failure_of_a_lookup(connector: Connector, after: Duration) -> Result<String> {
    let scene = Scene::new(&[])?;
    scene.network.add_silent_host("hung.example");
    let failed: Rc<RefCell<Option<Close>>> = Rc::default();
    struct Fails(Rc<RefCell<Option<Close>>>);
    impl AsyncChat for Fails {
        fn found_terminator(&mut self, _: &[u8]) -> Result {
            Ok(())
        }
        fn handle_close(&mut self, why: &Close) {
            let Close::ConnectFailed(error) = why else {
                panic!("{why}");
            };
            assert_eq!(error.io_kind(), Some(io::ErrorKind::TimedOut));
            let error = asynchat::Error::new(error.to_string());
            self.0.replace(Some(Close::ConnectFailed(error)));
        }
    }
    let fails = Fails(Rc::clone(&failed));
    connector.connect_on(&scene.event_loop, |_| fails)?;
    scene.network.settle(&scene.event_loop)?;
    scene.advance(after - Duration::from_nanos(1))?;
    assert!(failed.borrow().is_none());
    scene.advance(Duration::from_nanos(1))?;
    assert!(scene.event_loop.is_empty());
    assert_eq!(scene.event_loop.next_timeout(), None);
    let failed = failed.take().ok_or("it fails then")?;
    Ok(failed.to_string())
}

#[test]
fn an_unanswered_lookup_fails_at_the_connect_deadline_or_after_thirty_seconds() -> Result {
    let hung = || Connector::new("hung.example:119");
    let seconds = Duration::from_secs;
    for (connector, after) in [
        (hung(), seconds(30)),
        (hung().connect_timeout(seconds(5)), seconds(5)),
        (hung().connect_timeout(seconds(100)), seconds(100)),
    ] {
        let error = failure_of_a_lookup(connector, after)?;
        assert!(error.contains("look up hung.example:119"), "{error}");
    }
    Ok(())
}

#[test]
fn closing_a_connection_during_its_lookup_leaves_no_timer() -> Result {
    let scene = Scene::new(&[])?;
    scene.network.add_silent_host("hung.example");
    let chat = scene.connect(Connector::new("hung.example:119"))?;
    chat.close();
    scene.network.settle(&scene.event_loop)?;
    assert_eq!(scene.log.lines(), ["close Dropped"]);
    assert!(scene.event_loop.is_empty());
    assert_eq!(scene.event_loop.next_timeout(), None);
    Ok(())
}

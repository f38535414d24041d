//! Reconnection: a connection is made again whenever it has ended, in virtual time.

mod common;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use asynchat::sim::{Listener, Network};
use asynchat::{AsyncChat, Backoff, Chat, Close, Connector, EventLoop, Reconnect, Result};
use common::subscribing::with_subscriber;
use common::{Log, Session};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Pauses without jitter: 1, 2, 4, ... 60 seconds.
fn backoff() -> Backoff {
    Backoff::default().jitter(0.0)
}

/// A network with a loop that connects to one server, which the test may start.
struct Scene {
    network: Network,
    event_loop: EventLoop,
    addr: SocketAddr,
    log: Log,
    /// How many sessions the factory has made.
    made: Rc<Cell<u32>>,
}

impl Scene {
    fn new() -> Result<Self> {
        let network = Network::new(1);
        Ok(Scene {
            event_loop: network.event_loop()?,
            network,
            addr: SocketAddr::from(([10, 0, 0, 1], 6667)),
            log: Log::default(),
            made: Rc::default(),
        })
    }

    fn serve(&self) -> Result<Listener> {
        Ok(self.network.listen(self.addr)?)
    }

    fn factory(&self) -> impl FnMut(Chat) -> Session + 'static {
        let (made, session) = (Rc::clone(&self.made), self.log.session());
        move |chat| {
            made.set(made.get() + 1);
            session(chat)
        }
    }

    fn reconnect(&self, backoff: Backoff) -> Result<Reconnect> {
        let connector = Connector::new(self.addr).connect_timeout(secs(10));
        let reconnect = connector.reconnect_on(&self.event_loop, backoff, self.factory())?;
        self.settle()?;
        Ok(reconnect)
    }

    fn settle(&self) -> Result {
        Ok(self.network.settle(&self.event_loop)?)
    }

    fn advance(&self, time: Duration) -> Result {
        Ok(self.network.advance(&self.event_loop, time)?)
    }

    /// How many attempts have failed so far.
    fn failures(&self) -> usize {
        self.log.count("close ConnectFailed")
    }
}

#[test]
fn each_attempt_follows_a_longer_pause_and_has_a_new_session() -> Result {
    let scene = Scene::new()?;
    let reconnect = scene.reconnect(backoff())?;
    assert_eq!(scene.failures(), 1);
    let mut before = 1;
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert!(reconnect.chat().is_none());
        scene.advance(secs(pause) - Duration::from_nanos(1))?;
        assert_eq!(scene.failures(), before);
        scene.advance(Duration::from_nanos(1))?;
        before += 1;
        assert_eq!(scene.failures(), before);
        assert_eq!(scene.made.get() as usize, before);
    }
    assert!(!reconnect.is_stopped());
    Ok(())
}

#[test]
fn a_connection_that_ends_is_made_again() -> Result {
    let (scene, mut last) = (Scene::new()?, None);
    let service = scene.serve()?;
    let reconnect = scene.reconnect(backoff())?;
    for n in 1..=3 {
        let chat = reconnect.chat().ok_or("it is up")?;
        assert_ne!(last.replace(chat.id()), Some(chat.id()));
        let peer = service.accept().ok_or("it has connected")?;
        chat.push("hello");
        peer.send("welcome\r\n");
        scene.settle()?;
        assert_eq!(peer.received(), b"hello");
        match n {
            1 => peer.reset(),
            _ => peer.finish(),
        }
        scene.settle()?;
        assert!(!chat.is_open());
        scene.advance(secs(1 << (n - 1)))?;
    }
    assert_eq!(scene.log.count("record welcome"), 3);
    assert_eq!(scene.log.count("connect"), 4);
    assert_eq!(scene.log.count("close Reset"), 1);
    assert_eq!(scene.log.count("close Eof"), 2);
    Ok(())
}

#[test]
fn a_connection_that_has_lasted_resets_the_pause() -> Result {
    let scene = Scene::new()?;
    scene.reconnect(backoff())?;
    scene.advance(secs(1 + 2 + 4))?;
    assert_eq!(scene.failures(), 4);
    // The connection comes up after eight more seconds, at first too briefly to reset the pause,
    // and then for long enough.
    let service = scene.serve()?;
    for (pause, up) in [(8, 59), (16, 60)] {
        scene.advance(secs(pause))?;
        let peer = service.accept().ok_or("it has connected")?;
        scene.advance(secs(up))?;
        peer.finish();
        scene.settle()?;
    }
    assert_eq!(scene.log.count("connect"), 2);
    scene.advance(secs(1))?;
    assert_eq!(scene.log.count("connect"), 3);
    Ok(())
}

#[test]
fn a_session_that_closes_its_connection_ends_the_reconnection() -> Result {
    for done in [Chat::close_when_done, |chat: &Chat| chat.close()] {
        let scene = Scene::new()?;
        let service = scene.serve()?;
        let reconnect = scene.reconnect(backoff())?;
        let peer = service.accept().ok_or("it has connected")?;
        done(&reconnect.chat().ok_or("it is up")?);
        scene.settle()?;
        peer.finish();
        scene.event_loop.run()?;
        assert_eq!(scene.network.elapsed(), Duration::ZERO);
        assert!(reconnect.is_stopped());
        assert_eq!(scene.made.get(), 1);
    }
    Ok(())
}

#[test]
fn a_callback_that_fails_does_not_end_the_reconnection() -> Result {
    let scene = Scene::new()?;
    let service = scene.serve()?;
    let fails = scene.log.session_with(|_, record| match record {
        b"panic" => panic!("on demand"),
        _ => Err("not that server, please".into()),
    });
    Connector::new(scene.addr).reconnect_on(&scene.event_loop, backoff(), fails)?;
    for (line, pause) in [("no\r\n", 1), ("panic\r\n", 2)] {
        scene.settle()?;
        let peer = service.accept().ok_or("it has connected")?;
        peer.send(line);
        scene.advance(secs(pause))?;
    }
    assert_eq!(scene.log.count("connect"), 3);
    assert_eq!(scene.log.count("close Handler"), 1);
    assert_eq!(scene.log.count("close Panic"), 1);
    Ok(())
}

#[test]
fn a_factory_that_panics_is_called_again() -> Result {
    let (scene, made) = (Scene::new()?, Cell::new(0));
    let _service = scene.serve()?;
    let session = scene.log.session();
    let factory = move |chat| {
        made.set(made.get() + 1);
        assert!(made.get() > 1, "the first call panics");
        session(chat)
    };
    Connector::new(scene.addr).reconnect_on(&scene.event_loop, backoff(), factory)?;
    scene.settle()?;
    assert_eq!(scene.log.lines(), [""; 0]);
    scene.advance(secs(1))?;
    assert_eq!(scene.log.lines(), ["connect"]);
    Ok(())
}

#[test]
fn a_stop_during_a_pause_ends_the_reconnection_at_once() -> Result {
    let scene = Scene::new()?;
    let reconnect = scene.reconnect(backoff())?;
    reconnect.stop();
    scene.event_loop.run()?;
    assert!(reconnect.is_stopped());
    assert_eq!(scene.failures(), 1);
    assert_eq!(scene.network.elapsed(), Duration::ZERO);
    Ok(())
}

#[test]
fn a_stop_during_an_attempt_cancels_it() -> Result {
    let scene = Scene::new()?;
    scene.network.add_black_hole(scene.addr);
    let reconnect = scene.reconnect(backoff())?;
    reconnect.stop();
    scene.event_loop.run()?;
    assert_eq!(scene.log.lines(), ["close Dropped"]);
    assert_eq!(scene.network.elapsed(), Duration::ZERO);
    Ok(())
}

#[test]
fn a_stop_while_connected_leaves_the_connection_open_and_makes_no_other() -> Result {
    let scene = Scene::new()?;
    let service = scene.serve()?;
    let reconnect = scene.reconnect(backoff())?;
    let peer = service.accept().ok_or("it has connected")?;
    reconnect.stop();
    assert!(reconnect.is_stopped());
    peer.send("still here\r\n");
    scene.settle()?;
    peer.finish();
    scene.event_loop.run()?;
    let expected = ["connect", "record still here", "eof ", "close Eof"];
    assert_eq!(scene.log.lines(), expected);
    Ok(())
}

#[test]
fn handle_close_and_the_factory_may_stop_the_reconnection() -> Result {
    struct Stops(Rc<RefCell<Option<Reconnect>>>);
    impl asynchat::AsyncChat for Stops {
        fn found_terminator(&mut self, _: &[u8]) -> Result {
            Ok(())
        }
        fn handle_close(&mut self, _: &asynchat::Close) {
            self.0.borrow().iter().for_each(Reconnect::stop);
        }
    }
    for in_factory in [false, true] {
        let scene = Scene::new()?;
        let slot: Rc<RefCell<Option<Reconnect>>> = Rc::default();
        let in_session = Rc::clone(&slot);
        let factory = move |_| {
            if in_factory {
                in_session.borrow().iter().for_each(Reconnect::stop);
            }
            Stops(Rc::clone(&in_session))
        };
        let reconnect =
            Connector::new(scene.addr).reconnect_on(&scene.event_loop, backoff(), factory)?;
        slot.replace(Some(reconnect.clone()));
        scene.event_loop.run()?;
        assert!(reconnect.is_stopped());
        assert_eq!(scene.network.elapsed(), Duration::ZERO);
        // The factory has been dropped, although it could reach its own handle.
        drop(reconnect);
        assert_eq!(Rc::strong_count(&slot), 1);
    }
    Ok(())
}

/// Stops the reconnecting of this thread when the pause before the next connection is logged.
struct StopsInLog;

thread_local! {
    static RECONNECT: RefCell<Option<Reconnect>> = RefCell::default();
}

impl Subscriber for StopsInLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::INFO
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {
        RECONNECT.with_borrow(|reconnect| reconnect.iter().for_each(Reconnect::stop));
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn a_subscriber_may_stop_the_reconnection_when_the_pause_is_logged() -> Result {
    let scene = Scene::new()?;
    with_subscriber(StopsInLog, || {
        // No server listens: the connection fails at once.
        let connector = Connector::new(scene.addr);
        let reconnect = connector.reconnect_on(&scene.event_loop, backoff(), scene.factory())?;
        RECONNECT.set(Some(reconnect.clone()));
        scene.event_loop.run()?;
        assert!(reconnect.is_stopped());
        Ok::<(), asynchat::Error>(())
    })?;
    assert_eq!(scene.made.get(), 1);
    assert_eq!(scene.network.elapsed(), Duration::ZERO);
    Ok(())
}

#[test]
fn a_shutdown_ends_the_reconnection_in_every_state() -> Result {
    for state in ["pause", "under way", "up"] {
        let scene = Scene::new()?;
        let service = (state == "up").then(|| scene.serve()).transpose()?;
        if state == "under way" {
            scene.network.add_black_hole(scene.addr);
        }
        let reconnect = scene.reconnect(backoff())?;
        let peer = service.as_ref().and_then(Listener::accept);
        scene.event_loop.shutdown(secs(5));
        scene.settle()?;
        drop(peer);
        // By then the reconnection would have tried again. The loop has nothing left to run for.
        scene.advance(secs(3600))?;
        assert!(reconnect.is_stopped(), "{state}");
        assert_eq!(scene.made.get(), 1, "{state}");
        scene.event_loop.run()?;
        assert_eq!(Rc::strong_count(&scene.made), 1, "{state}");
    }
    Ok(())
}

#[test]
fn close_all_ends_a_reconnection_during_its_pause() -> Result {
    let scene = Scene::new()?;
    let reconnect = scene.reconnect(backoff())?;
    scene.event_loop.close_all();
    scene.event_loop.run()?;
    assert!(reconnect.is_stopped());
    assert_eq!(scene.network.elapsed(), Duration::ZERO);
    Ok(())
}

#[test]
fn a_reconnection_ends_with_its_loop() -> Result {
    let scene = Scene::new()?;
    let _service = scene.serve()?;
    let reconnect = scene.reconnect(backoff())?;
    drop(scene.event_loop);
    assert_eq!(scene.log.lines(), ["connect", "close Shutdown"]);
    assert!(reconnect.is_stopped() && reconnect.chat().is_none());
    assert_eq!(Rc::strong_count(&scene.made), 1);
    Ok(())
}

/// The times of the first attempts.
fn attempts(seed: u64) -> Result<Vec<Duration>> {
    let network = Network::new(seed);
    let event_loop = network.event_loop()?;
    let times: Rc<RefCell<Vec<Duration>>> = Rc::default();
    let (recorded, clock) = (Rc::clone(&times), network.clone());
    let factory = move |_| {
        recorded.borrow_mut().push(clock.elapsed());
        |_: &[u8]| Ok(())
    };
    Connector::new("10.0.0.1:6667").reconnect_on(&event_loop, Backoff::default(), factory)?;
    network.advance(&event_loop, secs(600))?;
    Ok(times.take())
}

#[test]
fn jitter_spreads_the_pauses_and_is_reproducible_in_a_simulation() -> Result {
    let first = attempts(7)?;
    assert_eq!(first, attempts(7)?);
    assert_ne!(first, attempts(8)?);
    let full = [1, 2, 4, 8, 16, 32];
    for (pair, most) in first.windows(2).zip(full) {
        assert!(pair[1] - pair[0] <= secs(most), "{first:?}");
    }
    Ok(())
}

#[test]
fn reconnecting_an_adopted_socket_or_to_no_address_is_an_error() -> Result {
    let scene = Scene::new()?;
    let (socket, _peer) = scene.network.pair();
    let adopted = Connector::adopt(socket);
    let refused = adopted.reconnect_on(&scene.event_loop, backoff(), scene.factory());
    assert!(refused.is_err());
    let nowhere = Connector::new(Vec::<SocketAddr>::new());
    let refused = nowhere.reconnect_on(&scene.event_loop, backoff(), scene.factory());
    assert!(refused.is_err());
    assert!(!scene.event_loop.run_once(Duration::ZERO)?);
    assert_eq!(Rc::strong_count(&scene.made), 1);
    Ok(())
}

/// Calls `close_all` in its `handle_close`.
struct ClosesAll {
    log: Log,
    event_loop: EventLoop,
    end: fn(&EventLoop),
}

impl asynchat::AsyncChat for ClosesAll {
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(())
    }
    fn handle_close(&mut self, why: &asynchat::Close) {
        self.log.add(format!("close {}", common::name(why)));
        (self.end)(&self.event_loop);
    }
}

#[test]
fn ending_the_loop_from_handle_close_ends_the_reconnection() -> Result {
    let close_all: fn(&EventLoop) = EventLoop::close_all;
    for end in [close_all, |event_loop| event_loop.shutdown(secs(1))] {
        let scene = Scene::new()?;
        let (log, inner) = (scene.log.clone(), scene.event_loop.clone());
        let factory = move |_| ClosesAll {
            log: log.clone(),
            event_loop: inner.clone(),
            end,
        };
        // No server listens: the connection fails at once.
        let connector = Connector::new(scene.addr);
        let reconnect = connector.reconnect_on(&scene.event_loop, backoff(), factory)?;
        scene.settle()?;
        scene.advance(secs(3600))?;
        assert_eq!(scene.log.lines(), ["close ConnectFailed"]);
        assert!(reconnect.is_stopped());
        assert_eq!(scene.event_loop.next_timeout(), None);
    }
    Ok(())
}

#[test]
fn close_all_ends_the_reconnection_of_a_connection_that_is_already_ending() -> Result {
    let scene = Scene::new()?;
    let service = scene.serve()?;
    let reconnect = scene.reconnect(backoff())?;
    let (chat, inner) = (
        reconnect.chat().ok_or("it is up")?,
        scene.event_loop.clone(),
    );
    let closed = chat.clone();
    scene.event_loop.call_soon(move || {
        // The push exceeds the output limit, which ends the connection. Then close_all follows.
        closed.push(vec![b'x'; 100_000_000]);
        closed.push("x");
        assert!(!closed.is_open());
        inner.close_all();
    });
    scene.settle()?;
    scene.advance(secs(3600))?;
    assert_eq!(scene.log.count("close"), 1);
    assert!(reconnect.is_stopped());
    drop(service);
    Ok(())
}

/// What the callback for the end has received.
fn record_end(reconnect: &Reconnect) -> Rc<RefCell<Vec<String>>> {
    let ends = Rc::<RefCell<Vec<String>>>::default();
    let seen = Rc::clone(&ends);
    reconnect.on_end(move |outcome| {
        let text = outcome.map_or_else(|error| error.to_string(), |()| String::from("ok"));
        seen.borrow_mut().push(text);
    });
    ends
}

#[test]
fn after_the_last_try_the_owner_gets_the_reason_of_the_last_failure() -> Result {
    let scene = Scene::new()?;
    let reconnect = scene.reconnect(backoff().tries(3))?;
    let ends = record_end(&reconnect);
    scene.advance(secs(1))?;
    assert!(reconnect.outcome().is_ok() && ends.borrow().is_empty());
    // Nothing is left to run for.
    scene.event_loop.run()?;
    assert_eq!(scene.network.elapsed(), secs(3));
    assert_eq!(scene.failures(), 3);
    assert!(reconnect.is_stopped());
    let error = reconnect.outcome().expect_err("it gave up");
    let expected = "gave up after 3 tries: could not connect: connect to 10.0.0.1:6667: \
                    connection refused";
    assert_eq!(error.to_string(), expected);
    assert_eq!(error.io_kind(), Some(io::ErrorKind::ConnectionRefused));
    assert_eq!(*ends.borrow(), [expected]);
    // Set after the end, the callback is called in the next turn.
    let late = record_end(&reconnect);
    scene.event_loop.run()?;
    assert_eq!(*late.borrow(), [expected]);
    // The factory is dropped.
    assert_eq!(Rc::strong_count(&scene.made), 1);
    Ok(())
}

#[test]
fn a_connection_that_has_lasted_is_no_failed_try() -> Result {
    let scene = Scene::new()?;
    let service = scene.serve()?;
    let reconnect = scene.reconnect(backoff().tries(2))?;
    for _ in 0..3 {
        let peer = service.accept().ok_or("it has connected")?;
        scene.advance(secs(60))?;
        peer.finish();
        scene.advance(secs(1))?;
    }
    // This one is too short.
    service.accept().ok_or("it has connected")?.finish();
    scene.advance(secs(2))?;
    assert!(!reconnect.is_stopped());
    service.accept().ok_or("it has connected")?.finish();
    scene.settle()?;
    assert!(reconnect.is_stopped());
    let error = reconnect.outcome().expect_err("it gave up");
    assert_eq!(
        error.to_string(),
        "gave up after 2 tries: the peer closed the connection"
    );
    Ok(())
}

#[test]
fn an_end_that_this_side_wanted_is_no_error() -> Result {
    type End = fn(&Scene, &Reconnect) -> Result;
    let in_a_pause: [End; 3] = [
        |_, reconnect| {
            reconnect.stop();
            Ok(())
        },
        |scene, _| {
            scene.event_loop.close_all();
            Ok(())
        },
        |scene, _| {
            scene.event_loop.shutdown(Duration::ZERO);
            Ok(())
        },
    ];
    let while_up: [End; 2] = [
        |_, reconnect| {
            reconnect.chat().ok_or("it is up")?.close();
            Ok(())
        },
        |scene, reconnect| {
            reconnect.stop();
            scene.settle()?;
            assert!(reconnect.chat().is_some());
            scene.event_loop.close_all();
            Ok(())
        },
    ];
    for (ends, is_up) in [(&in_a_pause[..], false), (&while_up[..], true)] {
        for end in ends {
            let scene = Scene::new()?;
            let service = is_up.then(|| scene.serve()).transpose()?;
            let reconnect = scene.reconnect(backoff().tries(9))?;
            let seen = record_end(&reconnect);
            end(&scene, &reconnect)?;
            scene.event_loop.run()?;
            assert_eq!(*seen.borrow(), ["ok"]);
            assert!(reconnect.outcome().is_ok() && reconnect.is_stopped());
            assert_eq!(Rc::strong_count(&scene.made), 1);
            drop(service);
        }
    }
    Ok(())
}

#[test]
fn a_callback_for_the_end_that_panics_stops_no_other() -> Result {
    let scene = Scene::new()?;
    let reconnect = scene.reconnect(backoff().tries(1))?;
    reconnect.on_end(|_| panic!("a panic in on_end"));
    let ends = record_end(&reconnect);
    scene.event_loop.run()?;
    assert_eq!(ends.borrow().len(), 1);
    Ok(())
}

/// The reason may be one that another connection cannot change.
#[test]
fn a_close_in_handle_close_ends_the_reconnection() -> Result {
    struct GivesUp(Chat, Rc<Cell<u32>>);
    impl AsyncChat for GivesUp {
        fn found_terminator(&mut self, _: &[u8]) -> Result {
            Ok(())
        }
        fn handle_close(&mut self, why: &Close) {
            assert!(matches!(why, Close::ConnectFailed(_) | Close::Eof), "{why}");
            self.1.set(self.1.get() + 1);
            self.0.close();
        }
    }
    for is_served in [false, true] {
        let scene = Scene::new()?;
        let service = is_served.then(|| scene.serve()).transpose()?;
        let (closed, its) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(None)));
        let (count, ended) = (Rc::clone(&closed), Rc::clone(&its));
        let reconnect =
            Connector::new(scene.addr).reconnect_on(&scene.event_loop, backoff(), move |chat| {
                GivesUp(chat, Rc::clone(&count))
            })?;
        reconnect.on_end(move |outcome| *ended.borrow_mut() = Some(outcome.is_ok()));
        scene.settle()?;
        if let Some(peer) = service.as_ref().and_then(Listener::accept) {
            peer.finish();
        }
        scene.settle()?;
        scene.network.advance(&scene.event_loop, secs(3600))?;
        assert_eq!(closed.get(), 1);
        assert!(reconnect.is_stopped() && scene.event_loop.is_empty());
        assert_eq!(its.take(), Some(true));
    }
    Ok(())
}

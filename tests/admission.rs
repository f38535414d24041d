//! Which clients a server accepts, how many, and what it does to their sockets before their sessions exist.

mod common;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use asynchat::sim::{Call, Ended, Network, Peer};
use asynchat::{Addr, Channel, Close, Deadline, EventLoop, Limits, Result, Server};
use common::panicking::PanicsOnDrop;
use common::{Log, addr_of, new_loop, run_until};

const ADDR: &str = "10.0.0.1:7007";

struct Scene {
    network: Network,
    event_loop: EventLoop,
    log: Log,
}

impl Scene {
    fn new() -> Result<Self> {
        let network = Network::new(1);
        Ok(Scene {
            event_loop: network.event_loop()?,
            network,
            log: Log::default(),
        })
    }

    fn listen(&self, server: Server) -> Result<Channel> {
        Ok(server.listen_on(&self.event_loop, self.log.session())?)
    }

    /// A client with this address.
    fn client(&self, ip: &str) -> Result<Peer> {
        let from = SocketAddr::new(ip.parse()?, 0);
        let peer = self.network.connect_from(from, ADDR)?;
        self.network.settle(&self.event_loop)?;
        Ok(peer)
    }
}

fn is_friend(addr: &Addr) -> bool {
    addr.to_string().starts_with("10.0.0.")
}

#[test]
fn a_client_that_is_refused_sees_the_end_and_gets_no_session() -> Result {
    let scene = Scene::new()?;
    let limits = Limits::default().connections(1);
    let server = Server::new(ADDR).limits(limits).refusal("too many\r\n");
    scene.listen(server.accept_if(is_friend))?;
    let stranger = scene.client("192.0.2.1")?;
    assert_eq!(stranger.received(), b"");
    assert_eq!(stranger.ended(), Some(Ended::Finished));
    assert_eq!(scene.log.lines(), [""; 0]);
    // The stranger has not counted for the limit.
    let friend = scene.client("10.0.0.2")?;
    assert_eq!(friend.ended(), None);
    assert_eq!(scene.log.lines(), ["connect"]);
    let stats = scene.event_loop.stats();
    assert_eq!((stats.accepted, stats.refused), (2, 1));
    Ok(())
}

#[test]
fn an_accept_if_that_panics_refuses_its_connection_only() -> Result {
    let scene = Scene::new()?;
    let count = Cell::new(0);
    let listener = scene.listen(Server::new(ADDR).accept_if(move |_| {
        count.set(count.get() + 1);
        assert!(count.get() > 1, "the first call panics");
        true
    }))?;
    assert!(scene.client("10.0.0.2")?.has_ended());
    assert!(!scene.client("10.0.0.2")?.has_ended());
    assert!(listener.is_open());
    assert_eq!(scene.event_loop.stats().refused, 1);
    Ok(())
}

#[test]
fn an_accept_if_may_use_the_loop_and_its_listener() -> Result {
    let scene = Scene::new()?;
    let listener = Rc::new(RefCell::new(None::<Channel>));
    let (known, event_loop) = (Rc::clone(&listener), scene.event_loop.clone());
    let channel = scene.listen(Server::new(ADDR).accept_if(move |_| {
        assert_eq!(event_loop.len(), 1);
        known.borrow().iter().for_each(Channel::close);
        true
    }))?;
    listener.replace(Some(channel));
    assert!(!scene.client("10.0.0.2")?.has_ended());
    assert_eq!(scene.event_loop.len(), 1);
    assert_eq!(scene.client("10.0.0.2")?.ended(), Some(Ended::Refused));
    listener.take();
    Ok(())
}

/// The reasons with which a listener has closed.
fn record_close(server: Server) -> (Server, Rc<RefCell<Vec<String>>>) {
    let reasons = Rc::<RefCell<Vec<String>>>::default();
    let seen = Rc::clone(&reasons);
    let server = server.on_close(move |why| seen.borrow_mut().push(format!("{why:?}")));
    (server, reasons)
}

#[test]
fn a_listener_for_one_connection_closes_when_it_has_one() -> Result {
    let scene = Scene::new()?;
    let server = Server::new(ADDR).once(Duration::from_secs(60));
    let (server, reasons) = record_close(server.accept_if(is_friend));
    let listener = scene.listen(server)?;
    // Two wait already, behind one that is refused.
    let from = |ip: &str| -> Result<SocketAddr> { Ok(SocketAddr::new(ip.parse()?, 0)) };
    let stranger = scene.network.connect_from(from("192.0.2.1")?, ADDR)?;
    let first = scene.network.connect_from(from("10.0.0.2")?, ADDR)?;
    let second = scene.network.connect_from(from("10.0.0.3")?, ADDR)?;
    scene.network.settle(&scene.event_loop)?;
    assert!(!listener.is_open());
    assert_eq!(*reasons.borrow(), ["Local"]);
    assert!(stranger.has_ended() && second.has_ended() && !first.has_ended());
    assert_eq!(scene.log.lines(), ["connect"]);
    // The deadline is gone.
    assert_eq!(scene.event_loop.next_timeout(), None);
    Ok(())
}

/// Whoever connects first must not be able to use up the port of somebody else.
#[test]
fn a_connection_whose_factory_fails_is_not_the_one_connection_of_a_listener() -> Result {
    for panics in [false, true] {
        let scene = Scene::new()?;
        let (server, reasons) = record_close(Server::new(ADDR).once(Duration::from_secs(60)));
        let mut is_first = true;
        let listener = server.listen_on(&scene.event_loop, move |chat| {
            if std::mem::take(&mut is_first) {
                chat.push("sorry");
                assert!(!panics, "the factory panics");
                return Err("not this client".into());
            }
            chat.push("welcome");
            Ok(|_: &[u8]| Ok(()))
        })?;
        let first = scene.client("10.0.0.3")?;
        assert_eq!(first.received(), b"sorry");
        assert!(first.has_ended() && listener.is_open());
        let second = scene.client("10.0.0.4")?;
        assert_eq!(second.received(), b"welcome");
        assert!(!listener.is_open());
        assert_eq!(*reasons.borrow(), ["Local"]);
        first.finish();
        second.finish();
        scene.network.settle(&scene.event_loop)?;
        assert!(scene.event_loop.is_empty());
    }
    Ok(())
}

#[test]
fn a_listener_for_one_connection_does_not_wait_longer_than_its_deadline() -> Result {
    let scene = Scene::new()?;
    let (server, reasons) = record_close(Server::new(ADDR).once(Duration::from_secs(60)));
    let listener = scene.listen(server)?;
    // A timer that is not the listener's own.
    listener.call_later(Duration::from_secs(1));
    let just_before = Duration::from_secs(60) - Duration::from_nanos(1);
    scene.network.advance(&scene.event_loop, just_before)?;
    assert!(listener.is_open() && reasons.borrow().is_empty());
    scene.event_loop.run()?;
    assert_eq!(
        *reasons.borrow(),
        [format!("{:?}", Close::Timeout(Deadline::Accept))]
    );
    assert_eq!(scene.event_loop.stats().closes.timeout, 1);
    Ok(())
}

#[test]
fn the_callback_for_the_close_of_a_listener_gets_the_reason() -> Result {
    type End = fn(&EventLoop, &Channel);
    let ends: [(End, &str); 3] = [
        (|_, listener| listener.close(), "Local"),
        (|event_loop, _| event_loop.close_all(), "Local"),
        (
            |event_loop, _| event_loop.shutdown(Duration::ZERO),
            "Shutdown",
        ),
    ];
    for (end, expected) in ends {
        let scene = Scene::new()?;
        let (server, reasons) = record_close(Server::new(ADDR));
        let listener = scene.listen(server)?;
        end(&scene.event_loop, &listener);
        assert!(reasons.borrow().is_empty());
        scene.event_loop.run()?;
        assert_eq!(*reasons.borrow(), [expected]);
    }
    let scene = Scene::new()?;
    let (server, reasons) = record_close(Server::new(ADDR));
    scene.listen(server)?;
    drop(scene);
    assert_eq!(*reasons.borrow(), ["Shutdown"]);
    Ok(())
}

/// It is not an error of a handler: there is none.
#[test]
fn a_listener_whose_socket_fails_closes_with_its_error() -> Result {
    let scene = Scene::new()?;
    let seen: Rc<RefCell<Vec<_>>> = Rc::default();
    let reasons = Rc::clone(&seen);
    let server = Server::new(ADDR).on_close(move |why| {
        let Close::Io(error) = why else {
            panic!("{why:?}")
        };
        reasons.borrow_mut().push((error.kind(), why.to_string()));
    });
    scene.listen(server)?;
    // EINVAL: it does not listen any more.
    let kind = io::ErrorKind::InvalidInput;
    scene.network.fail(Call::Accept, kind);
    scene.client("10.0.0.2")?;
    let expected = (kind, format!("i/o error: accept: {kind}"));
    assert_eq!(*seen.borrow(), [expected]);
    let closes = scene.event_loop.stats().closes;
    assert_eq!((closes.io, closes.handler), (1, 0));
    Ok(())
}

#[test]
fn an_accepted_socket_is_configured_before_its_session_exists() -> Result {
    let (event_loop, log) = (new_loop(), Log::default());
    let (session, order) = (log.session(), log.clone());
    let server = Server::new("127.0.0.1:0").configure(move |socket| {
        order.add("configure");
        socket.set_keepalive(true)
    });
    let order = log.clone();
    let listener = server.listen_on(&event_loop, move |chat| {
        order.add("factory");
        session(chat)
    })?;
    let _peer = common::Peer::connect(addr_of(&listener));
    run_until(&event_loop, || log.has("connect"));
    assert_eq!(log.lines(), ["configure", "factory", "connect"]);
    Ok(())
}

#[test]
fn a_socket_that_cannot_be_configured_is_closed_and_no_other() -> Result {
    for panics in [false, true] {
        let (event_loop, log) = (new_loop(), Log::default());
        let count = Cell::new(0);
        let server = Server::new("127.0.0.1:0").configure(move |_| {
            count.set(count.get() + 1);
            assert!(count.get() > 1 || !panics, "the first call panics");
            match count.get() {
                1 => Err(io::Error::other("it has no such option")),
                _ => Ok(()),
            }
        });
        let listener = server.listen_on(&event_loop, log.session())?;
        let mut first = common::Peer::connect(addr_of(&listener));
        let _ = first.wait_for_end(&event_loop);
        let _second = common::Peer::connect(addr_of(&listener));
        run_until(&event_loop, || log.has("connect"));
        assert_eq!(log.lines(), ["connect"]);
        assert_eq!(event_loop.stats().refused, 1);
    }
    Ok(())
}

/// The log is throttled after ten errors, and the destructor of each of them panics.
#[test]
fn a_listener_survives_any_number_of_errors_of_configure() -> Result {
    let event_loop = new_loop();
    let server = Server::new("127.0.0.1:0").configure(|_| Err(io::Error::other(PanicsOnDrop)));
    let listener = server.listen_on(&event_loop, |_| |_: &[u8]| Ok(()))?;
    let addr = addr_of(&listener);
    let mut peers = Vec::new();
    for refused in 1..=12 {
        peers.push(std::net::TcpStream::connect(addr)?);
        run_until(&event_loop, || event_loop.stats().refused == refused);
        assert!(listener.is_open());
    }
    Ok(())
}

/// A blocking socket would stop the loop at the first send that its peer does not receive.
#[test]
fn configure_cannot_make_a_socket_block() -> Result {
    let event_loop = new_loop();
    let accepted = Rc::<RefCell<Vec<asynchat::Chat>>>::default();
    let chats = Rc::clone(&accepted);
    let server = Server::new("127.0.0.1:0").configure(|socket| socket.set_nonblocking(false));
    let listener = server.listen_on(&event_loop, move |chat| {
        chats.borrow_mut().push(chat);
        |_: &[u8]| Ok(())
    })?;
    let _peer = std::net::TcpStream::connect(addr_of(&listener))?;
    run_until(&event_loop, || !accepted.borrow().is_empty());
    #[cfg(unix)]
    for chat in &*accepted.borrow() {
        assert!(chat.configure(|socket| socket.nonblocking())?);
    }
    Ok(())
}

/// The control connection of a pair: it opens a port for one data connection.
struct Control {
    chat: asynchat::Chat,
}

const DATA: &str = "10.0.0.1:2020";

impl asynchat::AsyncChat for Control {
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        let (control, closed) = (self.chat.clone(), self.chat.clone());
        let listener = Server::new(DATA)
            .once(Duration::from_secs(60))
            .on_close(move |why| {
                closed.push(match why {
                    Close::Timeout(Deadline::Accept) => "nobody\r\n",
                    _ => "closed\r\n",
                });
            });
        listener.listen(move |data| {
            let handle = data.clone();
            control.post(move |control: &mut Control| {
                control.chat.push("connected\r\n");
                handle.push("the file");
                handle.close_when_done();
                Ok(())
            })?;
            Ok(|_: &[u8]| Ok(()))
        })?;
        Ok(())
    }
}

#[test]
fn two_sessions_of_a_pair_of_connections_reach_each_other() -> Result {
    let scene = Scene::new()?;
    scene.event_loop.listen(ADDR, |chat| Control { chat })?;
    let settle = || scene.network.settle(&scene.event_loop);
    let control = scene.network.connect(ADDR)?;
    control.send("EPSV\r\n");
    settle()?;
    let data = scene.network.connect(DATA)?;
    settle()?;
    assert_eq!(data.received(), b"the file");
    assert_eq!(data.ended(), Some(Ended::Finished));
    assert_eq!(control.take_received(), b"closed\r\nconnected\r\n");

    // Nobody comes in time.
    control.send("EPSV\r\n");
    settle()?;
    scene
        .network
        .advance(&scene.event_loop, Duration::from_secs(60))?;
    assert_eq!(control.received(), b"nobody\r\n");

    // The control connection is gone when the data connection comes.
    control.send("EPSV\r\n");
    settle()?;
    control.reset();
    settle()?;
    let data = scene.network.connect(DATA)?;
    settle()?;
    assert!(data.has_ended());
    assert_eq!(data.received(), b"");
    Ok(())
}

//! Listening: addresses, options, adopted listeners, and errors of accept.

mod common;

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};
use std::time::Duration;

use asynchat::{Addr, Channel, Chat, Limits, Server};
use common::{Log, Peer, Slot, addr_of, idle, new_loop, run_to_end, run_until};

#[test]
fn the_error_for_a_port_in_use_names_the_address() {
    let event_loop = new_loop();
    let listener = event_loop
        .listen("127.0.0.1:0", |_: Chat| |_: &[u8]| Ok(()))
        .unwrap();
    let addr = addr_of(&listener);
    let error = event_loop
        .listen(addr, |_: Chat| |_: &[u8]| Ok(()))
        .unwrap_err();
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
    assert_eq!(error.io_kind(), Some(std::io::ErrorKind::AddrInUse));
    assert_eq!(event_loop.len(), 1);
}

#[test]
fn the_first_address_that_can_be_bound_is_used() {
    let event_loop = new_loop();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let addrs = [taken, "127.0.0.1:0".parse().unwrap()];
    let listener = event_loop
        .listen(&addrs[..], |_: Chat| |_: &[u8]| Ok(()))
        .unwrap();
    assert_ne!(addr_of(&listener), taken);
}

#[test]
fn a_listener_may_have_a_host_name() {
    let (event_loop, log) = (new_loop(), Log::default());
    let listener = event_loop.listen("localhost:0", log.session()).unwrap();
    let _peer = Peer::connect(addr_of(&listener));
    run_until(&event_loop, || log.has("connect"));
}

#[test]
fn an_address_that_cannot_be_resolved_is_an_error() {
    let event_loop = new_loop();
    for (text, expected) in [
        (
            "no port",
            "listen on no port: not of the form host:port, with a port up to 65535: no port",
        ),
        ("", "listen on \"\": the address is empty"),
    ] {
        let nowhere = event_loop.listen(text, |_: Chat| |_: &[u8]| Ok(()));
        assert_eq!(nowhere.unwrap_err().to_string(), expected);
    }
    let none: &[SocketAddr] = &[];
    assert!(
        event_loop
            .listen(none, |_: Chat| |_: &[u8]| Ok(()))
            .is_err()
    );
}

#[test]
fn the_factory_can_query_the_peer_address_and_the_limits() {
    let (event_loop, log, slot) = (new_loop(), Log::default(), Slot::default());
    let (session, log_clone) = (log.session(), log.clone());
    let listener = Server::new("127.0.0.1:0")
        .limits(Limits::default().record(77))
        .backlog(3)
        .nodelay(false)
        .listen_on(
            &event_loop,
            slot.capture(move |chat: Chat| {
                let peer = chat.peer_addr().expect("it is connected");
                log_clone.add(format!("{peer}, {}", chat.limits().record));
                session(chat)
            }),
        )
        .unwrap();
    let peer = Peer::connect(addr_of(&listener));
    run_until(&event_loop, || log.has("connect"));
    let addr = peer.stream.local_addr().unwrap();
    assert_eq!(log.lines(), [format!("{addr}, 77"), "connect".to_owned()]);
    let chat = slot.chat();
    assert_eq!(chat.local_addr().unwrap().inet(), Some(addr_of(&listener)));
    assert_ne!(chat.id(), listener.id());
    assert!(event_loop.chat(chat.id()).is_some());
    assert!(event_loop.chat(listener.id()).is_none());
}

#[test]
fn a_listener_that_is_closed_leaves_its_connections_open() {
    let (event_loop, log) = (new_loop(), Log::default());
    let listener = event_loop.listen("127.0.0.1:0", log.session()).unwrap();
    let addr = addr_of(&listener);
    let mut peer = Peer::connect(addr);
    run_until(&event_loop, || log.has("connect"));
    listener.close();
    idle(&event_loop);
    assert!(TcpStream::connect(addr).is_err());
    peer.send("still here\r\n");
    run_until(&event_loop, || log.has("record still here"));
}

#[test]
fn an_adopted_listener_serves() {
    let (event_loop, log) = (new_loop(), Log::default());
    let inherited = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = inherited.local_addr().unwrap();
    // One connection is waiting already.
    let mut early = Peer::connect(addr);
    early.send("early\r\n");
    Server::adopt(inherited)
        .listen_on(&event_loop, log.session())
        .unwrap();
    run_until(&event_loop, || log.has("record early"));
}

/// Without TCP_NODELAY each exchange of two small writes takes 42 ms.
#[cfg(target_os = "linux")]
#[test]
fn every_kind_of_listener_sets_tcp_nodelay_by_default() {
    use std::os::fd::OwnedFd;

    use asynchat::{Dispatcher, Result, Socket};
    use common::other_end_of;

    /// Stores the sockets that it accepts.
    struct StoresSockets(Channel, Log, Vec<Socket>);
    impl Dispatcher for StoresSockets {
        fn channel(&self) -> &Channel {
            &self.0
        }
        fn handle_accepted(&mut self, socket: Socket, _: Addr) -> Result {
            self.2.push(socket);
            self.1.add("connect");
            Ok(())
        }
    }

    let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
    let server = || Server::new("127.0.0.1:0");
    let adopted = || Server::adopt(listener());
    let inherited = || Server::adopt(OwnedFd::from(listener()));
    let nodelay_of = |listen: &dyn Fn(&asynchat::EventLoop, &Log) -> Channel| {
        let (event_loop, log) = (new_loop(), Log::default());
        let peer = Peer::connect(addr_of(&listen(&event_loop, &log)));
        run_until(&event_loop, || log.has("connect"));
        other_end_of(&peer.stream).tcp_nodelay().unwrap()
    };
    for new in [&server as &dyn Fn() -> Server, &adopted, &inherited] {
        for on in [true, false] {
            let nodelay = nodelay_of(&|event_loop, log| {
                let server = new().nodelay(on);
                server.listen_on(event_loop, log.session()).unwrap()
            });
            assert_eq!(nodelay, on);
        }
        assert!(nodelay_of(&|event_loop, log| {
            new().listen_on(event_loop, log.session()).unwrap()
        }));
    }
    for new in [&|| Channel::listen("127.0.0.1:0") as _, &|| {
        Channel::adopt(listener())
    }] as [&dyn Fn() -> Result<Channel, asynchat::Error>; 2]
    {
        assert!(nodelay_of(&|event_loop, log| {
            let channel = new().unwrap();
            let dispatcher = StoresSockets(channel.clone(), log.clone(), Vec::new());
            event_loop.register(dispatcher).unwrap();
            channel
        }));
    }
}

#[test]
fn adopting_a_socket_that_does_not_listen_is_an_error() {
    let (near, _far) = common::tcp_pair();
    let served = Server::adopt(near).listen_on(&new_loop(), Log::default().session());
    assert!(served.is_err());
}

#[cfg(unix)]
#[test]
fn an_adopted_unix_listener_serves() {
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};

    let dir = std::env::temp_dir().join(format!("asynchat-server-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("socket");
    let inherited = UnixListener::bind(&path).unwrap();
    let (event_loop, log, slot) = (new_loop(), Log::default(), Slot::default());
    let session = log.session_with(|chat, record| {
        chat.push_slice(record);
        chat.close_when_done();
        Ok(())
    });
    let listener = Server::adopt(inherited)
        .listen_on(&event_loop, slot.capture(session))
        .unwrap();
    assert_eq!(listener.local_addr(), Some(Addr::Unix(Some(path.clone()))));
    let mut peer = UnixStream::connect(&path).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    peer.write_all(b"hello\r\n").unwrap();
    run_until(&event_loop, || log.has("close"));
    let mut reply = String::new();
    peer.read_to_string(&mut reply).unwrap();
    assert_eq!(reply, "hello");
    assert_eq!(slot.chat().peer_addr(), Some(Addr::Unix(None)));
    assert_eq!(log.lines(), ["connect", "record hello", "close Local"]);
}

/// Whether this machine supports IPv6. The IPv6 tests need it.
fn has_ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

#[test]
fn an_ipv6_listener_accepts_ipv4_and_reports_canonical_addresses() {
    if !has_ipv6() {
        return;
    }
    let (event_loop, log, slot) = (new_loop(), Log::default(), Slot::default());
    let listener = event_loop
        .listen("[::]:0", slot.capture(log.session()))
        .unwrap();
    let port = addr_of(&listener).port();
    let four = Peer::connect(([127, 0, 0, 1], port).into());
    run_until(&event_loop, || log.has("connect"));
    let addr = four.stream.local_addr().unwrap();
    assert_eq!(slot.chat().peer_addr().unwrap(), Addr::Inet(addr));
    let local = slot.chat().local_addr().unwrap();
    assert_eq!(local.to_string(), format!("127.0.0.1:{port}"));
    let _six = Peer::connect((Ipv6Addr::LOCALHOST, port).into());
    run_until(&event_loop, || log.count("connect") == 2);
}

#[test]
fn only_v6_accepts_ipv6_only() {
    if !has_ipv6() {
        return;
    }
    let (event_loop, log) = (new_loop(), Log::default());
    let listener = Server::new("[::]:0")
        .only_v6(true)
        .listen_on(&event_loop, log.session())
        .unwrap();
    let port = addr_of(&listener).port();
    // Another socket may have that IPv4 port, but not this listener.
    let _four = TcpStream::connect(("127.0.0.1", port));
    idle(&event_loop);
    assert_eq!(log.lines(), [""; 0]);
    let _six = Peer::connect((Ipv6Addr::LOCALHOST, port).into());
    run_until(&event_loop, || log.has("connect"));
}

#[test]
fn the_address_of_a_link_local_peer_keeps_its_scope() {
    let scoped = SocketAddrV6::new("fe80::1".parse().unwrap(), 119, 0, 3);
    let addr = Addr::from(SocketAddr::V6(scoped));
    assert_eq!(addr.inet(), Some(SocketAddr::V6(scoped)));
}

#[cfg(unix)]
#[test]
fn several_listeners_may_share_a_port() {
    let event_loop = new_loop();
    let shared = |addr| {
        Server::new(addr)
            .reuse_port(true)
            .listen_on(&event_loop, |_: Chat| |_: &[u8]| Ok(()))
    };
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    let first = shared(any).unwrap();
    let second = shared(addr_of(&first)).unwrap();
    assert_eq!(addr_of(&first), addr_of(&second));
}

#[test]
fn a_burst_of_connections_is_accepted_and_counted() {
    const COUNT: usize = 300;
    let (event_loop, log) = (new_loop(), Log::default());
    let listener = event_loop.listen("127.0.0.1:0", log.session()).unwrap();
    let peers: Vec<Peer> = (0..COUNT)
        .map(|_| Peer::connect(addr_of(&listener)))
        .collect();
    run_until(&event_loop, || log.count("connect") == COUNT);
    assert_eq!(event_loop.stats().accepted, COUNT as u64);
    assert_eq!(event_loop.len(), COUNT + 1);
    drop(peers);
    run_until(&event_loop, || log.count("close Eof") == COUNT);
    assert_eq!(event_loop.stats().closed, COUNT as u64);
    listener.close();
    run_to_end(&event_loop);
}

/// As a kernel reports it that does not return a connection that is gone already.
#[cfg(feature = "sim")]
#[test]
fn an_accept_error_of_one_peer_does_not_delay_others() {
    use asynchat::sim::{Call, Network};
    use std::io::ErrorKind;

    let (network, log) = (Network::new(1), Log::default());
    let event_loop = network.event_loop().unwrap();
    event_loop.listen("10.0.0.1:119", log.session()).unwrap();
    let mut peers = Vec::new();
    for kind in [
        ErrorKind::ConnectionAborted,
        ErrorKind::ConnectionReset,
        ErrorKind::NotConnected,
    ] {
        network.fail(Call::Accept, kind);
        // The first of the two connections is gone.
        for _ in 0..2 {
            peers.push(network.connect("10.0.0.1:119").unwrap());
        }
        // No time passes.
        network.settle(&event_loop).unwrap();
        assert_eq!(log.count("connect"), peers.len() / 2, "{kind}");
    }
}

/// A seccomp filter refuses every accept. The budget does not bound these attempts.
#[cfg(feature = "sim")]
#[test]
fn repeated_accept_errors_pause_the_listener_whatever_its_budget() {
    use asynchat::sim::{Call, Network};
    use std::io::ErrorKind;

    const REFUSED: u64 = 64;
    for budget in [1, 64, Limits::UNLIMITED] {
        let (network, log) = (Network::new(1), Log::default());
        let event_loop = network.event_loop().unwrap();
        Server::new("10.0.0.1:119")
            .limits(Limits::default().turn_accepts(budget))
            .listen_on(&event_loop, log.session())
            .unwrap();
        let _peer = network.connect("10.0.0.1:119").unwrap();
        for _ in 0..2 * REFUSED {
            network.fail(Call::Accept, ErrorKind::PermissionDenied);
        }
        // No time passes: the listener pauses.
        network.settle(&event_loop).unwrap();
        assert_eq!(event_loop.stats().accepts_failed, REFUSED, "{budget}");
        network
            .advance(&event_loop, Duration::from_secs(10))
            .unwrap();
        assert_eq!(event_loop.stats().accepts_failed, 2 * REFUSED, "{budget}");
        assert_eq!(log.lines(), ["connect"], "{budget}");
    }
}

/// bpo-10340, bpo-6706: a peer resets its connection before it is accepted.
#[test]
fn connections_reset_before_they_are_accepted_are_skipped() {
    let (event_loop, log) = (new_loop(), Log::default());
    let listener = event_loop.listen("127.0.0.1:0", log.session()).unwrap();
    for _ in 0..20 {
        Peer::connect(addr_of(&listener)).reset();
    }
    let mut peer = Peer::connect(addr_of(&listener));
    peer.send("here\r\n");
    run_until(&event_loop, || log.has("record here"));
    assert!(listener.is_open());
    run_until(&event_loop, || event_loop.len() == 2);
}

/// Without descriptors, a listener waits and does not spin (CVE-2010-3492).
///
/// The test runs in a process of its own, because the limit applies to the process.
#[cfg(target_os = "linux")]
#[test]
fn a_listener_without_descriptors_resumes_when_some_are_free() {
    use std::process::Command;

    const CHILD: &str = "ASYNCHAT_TEST_FEW_DESCRIPTORS";
    if std::env::var_os(CHILD).is_some() {
        return few_descriptors();
    }
    let test = "a_listener_without_descriptors_resumes_when_some_are_free";
    let output = Command::new("sh")
        .args(["-c", r#"ulimit -n 60 && exec "$0" "$@""#])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[cfg(target_os = "linux")]
fn few_descriptors() {
    let (event_loop, log) = (new_loop(), Log::default());
    let listener = event_loop.listen("127.0.0.1:0", log.session()).unwrap();
    let mut hoard: Vec<Peer> = Vec::new();
    while let Ok(stream) = TcpStream::connect(addr_of(&listener)) {
        hoard.push(Peer::new(stream));
    }
    // No descriptor is left, so nothing can be accepted.
    idle(&event_loop);
    assert_eq!(log.lines(), [""; 0]);
    assert!(listener.is_open());
    let before = event_loop.stats().turns;
    idle(&event_loop);
    assert!(event_loop.stats().turns - before < 10, "it spins");
    // Some are free again. One client is accepted, and the next one when that connection ends.
    let count = hoard.len();
    hoard.truncate(count - 5);
    run_until(&event_loop, || log.count("connect") >= 5);
    drop(hoard);
    run_until(&event_loop, || log.count("close") >= count);
    let mut peer = Peer::connect(addr_of(&listener));
    peer.send("served\r\n");
    run_until(&event_loop, || log.has("record served"));
}

#[test]
fn a_listener_has_no_peer_and_refuses_connections_once_closed() {
    let listener = Channel::listen("127.0.0.1:0").unwrap();
    let text = format!("{listener:?}");
    assert!(text.contains("Listening"), "{text}");
    assert!(listener.peer_addr().is_none());
    let addr = addr_of(&listener);
    listener.close();
    assert!(!listener.is_open());
    assert!(TcpStream::connect_timeout(&addr, Duration::from_secs(10)).is_err());
}

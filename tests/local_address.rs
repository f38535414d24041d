//! The local address and the socket options of outgoing connections.

mod common;

use std::cell::Cell;
use std::io;
#[cfg(target_os = "linux")]
use std::net::IpAddr;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;

#[cfg(target_os = "linux")]
use asynchat::Dispatcher;
use asynchat::sim::{Listener, Network};
use asynchat::{Channel, Close, Connector, EventLoop, Result};
use common::panicking::PanicsOnDrop;
use common::{Log, new_loop, run_to_end, run_until};

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A network with a server at an address of each family, and the address that a connection comes from.
fn from(local: &[SocketAddr], targets: &[SocketAddr]) -> Result<Option<SocketAddr>> {
    let network = Network::new(1);
    let event_loop = network.event_loop()?;
    let services = [
        network.listen("10.0.0.1:119")?,
        network.listen("[2001:db8::1]:119")?,
    ];
    let chat = Connector::new(targets)
        .bind(local)
        .connect_on(&event_loop, |_| |_: &[u8]| Ok(()))?;
    network.settle(&event_loop)?;
    assert_eq!(services.iter().filter_map(Listener::accept).count(), 1);
    Ok(chat.local_addr().and_then(|addr| addr.inet()))
}

#[test]
fn a_connection_comes_from_the_local_address_of_its_family() -> Result {
    let (v4, v6) = (addr("10.0.0.9:20"), addr("[2001:db8::9]:20"));
    let targets = [addr("[2001:db8::1]:119"), addr("10.0.0.1:119")];
    assert_eq!(from(&[v4, v6], &targets)?, Some(v6));
    // The target's address of the other family is skipped.
    assert_eq!(from(&[v4], &targets)?, Some(v4));
    let any_port = from(&[addr("10.0.0.9:0")], &targets)?.ok_or("it connects")?;
    assert_eq!(any_port.ip(), v4.ip());
    assert_ne!(any_port.port(), 0);
    Ok(())
}

fn failure(connector: Connector, event_loop: &EventLoop) -> Result<String> {
    let why = Rc::new(Cell::new(None));
    let seen = Rc::clone(&why);
    struct Client(Rc<Cell<Option<String>>>);
    impl asynchat::AsyncChat for Client {
        fn found_terminator(&mut self, _: &[u8]) -> Result {
            Ok(())
        }
        fn handle_close(&mut self, why: &Close) {
            self.0.set(Some(why.to_string()));
        }
    }
    connector.connect_on(event_loop, |_| Client(seen))?;
    event_loop.run()?;
    Ok(why.take().ok_or("it has ended")?)
}

#[test]
fn the_error_says_that_no_address_of_the_target_has_the_family_of_the_local_address() -> Result {
    let network = Network::new(1);
    let event_loop = network.event_loop()?;
    let connector = Connector::new(addr("[2001:db8::1]:119")).bind("10.0.0.9:0");
    let expected = "could not connect: connect to [2001:db8::1]:119: \
                    the local address is of another address family";
    assert_eq!(failure(connector, &event_loop)?, expected);
    // If an address of the right family fails, the error is that of this address.
    let targets = [addr("10.0.0.1:119"), addr("[2001:db8::1]:119")];
    let connector = Connector::new(&targets[..]).bind("10.0.0.9:0");
    let error = failure(connector, &event_loop)?;
    assert!(
        error.contains("10.0.0.1:119: connection refused"),
        "{error}"
    );
    Ok(())
}

#[test]
fn a_local_address_that_is_a_name_is_an_error_at_once() -> Result {
    let event_loop = new_loop();
    for local in ["localhost:0", "no port"] {
        let connector = Connector::new("127.0.0.1:9").bind(local);
        let error = connector.connect_on(&event_loop, |_| |_: &[u8]| Ok(()));
        let error = error.expect_err("it is no address").to_string();
        assert!(error.starts_with(&format!("bind to {local}: ")), "{error}");
        assert!(Channel::connect_from(local, "127.0.0.1:9").is_err());
    }
    let connector = Connector::new("unix:/run/x.sock").bind("127.0.0.1:0");
    let error = connector.connect_on(&event_loop, |_| |_: &[u8]| Ok(()));
    let error = error.expect_err("a path has no port").to_string();
    assert!(
        error.starts_with("connect to unix:/run/x.sock: "),
        "{error}"
    );
    assert!(event_loop.is_empty());
    Ok(())
}

/// All of 127.0.0.0/8 is local on Linux.
#[cfg(target_os = "linux")]
#[test]
fn both_layers_connect_from_a_local_address() -> Result {
    struct Client(Channel, Log);
    impl Dispatcher for Client {
        fn channel(&self) -> &Channel {
            &self.0
        }
        fn handle_connect(&mut self) -> Result {
            self.1.add("connect");
            Ok(())
        }
    }
    let (event_loop, log) = (new_loop(), Log::default());
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let local: IpAddr = "127.0.0.9".parse()?;
    let target = listener.local_addr()?;
    Connector::new(target)
        .bind((local, 0))
        .connect_on(&event_loop, log.session())?;
    let channel = Channel::connect_from((local, 0), target)?;
    event_loop.register(Client(channel, log.clone()))?;
    run_until(&event_loop, || log.count("connect") == 2);
    for _ in 0..2 {
        let (_stream, peer) = listener.accept()?;
        assert_eq!(peer.ip(), local);
    }

    // An address of another host.
    let connector = Connector::new(target).bind("192.0.2.1:0");
    let event_loop = new_loop();
    let error = failure(connector, &event_loop)?;
    assert!(
        error.contains(&format!("connect to {target}: from 192.0.2.1:0: ")),
        "{error}"
    );
    Ok(())
}

#[test]
fn each_new_socket_is_configured_before_it_connects() -> Result {
    let (event_loop, log) = (new_loop(), Log::default());
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let calls = log.clone();
    let connector = Connector::new(listener.local_addr()?).configure(move |socket| {
        let is_connected = socket.peer_addr().is_ok();
        calls.add(format!("configure, connected: {is_connected}"));
        socket.set_keepalive(true)
    });
    connector.connect_on(&event_loop, log.session())?;
    run_until(&event_loop, || log.has("connect"));
    assert_eq!(log.lines(), ["configure, connected: false", "connect"]);
    Ok(())
}

#[test]
fn a_connection_whose_socket_cannot_be_configured_fails() -> Result {
    for panics in [false, true] {
        let event_loop = new_loop();
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let dropped = Rc::new(());
        let owned = Rc::clone(&dropped);
        let connector = Connector::new(listener.local_addr()?).configure(move |_| {
            let _ = &owned;
            assert!(!panics, "no such option");
            Err(io::Error::other("no such option"))
        });
        let error = failure(connector, &event_loop)?;
        assert!(error.contains("no such option"), "{error}");
        run_to_end(&event_loop);
        assert_eq!(Rc::strong_count(&dropped), 1);
    }
    Ok(())
}

#[test]
fn errors_of_configure_are_contained_whatever_their_destructors_do() -> Result {
    let event_loop = new_loop();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let error = failure(
        Connector::new(vec![addr, addr]).configure(|_| Err(io::Error::other(PanicsOnDrop))),
        &event_loop,
    )?;
    assert!(error.contains("its destructor panics"), "{error}");
    run_to_end(&event_loop);
    Ok(())
}

/// `configure` runs user code in the middle of an attempt.
#[test]
fn a_channel_may_be_closed_in_configure() -> Result {
    let tcp = TcpListener::bind("127.0.0.1:0")?;
    let targets = vec![asynchat::Target::from(tcp.local_addr()?)];
    #[cfg(unix)]
    let (folder, path) = {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("x.sock");
        (folder, path)
    };
    #[cfg(unix)]
    let _unix = std::os::unix::net::UnixListener::bind(&path)?;
    #[cfg(unix)]
    let targets = [targets, vec![path.into()]].concat();
    let ends: [fn(&EventLoop, &asynchat::Chat); 4] = [
        |_, chat| chat.close(),
        |_, chat| chat.close_with("no"),
        |event_loop, _| event_loop.close_all(),
        |event_loop, _| event_loop.shutdown(std::time::Duration::ZERO),
    ];
    for (target, end) in targets
        .iter()
        .flat_map(|target| ends.map(|end| (target, end)))
    {
        let (event_loop, log) = (new_loop(), Log::default());
        let slot = Rc::<std::cell::RefCell<Option<asynchat::Chat>>>::default();
        let (its_loop, its_chat) = (event_loop.clone(), Rc::clone(&slot));
        let connector = Connector::new(target.clone()).configure(move |_| {
            if let Some(chat) = its_chat.borrow_mut().take() {
                end(&its_loop, &chat);
            }
            Ok(())
        });
        let chat = connector.connect_on(&event_loop, log.session())?;
        slot.replace(Some(chat.clone()));
        run_to_end(&event_loop);
        assert_eq!(log.count("connect"), 0, "{target}");
        assert_eq!(log.count("close"), 1, "{target}");
        assert!(!chat.is_open());
    }
    #[cfg(unix)]
    drop(folder);
    Ok(())
}

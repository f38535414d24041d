//! Outgoing connections have exactly one outcome: up, or `ConnectFailed`.
//!
//! Not covered: a TCP connection to itself counts as refused. A connector binds no local port, so
//! the kernel would have to choose the port that is connected to, which takes tens of thousands of
//! attempts.

mod common;

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use asynchat::{
    Addr, AsyncChat, Backoff, Channel, Chat, Close, Connector, Dispatcher, Error, Result, Target,
};
#[cfg(target_os = "linux")]
use common::skip::skipped;
use common::{Log, Peer, new_loop, refusing, run_to_end, run_until, tcp_pair};

/// A listener of the standard library, and its address.
fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// Stores the error of a failed connection.
struct Fails(Rc<RefCell<Vec<Error>>>);

impl AsyncChat for Fails {
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(())
    }
    fn handle_connect(&mut self) -> Result {
        panic!("the connection must not come up");
    }
    fn handle_close(&mut self, why: &Close) {
        let Close::ConnectFailed(error) = why else {
            panic!("{why}");
        };
        let copy = Error::new(error.to_string());
        let copy = match error.io_kind() {
            Some(kind) => Error::from(std::io::Error::new(kind, error.to_string())),
            None => copy,
        };
        self.0.borrow_mut().push(copy);
    }
}

/// Connects, which has to fail. Returns the error.
#[track_caller]
fn failure_of(connector: Connector) -> Error {
    let event_loop = new_loop();
    let failures: Rc<RefCell<Vec<Error>>> = Rc::default();
    let fails = Fails(Rc::clone(&failures));
    connector.connect_on(&event_loop, |_| fails).unwrap();
    run_to_end(&event_loop);
    let mut failures = failures.take();
    assert_eq!(failures.len(), 1);
    failures.remove(0)
}

#[test]
fn a_refused_connection_fails_once_and_its_error_names_the_address() {
    let (_socket, addr) = refusing();
    let error = failure_of(Connector::new(addr));
    assert_eq!(error.io_kind(), Some(ErrorKind::ConnectionRefused));
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
}

#[test]
fn when_all_addresses_fail_the_error_is_that_of_the_last() {
    let ((_a, first), (_b, second)) = (refusing(), refusing());
    let error = failure_of(Connector::new(vec![first, second]));
    assert!(error.to_string().contains(&second.to_string()), "{error}");
}

#[test]
fn several_addresses_are_tried_in_turn() {
    let (event_loop, log) = (new_loop(), Log::default());
    let ((_socket, refused), (listener, good)) = (refusing(), listener());
    let chat = event_loop
        .connect(vec![refused, refused, good], log.session())
        .unwrap();
    chat.push("hello");
    run_until(&event_loop, || log.has("connect"));
    let mut peer = Peer::new(listener.accept().unwrap().0);
    peer.expect(&event_loop, "hello");
    assert_eq!(chat.peer_addr().and_then(|addr| addr.inet()), Some(good));
    drop(peer);
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "eof ", "close Eof"]);
}

#[test]
fn a_host_name_is_resolved() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (listener, addr) = listener();
    let target = format!("localhost:{}", addr.port());
    let chat = event_loop.connect(target, log.session()).unwrap();
    chat.push("hello");
    run_until(&event_loop, || log.has("connect"));
    Peer::new(listener.accept().unwrap().0).expect(&event_loop, "hello");

    let target = Target::from(("localhost", addr.port()));
    let again = Log::default();
    event_loop.connect(target, again.session()).unwrap();
    run_until(&event_loop, || again.has("connect"));
}

#[test]
fn an_address_that_cannot_be_resolved_fails_once() {
    let error = failure_of(Connector::new("[fe80::1%nowhere]:9"));
    assert!(error.to_string().contains("fe80::1%nowhere"), "{error}");
}

#[test]
fn a_target_that_is_no_address_is_an_error_at_once() {
    let event_loop = new_loop();
    for target in [
        Target::from("a name without a port"),
        Target::from(Addr::Unix(None)),
        Target::from(Addr::Abstract([0xff].into())),
    ] {
        let text = format!("connect to {target}: ");
        let connector = || Connector::new(target.clone());
        let chat = connector().connect_on(&event_loop, |_| |_: &[u8]| Ok(()));
        let error = chat.expect_err("it is no address");
        assert!(error.to_string().starts_with(&text), "{error}");
        assert_eq!(error.io_kind(), Some(ErrorKind::InvalidInput));
        // No number of tries would make it one.
        let again =
            connector().reconnect_on(&event_loop, Backoff::default(), |_| |_: &[u8]| Ok(()));
        let error = again.expect_err("it is no address");
        assert!(error.to_string().starts_with(&text), "{error}");
    }
    assert!(event_loop.is_empty());
}

#[test]
fn the_address_of_a_listener_can_be_connected_to() {
    let (event_loop, log) = (new_loop(), Log::default());
    let server = event_loop.listen("127.0.0.1:0", log.session()).unwrap();
    let addr = server.local_addr().unwrap();
    assert_eq!(addr.port(), addr.inet().map(|addr| addr.port()));
    let client = Log::default();
    event_loop.connect(&addr, client.session()).unwrap();
    event_loop.connect(addr, client.session()).unwrap();
    run_until(&event_loop, || client.count("connect") == 2);
}

/// RFC 4007: the scope of a link-local address may be the name of an interface.
#[cfg(target_os = "linux")]
#[test]
fn an_address_with_a_scope_is_not_resolved_as_a_name() {
    for scoped in ["[fe80::1%lo]:9", "[fe80::1%1]:9"] {
        let error = failure_of(Connector::new(scoped));
        assert!(
            error.to_string().contains("connect to [fe80::1%1]:9"),
            "{error}"
        );
        let scoped = scoped.replace(":9", ":0");
        // No machine has that address, or it can be bound.
        let bound = [
            Channel::listen(&scoped),
            Channel::bind(&scoped),
            new_loop().listen(&scoped, |_| |_: &[u8]| Ok(())),
        ];
        for error in bound.into_iter().filter_map(std::result::Result::err) {
            assert!(error.to_string().contains("[fe80::1%1]:0"), "{error}");
        }
    }
    let error = failure_of(Connector::new("[fe80::1%nowhere]:9"));
    assert!(error.to_string().contains("fe80::1%nowhere"), "{error}");
}

/// Uses the link-local address of an interface of this machine, with the name of the interface as scope.
#[cfg(target_os = "linux")]
#[test]
fn a_link_local_address_is_served_and_connected_to() {
    let table = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let link_local = table.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let digits = fields.next().filter(|it| it.starts_with("fe80"))?;
        let bits = u128::from_str_radix(digits, 16).ok()?;
        Some((std::net::Ipv6Addr::from(bits), fields.last()?))
    });
    let Some((addr, interface)) = link_local else {
        return skipped("no interface has a link-local address");
    };
    let (event_loop, near, far) = (new_loop(), Log::default(), Log::default());
    let at = |port| format!("[{addr}%{interface}]:{port}");
    let listener = event_loop.listen(at(0), far.session()).unwrap();
    let port = common::addr_of(&listener).port();
    event_loop.connect(at(port), near.session()).unwrap();
    run_until(&event_loop, || near.has("connect") && far.has("connect"));
}

#[test]
fn an_empty_address_list_is_an_error_at_once() {
    let event_loop = new_loop();
    let nowhere = Vec::<SocketAddr>::new();
    let chat = event_loop.connect(nowhere.clone(), |_| |_: &[u8]| Ok(()));
    assert!(chat.is_err());
    assert!(Channel::connect(&nowhere[..]).is_err());
    assert!(event_loop.is_empty());
}

/// A listener whose backlog is full, and the sockets that fill it: the kernel leaves further
/// attempts unanswered.
#[cfg(target_os = "linux")]
fn not_answering() -> (SocketAddr, [socket2::Socket; 5]) {
    use socket2::{Domain, Socket, Type};

    let new = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let listener = new();
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let addr = listener.local_addr().unwrap();
    let fill = || {
        let socket = new();
        socket.set_nonblocking(true).unwrap();
        // Connecting, up, or unanswered: the first one or two fill the backlog.
        let _ = socket.connect(&addr);
        socket
    };
    let sockets = [fill(), fill(), fill(), fill(), listener];
    (addr.as_socket().unwrap(), sockets)
}

#[cfg(target_os = "linux")]
#[test]
fn a_connection_that_is_not_answered_fails_at_its_deadline() {
    let (addr, _held) = not_answering();
    let error = failure_of(Connector::new(addr).connect_timeout(Duration::from_millis(100)));
    assert_eq!(error.io_kind(), Some(ErrorKind::TimedOut));
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn the_next_address_is_tried_if_one_does_not_answer() {
    let (event_loop, log) = (new_loop(), Log::default());
    let ((silent, _held), (_socket, refused)) = (not_answering(), refusing());
    let (listener, good) = listener();
    let connector = Connector::new(vec![silent, refused, good]);
    let chat = connector.connect_on(&event_loop, log.session()).unwrap();
    chat.push("hello");
    run_until(&event_loop, || log.has("connect"));
    assert_eq!(chat.peer_addr().and_then(|addr| addr.inet()), Some(good));
    let mut peer = Peer::new(listener.accept().unwrap().0);
    peer.expect(&event_loop, "hello");
    peer.send("welcome\r\n");
    drop(peer);
    run_to_end(&event_loop);
    assert_eq!(
        log.lines(),
        ["connect", "record welcome", "eof ", "close Eof"]
    );
}

#[test]
fn the_connect_deadline_ends_when_the_connection_is_up() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (listener, addr) = listener();
    let connector = Connector::new(addr).connect_timeout(Duration::from_millis(50));
    let chat = connector.connect_on(&event_loop, log.session()).unwrap();
    run_until(&event_loop, || log.has("connect"));
    let after = Log::default();
    let timer_log = after.clone();
    event_loop.call_later(Duration::from_millis(100), move || timer_log.add("later"));
    run_until(&event_loop, || after.has("later"));
    assert!(chat.is_open());
    drop(listener);
}

#[test]
fn a_connection_closed_while_connecting_gets_handle_close_only() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (_listener, addr) = listener();
    let chat = event_loop.connect(addr, log.session()).unwrap();
    chat.push("never sent");
    // Its handler is made and the attempt has begun, but the poller has not been asked yet.
    event_loop.run_once(Duration::ZERO).unwrap();
    chat.close();
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["close Dropped"]);
}

#[test]
fn accepted_and_outgoing_chats_get_handle_connect() {
    let (event_loop, near, far) = (new_loop(), Log::default(), Log::default());
    let listener = event_loop.listen("127.0.0.1:0", far.session()).unwrap();
    let chat = event_loop
        .connect(common::addr_of(&listener), near.session())
        .unwrap();
    assert!(chat.is_open());
    run_until(&event_loop, || near.has("connect") && far.has("connect"));
    listener.close();
    chat.close();
    run_to_end(&event_loop);
    assert_eq!(near.lines(), ["connect", "close Local"]);
    assert_eq!(far.lines(), ["connect", "eof ", "close Eof"]);
}

#[test]
fn a_timer_set_before_the_handler_was_made_fires() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (_listener, addr) = listener();
    let chat = event_loop.connect(addr, log.session()).unwrap();
    chat.call_later(Duration::ZERO);
    run_until(&event_loop, || log.has("timer"));
}

#[test]
fn a_call_posted_before_the_connection_is_up_reaches_its_handler() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (_listener, addr) = listener();
    let chat = event_loop.connect(addr, log.session()).unwrap();
    let visited = log.clone();
    chat.post(move |_: &mut common::Session| {
        visited.add("posted call");
        Ok(())
    })
    .unwrap();
    run_until(&event_loop, || log.has("connect"));
    assert_eq!(log.count("posted call"), 1);
}

/// Logs the callbacks of a dispatcher.
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
    fn handle_read(&mut self) -> Result {
        let mut buffer = [0; 100];
        let count = self.channel.recv(&mut buffer)?;
        self.log.add(format!(
            "read {}",
            String::from_utf8_lossy(&buffer[..count])
        ));
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(format!("close {}", common::name(why)));
    }
}

#[test]
fn handle_connect_is_called_for_an_outgoing_connection_of_a_dispatcher_and_not_for_an_adopted_one()
{
    let (event_loop, log) = (new_loop(), Log::default());
    let (listener, addr) = listener();
    let channel = Channel::connect(addr).unwrap();
    assert!(channel.send(b"too early").is_err());
    let log_clone = log.clone();
    event_loop
        .register(Recorder {
            channel,
            log: log_clone,
        })
        .unwrap();
    run_until(&event_loop, || log.has("connect"));
    Peer::new(listener.accept().unwrap().0).send("hello");
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "read hello", "read ", "close Eof"]);

    let log = Log::default();
    let (near, far) = tcp_pair();
    let channel = Channel::adopt(near).unwrap();
    let log_clone = log.clone();
    event_loop
        .register(Recorder {
            channel,
            log: log_clone,
        })
        .unwrap();
    Peer::new(far).send("hello");
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["read hello", "read ", "close Eof"]);
}

#[test]
fn a_dispatcher_tries_several_addresses_and_fails_once() {
    let (event_loop, log) = (new_loop(), Log::default());
    let ((_a, first), (_b, second), (_listener, good)) = (refusing(), refusing(), listener());
    for addrs in [&[first, second][..], &[first, good]] {
        let channel = Channel::connect(addrs).unwrap();
        let log = log.clone();
        event_loop.register(Recorder { channel, log }).unwrap();
    }
    run_until(&event_loop, || log.lines().len() == 2);
    assert_eq!(
        (log.count("connect"), log.count("close ConnectFailed")),
        (1, 1)
    );
}

/// A client that connects again from `handle_close` when it was refused.
struct Retries {
    chat: Chat,
    left: Vec<SocketAddr>,
    log: Log,
}

impl AsyncChat for Retries {
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(())
    }
    fn handle_connect(&mut self) -> Result {
        self.log.add("connect");
        self.chat.close();
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(common::name(why));
        if let Some(next) = self.left.pop() {
            let (left, log) = (self.left.clone(), self.log.clone());
            let again = asynchat::connect(next, |chat| Retries { chat, left, log });
            again.expect("handle_close may connect");
        }
    }
}

#[test]
fn a_client_may_connect_again_from_handle_close() {
    let (event_loop, log) = (new_loop(), Log::default());
    let ((_socket, refused), (_listener, good)) = (refusing(), listener());
    let (left, made) = (vec![good, refused], log.clone());
    event_loop
        .connect(refused, |chat| Retries {
            chat,
            left,
            log: made,
        })
        .unwrap();
    run_to_end(&event_loop);
    assert_eq!(
        log.lines(),
        ["ConnectFailed", "ConnectFailed", "connect", "Local"]
    );
}

//! Layer 1: a socket and its callbacks. Many of these tests are those of CPython's
//! `test_asyncore.py`; the others of that file are in `asyncore.rs`.

mod common;

use std::cell::Cell;
#[cfg(target_os = "linux")]
use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

#[cfg(unix)]
use asynchat::{Addr, Socket};
use asynchat::{Channel, Close, Dispatcher, Error, EventLoop, Result};
use common::subscribing::with_subscriber;
use common::{Log, Peer, failure, idle, name, new_loop, run_to_end, run_until, tcp_pair};

/// Has the interest that the test sets, and logs its callbacks.
struct Interested {
    channel: Channel,
    reads: bool,
    writes: Rc<Cell<bool>>,
    log: Log,
}

impl Dispatcher for Interested {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn readable(&self) -> bool {
        self.reads
    }
    fn writable(&self) -> bool {
        self.writes.get()
    }
    fn handle_read(&mut self) -> Result {
        self.log.add("read");
        self.channel.recv(&mut [0; 10])?;
        Ok(())
    }
    fn handle_write(&mut self) -> Result {
        self.log.add("write");
        self.writes.set(false);
        Ok(())
    }
}

/// Registers an `Interested`. Returns its channel, its interest in writing, its log and its peer.
fn interested(event_loop: &EventLoop, reads: bool) -> (Channel, Rc<Cell<bool>>, Log, Peer) {
    let (near, far) = tcp_pair();
    let channel = Channel::adopt(near).unwrap();
    let (writes, log) = (Rc::new(Cell::new(false)), Log::default());
    let interested = Interested {
        channel: channel.clone(),
        reads,
        writes: Rc::clone(&writes),
        log: log.clone(),
    };
    event_loop.register(interested).unwrap();
    (channel, writes, log, Peer::new(far))
}

#[test]
fn input_is_not_reported_to_a_dispatcher_that_is_not_readable() {
    let event_loop = new_loop();
    let (_, _, log, mut peer) = interested(&event_loop, false);
    peer.send("unread");
    let before = event_loop.stats().events;
    idle(&event_loop);
    assert_eq!((log.lines().len(), event_loop.stats().events), (0, before));
}

#[test]
fn writable_is_called_after_update_interest_and_after_each_callback() {
    let event_loop = new_loop();
    let (channel, writes, log, mut peer) = interested(&event_loop, true);
    idle(&event_loop);
    assert_eq!(log.lines().len(), 0);
    // The loop calls `writable` only after `update_interest`.
    writes.set(true);
    channel.update_interest();
    run_until(&event_loop, || log.has("write"));
    // The loop calls `writable` after each callback of the dispatcher.
    writes.set(true);
    peer.send("x");
    run_until(&event_loop, || log.count("write") == 2);
    idle(&event_loop);
    assert_eq!(log.lines(), ["write", "read", "write"]);
}

#[test]
fn input_that_one_callback_leaves_is_reported_again() {
    let event_loop = new_loop();
    let (channel, _, log, mut peer) = interested(&event_loop, true);
    peer.send("x".repeat(25));
    run_until(&event_loop, || channel.stats().bytes_in == 25);
    idle(&event_loop);
    assert_eq!(log.count("read"), 3);
}

/// `test_closeall_default`.
#[test]
fn close_all_closes_the_channels_of_the_default_loop() {
    let log = Log::default();
    let mut far = Vec::new();
    for _ in 0..10 {
        let (near, other) = tcp_pair();
        let channel = Channel::adopt(near).unwrap();
        asynchat::register(Closes(channel, log.clone())).unwrap();
        far.push(other);
    }
    asynchat::close_all();
    asynchat::run().unwrap();
    assert_eq!(log.lines(), ["close Local"; 10]);
}

/// Logs its close.
struct Closes(Channel, Log);

impl Dispatcher for Closes {
    fn channel(&self) -> &Channel {
        &self.0
    }
    fn handle_close(&mut self, why: &Close) {
        self.1.add(format!("close {}", name(why)));
    }
}

/// Implements the required method only.
struct Bare(Channel);

impl Dispatcher for Bare {
    fn channel(&self) -> &Channel {
        &self.0
    }
}

/// `test_basic`. Unlike in asyncore, a dispatcher is not writable by default.
#[test]
fn a_dispatcher_reads_and_does_not_write_by_default() {
    let bare = Bare(Channel::listen("127.0.0.1:0").unwrap());
    assert!(bare.readable());
    assert!(!bare.writable());
}

/// `test_repr`.
#[test]
fn debug_output_of_a_channel_has_its_id_and_its_peer() {
    let (event_loop, (near, far)) = (new_loop(), tcp_pair());
    let channel = Channel::adopt(near).unwrap();
    let id = event_loop.register(Bare(channel.clone())).unwrap();
    assert_eq!(channel.peer_addr().unwrap().inet(), far.local_addr().ok());
    let text = format!("{channel:?}");
    assert!(text.contains(&format!("{id:?}")), "{text}");
    assert!(
        text.contains(&far.local_addr().unwrap().to_string()),
        "{text}"
    );
}

/// Captures the log of the library.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(data)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Captured {
    /// Returns what is logged while `act` runs.
    fn during(act: impl FnOnce(&EventLoop)) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        with_subscriber(subscriber, || act(&new_loop()));
        let text = captured.0.lock().unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// `test_unhandled`: an event without a handler is logged.
#[test]
fn an_event_without_a_handler_is_logged() {
    let text = Captured::during(|event_loop| {
        let (near, far) = tcp_pair();
        let reads = Bare(Channel::adopt(near).unwrap());
        event_loop.register(reads).unwrap();
        Peer::new(far).send("x");
        let accepts = Channel::listen("127.0.0.1:0").unwrap();
        let addr = common::addr_of(&accepts);
        event_loop.register(Bare(accepts)).unwrap();
        let mut peer = Peer::connect(addr);
        peer.wait_for_end(event_loop).unwrap();
    });
    assert!(text.contains("WARN"), "{text}");
    assert!(text.contains("unhandled read event"), "{text}");
    assert!(
        text.contains("handle_accepted is not implemented"),
        "{text}"
    );
}

/// `test_log`, `test_log_info`: tracing replaces these methods. An error without a handler is
/// logged.
#[test]
fn an_error_without_a_handler_is_logged() {
    struct Fails(Channel);
    impl Dispatcher for Fails {
        fn channel(&self) -> &Channel {
            &self.0
        }
        fn handle_read(&mut self) -> Result {
            Err(Error::new(failure()).context("read the input").into())
        }
    }
    let text = Captured::during(|event_loop| {
        let (near, far) = tcp_pair();
        event_loop
            .register(Fails(Channel::adopt(near).unwrap()))
            .unwrap();
        drop(far);
        run_to_end(event_loop);
    });
    assert!(text.contains("read the input: it was to fail"), "{text}");
}

/// `test_strerror` (bpo-8573).
#[test]
fn an_error_of_every_number_has_a_message() {
    for number in [1, 11, 9999] {
        let error = Error::from(std::io::Error::from_raw_os_error(number));
        assert!(!error.to_string().is_empty());
        assert!(
            !Close::Io(std::io::Error::from_raw_os_error(number))
                .to_string()
                .is_empty()
        );
    }
}

/// `test_set_reuse_addr`: a restarted server gets its port back although old connections are in
/// TIME_WAIT. On Unix this is always so; in asyncore it was an option.
#[cfg(unix)]
#[test]
fn a_restarted_listener_gets_its_port_back() {
    let event_loop = new_loop();
    let (log, first) = (Log::default(), Channel::listen("127.0.0.1:0").unwrap());
    let addr = common::addr_of(&first);
    struct ClosesItsConnection(Channel, Log);
    impl Dispatcher for ClosesItsConnection {
        fn channel(&self) -> &Channel {
            &self.0
        }
        fn handle_accepted(&mut self, socket: Socket, _: Addr) -> Result {
            self.1.add("accepted");
            drop(socket);
            Ok(())
        }
    }
    event_loop
        .register(ClosesItsConnection(first.clone(), log.clone()))
        .unwrap();
    let mut peer = Peer::connect(addr);
    peer.wait_for_end(&event_loop).unwrap();
    drop(peer);
    first.close();
    run_to_end(&event_loop);
    assert!(log.has("accepted"));
    assert!(Channel::listen(addr).is_ok());
}

/// `test_create_socket`: a child process inherits no socket.
#[cfg(target_os = "linux")]
#[test]
fn sockets_are_not_inherited() {
    let event_loop = new_loop();
    let listener = Channel::listen("127.0.0.1:0").unwrap();
    let addr = common::addr_of(&listener);
    let log = Log::default();
    let chat = event_loop.connect(addr, log.session()).unwrap();
    let accepted: Rc<RefCell<Vec<Socket>>> = Rc::default();
    struct Keeps(Channel, Rc<RefCell<Vec<Socket>>>);
    impl Dispatcher for Keeps {
        fn channel(&self) -> &Channel {
            &self.0
        }
        fn handle_accepted(&mut self, socket: Socket, _: Addr) -> Result {
            self.1.borrow_mut().push(socket);
            Ok(())
        }
    }
    event_loop
        .register(Keeps(listener, Rc::clone(&accepted)))
        .unwrap();
    run_until(&event_loop, || {
        log.has("connect") && accepted.borrow().len() == 1
    });
    assert!(chat.is_open());
    let listing = std::process::Command::new("ls")
        .args(["-l", "/proc/self/fd"])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
    assert!(listing.contains("/dev/null"), "{listing}");
    assert!(
        !listing.contains("socket:") && !listing.contains("anon_inode"),
        "{listing}"
    );
}

/// `test_send` of `dispatcher_with_send`: data that is pushed before the connection is up arrives
/// in order. In this crate a `Chat` does that.
#[test]
fn data_pushed_before_the_connection_is_up_arrives_in_order() {
    let event_loop = new_loop();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let log = Log::default();
    let chat = event_loop.connect(addr, log.session()).unwrap();
    let data = "Suppose there isn't a 16-ton weight?";
    chat.push(data);
    chat.push(data);
    chat.push("\n");
    run_until(&event_loop, || log.has("connect"));
    let mut peer = Peer::new(listener.accept().unwrap().0);
    peer.expect(&event_loop, format!("{data}{data}\n"));
    assert_eq!(chat.queued(), 0);
}

/// A posted call is a callback like any other: bpo-16133.
#[test]
fn would_block_from_a_posted_call_does_not_end_the_channel() {
    struct Quiet(Channel, Log);
    impl Dispatcher for Quiet {
        fn channel(&self) -> &Channel {
            &self.0
        }
        fn handle_close(&mut self, why: &Close) {
            self.1.add(format!("close {}", name(why)));
        }
    }
    let (event_loop, log) = (new_loop(), Log::default());
    let (socket, _peer) = tcp_pair();
    let channel = Channel::adopt(socket).unwrap();
    let id = event_loop
        .register(Quiet(channel.clone(), log.clone()))
        .unwrap();
    let called = Arc::new(Mutex::new(false));
    let calls = Arc::clone(&called);
    let receive = move |quiet: &mut Quiet| {
        *calls.lock().unwrap() = true;
        quiet.0.recv(&mut [0; 8])?;
        Ok(())
    };
    event_loop.remote().post_to(id, receive).unwrap();
    run_until(&event_loop, || *called.lock().unwrap());
    assert!(channel.is_open());
    assert!(log.lines().is_empty());
}

#[test]
fn a_posted_call_gets_the_dispatcher() {
    let event_loop = new_loop();
    let (near, _far) = tcp_pair();
    let channel = Channel::adopt(near).unwrap();
    let early = channel.post(|_: &mut Interested| Ok(())).unwrap_err();
    assert!(early.to_string().contains("not registered"), "{early}");
    let log = Log::default();
    let interested = Interested {
        channel: channel.clone(),
        reads: false,
        writes: Rc::default(),
        log: log.clone(),
    };
    event_loop.register(interested).unwrap();
    let post = || {
        channel.post(|interested: &mut Interested| {
            interested.log.add("posted");
            Ok(())
        })
    };
    post().unwrap();
    assert_eq!(log.lines().len(), 0, "a handle makes no callback");
    run_until(&event_loop, || log.has("posted"));
    let other = channel.post(|_: &mut Other| Ok(())).unwrap_err();
    assert!(other.to_string().contains("Other"), "{other}");
    // A call that fails ends the channel, as any callback does.
    channel.post(|_: &mut Interested| Err(failure())).unwrap();
    run_to_end(&event_loop);
    let late = post().unwrap_err();
    assert!(late.to_string().contains("ended"), "{late}");
    assert_eq!(log.lines(), ["posted"]);
}

/// A dispatcher that no test registers.
struct Other(Channel);

impl Dispatcher for Other {
    fn channel(&self) -> &Channel {
        &self.0
    }
}

#[test]
fn a_post_to_the_listener_of_a_server_is_an_error() {
    let event_loop = EventLoop::new().unwrap();
    let listener = event_loop
        .listen("127.0.0.1:0", |_| |_: &[u8]| Ok(()))
        .unwrap();
    assert!(listener.post(|_: &mut Other| Ok(())).is_err());
}

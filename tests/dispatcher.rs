//! Layer 1: a socket and its callbacks. Much of it is what CPython's `test_asyncore.py` holds
//! asyncore to; the rest of that is in `asyncore.rs`.

mod common;

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use asynchat::{Addr, Channel, Close, Dispatcher, Error, EventLoop, Result, Socket};
use common::{Log, Peer, failure, idle, name, new_loop, run_to_end, run_until, tcp_pair};

/// Wants what it is told to want, and counts what it gets.
struct Wants {
    channel: Channel,
    reads: bool,
    writes: Rc<Cell<bool>>,
    log: Log,
}

impl Dispatcher for Wants {
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

/// A registered `Wants`; its channel, its wish to write, its log and its peer.
fn wants(event_loop: &EventLoop, reads: bool) -> (Channel, Rc<Cell<bool>>, Log, Peer) {
    let (near, far) = tcp_pair();
    let channel = Channel::adopt(near).unwrap();
    let (writes, log) = (Rc::new(Cell::new(false)), Log::default());
    let wants = Wants {
        channel: channel.clone(),
        reads,
        writes: Rc::clone(&writes),
        log: log.clone(),
    };
    event_loop.register(wants).unwrap();
    (channel, writes, log, Peer::new(far))
}

#[test]
fn a_dispatcher_that_does_not_want_to_read_is_not_told_of_input() {
    let event_loop = new_loop();
    let (_, _, log, mut peer) = wants(&event_loop, false);
    peer.send("unread");
    let before = event_loop.stats().events;
    idle(&event_loop);
    assert_eq!((log.lines().len(), event_loop.stats().events), (0, before));
}

#[test]
fn writable_is_asked_again_after_a_callback_and_a_touch() {
    let event_loop = new_loop();
    let (channel, writes, log, mut peer) = wants(&event_loop, true);
    idle(&event_loop);
    assert_eq!(log.lines().len(), 0);
    // Nobody has told the loop, so it need not ask.
    writes.set(true);
    channel.update_interest();
    run_until(&event_loop, || log.has("write"));
    // Its own callback is followed by the question.
    writes.set(true);
    peer.send("x");
    run_until(&event_loop, || log.count("write") == 2);
    idle(&event_loop);
    assert_eq!(log.lines(), ["write", "read", "write"]);
}

#[test]
fn what_is_not_read_in_one_callback_is_told_again() {
    let event_loop = new_loop();
    let (channel, _, log, mut peer) = wants(&event_loop, true);
    peer.send("x".repeat(25));
    run_until(&event_loop, || channel.stats().bytes_in == 25);
    idle(&event_loop);
    assert_eq!(log.count("read"), 3);
}

/// `test_closeall_default`.
#[test]
fn close_all_of_the_default_loop() {
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

/// Says when it closes.
struct Closes(Channel, Log);

impl Dispatcher for Closes {
    fn channel(&self) -> &Channel {
        &self.0
    }
    fn handle_close(&mut self, why: &Close) {
        self.1.add(format!("close {}", name(why)));
    }
}

/// Has nothing but what it must have.
struct Bare(Channel);

impl Dispatcher for Bare {
    fn channel(&self) -> &Channel {
        &self.0
    }
}

/// `test_basic`; but a dispatcher does not write unless it says so.
#[test]
fn a_dispatcher_reads_and_does_not_write_by_default() {
    let bare = Bare(Channel::listen("127.0.0.1:0").unwrap());
    assert!(bare.readable());
    assert!(!bare.writable());
}

/// `test_repr`.
#[test]
fn a_channel_shows_what_it_is() {
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

/// What the library logs.
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
    /// The log of what this does.
    fn during(act: impl FnOnce(&EventLoop)) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || act(&new_loop()));
        let text = captured.0.lock().unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// `test_unhandled`: what nobody handles is logged.
#[test]
fn what_is_not_handled_is_logged() {
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

/// `test_log`, `test_log_info`: there is a facade for that. An error that nobody handles is told.
#[test]
fn an_error_that_is_not_handled_is_logged() {
    struct Fails(Channel);
    impl Dispatcher for Fails {
        fn channel(&self) -> &Channel {
            &self.0
        }
        fn handle_read(&mut self) -> Result {
            Err(failure().context("read the news"))
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
    assert!(text.contains("read the news: it was to fail"), "{text}");
}

/// `test_strerror` (bpo-8573).
#[test]
fn an_error_of_any_number_has_a_text() {
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

/// `test_set_reuse_addr`: a server that is started again gets its port back, though connections of
/// its forerunner linger. On Unix always, where asyncore had to be asked.
#[cfg(unix)]
#[test]
fn a_port_can_be_listened_on_again() {
    let event_loop = new_loop();
    let (log, first) = (Log::default(), Channel::listen("127.0.0.1:0").unwrap());
    let addr = common::addr_of(&first);
    struct ClosesFirst(Channel, Log);
    impl Dispatcher for ClosesFirst {
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
        .register(ClosesFirst(first.clone(), log.clone()))
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

/// `test_send` of `dispatcher_with_send`: what is sent before the connection is up arrives in
/// order when it is. Here that is what a `Chat` does.
#[test]
fn what_is_sent_before_the_connection_is_up_arrives_in_order() {
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

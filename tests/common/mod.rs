//! What the tests share: waiting with a deadline, a session that logs its callbacks, and a peer on
//! a plain socket.
#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "each test binary uses a part of it"
)]

pub(crate) mod bombs;
pub(crate) mod family;
pub(crate) mod panicking;
pub(crate) mod skip;
pub(crate) mod subscribing;

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use asynchat::{
    AsyncChat, BoxError, Channel, Chat, Close, Eof, EventLoop, Overflow, RecordLimit, Result,
    TimerId,
};

/// How long a test waits for an event. Far longer than it takes, also under Wine on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(if cfg!(windows) { 60 } else { 20 });

/// How long the loop sleeps before the test looks at the peers, which do not wake it.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Runs the loop until `done` returns true. Panics after the deadline.
#[track_caller]
pub(crate) fn run_until(event_loop: &EventLoop, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < deadline, "the deadline has passed");
        event_loop.run_once(POLL_INTERVAL).expect("the loop works");
    }
}

/// Runs the loop until `run` returns. Panics after the deadline.
#[track_caller]
pub(crate) fn run_to_end(event_loop: &EventLoop) {
    let (running, over) = mpsc::channel::<()>();
    let remote = event_loop.remote();
    let watch = thread::spawn(move || {
        let late = over.recv_timeout(DEADLINE) == Err(RecvTimeoutError::Timeout);
        late && remote.stop().is_ok()
    });
    event_loop.run().expect("the loop works");
    drop(running);
    let late = watch.join().expect("the watch does not panic");
    assert!(!late, "the loop did not return in time");
}

/// Runs a few turns in which nothing is expected to happen.
pub(crate) fn idle(event_loop: &EventLoop) {
    for _ in 0..5 {
        event_loop.run_once(POLL_INTERVAL).expect("the loop works");
    }
}

/// Runs the loop until the kernel accepts no more output for a peer that does not read.
#[track_caller]
pub(crate) fn run_until_blocked(event_loop: &EventLoop, chat: &Chat) {
    let mut before = usize::MAX;
    run_until(event_loop, || {
        idle(event_loop);
        std::mem::replace(&mut before, chat.queued()) == chat.queued()
    });
    assert!(before > 0, "the kernel accepted all of it");
}

/// A new loop.
pub(crate) fn new_loop() -> EventLoop {
    EventLoop::new().expect("a loop can be made")
}

/// The address that a channel listens on.
pub(crate) fn addr_of(listener: &Channel) -> SocketAddr {
    let addr = listener.local_addr().expect("it listens");
    addr.inet().expect("on an internet address")
}

/// An address that refuses connections while the socket exists: it is bound and does not listen.
pub(crate) fn refusing() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
        .expect("a socket can be made");
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    socket.bind(&any.into()).expect("a port is free");
    let addr = socket.local_addr().expect("it is bound");
    (socket, addr.as_socket().expect("to an internet address"))
}

/// A second descriptor of the other end of this connection, which is in this process too.
#[cfg(target_os = "linux")]
pub(crate) fn other_end_of(stream: &TcpStream) -> socket2::Socket {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

    let process = pidfd_open(getpid(), PidfdFlags::empty()).expect("this process is there");
    let addr = stream.peer_addr().expect("it is connected");
    let peer = stream.local_addr().expect("it is connected");
    let names = std::fs::read_dir("/proc/self/fd").expect("/proc is there");
    let numbers = names.filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok());
    let copies = numbers.filter_map(|it| {
        let copy = pidfd_getfd(&process, it, PidfdGetfdFlags::empty()).ok()?;
        Some(socket2::Socket::from(copy))
    });
    let is_it = |socket: &socket2::Socket| {
        let ends = (socket.local_addr().ok(), socket.peer_addr().ok());
        let inet = |addr: Option<socket2::SockAddr>| addr.and_then(|addr| addr.as_socket());
        (inet(ends.0), inet(ends.1)) == (Some(addr), Some(peer))
    };
    let mut found = copies.filter(is_it);
    found.next().expect("the other end is in this process")
}

/// The name of a reason: `Eof`, `ConnectFailed`, ...
pub(crate) fn name(why: &Close) -> String {
    let text = format!("{why:?}");
    let end = text.find('(').unwrap_or(text.len());
    text[..end].to_owned()
}

/// The callbacks, in order. Clones share one log.
#[derive(Clone, Default)]
pub(crate) struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    pub(crate) fn add(&self, line: impl Into<String>) {
        self.0.borrow_mut().push(line.into());
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    /// How many lines begin with `start`.
    pub(crate) fn count(&self, start: &str) -> usize {
        let lines = self.0.borrow();
        lines.iter().filter(|line| line.starts_with(start)).count()
    }

    pub(crate) fn has(&self, start: &str) -> bool {
        self.count(start) > 0
    }

    /// A factory of sessions that write to this log.
    pub(crate) fn session(&self) -> impl Fn(Chat) -> Session + Clone + use<> {
        self.session_with(|_, _| Ok(()))
    }

    /// A factory of sessions that write to this log and call `on_record` with each record.
    pub(crate) fn session_with<F>(&self, on_record: F) -> impl Fn(Chat) -> Session + Clone + use<F>
    where
        F: Fn(&Chat, &[u8]) -> Result + 'static,
    {
        let (log, on_record) = (self.clone(), Rc::new(on_record));
        move |chat| Session {
            chat,
            log: log.clone(),
            on_record: Rc::clone(&on_record) as _,
            at_eof: Eof::CloseWhenDone,
            at_overflow: Overflow::CloseWhenDone,
        }
    }
}

type OnRecord = dyn Fn(&Chat, &[u8]) -> Result;

/// Logs its callbacks.
pub(crate) struct Session {
    pub(crate) chat: Chat,
    log: Log,
    on_record: Rc<OnRecord>,
    at_eof: Eof,
    at_overflow: Overflow,
}

impl Session {
    /// Does not close when the peer has finished sending.
    pub(crate) fn staying_open(mut self) -> Self {
        self.at_eof = Eof::StayOpen;
        self
    }

    /// Discards records that are too long.
    pub(crate) fn skipping(mut self) -> Self {
        self.at_overflow = Overflow::Discard;
        self
    }
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        self.log.add(format!("record {}", text(record)));
        (self.on_record)(&self.chat, record)
    }

    fn collect_incoming_data(&mut self, chunk: &[u8]) -> Result {
        self.log.add(format!("chunk {}", text(chunk)));
        Ok(())
    }

    fn handle_connect(&mut self) -> Result {
        self.log.add("connect");
        Ok(())
    }

    fn handle_overflow(&mut self, _limit: &RecordLimit) -> Result<Overflow> {
        self.log.add("overflow");
        Ok(self.at_overflow)
    }

    fn handle_eof(&mut self, partial: &[u8]) -> Result<Eof> {
        self.log.add(format!("eof {}", text(partial)));
        Ok(self.at_eof)
    }

    fn handle_tls(&mut self) -> Result {
        self.log.add("tls");
        Ok(())
    }

    fn handle_low_water(&mut self) -> Result {
        self.log.add("low water");
        Ok(())
    }

    fn handle_timer(&mut self, _: TimerId) -> Result {
        self.log.add("timer");
        Ok(())
    }

    fn handle_close(&mut self, why: &Close) {
        self.log.add(format!("close {}", name(why)));
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The first chat that a factory has made, for a test that uses its handle.
#[derive(Clone, Default)]
pub(crate) struct Slot(Rc<RefCell<Option<Chat>>>);

impl Slot {
    pub(crate) fn is_filled(&self) -> bool {
        self.0.borrow().is_some()
    }

    #[track_caller]
    pub(crate) fn chat(&self) -> Chat {
        self.0.borrow().clone().expect("a connection was made")
    }

    /// Wraps the factory so that its first chat is stored here.
    pub(crate) fn capture<S, F>(&self, factory: F) -> impl Fn(Chat) -> S + use<S, F>
    where
        F: Fn(Chat) -> S,
    {
        let slot = self.0.clone();
        move |chat| {
            slot.borrow_mut().get_or_insert_with(|| chat.clone());
            factory(chat)
        }
    }
}

/// A served connection: its session writes to the log, and the test has the peer.
#[track_caller]
pub(crate) fn served<S: AsyncChat>(
    event_loop: &EventLoop,
    factory: impl Fn(Chat) -> S + 'static,
) -> (Chat, Peer) {
    let slot = Slot::default();
    let listener = event_loop
        .listen("127.0.0.1:0", slot.capture(factory))
        .expect("a port is free");
    let peer = Peer::connect(addr_of(&listener));
    run_until(event_loop, || slot.is_filled());
    listener.close();
    idle(event_loop);
    (slot.chat(), peer)
}

/// The other end of a connection, a plain non-blocking socket.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    received: Vec<u8>,
    end: Option<io::Result<()>>,
}

impl Peer {
    #[track_caller]
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        Peer::new(TcpStream::connect(addr).expect("the address listens"))
    }

    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nonblocking(true).expect("a mode of the socket");
        Peer {
            stream,
            received: Vec::new(),
            end: None,
        }
    }

    /// Sends a small amount, which the kernel accepts at once.
    #[track_caller]
    pub(crate) fn send(&mut self, data: impl AsRef<[u8]>) {
        let sent = self.stream.write_all(data.as_ref());
        sent.expect("the connection takes it");
    }

    /// Sends any amount, with as many turns of the loop as that takes.
    #[track_caller]
    pub(crate) fn send_all(&mut self, event_loop: &EventLoop, mut data: &[u8]) {
        run_until(event_loop, || {
            match self.stream.write(data) {
                Ok(count) => data = &data[count..],
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
            data.is_empty()
        });
    }

    /// Receives what has arrived.
    pub(crate) fn look(&mut self) -> &[u8] {
        let mut buffer = [0; 16 * 1024];
        while self.end.is_none() {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.end = Some(Ok(())),
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => self.end = Some(Err(error)),
            }
        }
        &self.received
    }

    /// Frees what has arrived.
    pub(crate) fn forget(&mut self) {
        self.received = Vec::new();
    }

    /// Runs the loop until `wanted` has arrived.
    #[track_caller]
    pub(crate) fn expect(&mut self, event_loop: &EventLoop, wanted: impl AsRef<[u8]>) {
        let wanted = wanted.as_ref();
        run_until(event_loop, || {
            self.look().len() >= wanted.len() || self.end.is_some()
        });
        let rest = self
            .received
            .split_off(wanted.len().min(self.received.len()));
        let came = std::mem::replace(&mut self.received, rest);
        assert_eq!(text(&came), text(wanted));
    }

    /// Runs the loop until the connection ends. Returns what has arrived.
    #[track_caller]
    pub(crate) fn receive_all(&mut self, event_loop: &EventLoop) -> Vec<u8> {
        self.wait_for_end(event_loop).expect("an orderly end");
        std::mem::take(&mut self.received)
    }

    /// Runs the loop until the connection ends. Returns how it ended.
    #[track_caller]
    pub(crate) fn wait_for_end(&mut self, event_loop: &EventLoop) -> io::Result<()> {
        run_until(event_loop, || {
            self.look();
            self.end.is_some()
        });
        self.end.take().expect("it has ended")
    }

    /// Shuts down the sending side.
    pub(crate) fn finish(&self) {
        let done = self.stream.shutdown(Shutdown::Write);
        done.expect("the connection is up");
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        let socket = socket2::Socket::from(self.stream);
        let set = socket.set_linger(Some(Duration::ZERO));
        set.expect("an option of the socket");
    }
}

/// The two ends of a TCP connection.
pub(crate) fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = listener.local_addr().expect("it is bound");
    let near = TcpStream::connect(addr).expect("it listens");
    let (far, _) = listener.accept().expect("it has a connection");
    (near, far)
}

/// Counts how often its tokens are dropped.
#[derive(Default)]
pub(crate) struct Drops(Rc<RefCell<usize>>);

impl Drops {
    pub(crate) fn count(&self) -> usize {
        *self.0.borrow()
    }

    /// A value whose drop is counted.
    pub(crate) fn token(&self) -> Token {
        Token(self.0.clone())
    }
}

pub(crate) struct Token(Rc<RefCell<usize>>);

impl Drop for Token {
    fn drop(&mut self) {
        *self.0.borrow_mut() += 1;
    }
}

/// An error to return from a callback.
pub(crate) fn failure() -> BoxError {
    "it was to fail".into()
}

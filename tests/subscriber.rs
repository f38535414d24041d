//! A tracing subscriber is user code that the library calls from many places. It may use every
//! handle in all of its methods, whatever the loop is doing: the library holds no borrow there.

mod common;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt::{Debug, Write as _};
use std::io::{self, Write as _};
use std::net::UdpSocket;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use asynchat::sim::{Call, Conditions, Network};
use asynchat::{
    AsyncChat, Backoff, Channel, ChannelId, Chat, Close, Connector, Deadlines, Dispatcher,
    EventLoop, Group, Limits, More, Result, Server, SlowReader, Socket, Terminator, TimerId,
};
use common::subscribing::with_subscriber;
use common::{run_until, tcp_pair};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

thread_local! {
    /// Handles for the subscriber. It cannot own them, because it must be `Send`.
    static WORLD: RefCell<Option<Rc<World>>> = RefCell::default();
}

/// In how many of its calls the subscriber gives the loop something to do. Without a bound, the
/// loop would log about that for ever. In all its calls the subscriber reads the state of the
/// handles.
const BUSY: usize = 300;

/// All handles, and the failures of their use.
struct World {
    event_loop: EventLoop,
    chats: RefCell<Vec<Chat>>,
    channels: RefCell<Vec<Channel>>,
    group: Group,
    calls: Cell<usize>,
    depth: Cell<usize>,
    /// The call in which the subscriber ends something, and what.
    drastic: (usize, Drastic),
    failures: RefCell<Vec<String>>,
}

#[derive(Clone, Copy, Debug)]
enum Drastic {
    Nothing,
    Close,
    Abort,
    CloseWhenDone,
    DropHandles,
    CloseAll,
    Shutdown,
    Stop,
}

impl World {
    fn new(event_loop: &EventLoop, drastic: (usize, Drastic)) -> Rc<Self> {
        World::with_group(event_loop, drastic, Group::default())
    }

    fn with_group(event_loop: &EventLoop, drastic: (usize, Drastic), group: Group) -> Rc<Self> {
        group.set_slow_readers(100, SlowReader::Abort);
        let world = Rc::new(World {
            event_loop: event_loop.clone(),
            chats: RefCell::default(),
            channels: RefCell::default(),
            group,
            calls: Cell::new(0),
            depth: Cell::new(0),
            drastic,
            failures: RefCell::default(),
        });
        WORLD.set(Some(Rc::clone(&world)));
        world
    }

    fn add(&self, chat: &Chat) {
        self.group.add(chat);
        self.chats.borrow_mut().push(chat.clone());
    }

    /// Uses every handle.
    fn use_all(&self) {
        let call = self.calls.get() + 1;
        self.calls.set(call);
        if call == self.drastic.0 {
            self.be_drastic();
        }
        self.look_at_all();
        if call > BUSY {
            return;
        }
        let chats = self.chats.borrow().clone();
        for chat in &chats {
            use_chat(chat, call);
        }
        for channel in self.channels.borrow().clone() {
            use_channel(&channel);
        }
        self.use_group(call);
        self.use_loop(call);
    }

    /// Reads the state of every handle, which gives the loop nothing to do.
    fn look_at_all(&self) {
        let chats = self.chats.borrow().clone();
        for chat in chats.into_iter().chain(self.group.iter()) {
            let _ = (chat.queued(), chat.terminator(), chat.limits());
            let _ = (chat.local_addr(), chat.peer_addr(), chat.is_open());
            let _ = format!("{chat:?}");
            self.group.add(&chat);
        }
        let _ = (self.group.len(), format!("{:?}", self.event_loop));
    }

    fn use_group(&self, call: usize) {
        if call.is_multiple_of(20) {
            self.group.push("to all");
            if let Some(first) = self.group.iter().next() {
                self.group.push_except(first.id(), "to all but one");
            }
        }
        for member in self.group.iter() {
            assert!(self.group.contains(member.id()));
            if call.is_multiple_of(30) {
                self.group.remove(member.id());
            }
            self.group.add(&member);
        }
        let _ = (self.group.len(), self.group.is_empty());
        let _ = format!("{:?}", self.group);
    }

    fn use_loop(&self, call: usize) {
        let event_loop = &self.event_loop;
        event_loop.call_soon(|| ());
        let timer = event_loop.call_later(Duration::from_millis(1), || ());
        let every = event_loop.call_every(Duration::from_millis(1), || ());
        event_loop.reschedule(timer, Duration::ZERO);
        event_loop.cancel(every);
        let _ = event_loop.remote().post(|| ());
        let _ = (
            event_loop.len(),
            event_loop.stats(),
            format!("{event_loop:?}"),
        );
        let _ = event_loop.next_timeout();
        if call.is_multiple_of(200) {
            let factory = |_: Chat| |_: &[u8]| Ok(());
            if let Ok(chat) = event_loop.connect(([10, 0, 0, 9], 9).into_target(), factory) {
                self.add(&chat);
            }
        }
    }

    fn be_drastic(&self) {
        let chats = self.chats.borrow().clone();
        for chat in &chats {
            match self.drastic.1 {
                Drastic::Close => chat.close(),
                Drastic::Abort => chat.abort(),
                Drastic::CloseWhenDone => chat.close_when_done(),
                _ => {}
            }
        }
        match self.drastic.1 {
            Drastic::DropHandles => drop(self.chats.take()),
            Drastic::CloseAll => self.event_loop.close_all(),
            Drastic::Shutdown => self.event_loop.shutdown(Duration::from_secs(1)),
            Drastic::Stop => self.event_loop.stop(),
            _ => {}
        }
    }

    #[track_caller]
    fn end(self: Rc<Self>, what: &str) {
        WORLD.take();
        assert_eq!(*self.failures.borrow(), [""; 0], "{what}");
        assert!(self.calls.get() > 0, "{what}");
    }
}

trait IntoTarget {
    fn into_target(self) -> asynchat::Target;
}

impl IntoTarget for ([u8; 4], u16) {
    fn into_target(self) -> asynchat::Target {
        std::net::SocketAddr::from(self).into()
    }
}

fn use_chat(chat: &Chat, call: usize) {
    // Few bytes, so that back-pressure does not stop the input permanently.
    if call.is_multiple_of(20) {
        chat.push("x");
        chat.push(vec![b'x'; if call.is_multiple_of(100) { 5000 } else { 10 }]);
        chat.push_slice(b"y");
        chat.push_slices(&[b"y", b"z"]);
        write!(chat, "{call}\r\n");
        chat.push_with_producer("produced");
        chat.push_hook(|| ());
    }
    chat.resume_producing();
    if call.is_multiple_of(80) {
        chat.discard_buffers();
    }
    let terminator = chat.terminator();
    chat.set_terminator(Terminator::line());
    chat.set_terminator(terminator);
    chat.set_limits(chat.limits());
    chat.set_idle_timeout(Duration::from_secs(50));
    let _ = chat.post(|_: &mut Session| Ok(()));
    use_connection(chat);
    let _ = (chat.queued(), format!("{chat:?}"));
}

fn use_connection(chat: &Chat) {
    chat.pause_reading();
    chat.resume_reading();
    chat.set_deadlines(chat.deadlines());
    let timer = chat.call_later(Duration::from_secs(1));
    chat.reschedule(timer, Duration::from_secs(2));
    chat.cancel(timer);
    let _ = chat.set_nodelay(true);
    let _ = (chat.id(), chat.peer_addr(), chat.local_addr());
    let _ = (chat.is_open(), chat.stats(), chat.event_loop());
}

fn use_channel(channel: &Channel) {
    channel.pause_reading();
    channel.resume_reading();
    channel.update_interest();
    channel.allow_half_open(false);
    channel.set_deadlines(channel.deadlines());
    let timer = channel.call_later(Duration::from_secs(1));
    channel.reschedule(timer, Duration::from_secs(2));
    channel.cancel(timer);
    let _ = channel.set_nodelay(true);
    let _ = channel.send(b"");
    let _ = channel.recv(&mut []);
    let _ = (channel.id(), channel.peer_addr(), channel.local_addr());
    let _ = (channel.is_open(), channel.stats(), channel.event_loop());
    let _ = format!("{channel:?}");
}

/// Uses every handle in each of its methods.
struct UsesHandles(AtomicU64);

fn use_handles(place: &str) {
    // The handles are gone while a thread ends and between two runs.
    let Ok(Some(world)) = WORLD.try_with(|world| world.borrow().clone()) else {
        return;
    };
    // The use of the handles is logged, which calls the subscriber again. One level is enough.
    if world.depth.get() >= 2 {
        return;
    }
    world.depth.set(world.depth.get() + 1);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.use_all())) {
        let failure = format!("{place}: {}", text(&*panic));
        world.failures.borrow_mut().push(failure);
    }
    world.depth.set(world.depth.get() - 1);
}

fn text(panic: &(dyn Any + Send)) -> String {
    match panic.downcast_ref::<String>() {
        Some(text) => text.clone(),
        None => panic
            .downcast_ref::<&str>()
            .copied()
            .unwrap_or("?")
            .to_owned(),
    }
}

/// Prints all fields.
struct Prints(String);

impl Visit for Prints {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }
}

impl Subscriber for UsesHandles {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut Prints(String::new()));
        use_handles(span.metadata().name());
        Id::from_u64(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {
        use_handles("record");
    }
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut fields = Prints(String::new());
        event.record(&mut fields);
        use_handles(&fields.0);
    }
    fn enter(&self, _: &Id) {
        use_handles("enter");
    }
    fn exit(&self, _: &Id) {
        use_handles("exit");
    }
    fn try_close(&self, _: Id) -> bool {
        use_handles("try_close");
        true
    }
}

/// Does what each record names.
struct Session {
    chat: Chat,
    group: Group,
}

impl Session {
    fn factory(world: &World) -> impl Fn(Chat) -> Session + Clone + 'static + use<> {
        let group = world.group.clone();
        move |chat| {
            let world = WORLD.with_borrow(Clone::clone);
            if let Some(world) = world {
                world.add(&chat);
            }
            let group = group.clone();
            Session { chat, group }
        }
    }
}

impl AsyncChat for Session {
    fn handle_connect(&mut self) -> Result {
        self.group.push("somebody has come\r\n");
        Ok(())
    }
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        match record {
            b"fail" => return Err("it was to fail".into()),
            b"panic" => panic!("it was to panic"),
            b"quit" => {
                self.chat.push("bye\r\n");
                self.chat.close_when_done();
            }
            b"abort" => self.chat.abort(),
            b"much" => self.chat.push(vec![b'x'; 9_000_000]),
            b"produce" => self
                .chat
                .push_with_producer(asynchat::IterProducer::new(["a", "b"])),
            b"broken" => self.chat.push_with_producer(Broken),
            b"room" => {
                for _ in 0..50 {
                    self.group.push(vec![b'x'; 10_000]);
                }
            }
            b"timer" => drop(self.chat.call_later(Duration::from_millis(1))),
            record => {
                self.group.push_except(self.chat.id(), record.to_vec());
            }
        }
        Ok(())
    }
    fn handle_timer(&mut self, _: TimerId) -> Result {
        Err("a timer was to fail".into())
    }
    fn handle_close(&mut self, why: &Close) {
        self.group.push(format!("somebody has gone: {why}\r\n"));
    }
}

/// A producer that fails.
struct Broken;

impl asynchat::Producer for Broken {
    fn more(&mut self, _: usize) -> io::Result<More> {
        Err(io::Error::other("a producer was to fail"))
    }
}

/// A dispatcher with the required method only.
struct Bare(Channel);

impl Dispatcher for Bare {
    fn channel(&self) -> &Channel {
        &self.0
    }
}

const ADDR: &str = "10.0.0.1:7007";

/// Everything that the simulated network can do to a server and its clients.
fn busy_scene(seed: u64, drastic: (usize, Drastic)) -> Result {
    let network = Network::new(seed);
    let mut conditions = Conditions::default();
    conditions.one_shot = seed.is_multiple_of(2);
    network.set_conditions(conditions);
    let event_loop = network.event_loop()?;
    let world = World::new(&event_loop, drastic);
    let settle = || network.settle(&event_loop);
    let listening = Server::new(ADDR)
        .limits(Limits::default().connections(12).record(100))
        .deadlines(Deadlines::default().idle(Duration::from_secs(60)))
        .refusal("too many\r\n")
        .listen_on(&event_loop, Session::factory(&world))?;
    world.channels.borrow_mut().push(listening.clone());
    let bare = Channel::adopt(network.listening_socket("10.0.0.1:9")?)?;
    world.channels.borrow_mut().push(bare.clone());
    event_loop.register(Bare(bare))?;
    network.fail(Call::Accept, io::ErrorKind::OutOfMemory);
    network.fail(Call::Accept, io::ErrorKind::ConnectionAborted);
    let mut peers = Vec::new();
    let mut scripts = [
        "hello", "fail", "panic", "quit", "abort", "much", "produce", "broken", "room", "timer",
    ]
    .into_iter();
    for n in 0..16 {
        let peer = network.connect(ADDR)?;
        if let Some(script) = scripts.next() {
            peer.send(format!("{script}\r\n"));
        }
        if n % 3 == 0 {
            peer.stop_reading();
        }
        settle()?;
        match n {
            3 => peer.send_urgent(b'!'),
            4 => peer.reset(),
            5 => peer.finish(),
            6 => peer.send("x".repeat(200)),
            _ => {}
        }
        settle()?;
        peers.push(peer);
    }
    peers.push(network.connect("10.0.0.1:9")?);
    settle()?;
    let service = network.listen("10.0.0.2:1")?;
    let connector = Connector::new("10.0.0.2:1");
    let reconnect =
        connector.reconnect_on(&event_loop, Backoff::default(), Session::factory(&world));
    settle()?;
    if let (Ok(reconnect), Some(peer)) = (&reconnect, service.accept()) {
        peer.send("fail\r\n");
        settle()?;
        network.advance(&event_loop, Duration::from_secs(3))?;
        reconnect.stop();
    }
    // A name that cannot be resolved, and an address without a listener.
    for target in ["nowhere:1", "10.0.0.3:1"] {
        let connected = event_loop.connect(target, Session::factory(&world));
        settle()?;
        drop(connected);
    }
    let ends = [(); 2].map(|()| network.pair());
    let [(near, near_peer), (far, far_peer)] = ends;
    let join =
        |socket: Socket| Connector::adopt(socket).connect_on(&event_loop, Session::factory(&world));
    if let (Ok(near), Ok(far)) = (join(near), join(far)) {
        settle()?;
        let _ = asynchat::pipe(&near, &far);
        near_peer.send("through the pipe");
        settle()?;
        network.fail(Call::Send, io::ErrorKind::ConnectionReset);
        far_peer.send("back");
        settle()?;
        near_peer.reset();
        settle()?;
    }
    network.fail(Call::Watch, io::ErrorKind::OutOfMemory);
    let late = network.connect(ADDR)?;
    late.send("hello\r\n");
    settle()?;
    network.fail(Call::Wait, io::ErrorKind::Other);
    settle()?;
    world.chats.take();
    network.advance(&event_loop, Duration::from_secs(61))?;
    event_loop.shutdown(Duration::from_secs(1));
    network.advance(&event_loop, Duration::from_secs(2))?;
    assert!(event_loop.is_empty(), "{event_loop:?}");
    drop(event_loop);
    world.end(&format!("seed {seed}, {drastic:?}"));
    Ok(())
}

#[test]
fn a_subscriber_may_use_every_handle_whatever_the_loop_is_doing() {
    with_subscriber(UsesHandles(AtomicU64::new(0)), || {
        let all = [
            Drastic::Nothing,
            Drastic::Close,
            Drastic::Abort,
            Drastic::CloseWhenDone,
            Drastic::DropHandles,
            Drastic::CloseAll,
            Drastic::Shutdown,
            Drastic::Stop,
        ];
        for (seed, drastic) in (0..).zip(all.iter().cycle().take(32)) {
            let at = usize::try_from(seed).unwrap() * 5 + 1;
            busy_scene(seed, (at, *drastic)).unwrap();
        }
    });
}

/// Dropping the last handle of a connection closes its span, which calls the subscriber.
#[test]
fn a_subscriber_may_use_a_group_that_drops_a_member() {
    with_subscriber(UsesHandles(AtomicU64::new(0)), || {
        let acts: [fn(&Group, ChannelId); 6] = [
            |group, _| assert_eq!(group.len(), 0),
            |group, _| assert!(group.is_empty()),
            |group, _| {
                group.push("to all");
            },
            |group, id| {
                group.push_except(id, "to all but one");
            },
            |group, id| assert!(group.remove(id)),
            |group, _| drop(format!("{group:?}")),
        ];
        for (n, act) in acts.iter().enumerate() {
            let network = Network::new(1);
            let event_loop = network.event_loop().unwrap();
            let (group, (socket, peer)) = (Group::default(), network.pair());
            let connector = Connector::adopt(socket);
            let chat = connector.connect_on(&event_loop, |_| |_: &[u8]| Ok(()));
            let chat = chat.unwrap();
            let id = chat.id();
            group.add(&chat);
            drop(chat);
            peer.reset();
            network.settle(&event_loop).unwrap();
            // The subscriber uses the group from here on: the group has the last handle.
            let world = World::with_group(&event_loop, (0, Drastic::Nothing), group.clone());
            act(&group, id);
            assert!(group.is_empty());
            world.end(&format!("act {n}"));
        }
    });
}

/// The library logs that a member does not read. The group is not borrowed then.
#[test]
fn a_subscriber_may_use_a_group_that_closes_a_slow_member() {
    with_subscriber(UsesHandles(AtomicU64::new(0)), || {
        // Because of the group's bound, and because of the output limit.
        for bound in [100, usize::MAX] {
            let network = Network::new(1);
            let event_loop = network.event_loop().unwrap();
            let (group, (socket, peer)) = (Group::default(), network.pair());
            peer.stop_reading();
            let connector = Connector::adopt(socket);
            let chat = connector.connect_on(&event_loop, |_| |_: &[u8]| Ok(()));
            let chat = chat.unwrap();
            group.add(&chat);
            chat.push(vec![b'x'; 4_000_000]);
            network.settle(&event_loop).unwrap();
            assert!(chat.queued() > 0);
            let world = World::with_group(&event_loop, (0, Drastic::Nothing), group.clone());
            group.set_slow_readers(bound, SlowReader::Abort);
            group.push(vec![b'x'; 8_000_000]);
            group.push("x");
            assert!(!chat.is_open());
            network.settle(&event_loop).unwrap();
            world.end(&format!("a bound of {bound}"));
        }
    });
}

/// As the subscriber of tracing-subscriber does when standard error is a closed pipe.
#[test]
fn a_subscriber_that_panics_ends_nothing() {
    struct Panics;
    impl Subscriber for Panics {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            panic!("a subscriber panics")
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, _: &Event<'_>) {
            panic!("a subscriber panics")
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }
    with_subscriber(Panics, || {
        let network = Network::new(1);
        let event_loop = network.event_loop().unwrap();
        let listener = event_loop
            .listen("10.0.0.1:7", |chat: Chat| {
                move |line: &[u8]| match line {
                    b"panic" => panic!("a session panics"),
                    b"fail" => Err("a session fails".into()),
                    _ => {
                        chat.push_slice(line);
                        Ok(())
                    }
                }
            })
            .unwrap();
        for line in ["panic\r\n", "fail\r\n", "fine\r\n"] {
            let peer = network.connect("10.0.0.1:7").unwrap();
            peer.send(line);
            network.settle(&event_loop).unwrap();
            assert_eq!(peer.received() == b"fine", line == "fine\r\n");
            peer.finish();
            network.settle(&event_loop).unwrap();
            assert!(peer.has_ended() && listener.is_open(), "{line}");
        }
    });
}

/// A channel that is not registered is closed at once. Its socket must not be borrowed while a lost datagram is logged.
#[test]
fn a_subscriber_may_close_a_channel_that_has_lost_a_datagram() {
    thread_local! {
        static OPEN: RefCell<Option<Channel>> = RefCell::default();
    }
    struct Closes;
    impl Subscriber for Closes {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            let mut fields = Prints(String::new());
            event.record(&mut fields);
            if fields.0.contains("a datagram is lost")
                && let Some(channel) = OPEN.take()
            {
                channel.close();
            }
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }
    with_subscriber(Closes, || {
        let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
        let closed = nobody.local_addr().unwrap();
        drop(nobody);
        let channel = Channel::bind("127.0.0.1:0").unwrap();
        // A connected socket gets the answer that nobody listens there.
        channel.configure(|it| it.connect(&closed.into())).unwrap();
        let own = channel.local_addr().unwrap().inet().unwrap();
        OPEN.set(Some(channel.clone()));
        let deadline = std::time::Instant::now() + common::DEADLINE;
        while channel.is_open() {
            assert!(std::time::Instant::now() < deadline, "no datagram is lost");
            // It fails if the answer to the previous one has come.
            let _ = channel.configure(|it| it.send(b"x"));
            let _ = channel.recv_from(&mut [0; 10]);
        }
        // The port is free: the socket was closed.
        UdpSocket::bind(own).unwrap();
    });
}

/// `polling` logs each call at the level TRACE. The simulated poller does not.
#[test]
fn a_subscriber_may_use_every_handle_while_the_poller_logs() {
    with_subscriber(UsesHandles(AtomicU64::new(0)), || {
        let event_loop = EventLoop::new().unwrap();
        let world = World::new(&event_loop, (0, Drastic::Nothing));
        let (near, mut peer) = tcp_pair();
        let (input, mut other) = tcp_pair();
        let (output, _reader) = tcp_pair();
        // A connection, and one whose input and output are two descriptors.
        let halves = Socket::halves(input, output);
        for socket in [near.into(), halves] {
            let connector = Connector::adopt(socket);
            connector
                .connect_on(&event_loop, Session::factory(&world))
                .unwrap();
        }
        for _ in 0..3 {
            peer.write_all(b"hello\r\nproduce\r\n").unwrap();
            other.write_all(b"hello\r\nproduce\r\n").unwrap();
            for _ in 0..5 {
                event_loop.run_once(Duration::from_millis(1)).unwrap();
            }
        }
        drop((peer, other));
        world.chats.borrow().iter().for_each(Chat::close);
        world.chats.take();
        run_until(&event_loop, || event_loop.is_empty());
        drop(event_loop);
        world.end("real sockets");
    });
}

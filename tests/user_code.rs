//! User code in unexpected places: conversions, destructors and `Display`. It may use any handle
//! there, and its panics are contained.

mod common;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use asynchat::{
    Addr, AsyncChat, Backoff, Channel, Chat, ChunkedProducer, Close, CompositeProducer, Connector,
    Dispatcher, DotStuffer, EventLoop, HookedProducer, IterProducer, LinesProducer, More, Producer,
    Result, Server, Socket, TimerId,
};
use bytes::Bytes;
use common::bombs::{Bomb, Bombs, Owned, hold};
use common::subscribing::with_subscriber;
use common::{Log, Peer, addr_of, new_loop, run_to_end, run_until, served, tcp_pair};

/// Pushes while it is converted for a push.
struct PushesOnConversion(Chat);

impl From<PushesOnConversion> for Bytes {
    fn from(value: PushesOnConversion) -> Bytes {
        value.0.push_slice(b"inner ");
        Bytes::from_static(b"outer")
    }
}

#[test]
fn a_conversion_into_bytes_may_push_to_the_same_chat() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    chat.push(PushesOnConversion(chat.clone()));
    peer.expect(&event_loop, "inner outer");
}

thread_local! {
    /// The chat of an `Owner`: the owner of `Bytes` has to be `Send`, which a chat is not.
    static CHAT: RefCell<Option<Chat>> = RefCell::default();
}

/// Owns bytes, and pushes when it is dropped.
struct Owner(Vec<u8>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let chat = CHAT.with_borrow(Clone::clone).expect("the test has set it");
        write!(chat, ", {} queued", chat.queued());
    }
}

#[track_caller]
fn owner_may_push(len: usize, queued: usize) {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    CHAT.set(Some(chat.clone()));
    chat.push(Bytes::from_owner(Owner(vec![b'x'; len])));
    let wanted = format!("{}, {queued} queued", "x".repeat(len));
    peer.expect(&event_loop, wanted);
    assert!(chat.is_open(), "{:?}", log.lines());
}

#[test]
fn the_destructor_of_bytes_that_are_copied_may_push_to_the_same_chat() {
    owner_may_push(10, 10);
}

#[test]
fn the_destructor_of_bytes_that_are_sent_may_push_to_the_same_chat() {
    owner_may_push(10_000, 0);
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("panic in a destructor");
    }
}

#[test]
fn a_periodic_call_that_cancels_itself_may_panic_when_it_is_dropped() {
    let (event_loop, log) = (new_loop(), Log::default());
    let id: Rc<Cell<Option<TimerId>>> = Rc::default();
    let (own, canceller, bomb) = (Rc::clone(&id), event_loop.clone(), PanicsWhenDropped);
    let ticks = log.clone();
    let timer = event_loop.call_every(Duration::from_millis(1), move || {
        let _captured = &bomb;
        ticks.add("tick");
        canceller.cancel(own.get().expect("the test has set it"));
    });
    id.set(Some(timer));
    let later = log.clone();
    event_loop.call_later(Duration::from_millis(2), move || later.add("later"));
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["tick", "later"]);
}

/// An error whose `Display` panics.
#[derive(Debug)]
struct Unprintable;

impl fmt::Display for Unprintable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("panic in Display");
    }
}

impl std::error::Error for Unprintable {}

/// Fails with an error that cannot be logged.
struct Fails {
    channel: Channel,
    log: Log,
}

impl Dispatcher for Fails {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn handle_read(&mut self) -> Result {
        Err(Unprintable.into())
    }
    fn handle_error(&mut self, _: &(dyn std::error::Error + Send + Sync + 'static)) {
        self.log.add("error");
    }
    fn handle_close(&mut self, why: &Close) {
        let handler = matches!(why, Close::Handler(_));
        self.log.add(format!("close, by its handler: {handler}"));
    }
}

#[test]
fn a_reason_that_panics_when_logged_is_reported_to_handle_close() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(std::io::sink)
        .finish();
    with_subscriber(subscriber, || {
        let (event_loop, (near, far)) = (new_loop(), tcp_pair());
        let fails = Fails {
            channel: Channel::adopt(near).unwrap(),
            log: log.clone(),
        };
        event_loop.register(fails).unwrap();
        Peer::new(far).send("x");
        run_to_end(&event_loop);
    });
    assert_eq!(log.lines(), ["error", "close, by its handler: true"]);
}

/// An error whose destructor panics.
#[derive(Debug)]
struct PanickingError;

impl fmt::Display for PanickingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an error that panics when it is dropped")
    }
}

impl std::error::Error for PanickingError {}

impl Drop for PanickingError {
    fn drop(&mut self) {
        panic!("panic in the destructor of an error");
    }
}

#[test]
fn an_error_that_panics_when_dropped_ends_its_own_connection_only() {
    for close_first in [false, true] {
        let (event_loop, log) = (new_loop(), Log::default());
        let (_, mut neighbour) = served(
            &event_loop,
            Log::default().session_with(|chat, record| {
                chat.push_slice(record);
                Ok(())
            }),
        );
        let fails = log.session_with(move |chat, _| {
            if close_first {
                // The error is then the second reason, which is not reported.
                chat.close();
            }
            Err(PanickingError.into())
        });
        let (_, mut peer) = served(&event_loop, fails);
        peer.send("now\r\n");
        run_until(&event_loop, || log.has("close"));
        neighbour.send("still here\r\n");
        neighbour.expect(&event_loop, "still here");
        let reason = if close_first { "Local" } else { "Handler" };
        let last = format!("close {reason}");
        assert_eq!(log.lines(), ["connect", "record now", &last]);
    }
}

#[test]
fn an_error_that_panics_when_dropped_does_not_end_a_listener() {
    struct Refuses {
        channel: Channel,
        log: Log,
    }
    impl Dispatcher for Refuses {
        fn channel(&self) -> &Channel {
            &self.channel
        }
        fn handle_accepted(&mut self, _: Socket, _: Addr) -> Result {
            Err(PanickingError.into())
        }
        fn handle_error(&mut self, _: &(dyn std::error::Error + Send + Sync + 'static)) {
            self.log.add("refused");
        }
        fn handle_close(&mut self, _: &Close) {
            self.log.add("close");
        }
    }
    let (event_loop, log) = (new_loop(), Log::default());
    let channel = Channel::listen("127.0.0.1:0").unwrap();
    let (log_of_it, listener) = (log.clone(), channel.clone());
    let refuses = Refuses {
        channel,
        log: log_of_it,
    };
    event_loop.register(refuses).unwrap();
    let _peers = [(); 2].map(|()| Peer::connect(addr_of(&listener)));
    run_until(&event_loop, || log.count("refused") == 2);
    assert_eq!(log.lines(), ["refused", "refused"]);
}

/// Fails in `handle_piped` with an error that panics when it is formatted.
struct FailsToPass;

impl AsyncChat for FailsToPass {
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(())
    }
    fn handle_piped(&mut self, _: &[u8]) -> Result {
        Err(Unprintable.into())
    }
}

#[test]
fn an_error_that_panics_when_formatted_is_reported_to_the_other_end_of_a_pipe() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (near, _near_peer) = served(&event_loop, log.session());
    let (socket, far_peer) = tcp_pair();
    let connector = Connector::adopt(socket);
    let far = connector.connect_on(&event_loop, |_| FailsToPass).unwrap();
    asynchat::pipe(&near, &far).unwrap();
    Peer::new(far_peer).send("x");
    run_until(&event_loop, || !near.is_open() && log.has("close"));
    assert_eq!(log.lines(), ["connect", "close Piped"]);
}

/// An error whose text can be formatted once: `handle_error` logs it.
#[derive(Debug, Default)]
struct PrintableOnce(AtomicUsize);

impl fmt::Display for PrintableOnce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = self.0.fetch_add(1, Ordering::Relaxed);
        assert!(times == 0, "panic in Display");
        f.write_str("printed once")
    }
}

impl std::error::Error for PrintableOnce {}

/// Fails as soon as it is up, with an error that panics when it is formatted a second time.
struct FailsToConnect;

impl AsyncChat for FailsToConnect {
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(())
    }
    fn handle_connect(&mut self) -> Result {
        Err(PrintableOnce::default().into())
    }
}

#[test]
fn reconnection_continues_after_an_error_that_panics_when_formatted() {
    let made = Rc::new(Cell::new(0));
    let counted = Rc::clone(&made);
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_writer(std::io::sink)
        .finish();
    with_subscriber(subscriber, || {
        let event_loop = new_loop();
        let listener = event_loop
            .listen("127.0.0.1:0", Log::default().session())
            .unwrap();
        let backoff = Backoff::default().initial(Duration::from_millis(1));
        let connector = Connector::new(addr_of(&listener).to_string());
        let factory = move |_| {
            counted.set(counted.get() + 1);
            FailsToConnect
        };
        connector
            .reconnect_on(&event_loop, backoff, factory)
            .unwrap();
        run_until(&event_loop, || made.get() == 3);
    });
}

/// Gives the loop two of each kind of value that it holds for its user. Returns how many these are.
fn arm(event_loop: &EventLoop, bombs: &Bombs) -> usize {
    let before = Arc::strong_count(&bombs.0);
    let (refusing, addr) = common::refusing();
    for _ in 0..2 {
        let bomb = bombs.next();
        event_loop.call_soon(move || hold(&bomb));
        let bomb = bombs.next();
        event_loop.call_later(Duration::from_secs(3600), move || hold(&bomb));
        let bomb = bombs.next();
        event_loop.call_every(Duration::from_secs(3600), move || hold(&bomb));
        let bomb = bombs.next();
        let remote = event_loop.remote();
        remote.post(move || hold(&bomb)).unwrap();
        #[cfg(all(unix, feature = "signal"))]
        {
            let bomb = bombs.next();
            let signal = asynchat::signal::SIGUSR2;
            event_loop.on_signal(signal, move || hold(&bomb)).unwrap();
        }
        // Factories that are not called.
        let bomb = bombs.next();
        let factory = move |_: Chat| {
            hold(&bomb);
            |_: &[u8]| Ok(())
        };
        event_loop.connect(addr, factory).unwrap();
        let bomb = bombs.next();
        let factory = move |_: Chat| {
            hold(&bomb);
            |_: &[u8]| Ok(())
        };
        let connector = Connector::new(addr);
        let backoff = Backoff::default();
        connector
            .reconnect_on(event_loop, backoff, factory)
            .unwrap();
        let bomb = bombs.next();
        let factory = move |_: Chat| {
            hold(&bomb);
            |_: &[u8]| Ok(())
        };
        event_loop.listen("127.0.0.1:0", factory).unwrap();
        // A posted call, and queued items, of which some are discarded.
        let chat = event_loop.connect(addr, |_| |_: &[u8]| Ok(())).unwrap();
        let bomb = bombs.next();
        let call = move |_: &mut Box<dyn asynchat::AsyncChat>| {
            hold(&bomb);
            Ok(())
        };
        // The handler has another type, so the closure is dropped here.
        let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| chat.post(call)));
        assert!(refused.is_err());
        for discard in [true, false] {
            for _ in 0..2 {
                let bomb = bombs.next();
                chat.push_hook(move || hold(&bomb));
                chat.push(Bytes::from_owner(Owned(vec![b'x'; 10_000], bombs.next())));
            }
            if discard {
                chat.discard_buffers();
            }
        }
    }
    drop(refusing);
    Arc::strong_count(&bombs.0) - before
}

#[test]
fn a_loop_drops_everything_although_every_destructor_panics() {
    let (event_loop, bombs) = (new_loop(), Bombs::default());
    let count = arm(&event_loop, &bombs);
    let before = bombs.dropped();
    drop(event_loop);
    assert_eq!(bombs.dropped() - before, count);
}

#[test]
fn a_loop_that_has_run_drops_everything_although_every_destructor_panics() {
    let (event_loop, bombs) = (new_loop(), Bombs::default());
    let count = arm(&event_loop, &bombs);
    let before = bombs.dropped();
    for _ in 0..3 {
        event_loop.run_once(Duration::ZERO).unwrap();
    }
    drop(event_loop);
    assert_eq!(bombs.dropped() - before, count);
}

#[test]
fn the_loop_of_an_ending_thread_drops_everything_although_every_destructor_panics() {
    let bombs = Bombs::default();
    let of_thread = bombs.clone();
    let ended = std::thread::spawn(move || {
        let event_loop = EventLoop::current().unwrap();
        let count = arm(&event_loop, &of_thread);
        (count, of_thread.dropped())
    });
    let (count, before) = ended.join().unwrap();
    assert_eq!(bombs.dropped() - before, count);
}

/// A producer that panics when it is asked, and when it is dropped.
struct BombProducer(#[expect(dead_code, reason = "dropped")] Bomb);

impl Producer for BombProducer {
    fn more(&mut self, _: usize) -> io::Result<More> {
        panic!("panic in a producer");
    }
}

/// A producer of one large chunk. The producer and the owner of its chunk panic when they are
/// dropped.
struct OneChunk(Option<Bytes>, #[expect(dead_code, reason = "dropped")] Bomb);

impl Producer for OneChunk {
    fn more(&mut self, _: usize) -> io::Result<More> {
        Ok(self.0.take().map_or(More::Done, More::Chunk))
    }
}

/// Calls `push` on a connection, which has to end with a panic. Its neighbour must not.
#[track_caller]
fn ends_with_a_panic(bombs: &Bombs, count: usize, push: impl FnOnce(&Chat)) {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, _peer) = served(&event_loop, log.session());
    let (neighbour, _its_peer) = served(&event_loop, Log::default().session());
    push(&chat);
    run_until(&event_loop, || log.has("close"));
    assert_eq!(log.lines(), ["connect", "close Panic"]);
    assert!(neighbour.is_open());
    assert_eq!(bombs.dropped(), count);
}

#[test]
fn a_producer_may_panic_when_asked_and_again_when_dropped() {
    let bombs = Bombs::default();
    ends_with_a_panic(&bombs, 1, |chat| {
        chat.push_with_producer(BombProducer(bombs.next()));
    });
}

#[test]
fn the_owners_of_all_bytes_sent_by_one_write_may_panic() {
    let bombs = Bombs::default();
    ends_with_a_panic(&bombs, 3, |chat| {
        for _ in 0..3 {
            chat.push(Bytes::from_owner(Owned(vec![b'x'; 5000], bombs.next())));
        }
    });
}

#[test]
fn a_producer_and_its_chunk_may_panic_when_they_are_dropped_together() {
    let bombs = Bombs::default();
    ends_with_a_panic(&bombs, 2, |chat| {
        let chat_of_it = chat.clone();
        struct Discards(OneChunk, Chat);
        impl Producer for Discards {
            fn more(&mut self, budget: usize) -> io::Result<More> {
                self.1.discard_buffers();
                self.0.more(budget)
            }
        }
        let chunk = Bytes::from_owner(Owned(vec![b'x'; 5000], bombs.next()));
        let producer = OneChunk(Some(chunk), bombs.next());
        chat.push_with_producer(Discards(producer, chat_of_it));
    });
}

#[test]
fn all_producers_of_a_composite_may_panic_when_they_are_dropped() {
    let bombs = Bombs::default();
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, _peer) = served(&event_loop, log.session());
    let mut composite = CompositeProducer::default();
    for _ in 0..3 {
        composite.push(OneChunk(None, bombs.next()));
    }
    chat.push_with_producer(composite);
    chat.close();
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "close Dropped"]);
    assert_eq!(bombs.dropped(), 3);
}

#[test]
fn the_hook_of_a_producer_that_panics_may_panic_too() {
    let bombs = Bombs::default();
    ends_with_a_panic(&bombs, 1, |chat| {
        let hook = |_| panic!("panic in the hook of a producer");
        chat.push_with_producer(HookedProducer::new(BombProducer(bombs.next()), hook));
    });
}

/// A producer that has sent the beginning of a chunk, and what it was made from, panic when the queue
/// is dropped.
#[track_caller]
fn drops_both<P: Producer + 'static>(make: impl FnOnce(Bytes, Bomb) -> P) {
    let bombs = Bombs::default();
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, _peer) = served(&event_loop, log.session());
    let chunk = Bytes::from_owner(Owned(vec![b'x'; 5000], bombs.next()));
    let mut producer = make(chunk, bombs.next());
    assert!(matches!(producer.more(100), Ok(More::Chunk(_))));
    chat.push_with_producer(producer);
    chat.close();
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["connect", "close Dropped"]);
    assert_eq!(bombs.dropped(), 2);
}

#[test]
fn a_dot_stuffed_producer_and_its_chunk_may_panic_when_they_are_dropped_together() {
    drops_both(|chunk, bomb| DotStuffer::new(OneChunk(Some(chunk), bomb)));
}

#[test]
fn a_chunked_producer_and_its_chunk_may_panic_when_they_are_dropped_together() {
    drops_both(|chunk, bomb| ChunkedProducer::new(OneChunk(Some(chunk), bomb)));
}

#[test]
fn an_iterator_and_its_item_may_panic_when_they_are_dropped_together() {
    drops_both(|chunk, bomb| {
        let mut item = Some(chunk);
        IterProducer::new(std::iter::from_fn(move || {
            hold(&bomb);
            item.take()
        }))
    });
}

/// A line that panics when it is read, and when it is dropped.
struct BombLine(#[expect(dead_code, reason = "dropped")] Bomb);

impl AsRef<[u8]> for BombLine {
    fn as_ref(&self) -> &[u8] {
        panic!("panic in AsRef");
    }
}

#[test]
fn a_line_may_panic_when_read_and_again_when_dropped() {
    let bombs = Bombs::default();
    ends_with_a_panic(&bombs, 1, |chat| {
        chat.push_with_producer(LinesProducer::new([BombLine(bombs.next())]));
    });
}

#[test]
fn a_factory_and_a_refusal_may_panic_when_a_server_drops_them_together() {
    let (event_loop, bombs) = (new_loop(), Bombs::default());
    let (connected, _peer) = tcp_pair();
    let refusal = Bytes::from_owner(Owned(b"400 busy".to_vec(), bombs.next()));
    let bomb = bombs.next();
    let listened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        // It does not listen, so both are dropped here.
        let server = Server::adopt(connected).refusal(refusal);
        server.listen_on(&event_loop, move |_| {
            hold(&bomb);
            |_: &[u8]| Ok(())
        })
    }));
    assert!(listened.is_err());
    assert_eq!(bombs.dropped(), 2);
}

#[test]
fn all_closures_of_a_server_may_panic_when_they_are_dropped_together() {
    for listens in [false, true] {
        let (event_loop, bombs) = (new_loop(), Bombs::default());
        let socket = if listens {
            Socket::from(TcpListener::bind("127.0.0.1:0").unwrap())
        } else {
            tcp_pair().0.into()
        };
        let (accept_if, configure) = (bombs.next(), bombs.next());
        let (on_close, factory) = (bombs.next(), bombs.next());
        let server = Server::adopt(socket)
            .accept_if(move |_| {
                hold(&accept_if);
                true
            })
            .configure(move |_| {
                hold(&configure);
                Ok(())
            })
            .on_close(move |_| hold(&on_close));
        let listened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            server.listen_on(&event_loop, move |_| {
                hold(&factory);
                |_: &[u8]| Ok(())
            })
        }));
        if let Ok(listener) = listened {
            listener.unwrap().close();
        }
        run_to_end(&event_loop);
        assert_eq!(bombs.dropped(), 4);
    }
}

#[test]
fn the_closures_of_a_connector_may_panic_when_they_are_dropped() {
    let (event_loop, bombs) = (new_loop(), Bombs::default());
    let (configure, on_end, late) = (bombs.next(), bombs.next(), bombs.next());
    let (socket, addr) = common::refusing();
    let backoff = Backoff::default()
        .initial(Duration::from_millis(1))
        .tries(2);
    let feed = Connector::new(addr)
        .configure(move |_| {
            hold(&configure);
            Ok(())
        })
        .reconnect_on(&event_loop, backoff, |_| |_: &[u8]| Ok(()))
        .unwrap();
    feed.on_end(move |_| hold(&on_end));
    run_to_end(&event_loop);
    assert!(feed.outcome().is_err());
    feed.on_end(move |_| hold(&late));
    run_to_end(&event_loop);
    assert_eq!(bombs.dropped(), 3);
    drop(socket);
}

#[test]
fn the_factory_of_a_reconnection_and_its_calls_may_panic_when_the_loop_drops_them_together() {
    for in_a_pause in [false, true] {
        let (event_loop, bombs) = (new_loop(), Bombs::default());
        let (socket, addr) = common::refusing();
        let (factory, calls) = (bombs.next(), [bombs.next(), bombs.next()]);
        let feed = Connector::new(addr)
            .reconnect_on(&event_loop, Backoff::default(), move |_| {
                hold(&factory);
                |_: &[u8]| Ok(())
            })
            .unwrap();
        for bomb in calls {
            feed.on_end(move |_| hold(&bomb));
        }
        if in_a_pause {
            run_until(&event_loop, || feed.chat().is_none());
        }
        drop(event_loop);
        assert_eq!(bombs.dropped(), 3);
        drop(socket);
    }
}

#[test]
fn what_was_pushed_to_a_connection_whose_factory_fails_may_panic_when_it_is_dropped() {
    let (event_loop, bombs) = (new_loop(), Bombs::default());
    let (connected, peer) = tcp_pair();
    let mut peer = Peer::new(peer);
    let chat = Connector::adopt(connected)
        .connect_on(&event_loop, |chat| -> Result<fn(&[u8]) -> Result> {
            chat.push("sorry");
            Err("it has no handler".into())
        })
        .unwrap();
    chat.push(Bytes::from_owner(Owned(vec![b'x'; 5000], bombs.next())));
    let bomb = bombs.next();
    chat.push_hook(move || hold(&bomb));
    peer.expect(&event_loop, "sorry");
    drop(peer);
    run_to_end(&event_loop);
    assert_eq!(bombs.dropped(), 2);
}

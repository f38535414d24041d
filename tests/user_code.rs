//! User code runs where one does not look for it: in conversions, destructors and `Display`. There
//! too it may use any handle, and its panic does no harm.

mod common;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use asynchat::{
    Addr, AsyncChat, Backoff, Channel, Chat, Close, CompositeProducer, Connector, Dispatcher,
    Error, EventLoop, HookedProducer, More, Producer, Result, Socket, TimerId,
};
use bytes::Bytes;
use common::{Log, Peer, addr_of, new_loop, run_to_end, run_until, served, tcp_pair};

/// Pushes while it is converted to be pushed.
struct Converts(Chat);

impl From<Converts> for Bytes {
    fn from(converts: Converts) -> Bytes {
        converts.0.push_slice(b"inner ");
        Bytes::from_static(b"outer")
    }
}

#[test]
fn a_conversion_into_bytes_may_push_to_the_same_chat() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (chat, mut peer) = served(&event_loop, log.session());
    chat.push(Converts(chat.clone()));
    peer.expect(&event_loop, "inner outer");
}

thread_local! {
    /// Where an `Owner` pushes to: the owner of `Bytes` has to be `Send`, which a chat is not.
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

struct BombWhenDropped;

impl Drop for BombWhenDropped {
    fn drop(&mut self) {
        panic!("panic in a destructor");
    }
}

#[test]
fn a_periodic_call_that_cancels_itself_may_panic_when_it_is_dropped() {
    let (event_loop, log) = (new_loop(), Log::default());
    let id: Rc<Cell<Option<TimerId>>> = Rc::default();
    let (own, canceller, bomb) = (Rc::clone(&id), event_loop.clone(), BombWhenDropped);
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

/// An error whose text cannot be had.
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
    fn handle_error(&mut self, _: &Error) {
        self.log.add("error");
    }
    fn handle_close(&mut self, why: &Close) {
        let handler = matches!(why, Close::Handler(_));
        self.log.add(format!("close, by its handler: {handler}"));
    }
}

#[test]
fn a_reason_that_panics_when_it_is_logged_is_told_all_the_same() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(std::io::sink)
        .finish();
    tracing::subscriber::with_default(subscriber, || {
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
struct ErrorBomb;

impl fmt::Display for ErrorBomb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an error that panics when it is dropped")
    }
}

impl std::error::Error for ErrorBomb {}

impl Drop for ErrorBomb {
    fn drop(&mut self) {
        panic!("panic in the destructor of an error");
    }
}

#[test]
fn an_error_that_panics_when_it_is_dropped_ends_its_own_connection() {
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
                // Then the error is the second reason, which nobody is told.
                chat.close();
            }
            Err(ErrorBomb.into())
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
fn an_error_that_panics_when_it_is_dropped_is_no_end_of_a_listener() {
    struct Refuses {
        channel: Channel,
        log: Log,
    }
    impl Dispatcher for Refuses {
        fn channel(&self) -> &Channel {
            &self.channel
        }
        fn handle_accepted(&mut self, _: Socket, _: Addr) -> Result {
            Err(ErrorBomb.into())
        }
        fn handle_error(&mut self, _: &Error) {
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

/// Fails in `handle_piped` with an error that panics when it is printed.
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
fn the_other_end_of_a_pipe_is_told_of_an_error_that_panics_when_it_is_printed() {
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

/// An error whose text can be had once: `handle_error` logs it.
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

/// Fails as soon as it is up, with an error that panics when it is printed again.
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
fn a_connection_is_made_again_after_an_error_that_panics_when_it_is_printed() {
    let made = Rc::new(Cell::new(0));
    let counted = Rc::clone(&made);
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_writer(std::io::sink)
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        let event_loop = new_loop();
        let listener = event_loop
            .listen("127.0.0.1:0", Log::default().session())
            .unwrap();
        let backoff = Backoff::default().first(Duration::from_millis(1));
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

/// Counts its destructions, each of which panics.
#[derive(Clone, Default)]
struct Bombs(Arc<AtomicUsize>);

struct Bomb(Bombs);

impl Bombs {
    fn next(&self) -> Bomb {
        Bomb(self.clone())
    }
    fn dropped(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
        panic!("panic in a destructor");
    }
}

/// Has a closure capture it.
fn hold(_: &Bomb) {}

/// Gives the loop two of everything that it holds for its user, and says how many that is.
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
        // A visit, and what is queued and was queued for a connection.
        let chat = event_loop.connect(addr, |_| |_: &[u8]| Ok(())).unwrap();
        let bomb = bombs.next();
        let visit = move |_: &mut ()| {
            hold(&bomb);
            Ok(())
        };
        // Its handler is of another type: then it is dropped here.
        let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| chat.post(visit)));
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

/// Owns bytes.
struct Owned(Vec<u8>, #[expect(dead_code, reason = "dropped")] Bomb);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[test]
fn a_loop_drops_all_that_it_holds_though_every_destructor_panics() {
    let (event_loop, bombs) = (new_loop(), Bombs::default());
    let count = arm(&event_loop, &bombs);
    let before = bombs.dropped();
    drop(event_loop);
    assert_eq!(bombs.dropped() - before, count);
}

#[test]
fn a_loop_that_has_run_drops_what_is_left_though_every_destructor_panics() {
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
fn a_thread_that_ends_drops_what_its_loop_holds_though_every_destructor_panics() {
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

/// A producer that panics when it is asked, and again when it is dropped.
struct BombProducer(#[expect(dead_code, reason = "dropped")] Bomb);

impl Producer for BombProducer {
    fn more(&mut self, _: usize) -> io::Result<More> {
        panic!("panic in a producer");
    }
}

/// A producer of one large chunk whose owner panics when it is dropped, as the producer does.
struct OneChunk(Option<Bytes>, #[expect(dead_code, reason = "dropped")] Bomb);

impl Producer for OneChunk {
    fn more(&mut self, _: usize) -> io::Result<More> {
        Ok(self.0.take().map_or(More::Done, More::Chunk))
    }
}

/// Pushes this to a connection, which has to end with a panic, and its neighbour not.
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
fn the_owners_of_all_bytes_that_one_write_has_sent_may_panic() {
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
    assert_eq!(log.lines(), ["connect", "close Local"]);
    assert_eq!(bombs.dropped(), 3);
}

#[test]
fn the_hook_of_a_producer_may_panic_behind_a_producer_that_does() {
    let bombs = Bombs::default();
    ends_with_a_panic(&bombs, 1, |chat| {
        let hook = |_| panic!("panic in the hook of a producer");
        chat.push_with_producer(HookedProducer::new(BombProducer(bombs.next()), hook));
    });
}

//! User code runs where one does not look for it: in conversions, destructors and `Display`. There
//! too it may use any handle, and its panic does no harm.

mod common;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use asynchat::{Channel, Chat, Close, Dispatcher, Error, Result, TimerId};
use bytes::Bytes;
use common::{Log, Peer, new_loop, run_to_end, served, tcp_pair};

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

/// An error whose text can not be had.
#[derive(Debug)]
struct Unprintable;

impl fmt::Display for Unprintable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("panic in Display");
    }
}

impl std::error::Error for Unprintable {}

/// Fails with an error that can not be logged.
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

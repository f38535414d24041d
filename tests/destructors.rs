//! Whatever holds several values of the user drops them one at a time: two panics of destructors that meet would
//! abort the process.

mod common;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use asynchat::{
    AsyncChat, Channel, Chat, ChunkedProducer, Close, CompositeProducer, Connector, CrlfProducer,
    Dialogue, DotStuffer, HookedProducer, IterProducer, LinesProducer, More, Producer,
    ReadProducer, Result, Server, SimpleProducer, Socket,
};
use bytes::Bytes;
use common::bombs::{Bomb, Bombs, Owned, hold};
use common::{Log, idle, new_loop, run_to_end, served, tcp_pair};

/// An error whose destructor panics.
struct BombError(#[expect(dead_code, reason = "dropped")] Bomb);

impl fmt::Debug for BombError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BombError")
    }
}

impl fmt::Display for BombError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an error")
    }
}

impl std::error::Error for BombError {}

fn error(bombs: &Bombs) -> io::Error {
    io::Error::other(BombError(bombs.next()))
}

/// Bytes whose owner panics when it is dropped. They are large, so that they are not copied.
fn bytes(bombs: &Bombs) -> Bytes {
    Bytes::from_owner(Owned(vec![b'x'; 5000], bombs.next()))
}

/// A producer of one chunk, and a reader. It holds two values, which it drops one at a time as well.
struct Source(Option<Bytes>, #[expect(dead_code, reason = "dropped")] Bomb);

impl Source {
    fn new(bombs: &Bombs) -> Self {
        Source(Some(bytes(bombs)), bombs.next())
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(self.0.take())));
    }
}

impl Producer for Source {
    fn more(&mut self, _: usize) -> io::Result<More> {
        Ok(self.0.take().map_or(More::Pending, More::Chunk))
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        buffer.fill(b'x');
        Ok(buffer.len())
    }
}

/// Each producer of the crate after its first piece, while it holds as many values of the user as it can.
fn producers(bombs: &Bombs) -> Vec<(&'static str, Box<dyn Producer>)> {
    let (of_hook, item, items) = (bombs.next(), bytes(bombs), bombs.next());
    let items = std::iter::once(item).inspect(move |_| hold(&items));
    let (of_lines, mut lines) = (bombs.next(), vec![Err(error(bombs)), Ok("x")]);
    let lines = std::iter::from_fn(move || {
        hold(&of_lines);
        lines.pop()
    });
    let mut composite = CompositeProducer::default();
    composite.push(Source::new(bombs));
    composite.push(Source::new(bombs));
    let mut all: Vec<(&str, Box<dyn Producer>)> = vec![
        (
            "ChunkedProducer",
            Box::new(ChunkedProducer::new(Source::new(bombs))),
        ),
        ("CompositeProducer", Box::new(composite)),
        (
            "CrlfProducer",
            Box::new(CrlfProducer::new(Source::new(bombs))),
        ),
        ("DotStuffer", Box::new(DotStuffer::new(Source::new(bombs)))),
        (
            "HookedProducer",
            Box::new(HookedProducer::new(Source::new(bombs), move |_| {
                hold(&of_hook);
            })),
        ),
        ("IterProducer", Box::new(IterProducer::new(items))),
        ("LinesProducer", Box::new(LinesProducer::fallible(lines))),
        (
            "ReadProducer",
            Box::new(ReadProducer::new(Source::new(bombs))),
        ),
        (
            "SimpleProducer",
            Box::new(SimpleProducer::new(bytes(bombs))),
        ),
    ];
    for (name, producer) in &mut all {
        let piece = producer.more(100);
        assert!(matches!(piece, Ok(More::Chunk(_))), "{name}");
        // It may be the whole chunk.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(piece)));
    }
    all
}

/// A new producer has to be added here.
#[test]
fn the_list_of_producers_is_complete() {
    let exported = include_str!("../src/output/producers/mod.rs").lines();
    let exported = exported.filter_map(|line| line.strip_prefix("pub use "));
    let names = exported.flat_map(|path| path.split(|byte: char| !byte.is_alphanumeric()));
    let types = names.filter(|name| name.starts_with(char::is_uppercase));
    // The argument of a hook, and the lines of a `LinesProducer`.
    let mut types: Vec<_> = types
        .filter(|name| !["Produced", "FallibleLines"].contains(name))
        .collect();
    types.sort_unstable();
    let bombs = Bombs::default();
    let all = producers(&bombs);
    let listed: Vec<_> = all.iter().map(|(name, _)| *name).collect();
    drop_each(all, &bombs);
    assert_eq!(listed, types);
}

/// Drops the values, and checks that all bombs are dropped with them.
#[track_caller]
fn drop_each<T>(values: Vec<(&'static str, T)>, bombs: &Bombs) {
    for (_, value) in values {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
    }
    assert_eq!(Arc::strong_count(&bombs.0), 1, "values were lost");
}

#[test]
fn a_producer_drops_its_values_one_at_a_time() {
    let bombs = Bombs::default();
    drop_each(producers(&bombs), &bombs);
}

#[test]
fn a_connection_that_ends_drops_the_values_of_its_producers_one_at_a_time() {
    let bombs = Bombs::default();
    let (event_loop, log) = (new_loop(), Log::default());
    let (neighbour, _its_peer) = served(&event_loop, Log::default().session());
    let (chat, _peer) = served(&event_loop, log.session());
    for (_, producer) in producers(&bombs) {
        chat.push_with_producer(producer);
    }
    chat.close();
    idle(&event_loop);
    assert_eq!(log.lines(), ["connect", "close Dropped"]);
    assert!(neighbour.is_open());
    assert_eq!(Arc::strong_count(&bombs.0), 1, "values were lost");
}

struct Client {
    _bomb: Bomb,
}

impl AsyncChat for Client {
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(())
    }
}

/// Each other public type that holds several values of the user.
fn others(bombs: &Bombs) -> Vec<(&'static str, Box<dyn Any>)> {
    let (accept_if, configure, on_close) = (bombs.next(), bombs.next(), bombs.next());
    let server = Server::new("127.0.0.1:0")
        .refusal(bytes(bombs))
        .accept_if(move |_| {
            hold(&accept_if);
            true
        })
        .configure(move |_| {
            hold(&configure);
            Ok(())
        })
        .on_close(move |_| hold(&on_close));
    let configure = bombs.next();
    let connector = Connector::new("127.0.0.1:0").configure(move |_| {
        hold(&configure);
        Ok(())
    });
    // No loop reports the reason.
    let channel = Channel::adopt(tcp_pair().0).unwrap();
    channel.close_with(error(bombs));
    vec![
        ("Server", Box::new(server)),
        ("Connector", Box::new(connector)),
        ("Channel", Box::new(channel)),
        ("Close", Box::new(Close::Handler(error(bombs).into()))),
        ("More", Box::new(More::Chunk(bytes(bombs)))),
        (
            "Error",
            Box::new(asynchat::Error::from(error(bombs)).context("x")),
        ),
    ]
}

#[test]
fn a_builder_drops_its_values_one_at_a_time() {
    let bombs = Bombs::default();
    drop_each(others(&bombs), &bombs);
}

#[test]
fn a_dialogue_drops_its_functions_one_at_a_time() {
    let (event_loop, bombs) = (new_loop(), Bombs::default());
    let (chat, _peer) = served(&event_loop, Log::default().session());
    let mut dialogue = Dialogue::<Client>::new(&chat);
    for _ in 0..3 {
        let bomb = bombs.next();
        dialogue.send("DATE\r\n", move |_, _| {
            hold(&bomb);
            Ok(())
        });
    }
    drop_each(vec![("Dialogue", dialogue)], &bombs);
}

#[test]
fn the_errors_of_configure_are_dropped_one_at_a_time_within_the_loop() {
    struct Ending(Rc<RefCell<Vec<String>>>);
    impl AsyncChat for Ending {
        fn found_terminator(&mut self, _: &[u8]) -> Result {
            Ok(())
        }
        fn handle_close(&mut self, why: &Close) {
            self.0.borrow_mut().push(common::name(why));
        }
    }
    let event_loop = new_loop();
    let (bombs, ends) = (Bombs::default(), Rc::new(RefCell::new(Vec::new())));
    // An address of which the last attempt succeeds, and one of which none does.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap();
    let addrs: [SocketAddr; 3] = [open, open, open];
    for fails in [2, 3] {
        let (of_error, tries) = (bombs.clone(), Cell::new(0));
        let ending = Ending(Rc::clone(&ends));
        Connector::new(addrs.to_vec())
            .configure(move |_| {
                tries.set(tries.get() + 1);
                if tries.get() > fails {
                    Ok(())
                } else {
                    Err(error(&of_error))
                }
            })
            .connect_on(&event_loop, |_| ending)
            .unwrap();
    }
    idle(&event_loop);
    assert_eq!(*ends.borrow(), ["ConnectFailed"]);
    event_loop.close_all();
    run_to_end(&event_loop);
    assert_eq!(*ends.borrow(), ["ConnectFailed", "Local"]);
    assert_eq!((bombs.dropped(), Arc::strong_count(&bombs.0)), (5, 1));
}

#[cfg(all(unix, not(any(target_os = "openbsd", target_os = "redox"))))]
#[test]
fn a_process_that_cannot_be_started_drops_its_functions_one_at_a_time() {
    let bombs = Bombs::default();
    let (factory, exited) = (bombs.next(), bombs.next());
    let spawned = catch_unwind(AssertUnwindSafe(|| {
        asynchat::Subprocess::spawn(
            &mut std::process::Command::new("/no/such/program"),
            move |_| {
                hold(&factory);
                |_: &[u8]| Ok(())
            },
            move |_| hold(&exited),
        )
    }));
    assert!(spawned.is_err());
    assert_eq!(Arc::strong_count(&bombs.0), 1);
}

/// No loop can drop it later. The caller does not expect the panic of its destructor.
#[test]
fn a_handle_whose_loop_is_gone_contains_the_destructors_of_what_it_is_given() {
    type Give = (&'static str, fn(&Chat, &Bombs));
    let gives: [Give; 5] = [
        ("close_with", |chat, bombs| {
            chat.close_with(BombError(bombs.next()));
        }),
        ("push_with_producer", |chat, bombs| {
            chat.push_with_producer(Source::new(bombs));
        }),
        ("push_hook", |chat, bombs| {
            let bomb = bombs.next();
            chat.push_hook(move || hold(&bomb));
        }),
        ("replace_session", |chat, bombs| {
            chat.replace_session(Client {
                _bomb: bombs.next(),
            });
        }),
        ("close", |chat, _| chat.close()),
    ];
    let event_loop = new_loop();
    let (chat, _peer) = served(&event_loop, Log::default().session());
    drop(event_loop);
    for (name, give) in gives {
        let bombs = Bombs::default();
        let given = catch_unwind(AssertUnwindSafe(|| give(&chat, &bombs)));
        assert!(given.is_ok(), "the panic has left {name}");
        assert_eq!(Arc::strong_count(&bombs.0), 1, "{name}");
    }
    let dispatcher = Channel::adopt(Socket::from(tcp_pair().0)).unwrap();
    dispatcher.close();
    let bombs = Bombs::default();
    dispatcher.close_with(BombError(bombs.next()));
    assert_eq!(bombs.dropped(), 1);
}

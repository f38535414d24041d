//! How the pump drains a queue.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use asynchat::More;
use asynchat::internals::{Fifo, Item, PumpError, Pumped, Sink, pump};
use bytes::Bytes;

use super::{Socket, hook, new_fifo, pending_producer, producer, pump_limited, queue, repeats};

#[test]
fn nothing_is_sent_after_a_hook_has_closed_the_sink() {
    let (fifo, mut sink) = (new_fifo(usize::MAX), Socket::new(usize::MAX));
    let closing = Rc::clone(&sink.open);
    fifo.borrow_mut().push_slice(b"before");
    queue(&fifo, Item::Hook(Box::new(move || closing.set(false))));
    fifo.borrow_mut().push_slice(b"after");
    assert!(matches!(
        pump(&fifo, &mut sink, 65_536),
        Ok(Pumped::Drained)
    ));
    assert_eq!(sink.data, b"before");
}

#[test]
fn many_parts_are_sent_in_one_turn() {
    let (fifo, mut sink) = (new_fifo(usize::MAX), Socket::new(usize::MAX));
    let mut wanted = Vec::new();
    for n in 0..200_u8 {
        let data = vec![n; 5000];
        wanted.extend_from_slice(&data);
        wanted.push(n);
        fifo.borrow_mut().push_bytes(&data.into());
        fifo.borrow_mut().push_slice(&[n]);
    }
    assert_eq!(fifo.borrow().queued(), wanted.len());
    assert!(matches!(
        pump(&fifo, &mut sink, usize::MAX),
        Ok(Pumped::Drained)
    ));
    assert!(sink.data == wanted);
}

#[test]
fn a_spent_budget_is_exact() {
    let (fifo, mut sink) = (new_fifo(usize::MAX), Socket::new(usize::MAX));
    fifo.borrow_mut().push_bytes(&vec![b'x'; 100_000].into());
    assert!(matches!(pump(&fifo, &mut sink, 65_536), Ok(Pumped::Spent)));
    assert_eq!((sink.data.len(), fifo.borrow().queued()), (65_536, 34_464));
}

/// A reply of 64 KiB took a second turn, and a second write, for its CRLF.
#[test]
fn a_sixteenth_more_than_the_budget_is_sent_if_that_empties_the_queue() {
    let pump_to = |sink: &mut Socket, (head, large, small): (usize, usize, usize)| {
        let fifo = new_fifo(usize::MAX);
        fifo.borrow_mut().push_slice(&vec![b'x'; head]);
        fifo.borrow_mut().push_bytes(&vec![b'y'; large].into());
        fifo.borrow_mut().push_slice(&vec![b'z'; small]);
        pump(&fifo, sink, 65_536).unwrap();
        fifo.borrow().queued()
    };
    for (parts, left) in [
        ((69_632, 0, 0), 0),
        ((69_633, 0, 0), 4097),
        ((4, 65_536, 2), 0),
        ((4, 69_626, 2), 0),
        ((4, 69_626, 3), 4097),
        ((65_530, 4096, 6), 0),
        ((65_530, 4096, 7), 4097),
    ] {
        let mut sink = Socket::new(usize::MAX);
        assert_eq!(pump_to(&mut sink, parts), left, "{parts:?}");
        assert_eq!(sink.writes.len(), 1, "{parts:?}");
    }
}

/// Another turn follows anyway.
#[test]
fn a_turn_with_a_producer_or_a_hook_in_its_queue_keeps_to_its_budget() {
    for item in [hook as fn() -> Item, pending_producer] {
        let (fifo, mut sink) = (new_fifo(usize::MAX), Socket::new(usize::MAX));
        fifo.borrow_mut().push_slice(&[b'x'; 65_600]);
        queue(&fifo, item());
        fifo.borrow_mut().push_slice(b"y");
        pump(&fifo, &mut sink, 65_536).unwrap();
        assert_eq!(sink.data.len(), 65_536);
    }
}

/// 600 MB through a queue that never became empty left 558 MB in it.
#[test]
fn what_is_sent_is_released_though_the_queue_is_never_empty() {
    let fifo = new_fifo(65_536);
    repeats(&fifo, 600, 20_000);
    let mut most = 0;
    // The kernel takes a little less than the producer makes, so that something is always left.
    while !matches!(pump_limited(&fifo, 30_000).unwrap(), Pumped::Drained) {
        most = most.max(fifo.borrow().memory());
    }
    assert!(most <= 4 * 65_536, "{most} bytes");
}

#[test]
fn what_is_sent_is_released_though_a_turn_sends_less_than_is_queued() {
    let fifo = new_fifo(65_536);
    fifo.borrow_mut().push_slice(&[b'x'; 20_000]);
    for _ in 0..1000 {
        fifo.borrow_mut().push_slice(&[b'x'; 4096]);
        pump(&fifo, &mut Socket::new(usize::MAX), 4096).unwrap();
        assert_eq!(fifo.borrow().queued(), 20_000);
        let memory = fifo.borrow().memory();
        assert!(memory <= 4 * 20_000, "{memory} bytes");
    }
}

/// What a producer or a hook costs is not in the bytes that it yields.
#[test]
fn a_turn_calls_producers_and_hooks_64_times_at_most() {
    let fifo = new_fifo(65_536);
    let asked = repeats(&fifo, 512, 1000);
    assert!(matches!(pump_limited(&fifo, usize::MAX), Ok(Pumped::Spent)));
    assert_eq!(asked.take(), 64);

    // A hook that queues the next one.
    fn queue_next(fifo: &Rc<RefCell<Fifo>>, calls: &Rc<Cell<usize>>) {
        let (next, count) = (Rc::clone(fifo), Rc::clone(calls));
        let hook = move || {
            count.set(count.get() + 1);
            queue_next(&next, &count);
        };
        queue(fifo, Item::Hook(Box::new(hook)));
    }
    let (fifo, calls) = (Rc::new(new_fifo(65_536)), Rc::default());
    queue_next(&fifo, &calls);
    for turn in 1..5 {
        assert!(matches!(pump_limited(&fifo, usize::MAX), Ok(Pumped::Spent)));
        assert_eq!(calls.get(), turn * 64);
    }
    let discarded = fifo.borrow_mut().discard();
    drop(discarded);
}

#[test]
fn an_empty_chunk_or_a_second_short_one_ends_the_asking_of_the_turn() {
    for (chunk, calls) in [(0, 1), (1, 2), (511, 2), (512, 64)] {
        let fifo = new_fifo(65_536);
        let asked = repeats(&fifo, chunk, 1000);
        let sent = fifo.borrow().queued();
        assert!(matches!(pump_limited(&fifo, usize::MAX), Ok(Pumped::Spent)));
        assert_eq!(
            (asked.take(), fifo.borrow().queued()),
            (calls, sent),
            "{chunk}"
        );
    }
}

/// A short chunk is often a producer's last: small files, one after another, share a write.
#[test]
fn short_producers_one_after_another_share_a_turn() {
    let fifo = new_fifo(65_536);
    let asked: Vec<_> = (0..20).map(|_| repeats(&fifo, 12, 1)).collect();
    assert!(matches!(
        pump_limited(&fifo, usize::MAX),
        Ok(Pumped::Drained)
    ));
    assert!(asked.iter().all(|asked| asked.get() == 2));
}

/// The model allows any number of writes.
#[test]
fn a_queue_of_small_pushes_takes_one_round() {
    let (fifo, mut sink) = (new_fifo(65_536), Socket::new(usize::MAX));
    fifo.borrow_mut().push_slice(b"200 ");
    fifo.borrow_mut().push_slice(b"ok\r\n");
    assert!(matches!(
        pump(&fifo, &mut sink, 65_536),
        Ok(Pumped::Drained)
    ));
    assert_eq!(sink.data, b"200 ok\r\n");
    assert_eq!((sink.looks.get(), sink.writes, sink.plain), (1, vec![1], 1));
}

#[test]
fn the_bytes_of_a_spent_budget_are_not_gathered() {
    let (fifo, mut sink) = (new_fifo(65_536), Socket::new(usize::MAX));
    fifo.borrow_mut().push_slice(&[b'x'; 10]);
    fifo.borrow_mut().push_bytes(&vec![b'y'; 5000].into());
    for plain in 1..=2 {
        assert!(matches!(pump(&fifo, &mut sink, 5), Ok(Pumped::Spent)));
        assert_eq!((sink.data.len(), sink.plain), (5 * plain, plain));
    }
}

#[test]
fn up_to_64_parts_share_a_write() {
    for large in 0..66 {
        let (fifo, mut sink) = (new_fifo(usize::MAX), Socket::new(usize::MAX));
        fifo.borrow_mut().push_slice(b"x");
        for _ in 0..large {
            fifo.borrow_mut().push_bytes(&vec![b'x'; 4096].into());
        }
        assert!(matches!(
            pump(&fifo, &mut sink, usize::MAX),
            Ok(Pumped::Drained)
        ));
        assert_eq!(sink.data.len(), 1 + large * 4096);
        match large {
            0..64 => assert_eq!(sink.writes, [large + 1]),
            _ => assert_eq!(sink.writes, [64, large - 63]),
        }
    }
}

#[test]
fn a_small_push_behind_a_producer_is_copied_behind_its_bytes() {
    for (len, parts) in [(1, 1), (4095, 1), (4096, 2)] {
        let (fifo, mut sink) = (new_fifo(65_536), Socket::new(usize::MAX));
        repeats(&fifo, 600, 1);
        fifo.borrow_mut().push_slice(&vec![b'y'; len]);
        assert!(matches!(
            pump(&fifo, &mut sink, 65_536),
            Ok(Pumped::Drained)
        ));
        assert_eq!((sink.data.len(), sink.writes), (600 + len, vec![parts]));
    }
}

#[test]
fn a_chunk_of_4096_bytes_or_more_is_not_copied() {
    for (len, is_copied) in [(4095, true), (4096, false)] {
        let (fifo, mut sink) = (new_fifo(65_536), Socket::new(usize::MAX));
        let chunk = Bytes::from(vec![b'x'; len]);
        let mut answers = vec![More::Done, More::Chunk(chunk.clone())];
        queue(&fifo, producer(move |_| Ok(answers.pop().unwrap())));
        assert!(matches!(
            pump(&fifo, &mut sink, 65_536),
            Ok(Pumped::Drained)
        ));
        assert_eq!(sink.data.len(), len);
        assert_eq!(sink.parts[0] != chunk.as_ptr(), is_copied);
    }
}

/// Bytes whose owner counts its drop and panics.
fn panicking_bytes(drops: &'static std::thread::LocalKey<Cell<usize>>) -> Bytes {
    struct Owner(&'static std::thread::LocalKey<Cell<usize>>);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &[b'x'; 5000]
        }
    }
    impl Drop for Owner {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
            panic!("a destructor that panics");
        }
    }
    Bytes::from_owner(Owner(drops))
}

#[test]
fn a_panicking_destructor_leaves_the_queue_without_what_was_sent() {
    thread_local! {
        static DROPS: Cell<usize> = const { Cell::new(0) };
    }
    for count in 1..4 {
        let (fifo, mut sink) = (new_fifo(65_536), Socket::new(usize::MAX));
        for _ in 0..count {
            fifo.borrow_mut().push_bytes(&panicking_bytes(&DROPS));
        }
        fifo.borrow_mut().push_bytes(&vec![b'y'; 5000].into());
        sink.limit = count * 5000 + 1;
        let pumped = catch_unwind(AssertUnwindSafe(|| pump(&fifo, &mut sink, 65_536)));
        assert!(pumped.is_err(), "the panic was swallowed");
        assert_eq!((DROPS.take(), fifo.borrow().queued()), (count, 4999));
    }
}

#[test]
fn the_error_of_a_shutdown_is_the_error_of_the_sink() {
    struct Broken;
    impl Sink for Broken {
        fn send_gathered(&mut self, _: &[IoSlice<'_>]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }
        fn shutdown_write(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::NotConnected.into())
        }
        fn is_open(&self) -> bool {
            true
        }
    }
    let fifo = new_fifo(65_536);
    queue(&fifo, Item::ShutdownWrite);
    match pump(&fifo, &mut Broken, 65_536) {
        Err(PumpError::Sink(error)) => assert_eq!(error.kind(), io::ErrorKind::NotConnected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_resumed_producer_is_asked_again_though_it_is_about_to_say_pending() {
    let fifo = Rc::new(new_fifo(65_536));
    let (resumes, mut asked) = (Rc::clone(&fifo), 0);
    let item = producer(move |_| {
        asked += 1;
        if asked == 1 {
            resumes.borrow_mut().resume();
            return Ok(More::Pending);
        }
        Ok(More::Done)
    });
    queue(&fifo, item);
    assert!(matches!(
        pump_limited(&fifo, usize::MAX),
        Ok(Pumped::Drained)
    ));
}

/// A sink that holds what it has taken until it has to pass it on, as TLS does.
struct Holding {
    held: usize,
    blocked: bool,
    log: Rc<RefCell<Vec<String>>>,
}

impl Holding {
    fn pass_on(&mut self, what: &str) -> io::Result<()> {
        if self.blocked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.held = 0;
        self.log.borrow_mut().push(what.to_owned());
        Ok(())
    }
}

impl Sink for Holding {
    fn send_gathered(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let count = parts.iter().map(|part| part.len()).sum();
        self.held += count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pass_on("flush")
    }

    fn finish(&mut self, is_whole: bool) -> io::Result<()> {
        self.pass_on(if is_whole { "finish" } else { "finish a part" })
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.log.borrow_mut().push("shutdown".to_owned());
        Ok(())
    }

    fn is_open(&self) -> bool {
        true
    }
}

#[test]
fn a_mark_waits_until_the_sink_has_passed_everything_on() {
    let log = Rc::new(RefCell::new(Vec::new()));
    let mut sink = Holding {
        held: 0,
        blocked: true,
        log: Rc::clone(&log),
    };
    let called = Rc::clone(&log);
    let hook = move || called.borrow_mut().push("hook".to_owned());
    let marks = [
        (Item::Hook(Box::new(hook)), &["flush", "hook"]),
        (Item::ShutdownWrite, &["finish", "shutdown"]),
    ];
    for (mark, expected) in marks {
        let fifo = new_fifo(usize::MAX);
        sink.blocked = true;
        fifo.borrow_mut().push_slice(b"before");
        queue(&fifo, mark);
        let pumped = pump(&fifo, &mut sink, 65_536);
        assert!(matches!(pumped, Ok(Pumped::Blocked)) && sink.held == 6);
        assert!(log.borrow().is_empty() && fifo.borrow().is_actionable());
        sink.blocked = false;
        let pumped = pump(&fifo, &mut sink, 65_536);
        assert!(matches!(pumped, Ok(Pumped::Drained)) && sink.held == 0);
        assert_eq!(log.take(), expected);
    }
    let fifo = new_fifo(usize::MAX);
    sink.blocked = true;
    fifo.borrow_mut().push_slice(b"before");
    queue(&fifo, Item::StartTls);
    fifo.borrow_mut().push_slice(b"behind");
    assert!(matches!(
        pump(&fifo, &mut sink, 65_536),
        Ok(Pumped::Blocked)
    ));
    sink.blocked = false;
    assert!(matches!(
        pump(&fifo, &mut sink, 65_536),
        Ok(Pumped::StartTls)
    ));
    assert_eq!((fifo.borrow().queued(), sink.held), (6, 0));
}

#[test]
fn discarding_keeps_the_beginning_of_tls() {
    let (fifo, mut sink) = (new_fifo(usize::MAX), Socket::new(usize::MAX));
    fifo.borrow_mut().push_slice(b"before");
    queue(&fifo, Item::StartTls);
    fifo.borrow_mut().push_slice(b"behind");
    let discarded = fifo.borrow_mut().discard();
    assert_eq!(discarded.len(), 1);
    assert!(matches!(
        pump(&fifo, &mut sink, 65_536),
        Ok(Pumped::StartTls)
    ));
    assert!(sink.data.is_empty() && fifo.borrow().is_empty());
}

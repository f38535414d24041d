//! The output queue: a random one against the model, and by hand what the model does not count.

mod fifo_model;

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::rc::Rc;

use asynchat::internals::{Fifo, Item, Pumped, Sink, pump};
use asynchat::{More, Producer};
use fifo_model::{Act, Answer, Reply, Takes, check};
use proptest::collection::vec;
use proptest::prelude::*;

/// Acts that anybody may do, and that queue no user code.
fn plain_act() -> impl Strategy<Value = Act> {
    let size = prop_oneof![0..20_usize, 0..5000_usize, 4090..9000_usize];
    prop_oneof![
        8 => size.clone().prop_map(Act::PushSlice),
        4 => size.clone().prop_map(Act::PushSlices),
        6 => size.clone().prop_map(Act::PushBytes),
        1 => Just(Act::ShutdownWrite),
        1 => Just(Act::Discard),
        4 => Just(Act::Resume),
        1 => prop_oneof![Just(Act::Close), Just(Act::Seal), Just(Act::CloseSink)],
        1 => Just(Act::AdoptBuffer),
        1 => Just(Act::ReleaseBuffer),
        2 => Just(Act::Trim),
        2 => size.clone().prop_map(Act::Backlog),
        1 => size.prop_map(Act::HighWater),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    let answer = prop_oneof![
        6 => prop_oneof![0..300_usize, 4000..9000_usize].prop_map(Answer::Chunk),
        1 => Just(Answer::Chunk(0)),
        2 => Just(Answer::Pending),
        1 => Just(Answer::WouldBlock),
        1 => Just(Answer::Fails),
    ];
    let acts = prop_oneof![3 => Just(vec![]), 1 => vec(plain_act(), 0..3)];
    (acts, answer).prop_map(|(acts, answer)| Reply { acts, answer })
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        30 => plain_act(),
        6 => vec(reply(), 0..6).prop_map(Act::Producer),
        4 => vec(plain_act(), 0..3).prop_map(Act::Hook),
        7 => (1..20_000_usize).prop_map(Act::Pump),
    ]
}

fn takes() -> impl Strategy<Value = Takes> {
    prop_oneof![
        1 => Just(Takes::Nothing),
        1 => prop_oneof![9 => Just(Takes::All), 1 => Just(Takes::Breaks)],
        2 => (1..50_usize).prop_map(Takes::Bytes),
        2 => (1..9000_usize).prop_map(Takes::Bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_comes_out_is_what_went_in(
        acts in vec(act(), 1..40),
        takes in vec(takes(), 0..6),
        high_water in prop_oneof![Just(usize::MAX), 0..20_000_usize],
    ) {
        check(high_water, takes, &acts);
    }
}

/// A sink that takes everything until it is closed.
struct Greedy(Vec<u8>, Rc<Cell<bool>>);

impl Sink for Greedy {
    fn send_gathered(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        assert!(self.1.get(), "a write to a closed sink");
        let before = self.0.len();
        parts.iter().for_each(|part| self.0.extend_from_slice(part));
        Ok(self.0.len() - before)
    }
    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn is_open(&self) -> bool {
        self.1.get()
    }
}

#[test]
fn nothing_is_sent_after_a_hook_has_closed_the_sink() {
    let (fifo, open) = (
        RefCell::new(Fifo::new(usize::MAX)),
        Rc::new(Cell::new(true)),
    );
    let closing = Rc::clone(&open);
    fifo.borrow_mut().push_slice(b"before");
    let hook = Item::Hook(Box::new(move || closing.set(false)));
    assert!(fifo.borrow_mut().push(hook).is_none());
    fifo.borrow_mut().push_slice(b"after");
    let mut sink = Greedy(Vec::new(), open);
    assert!(matches!(
        pump(&fifo, &mut sink, 65_536),
        Ok(Pumped::Drained)
    ));
    assert_eq!(sink.0, b"before");
}

#[test]
fn many_parts_leave_in_one_go() {
    let (fifo, open) = (
        RefCell::new(Fifo::new(usize::MAX)),
        Rc::new(Cell::new(true)),
    );
    let mut wanted = Vec::new();
    for n in 0..200_u8 {
        let data = vec![n; 5000];
        wanted.extend_from_slice(&data);
        wanted.push(n);
        fifo.borrow_mut().push_bytes(&data.into());
        fifo.borrow_mut().push_slice(&[n]);
    }
    let mut sink = Greedy(Vec::new(), open);
    assert_eq!(fifo.borrow().queued(), wanted.len());
    assert!(matches!(
        pump(&fifo, &mut sink, usize::MAX),
        Ok(Pumped::Drained)
    ));
    assert!(sink.0 == wanted);
}

#[test]
fn a_spent_budget_is_exact() {
    let (fifo, open) = (
        RefCell::new(Fifo::new(usize::MAX)),
        Rc::new(Cell::new(true)),
    );
    fifo.borrow_mut().push_bytes(&vec![b'x'; 100_000].into());
    let mut sink = Greedy(Vec::new(), open);
    assert!(matches!(pump(&fifo, &mut sink, 65_536), Ok(Pumped::Spent)));
    assert_eq!((sink.0.len(), fifo.borrow().queued()), (65_536, 34_464));
}

/// Yields chunks of one size, so many times.
struct Repeats {
    chunk: usize,
    times: usize,
    asked: Rc<Cell<usize>>,
}

impl Producer for Repeats {
    fn more(&mut self, _budget: usize) -> io::Result<More> {
        self.asked.set(self.asked.get() + 1);
        if self.times == 0 {
            return Ok(More::Done);
        }
        self.times -= 1;
        Ok(More::Chunk(vec![b'x'; self.chunk].into()))
    }
}

/// A sink that takes at most so many bytes at a time.
struct Limited(usize);

impl Sink for Limited {
    fn send_gathered(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let offered: usize = parts.iter().map(|part| part.len()).sum();
        Ok(offered.min(self.0))
    }
    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn is_open(&self) -> bool {
        true
    }
}

fn repeats(fifo: &RefCell<Fifo>, chunk: usize, times: usize) -> Rc<Cell<usize>> {
    let asked = Rc::new(Cell::new(0));
    let producer = Repeats {
        chunk,
        times,
        asked: Rc::clone(&asked),
    };
    let refused = fifo.borrow_mut().push(Item::Producer(Box::new(producer)));
    assert!(refused.is_none());
    asked
}

/// 600 MB through a queue that never became empty left 558 MB in it.
#[test]
fn what_is_sent_is_released_though_the_queue_is_never_empty() {
    let fifo = RefCell::new(Fifo::new(65_536));
    repeats(&fifo, 600, 20_000);
    let mut most = 0;
    // The kernel takes a little less than the producer makes, so that something is always left.
    while !matches!(
        pump(&fifo, &mut Limited(30_000), 65_536).unwrap(),
        Pumped::Drained
    ) {
        most = most.max(fifo.borrow().memory());
    }
    assert!(most <= 4 * 65_536, "{most} bytes");
}

#[test]
fn what_is_sent_is_released_though_a_turn_sends_less_than_is_queued() {
    let fifo = RefCell::new(Fifo::new(65_536));
    fifo.borrow_mut().push_slice(&[b'x'; 20_000]);
    for _ in 0..1000 {
        fifo.borrow_mut().push_slice(&[b'x'; 4096]);
        pump(&fifo, &mut Limited(usize::MAX), 4096).unwrap();
        assert_eq!(fifo.borrow().queued(), 20_000);
        let memory = fifo.borrow().memory();
        assert!(memory <= 4 * 20_000, "{memory} bytes");
    }
}

/// What a producer or a hook costs is not in the bytes that it yields.
#[test]
fn a_turn_calls_producers_and_hooks_64_times_at_most() {
    let fifo = RefCell::new(Fifo::new(65_536));
    let asked = repeats(&fifo, 512, 1000);
    assert!(matches!(
        pump(&fifo, &mut Limited(usize::MAX), 65_536),
        Ok(Pumped::Spent)
    ));
    assert_eq!(asked.take(), 64);

    // A hook that queues the next one.
    fn queue(fifo: &Rc<RefCell<Fifo>>, calls: &Rc<Cell<usize>>) {
        let (next, count) = (Rc::clone(fifo), Rc::clone(calls));
        let hook = move || {
            count.set(count.get() + 1);
            queue(&next, &count);
        };
        assert!(fifo.borrow_mut().push(Item::Hook(Box::new(hook))).is_none());
    }
    let (fifo, calls) = (Rc::new(RefCell::new(Fifo::new(65_536))), Rc::default());
    queue(&fifo, &calls);
    for turn in 1..5 {
        assert!(matches!(
            pump(&fifo, &mut Limited(usize::MAX), 65_536),
            Ok(Pumped::Spent)
        ));
        assert_eq!(calls.get(), turn * 64);
    }
    let discarded = fifo.borrow_mut().discard();
    drop(discarded);
}

#[test]
fn an_empty_chunk_or_a_second_short_one_ends_the_asking_of_the_turn() {
    for (chunk, calls) in [(0, 1), (1, 2), (511, 2), (512, 64)] {
        let fifo = RefCell::new(Fifo::new(65_536));
        let asked = repeats(&fifo, chunk, 1000);
        let sent = fifo.borrow().queued();
        assert!(matches!(
            pump(&fifo, &mut Limited(usize::MAX), 65_536),
            Ok(Pumped::Spent)
        ));
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
    let fifo = RefCell::new(Fifo::new(65_536));
    let asked: Vec<_> = (0..20).map(|_| repeats(&fifo, 12, 1)).collect();
    assert!(matches!(
        pump(&fifo, &mut Limited(usize::MAX), 65_536),
        Ok(Pumped::Drained)
    ));
    assert!(asked.iter().all(|asked| asked.get() == 2));
}

/// Above the mark the weight is looked at with every push.
#[test]
fn the_weight_of_many_producers_is_counted_as_they_come_and_go() {
    let fifo = RefCell::new(Fifo::new(65_536));
    for _ in 0..100 {
        repeats(&fifo, 1, 1);
    }
    assert_eq!(fifo.borrow().weight(), 100 * 4096);
    pump(&fifo, &mut Limited(usize::MAX), 65_536).unwrap();
    assert_eq!(fifo.borrow().weight(), 68 * 4096);
    let discarded = fifo.borrow_mut().discard();
    assert_eq!((discarded.len(), fifo.borrow().weight()), (68, 0));
}

//! The queue against a model: whatever is queued, and however little the socket takes at a time,
//! the bytes that come out are the bytes that went in, in order.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;

use asynchat::internals::{Fifo, Item, PumpError, Pumped, Sink, pump};
use asynchat::{Close, More, Producer};
use proptest::collection::vec;
use proptest::prelude::*;

/// What is done to the queue.
#[derive(Clone, Debug)]
enum Op {
    PushSlice(usize),
    PushSlices(usize),
    PushBytes(usize),
    Producer(Vec<Step>),
    Hook,
    /// A hook that pushes so much.
    PushingHook(usize),
    ShutdownWrite,
    Discard,
    Resume,
    Pump(usize),
    Close,
}

/// What a producer answers.
#[derive(Clone, Debug)]
enum Step {
    Chunk(usize),
    Pending,
    WouldBlock,
    Fail,
}

fn op() -> impl Strategy<Value = Op> {
    let size = prop_oneof![0..20_usize, 0..5000_usize, 4090..9000_usize];
    let step = prop_oneof![
        6 => prop_oneof![0..300_usize, 4000..9000_usize].prop_map(Step::Chunk),
        1 => Just(Step::Chunk(0)),
        2 => Just(Step::Pending),
        1 => Just(Step::WouldBlock),
    ];
    let failing = vec(step.clone(), 0..4).prop_map(|mut steps| {
        steps.push(Step::Fail);
        steps
    });
    prop_oneof![
        8 => size.clone().prop_map(Op::PushSlice),
        4 => size.clone().prop_map(Op::PushSlices),
        6 => size.clone().prop_map(Op::PushBytes),
        6 => vec(step, 0..6).prop_map(Op::Producer),
        1 => failing.prop_map(Op::Producer),
        4 => Just(Op::Hook),
        3 => size.prop_map(Op::PushingHook),
        1 => Just(Op::ShutdownWrite),
        1 => Just(Op::Discard),
        4 => Just(Op::Resume),
        6 => (1..20_000_usize).prop_map(Op::Pump),
        1 => Just(Op::Close),
    ]
}

/// A socket that takes so much at a time, and nothing at a zero.
struct Socket {
    takes: Vec<usize>,
    turn: usize,
    out: Rc<RefCell<Vec<u8>>>,
    shutdowns: Vec<usize>,
    fell_short: bool,
}

impl Sink for Socket {
    fn send_gathered(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let offered: usize = parts.iter().map(|part| part.len()).sum();
        assert!(offered > 0, "a send of nothing");
        let takes = self.takes[self.turn % self.takes.len()];
        self.turn += 1;
        self.fell_short |= takes < offered;
        if takes == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut left = takes;
        for part in parts {
            let taken = left.min(part.len());
            self.out.borrow_mut().extend_from_slice(&part[..taken]);
            left -= taken;
        }
        Ok(takes - left)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shutdowns.push(self.out.borrow().len());
        Ok(())
    }

    fn is_open(&self) -> bool {
        true
    }
}

/// What the model and the queued items share.
struct Shared {
    high_water: usize,
    fifo: RefCell<Fifo>,
    out: Rc<RefCell<Vec<u8>>>,
    /// What has to come out, if all of it comes.
    wanted: RefCell<Vec<u8>>,
    /// Where in `wanted` hooks are to be called that have not been.
    hooks: RefCell<VecDeque<usize>>,
    sealed: Cell<bool>,
    made: Cell<usize>,
    dropped: Cell<usize>,
}

impl Shared {
    fn new(high_water: usize) -> Self {
        Shared {
            high_water,
            fifo: RefCell::new(Fifo::new(high_water)),
            out: Rc::default(),
            wanted: RefCell::default(),
            hooks: RefCell::default(),
            sealed: Cell::new(false),
            made: Cell::new(0),
            dropped: Cell::new(0),
        }
    }

    /// The next bytes of the pattern, no two stretches of which are alike.
    fn pattern(&self, len: usize) -> Vec<u8> {
        let mut wanted = self.wanted.borrow_mut();
        let start = wanted.len();
        let data: Vec<u8> = (start..start + len).map(|n| (n ^ (n >> 8)) as u8).collect();
        wanted.extend_from_slice(&data);
        data
    }

    /// Pushes so much; nothing of it is taken once the close is queued.
    fn push(&self, len: usize, push: impl FnOnce(&mut Fifo, Vec<u8>) -> bool) {
        let (sealed, before) = (self.sealed.get(), self.fifo.borrow().queued());
        let data = match sealed {
            true => vec![0; len],
            false => self.pattern(len),
        };
        let over = push(&mut self.fifo.borrow_mut(), data);
        let queued = self.fifo.borrow().queued();
        assert_eq!(queued, if sealed { before } else { before + len });
        // A push of nothing changes nothing, and need not tell.
        assert!(len == 0 || over == (!sealed && queued > self.high_water));
    }

    fn push_slices(&self, len: usize) {
        self.push(len, |fifo, data| {
            let (front, back) = data.split_at(len / 3);
            fifo.push_slices(&[front, b"", back])
        });
    }

    fn push_slice(&self, len: usize) {
        self.push(len, |fifo, data| fifo.push_slice(&data));
    }

    /// User code may push, so nothing may be borrowed while it runs.
    fn check_free(&self) {
        assert!(self.fifo.try_borrow_mut().is_ok(), "the queue is borrowed");
    }
}

/// Counts a drop.
struct Token(Rc<Shared>);

impl Token {
    fn new(shared: &Rc<Shared>) -> Self {
        shared.made.set(shared.made.get() + 1);
        Token(Rc::clone(shared))
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.dropped.set(self.0.dropped.get() + 1);
    }
}

struct Scripted {
    steps: VecDeque<io::Result<More>>,
    fails: bool,
    token: Token,
}

impl Producer for Scripted {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        self.token.0.check_free();
        assert!(budget > 0);
        match self.steps.pop_front() {
            Some(answer) => answer,
            None if self.fails => Err(io::Error::other("it was to fail")),
            None => Ok(More::Done),
        }
    }
}

struct Model {
    shared: Rc<Shared>,
    socket: Socket,
    shutdowns: VecDeque<usize>,
    /// Nothing comes after this: a producer fails there.
    fails: bool,
    over: bool,
}

impl Model {
    fn new(high_water: usize, mut takes: Vec<usize>) -> Self {
        // At some time it takes something.
        takes.push(7000);
        let shared = Rc::new(Shared::new(high_water));
        let out = Rc::clone(&shared.out);
        let socket = Socket {
            takes,
            turn: 0,
            out,
            shutdowns: Vec::new(),
            fell_short: false,
        };
        Model {
            shared,
            socket,
            shutdowns: VecDeque::new(),
            fails: false,
            over: false,
        }
    }

    fn act(&mut self, op: Op) {
        let shared = &self.shared;
        match op {
            Op::PushSlice(len) => shared.push_slice(len),
            Op::PushSlices(len) => shared.push_slices(len),
            Op::PushBytes(len) => {
                shared.push(len, |fifo, data| fifo.push_bytes(&data.into()));
            }
            Op::Producer(steps) => self.push_producer(steps),
            Op::Hook => self.push_hook(0),
            Op::PushingHook(len) => self.push_hook(len),
            Op::ShutdownWrite => {
                let refused = shared.fifo.borrow_mut().push(Item::ShutdownWrite);
                assert_eq!(refused.is_some(), shared.sealed.get());
                if refused.is_none() {
                    self.shutdowns.push_back(shared.wanted.borrow().len());
                }
            }
            Op::Discard => {
                let discarded = shared.fifo.borrow_mut().discard();
                drop(discarded);
                assert_eq!(shared.fifo.borrow().queued(), 0);
                let sent = shared.out.borrow().len();
                shared.wanted.borrow_mut().truncate(sent);
                shared.hooks.borrow_mut().clear();
                self.shutdowns.truncate(self.socket.shutdowns.len());
                self.fails = false;
            }
            Op::Resume => shared.fifo.borrow_mut().resume(),
            Op::Pump(budget) => {
                self.pump(budget);
            }
            Op::Close => {
                let refused = shared.fifo.borrow_mut().push(Item::Close(Close::Local));
                assert_eq!(refused.is_some(), shared.sealed.replace(true));
            }
        }
    }

    fn push_producer(&mut self, steps: Vec<Step>) {
        let shared = &self.shared;
        let sealed = shared.sealed.get();
        let fails = steps.iter().any(|step| matches!(step, Step::Fail));
        let chunk = |len| match sealed {
            true => vec![0; len],
            false => shared.pattern(len),
        };
        let steps = steps
            .into_iter()
            .filter_map(|step| match step {
                Step::Chunk(len) => Some(Ok(More::Chunk(chunk(len).into()))),
                Step::Pending => Some(Ok(More::Pending)),
                Step::WouldBlock => Some(Err(ErrorKind::WouldBlock.into())),
                Step::Fail => None,
            })
            .collect();
        let token = Token::new(shared);
        let producer = Scripted {
            steps,
            fails,
            token,
        };
        let item = Item::Producer(Box::new(producer));
        let refused = shared.fifo.borrow_mut().push(item);
        assert_eq!(refused.is_some(), sealed);
        self.fails |= fails && !sealed;
    }

    fn push_hook(&mut self, pushes: usize) {
        let shared = &self.shared;
        let token = Token::new(shared);
        let hook = move || {
            let shared = &token.0;
            shared.check_free();
            let due = shared.hooks.borrow_mut().pop_front();
            assert_eq!(
                due,
                Some(shared.out.borrow().len()),
                "a hook out of its turn"
            );
            shared.push_slice(pushes);
        };
        let refused = shared.fifo.borrow_mut().push(Item::Hook(Box::new(hook)));
        if refused.is_none() {
            let due = shared.wanted.borrow().len();
            shared.hooks.borrow_mut().push_back(due);
        }
    }

    /// Pumps once, and checks what the outcome says. Whether there is nothing left to do.
    fn pump(&mut self, budget: usize) -> bool {
        if self.over {
            return true;
        }
        let before = self.shared.out.borrow().len();
        self.socket.fell_short = false;
        let outcome = pump(&self.shared.fifo, &mut self.socket, budget);
        let sent = self.shared.out.borrow().len() - before;
        assert!(sent <= budget, "{sent} bytes of a budget of {budget}");
        self.check();
        match outcome {
            Ok(Pumped::Drained) => {
                self.check_all_is_out();
                return true;
            }
            Ok(Pumped::Closed(why)) => {
                assert!(matches!(why, Close::Local));
                assert!(self.shared.sealed.get());
                self.check_all_is_out();
                self.over = true;
            }
            Ok(Pumped::Blocked) => assert!(self.socket.fell_short),
            Ok(Pumped::Pending) => assert!(!self.shared.fifo.borrow().is_actionable()),
            Ok(Pumped::Spent) => {}
            Err(PumpError::Producer(_)) => {
                assert!(self.fails);
                self.over = true;
            }
            Err(PumpError::Sink(error)) => panic!("{error}"),
        }
        self.over
    }

    /// All that has come out is a beginning of what was to come.
    fn check(&self) {
        let (out, wanted) = (self.shared.out.borrow(), self.shared.wanted.borrow());
        assert!(wanted.starts_with(&out));
        let shut = &self.socket.shutdowns;
        assert!(self.shutdowns.iter().take(shut.len()).eq(shut));
    }

    fn check_all_is_out(&self) {
        let shared = &self.shared;
        assert!(*shared.out.borrow() == *shared.wanted.borrow());
        assert!(shared.hooks.borrow().is_empty());
        assert_eq!(shared.fifo.borrow().queued(), 0);
        assert!(!shared.fifo.borrow().is_actionable());
        assert_eq!(self.socket.shutdowns.len(), self.shutdowns.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_comes_out_is_what_went_in(
        ops in vec(op(), 1..40),
        takes in vec(prop_oneof![Just(0), 1..50_usize, 1..9000_usize], 0..6),
        high_water in prop_oneof![Just(usize::MAX), 0..20_000_usize],
    ) {
        let mut model = Model::new(high_water, takes);
        for op in ops {
            model.act(op);
        }
        // To the end, by way of every producer that has to be resumed.
        let mut turns = 0;
        while !model.pump(65_536) {
            model.shared.fifo.borrow_mut().resume();
            turns += 1;
            prop_assert!(turns < 1_000_000, "it does not end");
        }
        // What was left behind goes with the queue; and nothing went twice.
        let left = model.shared.fifo.replace(Fifo::new(0));
        drop(left);
        prop_assert_eq!(model.shared.dropped.get(), model.shared.made.get());
    }
}

/// Takes everything until it is closed.
struct Greedy(Vec<u8>, Rc<Cell<bool>>);

impl Sink for Greedy {
    fn send_gathered(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        assert!(self.1.get(), "a send after the close");
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

/// A socket that takes all it is offered, or so much at a time.
struct Takes(usize);

impl Sink for Takes {
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
        pump(&fifo, &mut Takes(30_000), 65_536).unwrap(),
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
        pump(&fifo, &mut Takes(usize::MAX), 4096).unwrap();
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
        pump(&fifo, &mut Takes(usize::MAX), 65_536),
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
            pump(&fifo, &mut Takes(usize::MAX), 65_536),
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
            pump(&fifo, &mut Takes(usize::MAX), 65_536),
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
        pump(&fifo, &mut Takes(usize::MAX), 65_536),
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
    pump(&fifo, &mut Takes(usize::MAX), 65_536).unwrap();
    assert_eq!(fifo.borrow().weight(), 68 * 4096);
    let discarded = fifo.borrow_mut().discard();
    assert_eq!((discarded.len(), fifo.borrow().weight()), (68, 0));
}

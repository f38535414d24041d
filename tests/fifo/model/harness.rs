//! What the queue, the model and the user code in the queue share.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use asynchat::Close;
use asynchat::internals::{Fifo, Item};
use bytes::Bytes;

use super::act::Act;
use super::naive::{Entry, Model};
use super::user_code::{hook, owned, producer};

/// With more items than this a queue is over its high-water mark, whatever their bytes.
const HIGH_ITEMS: usize = 64;

/// Trimming a queue leaves at most this much unused capacity.
const SLACK: usize = 8 * 1024;

/// A queue may take over the room for so many items that an earlier queue of the thread has left.
const SPARE_ITEMS: usize = 64;

pub struct Harness {
    pub fifo: RefCell<Fifo>,
    pub model: RefCell<Model>,
    /// Whether the sink is open.
    pub open: Cell<bool>,
    /// Bytes sent in the present turn.
    pub spent: Cell<usize>,
    /// Producers and hooks called in the present turn.
    calls: Cell<usize>,
    /// Whether producers may still be asked in the present turn.
    asking: Cell<bool>,
    was_short: Cell<bool>,
    /// Producers and hooks that were made and not yet dropped.
    pub live: Cell<usize>,
    high_water: Cell<usize>,
    backlog: Cell<usize>,
    made: Cell<usize>,
    pushes: Cell<usize>,
    ids: Cell<u32>,
}

thread_local! {
    /// For the owners of bytes, which are `Send` and so cannot hold it.
    static HARNESS: RefCell<Weak<Harness>> = const { RefCell::new(Weak::new()) };
}

/// User code may push: nothing may be borrowed while it runs.
pub fn check_free() {
    let harness = HARNESS.with_borrow(Weak::upgrade);
    let is_free = harness.is_none_or(|harness| harness.fifo.try_borrow_mut().is_ok());
    // A second panic while the first unwinds would abort the process.
    assert!(
        is_free || std::thread::panicking(),
        "user code under a borrow"
    );
}

impl Harness {
    pub fn new(high_water: usize) -> Rc<Self> {
        let harness = Rc::new(Harness {
            fifo: RefCell::new(Fifo::new(high_water)),
            model: RefCell::default(),
            open: Cell::new(true),
            spent: Cell::new(0),
            calls: Cell::new(0),
            asking: Cell::new(true),
            was_short: Cell::new(false),
            live: Cell::new(0),
            high_water: Cell::new(high_water),
            backlog: Cell::new(0),
            made: Cell::new(0),
            pushes: Cell::new(0),
            ids: Cell::new(0),
        });
        HARNESS.set(Rc::downgrade(&harness));
        harness
    }

    pub fn act(self: &Rc<Self>, act: &Act) {
        match act {
            Act::PushSlice(len) => self.push(*len, |fifo, data| fifo.push_slice(&data)),
            Act::PushSlices(len) => self.push(*len, |fifo, data| {
                let (front, back) = data.split_at(len / 3);
                fifo.push_slices(&[front, b"", back], |part| {
                    let whole = Bytes::from([&b"before"[..], part].concat());
                    (part.len() % 2 == 0).then(|| whole.slice(6..))
                })
            }),
            // Bytes that are copied are dropped here, and not under the borrow.
            Act::PushBytes(len) => {
                let mut bytes = Bytes::new();
                self.push(*len, |fifo, data| {
                    bytes = owned(data);
                    fifo.push_bytes(&bytes)
                });
            }
            Act::Producer(replies) => {
                let id = self.next_id();
                let producer = producer(self, id, replies.clone());
                self.queue(Item::Producer(producer), Entry::Producer(id));
            }
            Act::Hook(acts) => {
                let id = self.next_id();
                let hook = hook(self, id, acts.clone());
                self.queue(Item::Hook(hook), Entry::Hook(id));
            }
            Act::ShutdownWrite => self.queue(Item::ShutdownWrite, Entry::ShutdownWrite),
            Act::Close => self.queue(Item::Close(Close::Local), Entry::Close),
            Act::Discard => {
                let discarded = self.fifo.borrow_mut().discard();
                self.model.borrow_mut().discard();
                drop(discarded);
            }
            Act::Resume => {
                self.fifo.borrow_mut().resume();
                self.model.borrow_mut().resume();
            }
            Act::Seal => {
                self.fifo.borrow_mut().seal();
                self.model.borrow_mut().sealed = true;
            }
            Act::HighWater(bytes) => {
                self.fifo.borrow_mut().set_high_water(*bytes);
                self.high_water.set(*bytes);
            }
            Act::Backlog(bytes) => {
                self.fifo.borrow_mut().set_backlog(*bytes);
                self.backlog.set(*bytes);
            }
            Act::AdoptBuffer => {
                let mut buffer = Vec::with_capacity(100);
                self.fifo.borrow_mut().adopt_buffer(&mut buffer);
            }
            Act::ReleaseBuffer => {
                let mut fifo = self.fifo.borrow_mut();
                assert_eq!(fifo.release_buffer(), b"");
                assert!(!fifo.is_empty() || self.backlog.get() > 0 || fifo.memory() == 0);
            }
            Act::Trim => {
                let mut fifo = self.fifo.borrow_mut();
                let copied = fifo.trim();
                // The model does not know how the bytes are spread over items.
                let items = (4 * self.pushes.get() + SPARE_ITEMS) * size_of::<Item>();
                assert!(fifo.memory() <= 2 * fifo.queued() + SLACK + items);
                drop(fifo);
                drop(copied);
            }
            Act::CloseSink => self.open.set(false),
            // Only the test pumps.
            Act::Pump(_) => {}
        }
        self.check();
    }

    /// The next bytes of a pattern, no two stretches of which are alike.
    pub fn pattern(&self, len: usize) -> Vec<u8> {
        let start = self.made.replace(self.made.get() + len);
        (start..start + len).map(|n| (n ^ (n >> 8)) as u8).collect()
    }

    /// A pump begins.
    pub fn begin_turn(&self) {
        self.spent.set(0);
        self.calls.set(0);
        self.asking.set(true);
        self.was_short.set(false);
    }

    /// Whether a producer or a hook may be called in this turn.
    pub fn may_call(&self) -> bool {
        self.asking.get() && self.calls.get() < 64
    }

    /// A producer or a hook was called.
    pub fn call(&self) {
        assert!(self.may_call(), "too many calls in a turn");
        self.calls.set(self.calls.get() + 1);
    }

    /// A producer that was asked for `wanted` bytes has answered, with a chunk of this size or with
    /// something else. An empty chunk and a second short one in a row end the asking.
    pub fn answered(&self, chunk: Option<usize>, wanted: usize) {
        let is_short = chunk.is_some_and(|len| len < wanted.min(512));
        if chunk == Some(0) || (is_short && self.was_short.get()) {
            self.asking.set(false);
        }
        self.was_short.set(is_short);
    }

    /// Bytes were sent.
    pub fn spend(&self, bytes: usize) {
        self.spent.set(self.spent.get() + bytes);
    }

    pub fn check(&self) {
        let (fifo, model) = (self.fifo.borrow(), self.model.borrow());
        assert_eq!(fifo.queued(), model.queued());
        assert_eq!(fifo.is_sealed(), model.sealed);
        assert!(fifo.memory() >= fifo.queued());
        assert!(fifo.is_actionable() || !model.is_actionable());
    }

    /// An empty queue holds no memory. All user code that is left is dropped with the queue.
    pub fn end(self: &Rc<Self>) {
        self.act(&Act::Backlog(0));
        self.act(&Act::ReleaseBuffer);
        let left = self.fifo.replace(Fifo::new(0));
        drop(left);
        assert_eq!(self.live.get(), 0, "user code was lost");
    }

    fn push(&self, len: usize, push: impl FnOnce(&mut Fifo, Vec<u8>) -> bool) {
        self.pushes.set(self.pushes.get() + 1);
        let data = self.pattern(len);
        self.model.borrow_mut().push(Entry::Bytes(data.clone()));
        let is_full = push(&mut self.fifo.borrow_mut(), data);
        let model = self.model.borrow();
        let (queued, backlog) = (model.queued(), self.backlog.get());
        let mark = self.high_water.get().saturating_sub(backlog);
        let is_crowded = backlog > 0 && !model.pending && queued > mark.max(4096);
        let is_over = queued > self.high_water.get() || is_crowded;
        // A push of nothing changes nothing, and may return false. The model does not count items.
        let is_refused = model.sealed || model.finished;
        assert!(is_full || is_refused || len == 0 || !is_over);
        assert!(!is_full || !is_refused && (is_over || self.pushes.get() > HIGH_ITEMS));
    }

    fn queue(&self, item: Item, entry: Entry) {
        self.pushes.set(self.pushes.get() + 1);
        let is_refused = self.model.borrow().refuses(&entry);
        self.model.borrow_mut().push(entry);
        let refused = self.fifo.borrow_mut().push(item);
        assert_eq!(refused.is_some(), is_refused);
    }

    fn next_id(&self) -> u32 {
        self.ids.replace(self.ids.get() + 1)
    }
}

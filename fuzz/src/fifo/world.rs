//! What the queue, the model and the user code in the queue share.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use asynchat::Close;
use asynchat::internals::{Fifo, Item};
use bytes::Bytes;

use super::acts::Act;
use super::model::{Entry, Model};
use super::{Guest, Scripted, hook, owned};

pub struct World {
    pub fifo: RefCell<Fifo>,
    pub model: RefCell<Model>,
    pub open: Cell<bool>,
    /// Of the budget of bytes of the pump under way.
    pub spent: Cell<usize>,
    /// Producers and hooks that it has called, and whether it may call more.
    calls: Cell<usize>,
    asking: Cell<bool>,
    was_short: Cell<bool>,
    /// Pieces of user code that live.
    pub guests: Cell<usize>,
    high_water: Cell<usize>,
    made: Cell<usize>,
    /// Of all kinds.
    pushes: Cell<usize>,
    ids: Cell<u32>,
}

thread_local! {
    /// For bytes, whose owner can not hold what belongs to one thread.
    static WORLD: RefCell<Weak<World>> = const { RefCell::new(Weak::new()) };
}

/// User code may push, so nothing may be borrowed while it runs.
pub fn check_free() {
    let world = WORLD.with_borrow(Weak::upgrade);
    let is_free = world.is_none_or(|world| world.fifo.try_borrow_mut().is_ok());
    // Never twice: a panic within a panic tells nothing.
    assert!(
        is_free || std::thread::panicking(),
        "user code under a borrow"
    );
}

impl World {
    pub fn new(high_water: usize) -> Rc<Self> {
        let world = Rc::new(World {
            fifo: RefCell::new(Fifo::new(high_water)),
            model: RefCell::default(),
            open: Cell::new(true),
            spent: Cell::new(0),
            calls: Cell::new(0),
            asking: Cell::new(true),
            was_short: Cell::new(false),
            guests: Cell::new(0),
            high_water: Cell::new(high_water),
            made: Cell::new(0),
            pushes: Cell::new(0),
            ids: Cell::new(0),
        });
        WORLD.set(Rc::downgrade(&world));
        world
    }

    pub fn act(self: &Rc<Self>, act: &Act) {
        match act {
            Act::PushSlice(len) => self.push(*len, |fifo, data| fifo.push_slice(&data)),
            // Bytes that are copied are dropped here, and not under the borrow.
            Act::PushBytes(len) => {
                let mut bytes = Bytes::new();
                self.push(*len, |fifo, data| {
                    bytes = owned(data);
                    fifo.push_bytes(&bytes)
                });
            }
            Act::Producer(parts) => {
                let guest = Guest::new(self, self.next_id());
                let entry = Entry::Producer(guest.id);
                let parts = parts.clone().into();
                self.queue(Item::Producer(Box::new(Scripted { guest, parts })), entry);
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
            Act::Lend => self
                .fifo
                .borrow_mut()
                .adopt_buffer(&mut Vec::with_capacity(100)),
            Act::Reclaim => assert_eq!(self.fifo.borrow_mut().release_buffer(), b""),
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

    pub fn call(&self) {
        assert!(self.may_call(), "a call too many in a turn");
        self.calls.set(self.calls.get() + 1);
    }

    /// A producer has answered with a chunk of this size, or with something else: an empty chunk and a
    /// second short one in a row end the asking.
    pub fn answered(&self, chunk: Option<usize>, wanted: usize) {
        let is_short = chunk.is_some_and(|len| len < wanted.min(512));
        if chunk == Some(0) || (is_short && self.was_short.get()) {
            self.asking.set(false);
        }
        self.was_short.set(is_short);
    }

    pub fn spend(&self, budget: usize) {
        self.spent.set(self.spent.get() + budget);
    }

    pub fn check(&self) {
        let (fifo, model) = (self.fifo.borrow(), self.model.borrow());
        assert_eq!(fifo.queued(), model.queued());
        assert!(fifo.is_actionable() || !model.is_actionable());
    }

    /// What was left behind goes with the queue.
    pub fn end(&self) {
        let left = self.fifo.replace(Fifo::new(0));
        drop(left);
        assert_eq!(self.guests.get(), 0, "user code was lost");
    }

    fn push(&self, len: usize, push: impl FnOnce(&mut Fifo, Vec<u8>) -> bool) {
        self.pushes.set(self.pushes.get() + 1);
        let data = self.pattern(len);
        let sealed = self.model.borrow().sealed;
        self.model.borrow_mut().push(Entry::Bytes(data.clone()));
        let over = push(&mut self.fifo.borrow_mut(), data);
        let is_over = self.model.borrow().queued() > self.high_water.get();
        // A push of nothing changes nothing, and need not tell. Many items are over the mark too.
        assert!(over || sealed || len == 0 || !is_over);
        assert!(!over || !sealed && (is_over || self.pushes.get() > 64));
    }

    fn queue(&self, item: Item, entry: Entry) {
        self.pushes.set(self.pushes.get() + 1);
        let sealed = self.model.borrow().sealed;
        self.model.borrow_mut().push(entry);
        let refused = self.fifo.borrow_mut().push(item);
        assert_eq!(refused.is_some(), sealed);
    }

    fn next_id(&self) -> u32 {
        self.ids.replace(self.ids.get() + 1)
    }
}

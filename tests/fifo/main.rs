//! The output queue: random ones against a model, and by hand what the model does not count.

mod draining;
mod ending;
mod filling;
mod level;
mod memory;
mod model;
mod random;

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::rc::Rc;

use asynchat::internals::{Fifo, Item, PumpError, Pumped, Sink, pump};
use asynchat::{More, Producer};

/// A sink that takes at most so many bytes in a write, until it is closed.
struct Socket {
    limit: usize,
    open: Rc<Cell<bool>>,
    /// What it has taken.
    data: Vec<u8>,
    /// Where each part of the writes was in memory.
    parts: Vec<*const u8>,
    /// How many parts each write had.
    writes: Vec<usize>,
    /// How many of the writes were not gathered.
    plain: usize,
    /// How often the pump has looked whether it is open.
    looks: Cell<usize>,
}

impl Socket {
    fn new(limit: usize) -> Self {
        Socket {
            limit,
            open: Rc::new(Cell::new(true)),
            data: Vec::new(),
            parts: Vec::new(),
            writes: Vec::new(),
            plain: 0,
            looks: Cell::new(0),
        }
    }
}

impl Sink for Socket {
    fn send(&mut self, data: &[u8]) -> io::Result<usize> {
        self.plain += 1;
        self.send_gathered(&[IoSlice::new(data)])
    }

    fn send_gathered(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        assert!(self.open.get(), "a write to a closed sink");
        self.writes.push(parts.len());
        self.parts.extend(parts.iter().map(|part| part.as_ptr()));
        let mut left = self.limit;
        for part in parts {
            let taken = left.min(part.len());
            self.data.extend_from_slice(&part[..taken]);
            left -= taken;
        }
        Ok(self.limit - left)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn is_open(&self) -> bool {
        self.looks.set(self.looks.get() + 1);
        self.open.get()
    }
}

fn new_fifo(high_water: usize) -> RefCell<Fifo> {
    RefCell::new(Fifo::new(high_water))
}

/// Pumps a turn of 64 KiB into a sink that takes at most `limit` bytes in a write.
fn pump_limited(fifo: &RefCell<Fifo>, limit: usize) -> Result<Pumped, PumpError> {
    pump(fifo, &mut Socket::new(limit), 65_536)
}

/// Queues an item, which the queue must take.
fn queue(fifo: &RefCell<Fifo>, item: Item) {
    let refused = fifo.borrow_mut().push(item);
    assert!(refused.is_none());
}

fn hook() -> Item {
    Item::Hook(Box::new(|| {}))
}

/// A producer that is a closure of the budget.
struct Answers<F>(F);

impl<F: FnMut(usize) -> io::Result<More>> Producer for Answers<F> {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        (self.0)(budget)
    }
}

fn producer(more: impl FnMut(usize) -> io::Result<More> + 'static) -> Item {
    Item::Producer(Box::new(Answers(more)))
}

fn pending_producer() -> Item {
    producer(|_| Ok(More::Pending))
}

/// Queues a producer of so many chunks of this size. Returns how often it was asked.
fn repeats(fifo: &RefCell<Fifo>, chunk: usize, times: usize) -> Rc<Cell<usize>> {
    let asked = Rc::new(Cell::new(0));
    let (counted, mut left) = (Rc::clone(&asked), times);
    let item = producer(move |_| {
        counted.set(counted.get() + 1);
        if left == 0 {
            return Ok(More::Done);
        }
        left -= 1;
        Ok(More::Chunk(vec![b'x'; chunk].into()))
    });
    queue(fifo, item);
    asked
}

//! A thread for destructors that take long.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender};
use std::thread;

use super::database::Entry;
use super::table::Table;
use super::text::Text;
use super::value::Value;

/// A collection of more elements than this is large.
pub const MANY: usize = 1000;

/// Something whose destructor may take long.
pub trait Droppable: Send + 'static {
    fn is_long(&self) -> bool;
}

impl Droppable for Value {
    fn is_long(&self) -> bool {
        self.len() > MANY
    }
}

impl Droppable for VecDeque<Text> {
    fn is_long(&self) -> bool {
        self.len() > MANY
    }
}

impl Droppable for Table<Text> {
    fn is_long(&self) -> bool {
        self.len() > MANY
    }
}

impl Droppable for Table<Entry> {
    fn is_long(&self) -> bool {
        !self.is_empty()
    }
}

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// How many values this thread has left to the other one, for INFO.
pub fn count() -> u64 {
    COUNT.get()
}

/// Drops a large value on another thread, as Redis does with UNLINK.
#[inline]
pub fn drop_later(value: impl Droppable) {
    if value.is_long() {
        send(Box::new(value));
    }
}

#[cold]
fn send(value: Box<dyn Send>) {
    static DROPPER: OnceLock<Sender<Box<dyn Send>>> = OnceLock::new();
    let dropper = DROPPER.get_or_init(|| {
        let (sender, values) = mpsc::channel::<Box<dyn Send>>();
        // Without a thread the sender has no receiver, and the value is dropped here.
        let _ = thread::Builder::new()
            .name("dropper".to_owned())
            .spawn(move || values.into_iter().for_each(drop));
        sender
    });
    COUNT.set(COUNT.get() + 1);
    let _ = dropper.send(value);
}

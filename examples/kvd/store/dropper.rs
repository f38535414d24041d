//! A thread for destructors that take long.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, OnceLock};
use std::thread;

use super::list::List;
use super::ranked::Ranked;
use super::sorted_set::SortedSet;
use super::table::{Keyed, Table};
use super::value::Value;

/// A collection of more elements than this is large.
pub const MANY: usize = 1000;

/// A string of more bytes than this is large: the system takes its pages back one by one.
const MANY_BYTES: usize = 1 << 20;

/// Something whose destructor may take long.
pub trait Droppable: Send + 'static {
    fn is_long(&self) -> bool;
}

impl Droppable for Value {
    fn is_long(&self) -> bool {
        match self {
            Value::Growing(data) => data.capacity() > MANY_BYTES,
            Value::Shared(data) => data.len() > MANY_BYTES,
            Value::Sorted(set) => SortedSet::is_long(set),
            _ => self.len() > MANY,
        }
    }
}

impl Droppable for List {
    fn is_long(&self) -> bool {
        self.len() > MANY
    }
}

impl Droppable for SortedSet {
    fn is_long(&self) -> bool {
        self.is_large(MANY)
    }
}

impl Droppable for Ranked {
    fn is_long(&self) -> bool {
        self.len() > MANY
    }
}

impl<T: Keyed + Send + Sync + 'static> Droppable for Table<T> {
    fn is_long(&self) -> bool {
        self.len() > MANY
    }
}

impl<T: Droppable + Sync> Droppable for Arc<T> {
    fn is_long(&self) -> bool {
        Arc::strong_count(self) == 1 && T::is_long(self)
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
        COUNT.set(COUNT.get() + 1);
        drop_elsewhere(value);
    }
}

/// Drops a value on another thread.
#[cold]
pub fn drop_elsewhere(value: impl Send + 'static) {
    static DROPPER: OnceLock<Sender<Box<dyn Send>>> = OnceLock::new();
    let dropper = DROPPER.get_or_init(|| {
        let (sender, values) = mpsc::channel::<Box<dyn Send>>();
        // Without a thread the sender has no receiver, and the value is dropped here.
        let _ = thread::Builder::new()
            .name("dropper".to_owned())
            .spawn(move || values.into_iter().for_each(drop));
        sender
    });
    let _ = dropper.send(Box::new(value));
}

/// Has to be called after each part of many small destructors on this thread. The allocator of glibc sets small blocks that
/// were freed apart, and joins all of them when one of 64 KB is freed (`FASTBIN_CONSOLIDATION_THRESHOLD`). A million of
/// them would take 100 ms then. Other allocators do nothing here.
pub fn join_freed_blocks() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(100 << 10)));
}

/// A collection from which a reply is made. It may have become the last owner of its elements when it is dropped.
#[derive(Debug, Default, PartialEq)]
pub struct Snapshot<T: Droppable + Default>(pub T);

impl<T: Droppable + Default> Deref for Snapshot<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Droppable + Default> DerefMut for Snapshot<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Droppable + Default> Drop for Snapshot<T> {
    fn drop(&mut self) {
        if self.0.is_long() {
            drop_elsewhere(std::mem::take(&mut self.0));
        }
    }
}

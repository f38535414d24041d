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
use super::text::Text;
use super::value::Value;

/// A collection of more elements than this is large.
pub const MANY: usize = 1000;

/// Strings of more bytes than this together are large: the system takes their pages back one by one.
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
            _ => self.len() > MANY || self.size() > MANY_BYTES,
        }
    }
}

fn are_large<'a>(mut texts: impl Iterator<Item = &'a Text>) -> bool {
    let mut bytes = 0;
    texts.any(|it| {
        bytes += it.as_bytes().len();
        bytes > MANY_BYTES
    })
}

impl Droppable for List {
    fn is_long(&self) -> bool {
        self.len() > MANY || are_large(self.iter())
    }
}

impl Droppable for SortedSet {
    fn is_long(&self) -> bool {
        self.is_large(MANY) || are_large(self.texts())
    }
}

impl Droppable for Ranked {
    fn is_long(&self) -> bool {
        self.len() > MANY || are_large(self.from(0).map(|it| &it.member))
    }
}

impl<T: Keyed + Send + Sync + 'static> Droppable for Table<T> {
    fn is_long(&self) -> bool {
        self.len() > MANY || are_large(self.iter().map(Keyed::name))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::list::End;

    /// The pages of a large string are given back one by one.
    #[test]
    fn the_destructor_of_few_large_elements_takes_long() {
        for (size, is_long) in [(100, false), (MANY_BYTES / 5, true)] {
            let texts = (0..10_u8).map(|number| Text::from(vec![number; size]));
            let (mut list, mut set) = (List::default(), Table::<Text>::default());
            let mut sorted = SortedSet::default();
            for text in texts {
                list.push(End::Right, text.clone());
                set.insert(text.clone());
                sorted.insert(text, 1.0);
            }
            let values = [
                Value::List(Arc::new(list.clone())),
                Value::Set(Arc::new(set.clone())),
                Value::Sorted(Arc::new(sorted.clone())),
            ];
            assert!(values.iter().all(|it| it.is_long() == is_long), "{size}");
            assert_eq!(list.is_long(), is_long);
            assert_eq!(set.is_long(), is_long);
            // What is left behind counts, too.
            let taken = sorted.take(0..9);
            assert_eq!(
                (taken.is_long(), Droppable::is_long(&sorted)),
                (is_long, is_long)
            );
        }
    }
}

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

/// Values of fewer elements are dropped where they are: another thread is as much work.
const FEW: usize = 10;

/// Something whose destructor may take long.
pub trait Droppable: Send + 'static {
    fn is_long(&self) -> bool;

    /// How many elements its destructor takes as long as, if a command may drop many of this kind. More than `most` are
    /// not counted exactly: to look at the elements takes as long as to drop them.
    fn cost(&self, most: usize) -> usize {
        let _ = most;
        if self.is_long() { usize::MAX } else { 0 }
    }
}

impl Droppable for Value {
    fn is_long(&self) -> bool {
        self.cost(MANY) > MANY
    }

    fn cost(&self, most: usize) -> usize {
        let elements = self.len();
        let bytes = match self {
            // What is left of removed members is dropped, too.
            Value::Sorted(set) if set.is_large(MANY) => return usize::MAX,
            _ if elements > most.max(FEW) => return elements,
            Value::Sorted(set) => set.texts().map(|it| it.as_bytes().len()).sum(),
            Value::Growing(data) => data.capacity(),
            Value::Shared(data) => data.len(),
            _ => self.size(),
        };
        elements.max(bytes / (MANY_BYTES / MANY))
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
    /// The cost of what this thread has dropped itself since it has the lock.
    static DROPPED: Cell<usize> = const { Cell::new(0) };
}

/// This thread takes the lock. Until it takes it again, values of as many elements as one large collection has are dropped
/// here, and the others by the other thread.
#[inline]
pub fn note_lock() {
    DROPPED.set(0);
}

/// How many values this thread has left to the other one, for INFO.
pub fn count() -> u64 {
    COUNT.get()
}

/// Drops a large value on another thread, as Redis does with UNLINK, and a smaller one if much was dropped here already.
#[inline]
pub fn drop_later(value: impl Droppable) {
    let left = MANY - DROPPED.get();
    let cost = value.cost(left);
    if cost == 0 {
        return;
    }
    if cost <= left || cost < FEW {
        DROPPED.set(MANY - left.saturating_sub(cost));
    } else {
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

    #[test]
    fn values_that_are_large_together_are_dropped_elsewhere() {
        let value = |elements: usize, size: usize| {
            let mut list = List::default();
            for _ in 0..elements {
                list.push(End::Right, vec![b'x'; size].into());
            }
            Value::List(Arc::new(list))
        };
        let string = |size| Value::Shared(Arc::new(vec![b'x'; size].into()));
        let elsewhere = |number: usize, value: &dyn Fn() -> Value| {
            let before = count();
            (0..number).for_each(|_| drop_later(value()));
            count() - before
        };
        note_lock();
        assert_eq!(elsewhere(10, &|| value(100, 5)), 0);
        assert_eq!(elsewhere(5, &|| value(100, 5)), 5);
        assert_eq!(elsewhere(5, &|| value(1, 5)), 0, "they are short");
        assert_eq!(elsewhere(5, &|| string(10)), 0, "they are short");
        note_lock();
        assert_eq!(elsewhere(1, &|| value(1_001, 5)), 1);
        assert_eq!(elsewhere(10, &|| value(100, 5)), 0);
        note_lock();
        assert_eq!(elsewhere(8, &|| string(MANY_BYTES / 4)), 4);
        note_lock();
        assert_eq!(elsewhere(8, &|| value(4, MANY_BYTES / 16)), 4);
    }

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

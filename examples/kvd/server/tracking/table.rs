//! The keys that clients have read, with these clients.

use std::collections::{HashSet, hash_set};
use std::{iter, option};

use crate::store::table::{self, Keyed};
use crate::store::text::Text;

/// The memory of a key without its bytes, and of one of its readers, about.
const KEY: usize = 100;
const READER: usize = 16;

/// The clients that have read a key since it has changed. Most keys have one.
#[derive(Clone)]
pub enum Readers {
    One(u64),
    #[expect(clippy::box_collection, reason = "the place of one reader is small")]
    Many(Box<HashSet<u64>>),
}

impl Readers {
    fn len(&self) -> usize {
        match self {
            Readers::One(_) => 1,
            Readers::Many(all) => all.len(),
        }
    }

    /// Before the set grows, those leave it that do not track keys any more.
    fn add(&mut self, id: u64, tracks: impl Fn(u64) -> bool) {
        match self {
            Readers::One(only) if *only == id || !tracks(*only) => *only = id,
            Readers::One(only) => {
                *self = Readers::Many(Box::new([*only, id].into_iter().collect()));
            }
            Readers::Many(all) => {
                if all.len() == all.capacity() && !all.contains(&id) {
                    all.retain(|it| tracks(*it));
                    // The next look at all of them comes when they have doubled.
                    all.reserve(all.len());
                }
                all.insert(id);
            }
        }
    }
}

impl IntoIterator for Readers {
    type Item = u64;
    type IntoIter = iter::Chain<option::IntoIter<u64>, hash_set::IntoIter<u64>>;

    fn into_iter(self) -> Self::IntoIter {
        match self {
            Readers::One(only) => Some(only).into_iter().chain(HashSet::new()),
            Readers::Many(all) => None.into_iter().chain(*all),
        }
    }
}

#[derive(Clone)]
struct Entry {
    key: Text,
    readers: Readers,
}

impl Keyed for Entry {
    fn name(&self) -> &Text {
        &self.key
    }
}

#[derive(Default)]
pub struct Table {
    entries: table::Table<Entry>,
    items: usize,
    size: usize,
}

impl Table {
    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many readers all keys have together.
    pub fn items(&self) -> usize {
        self.items
    }

    /// The bytes of memory, about.
    pub fn size(&self) -> usize {
        self.size + READER * self.items
    }

    pub fn add(&mut self, key: &[u8], reader: u64, tracks: impl Fn(u64) -> bool) {
        if let Some(entry) = self.entries.find_mut(key) {
            self.items -= entry.readers.len();
            entry.readers.add(reader, tracks);
            self.items += entry.readers.len();
            return;
        }
        let (key, readers) = (Text::from(key), Readers::One(reader));
        self.size += KEY + key.heap();
        self.items += 1;
        self.entries.insert_new(Entry { key, readers });
    }

    pub fn remove(&mut self, key: &[u8]) -> Option<Readers> {
        let Entry { key, readers } = self.entries.remove(key)?;
        self.size -= KEY + key.heap();
        self.items -= readers.len();
        Some(readers)
    }

    /// An arbitrary key.
    pub fn any_key(&self) -> Option<Text> {
        let entry = self.entries.random(fastrand::u64(..))?;
        Some(entry.key.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_each_of_its_readers_once() {
        let mut table = Table::default();
        for reader in [3, 1, 3, 2, 1] {
            table.add(b"a", reader, |_| true);
            table.add(b"b", 7, |_| true);
        }
        assert_eq!((table.len(), table.items()), (2, 4));
        let mut readers: Vec<u64> = table.remove(b"a").unwrap().into_iter().collect();
        readers.sort_unstable();
        assert_eq!(readers, [1, 2, 3]);
        assert_eq!(table.any_key(), Some(b"b"[..].into()));
        assert!(table.remove(b"a").is_none() && table.remove(b"b").is_some());
        assert_eq!((table.len(), table.items(), table.size()), (0, 0, 0));
        assert_eq!(table.any_key(), None);
    }

    #[test]
    fn readers_that_have_left_do_not_accumulate() {
        let mut table = Table::default();
        for reader in 0..100_000 {
            table.add(b"a", reader, |it| it + 10 > reader);
            table.add(b"b", reader, |_| false);
        }
        assert!(table.items() < 100, "{}", table.items());
    }

    #[test]
    fn a_long_key_has_more_memory() {
        let mut table = Table::default();
        table.add(b"a", 1, |_| true);
        let size = table.size();
        table.add(&[0; 5_000], 1, |_| true);
        assert!(table.size() > 2 * size + 4_900);
    }
}

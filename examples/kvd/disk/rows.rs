//! What is stored of a key: a row for itself, and rows for the elements of a collection or the parts of a large string.
//! `names.rs`: their names.
//!
//! A change costs as much as what it changes, however large the collection or the string is. A value that is stored as
//! a whole gets a number that no row of the database has: a number is used again only after a restart, if its rows are
//! gone. RENAME changes the row of the key only. The rows of a value that was removed or overwritten may stay for a
//! while (`tables.rs`).
//!
//! SWAPDB changes no row of a key. One row of its own has the order of the databases, by the numbers in the names.

use std::ops::Range;

use asynchat::bytes::Bytes;

use super::names::{head_of, push_name};
use crate::store::change::{PART, element_name, element_number};
use crate::store::database::Entry;
use crate::store::number::Digits;
use crate::store::value::Value;

/// What a transaction does with a row.
pub enum Op {
    /// Removes the rows with names in this range.
    Clear(Range<Vec<u8>>),
    Put(Vec<u8>, Bytes),
    /// Puts a row whose content is the second vector, and what is behind it, without a copy of that.
    PutWithHead(Vec<u8>, Vec<u8>, Bytes),
    /// Puts the rows of all elements of a large collection, whose names have this prefix. It is a snapshot, so that the
    /// thread that writes encodes it. The number is that of its bytes.
    PutElements(Vec<u8>, Value, usize),
    /// Removes the rows of these elements, which are encoded by the thread that writes, too.
    DeleteElements(Vec<u8>, Value, usize),
    Delete(Vec<u8>),
}

impl Op {
    /// The bytes of memory.
    pub fn size(&self) -> usize {
        size_of::<Op>()
            + match self {
                Op::Clear(names) => names.start.len() + names.end.len(),
                Op::Put(name, content) => name.len() + content.len(),
                Op::PutWithHead(name, head, rest) => name.len() + head.len() + rest.len(),
                Op::PutElements(prefix, _, size) | Op::DeleteElements(prefix, _, size) => {
                    prefix.len() + size
                }
                Op::Delete(name) => name.len(),
            }
    }
}

/// The type of a value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    String,
    List,
    Hash,
    Set,
    Sorted,
    /// A string in parts.
    Parts,
}

impl Kind {
    pub const ALL: [Kind; 6] = [
        Kind::String,
        Kind::List,
        Kind::Hash,
        Kind::Set,
        Kind::Sorted,
        Kind::Parts,
    ];

    fn of(entry: &Entry) -> Kind {
        match &entry.value {
            Value::List(_) => Kind::List,
            Value::Hash(_) => Kind::Hash,
            Value::Set(_) => Kind::Set,
            Value::Sorted(_) => Kind::Sorted,
            _ if entry.id != 0 => Kind::Parts,
            _ => Kind::String,
        }
    }
}

/// The content of the row of a key.
pub(super) fn key_content(head: Vec<u8>, entry: &Entry) -> Bytes {
    let kind = Kind::of(entry);
    let mut content = head;
    content.push(kind as u8);
    content.extend_from_slice(&entry.expires.to_le_bytes());
    content.extend_from_slice(&entry.id.to_le_bytes());
    let mut digits = Digits::default();
    let text = entry.value.text(&mut digits).unwrap_or_default();
    match kind {
        Kind::Parts => content.extend_from_slice(&(text.len() as u64).to_le_bytes()),
        _ => content.extend_from_slice(text),
    }
    content.into()
}

/// The content of the row of an element or a part, if that is there.
pub(super) fn content(value: &Value, element: &[u8]) -> Option<Bytes> {
    Some(match value {
        Value::List(list) => {
            let index = element_number(element)?.checked_sub(list.number(0))?;
            list.get(usize::try_from(index).ok()?)?.to_bytes()
        }
        Value::Hash(hash) => hash.find(element)?.to_bytes(),
        Value::Set(set) => set.find(element).map(|_| Bytes::new())?,
        Value::Sorted(set) => Bytes::copy_from_slice(&set.score(element)?.to_le_bytes()),
        string => {
            let mut digits = Digits::default();
            let text = string.text(&mut digits)?;
            // A copy of the part, so that the string can grow without a copy of the whole.
            Bytes::copy_from_slice(&text[part_of_string(text.len(), element)?])
        }
    })
}

/// The bytes of a part of a string that has this length.
pub(super) fn part_of_string(len: usize, element: &[u8]) -> Option<Range<usize>> {
    let part = usize::try_from(element_number(element)?).ok()?;
    let start = part.checked_mul(PART)?;
    (start < len).then(|| start..len.min(start + PART))
}

/// The rows of all elements of a collection, with this prefix: the name, and the content in two parts.
pub fn each_row(prefix: &[u8], value: &Value, mut visit: impl FnMut(&[u8], &[u8], &[u8])) {
    let mut name = prefix.to_vec();
    each_element(value, &mut |element, content| {
        name.truncate(prefix.len());
        push_name(&mut name, element);
        visit(&name, &head_of(element), content);
    });
}

fn each_element(value: &Value, visit: &mut dyn FnMut(&[u8], &[u8])) {
    match value {
        Value::List(list) => {
            for (index, item) in list.iter().enumerate() {
                visit(&element_name(list.number(index)), item.as_bytes());
            }
        }
        Value::Hash(hash) => hash
            .iter()
            .for_each(|it| visit(it.name.as_bytes(), it.value.as_bytes())),
        Value::Set(set) => set.iter().for_each(|it| visit(it.as_bytes(), &[])),
        Value::Sorted(set) => {
            set.ranked
                .from(0)
                .for_each(|it| visit(it.member.as_bytes(), &it.score.to_le_bytes()));
        }
        _ => {}
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::disk::changes::take_changes;
    use crate::disk::loader::Loader;
    use crate::disk::names::KEY;
    use crate::store::database::Database;
    use crate::store::keyspace::Keyspace;
    use crate::store::text::Text;

    /// The rows on a disk.
    #[derive(Default)]
    pub struct Disk(pub BTreeMap<Vec<u8>, Bytes>);

    impl Disk {
        pub fn write(&mut self, keyspace: &mut Keyspace) -> usize {
            let ops = take_changes(keyspace);
            let count = ops.len();
            self.run(ops);
            count
        }

        pub fn run(&mut self, ops: Vec<Op>) {
            for op in ops {
                match op {
                    Op::Clear(range) => self.0.retain(|name, _| !range.contains(name)),
                    Op::Put(name, content) => drop(self.0.insert(name, content)),
                    Op::PutWithHead(name, head, rest) => {
                        self.0.insert(name, [&head[..], &rest[..]].concat().into());
                    }
                    Op::PutElements(prefix, value, _) => {
                        each_row(&prefix, &value, |name, head, content| {
                            let content = [head, content].concat();
                            self.0.insert(name.to_vec(), content.into());
                        });
                    }
                    Op::DeleteElements(prefix, value, _) => {
                        each_row(&prefix, &value, |name, _, _| drop(self.0.remove(name)));
                    }
                    Op::Delete(name) => drop(self.0.remove(&name)),
                }
            }
        }

        pub fn load(&self) -> Keyspace {
            let mut loader = Loader::default();
            for (name, content) in self.0.range(vec![KEY]..) {
                loader.add_key(&name[1..], content).unwrap();
            }
            for (name, content) in self.0.range(..vec![KEY]) {
                loader.add_element(&name[1..], content).unwrap();
            }
            loader.finish().unwrap()
        }

        /// The bytes of names and contents.
        fn size(&self) -> usize {
            self.0
                .iter()
                .map(|(name, content)| name.len() + content.len())
                .sum()
        }
    }

    #[test]
    fn large_strings_and_elements_are_not_copied() {
        let mut keyspace = Loader::default().finish().unwrap();
        let mut disk = Disk::default();
        let db = keyspace.database(0);
        let large = vec![b'x'; 100_000];
        db.set(b"s", Value::Growing(Arc::new(large.clone())), 0);
        let hash = db.hash_or_new(b"h").unwrap();
        hash.insert(b"f", large[..].into());
        let start = |value: Option<&[u8]>| value.map(<[u8]>::as_ptr);
        let in_hash = start(hash.find(b"f").map(Text::as_bytes));
        let mut digits = Digits::default();
        let in_string = start(db.find(b"s").unwrap().text(&mut digits));
        for is_new in [true, false] {
            let ops = take_changes(&mut keyspace);
            let size: usize = ops.iter().map(Op::size).sum();
            assert!((200_000..201_000).contains(&size), "{size} bytes");
            let string = ops.iter().find_map(|op| match op {
                Op::Put(_, content) if content.len() == PART => start(Some(content)),
                _ => None,
            });
            assert_eq!(string, in_string);
            let element = ops.iter().find_map(|op| match op {
                Op::Put(_, content) if content.len() == 100_000 => start(Some(content)),
                Op::PutElements(_, Value::Hash(hash), _) => {
                    start(hash.find(b"f").map(Text::as_bytes))
                }
                _ => None,
            });
            assert_eq!(element, in_hash, "{is_new}");
            disk.run(ops);
            // The next time only this element has changed.
            let db = keyspace.database(0);
            db.touch(b"s");
            db.touch_element(b"h", || b"f"[..].into());
        }
        let mut loaded = disk.load();
        let db = loaded.database(0);
        assert_eq!(db.share_large(b"s").as_deref(), Some(&large[..]));
        let hash = db.hash(b"h").unwrap().unwrap();
        assert_eq!(hash.find(b"f").map(Text::as_bytes), Some(&large[..]));
    }

    pub fn hash_of(db: &mut Database, key: &[u8], fields: u32) {
        for number in 0..fields {
            let name = number.to_string();
            let hash = db.hash_or_new(key).unwrap();
            hash.insert(name.as_bytes(), b"v"[..].into());
        }
    }

    #[test]
    fn a_long_key_and_long_elements_are_stored_once() {
        let mut keyspace = Loader::default().finish().unwrap();
        let mut disk = Disk::default();
        let db = keyspace.database(0);
        let key = vec![b'k'; 1 << 20];
        let long = vec![b'e'; 100_000];
        hash_of(db, &key, 1_000);
        db.members_or_new(b"m").unwrap().insert(long[..].into());
        db.sorted_or_new(b"z").unwrap().insert(&long, 1.5);
        let hash = db.hash_or_new(b"h").unwrap();
        hash.insert(&long, long[..].into());
        let ops = take_changes(&mut keyspace);
        let size: usize = ops.iter().map(Op::size).sum();
        assert!(size < 2 << 20, "{size} bytes");
        disk.run(ops);
        assert!(disk.size() < 2 << 20, "{} bytes", disk.size());
        assert!(disk.0.keys().all(|name| name.len() < 100));
        // A change of an element does not store the key again.
        let db = keyspace.database(0);
        for (key, name) in [(&key[..], &b"5"[..]), (b"h", &long)] {
            db.hash_mut(key)
                .unwrap()
                .unwrap()
                .insert(name, b"new"[..].into());
            db.touch_element(key, || name.into());
        }
        let ops = take_changes(&mut keyspace);
        let size: usize = ops.iter().map(Op::size).sum();
        assert!(size < 101_000, "{size} bytes");
        disk.run(ops);
        let mut loaded = disk.load();
        let db = loaded.database(0);
        for (key, name) in [(&key[..], &b"5"[..]), (b"h", &long)] {
            let value = db.hash(key).unwrap().unwrap().find(name);
            assert_eq!(value.map(Text::as_bytes), Some(&b"new"[..]));
        }
        assert!(db.members(b"m").unwrap().unwrap().contains(&long));
        assert_eq!(db.sorted(b"z").unwrap().unwrap().score(&long), Some(1.5));
        db.hash_mut(b"h").unwrap().unwrap().remove(&long);
        db.touch_element(b"h", || long[..].into());
        disk.write(&mut loaded);
        assert_eq!(
            disk.load().database(0).hash(b"h").unwrap().unwrap().len(),
            0
        );
    }
}

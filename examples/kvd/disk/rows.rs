//! What is stored of a key: a row for itself, and one for each element of a collection.
//!
//! The name of a row is the number of the database, the length of the key, the key, and then 0 for the key itself, or
//! 1 and the name of the element. The row of a key has its type and its expiry, and the content of a string. So a
//! change costs as much as what it changes, however large the collection is.
//!
//! SWAPDB changes no row of a key. One row of its own has the order of the databases, by the numbers in the names.

use std::collections::HashMap;
use std::ops::Range;

use asynchat::bytes::Bytes;

use crate::store::change::Change;
use crate::store::database::Database;
use crate::store::dropper::MANY;
use crate::store::keyspace::Keyspace;
use crate::store::number::Digits;
use crate::store::text::Text;
use crate::store::value::Value;

/// What a transaction does with a row.
pub enum Op {
    /// Removes the rows with names in this range.
    Clear(Range<Vec<u8>>),
    Put(Vec<u8>, Bytes),
    /// Puts the row of a large string. The content of the row is the second vector, and the string.
    PutString(Vec<u8>, Vec<u8>, Bytes),
    /// Puts the rows of all elements of a large collection, whose key has this prefix. It is a snapshot, so that the
    /// thread that writes encodes it. The number is that of its bytes.
    PutElements(Vec<u8>, Value, usize),
    Delete(Vec<u8>),
}

impl Op {
    /// The bytes of memory.
    pub fn size(&self) -> usize {
        size_of::<Op>()
            + match self {
                Op::Clear(names) => names.start.len() + names.end.len(),
                Op::Put(name, content) => name.len() + content.len(),
                Op::PutString(name, head, text) => name.len() + head.len() + text.len(),
                Op::PutElements(prefix, _, size) => prefix.len() + size,
                Op::Delete(name) => name.len(),
            }
    }
}

/// A collection with elements of more bytes than this is encoded by the thread that writes.
const MANY_BYTES: usize = 64 * 1024;

pub(super) const KEY: u8 = 0;
pub(super) const ELEMENT: u8 = 1;

/// The name of the row with the order of the databases. It is behind all others.
pub(super) const ORDER: &[u8] = &[u8::MAX];

pub(super) fn prefix(database: u8, key: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(key.len() + 32);
    name.push(database);
    name.extend_from_slice(&(key.len() as u32).to_be_bytes());
    name.extend_from_slice(key);
    name
}

pub(super) fn with(prefix: &[u8], tag: u8, element: &[u8]) -> Vec<u8> {
    [prefix, &[tag], element].concat()
}

/// The number of an element of a list, as the name of its row: without a sign, so that rows are in the order of the list.
pub fn element_name(number: i64) -> [u8; 8] {
    number.wrapping_sub(i64::MIN).to_be_bytes()
}

pub(super) fn element_number(name: &[u8]) -> Option<i64> {
    let number = i64::from_be_bytes(name.try_into().ok()?);
    Some(number.wrapping_add(i64::MIN))
}

/// The rows of everything that has changed since the last call.
pub fn take_changes(keyspace: &mut Keyspace) -> Vec<Op> {
    let mut ops = Vec::new();
    if std::mem::take(&mut keyspace.is_swapped) {
        let order: Vec<u8> = keyspace.databases().map(|it| it.number_on_disk).collect();
        ops.push(Op::Put(ORDER.to_vec(), order.into()));
    }
    for database in keyspace.databases() {
        let number = database.number_on_disk;
        if std::mem::take(&mut database.cleared) {
            ops.push(Op::Clear(vec![number]..vec![number + 1]));
        }
        let Some(changes) = database
            .changes
            .as_mut()
            .filter(|changes| !changes.is_empty())
        else {
            continue;
        };
        let changes = std::mem::take(changes);
        database.change_count = 0;
        add_changes(&mut ops, database, &changes);
    }
    ops
}

fn add_changes(ops: &mut Vec<Op>, database: &mut Database, changes: &HashMap<Text, Change>) {
    for (key, change) in changes {
        let prefix = prefix(database.number_on_disk, key.as_bytes());
        let entry = database.table().find(key.as_bytes());
        if entry.is_none() || *change == Change::Whole {
            let (start, end) = (with(&prefix, KEY, &[]), with(&prefix, ELEMENT + 1, &[]));
            ops.push(Op::Clear(start..end));
        }
        let Some(entry) = entry else { continue };
        let name = with(&prefix, KEY, &[]);
        let mut main = vec![kind(&entry.value)];
        main.extend_from_slice(&entry.expires.to_le_bytes());
        if entry.value.is_large_string() {
            let text = database.share(key.as_bytes()).unwrap_or_default();
            ops.push(Op::PutString(name, main, text));
            continue;
        }
        let mut digits = Digits::default();
        main.extend_from_slice(entry.value.text(&mut digits).unwrap_or_default());
        ops.push(Op::Put(name, main.into()));
        match change {
            Change::Whole => {
                let size = size_of_elements(&entry.value);
                if entry.value.len() > MANY || size > MANY_BYTES {
                    ops.push(Op::PutElements(prefix, entry.value.clone(), size));
                    continue;
                }
                each_element(&entry.value, &mut |name, content| {
                    let content = Bytes::copy_from_slice(content);
                    ops.push(Op::Put(with(&prefix, ELEMENT, name), content));
                });
            }
            Change::Elements(elements) => {
                for numbers in &elements.removed {
                    let name = |number| with(&prefix, ELEMENT, &element_name(number));
                    ops.push(Op::Clear(name(numbers.start)..name(numbers.end)));
                }
                for element in &elements.changed {
                    let name = with(&prefix, ELEMENT, element.as_bytes());
                    ops.push(match content(&entry.value, element.as_bytes()) {
                        Some(content) => Op::Put(name, content),
                        None => Op::Delete(name),
                    });
                }
            }
        }
    }
}

/// The bytes of the elements of a collection. About that many if they are many: these are shared with the keyspace until
/// they change.
fn size_of_elements(value: &Value) -> usize {
    if value.len() > MANY {
        return 64 * value.len();
    }
    let mut size = 0;
    each_element(value, &mut |name, content| {
        size += name.len() + content.len();
    });
    size
}

fn kind(value: &Value) -> u8 {
    match value {
        Value::List(_) => 1,
        Value::Hash(_) => 2,
        Value::Set(_) => 3,
        Value::Sorted(_) => 4,
        _ => 0,
    }
}

/// The content of the row of an element, if the element is there.
fn content(value: &Value, element: &[u8]) -> Option<Bytes> {
    Some(match value {
        Value::List(list) => {
            let index = element_number(element)?.checked_sub(list.number(0))?;
            list.get(usize::try_from(index).ok()?)?.to_bytes()
        }
        Value::Hash(hash) => hash.find(element)?.to_bytes(),
        Value::Set(set) => set.find(element).map(|_| Bytes::new())?,
        Value::Sorted(set) => Bytes::copy_from_slice(&set.score(element)?.to_le_bytes()),
        _ => return None,
    })
}

/// The rows of all elements of a collection, whose key has this prefix.
pub fn each_row(prefix: &[u8], value: &Value, visit: &mut dyn FnMut(&[u8], &[u8])) {
    each_element(value, &mut |name, content| {
        visit(&with(prefix, ELEMENT, name), content);
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
            set.scores
                .iter()
                .for_each(|it| visit(it.member.as_bytes(), &it.score.to_le_bytes()));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::disk::loader::Loader;
    use crate::store::list::End;

    /// The rows on a disk.
    #[derive(Default)]
    struct Disk(BTreeMap<Vec<u8>, Bytes>);

    impl Disk {
        fn write(&mut self, keyspace: &mut Keyspace) -> usize {
            let ops = take_changes(keyspace);
            let count = ops.len();
            self.run(ops);
            count
        }

        fn run(&mut self, ops: Vec<Op>) {
            for op in ops {
                match op {
                    Op::Clear(range) => self.0.retain(|name, _| !range.contains(name)),
                    Op::Put(name, content) => drop(self.0.insert(name, content)),
                    Op::PutString(name, head, text) => {
                        self.0.insert(name, [&head[..], &text[..]].concat().into());
                    }
                    Op::PutElements(prefix, value, _) => {
                        each_row(&prefix, &value, &mut |name, content| {
                            self.0
                                .insert(name.to_vec(), Bytes::copy_from_slice(content));
                        });
                    }
                    Op::Delete(name) => drop(self.0.remove(&name)),
                }
            }
        }

        fn load(&self) -> Keyspace {
            let mut loader = Loader::default();
            self.0
                .iter()
                .for_each(|(name, content)| loader.add(name, content).unwrap());
            loader.finish()
        }
    }

    #[test]
    fn what_is_written_is_loaded_and_a_change_costs_what_it_changes() {
        let mut keyspace = Loader::default().finish();
        let mut disk = Disk::default();
        let db = keyspace.database(3);
        db.set(b"s", Value::string(b"hello"), 5_000);
        db.set(b"gone", Value::Int(7), 0);
        for number in 0..2_000_i64 {
            let name = number.to_string();
            db.hash_or_new(b"h")
                .unwrap()
                .insert(name.as_bytes(), b"v"[..].into());
            db.members_or_new(b"m")
                .unwrap()
                .insert(name.as_bytes().into());
            db.sorted_or_new(b"z")
                .unwrap()
                .insert(name.as_bytes(), number as f64 / 2.0);
            db.list_or_new(b"l")
                .unwrap()
                .push(End::Left, name.as_bytes().into());
        }
        assert!(
            disk.write(&mut keyspace) < 20,
            "large collections are encoded by the thread that writes"
        );
        let db = keyspace.database(3);
        db.remove(b"gone");
        db.hash_mut(b"h").unwrap().unwrap().remove(b"5");
        db.touch_element(b"h", || b"5"[..].into());
        let (_, number) = db.list_mut(b"l").unwrap().unwrap().pop(End::Right).unwrap();
        db.touch_element(b"l", || element_name(number)[..].into());
        let number = db
            .list_mut(b"l")
            .unwrap()
            .unwrap()
            .push(End::Left, b"first"[..].into());
        db.touch_element(b"l", || element_name(number)[..].into());
        assert!(disk.write(&mut keyspace) < 10);
        keyspace.database(4).set(b"before", Value::Int(1), 0);
        disk.write(&mut keyspace);
        keyspace.database(4).clear();
        keyspace.database(4).set(b"after", Value::Int(1), 0);
        assert!(disk.write(&mut keyspace) < 10);

        let mut loaded = disk.load();
        assert!(loaded.database(4).contains(b"after") && !loaded.database(4).contains(b"before"));
        let db = loaded.database(3);
        assert_eq!(db.len(), 5);
        assert_eq!(db.next_expiry(), Some(5_000));
        assert_eq!(db.hash(b"h").unwrap().unwrap().len(), 1_999);
        assert_eq!(db.members(b"m").unwrap().unwrap().len(), 2_000);
        assert_eq!(db.sorted(b"z").unwrap().unwrap().score(b"7"), Some(3.5));
        let list = db.list(b"l").unwrap().unwrap();
        assert_eq!(list.get(0).map(Text::as_bytes), Some(&b"first"[..]));
        assert_eq!(
            (list.len(), list.iter().next_back().map(Text::as_bytes)),
            (2_000, Some(&b"1"[..]))
        );
    }

    #[test]
    fn large_strings_and_elements_are_not_copied() {
        let mut keyspace = Loader::default().finish();
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
                Op::PutString(_, _, text) => start(Some(text)),
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
        assert_eq!(db.share(b"s").as_deref(), Some(&large[..]));
        let hash = db.hash(b"h").unwrap().unwrap();
        assert_eq!(hash.find(b"f").map(Text::as_bytes), Some(&large[..]));
    }

    #[test]
    fn removed_elements_of_a_list_are_ranges_before_those_that_have_their_numbers_later() {
        let mut keyspace = Loader::default().finish();
        let mut disk = Disk::default();
        let list = keyspace.database(0).list_or_new(b"l").unwrap();
        for number in 0..10_000_i64 {
            list.push(End::Right, number.to_string().into_bytes().into());
        }
        disk.write(&mut keyspace);
        let db = keyspace.database(0);
        for (end, numbers) in [(End::Left, 0..3_000), (End::Right, 6_000..10_000)] {
            let list = db.list_mut(b"l").unwrap().unwrap();
            drop(list.take(end, numbers.clone().count()));
            db.touch_removed(b"l", numbers);
        }
        for (end, text) in [(End::Left, "first"), (End::Right, "last")] {
            let list = db.list_mut(b"l").unwrap().unwrap();
            let number = list.push(end, text.as_bytes().into());
            db.touch_element(b"l", || element_name(number)[..].into());
        }
        assert!(disk.write(&mut keyspace) < 6);
        let mut loaded = disk.load();
        let list = loaded.database(0).list(b"l").unwrap().unwrap();
        let text = |index| list.get(index).map(Text::as_bytes);
        assert_eq!(list.len(), 3_002);
        assert_eq!(
            (text(0), text(1)),
            (Some(&b"first"[..]), Some(&b"3000"[..]))
        );
        assert_eq!(
            (text(3_000), text(3_001)),
            (Some(&b"5999"[..]), Some(&b"last"[..]))
        );
    }
}

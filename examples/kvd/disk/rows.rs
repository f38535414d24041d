//! What is stored of a key: a row for itself, and one for each element of a collection.
//!
//! The name of a row is the number of the database, the length of the key, the key, and then 0 for the key itself, or
//! 1 and the name of the element. The row of a key has its type and its expiry, and the content of a string. So a
//! change costs as much as what it changes, however large the collection is.
//!
//! SWAPDB changes no row of a key. One row of its own has the order of the databases, by the numbers in the names.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use asynchat::bytes::Bytes;

use crate::store::database::{Change, Database};
use crate::store::dropper::MANY;
use crate::store::hash::Hash;
use crate::store::keyspace::{DATABASES, Keyspace};
use crate::store::list::{End, List};
use crate::store::number::Digits;
use crate::store::sorted_set::SortedSet;
use crate::store::text::Text;
use crate::store::value::{Set, Value};

/// What a transaction does with a row.
pub enum Op {
    /// Removes the rows with names in this range.
    Clear(Range<Vec<u8>>),
    Put(Vec<u8>, Bytes),
    /// Puts the rows of all elements of a large collection, whose key has this prefix. It is a snapshot, so that the
    /// thread that writes encodes it.
    PutElements(Vec<u8>, Value),
    Delete(Vec<u8>),
}

impl Op {
    /// The bytes of memory.
    pub fn size(&self) -> usize {
        size_of::<Op>()
            + match self {
                Op::Clear(names) => names.start.len() + names.end.len(),
                Op::Put(name, content) => name.len() + content.len(),
                // About: the elements are shared with the keyspace until they change.
                Op::PutElements(_, value) => 64 * value.len(),
                Op::Delete(name) => name.len(),
            }
    }
}

const KEY: u8 = 0;
const ELEMENT: u8 = 1;

/// The name of the row with the order of the databases. It is behind all others.
const ORDER: &[u8] = &[u8::MAX];

fn prefix(database: u8, key: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(key.len() + 32);
    name.push(database);
    name.extend_from_slice(&(key.len() as u32).to_be_bytes());
    name.extend_from_slice(key);
    name
}

fn with(prefix: &[u8], tag: u8, element: &[u8]) -> Vec<u8> {
    [prefix, &[tag], element].concat()
}

/// The place of an element of a list, as the name of its row: without a sign, so that rows are in the order of the list.
pub fn place_name(place: i64) -> [u8; 8] {
    place.wrapping_sub(i64::MIN).to_be_bytes()
}

fn place_of(name: &[u8]) -> Option<i64> {
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

fn add_changes(ops: &mut Vec<Op>, database: &Database, changes: &HashMap<Text, Change>) {
    for (key, change) in changes {
        let prefix = prefix(database.number_on_disk, key.as_bytes());
        let entry = database.table().find(key.as_bytes());
        if entry.is_none() || *change == Change::Whole {
            let (start, end) = (with(&prefix, KEY, &[]), with(&prefix, ELEMENT + 1, &[]));
            ops.push(Op::Clear(start..end));
        }
        let Some(entry) = entry else { continue };
        let mut main = vec![kind(&entry.value)];
        main.extend_from_slice(&entry.expires.to_le_bytes());
        let mut digits = Digits::default();
        main.extend_from_slice(entry.value.text(&mut digits).unwrap_or_default());
        ops.push(Op::Put(with(&prefix, KEY, &[]), main.into()));
        match change {
            Change::Whole if entry.value.len() > MANY => {
                ops.push(Op::PutElements(prefix, entry.value.clone()));
            }
            Change::Whole => each_element(&entry.value, &mut |name, content| {
                ops.push(Op::Put(
                    with(&prefix, ELEMENT, name),
                    Bytes::copy_from_slice(content),
                ));
            }),
            Change::Elements(elements) => {
                for element in elements {
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
            let index = place_of(element)?.checked_sub(list.place(0))?;
            let item = list.get(usize::try_from(index).ok()?)?;
            Bytes::copy_from_slice(item.as_bytes())
        }
        Value::Hash(hash) => Bytes::copy_from_slice(hash.find(element)?.as_bytes()),
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
                visit(&place_name(list.place(index)), item.as_bytes());
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

/// Builds a keyspace from its rows, in the order of their names.
#[derive(Default)]
pub struct Loader {
    pub keyspace: Keyspace,
    /// The key that is being read.
    key: Option<(usize, Text, Value, i64)>,
}

impl Loader {
    /// Adds a row.
    pub fn add(&mut self, name: &[u8], content: &[u8]) -> Result<(), &'static str> {
        const DAMAGED: &str = "a row of the database is damaged";
        if name == ORDER {
            self.finish_key();
            return self.keyspace.arrange(content).then_some(()).ok_or(DAMAGED);
        }
        let (head, rest) = name.split_at_checked(5).ok_or(DAMAGED)?;
        let (number, len) = head.split_first().ok_or(DAMAGED)?;
        let len = u32::from_be_bytes(len.try_into().map_err(|_| DAMAGED)?) as usize;
        let (key, rest) = rest.split_at_checked(len).ok_or(DAMAGED)?;
        let (tag, element) = rest.split_first().ok_or(DAMAGED)?;
        let number = usize::from(*number);
        if number >= DATABASES {
            return Err(DAMAGED);
        }
        if *tag == KEY {
            self.finish_key();
            let (kind, rest) = content.split_first().ok_or(DAMAGED)?;
            let (expires, text) = rest.split_at_checked(8).ok_or(DAMAGED)?;
            let expires = i64::from_le_bytes(expires.try_into().map_err(|_| DAMAGED)?);
            let value = match kind {
                0 => Value::from_bytes(Bytes::copy_from_slice(text)),
                1 => Value::List(Arc::default()),
                2 => Value::Hash(Arc::new(Hash::default())),
                3 => Value::Set(Arc::new(Set::default())),
                4 => Value::Sorted(Arc::new(SortedSet::default())),
                _ => return Err(DAMAGED),
            };
            self.key = Some((number, key.into(), value, expires));
            return Ok(());
        }
        let (_, _, value, _) = self
            .key
            .as_mut()
            .filter(|(of, name, ..)| *of == number && name.as_bytes() == key)
            .ok_or(DAMAGED)?;
        match value {
            Value::List(list) => {
                let place = place_of(element).ok_or(DAMAGED)?;
                let list = Arc::make_mut(list);
                if list.is_empty() {
                    *list = List::starting_at(place);
                }
                list.push(End::Right, content.into());
            }
            Value::Hash(hash) => drop(Arc::make_mut(hash).insert(element, content.into())),
            Value::Set(set) => drop(Arc::make_mut(set).insert(element.into())),
            Value::Sorted(set) => {
                let score = f64::from_le_bytes(content.try_into().map_err(|_| DAMAGED)?);
                Arc::make_mut(set).insert(element, score);
            }
            _ => return Err(DAMAGED),
        }
        Ok(())
    }

    fn finish_key(&mut self) {
        if let Some((number, key, value, expires)) = self.key.take() {
            self.keyspace
                .database(number)
                .set(key.as_bytes(), value, expires);
        }
    }

    /// The keyspace, which collects its changes from now on.
    pub fn finish(mut self) -> Keyspace {
        self.finish_key();
        for database in self.keyspace.databases() {
            database.changes = Some(HashMap::new());
        }
        self.keyspace
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// The rows on a disk.
    #[derive(Default)]
    struct Disk(BTreeMap<Vec<u8>, Bytes>);

    impl Disk {
        fn write(&mut self, keyspace: &mut Keyspace) -> usize {
            let ops = take_changes(keyspace);
            let count = ops.len();
            for op in ops {
                match op {
                    Op::Clear(range) => self.0.retain(|name, _| !range.contains(name)),
                    Op::Put(name, content) => drop(self.0.insert(name, content)),
                    Op::PutElements(prefix, value) => {
                        each_row(&prefix, &value, &mut |name, content| {
                            self.0
                                .insert(name.to_vec(), Bytes::copy_from_slice(content));
                        });
                    }
                    Op::Delete(name) => drop(self.0.remove(&name)),
                }
            }
            count
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
        let (_, place) = db.list_mut(b"l").unwrap().unwrap().pop(End::Right).unwrap();
        db.touch_element(b"l", || place_name(place)[..].into());
        let place = db
            .list_mut(b"l")
            .unwrap()
            .unwrap()
            .push(End::Left, b"first"[..].into());
        db.touch_element(b"l", || place_name(place)[..].into());
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
    fn a_damaged_row_is_an_error() {
        let mut loader = Loader::default();
        assert!(loader.add(b"", b"").is_err());
        assert!(loader.add(&[0, 0, 0, 0, 9, 1], b"").is_err());
        assert!(
            loader
                .add(&with(&prefix(0, b"a"), ELEMENT, b"x"), b"")
                .is_err()
        );
        assert!(
            loader
                .add(
                    &with(&prefix(0, b"a"), KEY, &[]),
                    &[9, 0, 0, 0, 0, 0, 0, 0, 0]
                )
                .is_err()
        );
    }
}

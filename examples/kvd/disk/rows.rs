//! What is stored of a key: a row for itself, and rows for the elements of a collection or the parts of a large string.
//!
//! | name | content |
//! |---|---|
//! | KEY, database, key | type, expiry and number of the value, and the bytes of a small string or the length of a large one |
//! | ELEMENT, database, number of the value, element | the value of a field, the score of a member, an element, a part |
//!
//! So a change costs as much as what it changes, however large the collection or the string is. A value that is stored as
//! a whole gets a number that no other value of the database has had. RENAME changes the row of the key only. The rows of
//! a value that was removed or overwritten may stay for a while (`tables.rs`).
//!
//! The name of a long key or element has its SHA-256, and then the content of the row begins with the key or element
//! itself: with the names of all its rows, a key of 1 MB with a thousand elements would be a gigabyte.
//!
//! SWAPDB changes no row of a key. One row of its own has the order of the databases, by the numbers in the names.

use std::collections::HashMap;
use std::ops::Range;

use asynchat::bytes::Bytes;
use ring::digest::{SHA256, digest};

use crate::store::change::{Change, PART, element_name};
use crate::store::database::{Database, Entry};
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
    /// Puts a row whose content is the second vector, and what is behind it, without a copy of that.
    PutWithHead(Vec<u8>, Vec<u8>, Bytes),
    /// Puts the rows of all elements of a large collection, whose names have this prefix. It is a snapshot, so that the
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
                Op::PutWithHead(name, head, rest) => name.len() + head.len() + rest.len(),
                Op::PutElements(prefix, _, size) => prefix.len() + size,
                Op::Delete(name) => name.len(),
            }
    }
}

/// A collection with elements of more bytes than this is encoded by the thread that writes.
const MANY_BYTES: usize = 64 * 1024;

/// The first byte of a name: which table has the row.
pub(super) const KEY: u8 = b'K';
pub(super) const ELEMENT: u8 = b'E';

/// How a key or an element is in a name.
const PLAIN: u8 = 0;
const HASHED: u8 = 1;

/// A key or an element of more bytes than this is long.
const LONG: usize = 1024;

/// The name of the row with the order of the databases. In its table it is behind all others.
pub(super) const ORDER: &[u8] = &[KEY, u8::MAX];

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

/// The end of a name, and the head of the content.
fn plain_or_hashed(mut prefix: Vec<u8>, text: &[u8]) -> (Vec<u8>, Vec<u8>) {
    if text.len() <= LONG {
        prefix.push(PLAIN);
        prefix.extend_from_slice(text);
        return (prefix, Vec::new());
    }
    prefix.push(HASHED);
    prefix.extend_from_slice(digest(&SHA256, text).as_ref());
    let head = [&(text.len() as u64).to_le_bytes()[..], text].concat();
    (prefix, head)
}

/// The key or element in a row, and the rest of the content: the opposite of [`plain_or_hashed`].
pub(super) fn text_of_row<'a>(name: &'a [u8], content: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    match name.split_first()? {
        (&PLAIN, text) => Some((text, content)),
        (&HASHED, _) => {
            let (len, rest) = content.split_first_chunk()?;
            rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)
        }
        _ => None,
    }
}

/// What the names of the rows of a value begin with.
pub(super) fn prefix(database: u8, id: u64) -> Vec<u8> {
    let mut name = Vec::with_capacity(32);
    name.extend_from_slice(&[ELEMENT, database]);
    name.extend_from_slice(&id.to_be_bytes());
    name
}

/// The bytes of a [`prefix`].
pub(super) const PREFIX: usize = 10;

/// The name of the row of an element with a number.
pub(super) fn numbered(prefix: &[u8], number: i64) -> Vec<u8> {
    [prefix, &[PLAIN], &element_name(number)].concat()
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
            ops.push(Op::Clear(vec![KEY, number]..vec![KEY, number + 1]));
        }
        if let Some(changes) = database.changes.as_mut().filter(|it| !it.is_empty()) {
            let changes = std::mem::take(changes);
            database.change_count = 0;
            add_changes(&mut ops, database, &changes);
        }
        let mut dead = std::mem::take(&mut database.dead);
        dead.sort_by_key(|ids| ids.start);
        let chunks = dead.chunk_by(|a, b| a.end == b.start);
        ops.extend(chunks.filter_map(|ids| {
            let (start, end) = (ids.first()?.start, ids.last()?.end);
            Some(Op::Clear(prefix(number, start)..prefix(number, end)))
        }));
    }
    ops
}

fn add_changes(ops: &mut Vec<Op>, database: &mut Database, changes: &HashMap<Text, Change>) {
    let number = database.number_on_disk;
    for (key, change) in changes {
        let (name, head) = plain_or_hashed(vec![KEY, number], key.as_bytes());
        let Some(entry) = database.table().find(key.as_bytes()) else {
            ops.push(Op::Delete(name));
            continue;
        };
        match change {
            Change::Elements(elements) if entry.id != 0 => {
                if elements.is_key_changed {
                    ops.push(Op::Put(name, key_content(head, entry)));
                }
                let prefix = prefix(number, entry.id);
                for numbers in &elements.removed {
                    let name = |number| numbered(&prefix, number);
                    ops.push(Op::Clear(name(numbers.start)..name(numbers.end)));
                }
                for element in &elements.changed {
                    let element = element.as_bytes();
                    let (name, head) = plain_or_hashed(prefix.clone(), element);
                    ops.push(match content(&entry.value, element) {
                        Some(content) if head.is_empty() => Op::Put(name, content),
                        Some(content) => Op::PutWithHead(name, head, content),
                        None => Op::Delete(name),
                    });
                }
            }
            _ => {
                database.renumber(key.as_bytes());
                add_whole(ops, database, key.as_bytes(), (name, head));
            }
        }
    }
}

/// Adds the row of a key, and those of all elements or parts.
fn add_whole(
    ops: &mut Vec<Op>,
    database: &mut Database,
    key: &[u8],
    (name, head): (Vec<u8>, Vec<u8>),
) {
    let large = database.share_large(key);
    let Some(entry) = database.table().find(key) else {
        return;
    };
    ops.push(Op::Put(name, key_content(head, entry)));
    if entry.id == 0 {
        return;
    }
    let prefix = prefix(database.number_on_disk, entry.id);
    if let Some(text) = large {
        ops.extend((0..text.len().div_ceil(PART)).map(|part| {
            let end = text.len().min((part + 1) * PART);
            Op::Put(numbered(&prefix, part as i64), text.slice(part * PART..end))
        }));
        return;
    }
    let size = size_of_elements(&entry.value);
    if entry.value.len() > MANY || size > MANY_BYTES {
        ops.push(Op::PutElements(prefix, entry.value.clone(), size));
        return;
    }
    each_row(&prefix, &entry.value, &mut |name, head, content| {
        let content = [head, content].concat();
        ops.push(Op::Put(name.to_vec(), content.into()));
    });
}

/// The content of the row of a key.
fn key_content(head: Vec<u8>, entry: &Entry) -> Bytes {
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

/// The content of the row of an element or a part, if that is there.
fn content(value: &Value, element: &[u8]) -> Option<Bytes> {
    Some(match value {
        Value::List(list) => {
            let index = element_number(element)?.checked_sub(list.number(0))?;
            list.get(usize::try_from(index).ok()?)?.to_bytes()
        }
        Value::Hash(hash) => hash.find(element)?.to_bytes(),
        Value::Set(set) => set.find(element).map(|_| Bytes::new())?,
        Value::Sorted(set) => Bytes::copy_from_slice(&set.score(element)?.to_le_bytes()),
        string => {
            let part = usize::try_from(element_number(element)?).ok()?;
            let mut digits = Digits::default();
            let text = string.text(&mut digits)?.chunks(PART).nth(part)?;
            // A copy of the part, so that the string can grow without a copy of the whole.
            Bytes::copy_from_slice(text)
        }
    })
}

/// The rows of all elements of a collection, with this prefix: the name, and the content in two parts.
pub fn each_row(prefix: &[u8], value: &Value, visit: &mut dyn FnMut(&[u8], &[u8], &[u8])) {
    each_element(value, &mut |name, content| {
        let (name, head) = plain_or_hashed(prefix.to_vec(), name);
        visit(&name, &head, content);
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
                    Op::PutWithHead(name, head, rest) => {
                        self.0.insert(name, [&head[..], &rest[..]].concat().into());
                    }
                    Op::PutElements(prefix, value, _) => {
                        each_row(&prefix, &value, &mut |name, head, content| {
                            let content = [head, content].concat();
                            self.0.insert(name.to_vec(), content.into());
                        });
                    }
                    Op::Delete(name) => drop(self.0.remove(&name)),
                }
            }
        }

        fn load(&self) -> Keyspace {
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
    fn what_is_written_is_loaded_and_a_change_costs_what_it_changes() {
        let mut keyspace = Loader::default().finish().unwrap();
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

    #[test]
    fn removed_elements_of_a_list_are_ranges_before_those_that_have_their_numbers_later() {
        let mut keyspace = Loader::default().finish().unwrap();
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

    /// The ranges of names that are removed.
    fn cleared(ops: &[Op]) -> usize {
        ops.iter().filter(|op| matches!(op, Op::Clear(_))).count()
    }

    fn hash_of(db: &mut Database, key: &[u8], fields: u32) {
        for number in 0..fields {
            let name = number.to_string();
            let hash = db.hash_or_new(key).unwrap();
            hash.insert(name.as_bytes(), b"v"[..].into());
        }
    }

    #[test]
    fn a_renamed_key_costs_its_row_and_has_all_its_changes() {
        let mut keyspace = Loader::default().finish().unwrap();
        let mut disk = Disk::default();
        let db = keyspace.database(0);
        hash_of(db, b"a", 3_000);
        hash_of(db, b"b", 10);
        db.set(b"s", Value::from_bytes(vec![b'x'; 1_000_000].into()), 0);
        disk.write(&mut keyspace);
        let db = keyspace.database(0);
        db.hash_mut(b"a").unwrap().unwrap().remove(b"5");
        db.touch_element(b"a", || b"5"[..].into());
        db.set_expiry(b"a", 9_000);
        db.rename(b"a", b"b");
        db.rename(b"s", b"t");
        // The name is free for another key, which may be renamed before it has rows.
        hash_of(db, b"a", 1);
        db.rename(b"a", b"c");
        db.set(b"small", Value::Int(7), 0);
        db.rename(b"small", b"a");
        let ops = take_changes(&mut keyspace);
        let size: usize = ops.iter().map(Op::size).sum();
        assert!(size < 2_000, "{size} bytes");
        assert_eq!(cleared(&ops), 1, "of the old b");
        disk.run(ops);
        let mut loaded = disk.load();
        let db = loaded.database(0);
        assert_eq!((db.len(), db.next_expiry()), (4, Some(9_000)));
        let hash = db.hash(b"b").unwrap().unwrap();
        assert_eq!((hash.len(), hash.find(b"5").is_some()), (2_999, false));
        assert_eq!(db.hash(b"c").unwrap().unwrap().len(), 1);
        assert!(matches!(db.find(b"a"), Some(Value::Int(7))));
        assert_eq!(db.share_large(b"t").map(|it| it.len()), Some(1_000_000));
    }

    #[test]
    fn a_value_that_takes_the_place_of_another_one_has_another_number_also_after_a_restart() {
        let mut keyspace = Loader::default().finish().unwrap();
        let mut disk = Disk::default();
        let mut last_id = 0;
        for round in 1..5 {
            let db = keyspace.database(0);
            db.delete(b"h");
            hash_of(db, b"h", 2 * round);
            db.delete(b"h");
            hash_of(db, b"h", round);
            let ops = take_changes(&mut keyspace);
            assert_eq!(cleared(&ops), usize::from(round > 1));
            disk.run(ops);
            assert_eq!(disk.0.len(), 1 + round as usize);
            keyspace = disk.load();
            let db = keyspace.database(0);
            assert_eq!(db.hash(b"h").unwrap().unwrap().len(), round as usize);
            assert!(db.last_id > last_id);
            last_id = db.last_id;
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

    #[test]
    fn of_a_large_string_only_the_parts_are_stored_that_have_changed() {
        let mut keyspace = Loader::default().finish().unwrap();
        let mut disk = Disk::default();
        let mut wanted = vec![b'x'; 10 * PART];
        // From a string that has no parts, and from one that has them: over the border of two parts, and at the end.
        let db = keyspace.database(0);
        db.set(b"s", Value::string(b"short"), 0);
        disk.write(&mut keyspace);
        let whole = Value::Growing(Arc::new(wanted.clone()));
        keyspace.database(0).replace_part(b"s", whole, 5..10 * PART);
        disk.write(&mut keyspace);
        for (range, parts) in [(PART - 1..PART + 1, 2), (10 * PART..10 * PART + 5, 1)] {
            let db = keyspace.database(0);
            let text = db.find_mut(b"s").and_then(Value::growing).unwrap();
            for data in [text, &mut wanted] {
                data.resize(data.len().max(range.end), 0);
                data[range.clone()].fill(b'y');
            }
            db.touch_part_of_string(b"s", range);
            assert_eq!(disk.write(&mut keyspace), 1 + parts);
            let text = disk.load().database(0).share_large(b"s");
            assert!(text.as_deref() == Some(&wanted[..]));
            let value = keyspace.database(0).find(b"s");
            assert!(
                value.is_some_and(|it| !it.is_shared()),
                "it can grow without a copy"
            );
        }
    }

    #[test]
    fn the_rows_of_an_emptied_database_are_one_range_that_goes_with_an_exchange() {
        let mut keyspace = Loader::default().finish().unwrap();
        let mut disk = Disk::default();
        for number in [0, 1] {
            hash_of(keyspace.database(number), b"h", 5);
            hash_of(keyspace.database(number), b"i", 5);
        }
        disk.write(&mut keyspace);
        keyspace.database(0).clear();
        hash_of(keyspace.database(0), b"h", 3);
        keyspace.swap(0, 1);
        let ops = take_changes(&mut keyspace);
        assert_eq!(cleared(&ops), 2, "keys and elements");
        disk.run(ops);
        let mut loaded = disk.load();
        assert_eq!(loaded.database(0).hash(b"i").unwrap().unwrap().len(), 5);
        assert_eq!(loaded.database(1).len(), 1);
        assert_eq!(loaded.database(1).hash(b"h").unwrap().unwrap().len(), 3);
    }
}

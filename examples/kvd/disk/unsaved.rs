//! What is not on disk yet: of each row the last change. The thread that saves has what is in the log, and not in the database.
//! The one that appends to the log has what could not be appended.

use std::collections::BTreeMap;
use std::ops::Bound;

use asynchat::bytes::Bytes;

use super::rows::{Op, each_row};
use crate::store::value::Value;

/// Changes of rows. They are applied in the order of these fields, whatever the order in which they came: a range that
/// is removed also removes earlier entries from the other two.
#[derive(Default)]
pub struct Unsaved {
    /// The ranges of names whose rows are removed, by their start.
    pub cleared: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Large collections, whose rows are all new, by the prefix of the names of these rows.
    pub collections: BTreeMap<Vec<u8>, Value>,
    pub rows: BTreeMap<Vec<u8>, Row>,
}

/// The content of a row: a head, and what is behind it without being copied.
pub enum Row {
    Put(Vec<u8>, Bytes),
    Delete,
}

impl Unsaved {
    pub fn is_empty(&self) -> bool {
        self.cleared.is_empty() && self.collections.is_empty() && self.rows.is_empty()
    }

    pub fn add(&mut self, op: Op) {
        match op {
            Op::Clear(names) => {
                self.split_collection(&names.start);
                remove_range(&mut self.collections, &names.start, &names.end);
                remove_range(&mut self.rows, &names.start, &names.end);
                let end = self.cleared.entry(names.start).or_default();
                if *end < names.end {
                    *end = names.end;
                }
            }
            Op::Put(name, content) => drop(self.rows.insert(name, Row::Put(Vec::new(), content))),
            Op::PutWithHead(name, head, rest) => drop(self.rows.insert(name, Row::Put(head, rest))),
            Op::PutElements(prefix, value, _) => drop(self.collections.insert(prefix, value)),
            Op::DeleteElements(prefix, value, _) => each_row(&prefix, &value, |name, _, _| {
                self.rows.insert(name.to_vec(), Row::Delete);
            }),
            Op::Delete(name) => drop(self.rows.insert(name, Row::Delete)),
        }
    }

    /// The changes in an order in which they can be made one after another.
    fn into_ops(self) -> Vec<Op> {
        let Unsaved {
            cleared,
            collections,
            rows,
        } = self;
        let cleared = cleared
            .into_iter()
            .map(|(start, end)| Op::Clear(start..end));
        let collections = collections.into_iter().map(|(prefix, value)| {
            let size = value.size();
            Op::PutElements(prefix, value, size)
        });
        let rows = rows.into_iter().map(|(name, row)| match row {
            Row::Put(head, content) if head.is_empty() => Op::Put(name, content),
            Row::Put(head, content) => Op::PutWithHead(name, head, content),
            Row::Delete => Op::Delete(name),
        });
        cleared.chain(collections).chain(rows).collect()
    }

    /// Makes rows of the collection in which a range is removed that begins here.
    fn split_collection(&mut self, start: &[u8]) {
        let up_to = (Bound::Unbounded, Bound::Excluded(start));
        let before = self.collections.range::<[u8], _>(up_to).next_back();
        let Some(name) = before
            .map(|(name, _)| name.clone())
            .filter(|name| start.starts_with(name))
        else {
            return;
        };
        if let Some(value) = self.collections.remove(&name) {
            let rows = &mut self.rows;
            each_row(&name, &value, |name, head, content| {
                // A change of this element that has come later stays.
                let row = rows.entry(name.to_vec());
                row.or_insert_with(|| Row::Put(head.to_vec(), Bytes::copy_from_slice(content)));
            });
        }
    }
}

/// Leaves of these changes the last one of each row. A value that was removed meanwhile is not in them any more.
pub fn last_changes(ops: Vec<Op>) -> Vec<Op> {
    let mut unsaved = Unsaved::default();
    ops.into_iter().for_each(|op| unsaved.add(op));
    unsaved.into_ops()
}

fn remove_range<T>(map: &mut BTreeMap<Vec<u8>, T>, start: &[u8], end: &[u8]) {
    if start >= end {
        return;
    }
    let range = || (Bound::Included(start), Bound::Excluded(end));
    while let Some((name, _)) = map.range::<[u8], _>(range()).next() {
        let name = name.clone();
        map.remove(&name);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::changes::take_changes;
    use crate::disk::loader::Loader;
    use crate::disk::names::{numbered, prefix};
    use crate::disk::rows::tests::Disk;
    use crate::store::keyspace::Keyspace;
    use crate::store::list::{End, List};

    fn put(name: &[u8], content: &'static [u8]) -> Op {
        Op::Put(name.to_vec(), Bytes::from_static(content))
    }

    fn rows(unsaved: &Unsaved) -> Vec<(&[u8], Option<&[u8]>)> {
        let rows = unsaved.rows.iter();
        rows.map(|(name, row)| match row {
            Row::Put(_, content) => (&name[..], Some(&content[..])),
            Row::Delete => (&name[..], None),
        })
        .collect()
    }

    #[test]
    fn the_last_change_of_a_row_is_the_one_that_counts() {
        let mut unsaved = Unsaved::default();
        for op in [
            put(b"b", b"1"),
            put(b"b", b"2"),
            put(b"c", b"1"),
            Op::Delete(b"c".to_vec()),
            put(b"d", b"1"),
            Op::Clear(b"d".to_vec()..b"e".to_vec()),
            Op::Clear(b"a".to_vec()..b"b".to_vec()),
            put(b"a", b"3"),
            Op::Clear(b"x".to_vec()..b"x".to_vec()),
        ] {
            unsaved.add(op);
        }
        let wanted: [(&[u8], Option<&[u8]>); 3] =
            [(b"a", Some(b"3")), (b"b", Some(b"2")), (b"c", None)];
        assert_eq!(rows(&unsaved), wanted);
        assert_eq!(unsaved.cleared.len(), 3);
    }

    #[test]
    fn elements_that_are_removed_from_a_new_list_are_not_in_it() {
        let mut list = List::default();
        for text in [b"a", b"b", b"c", b"d"] {
            list.push(End::Right, text[..].into());
        }
        let prefix_of_next = prefix(0, 2);
        let prefix = prefix(0, 1);
        let name = |index| numbered(&prefix, list.number(index));
        let mut unsaved = Unsaved::default();
        let value = Value::List(std::sync::Arc::new(list.clone()));
        unsaved.add(Op::PutElements(prefix.clone(), value.clone(), 4));
        unsaved.add(put(&name(3), b"new"));
        unsaved.add(Op::Clear(name(0)..name(2)));
        assert_eq!(
            rows(&unsaved),
            [
                (&name(2)[..], Some(&b"c"[..])),
                (&name(3)[..], Some(&b"new"[..]))
            ]
        );
        unsaved.add(Op::PutElements(prefix.clone(), value, 4));
        unsaved.add(Op::Clear(prefix..prefix_of_next));
        assert!(unsaved.collections.is_empty() && unsaved.rows.is_empty());
    }

    /// Changes of collections that are written as a whole, and of their elements, of databases that are emptied and
    /// exchanged.
    #[test]
    fn the_last_changes_leave_the_same_rows_as_all_of_them() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut keyspace = Loader::default().finish().unwrap();
        let (mut all, mut last) = (Disk::default(), Disk::default());
        for _ in 0..60 {
            let mut of_last = Vec::new();
            for _ in 0..random.usize(1..40) {
                change(&mut keyspace, &mut random);
                if random.bool() {
                    all.run(
                        take_changes(&mut keyspace)
                            .into_iter()
                            .inspect(|op| of_last.push(copy(op)))
                            .collect(),
                    );
                }
            }
            all.run(
                take_changes(&mut keyspace)
                    .into_iter()
                    .inspect(|op| of_last.push(copy(op)))
                    .collect(),
            );
            last.run(last_changes(of_last));
            assert!(all.0 == last.0);
            assert!(
                all.load()
                    .databases()
                    .map(|it| it.len())
                    .eq(keyspace.databases().map(|it| it.len()))
            );
        }
    }

    fn copy(op: &Op) -> Op {
        match op {
            Op::Clear(names) => Op::Clear(names.clone()),
            Op::Put(name, content) => Op::Put(name.clone(), content.clone()),
            Op::PutWithHead(name, head, rest) => {
                Op::PutWithHead(name.clone(), head.clone(), rest.clone())
            }
            Op::PutElements(name, value, size) => {
                Op::PutElements(name.clone(), value.clone(), *size)
            }
            Op::DeleteElements(name, value, size) => {
                Op::DeleteElements(name.clone(), value.clone(), *size)
            }
            Op::Delete(name) => Op::Delete(name.clone()),
        }
    }

    fn change(keyspace: &mut Keyspace, random: &mut fastrand::Rng) {
        let db = keyspace.database(random.usize(0..2));
        let key = &[random.u8(b'a'..b'e')][..];
        let long = vec![b'x'; random.usize(0..300)];
        match random.u32(0..20) {
            0 => db.clear(),
            1 => drop(db.delete(key)),
            2 if db.contains(b"a") => db.rename(b"a", key),
            3 => db.set(key, Value::string(&long), 0),
            4 => db.set(
                key,
                Value::Growing(Arc::new(vec![b'x'; random.usize(1..200_000)])),
                0,
            ),
            5 => keyspace.swap(0, 1),
            6..9 => {
                let len = random.usize(1..3_000);
                let mut list = List::default();
                for number in 0..len {
                    list.push(End::Right, number.to_string().into_bytes().into());
                }
                db.set(key, Value::List(Arc::new(list)), 0);
            }
            9..14 => {
                if let Ok(Some(list)) = db.list_mut(key)
                    && list.len() > 10
                {
                    let end = if random.bool() { End::Left } else { End::Right };
                    let number = random.usize(1..10);
                    let taken = list.take(end, number);
                    let first = taken.number(0);
                    db.touch_removed(key, first..first + number as i64);
                }
            }
            _ => {
                if let Ok(hash) = db.hash_or_new(key) {
                    let name = if random.bool() {
                        long
                    } else {
                        vec![random.u8(..)]
                    };
                    hash.insert(&name, name[..].into());
                    db.touch_element(key, || name[..].into());
                }
            }
        }
    }
}

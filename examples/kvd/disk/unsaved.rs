//! What is in the log, and not in the database yet: of each row the last change.

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
    use super::*;
    use crate::disk::names::{numbered, prefix};
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
}

//! The rows of what has changed.

use std::collections::HashMap;

use asynchat::bytes::Bytes;

use super::names::{KEY, ORDER, head_of, name_of, numbered, prefix};
use super::rows::{Op, content, each_row, key_content, part_of_string};
use crate::store::change::{Change, PART};
use crate::store::database::Database;
use crate::store::dropper::MANY;
use crate::store::keyspace::Keyspace;
use crate::store::ranked::Ranked;
use crate::store::sorted_set::SortedSet;
use crate::store::text::Text;
use crate::store::value::Value;

/// A collection with elements of more bytes than this is encoded by the thread that writes.
const MANY_BYTES: usize = 64 * 1024;

/// If more parts of a string than these have changed, and at least half of it, the thread that writes shares the string.
/// Otherwise the parts are copied: the next change of a shared string copies all of it, and what is shared stays in memory
/// as a whole, although only the parts count.
const MANY_PARTS: usize = (8 << 20) / PART;

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
        // A long key is hashed or copied only if that is needed.
        let name = || name_of(vec![KEY, number], key.as_bytes());
        let Some(entry) = database.table().find(key.as_bytes()) else {
            ops.push(Op::Delete(name()));
            continue;
        };
        match change {
            Change::Elements(elements) if entry.id != 0 => {
                if elements.is_key_changed {
                    ops.push(Op::Put(name(), key_content(head_of(key.as_bytes()), entry)));
                }
                let prefix = prefix(number, entry.id);
                for numbers in &elements.removed {
                    let name = |number| numbered(&prefix, number);
                    ops.push(Op::Clear(name(numbers.start)..name(numbers.end)));
                }
                for taken in &elements.taken {
                    let value = Value::Sorted(SortedSet::of(Ranked::clone(taken)).into());
                    let size = value.size();
                    ops.push(Op::DeleteElements(prefix.clone(), value, size));
                }
                let changed = elements.changed.len();
                let is_much = |text: &Bytes| changed >= text.len() / PART / 2;
                let shared = if changed > MANY_PARTS {
                    entry.value.shared().filter(is_much)
                } else {
                    None
                };
                for element in &elements.changed {
                    let element = element.as_bytes();
                    let content = match &shared {
                        Some(text) => part_of_string(text.len(), element).map(|it| text.slice(it)),
                        None => content(&entry.value, element),
                    };
                    let name = name_of(prefix.clone(), element);
                    let Some(content) = content else {
                        ops.push(Op::Delete(name));
                        continue;
                    };
                    let head = head_of(element);
                    ops.push(if head.is_empty() {
                        Op::Put(name, content)
                    } else {
                        Op::PutWithHead(name, head, content)
                    });
                }
            }
            _ => {
                database.renumber(key.as_bytes());
                add_whole(ops, database, key.as_bytes());
            }
        }
    }
}

/// Adds the row of a key, and those of all elements or parts.
fn add_whole(ops: &mut Vec<Op>, database: &mut Database, key: &[u8]) {
    let large = database.share_large(key);
    let Some(entry) = database.table().find(key) else {
        return;
    };
    let name = name_of(vec![KEY, database.number_on_disk], key);
    ops.push(Op::Put(name, key_content(head_of(key), entry)));
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
    let size = entry.value.size();
    if entry.value.len() > MANY || size > MANY_BYTES {
        ops.push(Op::PutElements(prefix, entry.value.clone(), size));
        return;
    }
    each_row(&prefix, &entry.value, |name, head, content| {
        let content = [head, content].concat();
        ops.push(Op::Put(name.to_vec(), content.into()));
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::loader::Loader;
    use crate::disk::rows::tests::{Disk, hash_of};
    use crate::store::change::element_name;
    use crate::store::list::End;

    /// The ranges of names that are removed.
    fn cleared(ops: &[Op]) -> usize {
        ops.iter().filter(|op| matches!(op, Op::Clear(_))).count()
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

    #[test]
    fn many_members_that_are_removed_at_once_cost_their_rows_or_those_that_are_left() {
        let mut keyspace = Loader::default().finish().unwrap();
        let mut disk = Disk::default();
        let name = |number: usize| number.to_string().into_bytes();
        let set = keyspace.database(0).sorted_or_new(b"z").unwrap();
        for number in 0..10_000 {
            set.insert(&name(number)[..], number as f64);
        }
        disk.write(&mut keyspace);
        for (ranks, only_removed) in [(0..2_000, true), (1_000..7_000, false)] {
            let db = keyspace.database(0);
            let id = db.last_id;
            // One of them has changed before, and one is there again later.
            let early = name(ranks.start);
            let set = db.sorted_mut(b"z").unwrap().unwrap();
            set.insert(&early[..], -1.0);
            db.touch_element(b"z", || early[..].into());
            let set = db.sorted_mut(b"z").unwrap().unwrap();
            let (left, late) = (set.len() + 1 - ranks.len(), ranks.end as f64 - 1.0);
            let late = set.ranked.from(set.rank(&name(late as usize)).unwrap());
            let late = late.map(|it| it.member.clone()).next().unwrap();
            let taken = set.take(ranks);
            db.touch_taken(b"z", &taken);
            let set = db.sorted_mut(b"z").unwrap().unwrap();
            set.insert(late.as_bytes(), 99_999.0);
            db.touch_element(b"z", || late.clone());
            let ops = take_changes(&mut keyspace);
            let removed = ops.iter().find_map(|op| match op {
                Op::DeleteElements(_, removed, _) => Some(removed.len()),
                _ => None,
            });
            assert_eq!(removed, only_removed.then_some(taken.len()));
            disk.run(ops);
            assert_eq!(disk.0.len(), 1 + left);
            let mut loaded = disk.load();
            let db = loaded.database(0);
            assert_eq!(db.last_id > id, !only_removed);
            let set = db.sorted(b"z").unwrap().unwrap();
            let expected = keyspace.database(0).sorted(b"z").unwrap().unwrap();
            assert!(set.ranked.from(0).eq(expected.ranked.from(0)));
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
    fn many_changed_parts_of_a_string_are_stored_without_a_copy() {
        let mut keyspace = Loader::default().finish().unwrap();
        let mut disk = Disk::default();
        let db = keyspace.database(0);
        db.set(b"s", Value::Growing(Arc::new(vec![b'x'; 20_000])), 0);
        disk.write(&mut keyspace);
        let db = keyspace.database(0);
        let text = db.find_mut(b"s").and_then(Value::growing).unwrap();
        text.resize((MANY_PARTS + 1) * PART - 5, b'y');
        let (bytes, len) = (text.as_ptr_range(), text.len());
        db.touch_part_of_string(b"s", 20_000..len);
        let ops = take_changes(&mut keyspace);
        let parts = ops.iter().filter_map(|op| match op {
            Op::Put(name, content) if name[0] != KEY => Some(content),
            _ => None,
        });
        let shared = parts.map(|it| bytes.contains(&it.as_ptr()));
        assert_eq!(shared.filter(|it| *it).count(), MANY_PARTS + 1);
        assert_eq!(cleared(&ops), 0, "its number is the same");
        disk.run(ops);
        let stored = disk.load().database(0).share_large(b"s").unwrap();
        assert_eq!(stored.len(), len);
        assert!(stored[..20_000].iter().all(|it| *it == b'x'));
        assert!(stored[20_000..].iter().all(|it| *it == b'y'));
    }

    #[test]
    fn the_changed_parts_of_a_much_longer_string_are_copied() {
        let mut keyspace = Loader::default().finish().unwrap();
        let mut disk = Disk::default();
        let db = keyspace.database(0);
        let text = vec![b'x'; 3 * (MANY_PARTS + 1) * PART];
        db.set(b"s", Value::Growing(Arc::new(text)), 0);
        disk.write(&mut keyspace);
        let db = keyspace.database(0);
        for part in 0..=MANY_PARTS {
            db.touch_part_of_string(b"s", 3 * part * PART..3 * part * PART + 1);
        }
        let ops = take_changes(&mut keyspace);
        assert_eq!(ops.len(), 1 + MANY_PARTS + 1, "its key, and the parts");
        // Otherwise its next change would copy it, and each copy would stay until it is stored.
        let text = keyspace.database(0).share_large(b"s").unwrap();
        let is_shared = |op: &Op| match op {
            Op::Put(_, content) => text.as_ptr_range().contains(&content.as_ptr()),
            _ => true,
        };
        assert!(!ops.iter().any(is_shared));
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

//! One database: its keys, and when they expire. `changes.rs`: who has to learn of a change.

mod changes;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::{Bound, Range};
use std::sync::Arc;

use asynchat::bytes::Bytes;

use super::change::Change;
use super::dropper;
use super::hash::Hash;
use super::list::List;
use super::sorted_set::SortedSet;
use super::table::{Keyed, Table};
use super::text::Text;
use super::touched::Touched;
use super::value::{Set, Value};
use super::watch::{Family, Watch};

/// The key has a value of another type.
#[derive(Debug, PartialEq, Eq)]
pub struct WrongType;

#[derive(Clone)]
pub struct Entry {
    pub key: Text,
    pub value: Value,
    /// When the key expires, in milliseconds since 1970. 0 for never.
    pub expires: i64,
    /// The number in the names of its rows on disk. 0 if it has none of its own.
    pub id: u64,
}

impl Keyed for Entry {
    fn name(&self) -> &Text {
        &self.key
    }
}

/// A key for which somebody waits.
#[derive(Default)]
pub struct Awaited {
    pub clients: usize,
    /// Whether it is among those that have received elements.
    is_ready: bool,
}

#[derive(Default)]
pub struct Database {
    table: Table<Entry>,
    expiries: BTreeSet<(i64, Text)>,
    /// Who watches each key, until it changes.
    watched: HashMap<Text, Vec<Watch>>,
    /// Who watches families of keys, until one of these keys changes.
    watched_families: Vec<(Vec<Family>, Watch)>,
    /// Which keys have changed. `None` while no client tracks keys.
    pub touched: Option<Touched>,
    /// What has changed since the last commit. `None` without a disk.
    pub changes: Option<HashMap<Text, Change>>,
    /// How many changes there were since the last commit, some of them of the same key or element.
    pub change_count: usize,
    /// How many bytes the disk gets for the changes: see `Keyspace::take_written`.
    pub written: usize,
    /// Whether all keys were removed since the last commit, before these changes.
    pub cleared: bool,
    /// The number of the database in the names of its rows.
    pub number_on_disk: u8,
    /// The highest number of an entry so far. No number is used again while rows may have it, so those of a removed entry
    /// may stay for a while: it is used once, or again after a restart that has found no such rows.
    pub last_id: u64,
    /// The numbers of the entries that were removed since the last commit.
    pub dead: Vec<Range<u64>>,
    /// For which keys somebody waits.
    pub awaited: HashMap<Text, Awaited>,
    /// The awaited keys that have received elements, each once, in this order.
    ready: VecDeque<Text>,
    /// The sorted sets with stale entries, and other keys. They take turns.
    stale: BTreeSet<Text>,
    /// The one that had the last turn.
    last_stale: Text,
    /// The time, in milliseconds since 1970.
    pub now: i64,
    /// How many keys have expired.
    pub expired: u64,
    /// Keys stay whose time is over, but they are not found.
    pub is_static: bool,
}

/// All keys of a database, with what was known of them.
struct Cleared(
    #[expect(dead_code, reason = "it is only dropped")] Table<Entry>,
    #[expect(dead_code, reason = "it is only dropped")] BTreeSet<(i64, Text)>,
    #[expect(dead_code, reason = "it is only dropped")] Option<HashMap<Text, Change>>,
);

impl dropper::Droppable for Cleared {
    fn is_long(&self) -> bool {
        true
    }
}

/// The methods for one type of collection.
macro_rules! collection {
    ($variant:ident, $type:ty, $find:ident, $change:ident, $make:ident) => {
        pub fn $find(&mut self, key: &[u8]) -> Result<Option<&Arc<$type>>, WrongType> {
            match self.find(key) {
                None => Ok(None),
                Some(Value::$variant(value)) => Ok(Some(value)),
                Some(_) => Err(WrongType),
            }
        }

        pub fn $change(&mut self, key: &[u8]) -> Result<Option<&mut $type>, WrongType> {
            match self.find_mut(key) {
                None => Ok(None),
                Some(Value::$variant(value)) => Ok(Some(Arc::make_mut(value))),
                Some(_) => Err(WrongType),
            }
        }

        /// The collection of the key, which is made if there is none.
        pub fn $make(&mut self, key: &[u8]) -> Result<&mut $type, WrongType> {
            if self.find(key).is_none() {
                self.set(key, Value::$variant(Arc::default()), 0);
            }
            match self.find_mut(key) {
                Some(Value::$variant(value)) => Ok(Arc::make_mut(value)),
                _ => Err(WrongType),
            }
        }
    };
}

impl Database {
    collection!(List, List, list, list_mut, list_or_new);
    collection!(Hash, Hash, hash, hash_mut, hash_or_new);
    collection!(Set, Set, members, members_mut, members_or_new);
    collection!(Sorted, SortedSet, sorted, sorted_mut, sorted_or_new);

    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// How many keys will expire.
    pub fn expiring(&self) -> usize {
        self.expiries.len()
    }

    pub fn table(&self) -> &Table<Entry> {
        &self.table
    }

    /// Removes the key if its time is over, and returns whether it is.
    #[inline]
    fn expire(&mut self, key: &[u8]) -> bool {
        if self.expiries.is_empty() {
            return false;
        }
        let due = |entry: &Entry| entry.expires != 0 && entry.expires <= self.now;
        let is_due = self.table.find(key).is_some_and(due);
        if is_due && !self.is_static {
            self.delete(key);
            self.note_expired();
        }
        is_due
    }

    /// A key was removed because its time is over.
    fn note_expired(&mut self) {
        self.expired += 1;
        if let Some(touched) = &mut self.touched {
            touched.note_expired();
        }
    }

    #[inline]
    pub fn entry(&mut self, key: &[u8]) -> Option<&Entry> {
        if self.expire(key) {
            return None;
        }
        self.table.find(key)
    }

    #[inline]
    pub fn find(&mut self, key: &[u8]) -> Option<&Value> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The value of a key, to be changed. The caller reports the change: [`touch`](Database::touch).
    #[inline]
    pub fn find_mut(&mut self, key: &[u8]) -> Option<&mut Value> {
        if self.expire(key) {
            return None;
        }
        self.table.find_mut(key).map(|entry| &mut entry.value)
    }

    /// The string of a key, if it is a large one, shared from now on.
    pub fn share_large(&mut self, key: &[u8]) -> Option<Bytes> {
        let value = &mut self.table.find_mut(key)?.value;
        value.is_large_string().then(|| value.share().cloned())?
    }

    pub fn contains(&mut self, key: &[u8]) -> bool {
        self.find(key).is_some()
    }

    /// Sets the value of a key, and when it expires: 0 for never.
    #[inline]
    pub fn set(&mut self, key: &[u8], value: Value, expires: i64) {
        self.note_written(&value);
        match self.table.find_mut(key) {
            Some(entry) => {
                dropper::drop_later(std::mem::replace(&mut entry.value, value));
                let old = std::mem::replace(&mut entry.expires, expires);
                if old != 0 {
                    self.expiries.remove(&(old, key.into()));
                }
            }
            None => self.table.insert_new(Entry {
                key: key.into(),
                value,
                expires,
                id: 0,
            }),
        }
        if expires != 0 {
            self.expiries.insert((expires, key.into()));
        }
        self.touch_whole(key);
    }

    #[inline]
    fn note_written(&mut self, value: &Value) {
        if self.changes.is_some() {
            self.written += value.size();
        }
    }

    /// Sets a key as it is on disk.
    pub fn load(&mut self, entry: Entry) {
        let Entry {
            key,
            value,
            expires,
            id,
        } = entry;
        self.set(key.as_bytes(), value, expires);
        if let Some(entry) = self.table.find_mut(key.as_bytes()) {
            entry.id = id;
        }
        self.last_id = self.last_id.max(id);
    }

    /// Changes when a key expires. Returns false if there is no such key.
    pub fn set_expiry(&mut self, key: &[u8], expires: i64) -> bool {
        let Some(entry) = self.table.find_mut(key) else {
            return false;
        };
        let old = std::mem::replace(&mut entry.expires, expires);
        // As in Redis, a transaction that watches the key does not fail because nothing was removed.
        if old == 0 && expires == 0 {
            return true;
        }
        if old != 0 {
            self.expiries.remove(&(old, key.into()));
        }
        if expires != 0 {
            self.expiries.insert((expires, key.into()));
        }
        self.touch_main(key);
        true
    }

    /// Changes the value of a key that is there, but not when it expires.
    pub fn replace(&mut self, key: &[u8], value: Value) {
        self.note_written(&value);
        if let Some(old) = self.find_mut(key) {
            dropper::drop_later(std::mem::replace(old, value));
            self.touch_whole(key);
        }
    }

    /// Changes a part of a string that is there. Its length only grows.
    pub fn replace_part(&mut self, key: &[u8], value: Value, part: Range<usize>) {
        if let Some(old) = self.find_mut(key) {
            dropper::drop_later(std::mem::replace(old, value));
            self.touch_part_of_string(key, part);
        }
    }

    pub fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let entry = self.table.remove(key)?;
        if entry.expires != 0 {
            self.expiries.remove(&(entry.expires, key.into()));
        }
        self.add_dead(entry.id);
        self.touch_whole(key);
        Some(entry)
    }

    /// Gives a key another name, and removes the key that had it.
    pub fn rename(&mut self, key: &[u8], name: &[u8]) {
        self.delete(name);
        let Some(mut entry) = self.table.remove(key) else {
            return;
        };
        if entry.expires != 0 {
            self.expiries.remove(&(entry.expires, key.into()));
            self.expiries.insert((entry.expires, name.into()));
        }
        entry.key = name.into();
        self.table.insert_new(entry);
        self.note_stale(name);
        self.touch_renamed(key, name);
    }

    /// Removes a key. A large value is dropped on another thread.
    pub fn delete(&mut self, key: &[u8]) -> bool {
        let removed = self.remove(key);
        removed
            .map(|entry| dropper::drop_later(entry.value))
            .is_some()
    }

    /// The key may have a sorted set with stale entries, from now on.
    pub fn note_stale(&mut self, key: &[u8]) {
        let value = self.table.find(key).map(|it| &it.value);
        if matches!(value, Some(Value::Sorted(set)) if set.has_stale()) {
            self.stale.insert(key.into());
        }
    }

    pub fn has_stale(&self) -> bool {
        !self.stale.is_empty()
    }

    /// Removes some hundred stale entries.
    pub fn remove_stale(&mut self) {
        let after = (Bound::Excluded(&self.last_stale), Bound::Unbounded);
        let next = self.stale.range::<Text, _>(after).next();
        let Some(key) = next.or_else(|| self.stale.first()).cloned() else {
            return;
        };
        let value = self.table.find_mut(key.as_bytes()).map(|it| &mut it.value);
        let has_more = match value {
            Some(Value::Sorted(set)) if set.has_stale() => Arc::make_mut(set).remove_stale(),
            _ => false,
        };
        if !has_more {
            self.stale.remove(&key);
        }
        self.last_stale = key;
    }

    /// Removes a collection that has become empty.
    pub fn remove_if_empty(&mut self, key: &[u8]) {
        let is_empty = match self.table.find(key).map(|it| &it.value) {
            Some(Value::List(list)) => list.is_empty(),
            Some(Value::Hash(hash)) => hash.len() == 0,
            Some(Value::Set(set)) => set.is_empty(),
            Some(Value::Sorted(set)) => set.len() == 0,
            _ => false,
        };
        if is_empty {
            self.remove(key);
        }
    }

    /// Removes everything. Another thread drops it.
    pub fn clear(&mut self) {
        self.notify_all();
        if let Some(touched) = &mut self.touched {
            touched.all = true;
        }
        let changes = self.changes.as_mut().map(std::mem::take);
        if changes.is_some() {
            self.change_count = 0;
            self.cleared = true;
            self.dead.clear();
            if self.last_id > 0 {
                self.dead.push(1..self.last_id + 1);
            }
        }
        let (table, expiries) = (
            std::mem::take(&mut self.table),
            std::mem::take(&mut self.expiries),
        );
        if !table.is_empty() {
            dropper::drop_later(Cleared(table, expiries, changes));
        }
    }

    /// Exchanges the keys of two databases, with what the disk has to learn of them.
    pub fn swap_keys(&mut self, other: &mut Database) {
        self.notify_all();
        other.notify_all();
        std::mem::swap(&mut self.table, &mut other.table);
        std::mem::swap(&mut self.expiries, &mut other.expiries);
        std::mem::swap(&mut self.changes, &mut other.changes);
        std::mem::swap(&mut self.change_count, &mut other.change_count);
        std::mem::swap(&mut self.cleared, &mut other.cleared);
        std::mem::swap(&mut self.number_on_disk, &mut other.number_on_disk);
        std::mem::swap(&mut self.last_id, &mut other.last_id);
        std::mem::swap(&mut self.dead, &mut other.dead);
        std::mem::swap(&mut self.stale, &mut other.stale);
        self.notify_all();
        other.notify_all();
    }

    /// When the next key expires.
    pub fn next_expiry(&self) -> Option<i64> {
        self.expiries.first().map(|(when, _)| *when)
    }

    /// Removes at most `most` keys whose time is over. Returns how many.
    pub fn expire_due(&mut self, most: usize) -> usize {
        let mut count = 0;
        while count < most
            && let Some((when, key)) = self.expiries.first()
            && *when <= self.now
        {
            let key = key.clone();
            self.delete(key.as_bytes());
            self.note_expired();
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn database() -> Database {
        Database {
            now: 1_000,
            changes: Some(HashMap::new()),
            ..Database::default()
        }
    }

    #[test]
    fn a_key_expires_when_it_is_asked_for_and_when_its_time_comes() {
        let mut database = database();
        database.set(b"a", Value::Int(1), 1_500);
        database.set(b"b", Value::Int(1), 1_600);
        database.set(b"c", Value::Int(1), 0);
        database.now = 1_500;
        assert!(!database.contains(b"a") && database.contains(b"b"));
        database.now = 2_000;
        assert_eq!(database.expire_due(10), 1);
        assert_eq!((database.len(), database.expired), (1, 2));
        assert_eq!(database.next_expiry(), None);
    }

    #[test]
    fn an_expiry_that_is_not_there_is_removed_without_a_change() {
        let mut database = database();
        database.set(b"a", Value::Int(1), 0);
        let watch = Watch::default();
        database.watch(b"a", &watch);
        assert!(database.set_expiry(b"a", 0));
        assert!(!database.is_broken(&watch));
        assert!(database.set_expiry(b"a", 1_700));
        assert!(database.is_broken(&watch));
    }

    #[test]
    fn a_new_value_has_no_expiry_unless_it_is_given() {
        let mut database = database();
        database.set(b"a", Value::Int(1), 1_500);
        database.set(b"a", Value::Int(2), 0);
        assert_eq!(database.next_expiry(), None);
        assert!(database.set_expiry(b"a", 1_700) && !database.set_expiry(b"x", 1));
        assert_eq!(database.next_expiry(), Some(1_700));
    }
}

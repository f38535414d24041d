//! All databases.

use super::database::Database;
use super::text::Text;
use super::touched::Touched;

/// The databases 0 to 15.
pub const DATABASES: usize = 16;

pub struct Keyspace {
    databases: Vec<Database>,
    /// The time, in milliseconds since 1970.
    now: i64,
    /// The databases that were used since [`take_new_expiry`](Keyspace::take_new_expiry), a bit for each.
    used: u16,
    /// Whether databases were exchanged since the last commit.
    pub is_swapped: bool,
    /// Whether a worker calls [`remove_stale`](Keyspace::remove_stale) until there is no more.
    removes_stale: bool,
    /// The database that has the next turn of it.
    next_stale: usize,
    /// The database whose keys expire first.
    next_expired: usize,
    /// No key expires.
    is_static: bool,
}

impl Default for Keyspace {
    fn default() -> Self {
        let database = |number| {
            let mut database = Database::default();
            database.number_on_disk = number as u8;
            database
        };
        Keyspace {
            databases: (0..DATABASES).map(database).collect(),
            is_swapped: false,
            removes_stale: false,
            next_stale: 0,
            next_expired: 0,
            is_static: false,
            now: 0,
            used: 0,
        }
    }
}

impl Keyspace {
    /// The database with this number, which is below [`DATABASES`].
    #[inline]
    pub fn database(&mut self, number: usize) -> &mut Database {
        self.used |= 1 << number;
        let database = &mut self.databases[number];
        database.now = self.now;
        database
    }

    pub fn databases(&mut self) -> impl Iterator<Item = &mut Database> {
        self.used = u16::MAX;
        for database in &mut self.databases {
            database.now = self.now;
        }
        self.databases.iter_mut()
    }

    /// Whether the caller has to call [`remove_stale`](Keyspace::remove_stale), because nobody else does.
    pub fn begin_to_remove_stale(&mut self) -> bool {
        !std::mem::replace(&mut self.removes_stale, true)
    }

    /// Removes some hundred stale entries of sorted sets. The databases take turns. Returns whether there are more.
    pub fn remove_stale(&mut self) -> bool {
        let count = self.databases.len();
        let mut numbers = (self.next_stale..count).chain(0..self.next_stale);
        if let Some(number) = numbers.find(|number| self.databases[*number].has_stale()) {
            self.databases[number].remove_stale();
            self.next_stale = (number + 1) % count;
        }
        self.removes_stale = self.databases.iter().any(Database::has_stale);
        self.removes_stale
    }

    /// Sets the time, in milliseconds since 1970.
    pub fn set_time(&mut self, now: i64) {
        self.now = now;
    }

    pub fn now(&self) -> i64 {
        self.now
    }

    /// When the next key expires of the databases that were used since the last call.
    #[inline]
    pub fn take_new_expiry(&mut self) -> Option<i64> {
        if self.is_static {
            return None;
        }
        let mut next: Option<i64> = None;
        while self.used != 0 {
            let number = self.used.trailing_zeros() as usize;
            self.used &= self.used - 1;
            let of_this = self.databases[number].next_expiry();
            next = match (next, of_this) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        next
    }

    /// Whether keys stay whose time is over. They are not found any more all the same.
    pub fn set_static(&mut self, is_static: bool) {
        self.is_static = is_static;
        for database in &mut self.databases {
            database.is_static = is_static;
        }
    }

    /// Removes keys whose time is over, at most so many. The databases take turns to be the first.
    pub fn expire_due(&mut self, most: usize) {
        if self.is_static {
            return;
        }
        let (first, mut left) = (self.next_expired, most);
        for number in (first..DATABASES).chain(0..first) {
            left -= self.database(number).expire_due(left);
        }
        self.next_expired = (first + 1) % DATABASES;
    }

    /// How many changes the disk has to learn of.
    pub fn change_count(&self) -> usize {
        self.databases.iter().map(|it| it.change_count).sum()
    }

    /// How many bytes the disk gets for what has changed since the last call. It is for the caller that has changed it.
    pub fn take_written(&mut self) -> usize {
        let written = self.databases.iter_mut();
        written.map(|it| std::mem::take(&mut it.written)).sum()
    }

    /// Whether the databases note which keys have changed.
    pub fn note_touched(&mut self, is_noted: bool) {
        for database in &mut self.databases {
            match (&database.touched, is_noted) {
                (Some(_), true) => {}
                _ => database.touched = is_noted.then(Touched::default),
            }
        }
    }

    /// Takes the keys of all databases that have changed since the last call.
    pub fn take_touched(&mut self) -> Touched {
        let mut all = Touched::default();
        for touched in self
            .databases
            .iter_mut()
            .filter_map(|it| it.touched.as_mut())
        {
            if !touched.is_empty() {
                all.append(std::mem::take(touched));
            }
        }
        all
    }

    /// Takes one of the awaited keys that have received elements.
    pub fn take_ready(&mut self) -> Option<(usize, Text)> {
        let mut databases = self.databases.iter_mut().enumerate();
        databases.find_map(|(number, database)| Some((number, database.take_ready()?)))
    }

    /// When the next key expires.
    pub fn next_expiry(&self) -> Option<i64> {
        if self.is_static {
            return None;
        }
        self.databases
            .iter()
            .filter_map(Database::next_expiry)
            .min()
    }

    /// Puts the databases into this order: that of their numbers on disk. Returns false if it is not one.
    pub fn arrange(&mut self, order: &[u8]) -> bool {
        let place = |it: &Database| order.iter().position(|number| *number == it.number_on_disk);
        let is_complete = self.databases.iter().all(|it| place(it).is_some());
        self.databases.sort_by_key(place);
        is_complete && order.len() == DATABASES
    }

    /// Exchanges the keys of two databases. Watches and waits stay with the number of the database.
    pub fn swap(&mut self, a: usize, b: usize) {
        if a != b {
            let (low, high) = (a.min(b), a.max(b));
            let (before, from) = self.databases.split_at_mut(high);
            before[low].swap_keys(&mut from[0]);
            self.is_swapped = true;
            self.used = u16::MAX;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sorted_set::SortedSet;
    use crate::store::value::Value;

    fn sorted<'a>(keyspace: &'a mut Keyspace, number: usize, key: &[u8]) -> &'a mut SortedSet {
        keyspace.database(number).sorted_or_new(key).unwrap()
    }

    #[test]
    fn keys_of_all_databases_expire_a_part_at_a_time() {
        let mut keyspace = Keyspace::default();
        for number in 0..DATABASES {
            let keys = if number == 0 { 1_000 } else { 10 };
            for key in 0..keys {
                let key = format!("{key}").into_bytes();
                keyspace.database(number).set(&key, Value::Int(1), 5);
            }
        }
        keyspace.set_time(5);
        let mut left = 1_000 + 10 * (DATABASES - 1);
        for _ in 0..DATABASES {
            keyspace.expire_due(20);
            left -= 20;
            assert_eq!(keyspace.databases().map(|it| it.len()).sum::<usize>(), left);
        }
        let mut others = keyspace.databases().skip(1);
        assert!(others.all(|it| it.len() == 0), "each had its turn");
    }

    #[test]
    fn changed_keys_are_noted_while_that_is_wanted() {
        let mut keyspace = Keyspace::default();
        keyspace.database(0).set(b"a", Value::Int(1), 0);
        assert!(keyspace.take_touched().is_empty());
        keyspace.note_touched(true);
        keyspace.database(0).set(b"a", Value::Int(2), 5);
        keyspace.database(0).set(b"a", Value::Int(3), 0);
        keyspace.database(3).delete(b"none");
        keyspace.database(3).set(b"b", Value::Int(1), 0);
        keyspace.swap(0, 1);
        let touched = keyspace.take_touched();
        assert_eq!(touched.keys, [b"a"[..].into(), b"b"[..].into()]);
        assert!(!touched.all && keyspace.take_touched().is_empty());
        keyspace.database(3).clear();
        assert!(keyspace.take_touched().all);
        keyspace.database(1).delete(b"a");
        keyspace.note_touched(false);
        assert!(keyspace.take_touched().is_empty());
    }

    /// Members that come and go without end, in one of them.
    #[test]
    fn all_sorted_sets_get_rid_of_their_stale_entries() {
        let mut keyspace = Keyspace::default();
        let places = [(0, &b"a"[..]), (0, b"b"), (0, b"c"), (1, b"a"), (3, b"x")];
        for (number, key) in places {
            let set = sorted(&mut keyspace, number, key);
            for member in 0..5_000 {
                set.insert(&format!("{member}").into_bytes()[..], 0.0);
            }
            set.take(0..4_000);
            keyspace.database(number).note_stale(key);
        }
        let mut turns = 0;
        loop {
            let busy = sorted(&mut keyspace, 0, b"b");
            for member in 0..10 {
                busy.insert(&format!("new {member}").into_bytes()[..], -1.0);
            }
            busy.take(0..10);
            keyspace.database(0).note_stale(b"b");
            assert!(keyspace.remove_stale());
            let is_stale = |(number, key): &(usize, &[u8])| {
                let value = keyspace.database(*number).find(key);
                matches!(value, Some(Value::Sorted(set)) if set.has_stale())
            };
            if !places.iter().filter(|it| it.1 != b"b").any(is_stale) {
                break;
            }
            turns += 1;
            assert!(turns < 1_000);
        }
        while keyspace.remove_stale() {}
        assert!(!sorted(&mut keyspace, 0, b"b").has_stale());
    }
}

//! Who has to learn of a change: clients that watch or track the key, those that wait for elements, and the disk.

use std::ops::Range;

use super::Database;
use crate::store::change::{Change, Elements, PART, element_name};
use crate::store::dropper::Snapshot;
use crate::store::ranked::Ranked;
use crate::store::sorted_set::SortedSet;
use crate::store::text::Text;
use crate::store::value::Value;
use crate::store::watch::{Family, Watch};

/// How many keys whose time is over are compared with families.
const MOST_DUE: usize = 1000;

/// How many families of keys are watched as such. SORT may have 65.
const MOST_FAMILIES: usize = 256;

impl Database {
    /// The value of the key has changed. The disk gets all of it.
    #[inline]
    pub fn touch(&mut self, key: &[u8]) {
        let is_first = self.touch_whole(key);
        if is_first && let Some(entry) = self.table.find(key) {
            self.written += entry.value.size();
        }
    }

    /// [`touch`](Database::touch) for a value whose bytes the caller counts. Returns whether the disk did not have to learn
    /// of all of it before.
    #[inline]
    pub(super) fn touch_whole(&mut self, key: &[u8]) -> bool {
        if self.is_observed() {
            self.notify(key);
        }
        let Some(changes) = &mut self.changes else {
            return false;
        };
        self.change_count += 1;
        changes.insert(key.into(), Change::Whole) != Some(Change::Whole)
    }

    /// One element of the collection has changed.
    pub fn touch_element(&mut self, key: &[u8], element: impl FnOnce() -> Text) {
        self.touch_elements(key, std::iter::once_with(element));
    }

    /// These elements of the collection have changed. The key is looked up once: it may be long, and they may be many.
    pub fn touch_elements(&mut self, key: &[u8], names: impl ExactSizeIterator<Item = Text>) {
        let Some(last) = names.len().checked_sub(1) else {
            return;
        };
        if self.changes.is_some() {
            self.change_count += last;
        }
        self.touch_part(key, |elements, value| {
            let mut written = 0;
            let names = names.inspect(|name| {
                written += name.as_bytes().len();
                written += value.map_or(0, |it| it.size_of(name.as_bytes()));
            });
            match elements {
                Some(elements) => elements.changed.extend(names),
                None => names.for_each(drop),
            }
            written
        });
    }

    /// The elements with these numbers were removed from a list.
    pub fn touch_removed(&mut self, key: &[u8], numbers: Range<i64>) {
        self.touch_part(key, |elements, _| {
            elements
                .into_iter()
                .for_each(|it| it.removed.push(numbers.clone()));
            0
        });
    }

    /// These members were removed from a sorted set. The disk gets their names, or what is left of the set if that is less.
    pub fn touch_taken(&mut self, key: &[u8], taken: &Ranked) {
        let value = self.table.find(key).map(|it| &it.value);
        if value.is_none_or(|it| it.len() < taken.len()) {
            return self.touch(key);
        }
        self.touch_part(key, |elements, _| {
            let Some(elements) = elements else {
                return 0;
            };
            elements.taken.push(Snapshot(taken.clone()));
            Value::Sorted(SortedSet::of(taken.clone()).into()).size()
        });
    }

    /// The expiry of the key has changed.
    pub fn touch_main(&mut self, key: &[u8]) {
        self.touch_part(key, |elements, _| {
            elements.into_iter().for_each(|it| it.is_key_changed = true);
            0
        });
    }

    /// These bytes of a string have changed, and perhaps its length, which only grows.
    pub fn touch_part_of_string(&mut self, key: &[u8], bytes: Range<usize>) {
        self.touch_part(key, |elements, value| {
            let Some(elements) = elements else {
                return bytes.len();
            };
            elements.is_key_changed = true;
            let len = value.map_or(0, Value::size);
            let mut written = 0;
            for part in bytes.start / PART..bytes.end.div_ceil(PART) {
                // However little of it has changed, the disk gets all of the part, once.
                if elements
                    .changed
                    .insert(element_name(part as i64)[..].into())
                {
                    written += len.saturating_sub(part * PART).min(PART);
                }
            }
            written.max(bytes.len())
        });
    }

    /// The key has another name. What has changed of its value is still to be stored.
    pub(super) fn touch_renamed(&mut self, key: &[u8], name: &[u8]) {
        let change = self.changes.as_mut().and_then(|it| it.remove(key));
        self.touch_whole(key);
        self.touch_whole(name);
        if let Some(changes) = &mut self.changes {
            let mut change = change.unwrap_or(Change::Elements(Elements::default()));
            if let Change::Elements(elements) = &mut change {
                elements.is_key_changed = true;
            }
            changes.insert(name.into(), change);
        }
    }

    /// The rows with this number are not needed any more.
    pub(super) fn add_dead(&mut self, id: u64) {
        if id != 0 {
            self.dead.push(id..id + 1);
        }
    }

    /// The entry of a key whose value is to be stored as a whole. It has another number from now on, if it has rows of
    /// its own, so that nothing of the old value has to be removed before.
    pub fn renumber(&mut self, key: &[u8]) {
        let Some(entry) = self.table.find_mut(key) else {
            return;
        };
        let has_rows = !entry.value.is_string() || entry.value.is_large_string();
        self.last_id += u64::from(has_rows);
        let id = if has_rows { self.last_id } else { 0 };
        let old = std::mem::replace(&mut entry.id, id);
        self.add_dead(old);
    }

    /// `note` gets what was noted of the elements so far, unless all of the value is to be stored, and the value. It
    /// returns how many bytes the disk gets.
    fn touch_part(
        &mut self,
        key: &[u8],
        note: impl FnOnce(Option<&mut Elements>, Option<&Value>) -> usize,
    ) {
        if self.is_observed() {
            self.notify(key);
        }
        if let Some(changes) = &mut self.changes {
            self.change_count += 1;
            let change = changes.entry(key.into());
            let change = change.or_insert_with(|| Change::Elements(Elements::default()));
            let elements = match change {
                Change::Elements(elements) => Some(elements),
                Change::Whole => None,
            };
            let value = self.table.find(key).map(|it| &it.value);
            self.written += note(elements, value);
        }
    }

    /// Whether a client watches or tracks keys.
    #[inline]
    fn is_observed(&self) -> bool {
        !self.watched.is_empty() || !self.watched_families.is_empty() || self.touched.is_some()
    }

    #[cold]
    fn notify(&mut self, key: &[u8]) {
        if let Some(touched) = &mut self.touched {
            touched.add(key);
        }
        for watch in self.watched.remove(key).into_iter().flatten() {
            watch.break_it();
        }
        self.watched_families.retain(|(families, watch)| {
            let has_changed = families.iter().any(|it| it.contains(key));
            if has_changed {
                watch.break_it();
            }
            !has_changed
        });
    }

    /// A collection has received elements. Somebody may wait for them.
    #[inline]
    pub fn signal(&mut self, key: &[u8]) {
        if !self.awaited.is_empty()
            && let Some(awaited) = self.awaited.get_mut(key)
            && !std::mem::replace(&mut awaited.is_ready, true)
        {
            self.ready.push_back(key.into());
        }
    }

    /// Takes the first of the awaited keys that have received elements.
    pub fn take_ready(&mut self) -> Option<Text> {
        let key = self.ready.pop_front()?;
        if let Some(awaited) = self.awaited.get_mut(key.as_bytes()) {
            awaited.is_ready = false;
        }
        Some(key)
    }

    /// How many keys are watched.
    pub fn watched(&self) -> usize {
        self.watched.len()
    }

    /// Watches a key. A change of it breaks the watch.
    pub fn watch(&mut self, key: &[u8], watch: &Watch) {
        // Also during a pause, which keeps other keys: a watch of a key that is over already would look broken.
        let is_static = std::mem::take(&mut self.is_static);
        self.expire(key);
        self.is_static = is_static;
        match self.watched.get_mut(key) {
            Some(watches) => watches.push(watch.clone()),
            // Most keys are watched once.
            None => drop(self.watched.insert(key.into(), vec![watch.clone()])),
        }
    }

    /// Ends the watch of a key. If it is broken, it may have ended already.
    pub fn unwatch(&mut self, key: &[u8], watch: &Watch) {
        let Some(watches) = self.watched.get_mut(key) else {
            return;
        };
        if let Some(at) = watches.iter().position(|it| it == watch) {
            watches.swap_remove(at);
        }
        if watches.is_empty() {
            self.watched.remove(key);
        }
    }

    /// Whether a key of this watch has changed. A key whose time is over has changed, too, although it is still there.
    pub fn is_broken(&self, watch: &Watch) -> bool {
        if watch.is_broken() || self.watched.is_empty() {
            return watch.is_broken();
        }
        self.due().any(|key| {
            let watches = self.watched.get(key);
            watches.is_some_and(|watches| watches.contains(watch))
        })
    }

    /// The keys that are there although their time is over.
    fn due(&self) -> impl Iterator<Item = &Text> {
        let expiries = self.expiries.iter();
        let due = expiries.take_while(|(when, _)| *when <= self.now);
        due.map(|(_, key)| key)
    }

    /// Whether the time of fewer keys than these is over. [`is_broken`](Database::is_broken) looks at each of them.
    pub fn has_fewer_due(&self, number: usize) -> bool {
        self.due().take(number).count() < number
    }

    /// Whether the key is there although its time is over.
    pub fn is_due(&self, key: &[u8]) -> bool {
        let is_due = |when| when != 0 && when <= self.now;
        self.next_expiry().is_some_and(is_due)
            && self.table.find(key).is_some_and(|it| is_due(it.expires))
    }

    /// Whether a key of these families is there although its time is over, or so many other keys that it may be.
    pub fn may_be_due(&self, families: &[Family]) -> bool {
        let mut due = self.due();
        let mut some = due.by_ref().take(MOST_DUE);
        some.any(|key| families.iter().any(|it| it.contains(key.as_bytes())))
            || due.next().is_some()
    }

    /// Watches families of keys. A change of one of these keys breaks the watch. Each change of any key is compared with all
    /// families: if they are many, the watch is of all keys.
    pub fn watch_families(&mut self, families: &[Family], watch: &Watch) {
        if families.is_empty() {
            return;
        }
        let watched = self.watched_families.iter();
        let number = watched.map(|(it, _)| it.len()).sum::<usize>() + families.len();
        let families = if number <= MOST_FAMILIES {
            families.to_vec()
        } else {
            vec![Family::default()]
        };
        self.watched_families.push((families, watch.clone()));
    }

    /// Ends the watch of families. If it is broken, it has ended already.
    pub fn unwatch_families(&mut self, watch: &Watch) {
        self.watched_families.retain(|(_, it)| it != watch);
    }

    /// All keys have changed: those that are watched, and those that somebody waits for.
    pub(super) fn notify_all(&mut self) {
        self.watched.retain(|key, watches| {
            let has_changed = self.table.contains(key.as_bytes());
            if has_changed {
                watches.iter().for_each(Watch::break_it);
            }
            !has_changed
        });
        for (_, watch) in self.watched_families.drain(..) {
            watch.break_it();
        }
        for (key, awaited) in &mut self.awaited {
            let has_changed = self.table.contains(key.as_bytes());
            if has_changed && !std::mem::replace(&mut awaited.is_ready, true) {
                self.ready.push_back(key.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{MOST_DUE, MOST_FAMILIES};
    use crate::store::change::Change;
    use crate::store::database::tests::database;
    use crate::store::database::{Awaited, WrongType};
    use crate::store::text::Text;
    use crate::store::value::Value;
    use crate::store::watch::{Family, Watch};

    #[test]
    fn a_change_of_a_watched_key_breaks_all_its_watches() {
        let mut database = database();
        let [first, second, late, other] = [(); 4].map(|()| Watch::default());
        database.watch(b"a", &first);
        database.watch(b"a", &second);
        database.watch(b"b", &other);
        database.set(b"c", Value::Int(1), 0);
        assert!(!database.is_broken(&first));
        database.unwatch(b"a", &second);
        database.set(b"a", Value::Int(1), 1_500);
        database.watch(b"a", &late);
        assert!(database.is_broken(&first));
        database.unwatch(b"a", &first);
        assert!(!database.is_broken(&second) && !database.is_broken(&late));
        database.now = 1_500;
        assert!(database.is_broken(&late), "it has expired");
        assert!(!database.is_broken(&other));
        database.unwatch(b"a", &late);
        database.unwatch(b"b", &other);
        assert!(database.watched.is_empty());
    }

    #[test]
    fn a_change_of_a_key_breaks_the_watches_of_its_families() {
        let mut database = database();
        let family = |start: &str, end: &str| Family {
            start: start.into(),
            end: end.into(),
        };
        let families = [family("w:", ""), family("a", ":x")];
        for (key, breaks) in [
            ("w", false),
            ("w:", true),
            ("w:1", true),
            ("v:w:1", false),
            ("a:x", true),
            ("a1:x", true),
            ("a1:x1", false),
            ("a", false),
        ] {
            let watch = Watch::default();
            database.watch_families(&families, &watch);
            database.set(key.as_bytes(), Value::Int(1), 0);
            assert_eq!(database.is_broken(&watch), breaks, "{key}");
            database.unwatch_families(&watch);
            assert!(database.watched_families.is_empty());
        }
        // The beginning and the end do not overlap.
        assert!(!family("ab", "ba").contains(b"aba"));
        // A key whose time is over has changed.
        database.set(b"w:", Value::Int(1), 1_500);
        database.set(b"v", Value::Int(1), 1_500);
        assert!(!database.may_be_due(&families));
        database.now = 1_500;
        assert!(database.may_be_due(&families));
        database.delete(b"w:");
        assert!(!database.may_be_due(&families));
        for number in 0..MOST_DUE {
            database.set(&number.to_le_bytes(), Value::Int(1), 1_500);
        }
        assert!(database.may_be_due(&families));
        // Very many are a watch of all keys.
        let watches: Vec<_> = (0..MOST_FAMILIES).map(|_| Watch::default()).collect();
        for watch in &watches {
            database.watch_families(&families, watch);
        }
        database.set(b"other", Value::Int(1), 0);
        let broken = watches.iter().filter(|it| it.is_broken()).count();
        assert_eq!(broken, MOST_FAMILIES / 2);
        database.clear();
        assert!(watches.iter().all(Watch::is_broken) && database.watched_families.is_empty());
    }

    #[test]
    fn keys_whose_time_is_over_are_counted_no_further_than_asked() {
        let mut database = database();
        for (number, expires) in [(1_u8, 1_500), (2, 1_500), (3, 2_000), (4, 0)] {
            database.set(&[number], Value::Int(1), expires);
        }
        assert!(database.has_fewer_due(1) && !database.is_due(&[1]));
        database.now = 1_500;
        assert!(!database.has_fewer_due(1) && !database.has_fewer_due(2));
        assert!(database.has_fewer_due(3) && database.has_fewer_due(usize::MAX));
        let due = [1, 2, 3, 4, 5].map(|number: u8| database.is_due(&[number]));
        assert_eq!(due, [true, true, false, false, false]);
    }

    #[test]
    fn a_change_of_all_keys_breaks_the_watches_of_those_that_are_there() {
        let mut database = database();
        database.set(b"a", Value::Int(1), 0);
        let [present, missing] = [(); 2].map(|()| Watch::default());
        database.watch(b"a", &present);
        database.watch(b"b", &missing);
        for key in [b"a", b"b"] {
            database.awaited.insert(key[..].into(), Awaited::default());
        }
        database.clear();
        assert!(database.is_broken(&present) && !database.is_broken(&missing));
        assert_eq!(database.watched.len(), 1);
        assert_eq!(database.take_ready(), Some(b"a"[..].into()));
        assert_eq!(database.take_ready(), None);
    }

    #[test]
    fn an_awaited_key_is_ready_once_however_many_elements_it_receives() {
        let mut database = database();
        for key in [b"a", b"b"] {
            database.awaited.insert(key[..].into(), Awaited::default());
        }
        for key in [b"b", b"a", b"b", b"x", b"a"] {
            database.signal(key);
        }
        let mut ready = || database.take_ready();
        assert_eq!(ready(), Some(b"b"[..].into()));
        assert_eq!(ready(), Some(b"a"[..].into()));
        assert_eq!(ready(), None);
        database.signal(b"a");
        assert_eq!(database.take_ready(), Some(b"a"[..].into()));
    }

    #[test]
    fn changes_of_elements_are_kept_apart_from_changes_of_the_whole() {
        let mut database = database();
        let _ = database
            .hash_or_new(b"h")
            .map(|hash| hash.insert(b"f", b"1"[..].into()));
        let changes = database.changes.replace(HashMap::new()).unwrap();
        assert_eq!(changes.get(&b"h"[..]), Some(&Change::Whole));
        database.touch_element(b"h", || b"f"[..].into());
        let changes = database.changes.take().unwrap();
        assert!(
            matches!(changes.get(&b"h"[..]), Some(Change::Elements(set)) if set.changed.len() == 1)
        );
        assert_eq!(database.list(b"h").err(), Some(WrongType));
    }

    #[test]
    fn many_changed_elements_are_noted_at_once() {
        let mut database = database();
        let _ = database.members_or_new(b"s");
        database.changes.replace(HashMap::new());
        let (watch, count) = (Watch::default(), database.change_count);
        database.watch(b"s", &watch);
        let names = [&b"x"[..], b"y", b"z"];
        database.touch_elements(b"s", [].into_iter());
        assert!(!database.is_broken(&watch), "nothing has changed");
        database.touch_elements(b"s", names.iter().map(|name| (*name).into()));
        assert!(database.is_broken(&watch));
        assert_eq!(database.change_count, count + 3);
        let changes = database.changes.take().unwrap();
        let Some(Change::Elements(elements)) = changes.get(&b"s"[..]) else {
            panic!("its elements have changed")
        };
        let mut changed: Vec<_> = elements.changed.iter().map(Text::as_bytes).collect();
        changed.sort_unstable();
        assert_eq!(changed, names);
    }
}

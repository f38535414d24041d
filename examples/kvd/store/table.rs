//! A hash table that grows without a pause, is copied cheaply, and can be scanned while it changes.
//!
//! A string has a *position*: its hash. The table is a row of segments, each of which has the entries of one range
//! of positions. A segment that is full is split in two (extendible hashing), so an insertion never moves more than
//! one segment.
//!
//! A scan goes through the positions in order, and its cursor is the next position. An entry never changes its
//! position. So a scan returns each entry that stays in the table exactly once, whatever is inserted, removed or
//! split meanwhile.
//!
//! A clone shares the segments, and a later change copies the segment that it changes. A long reply is therefore
//! made from a clone, which costs a reference for each few hundred entries.

use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, OnceLock};

use foldhash::quality::RandomState;
use hashbrown::HashTable;

use super::estimate;
use super::text::Text;

/// Something that is found by its key.
pub trait Keyed: Clone {
    fn name(&self) -> &Text;

    #[inline]
    fn key(&self) -> &[u8] {
        self.name().as_bytes()
    }

    /// The position of the key.
    #[inline]
    fn position(&self) -> u64 {
        self.name().hash_with(position)
    }
}

impl Keyed for Text {
    fn name(&self) -> &Text {
        self
    }
}

/// A segment that has so many entries is split. It has 512 slots then.
const FULL: usize = 448;

/// A table with fewer than one entry for so many segments is rebuilt.
const SPARSE: usize = 8;

/// A cursor has so many bits. Clients in JavaScript read it as a number, which is exact to 53 bits.
const CURSOR_BITS: u32 = 48;

/// The position of a key. The seed differs in each process, so that clients cannot choose keys that collide.
#[inline]
fn position(key: &[u8]) -> u64 {
    static SEED: OnceLock<RandomState> = OnceLock::new();
    let mut hasher = SEED.get_or_init(RandomState::default).build_hasher();
    hasher.write(key);
    hasher.finish()
}

/// The hash for the slots of a segment. All entries of a segment have the same first bits in their position.
#[inline]
fn slot(position: u64) -> u64 {
    position.rotate_left(32)
}

#[derive(Clone)]
struct Segment<T> {
    /// How many of the first bits of its entries' positions are equal.
    depth: u32,
    entries: HashTable<T>,
}

/// The table. `T` has the key in it.
#[derive(Clone)]
pub struct Table<T> {
    /// The segment for each value of the first `depth` bits of a position.
    directory: Vec<u32>,
    segments: Vec<Arc<Segment<T>>>,
    depth: u32,
    len: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table {
            directory: Vec::new(),
            segments: Vec::new(),
            depth: 0,
            len: 0,
        }
    }
}

impl<T: Keyed> Table<T> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    fn index(&self, position: u64) -> usize {
        match self.depth {
            0 => 0,
            depth => self.directory[(position >> (64 - depth)) as usize] as usize,
        }
    }

    #[inline]
    pub fn find(&self, key: &[u8]) -> Option<&T> {
        let position = position(key);
        let segment = self.segments.get(self.index(position))?;
        segment
            .entries
            .find(slot(position), |entry| entry.key() == key)
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        self.find(key).is_some()
    }

    #[inline]
    pub fn find_mut(&mut self, key: &[u8]) -> Option<&mut T> {
        self.find_mut_at(position(key), key)
    }

    #[inline]
    fn find_mut_at(&mut self, position: u64, key: &[u8]) -> Option<&mut T> {
        let index = self.index(position);
        let segment = Arc::make_mut(self.segments.get_mut(index)?);
        segment
            .entries
            .find_mut(slot(position), |entry| entry.key() == key)
    }

    /// Inserts an entry. Returns the one with the same key that it has replaced.
    pub fn insert(&mut self, entry: T) -> Option<T> {
        match self.find_mut_at(entry.position(), entry.key()) {
            Some(old) => Some(std::mem::replace(old, entry)),
            None => {
                self.insert_new(entry);
                None
            }
        }
    }

    /// Inserts an entry whose key is not in the table.
    pub fn insert_new(&mut self, entry: T) {
        if self.segments.is_empty() {
            self.segments.push(Arc::new(Segment {
                depth: 0,
                entries: HashTable::new(),
            }));
        }
        let position = entry.position();
        let mut index = self.index(position);
        while self.segments[index].entries.len() >= FULL && self.segments[index].depth < 32 {
            self.split(index, position);
            index = self.index(position);
        }
        let segment = Arc::make_mut(&mut self.segments[index]);
        segment
            .entries
            .insert_unique(slot(position), entry, |entry| slot(entry.position()));
        self.len += 1;
    }

    pub fn remove(&mut self, key: &[u8]) -> Option<T> {
        let position = position(key);
        let index = self.index(position);
        let shared = self.segments.get_mut(index)?;
        // A segment is not copied for a key that it does not have.
        shared
            .entries
            .find(slot(position), |entry| entry.key() == key)?;
        let segment = Arc::make_mut(shared);
        let found = segment
            .entries
            .find_entry(slot(position), |entry| entry.key() == key);
        let (removed, _) = found.ok()?.remove();
        if segment.entries.len() * 8 < segment.entries.capacity() && segment.entries.capacity() > 8
        {
            let room = segment.entries.len() * 2;
            segment
                .entries
                .shrink_to(room, |entry| slot(entry.position()));
        }
        self.len -= 1;
        if self.len < self.segments.len() / SPARSE {
            self.rebuild();
        }
        Some(removed)
    }

    /// Puts the entries into a new table, when few are left of many: to find an arbitrary one among empty segments would take
    /// as long as to go through all of them. This happens once for many removals.
    #[cold]
    fn rebuild(&mut self) {
        let mut new = Table::default();
        self.iter().cloned().for_each(|it| new.insert_new(it));
        *self = new;
    }

    /// Splits the full segment that has this position.
    #[cold]
    fn split(&mut self, index: usize, at: u64) {
        let segment = Arc::make_mut(&mut self.segments[index]);
        let depth = segment.depth + 1;
        let (mut low, mut high) = (
            HashTable::with_capacity(FULL / 2),
            HashTable::with_capacity(FULL / 2),
        );
        for entry in std::mem::take(&mut segment.entries) {
            let position = entry.position();
            let half = match position >> (64 - depth) & 1 {
                0 => &mut low,
                _ => &mut high,
            };
            half.insert_unique(slot(position), entry, |entry| slot(entry.position()));
        }
        *segment = Segment {
            depth,
            entries: low,
        };
        let new = self.segments.len() as u32;
        self.segments.push(Arc::new(Segment {
            depth,
            entries: high,
        }));
        if depth > self.depth {
            self.directory = match self.depth {
                0 => vec![0, 0],
                _ => self
                    .directory
                    .iter()
                    .flat_map(|index| [*index; 2])
                    .collect(),
            };
            self.depth = depth;
        }
        // The second half of the range of the split segment belongs to the new one.
        let width = 1usize << (self.depth - depth);
        let first = ((at >> (64 - depth) | 1) as usize) * width;
        self.directory[first..first + width].fill(new);
    }

    /// The entries in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.segments
            .iter()
            .flat_map(|segment| segment.entries.iter())
    }

    /// The entries of one segment: a few hundred at most. `None` behind the last one.
    pub fn segment(&self, index: usize) -> Option<impl Iterator<Item = &T>> {
        self.segments
            .get(index)
            .map(|segment| segment.entries.iter())
    }

    /// Whether a part of it has to be copied before it is changed.
    #[cfg(test)]
    pub fn is_shared(&self) -> bool {
        let mut segments = self.segments.iter();
        segments.any(|it| Arc::strong_count(it) > 1)
    }

    /// An arbitrary entry. `random` is a random number.
    pub fn random(&self, random: u64) -> Option<&T> {
        let mut at = random;
        for _ in 0..64 {
            let segment = self.segments.get(self.index(at))?;
            if !segment.entries.is_empty() {
                let skipped = (at as u32 as usize) % segment.entries.len();
                return segment.entries.iter().nth(skipped);
            }
            at = at.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
        }
        // Few are left of many.
        let skipped = random.checked_rem(self.len() as u64)?;
        self.iter().nth(skipped as usize)
    }

    /// Calls `visit` with about `count` entries from the cursor on, and with fewer if their keys have more than `bytes`
    /// together. Returns the next cursor, which is 0 at the end.
    pub fn scan<'a>(
        &'a self,
        cursor: u64,
        count: usize,
        mut bytes: usize,
        mut visit: impl FnMut(&'a T),
    ) -> u64 {
        let mut from = cursor & ((1 << CURSOR_BITS) - 1);
        let mut left = count;
        let mut found: Vec<(u64, &T)> = Vec::new();
        let cursor_of = |position: u64| position >> (64 - CURSOR_BITS);
        // Segments that are empty are passed, but not without end: many keys may have been removed.
        for _ in 0..count.saturating_mul(16).max(64) {
            let position = from << (64 - CURSOR_BITS);
            let Some(segment) = self.segments.get(self.index(position)) else {
                return 0;
            };
            found.clear();
            let entries = segment.entries.iter();
            found.extend(
                entries
                    .map(|entry| (cursor_of(entry.position()), entry))
                    .filter(|(at, _)| *at >= from),
            );
            found.sort_unstable_by_key(|(at, _)| *at);
            let mut last = None;
            for (at, entry) in &found {
                // Entries with equal cursors are not divided.
                if left == 0 && last != Some(*at) {
                    return *at;
                }
                visit(entry);
                bytes = bytes.saturating_sub(entry.key().len());
                left = match bytes {
                    0 => 0,
                    _ => left.saturating_sub(1),
                };
                last = Some(*at);
            }
            let end = match segment.depth {
                0 => return 0,
                depth => ((from >> (CURSOR_BITS - depth)) + 1) << (CURSOR_BITS - depth),
            };
            if end >> CURSOR_BITS != 0 {
                return 0;
            }
            from = end;
            if left == 0 {
                return from;
            }
        }
        from
    }

    /// Removes the entries of one segment that are not wanted any more. Returns how many. `None` behind the last segment.
    pub fn retain_in_segment(
        &mut self,
        index: usize,
        mut is_wanted: impl FnMut(&T) -> bool,
    ) -> Option<usize> {
        let segment = Arc::make_mut(self.segments.get_mut(index)?);
        let before = segment.entries.len();
        segment.entries.retain(|entry| is_wanted(entry));
        let left = segment.entries.len();
        if left * 8 < segment.entries.capacity() {
            segment
                .entries
                .shrink_to(left * 2, |entry| slot(entry.position()));
        }
        self.len -= before - left;
        Some(before - left)
    }

    /// How many bytes the table has allocated for itself.
    pub fn heap(&self) -> usize {
        let slots = self.segments.iter().map(|it| it.entries.allocation_size());
        estimate::sum_of_all(slots)
            + self.segments.len() * (size_of::<Segment<T>>() + 16)
            + self.directory.len() * 4
    }
}

/// How many bytes a table allocates for an entry, about: of 8 slots, 7 are used at most.
pub const fn size_of_entry<T>() -> usize {
    (size_of::<T>() + 1) * 8 / 7
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;

    fn text(number: usize) -> Text {
        Text::from(format!("key:{number}").into_bytes())
    }

    #[test]
    fn entries_are_found_after_many_splits_and_removals() {
        let mut table = Table::default();
        for number in 0..20_000 {
            assert!(table.insert(text(number)).is_none());
        }
        assert!(table.insert(text(7)).is_some());
        for number in (0..20_000).step_by(2) {
            assert!(table.remove(text(number).as_bytes()).is_some());
        }
        assert_eq!(table.len(), 10_000);
        assert_eq!(table.iter().count(), 10_000);
        for number in 0..20_000 {
            assert_eq!(table.contains(text(number).as_bytes()), number % 2 == 1);
        }
        assert!(table.random(12345).is_some());
    }

    #[test]
    fn each_of_the_few_entries_that_are_left_of_many_is_drawn() {
        let mut table = Table::default();
        (0..50_000).for_each(|number| table.insert_new(text(number)));
        (10..50_000).for_each(|number| drop(table.remove(text(number).as_bytes())));
        assert!(table.segments.len() <= 80);
        let mut drawn: HashMap<&[u8], usize> = HashMap::new();
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..2_000 {
            let entry = table.random(random.u64(..)).map(Text::as_bytes);
            *drawn.entry(entry.unwrap_or_default()).or_default() += 1;
        }
        assert_eq!(drawn.len(), 10);
        let numbers = drawn.values().copied();
        assert!(numbers.max() < Some(500), "{drawn:?}");
    }

    #[test]
    fn a_scan_returns_each_entry_that_stays_exactly_once_while_others_come_and_go() {
        let mut table = Table::default();
        (0..5_000).for_each(|number| table.insert_new(text(number)));
        let mut seen: HashMap<Vec<u8>, usize> = HashMap::new();
        let (mut cursor, mut next) = (0, 5_000);
        loop {
            cursor = table.scan(cursor, 10, usize::MAX, |entry| {
                *seen.entry(entry.as_bytes().to_vec()).or_default() += 1;
            });
            if cursor == 0 {
                break;
            }
            // The table doubles meanwhile, and loses those above 4,000.
            for _ in 0..10 {
                table.insert_new(text(next));
                table.remove(text(4_000 + next % 1_000).as_bytes());
                next += 1;
            }
        }
        for number in 0..4_000 {
            assert_eq!(seen.get(text(number).as_bytes()), Some(&1), "{number}");
        }
    }

    /// A segment may have hundreds of long keys.
    #[test]
    fn the_position_of_a_long_key_is_computed_once() {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let hash = |bytes: &[u8]| {
            COUNT.fetch_add(bytes.len(), Relaxed);
            7
        };
        let key = Text::from(vec![b'x'; 200_000]);
        let other = key.clone();
        assert_eq!((key.hash_with(hash), other.hash_with(hash)), (7, 7));
        assert_eq!(COUNT.load(Relaxed), 200_000);
    }

    #[test]
    fn a_scan_of_long_keys_visits_fewer() {
        let mut table = Table::default();
        for number in 0..300 {
            let key = format!("{number}:{}", "x".repeat(10_000));
            table.insert_new(Text::from(key.into_bytes()));
        }
        let (mut cursor, mut visited, mut calls) = (0, 0, 0);
        while calls == 0 || cursor != 0 {
            let before = visited;
            cursor = table.scan(cursor, 1_000, 100_000, |_| visited += 1);
            assert!((1..=10).contains(&(visited - before)));
            calls += 1;
        }
        assert_eq!((visited, calls), (300, 30));
    }

    #[test]
    fn entries_that_are_not_wanted_are_removed_a_segment_at_a_time() {
        let mut table = Table::default();
        (0..5_000).for_each(|number| table.insert_new(text(number)));
        let is_wanted = |it: &Text| it.as_bytes().ends_with(b"7");
        let mut removed = 0;
        for index in 0.. {
            let Some(number) = table.retain_in_segment(index, is_wanted) else {
                break;
            };
            assert!(number <= FULL);
            removed += number;
        }
        assert_eq!(
            (removed, table.len(), table.iter().count()),
            (4_500, 500, 500)
        );
        assert!(table.contains(text(7).as_bytes()) && !table.contains(text(8).as_bytes()));
    }

    #[test]
    fn a_clone_does_not_see_later_changes() {
        let mut table = Table::default();
        (0..1_000).for_each(|number| table.insert_new(text(number)));
        assert!(!table.is_shared());
        let snapshot = table.clone();
        assert!(table.is_shared());
        (0..1_000).for_each(|number| drop(table.remove(text(number).as_bytes())));
        assert_eq!((table.len(), snapshot.iter().count()), (0, 1_000));
        assert_eq!(table.scan(0, 10, usize::MAX, |_| {}), 0);
    }
}

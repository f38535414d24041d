//! A sorted set: the members in the order of their scores, and the score of each member. A small one has only the first,
//! where a member is searched one by one.

use std::ops::Range;

use super::comparison::{PART, cost_of_equality};
use super::dropper;
use super::ranked::{Ranked, Scored};
use super::table::{Keyed, Table};
use super::text::Text;

/// `zset-max-listpack-entries` and `zset-max-listpack-value` of Redis.
const SMALL: usize = 128;
const SHORT: usize = 64;

impl Keyed for Scored {
    fn name(&self) -> &Text {
        &self.member
    }
}

#[derive(Clone, Default)]
pub struct SortedSet {
    pub ranked: Ranked,
    /// `None` while the set is small.
    scores: Option<Box<Scores>>,
}

/// Many members are removed from `ranked` at once. Their entries here are stale until they are removed, a part at a time:
/// nobody waits for that. New members remove some, too, so that stale entries do not become many more than members, however
/// often many are removed.
#[derive(Clone, Default)]
struct Scores {
    table: Table<Scored>,
    /// How many entries are stale.
    stale: usize,
    /// The segment whose stale entries are removed next. All others have their turn before it has another one.
    next_segment: usize,
    /// How many of its entries were found not to be stale, if it has not had its turn yet: those of long members take some.
    /// They may get another order meanwhile. An entry that is left out so is removed the next time.
    checked: usize,
    /// How many members were inserted since some entries were checked. Long ones count more: of these a part has fewer.
    inserted: usize,
}

/// After so many new members the stale entries of a segment are removed. A segment has 448 entries at most.
const INSERTED: usize = 128;

impl SortedSet {
    /// These members, in their order only: to find one takes time.
    pub fn of(ranked: Ranked) -> SortedSet {
        SortedSet {
            ranked,
            scores: None,
        }
    }

    pub fn len(&self) -> usize {
        self.ranked.len()
    }

    pub fn is_small(&self) -> bool {
        self.scores.is_none()
    }

    pub fn score(&self, member: &[u8]) -> Option<f64> {
        let entry = match &self.scores {
            Some(scores) => scores.find(member, &self.ranked),
            None => self.ranked.from(0).find(|it| it.key() == member),
        };
        entry.map(|it| it.score)
    }

    /// Sets the score of a member. Returns whether the member is new.
    pub fn insert(&mut self, member: impl AsRef<[u8]> + Into<Text>, score: f64) -> bool {
        let old = self.score(member.as_ref());
        match old {
            Some(old) if old == score => {}
            Some(old) => {
                if let Some(entry) = self.ranked.remove(old, member.as_ref()) {
                    self.ranked.insert(Scored { score, ..entry });
                }
                let scores = self.scores.as_mut();
                if let Some(it) = scores.and_then(|it| it.table.find_mut(member.as_ref())) {
                    it.score = score;
                }
            }
            None => self.insert_new(Scored {
                score,
                member: member.into(),
            }),
        }
        old.is_none()
    }

    fn insert_new(&mut self, entry: Scored) {
        let is_long = entry.key().len() > SHORT;
        self.ranked.insert(entry.clone());
        if let Some(scores) = &mut self.scores {
            scores.insert(entry, &self.ranked);
        }
        if self.is_small() && (is_long || self.len() > SMALL) {
            let mut scores = Scores::default();
            let entries = self.ranked.from(0).cloned();
            entries.for_each(|it| scores.table.insert_new(it));
            self.scores = Some(scores.into());
        }
    }

    pub fn remove(&mut self, member: &[u8]) -> bool {
        let score = match &mut self.scores {
            Some(scores) => scores.table.remove(member).map(|it| it.score),
            None => self.score(member),
        };
        let Some(score) = score else {
            return false;
        };
        let is_there = self.ranked.remove(score, member).is_some();
        if !is_there && let Some(scores) = &mut self.scores {
            scores.stale -= 1;
        }
        is_there
    }

    /// Removes the members with these ranks, and returns them. They leave stale entries behind, unless they are all.
    pub fn take(&mut self, ranks: Range<usize>) -> Ranked {
        let taken = self.ranked.take(ranks);
        if self.ranked.len() == 0 {
            if let Some(scores) = self.scores.take() {
                dropper::drop_later(scores.table);
            }
        } else if let Some(scores) = &mut self.scores {
            scores.stale += taken.len();
        }
        taken
    }

    pub fn has_stale(&self) -> bool {
        self.scores.as_ref().is_some_and(|it| it.stale > 0)
    }

    /// Removes some hundred stale entries. Returns whether there are more.
    pub fn remove_stale(&mut self) -> bool {
        let scores = self.scores.as_mut();
        scores.is_some_and(|it| it.remove_stale(&self.ranked))
    }

    /// [`Table::scan`] of the members. All of a small set are visited.
    pub fn scan<'a>(
        &'a self,
        cursor: u64,
        (count, bytes): (usize, usize),
        mut visit: impl FnMut(&'a Scored),
    ) -> u64 {
        let Some(scores) = &self.scores else {
            self.ranked.from(0).for_each(visit);
            return 0;
        };
        scores.table.scan(cursor, count, bytes, |it| {
            if scores.is_there(it, &self.ranked) {
                visit(it);
            }
        })
    }

    /// The bytes of memory for the members in order and for the table of scores.
    pub fn heap(&self) -> usize {
        let scores = self.scores.as_ref();
        self.ranked.heap() + scores.map_or(0, |it| size_of::<Scores>() + it.table.heap())
    }

    /// Whether its destructor takes long.
    pub fn is_large(&self, many: usize) -> bool {
        let scores = self.scores.as_ref();
        scores.map_or(self.len(), |it| it.table.len()) > many
    }

    /// The members, and what is left of those that were removed. A member may come twice.
    pub fn texts(&self) -> impl Iterator<Item = &Text> {
        let table = self.scores.iter().flat_map(|it| it.table.iter());
        let members = self.ranked.from(0).map(|it| &it.member);
        members.chain(table.map(Keyed::name))
    }

    pub fn rank(&self, member: &[u8]) -> Option<usize> {
        let score = self.score(member)?;
        Some(self.ranked.rank_of(score, member))
    }
}

impl Scores {
    /// Whether an entry of the table is not stale.
    #[inline]
    fn is_there(&self, entry: &Scored, ranked: &Ranked) -> bool {
        self.stale == 0 || ranked.contains(entry)
    }

    fn find(&self, member: &[u8], ranked: &Ranked) -> Option<&Scored> {
        let entry = self.table.find(member);
        entry.filter(|it| self.is_there(it, ranked))
    }

    /// Inserts a member that is in `ranked`, and had no entry or a stale one.
    fn insert(&mut self, entry: Scored, ranked: &Ranked) {
        if self.stale == 0 {
            return self.table.insert_new(entry);
        }
        // At least four entries of its length are checked for each that comes.
        self.inserted += 1 + entry.key().len() * 4 * INSERTED / PART;
        self.stale -= usize::from(self.table.insert(entry).is_some());
        if self.inserted >= INSERTED {
            self.inserted = 0;
            self.remove_stale(ranked);
        }
    }

    fn remove_stale(&mut self, ranked: &Ranked) -> bool {
        if self.stale > 0 {
            let checked = self.checked;
            let (mut kept, mut cost, mut is_complete) = (0, 0, true);
            // To find an entry, its bytes are compared with those of others.
            let mut is_wanted = |it: &Scored| {
                if kept >= checked {
                    if cost >= PART {
                        is_complete = false;
                        return true;
                    }
                    cost += cost_of_equality(it.key(), it.key());
                    if !ranked.contains(it) {
                        return false;
                    }
                }
                kept += 1;
                true
            };
            let removed = match self
                .table
                .retain_in_segment(self.next_segment, &mut is_wanted)
            {
                None => {
                    self.next_segment = 0;
                    self.table.retain_in_segment(0, is_wanted)
                }
                removed => removed,
            };
            self.stale -= removed.unwrap_or_default();
            self.checked = if is_complete { 0 } else { kept };
            self.next_segment += usize::from(is_complete);
        }
        self.stale > 0
    }
}

/// A bound of a range of scores or of members.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound<T> {
    /// Below or above everything.
    Lowest,
    Highest,
    Inclusive(T),
    Exclusive(T),
}

impl SortedSet {
    /// The ranks of the members with scores in this range. The end is exclusive.
    pub fn by_score(&self, min: Bound<f64>, max: Bound<f64>) -> Range<usize> {
        let start = match min {
            Bound::Inclusive(min) => self.ranked.rank(|it| it.score < min),
            Bound::Exclusive(min) => self.ranked.rank(|it| it.score <= min),
            Bound::Lowest => 0,
            Bound::Highest => self.len(),
        };
        let end = match max {
            Bound::Inclusive(max) => self.ranked.rank(|it| it.score <= max),
            Bound::Exclusive(max) => self.ranked.rank(|it| it.score < max),
            Bound::Lowest => 0,
            Bound::Highest => self.len(),
        };
        start..end.max(start)
    }

    /// The ranks of the members in this range of bytes, if all scores are equal. The end is exclusive.
    pub fn by_lex(&self, min: Bound<&[u8]>, max: Bound<&[u8]>) -> Range<usize> {
        let start = match min {
            Bound::Inclusive(min) => self.ranked.rank(|it| it.member.as_bytes() < min),
            Bound::Exclusive(min) => self.ranked.rank(|it| it.member.as_bytes() <= min),
            Bound::Lowest => 0,
            Bound::Highest => self.len(),
        };
        let end = match max {
            Bound::Inclusive(max) => self.ranked.rank(|it| it.member.as_bytes() <= max),
            Bound::Exclusive(max) => self.ranked.rank(|it| it.member.as_bytes() < max),
            Bound::Lowest => 0,
            Bound::Highest => self.len(),
        };
        start..end.max(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_move_when_their_score_changes() {
        let mut set = SortedSet::default();
        assert!(set.insert(b"a", 1.0) && set.insert(b"b", 2.0) && !set.insert(b"a", 3.0));
        assert_eq!(set.rank(b"a"), Some(1));
        assert_eq!(set.by_score(Bound::Exclusive(2.0), Bound::Highest), 1..2);
        assert_eq!(
            set.by_score(Bound::Inclusive(9.0), Bound::Inclusive(1.0)),
            2..2
        );
        assert!(set.remove(b"b") && !set.remove(b"b"));
        assert_eq!((set.len(), set.score(b"a")), (1, Some(3.0)));
    }

    #[test]
    fn a_set_is_the_same_before_and_after_it_is_large() {
        let long = [b'm'; SHORT + 1];
        let name = |number: usize| format!("{number}").into_bytes();
        for (count, more, is_small) in [
            (SMALL, None, true),
            (SMALL + 1, None, false),
            (1, Some(&long[..]), false),
        ] {
            let mut set = SortedSet::default();
            (0..count).for_each(|number| assert!(set.insert(&name(number)[..], number as f64)));
            more.map(|it| set.insert(it, 0.5));
            assert_eq!(set.is_small(), is_small);
            let len = count + usize::from(more.is_some());
            let parts = (0..).map_while(|index| set.ranked.block(index));
            assert_eq!(parts.map(<[_]>::len).sum::<usize>(), len);
            let (mut seen, mut cursor) = (0, 0);
            loop {
                cursor = set.scan(cursor, (10, usize::MAX), |_| seen += 1);
                if cursor == 0 {
                    break;
                }
            }
            assert_eq!(seen, len);
            assert!(!set.insert(&b"0"[..], -1.0) && set.insert(&b"new"[..], -2.0));
            assert_eq!((set.rank(b"new"), set.rank(b"0")), (Some(0), Some(1)));
            assert!(set.remove(b"0") && !set.remove(b"0") && set.score(b"0").is_none());
            assert_eq!(
                (set.len(), set.is_small()),
                (len, is_small && count < SMALL)
            );
        }
    }

    /// How many entries the table of scores has, and how many of them are stale.
    fn entries(set: &SortedSet) -> (usize, usize) {
        let scores = set.scores.as_ref();
        scores.map_or((set.len(), 0), |it| (it.table.len(), it.stale))
    }

    /// Compared with a set whose members are removed one by one.
    #[test]
    fn members_that_are_taken_are_not_there_while_their_entries_are_stale() {
        let mut random = fastrand::Rng::with_seed(3);
        let name = |number: usize| number.to_string().into_bytes();
        for _ in 0..20 {
            let (mut set, mut model) = (SortedSet::default(), SortedSet::default());
            for number in 0..3_000 {
                set.insert(&name(number)[..], number as f64);
                model.insert(&name(number)[..], number as f64);
            }
            let mut most_stale = 0;
            for round in 0..400 {
                if round % 100 == 0 {
                    let start = random.usize(0..set.len());
                    let end = random.usize(start..=set.len());
                    let expected: Vec<Scored> = model
                        .ranked
                        .from(start)
                        .take(end - start)
                        .cloned()
                        .collect();
                    for it in &expected {
                        assert!(model.remove(it.member.as_bytes()));
                    }
                    assert!(set.take(start..end).from(0).eq(&expected));
                    most_stale = most_stale.max(entries(&set).1);
                }
                let (member, score) = (name(random.usize(0..6_000)), random.f64() * 9.0);
                let member = &member[..];
                assert_eq!(set.score(member), model.score(member));
                assert_eq!(set.rank(member), model.rank(member));
                if random.bool() {
                    assert_eq!(set.insert(member, score), model.insert(member, score));
                } else {
                    assert_eq!(set.remove(member), model.remove(member));
                }
                if random.u8(..) < 20 {
                    set.remove_stale();
                }
                let (number, stale) = entries(&set);
                assert_eq!(number - stale, set.len());
            }
            assert!(set.ranked.from(0).eq(model.ranked.from(0)));
            let mut scanned = 0;
            set.scan(0, (usize::MAX, usize::MAX), |_| scanned += 1);
            assert_eq!(scanned, model.len());
            while set.remove_stale() {}
            assert_eq!((entries(&set), set.len()), ((model.len(), 0), model.len()));
            assert!(most_stale > 0);
            let all = 0..set.len();
            set.take(all);
            assert_eq!((set.len(), set.is_small()), (0, true));
        }
    }

    /// Nothing else removes stale entries here.
    #[test]
    fn stale_entries_stay_few_while_members_come_and_go() {
        let mut next = 0;
        let mut add = |set: &mut SortedSet, count: usize| {
            for _ in 0..count {
                next += 1;
                assert!(set.insert(&format!("{next}").into_bytes()[..], f64::from(next)));
            }
        };
        for (len, count) in [(1, 1_001), (1, 200), (20_000, 200), (20_000, 5_000)] {
            let mut set = SortedSet::default();
            add(&mut set, len);
            for round in 0..500 {
                add(&mut set, count);
                set.take(0..count);
                let (number, stale) = entries(&set);
                assert_eq!((set.len(), number - stale), (len, len));
                assert!(
                    number <= 3 * (len + count),
                    "{len} {count} {round}: {number}"
                );
            }
        }
    }

    #[test]
    fn members_with_equal_scores_are_in_the_order_of_their_bytes() {
        let mut set = SortedSet::default();
        for member in ["d", "a", "c", "b"] {
            set.insert(member.as_bytes(), 0.0);
        }
        let range = set.by_lex(Bound::Exclusive(b"a"), Bound::Inclusive(b"c"));
        let names: Vec<_> = set.ranked.from(range.start).take(range.len()).collect();
        assert_eq!(names[0].member.as_bytes(), b"b");
        assert_eq!(names.len(), 2);
    }

    #[test]
    fn stale_entries_of_long_members_are_removed_a_few_at_a_time() {
        let mut set = SortedSet::default();
        for number in 0..200_u8 {
            set.insert(vec![number; PART / 4], 1.0);
        }
        set.take(0..60);
        set.take(80..140);
        let mut parts = 1;
        while set.remove_stale() {
            parts += 1;
        }
        assert!((40..200).contains(&parts), "{parts} parts");
        assert_eq!(set.len(), 80);
        for number in 0..200_u8 {
            let is_there = (60..140).contains(&number);
            let member = vec![number; PART / 4];
            assert_eq!(set.score(&member).is_some(), is_there, "{number}");
        }
        assert_eq!(
            set.texts().count(),
            160,
            "no entry is left of those that were removed"
        );
    }
}

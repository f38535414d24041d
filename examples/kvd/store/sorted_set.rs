//! A sorted set: the members in the order of their scores, and the score of each member. A small one has only the first,
//! where a member is searched one by one.

use std::mem;

use super::ranked::{Ranked, Scored};
use super::table::{Keyed, Table};
use super::text::Text;

/// `zset-max-listpack-entries` and `zset-max-listpack-value` of Redis.
const SMALL: usize = 128;
const SHORT: usize = 64;

impl Keyed for Scored {
    fn key(&self) -> &[u8] {
        self.member.as_bytes()
    }
}

#[derive(Clone, Default)]
pub struct SortedSet {
    pub ranked: Ranked,
    /// `None` while the set is small.
    scores: Option<Box<Table<Scored>>>,
}

impl SortedSet {
    pub fn len(&self) -> usize {
        self.ranked.len()
    }

    pub fn is_small(&self) -> bool {
        self.scores.is_none()
    }

    pub fn score(&self, member: &[u8]) -> Option<f64> {
        let entry = match &self.scores {
            Some(scores) => scores.find(member),
            None => self.ranked.from(0).find(|it| it.key() == member),
        };
        entry.map(|it| it.score)
    }

    /// Sets the score of a member. Returns whether the member is new.
    pub fn insert(&mut self, member: &[u8], score: f64) -> bool {
        let old = match &mut self.scores {
            Some(scores) => scores
                .find_mut(member)
                .map(|it| mem::replace(&mut it.score, score)),
            None => self.score(member),
        };
        match old {
            Some(old) if old == score => {}
            Some(old) => {
                if let Some(entry) = self.ranked.remove(old, member) {
                    self.ranked.insert(Scored { score, ..entry });
                }
            }
            None => self.insert_new(score, member.into()),
        }
        old.is_none()
    }

    fn insert_new(&mut self, score: f64, member: Text) {
        let is_long = member.as_bytes().len() > SHORT;
        let entry = Scored { score, member };
        if let Some(scores) = &mut self.scores {
            scores.insert_new(entry.clone());
        }
        self.ranked.insert(entry);
        if self.is_small() && (is_long || self.len() > SMALL) {
            let mut scores = Table::default();
            let entries = self.ranked.from(0).cloned();
            entries.for_each(|entry| scores.insert_new(entry));
            self.scores = Some(scores.into());
        }
    }

    pub fn remove(&mut self, member: &[u8]) -> bool {
        let score = match &mut self.scores {
            Some(scores) => scores.remove(member).map(|it| it.score),
            None => self.score(member),
        };
        score
            .and_then(|score| self.ranked.remove(score, member))
            .is_some()
    }

    /// Calls `visit` with about `count` members from the cursor on, or with all of a small set. Returns the next cursor, which
    /// is 0 at the end.
    pub fn scan<'a>(&'a self, cursor: u64, count: usize, visit: impl FnMut(&'a Scored)) -> u64 {
        match &self.scores {
            Some(scores) => scores.scan(cursor, count, visit),
            None => {
                self.ranked.from(0).for_each(visit);
                0
            }
        }
    }

    /// A part of the members: a few hundred at most. `None` behind the last part.
    pub fn part(&self, index: usize) -> Option<Vec<Scored>> {
        match &self.scores {
            Some(scores) => scores.segment(index).map(|it| it.cloned().collect()),
            None if index == 0 => Some(self.ranked.from(0).cloned().collect()),
            None => None,
        }
    }

    /// How many bytes it has allocated for itself.
    pub fn heap(&self) -> usize {
        let scores = |it: &Table<Scored>| size_of::<Table<Scored>>() + it.heap();
        self.ranked.heap() + self.scores.as_deref().map_or(0, scores)
    }

    pub fn rank(&self, member: &[u8]) -> Option<usize> {
        let score = self.score(member)?;
        Some(self.ranked.rank_of(score, member))
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
    pub fn by_score(&self, min: Bound<f64>, max: Bound<f64>) -> std::ops::Range<usize> {
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
    pub fn by_lex(&self, min: Bound<&[u8]>, max: Bound<&[u8]>) -> std::ops::Range<usize> {
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
            (0..count).for_each(|number| assert!(set.insert(&name(number), number as f64)));
            more.map(|it| set.insert(it, 0.5));
            assert_eq!(set.is_small(), is_small);
            let len = count + usize::from(more.is_some());
            let parts = (0..).map_while(|index| set.part(index));
            assert_eq!(parts.map(|it| it.len()).sum::<usize>(), len);
            let (mut seen, mut cursor) = (0, 0);
            loop {
                cursor = set.scan(cursor, 10, |_| seen += 1);
                if cursor == 0 {
                    break;
                }
            }
            assert_eq!(seen, len);
            assert!(!set.insert(b"0", -1.0) && set.insert(b"new", -2.0));
            assert_eq!((set.rank(b"new"), set.rank(b"0")), (Some(0), Some(1)));
            assert!(set.remove(b"0") && !set.remove(b"0") && set.score(b"0").is_none());
            assert_eq!(
                (set.len(), set.is_small()),
                (len, is_small && count < SMALL)
            );
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
}

//! A sorted set: the score of each member, and the members in order.

use super::ranked::{Ranked, Scored};
use super::table::{Keyed, Table};
use super::text::Text;

impl Keyed for Scored {
    fn key(&self) -> &[u8] {
        self.member.as_bytes()
    }
}

#[derive(Clone, Default)]
pub struct SortedSet {
    pub scores: Table<Scored>,
    pub ranked: Ranked,
}

impl SortedSet {
    pub fn len(&self) -> usize {
        self.scores.len()
    }

    pub fn score(&self, member: &[u8]) -> Option<f64> {
        self.scores.find(member).map(|it| it.score)
    }

    /// Sets the score of a member. Returns whether the member is new.
    pub fn insert(&mut self, member: &[u8], score: f64) -> bool {
        match self.scores.find_mut(member) {
            Some(entry) => {
                if entry.score != score {
                    let old = std::mem::replace(&mut entry.score, score);
                    let member = entry.member.clone();
                    self.ranked.remove(old, member.as_bytes());
                    self.ranked.insert(score, member);
                }
                false
            }
            None => {
                let member = Text::from(member);
                self.ranked.insert(score, member.clone());
                self.scores.insert_new(Scored { score, member });
                true
            }
        }
    }

    pub fn remove(&mut self, member: &[u8]) -> bool {
        let Some(entry) = self.scores.remove(member) else {
            return false;
        };
        self.ranked.remove(entry.score, member);
        true
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
        assert_eq!((set.len(), set.ranked.len()), (1, 1));
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

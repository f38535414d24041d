//! A sorted set: the score of each member, and the members in order.

use std::ops::Range;

use super::dropper;
use super::ranked::{Ranked, Scored};
use super::table::{Keyed, Table};
use super::text::Text;

impl Keyed for Scored {
    fn name(&self) -> &Text {
        &self.member
    }
}

/// Many members are removed from `ranked` at once. Their entries in `scores` are stale until they are removed, a part at a
/// time: nobody waits for that.
#[derive(Clone, Default)]
pub struct SortedSet {
    scores: Table<Scored>,
    pub ranked: Ranked,
    /// How many entries are stale, and the first segment that may have some.
    stale: usize,
    next_segment: usize,
}

impl SortedSet {
    pub fn len(&self) -> usize {
        self.ranked.len()
    }

    /// Whether an entry of `scores` is not stale.
    #[inline]
    fn is_there(&self, entry: &Scored) -> bool {
        self.stale == 0 || self.ranked.contains(entry)
    }

    pub fn score(&self, member: &[u8]) -> Option<f64> {
        let entry = self.scores.find(member);
        entry.filter(|it| self.is_there(it)).map(|it| it.score)
    }

    /// Sets the score of a member. Returns whether the member is new.
    pub fn insert(&mut self, member: impl AsRef<[u8]> + Into<Text>, score: f64) -> bool {
        match self.scores.find_mut(member.as_ref()) {
            Some(entry) if self.stale > 0 && !self.ranked.contains(entry) => {
                entry.score = score;
                self.stale -= 1;
                self.ranked.insert(score, entry.member.clone());
                true
            }
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
                let member: Text = member.into();
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
        if self.stale > 0 && !self.ranked.contains(&entry) {
            self.stale -= 1;
            return false;
        }
        self.ranked.remove(entry.score, member);
        true
    }

    /// Removes the members with these ranks, and returns them. They leave stale entries behind, unless they are all.
    pub fn take(&mut self, ranks: Range<usize>) -> Ranked {
        let taken = self.ranked.take(ranks);
        if self.ranked.len() == 0 {
            dropper::drop_later(std::mem::take(&mut self.scores));
            self.stale = 0;
        } else {
            self.stale += taken.len();
            self.next_segment = 0;
        }
        taken
    }

    pub fn has_stale(&self) -> bool {
        self.stale > 0
    }

    /// Removes some hundred stale entries. Returns whether there are more.
    pub fn remove_stale(&mut self) -> bool {
        if self.stale > 0 {
            let ranked = &self.ranked;
            // A segment that is split meanwhile has its other half behind the last one.
            let removed = self
                .scores
                .retain_in_segment(self.next_segment, |it| ranked.contains(it));
            self.stale -= removed.unwrap_or(self.stale);
            self.next_segment += 1;
        }
        self.stale > 0
    }

    /// [`Table::scan`] of the members.
    pub fn scan<'a>(
        &'a self,
        cursor: u64,
        (count, bytes): (usize, usize),
        mut visit: impl FnMut(&'a Scored),
    ) -> u64 {
        self.scores.scan(cursor, count, bytes, |it| {
            if self.is_there(it) {
                visit(it);
            }
        })
    }

    /// The bytes of memory for the table of scores.
    pub fn heap(&self) -> usize {
        self.scores.heap()
    }

    /// Whether its destructor takes long.
    pub fn is_large(&self, many: usize) -> bool {
        self.scores.len() > many
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
        assert_eq!((set.len(), set.ranked.len()), (1, 1));
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
                    most_stale = most_stale.max(set.stale);
                }
                let (member, score) = (name(random.usize(0..6_000)), random.f64() * 9.0);
                let member = &member[..];
                assert_eq!(set.score(member), model.score(member));
                assert_eq!(set.rank(member), model.rank(member));
                match random.bool() {
                    true => assert_eq!(set.insert(member, score), model.insert(member, score)),
                    false => assert_eq!(set.remove(member), model.remove(member)),
                }
                if random.u8(..) < 20 {
                    set.remove_stale();
                }
                assert_eq!(set.scores.len() - set.stale, set.len());
            }
            assert!(set.ranked.from(0).eq(model.ranked.from(0)));
            let mut scanned = 0;
            set.scan(0, (usize::MAX, usize::MAX), |_| scanned += 1);
            assert_eq!(scanned, model.len());
            while set.remove_stale() {}
            assert_eq!((set.scores.len(), set.len()), (model.len(), model.len()));
            assert!(most_stale > 0);
            let all = 0..set.len();
            set.take(all);
            assert_eq!((set.len(), set.scores.len(), set.stale), (0, 0, 0));
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

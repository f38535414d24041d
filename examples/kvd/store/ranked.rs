//! The members of a sorted set in the order of their scores.
//!
//! A row of blocks, each a sorted vector of at most a few hundred members. An insertion moves at most one block, and
//! the rank of a member is the sum of the lengths of the blocks before it. A clone shares the blocks.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use super::estimate;
use super::growth::grow_by_a_quarter;
use super::text::Text;

const FULL: usize = 256;

/// A member with its score. No score is NaN.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    pub score: f64,
    pub member: Text,
}

impl Scored {
    fn cmp_to(&self, score: f64, member: &[u8]) -> Ordering {
        let by_score = self.score.partial_cmp(&score).unwrap_or(Ordering::Equal);
        by_score.then_with(|| self.member.as_bytes().cmp(member))
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranked {
    blocks: Vec<Arc<Vec<Scored>>>,
    len: usize,
}

impl Ranked {
    pub fn len(&self) -> usize {
        self.len
    }

    /// The block for an entry of which `is_before` says whether it is before the wanted place, and the place in it.
    fn place(&self, is_before: impl Fn(&Scored) -> bool) -> (usize, usize) {
        let block = self
            .blocks
            .partition_point(|block| block.last().is_some_and(&is_before));
        let within = self
            .blocks
            .get(block)
            .map_or(0, |block| block.partition_point(&is_before));
        (block, within)
    }

    /// How many entries are before the wanted place: those for which `is_before`, which are the first ones.
    pub fn rank(&self, is_before: impl Fn(&Scored) -> bool) -> usize {
        let (block, within) = self.place(is_before);
        self.blocks[..block]
            .iter()
            .map(|it| it.len())
            .sum::<usize>()
            + within
    }

    pub fn rank_of(&self, score: f64, member: &[u8]) -> usize {
        self.rank(|entry| entry.cmp_to(score, member).is_lt())
    }

    pub fn insert(&mut self, entry: Scored) {
        let (mut block, mut within) =
            self.place(|it| it.cmp_to(entry.score, entry.member.as_bytes()).is_lt());
        if block == self.blocks.len() {
            match block.checked_sub(1) {
                Some(last) => (block, within) = (last, self.blocks[last].len()),
                None => {
                    // Most sets have one block.
                    self.blocks.reserve_exact(1);
                    self.blocks.push(Arc::default());
                }
            }
        }
        let entries = Arc::make_mut(&mut self.blocks[block]);
        grow_by_a_quarter(entries);
        entries.insert(within, entry);
        self.len += 1;
        if entries.len() > FULL {
            // Members that arrive in order leave full blocks behind.
            let at = if within + 1 == entries.len() {
                FULL
            } else {
                FULL / 2
            };
            let rest = entries.split_off(at);
            self.blocks.insert(block + 1, Arc::new(rest));
        }
    }

    /// Removes an entry.
    pub fn remove(&mut self, score: f64, member: &[u8]) -> Option<Scored> {
        let (block, within) = self.place(|entry| entry.cmp_to(score, member).is_lt());
        let entries = self.blocks.get_mut(block)?;
        if entries.get(within)?.cmp_to(score, member).is_ne() {
            return None;
        }
        let removed = Arc::make_mut(entries).remove(within);
        if entries.is_empty() {
            self.blocks.remove(block);
        }
        self.len -= 1;
        Some(removed)
    }

    /// Whether this entry is there.
    pub fn contains(&self, entry: &Scored) -> bool {
        let (score, member) = (entry.score, entry.member.as_bytes());
        let (block, within) = self.place(|it| it.cmp_to(score, member).is_lt());
        let found = self.blocks.get(block).and_then(|it| it.get(within));
        found == Some(entry)
    }

    /// Removes the entries with these ranks, and returns them. The time depends on the number of blocks only.
    pub fn take(&mut self, ranks: Range<usize>) -> Ranked {
        let mut taken = self.split_off(ranks.start);
        let mut behind = taken.split_off(ranks.len());
        self.len += behind.len;
        self.blocks.append(&mut behind.blocks);
        taken
    }

    /// Removes the entries from this rank on, and returns them.
    fn split_off(&mut self, rank: usize) -> Ranked {
        let (block, within) = self.locate(rank);
        let mut behind = Ranked {
            blocks: self.blocks.split_off(block),
            len: self.len.saturating_sub(rank),
        };
        self.len -= behind.len;
        if within > 0
            && let Some(divided) = behind.blocks.first_mut()
        {
            let after = Arc::make_mut(divided).split_off(within);
            let before = std::mem::replace(divided, Arc::new(after));
            self.blocks.push(before);
        }
        behind
    }

    /// The block of the entry with this rank, and its place in it. Behind the last entry, there is no such block.
    fn locate(&self, rank: usize) -> (usize, usize) {
        let (mut block, mut within) = (0, rank);
        while let Some(entries) = self.blocks.get(block)
            && within >= entries.len()
        {
            within -= entries.len();
            block += 1;
        }
        (block, within)
    }

    /// How many blocks there are, each of a few hundred entries at most.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// The entries of a block, in order.
    pub fn block(&self, index: usize) -> Option<&[Scored]> {
        self.blocks.get(index).map(|it| it.as_slice())
    }

    /// An arbitrary entry. `below` returns a random number that is less than its argument.
    pub fn random(&self, mut below: impl FnMut(usize) -> usize) -> Option<&Scored> {
        if self.blocks.is_empty() {
            return None;
        }
        // Each entry is as likely as any other, whatever the lengths of the blocks. No block is empty, so an attempt finds
        // an entry with a probability of 1 in FULL at least.
        loop {
            let block = &self.blocks[below(self.blocks.len())];
            if let Some(entry) = block.get(below(FULL)) {
                return Some(entry);
            }
        }
    }

    /// How many bytes it has allocated for itself.
    pub fn heap(&self) -> usize {
        let entries = estimate::sum_of_all(self.blocks.iter().map(|it| it.capacity()));
        self.blocks.len() * (8 + 16 + size_of::<Vec<Scored>>()) + entries * size_of::<Scored>()
    }

    /// The entries from this rank on.
    pub fn from(&self, rank: usize) -> impl Iterator<Item = &Scored> {
        let (block, within) = self.locate(rank);
        let blocks = self.blocks[block..].iter().flat_map(|block| block.iter());
        blocks.skip(within)
    }

    /// The entries before this rank, from the last one to the first.
    pub fn before(&self, rank: usize) -> impl Iterator<Item = &Scored> {
        let (mut block, mut within) = (0, rank.min(self.len));
        while let Some(entries) = self.blocks.get(block)
            && within > entries.len()
        {
            within -= entries.len();
            block += 1;
        }
        let end = (block + 1).min(self.blocks.len());
        let behind = self.blocks.get(block).map_or(0, |it| it.len() - within);
        let blocks = self.blocks[..end].iter().rev();
        blocks.flat_map(|block| block.iter().rev()).skip(behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_is_taken_is_not_there_any_more() {
        let scored = |rank: usize| Scored {
            score: rank as f64,
            member: rank.to_string().as_bytes().into(),
        };
        for ranks in [
            0..0,
            0..1,
            0..1_000,
            100..900,
            256..512,
            999..1_000,
            1_000..1_000,
        ] {
            let mut ranked = Ranked::default();
            let entries = (0..1_000).map(scored);
            entries.for_each(|it| ranked.insert(it));
            let snapshot = ranked.clone();
            let taken = ranked.take(ranks.clone());
            assert_eq!(
                (taken.len(), ranked.len()),
                (ranks.len(), 1_000 - ranks.len())
            );
            assert!(taken.from(0).cloned().eq(ranks.clone().map(scored)));
            let left = (0..1_000).filter(|rank| !ranks.contains(rank));
            assert!(ranked.from(0).cloned().eq(left.map(scored)), "{ranks:?}");
            assert!(ranked.blocks.iter().all(|block| !block.is_empty()));
            assert!(snapshot.from(0).cloned().eq((0..1_000).map(scored)));
            for rank in 0..1_000 {
                assert_eq!(ranked.contains(&scored(rank)), !ranks.contains(&rank));
            }
            // It goes on as any other.
            ranks.clone().map(scored).for_each(|it| ranked.insert(it));
            assert!(ranked.from(0).cloned().eq((0..1_000).map(scored)));
        }
    }

    #[test]
    fn each_entry_is_as_likely_as_any_other() {
        let mut random = fastrand::Rng::with_seed(5);
        let mut ranked = Ranked::default();
        assert!(ranked.random(|end| random.usize(..end)).is_none());
        for rank in 0..600 {
            ranked.insert(Scored {
                score: f64::from(rank),
                member: rank.to_string().as_bytes().into(),
            });
        }
        // One entry of the first block is left, two of the second, and all of the third.
        ranked.take(1..256);
        ranked.take(3..257);
        let lens: Vec<_> = ranked.blocks.iter().map(|it| it.len()).collect();
        assert_eq!(lens, [1, 2, 88]);
        let mut counts = vec![0; ranked.len()];
        for _ in 0..100_000 {
            let found = ranked.random(|end| random.usize(..end)).unwrap();
            counts[ranked.rank_of(found.score, found.member.as_bytes())] += 1;
        }
        let expected = 100_000 / counts.len();
        let is_near = |count: &usize| count.abs_diff(expected) < expected / 5;
        assert!(counts.iter().all(is_near), "{counts:?}");
    }

    #[test]
    fn entries_stay_sorted_and_ranks_are_right() {
        let mut ranked = Ranked::default();
        let mut model: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..6_000 {
            let score = random.u64(0..500);
            let member = random.u64(0..1_000).to_string().into_bytes();
            let entry = (score, member.clone());
            match model.binary_search(&entry) {
                Ok(at) if round % 3 == 0 => {
                    model.remove(at);
                    let removed = ranked.remove(score as f64, &member);
                    assert!(removed.is_some_and(|it| it.member.as_bytes() == member));
                }
                Ok(_) => {}
                Err(at) => {
                    assert!(ranked.remove(score as f64, &member).is_none());
                    model.insert(at, entry);
                    ranked.insert(Scored {
                        score: score as f64,
                        member: member.into(),
                    });
                }
            }
        }
        assert_eq!(ranked.len(), model.len());
        let plain = |it: &Scored| (it.score as u64, it.member.as_bytes().to_vec());
        assert!(ranked.from(0).map(plain).eq(model.iter().cloned()));
        for rank in [0, 1, 100, 255, 256, 257, 1_000, model.len()] {
            assert!(
                ranked
                    .from(rank)
                    .map(plain)
                    .eq(model[rank..].iter().cloned()),
                "{rank}"
            );
            let backwards = model[..rank].iter().rev().cloned();
            assert!(ranked.before(rank).map(plain).eq(backwards), "{rank}");
        }
        for (rank, (score, member)) in model.iter().enumerate().step_by(97) {
            assert_eq!(ranked.rank_of(*score as f64, member), rank);
        }
    }
}

//! Combines sets and sorted sets, a part at a time.

use std::mem;
use std::sync::Arc;

use super::long::{self, Snapshot};
use crate::server::progress::Progress;
use crate::store::comparison::{PART, cost_of_look_ups};
use crate::store::database::{Database, WrongType};
use crate::store::ranked::Scored;
use crate::store::sorted_set::SortedSet;
use crate::store::table::size_of_entry;
use crate::store::text::Text;
use crate::store::value::{Set, Value};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Combine {
    Difference,
    Intersection,
    Union,
}

/// Which score a member of several sets gets.
#[derive(Clone, Copy)]
pub(super) enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn of(self, a: f64, b: f64) -> f64 {
        match self {
            Aggregate::Sum => number_or_zero(a + b),
            Aggregate::Min => a.min(b),
            Aggregate::Max => a.max(b),
        }
    }
}

/// As in Redis: the sum of both infinities, and 0 times one of them, are 0. A score of -0 is 0.
fn number_or_zero(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score + 0.0 }
}

/// A snapshot of a set or of a sorted set.
pub(super) enum Source {
    Set(Snapshot<Arc<Set>>),
    Sorted(Snapshot<Arc<SortedSet>>),
}

impl Source {
    /// A key that is not there is an empty set.
    pub(super) fn find(db: &mut Database, key: &[u8]) -> Result<Source, WrongType> {
        match db.find(key) {
            None => Ok(Source::Set(Snapshot::default())),
            Some(Value::Set(set)) => Ok(Source::Set(Snapshot(Arc::clone(set)))),
            Some(Value::Sorted(set)) => Ok(Source::Sorted(Snapshot(Arc::clone(set)))),
            Some(_) => Err(WrongType),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Source::Set(set) => set.len(),
            Source::Sorted(set) => set.len(),
        }
    }

    fn score(&self, member: &[u8]) -> Option<f64> {
        match self {
            Source::Set(set) => set.contains(member).then_some(1.0),
            Source::Sorted(set) => set.score(member),
        }
    }

    fn segment(&self, at: usize) -> Option<Vec<(Text, f64)>> {
        match self {
            Source::Set(set) => {
                let members = set.segment(at)?;
                Some(members.map(|it| (it.clone(), 1.0)).collect())
            }
            Source::Sorted(set) => {
                let members = set.ranked.block(at)?.iter();
                Some(members.map(|it| (it.member.clone(), it.score)).collect())
            }
        }
    }
}

/// Combines snapshots, a part at a time.
pub(super) struct Job {
    /// With their weights.
    sources: Vec<(Source, f64)>,
    combine: Combine,
    aggregate: Aggregate,
    pub(super) limit: usize,
    /// The source that is gone through, its segment, and how many members of that are done.
    source: usize,
    segment: usize,
    member: usize,
    pub(super) result: Snapshot<SortedSet>,
    /// The bytes of its members that have an allocation of their own.
    copied: usize,
}

impl Job {
    pub(super) fn new(
        mut sources: Vec<(Source, f64)>,
        combine: Combine,
        aggregate: Aggregate,
        limit: usize,
    ) -> Job {
        if combine == Combine::Difference {
            let mut is_first = true;
            sources.retain(|(source, _)| mem::take(&mut is_first) || source.len() > 0);
        } else {
            // The smallest set has the fewest candidates. Sums depend on the order, and this is that of Redis.
            sources.sort_by_key(|(source, _)| source.len());
        }
        Job {
            sources,
            combine,
            aggregate,
            limit,
            source: 0,
            segment: 0,
            member: 0,
            result: Snapshot(SortedSet::default()),
            copied: 0,
        }
    }

    /// How many members the sets have.
    pub(super) fn len(&self) -> usize {
        self.sources.iter().map(|(source, _)| source.len()).sum()
    }

    /// Combines some more members, if there are any.
    pub(super) fn combine_some(&mut self) -> Progress {
        if self.result.len() >= self.limit {
            return Progress::Complete;
        }
        let rest = self.sources.get(self.source..);
        let Some(((source, weight), others)) = rest.and_then(<[_]>::split_first) else {
            return Progress::Complete;
        };
        let Some(members) = source.segment(self.segment) else {
            // Only a union goes through all sets.
            self.source += 1;
            self.segment = 0;
            return Progress::more_if(self.combine == Combine::Union);
        };
        let tables = match self.combine {
            Combine::Union => 1,
            Combine::Difference | Combine::Intersection => others.len(),
        };
        let mut cost = 0;
        let aggregate = self.aggregate;
        for (member, score) in members.into_iter().skip(self.member) {
            if cost >= PART {
                return Progress::More;
            }
            let name = member.as_bytes();
            cost += cost_of_look_ups(name, tables);
            self.member += 1;
            let score = number_or_zero(score * weight);
            let combined = match self.combine {
                Combine::Union => match self.result.score(name) {
                    Some(before) => Some(aggregate.of(before, score)),
                    None => Some(score),
                },
                Combine::Intersection => others.iter().try_fold(score, |all, (other, weight)| {
                    let score = number_or_zero(other.score(name)? * weight);
                    Some(aggregate.of(all, score))
                }),
                Combine::Difference => {
                    let is_other = others.iter().any(|(other, _)| other.score(name).is_some());
                    (!is_other).then_some(score)
                }
            };
            // A long member is shared with the source, and only what is copied counts.
            let size = member.size_of_clone();
            if let Some(score) = combined
                && self.result.insert(member, score)
            {
                self.copied += size;
            }
        }
        self.segment += 1;
        self.member = 0;
        Progress::More
    }

    /// The bytes of memory of the result, about. It has each member twice.
    pub(super) fn size(&self) -> usize {
        2 * (self.result.len() * size_of_entry::<Scored>() + self.copied)
    }

    pub(super) fn is_long(&self) -> bool {
        let number = self.len();
        let sizes = self.sources.iter().flat_map(|(source, _)| {
            let segments = (0..).map_while(|at| source.segment(at));
            segments
                .flatten()
                .map(|(member, _)| member.as_bytes().len())
        });
        long::are_many(number, sizes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_many_sets_has_few_members() {
        let db = &mut Database::default();
        let name = |number: i32| Text::from(number.to_string().as_bytes());
        for number in 0..1_000 {
            let set = db.sorted_or_new(name(number).as_bytes()).unwrap();
            set.insert(name(number + 100).as_bytes(), 1.0);
        }
        let first = db.sorted_or_new(b"first").unwrap();
        for number in 0..600 {
            first.insert(name(number).as_bytes(), 1.0);
        }
        for (combine, others, members, parts) in [
            (Combine::Difference, 0..1_000, 100, 600..2_000),
            (Combine::Union, 0..1_000, 1_100, 0..3_000),
            (Combine::Intersection, 7..8, 1, 0..10),
            // There are no sets for these.
            (Combine::Difference, 2_000..12_000, 600, 0..20),
        ] {
            let keys: Vec<Text> = std::iter::once(b"first"[..].into())
                .chain(others.map(name))
                .collect();
            let sources = keys
                .iter()
                .map(|key| Ok((Source::find(db, key.as_bytes())?, 1.0)));
            let sources = sources.collect::<Result<Vec<_>, WrongType>>().unwrap();
            let mut job = Job::new(sources, combine, Aggregate::Sum, usize::MAX);
            let mut count = 1;
            while job.combine_some() == Progress::More {
                count += 1;
            }
            assert_eq!(job.result.len(), members);
            assert!(parts.contains(&count), "{count} parts");
        }
    }

    #[test]
    fn a_part_of_large_members_has_few_of_them() {
        let db = &mut Database::default();
        for key in [b"a", b"b"] {
            let set = db.sorted_or_new(key).unwrap();
            for number in 0..50_u8 {
                set.insert(Text::from(vec![number; PART]), 1.0);
            }
        }
        for (combine, members, least) in [
            (Combine::Difference, 0, 50),
            (Combine::Intersection, 50, 50),
            (Combine::Union, 50, 100),
        ] {
            let sources = [b"a", b"b"].map(|key| (Source::find(db, key).unwrap(), 1.0));
            let mut job = Job::new(sources.into(), combine, Aggregate::Sum, usize::MAX);
            assert!(job.is_long());
            let mut parts = 1;
            while job.combine_some() == Progress::More {
                parts += 1;
            }
            assert_eq!(job.result.len(), members);
            assert!(parts >= least, "{parts} parts");
        }
    }
}

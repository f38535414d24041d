//! Intersections, unions and differences of sets.

use std::collections::HashSet;
use std::mem;
use std::sync::Arc;

use super::combined::{self, Combined};
use super::flag::{DENYOOM, MOVABLEKEYS, READONLY, WRITE};
use super::long::Snapshot;
use super::stored::{self, Making};
use super::{Command, Context, Failure, Outcome, SYNTAX, command, fail, long};
use crate::resp::reply::Reply;
use crate::resp::request::Args;
use crate::server::progress::Progress;
use crate::store::comparison::{PART, cost_of_look_ups};
use crate::store::database::Database;
use crate::store::table::size_of_entry;
use crate::store::text::Text;
use crate::store::value::{Set, Value};

pub(super) const TABLE: &[Command] = &[
    command(
        "sdiff",
        -2,
        READONLY,
        (1, -1, 1),
        "set",
        "Returns the difference of multiple sets.",
        |it, args| reply(it, args, Combine::Difference),
    ),
    command(
        "sdiffstore",
        -3,
        WRITE | DENYOOM,
        (1, -1, 1),
        "set",
        "Stores the difference of multiple sets in a key.",
        |it, args| store(it, args, Combine::Difference),
    ),
    command(
        "sinter",
        -2,
        READONLY,
        (1, -1, 1),
        "set",
        "Returns the intersect of multiple sets.",
        |it, args| reply(it, args, Combine::Intersection),
    ),
    command(
        "sintercard",
        -3,
        READONLY | MOVABLEKEYS,
        (0, 0, 0),
        "set",
        "Returns the number of members of the intersect of multiple sets.",
        sintercard,
    ),
    command(
        "sinterstore",
        -3,
        WRITE | DENYOOM,
        (1, -1, 1),
        "set",
        "Stores the intersect of multiple sets in a key.",
        |it, args| store(it, args, Combine::Intersection),
    ),
    command(
        "sunion",
        -2,
        READONLY,
        (1, -1, 1),
        "set",
        "Returns the union of multiple sets.",
        |it, args| reply(it, args, Combine::Union),
    ),
    command(
        "sunionstore",
        -3,
        WRITE | DENYOOM,
        (1, -1, 1),
        "set",
        "Stores the union of multiple sets in a key.",
        |it, args| store(it, args, Combine::Union),
    ),
];

/// How the sets are combined.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Combine {
    Difference,
    Intersection,
    Union,
}

/// Snapshots of the sets of these keys. A key that is not there is an empty set. A key that is given again changes
/// nothing, unless it is the first one, from which the others are subtracted.
fn snapshots<'a>(
    db: &mut Database,
    keys: impl Iterator<Item = &'a [u8]>,
) -> Result<Vec<Snapshot<Arc<Set>>>, Failure> {
    let mut sets = Vec::new();
    let mut others = HashSet::new();
    for key in keys {
        let set = db.members(key)?.cloned();
        if sets.is_empty() || others.insert(key) {
            sets.push(Snapshot(set.unwrap_or_default()));
        }
    }
    Ok(sets)
}

/// Combines snapshots of sets, a part at a time.
struct Job {
    sets: Vec<Snapshot<Arc<Set>>>,
    combine: Combine,
    /// The set that is gone through, its segment, and how many members of that are done.
    set: usize,
    segment: usize,
    member: usize,
    result: Snapshot<Set>,
    /// The bytes of the members that are copies.
    copied: usize,
    /// The reply is only the number of members, and this is the highest that is of interest.
    limit: Option<usize>,
}

impl Job {
    fn new(mut sets: Vec<Snapshot<Arc<Set>>>, combine: Combine) -> Job {
        match combine {
            // The smallest set has the fewest candidates.
            Combine::Intersection => sets.sort_by_key(|set| set.len()),
            Combine::Difference | Combine::Union => {
                let mut is_first = true;
                sets.retain(|set| mem::take(&mut is_first) || !set.is_empty());
            }
        }
        Job {
            sets,
            combine,
            set: 0,
            segment: 0,
            member: 0,
            result: Snapshot(Set::default()),
            copied: 0,
            limit: None,
        }
    }
}

impl Combined for Job {
    fn combine_some(&mut self) -> Progress {
        if self.limit.is_some_and(|limit| self.result.len() >= limit) {
            return Progress::Complete;
        }
        let Some((first, others)) = self.sets.get(self.set..).and_then(<[_]>::split_first) else {
            return Progress::Complete;
        };
        let Some(members) = first.segment(self.segment) else {
            // Only a union goes through all sets.
            self.set += 1;
            self.segment = 0;
            return Progress::more_if(self.combine == Combine::Union);
        };
        let tables = match self.combine {
            Combine::Union => 1,
            Combine::Difference | Combine::Intersection => others.len(),
        };
        let mut cost = 0;
        for member in members.skip(self.member) {
            if cost >= PART {
                return Progress::More;
            }
            let name = member.as_bytes();
            cost += cost_of_look_ups(name, tables);
            self.member += 1;
            let is_wanted = match self.combine {
                Combine::Difference => !others.iter().any(|set| set.contains(name)),
                Combine::Intersection => others.iter().all(|set| set.contains(name)),
                Combine::Union => self.set == 0 || !self.result.contains(name),
            };
            if is_wanted {
                self.copied += member.size_of_clone();
                self.result.insert_new(member.clone());
            }
        }
        self.segment += 1;
        self.member = 0;
        Progress::More
    }

    fn size(&self) -> usize {
        self.result.len() * size_of_entry::<Text>() + self.copied
    }

    fn begin(&self, reply: &mut Reply) {
        match self.limit {
            Some(limit) => reply.count(self.result.len().min(limit)),
            None => reply.set(self.result.len()),
        }
    }

    /// The position is that of a segment.
    fn encode_some(&self, reply: &mut Reply, from: usize) -> Option<usize> {
        let members = self.result.segment(from);
        let members = members.filter(|_| self.limit.is_none())?;
        members.for_each(|member| reply.item(member));
        Some(from + 1)
    }
}

fn reply(context: &mut Context<'_>, args: Args<'_>, combine: Combine) -> Outcome {
    let sets = snapshots(context.db(), args.from(1))?;
    send(context, Job::new(sets, combine));
    Ok(())
}

fn send(context: &mut Context<'_>, mut job: Job) {
    if job.is_long() {
        return combined::reply_later(context, job);
    }
    while job.combine_some() == Progress::More {}
    job.begin(context.reply);
    if job.limit.is_none() {
        let members = job.result.iter();
        members.for_each(|member| context.reply.item(member));
    }
}

impl Making for Job {
    fn len(&self) -> usize {
        self.sets.iter().map(|set| set.len()).sum()
    }

    fn is_long(&self) -> bool {
        let members = self.sets.iter().flat_map(|set| set.iter());
        long::are_many(self.len(), members.map(|it| it.as_bytes().len()))
    }

    fn advance(&mut self) -> Result<Progress, Failure> {
        Ok(self.combine_some())
    }

    fn store(&mut self, db: &mut Database, target: &[u8], reply: &mut Reply) {
        let value = Value::Set(Arc::new(mem::take(&mut *self.result)));
        stored::replace(db, target, value, reply);
    }
}

fn store(context: &mut Context<'_>, args: Args<'_>, combine: Combine) -> Outcome {
    let keys: Vec<Text> = args.from(2).map(Text::from).collect();
    let sources = keys.clone();
    stored::store(context, args.get(1), sources, move |db| {
        let sets = snapshots(db, keys.iter().map(Text::as_bytes))?;
        Ok(Job::new(sets, combine))
    })
}

fn sintercard(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let number = crate::store::number::integer(args.get(1)).filter(|it| *it > 0);
    let number = number.ok_or(fail("ERR numkeys should be greater than 0"))? as usize;
    if number > args.len() - 2 {
        return Err(fail(
            "ERR Number of keys can't be greater than number of args",
        ));
    }
    let mut limit = 0;
    for at in (2 + number..args.len()).step_by(2) {
        if !args.is(at, "limit") || at + 1 == args.len() {
            return Err(SYNTAX);
        }
        limit = super::count(args.get(at + 1)).map_err(|_| fail("ERR LIMIT can't be negative"))?;
    }
    let sets = snapshots(context.db(), args.from(2).take(number))?;
    let mut job = Job::new(sets, Combine::Intersection);
    job.limit = Some(if limit == 0 { usize::MAX } else { limit });
    send(context, job);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Combines the sets of these keys: `first`, and others with names of numbers. Returns the members, how many parts
    /// they were made in, and how many sets there were.
    fn combined(db: &mut Database, keys: &[Text], combine: Combine) -> (Vec<i32>, usize, usize) {
        let keys = keys.iter().map(Text::as_bytes);
        let sets = snapshots(db, keys).unwrap_or_default();
        let mut job = Job::new(sets, combine);
        let mut parts = 1;
        while job.combine_some() == Progress::More {
            parts += 1;
        }
        let number = |member: &Text| crate::store::number::integer(member.as_bytes());
        let mut members: Vec<i32> = job
            .result
            .iter()
            .filter_map(|it| Some(number(it)? as i32))
            .collect();
        members.sort_unstable();
        (members, parts, job.sets.len())
    }

    fn add(db: &mut Database, key: &Text, members: std::ops::Range<i32>) {
        let set = db.members_or_new(key.as_bytes()).unwrap();
        for member in members {
            set.insert(member.to_string().as_bytes().into());
        }
    }

    fn name(number: i32) -> Text {
        number.to_string().as_bytes().into()
    }

    #[test]
    fn a_key_that_is_given_again_is_one_set() {
        let db = &mut Database::default();
        add(db, &name(1), 0..2_000);
        add(db, &name(2), 1_000..3_000);
        let keys: Vec<Text> = (0..10_000).map(|it| name(it % 2 + 1)).collect();
        let all: Vec<i32> = (0..3_000).collect();
        for (combine, members) in [
            (Combine::Union, &all[..]),
            (Combine::Intersection, &all[1_000..2_000]),
            // The first key is one of the others, too.
            (Combine::Difference, &[]),
        ] {
            let (found, parts, sets) = combined(db, &keys, combine);
            assert_eq!(found, members);
            assert!(parts < 100 && sets <= 3, "{parts} parts of {sets} sets");
        }
        let (found, ..) = combined(
            db,
            &[&keys[..1], &[name(2), name(2)]].concat(),
            Combine::Difference,
        );
        assert_eq!(found, all[..1_000]);
    }

    #[test]
    fn a_part_of_many_sets_has_few_members() {
        let db = &mut Database::default();
        let first = name(-1);
        add(db, &first, 0..600);
        for number in 0..1_000 {
            add(db, &name(number), number + 100..number + 101);
        }
        let keys = |from: i32, to: i32| {
            [
                &[first.clone()][..],
                &(from..to).map(name).collect::<Vec<_>>(),
            ]
            .concat()
        };
        let all: Vec<i32> = (0..1_100).collect();
        let (found, parts, _) = combined(db, &keys(0, 1_000), Combine::Difference);
        assert_eq!(found, all[..100]);
        assert!(parts >= 600, "{parts} parts");
        let (found, ..) = combined(db, &keys(0, 1_000), Combine::Union);
        assert_eq!(found, all);
        let (found, ..) = combined(db, &keys(7, 8), Combine::Intersection);
        assert_eq!(found, [107]);
        // There are no sets for these.
        let (found, parts, _) = combined(db, &keys(2_000, 12_000), Combine::Difference);
        assert_eq!(found, all[..600]);
        assert!(parts < 20, "{parts} parts");
        let (found, ..) = combined(db, &keys(2_000, 2_001), Combine::Intersection);
        assert!(found.is_empty());
    }

    #[test]
    fn a_part_of_large_members_has_few_of_them() {
        let db = &mut Database::default();
        for key in [b"a", b"b"] {
            let set = db.members_or_new(key).unwrap();
            for number in 0..50_u8 {
                set.insert(Text::from(vec![number; PART]));
            }
        }
        let keys = [Text::from(b"a"), Text::from(b"b")];
        for (combine, least) in [
            (Combine::Difference, 50),
            (Combine::Intersection, 50),
            (Combine::Union, 100),
        ] {
            let sets = snapshots(db, keys.iter().map(Text::as_bytes)).unwrap_or_default();
            assert!(Making::is_long(&Job::new(sets, combine)));
            let (_, parts, _) = combined(db, &keys, combine);
            assert!(parts >= least, "{parts} parts");
        }
    }
}

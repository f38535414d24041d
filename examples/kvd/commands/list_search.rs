//! Commands that look for elements of a list. A long list takes several turns.

use std::sync::Arc;

use super::combined::{self, Combined};
use super::flag::{DENYOOM, READONLY, WRITE};
use super::long::Snapshot;
use super::stored::{self, Making};
use super::{Command, Context, Failure, Outcome, SYNTAX, command, count, fail, integer, long};
use crate::resp::reply::Reply;
use crate::resp::request::Args;
use crate::server::progress::Progress;
use crate::store::comparison::{PART, cost_of_equality};
use crate::store::database::Database;
use crate::store::list::{Chunk, End, List};
use crate::store::text::Text;
use crate::store::value::Value;

pub(super) const TABLE: &[Command] = &[
    command(
        "linsert",
        5,
        WRITE | DENYOOM,
        (1, 1, 1),
        "list",
        "Inserts an element before or after another element in a list.",
        linsert,
    ),
    command(
        "lpos",
        -3,
        READONLY,
        (1, 1, 1),
        "list",
        "Returns the index of matching elements in a list.",
        lpos,
    ),
    command(
        "lrem",
        4,
        WRITE,
        (1, 1, 1),
        "list",
        "Removes elements from a list. Deletes the list if the last element was removed.",
        lrem,
    ),
];

/// A snapshot of the list, or an empty one.
fn snapshot(db: &mut Database, key: &[u8]) -> Result<Arc<List>, Failure> {
    Ok(db.list(key)?.cloned().unwrap_or_default())
}

/// Whether it takes long to compare all elements with this one.
fn is_long(list: &List, item: &Text) -> bool {
    let costs = list
        .iter()
        .map(|it| cost_of_equality(it.as_bytes(), item.as_bytes()));
    long::are_many(list.len(), costs)
}

/// LREM: what was not looked at yet, and what stays.
struct Removal {
    list: List,
    /// The chunk that is looked at, and of its first elements whether they match.
    begun: Option<(Arc<Chunk>, Vec<bool>)>,
    item: Text,
    /// The end from which the elements are counted.
    from: End,
    most: usize,
    result: List,
    removed: usize,
}

impl Making for Removal {
    fn len(&self) -> usize {
        self.list.len()
    }

    fn is_long(&self) -> bool {
        is_long(&self.list, &self.item)
    }

    fn advance(&mut self) -> Result<Progress, Failure> {
        let begun = self.begun.take();
        let next = || Some((self.list.pop_chunk(self.from)?, Vec::new()));
        let Some((mut chunk, mut are_matching)) = begun.or_else(next) else {
            return Ok(Progress::Complete);
        };
        let (mut cost, wanted) = (0, self.item.as_bytes());
        for it in chunk.range(are_matching.len()..) {
            if cost >= PART {
                break;
            }
            let bytes = it.as_bytes();
            cost += cost_of_equality(bytes, wanted);
            are_matching.push(bytes == wanted);
        }
        if are_matching.len() < chunk.len() {
            self.begun = Some((chunk, are_matching));
            return Ok(Progress::More);
        }
        let matches = are_matching.iter().filter(|it| **it).count();
        let removed = matches.min(self.most - self.removed);
        if removed > 0 {
            let mut skipped = match self.from {
                End::Left => 0,
                End::Right => matches - removed,
            };
            let mut left = removed;
            let mut are_matching = are_matching.into_iter();
            Arc::make_mut(&mut chunk).retain(|_| {
                if !are_matching.next().unwrap_or(false) || left == 0 {
                    return true;
                }
                let is_kept = skipped > 0;
                if is_kept {
                    skipped -= 1;
                } else {
                    left -= 1;
                }
                is_kept
            });
        }
        self.removed += removed;
        self.result.push_chunk(self.from.other(), chunk);
        Ok(Progress::more_if(self.removed < self.most))
    }

    fn store(&mut self, db: &mut Database, target: &[u8], reply: &mut Reply) {
        reply.count(self.removed);
        if self.removed == 0 {
            return;
        }
        while let Some(chunk) = self.list.pop_chunk(self.from) {
            self.result.push_chunk(self.from.other(), chunk);
        }
        let result = std::mem::take(&mut self.result);
        stored::leave(db, target, Value::List(Arc::new(result)));
    }
}

fn lrem(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (key, wanted) = (args.get(1), integer(args.get(2))?);
    let (source, item) = (Text::from(key), args.text(3));
    stored::store(context, key, vec![source.clone()], move |db| {
        Ok(Removal {
            list: List::clone(&*snapshot(db, source.as_bytes())?),
            begun: None,
            item: item.clone(),
            from: if wanted < 0 { End::Right } else { End::Left },
            most: match wanted {
                0 => usize::MAX,
                wanted => wanted.unsigned_abs() as usize,
            },
            result: List::default(),
            removed: 0,
        })
    })
}

/// A search through a list, a part at a time.
struct ListSearch {
    list: Snapshot<Arc<List>>,
    item: Text,
    from: End,
    /// How many elements were looked at, and how many are at most.
    passed: usize,
    longest: usize,
}

impl ListSearch {
    fn is_long(&self) -> bool {
        is_long(&self.list, &self.item)
    }

    /// Calls `found` with the index of each matching element of the next part, until that returns false.
    fn advance(&mut self, mut found: impl FnMut(usize) -> bool) -> Progress {
        let (first, all) = (self.passed, self.list.len());
        let end = all.min(self.longest);
        let (mut cost, wanted, passed) = (0, self.item.as_bytes(), &mut self.passed);
        // Returns whether to go on.
        let mut look_at = |(it, index): (&Text, usize)| {
            *passed += 1;
            let bytes = it.as_bytes();
            cost += cost_of_equality(bytes, wanted);
            if bytes == wanted && !found(index) {
                *passed = end;
                false
            } else {
                cost < PART
            }
        };
        match self.from {
            End::Left => {
                let mut rest = self.list.range(first..end).zip(first..);
                rest.all(&mut look_at);
            }
            End::Right => {
                let rest = self.list.range(all - end..all - first).rev();
                let mut rest = rest.zip((0..all - first).rev());
                rest.all(&mut look_at);
            }
        }
        Progress::more_if(self.passed < end)
    }
}

/// LINSERT.
struct Insertion {
    search: ListSearch,
    behind: usize,
    item: Text,
    index: Option<usize>,
}

impl Making for Insertion {
    fn len(&self) -> usize {
        self.search.list.len()
    }

    fn is_long(&self) -> bool {
        self.search.is_long()
    }

    fn advance(&mut self) -> Result<Progress, Failure> {
        let index = &mut self.index;
        Ok(self.search.advance(|found| {
            *index = Some(found);
            false
        }))
    }

    fn store(&mut self, db: &mut Database, target: &[u8], reply: &mut Reply) {
        // What is not shared is not copied.
        drop(std::mem::take(&mut *self.search.list));
        let len = match (db.list_mut(target), self.index) {
            (Ok(Some(list)), Some(index)) => {
                list.insert(index + self.behind, self.item.clone());
                let len = list.len() as i64;
                db.touch(target);
                db.signal(target);
                len
            }
            (Ok(Some(_)), None) => -1,
            _ => 0,
        };
        reply.integer(len);
    }
}

fn linsert(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let behind = match () {
        () if args.is(2, "before") => 0,
        () if args.is(2, "after") => 1,
        () => return Err(SYNTAX),
    };
    let key = args.get(1);
    let source = Text::from(key);
    let (pivot, item) = (args.text(3), args.text(4));
    stored::store(context, key, vec![source.clone()], move |db| {
        Ok(Insertion {
            search: ListSearch {
                list: Snapshot(snapshot(db, source.as_bytes())?),
                item: pivot.clone(),
                from: End::Left,
                passed: 0,
                longest: usize::MAX,
            },
            behind,
            item: item.clone(),
            index: None,
        })
    })
}

/// How many bytes of indices are encoded at a time.
const MOST_AT_ONCE: usize = 16 * 1024;

/// LPOS.
struct Positions {
    search: ListSearch,
    /// How many matching elements are still to be left out, and to be returned.
    skipped: usize,
    wanted: usize,
    /// Whether the reply is an array.
    are_many: bool,
    found: Vec<usize>,
}

impl Positions {
    /// Looks for some more.
    fn advance(&mut self) -> Progress {
        let (skipped, found, wanted) = (&mut self.skipped, &mut self.found, self.wanted);
        self.search.advance(|index| {
            match *skipped {
                0 => found.push(index),
                _ => *skipped -= 1,
            }
            found.len() < wanted
        })
    }
}

impl Combined for Positions {
    fn combine_some(&mut self) -> Progress {
        self.advance()
    }

    fn size(&self) -> usize {
        self.found.capacity() * size_of::<usize>()
    }

    fn begin(&self, reply: &mut Reply) {
        if self.are_many {
            reply.array(self.found.len());
        } else if self.found.is_empty() {
            reply.null();
        }
    }

    /// The position is that of an index.
    fn encode_some(&self, reply: &mut Reply, from: usize) -> Option<usize> {
        let mut next = from;
        while reply.len() < MOST_AT_ONCE
            && let Some(index) = self.found.get(next)
        {
            reply.count(*index);
            next += 1;
        }
        (next > from).then_some(next)
    }
}

fn lpos(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (mut rank, mut most, mut longest) = (1, None, 0);
    for at in (3..args.len()).step_by(2) {
        if at + 1 == args.len() {
            return Err(SYNTAX);
        }
        let value = args.get(at + 1);
        match args.option(at).as_slice() {
            b"rank" => {
                rank = integer(value)?;
                if rank == 0 {
                    return Err(fail(
                        "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use \
                         negative to start from the end of the list",
                    ));
                }
            }
            b"count" => most = Some(count(value).map_err(|_| fail("ERR COUNT can't be negative"))?),
            b"maxlen" => {
                longest = count(value).map_err(|_| fail("ERR MAXLEN can't be negative"))?;
            }
            _ => return Err(SYNTAX),
        }
    }
    let mut positions = Positions {
        search: ListSearch {
            list: Snapshot(snapshot(context.db(), args.get(1))?),
            item: args.text(2),
            from: if rank < 0 { End::Right } else { End::Left },
            passed: 0,
            longest: if longest == 0 { usize::MAX } else { longest },
        },
        // As in Redis 7.0, where the amount of the lowest number is too high, that is the same as -1.
        skipped: rank.checked_abs().unwrap_or(1) as usize - 1,
        wanted: match most {
            None => 1,
            Some(0) => usize::MAX,
            Some(most) => most,
        },
        are_many: most.is_some(),
        found: Vec::new(),
    };
    if positions.search.is_long() {
        combined::reply_later(context, positions);
        return Ok(());
    }
    while positions.advance() == Progress::More {}
    positions.begin(context.reply);
    let found = positions.found.iter();
    found.for_each(|index| context.reply.count(*index));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Elements some of which are equal. A part has ten of the large ones, and thousands of the others.
    fn elements(number: usize, large: usize) -> Vec<Text> {
        let mut random = fastrand::Rng::with_seed(7);
        let text = |which: usize| match which % 2 {
            0 => vec![b'a' + which as u8; PART / 10].into(),
            _ => vec![b'a' + which as u8].into(),
        };
        let all = (0..number).map(|_| {
            if random.usize(0..number) < large {
                text(2 * random.usize(0..2))
            } else {
                text(1 + 2 * random.usize(0..2))
            }
        });
        all.collect()
    }

    fn list(elements: &[Text]) -> List {
        let mut list = List::default();
        for it in elements {
            list.push(End::Right, it.clone());
        }
        list
    }

    #[test]
    fn elements_are_found_and_removed_at_both_ends_in_parts_of_so_many_bytes() {
        for (number, large) in [(0, 0), (3, 2), (700, 700), (1_500, 300), (5_000, 10)] {
            let all = elements(number, large);
            for (item, from) in [0, 1, 2, 3]
                .into_iter()
                .flat_map(|it| [(it, End::Left), (it, End::Right)])
            {
                let item = match item % 2 {
                    0 => vec![b'a' + item; PART / 10].into(),
                    _ => Text::from(vec![b'a' + item]),
                };
                let matching: Vec<usize> = match from {
                    End::Left => (0..number).filter(|at| all[*at] == item).collect(),
                    End::Right => (0..number).rev().filter(|at| all[*at] == item).collect(),
                };
                let same = all
                    .iter()
                    .filter(|it| it.as_bytes().len() == item.as_bytes().len());
                let bytes = same.count() * item.as_bytes().len();
                for most in [1, 2, 50, usize::MAX] {
                    let mut search = ListSearch {
                        list: Snapshot(Arc::new(list(&all))),
                        item: item.clone(),
                        from,
                        passed: 0,
                        longest: usize::MAX,
                    };
                    let (mut found, mut parts) = (Vec::new(), 1);
                    while search.advance(|index| {
                        found.push(index);
                        found.len() < most
                    }) == Progress::More
                    {
                        parts += 1;
                    }
                    let wanted = &matching[..matching.len().min(most)];
                    assert_eq!(found, wanted);
                    let least = bytes / PART * 9 / 10;
                    assert!(most != usize::MAX || parts >= least, "{parts} parts");

                    let mut removal = Removal {
                        list: list(&all),
                        begun: None,
                        item: item.clone(),
                        from,
                        most,
                        result: List::default(),
                        removed: 0,
                    };
                    parts = 1;
                    while matches!(removal.advance(), Ok(Progress::More)) {
                        parts += 1;
                    }
                    assert!(most != usize::MAX || parts >= least, "{parts} parts");
                    let mut db = Database::default();
                    db.set(b"l", Value::List(Arc::new(list(&all))), 0);
                    removal.store(&mut db, b"l", &mut Reply::default());
                    let left = (0..number).filter(|at| !wanted.contains(at));
                    let left: Vec<&Text> = left.map(|at| &all[at]).collect();
                    let stored = db.list(b"l").ok().flatten().cloned().unwrap_or_default();
                    assert!(stored.iter().eq(left.iter().copied()));
                }
            }
        }
    }

    #[test]
    fn a_search_ends_at_its_longest() {
        let all = elements(100, 0);
        for (from, longest, wanted) in [
            (End::Left, 40, 0..40),
            (End::Right, 40, 60..100),
            (End::Right, 1_000, 0..100),
        ] {
            let mut search = ListSearch {
                list: Snapshot(Arc::new(list(&all))),
                item: all[50].clone(),
                from,
                passed: 0,
                longest,
            };
            let mut found = Vec::new();
            while search.advance(|index| {
                found.push(index);
                true
            }) == Progress::More
            {}
            found.sort_unstable();
            let matching = wanted.filter(|at| all[*at] == all[50]);
            assert_eq!(found, matching.collect::<Vec<_>>());
        }
    }
}

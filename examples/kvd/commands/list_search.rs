//! Commands that look for elements of a list. A long list takes several turns.

use std::io;
use std::sync::Arc;

use asynchat::{More, Producer};

use super::flag::{DENYOOM, READONLY, WRITE};
use super::long::Snapshot;
use super::stored::{self, Making};
use super::{Command, Context, Failure, Outcome, SYNTAX, command, count, fail, integer, long};
use crate::resp::reply::Reply;
use crate::resp::request::Args;
use crate::server::results::ResultMemory;
use crate::store::database::Database;
use crate::store::list::{End, List};
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

/// LREM: what was not looked at yet, and what stays.
struct Removal {
    list: List,
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

    fn advance(&mut self) -> Result<bool, Failure> {
        let Some(mut chunk) = self.list.pop_chunk(self.from) else {
            return Ok(false);
        };
        let matches = chunk.iter().filter(|it| **it == self.item).count();
        let removed = matches.min(self.most - self.removed);
        if removed > 0 {
            let mut skipped = match self.from {
                End::Left => 0,
                End::Right => matches - removed,
            };
            let mut left = removed;
            Arc::make_mut(&mut chunk).retain(|it| {
                if left == 0 || *it != self.item {
                    return true;
                }
                let is_kept = skipped > 0;
                match is_kept {
                    true => skipped -= 1,
                    false => left -= 1,
                }
                is_kept
            });
        }
        self.removed += removed;
        self.result.push_chunk(self.from.other(), chunk);
        Ok(self.removed < self.most)
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
struct Search {
    list: Snapshot<Arc<List>>,
    item: Text,
    from: End,
    /// How many elements were looked at, and how many are at most.
    passed: usize,
    longest: usize,
}

/// How many elements are looked at at a time.
const PART: usize = 2_000;

impl Search {
    /// Calls `found` with the index of each matching element of the next part, until that returns false. Returns
    /// whether there is more.
    fn advance(&mut self, mut found: impl FnMut(usize) -> bool) -> bool {
        let len = self.list.len().min(self.longest);
        let number = PART.min(len - self.passed);
        let (passed, item) = (self.passed, &self.item);
        self.passed += number;
        let is_open = match self.from {
            End::Left => {
                let part = self.list.range(passed..passed + number).zip(passed..);
                let mut matching = part.filter(|(it, _)| *it == item);
                matching.all(|(_, index)| found(index))
            }
            End::Right => {
                let end = self.list.len() - passed;
                let part = self.list.range(end - number..end).rev().zip(1..);
                let mut matching = part.filter(|(it, _)| *it == item);
                matching.all(|(_, behind)| found(end - behind))
            }
        };
        is_open && self.passed < len
    }
}

/// LINSERT.
struct Insertion {
    search: Search,
    behind: usize,
    item: Text,
    index: Option<usize>,
}

impl Making for Insertion {
    fn len(&self) -> usize {
        self.search.list.len()
    }

    fn advance(&mut self) -> Result<bool, Failure> {
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
            search: Search {
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
    search: Search,
    /// How many matching elements are still to be left out, and to be returned.
    skipped: usize,
    wanted: usize,
    /// Whether the reply is an array.
    are_many: bool,
    found: Vec<usize>,
    /// How many of them were encoded, once the reply has begun.
    encoded: Option<usize>,
    resp3: bool,
    memory: ResultMemory,
}

impl Positions {
    /// Returns whether there is more.
    fn advance(&mut self) -> bool {
        let (skipped, found, wanted) = (&mut self.skipped, &mut self.found, self.wanted);
        self.search.advance(|index| {
            match *skipped {
                0 => found.push(index),
                _ => *skipped -= 1,
            }
            found.len() < wanted
        })
    }

    /// Begins the reply. What was found follows.
    fn begin(&self, reply: &mut Reply) {
        match self.are_many {
            true => reply.array(self.found.len()),
            false if self.found.is_empty() => reply.null(),
            false => {}
        }
    }

    fn note_use(&mut self) -> io::Result<()> {
        let size = self.found.capacity() * size_of::<usize>();
        self.memory.note_use(size)
    }
}

impl Producer for Positions {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        let mut reply = Reply {
            resp3: self.resp3,
            ..Reply::default()
        };
        let Some(mut encoded) = self.encoded else {
            if !self.advance() {
                self.begin(&mut reply);
                self.encoded = Some(0);
            }
            self.note_use()?;
            return Ok(More::Chunk(reply.buffer.into()));
        };
        self.note_use()?;
        while reply.len() < budget.min(MOST_AT_ONCE)
            && let Some(index) = self.found.get(encoded)
        {
            reply.count(*index);
            encoded += 1;
        }
        self.encoded = Some(encoded);
        Ok(match reply.is_empty() {
            true => More::Done,
            false => More::Chunk(reply.buffer.into()),
        })
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
        search: Search {
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
        encoded: None,
        resp3: context.reply.resp3,
        memory: context.result_memory(),
    };
    if positions.search.list.len() > long::MANY {
        context.reply.produce(positions);
        return Ok(());
    }
    while positions.advance() {}
    positions.begin(context.reply);
    let found = positions.found.iter();
    found.for_each(|index| context.reply.count(*index));
    Ok(())
}

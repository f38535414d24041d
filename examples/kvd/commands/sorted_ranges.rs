//! Ranges of sorted sets: by rank, by score, and by the bytes of the members.

use std::ops::Range;
use std::sync::Arc;

use super::flag::{DENYOOM, FAST, READONLY, WRITE};
use super::long::Snapshot;
use super::sorted_removal::{self, Replies};
use super::stored::{self, Making};
use super::{Command, Context, Failure, Outcome, SYNTAX, command, fail, integer, long};
use crate::resp::reply::Reply;
use crate::resp::request::Args;
use crate::server::progress::Progress;
use crate::store::database::Database;
use crate::store::list;
use crate::store::number;
use crate::store::ranked::Scored;
use crate::store::sorted_set::{Bound, SortedSet};
use crate::store::text::Text;
use crate::store::value::Value;

pub(super) const TABLE: &[Command] = &[
    command(
        "zcount",
        4,
        READONLY | FAST,
        (1, 1, 1),
        "sorted-set",
        "Returns the count of members in a sorted set that have scores within a range.",
        |it, args| counted(it, args, By::Score),
    ),
    command(
        "zlexcount",
        4,
        READONLY | FAST,
        (1, 1, 1),
        "sorted-set",
        "Returns the number of members in a sorted set within a lexicographical range.",
        |it, args| counted(it, args, By::Lex),
    ),
    command(
        "zrange",
        -4,
        READONLY,
        (1, 1, 1),
        "sorted-set",
        "Returns members in a sorted set within a range of indexes.",
        |it, args| {
            let query = Query::parse(args, 1, By::Rank, false, true)?;
            query.reply(it, args)
        },
    ),
    command(
        "zrangebylex",
        -4,
        READONLY,
        (1, 1, 1),
        "sorted-set",
        "Returns members in a sorted set within a lexicographical range.",
        |it, args| {
            let query = Query::parse(args, 1, By::Lex, false, false)?;
            query.reply(it, args)
        },
    ),
    command(
        "zrangebyscore",
        -4,
        READONLY,
        (1, 1, 1),
        "sorted-set",
        "Returns members in a sorted set within a range of scores.",
        |it, args| {
            let query = Query::parse(args, 1, By::Score, false, false)?;
            query.reply(it, args)
        },
    ),
    command(
        "zrangestore",
        -5,
        WRITE | DENYOOM,
        (1, 2, 1),
        "sorted-set",
        "Stores a range of members from sorted set in a key.",
        |it, args| {
            let query = Query::parse(args, 2, By::Rank, false, true)?;
            query.store(it, args)
        },
    ),
    command(
        "zremrangebylex",
        4,
        WRITE,
        (1, 1, 1),
        "sorted-set",
        "Removes members in a sorted set within a lexicographical range. Deletes the sorted set if all members were removed.",
        |it, args| remove(it, args, By::Lex),
    ),
    command(
        "zremrangebyrank",
        4,
        WRITE,
        (1, 1, 1),
        "sorted-set",
        "Removes members in a sorted set within a range of indexes. Deletes the sorted set if all members were removed.",
        |it, args| remove(it, args, By::Rank),
    ),
    command(
        "zremrangebyscore",
        4,
        WRITE,
        (1, 1, 1),
        "sorted-set",
        "Removes members in a sorted set within a range of scores. Deletes the sorted set if all members were removed.",
        |it, args| remove(it, args, By::Score),
    ),
    command(
        "zrevrange",
        -4,
        READONLY,
        (1, 1, 1),
        "sorted-set",
        "Returns members in a sorted set within a range of indexes in reverse order.",
        |it, args| {
            let query = Query::parse(args, 1, By::Rank, true, false)?;
            query.reply(it, args)
        },
    ),
    command(
        "zrevrangebylex",
        -4,
        READONLY,
        (1, 1, 1),
        "sorted-set",
        "Returns members in a sorted set within a lexicographical range in reverse order.",
        |it, args| {
            let query = Query::parse(args, 1, By::Lex, true, false)?;
            query.reply(it, args)
        },
    ),
    command(
        "zrevrangebyscore",
        -4,
        READONLY,
        (1, 1, 1),
        "sorted-set",
        "Returns members in a sorted set within a range of scores in reverse order.",
        |it, args| {
            let query = Query::parse(args, 1, By::Score, true, false)?;
            query.reply(it, args)
        },
    ),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Lex,
}

/// A range, as the command gives it. The bounds are arguments.
struct Query {
    /// The argument that is the key.
    key: usize,
    by: By,
    is_reverse: bool,
    with_scores: bool,
    /// The arguments that are the lower and the upper bound.
    bounds: (usize, usize),
    offset: i64,
    count: i64,
}

impl Query {
    /// Reads the arguments from the key on. `is_new` is for ZRANGE, whose options say what the bounds are.
    fn parse(
        args: Args<'_>,
        key: usize,
        by: By,
        is_reverse: bool,
        is_new: bool,
    ) -> Result<Query, Failure> {
        let mut query = Query {
            key,
            by,
            is_reverse,
            with_scores: false,
            bounds: (key + 1, key + 2),
            offset: 0,
            count: -1,
        };
        let mut at = key + 3;
        while at < args.len() {
            let left = args.len() - at - 1;
            match args.option(at).as_slice() {
                b"withscores" if key == 1 => query.with_scores = true,
                b"limit" if left >= 2 => {
                    query.offset = integer(args.get(at + 1))?;
                    query.count = integer(args.get(at + 2))?;
                    at += 2;
                }
                b"rev" if is_new && !query.is_reverse => query.is_reverse = true,
                b"byscore" if is_new && query.by == By::Rank => query.by = By::Score,
                b"bylex" if is_new && query.by == By::Rank => query.by = By::Lex,
                _ => return Err(SYNTAX),
            }
            at += 1;
        }
        // As in Redis, LIMIT without a maximum is ignored.
        if query.count != -1 && query.by == By::Rank {
            return Err(fail(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if query.with_scores && query.by == By::Lex {
            return Err(fail(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        // By score and by bytes, the higher bound comes first in a reverse range.
        if query.is_reverse && query.by != By::Rank {
            query.bounds = (key + 2, key + 1);
        }
        Ok(query)
    }

    /// The ranks of the members. In a reverse range they are to be taken from the end.
    fn ranks(&self, set: Option<&SortedSet>, args: Args<'_>) -> Result<Range<usize>, Failure> {
        let (low, high) = self.bounds;
        let range = bounded(set, self.by, self.is_reverse, args.get(low), args.get(high))?;
        if self.by == By::Rank {
            return Ok(range);
        }
        let Ok(offset) = usize::try_from(self.offset) else {
            return Ok(0..0);
        };
        let most = usize::try_from(self.count).unwrap_or(usize::MAX);
        Ok(if self.is_reverse {
            let end = range.end.saturating_sub(offset).max(range.start);
            range.start.max(end.saturating_sub(most))..end
        } else {
            let start = range.start.saturating_add(offset).min(range.end);
            start..range.end.min(start.saturating_add(most))
        })
    }

    fn reply(&self, context: &mut Context<'_>, args: Args<'_>) -> Outcome {
        // The bounds are checked also if there is no set.
        self.ranks(None, args)?;
        let set = context.db().sorted(args.get(self.key))?.map(Arc::clone);
        let range = self.ranks(set.as_deref(), args)?;
        let pairs = self.with_scores && context.reply.resp3;
        context.reply.array(if self.with_scores && !pairs {
            2 * range.len()
        } else {
            range.len()
        });
        let Some(set) = set.filter(|_| !range.is_empty()) else {
            return Ok(());
        };
        let with_scores = self.with_scores;
        let encode = move |reply: &mut Reply, it: &Scored| {
            if pairs {
                reply.array(2);
            }
            reply.item(&it.member);
            if with_scores {
                reply.double(it.score);
            }
        };
        let bytes = || {
            let items = set.ranked.from(range.start).take(range.len());
            items.map(|it| it.member.as_bytes().len()).sum::<usize>()
        };
        if range.len() <= long::MANY && bytes() <= long::MANY_BYTES {
            if self.is_reverse {
                set.ranked
                    .before(range.end)
                    .take(range.len())
                    .for_each(|it| encode(context.reply, it));
            } else {
                set.ranked
                    .from(range.start)
                    .take(range.len())
                    .for_each(|it| encode(context.reply, it));
            }
            return Ok(());
        }
        // Only the order of the members is needed.
        let ranked = Snapshot(set.ranked.clone());
        let (mut range, is_reverse) = (range, self.is_reverse);
        long::reply_items(context.reply, move |reply| {
            let number = range.len().min(256);
            if is_reverse {
                ranked
                    .before(range.end)
                    .take(number)
                    .for_each(|it| encode(reply, it));
                range.end -= number;
            } else {
                ranked
                    .from(range.start)
                    .take(number)
                    .for_each(|it| encode(reply, it));
                range.start += number;
            }
            number > 0
        });
        Ok(())
    }

    fn store(self, context: &mut Context<'_>, args: Args<'_>) -> Outcome {
        self.ranks(None, args)?;
        let (source, target) = (Text::from(args.get(self.key)), args.get(1));
        let args = args.to_owned();
        stored::store(context, target, vec![source.clone()], move |db| {
            let set = db.sorted(source.as_bytes())?.cloned();
            Ok(Stored {
                ranks: self.ranks(set.as_deref(), args.args())?,
                set: Snapshot(set.unwrap_or_default()),
                result: SortedSet::default(),
            })
        })
    }
}

/// The members of a range, as a new sorted set.
struct Stored {
    set: Snapshot<Arc<SortedSet>>,
    /// The ranks of those that are still missing.
    ranks: Range<usize>,
    result: SortedSet,
}

/// How many members are stored at a time.
const PART: usize = 250;

impl Making for Stored {
    fn len(&self) -> usize {
        self.ranks.len()
    }

    fn advance(&mut self) -> Result<Progress, Failure> {
        let number = PART.min(self.ranks.len());
        for it in self.set.ranked.from(self.ranks.start).take(number) {
            self.result.insert(it.member.as_bytes(), it.score);
        }
        self.ranks.start += number;
        Ok(Progress::more_if(!self.ranks.is_empty()))
    }

    fn store(&mut self, db: &mut Database, target: &[u8], reply: &mut Reply) {
        let result = Value::Sorted(Arc::new(std::mem::take(&mut self.result)));
        stored::replace(db, target, result, reply);
    }
}

/// The ranks between two bounds.
fn bounded(
    set: Option<&SortedSet>,
    by: By,
    is_reverse: bool,
    low: &[u8],
    high: &[u8],
) -> Result<Range<usize>, Failure> {
    let len = set.map_or(0, SortedSet::len);
    Ok(match by {
        By::Rank => {
            let range = list::range(integer(low)?, integer(high)?, len);
            if is_reverse && !range.is_empty() {
                len - range.end..len - range.start
            } else {
                range
            }
        }
        By::Score => {
            let (low, high) = (score_bound(low)?, score_bound(high)?);
            set.map_or(0..0, |set| set.by_score(low, high))
        }
        By::Lex => {
            let (low, high) = (lex_bound(low)?, lex_bound(high)?);
            set.map_or(0..0, |set| set.by_lex(low, high))
        }
    })
}

fn score_bound(text: &[u8]) -> Result<Bound<f64>, Failure> {
    const NO_FLOAT: Failure = fail("ERR min or max is not a float");
    match text {
        [b'(', rest @ ..] => Ok(Bound::Exclusive(number::bound(rest).ok_or(NO_FLOAT)?)),
        text => Ok(Bound::Inclusive(number::bound(text).ok_or(NO_FLOAT)?)),
    }
}

fn lex_bound(text: &[u8]) -> Result<Bound<&[u8]>, Failure> {
    match text {
        b"-" => Ok(Bound::Lowest),
        b"+" => Ok(Bound::Highest),
        [b'(', rest @ ..] => Ok(Bound::Exclusive(rest)),
        [b'[', rest @ ..] => Ok(Bound::Inclusive(rest)),
        _ => Err(fail("ERR min or max not valid string range item")),
    }
}

fn counted(context: &mut Context<'_>, args: Args<'_>, by: By) -> Outcome {
    // The bounds are checked also if there is no set.
    bounded(None, by, false, args.get(2), args.get(3))?;
    let set = context.db().sorted(args.get(1))?;
    let range = bounded(set.map(|it| &**it), by, false, args.get(2), args.get(3))?;
    context.reply.count(range.len());
    Ok(())
}

fn remove(context: &mut Context<'_>, args: Args<'_>, by: By) -> Outcome {
    let key = args.get(1);
    bounded(None, by, false, args.get(2), args.get(3))?;
    let db = context.db();
    let Some(set) = db.sorted(key)? else {
        context.reply.integer(0);
        return Ok(());
    };
    let range = bounded(Some(set), by, false, args.get(2), args.get(3))?;
    if range.len() > long::MANY {
        return sorted_removal::remove(context, key, range, false, Replies::Number);
    }
    let members: Vec<_> = set
        .ranked
        .from(range.start)
        .take(range.len())
        .map(|it| it.member.clone())
        .collect();
    if !members.is_empty()
        && let Some(set) = db.sorted_mut(key)?
    {
        for member in &members {
            set.remove(member.as_bytes());
        }
    }
    let number = members.len();
    db.touch_elements(key, members.into_iter());
    db.remove_if_empty(key);
    context.reply.count(number);
    Ok(())
}

//! Sorted sets: members and scores. `sorted_ranges.rs` has the ranges.

use std::sync::Arc;

use super::flag::{BLOCKING, COUNTED, DENYOOM, FAST, NOSCRIPT, READONLY, TAKES, WRITE};
use super::list_moves::{awaited, check_number, number_of, timeout, wait};
use super::long::Snapshot;
use super::sample::{self, Wanted};
use super::sorted_removal::{self, Replies};
use super::{Command, Context, NOT_POSITIVE, Outcome, SYNTAX, command, count, fail, float, long};
use crate::resp::arg::Arg;
use crate::resp::reply::Reply;
use crate::resp::request::Args;
use crate::store::ranked::{Ranked, Scored};
use crate::store::sorted_set::SortedSet;

pub(super) const TABLE: &[Command] = &[
    command(
        "bzpopmax",
        -3,
        WRITE | TAKES | NOSCRIPT | FAST | BLOCKING,
        (1, -2, 1),
        "sorted-set",
        "Removes and returns the member with the highest score from one or more sorted sets. Blocks until a member available otherwise.  Deletes the sorted set if the last element was popped.",
        |it, args| block_pop(it, args, false),
    ),
    command(
        "bzpopmin",
        -3,
        WRITE | TAKES | NOSCRIPT | FAST | BLOCKING,
        (1, -2, 1),
        "sorted-set",
        "Removes and returns the member with the lowest score from one or more sorted sets. Blocks until a member is available otherwise. Deletes the sorted set if the last element was popped.",
        |it, args| block_pop(it, args, true),
    ),
    command(
        "zadd",
        -4,
        WRITE | DENYOOM | FAST,
        (1, 1, 1),
        "sorted-set",
        "Adds one or more members to a sorted set, or updates their scores. Creates the key if it doesn't exist.",
        zadd,
    ),
    command(
        "zcard",
        2,
        READONLY | FAST,
        (1, 1, 1),
        "sorted-set",
        "Returns the number of members in a sorted set.",
        zcard,
    ),
    command(
        "zincrby",
        4,
        WRITE | DENYOOM | FAST,
        (1, 1, 1),
        "sorted-set",
        "Increments the score of a member in a sorted set.",
        zincrby,
    ),
    command(
        "zmscore",
        -3,
        READONLY | FAST,
        (1, 1, 1),
        "sorted-set",
        "Returns the score of one or more members in a sorted set.",
        zmscore,
    ),
    command(
        "zpopmax",
        -2,
        WRITE | FAST | COUNTED | TAKES,
        (1, 1, 1),
        "sorted-set",
        "Returns the highest-scoring members from a sorted set after removing them. Deletes the sorted set if the last member was popped.",
        |it, args| pop(it, args, false),
    ),
    command(
        "zpopmin",
        -2,
        WRITE | FAST | COUNTED | TAKES,
        (1, 1, 1),
        "sorted-set",
        "Returns the lowest-scoring members from a sorted set after removing them. Deletes the sorted set if the last member was popped.",
        |it, args| pop(it, args, true),
    ),
    command(
        "zrandmember",
        -2,
        READONLY,
        (1, 1, 1),
        "sorted-set",
        "Returns one or more random members from a sorted set.",
        zrandmember,
    ),
    command(
        "zrank",
        3,
        READONLY | FAST,
        (1, 1, 1),
        "sorted-set",
        "Returns the index of a member in a sorted set ordered by ascending scores.",
        |it, args| rank(it, args, false),
    ),
    command(
        "zrem",
        -3,
        WRITE | FAST,
        (1, 1, 1),
        "sorted-set",
        "Removes one or more members from a sorted set. Deletes the sorted set if all members were removed.",
        zrem,
    ),
    command(
        "zrevrank",
        3,
        READONLY | FAST,
        (1, 1, 1),
        "sorted-set",
        "Returns the index of a member in a sorted set ordered by descending scores.",
        |it, args| rank(it, args, true),
    ),
    command(
        "zscore",
        3,
        READONLY | FAST,
        (1, 1, 1),
        "sorted-set",
        "Returns the score of a member in a sorted set.",
        zscore,
    ),
];

const NAN: super::Failure = fail("ERR resulting score is not a number (NaN)");

/// The options of ZADD.
#[derive(Default)]
struct Options {
    only_new: bool,
    only_old: bool,
    greater: bool,
    less: bool,
    changed: bool,
    increment: bool,
}

fn zadd(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let mut options = Options::default();
    let mut at = 2;
    while at < args.len() {
        match args.option(at).as_slice() {
            b"nx" => options.only_new = true,
            b"xx" => options.only_old = true,
            b"gt" => options.greater = true,
            b"lt" => options.less = true,
            b"ch" => options.changed = true,
            b"incr" => options.increment = true,
            _ => break,
        }
        at += 1;
    }
    let pairs = args.len() - at;
    if pairs == 0 || !pairs.is_multiple_of(2) {
        return Err(SYNTAX);
    }
    if options.only_new && options.only_old {
        return Err(fail(
            "ERR XX and NX options at the same time are not compatible",
        ));
    }
    if (options.greater && options.less) || (options.only_new && (options.greater || options.less))
    {
        return Err(fail(
            "ERR GT, LT, and/or NX options at the same time are not compatible",
        ));
    }
    if options.increment && pairs > 2 {
        return Err(fail(
            "ERR INCR option supports a single increment-element pair",
        ));
    }
    let mut entries = Vec::with_capacity(pairs / 2);
    for at in (at..args.len()).step_by(2) {
        entries.push((float(args.get(at))?, args.arg(at + 1)));
    }
    add(context, args.get(1), &entries, &options)
}

fn zincrby(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let options = Options {
        increment: true,
        ..Options::default()
    };
    let by = float(args.get(2))?;
    add(context, args.get(1), &[(by, args.arg(3))], &options)
}

fn add(
    context: &mut Context<'_>,
    key: &[u8],
    entries: &[(f64, Arg<'_>)],
    options: &Options,
) -> Outcome {
    let db = context.db();
    if db.sorted(key)?.is_none() && options.only_old {
        if options.increment {
            context.reply.null();
        } else {
            context.reply.integer(0);
        }
        return Ok(());
    }
    let (mut added, mut updated, mut result) = (0, 0, None);
    let mut changed = Vec::new();
    let set = db.sorted_or_new(key)?;
    for (score, member) in entries {
        let old = set.score(member.as_ref());
        let mut score = *score;
        if let (true, Some(old)) = (options.increment, old) {
            score += old;
            if score.is_nan() {
                return Err(NAN);
            }
        }
        let is_wanted = match old {
            None => !options.only_old,
            Some(old) => {
                !(options.only_new
                    || options.greater && score <= old
                    || options.less && score >= old)
            }
        };
        if !is_wanted {
            continue;
        }
        // A score of -0 is 0.
        score += 0.0;
        result = Some(score);
        if old != Some(score) {
            if set.insert(*member, score) {
                added += 1;
            } else {
                updated += 1;
            }
            changed.push(*member);
        }
    }
    db.touch_elements(key, changed.into_iter().map(Into::into));
    db.remove_if_empty(key);
    if added > 0 {
        db.signal(key);
    }
    match (options.increment, result) {
        (true, Some(score)) => context.reply.double(score),
        (true, None) => context.reply.null(),
        (false, _) if options.changed => context.reply.integer(added + updated),
        (false, _) => context.reply.integer(added),
    }
    Ok(())
}

fn zrem(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let key = args.get(1);
    let db = context.db();
    let mut removed = Vec::new();
    if let Some(set) = db.sorted_mut(key)? {
        removed.extend((2..args.len()).filter(|at| set.remove(args.get(*at))));
    }
    db.touch_elements(key, removed.iter().map(|at| args.text(*at)));
    db.remove_if_empty(key);
    context.reply.count(removed.len());
    Ok(())
}

fn zcard(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let len = context.db().sorted(args.get(1))?.map_or(0, |set| set.len());
    context.reply.count(len);
    Ok(())
}

fn zscore(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let score = context
        .db()
        .sorted(args.get(1))?
        .and_then(|set| set.score(args.get(2)));
    match score {
        Some(score) => context.reply.double(score),
        None => context.reply.null(),
    }
    Ok(())
}

fn zmscore(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let db = context
        .data
        .keyspace
        .database(context.client.database.load());
    let set = db.sorted(args.get(1))?;
    context.reply.array(args.len() - 2);
    for member in args.from(2) {
        match set.and_then(|set| set.score(member)) {
            Some(score) => context.reply.double(score),
            None => context.reply.null(),
        }
    }
    Ok(())
}

fn rank(context: &mut Context<'_>, args: Args<'_>, is_reverse: bool) -> Outcome {
    let set = context.db().sorted(args.get(1))?;
    let rank = set.and_then(|set| {
        let rank = set.rank(args.get(2))?;
        Some(if is_reverse {
            set.len() - 1 - rank
        } else {
            rank
        })
    });
    match rank {
        Some(rank) => context.reply.count(rank),
        None => context.reply.null(),
    }
    Ok(())
}

fn zrandmember(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let wanted = Wanted::parse(args, "withscores")?;
    let set = context.db().sorted(args.get(1))?.map(Arc::clone);
    let random = |ranked: &Ranked| ranked.random(|end| fastrand::usize(..end)).cloned();
    let Some(wanted) = wanted else {
        let member = set.and_then(|set| random(&set.ranked));
        context
            .reply
            .optional_item(member.map(|it| it.member).as_ref());
        return Ok(());
    };
    let Some(set) = set else {
        context.reply.array(0);
        return Ok(());
    };
    let (number, are_arrays) = wanted.begin(context.reply, set.len());
    let encode = move |reply: &mut Reply, it: &Scored| {
        if are_arrays {
            reply.array(2);
        }
        reply.item(&it.member);
        if wanted.in_pairs {
            reply.double(it.score);
        }
    };
    if wanted.is_repeated() {
        let ranked = Snapshot(set.ranked.clone());
        sample::repeated(context.reply, number, move |reply| {
            random(&ranked).map(|it| encode(reply, &it)).is_some()
        });
        return Ok(());
    }
    let memory = context.result_memory();
    let size = |it: &Scored| it.member.as_bytes().len();
    sample::distinct((context.reply, memory), &set.ranked, number, size, encode);
    Ok(())
}

/// Removes the member with the lowest or the highest score.
fn take(set: &mut SortedSet, is_lowest: bool) -> Option<Scored> {
    let found = if is_lowest {
        set.ranked.from(0).next()
    } else {
        set.ranked.before(set.len()).next()
    };
    let found = found?.clone();
    set.remove(found.member.as_bytes());
    Some(found)
}

fn pop(context: &mut Context<'_>, args: Args<'_>, is_lowest: bool) -> Outcome {
    let wanted = match args.len() {
        2 => None,
        3 => Some(count(args.get(2)).map_err(|_| NOT_POSITIVE)?),
        _ => return Err(SYNTAX),
    };
    // With a count, version 3 has a pair for each member.
    let in_pairs = wanted.is_some() && context.reply.resp3;
    let replies = Replies::Members {
        in_pairs,
        with_key: false,
    };
    pop_many(
        context,
        args.get(1),
        wanted.unwrap_or(1),
        is_lowest,
        replies,
    )
}

/// Removes members with the lowest or the highest scores, and replies with the key and a pair for each member.
pub(super) fn pop_with_key(
    context: &mut Context<'_>,
    key: &[u8],
    most: usize,
    is_lowest: bool,
) -> Outcome {
    let replies = Replies::Members {
        in_pairs: true,
        with_key: true,
    };
    pop_many(context, key, most, is_lowest, replies)
}

fn pop_many(
    context: &mut Context<'_>,
    key: &[u8],
    most: usize,
    is_lowest: bool,
    replies: Replies,
) -> Outcome {
    let db = context
        .data
        .keyspace
        .database(context.client.database.load());
    let len = db.sorted(key)?.map_or(0, |set| set.len());
    let number = most.min(len);
    if number > long::MANY {
        let ranks = if is_lowest {
            0..number
        } else {
            len - number..len
        };
        return sorted_removal::remove(context, key, ranks, !is_lowest, replies);
    }
    let in_pairs = sorted_removal::begin(context.reply, key, number, replies);
    let mut members = Vec::new();
    if number > 0
        && let Some(set) = db.sorted_mut(key)?
    {
        for taken in std::iter::from_fn(|| take(set, is_lowest)).take(number) {
            sorted_removal::encode(context.reply, &taken, in_pairs);
            members.push(taken.member);
        }
    }
    db.touch_elements(key, members.into_iter());
    db.remove_if_empty(key);
    Ok(())
}

fn block_pop(context: &mut Context<'_>, args: Args<'_>, is_lowest: bool) -> Outcome {
    let last = args.len() - 1;
    let seconds = timeout(args.get(last))?;
    check_number(&(1..last))?;
    let db = context.data.keyspace.database(number_of(context));
    for key in awaited(context.mode, args, 1..last) {
        if let Some(Scored { score, member }) =
            db.sorted_mut(key)?.and_then(|set| take(set, is_lowest))
        {
            context.reply.array(3);
            context.reply.bulk(key);
            context.reply.item(&member);
            context.reply.double(score);
            db.touch_element(key, || member);
            db.remove_if_empty(key);
            return Ok(());
        }
    }
    wait(context, args, 1..last, seconds, |it| it.reply.null_array())
}

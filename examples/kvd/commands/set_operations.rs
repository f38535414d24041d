//! Intersections, unions and differences of sets.

use std::sync::Arc;

use super::flag::{DENYOOM, READONLY, WRITE};
use super::{Command, Context, Failure, Outcome, SYNTAX, command, fail, long};
use crate::resp::request::Args;
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
        |it, args| reply(it, args, difference),
    ),
    command(
        "sdiffstore",
        -3,
        WRITE | DENYOOM,
        (1, -1, 1),
        "set",
        "Stores the difference of multiple sets in a key.",
        |it, args| store(it, args, difference),
    ),
    command(
        "sinter",
        -2,
        READONLY,
        (1, -1, 1),
        "set",
        "Returns the intersect of multiple sets.",
        |it, args| reply(it, args, intersection),
    ),
    command(
        "sintercard",
        -3,
        READONLY,
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
        |it, args| store(it, args, intersection),
    ),
    command(
        "sunion",
        -2,
        READONLY,
        (1, -1, 1),
        "set",
        "Returns the union of multiple sets.",
        |it, args| reply(it, args, union),
    ),
    command(
        "sunionstore",
        -3,
        WRITE | DENYOOM,
        (1, -1, 1),
        "set",
        "Stores the union of multiple sets in a key.",
        |it, args| store(it, args, union),
    ),
];

type Combine = fn(&[Arc<Set>]) -> Set;

/// The sets of these arguments. A key that is not there is an empty set.
fn sets(
    context: &mut Context<'_>,
    args: Args<'_>,
    range: std::ops::Range<usize>,
) -> Result<Vec<Arc<Set>>, Failure> {
    let db = context.db();
    let mut sets = Vec::new();
    for at in range {
        sets.push(
            db.members(args.get(at))?
                .map(Arc::clone)
                .unwrap_or_default(),
        );
    }
    Ok(sets)
}

fn intersection(sets: &[Arc<Set>]) -> Set {
    let mut result = Set::default();
    // The smallest set has the fewest candidates.
    if let Some(smallest) = sets.iter().min_by_key(|set| set.len()) {
        let is_in_all = |member: &&Text| sets.iter().all(|set| set.contains(member.as_bytes()));
        smallest
            .iter()
            .filter(is_in_all)
            .for_each(|it| result.insert_new(it.clone()));
    }
    result
}

fn union(sets: &[Arc<Set>]) -> Set {
    let mut result = Set::default();
    for member in sets.iter().flat_map(|set| set.iter()) {
        result.insert(member.clone());
    }
    result
}

fn difference(sets: &[Arc<Set>]) -> Set {
    let mut result = Set::default();
    if let [first, others @ ..] = sets {
        let is_in_none = |member: &&Text| !others.iter().any(|set| set.contains(member.as_bytes()));
        first
            .iter()
            .filter(is_in_none)
            .for_each(|it| result.insert_new(it.clone()));
    }
    result
}

fn reply(context: &mut Context<'_>, args: Args<'_>, combine: Combine) -> Outcome {
    let set = combine(&sets(context, args, 1..args.len())?);
    context.reply.set(set.len());
    set.iter()
        .for_each(|member| context.reply.bulk(member.as_bytes()));
    Ok(())
}

fn store(context: &mut Context<'_>, args: Args<'_>, combine: Combine) -> Outcome {
    let set = combine(&sets(context, args, 2..args.len())?);
    let len = set.len();
    let (db, target) = (context.db(), args.get(1));
    if db.contains(target)
        && let Some(old) = db.remove(target)
    {
        long::drop_later(old.value);
    }
    if len > 0 {
        db.set(target, Value::Set(Arc::new(set)), 0);
    }
    context.reply.count(len);
    Ok(())
}

fn sintercard(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let number = crate::store::number::integer(args.get(1)).filter(|it| *it > 0);
    let number = number.ok_or(fail("ERR numkeys should be greater than 0"))? as usize;
    if number > args.len() - 2 {
        return Err(fail(
            "ERR Number of keys can't be greater than number of args",
        ));
    }
    let limit = match args.len() - 2 - number {
        0 => 0,
        2 if args.is(2 + number, "limit") => {
            super::count(args.get(3 + number)).map_err(|_| fail("ERR LIMIT can't be negative"))?
        }
        _ => return Err(SYNTAX),
    };
    let len = intersection(&sets(context, args, 2..2 + number)?).len();
    context
        .reply
        .count(if limit == 0 { len } else { len.min(limit) });
    Ok(())
}

//! Lists.

use std::collections::VecDeque;
use std::sync::Arc;

use super::flag::{DENYOOM, FAST, READONLY, WRITE};
use super::{
    Command, Context, NO_SUCH_KEY, NOT_POSITIVE, Outcome, SYNTAX, command, count, fail, integer,
    long, wrong_arity,
};
use crate::disk::rows::place_name;
use crate::resp::request::Args;
use crate::store::database::{Database, WrongType};
use crate::store::list::{End, List, range};
use crate::store::text::Text;

pub(super) const TABLE: &[Command] = &[
    command(
        "lindex",
        3,
        READONLY,
        (1, 1, 1),
        "list",
        "Returns an element from a list by its index.",
        lindex,
    ),
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
        "llen",
        2,
        READONLY | FAST,
        (1, 1, 1),
        "list",
        "Returns the length of a list.",
        llen,
    ),
    command(
        "lpop",
        -2,
        WRITE | FAST,
        (1, 1, 1),
        "list",
        "Returns the first elements in a list after removing it. Deletes the list if the last element was popped.",
        |it, args| pop(it, args, End::Left),
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
        "lpush",
        -3,
        WRITE | DENYOOM | FAST,
        (1, 1, 1),
        "list",
        "Prepends one or more elements to a list. Creates the key if it doesn't exist.",
        |it, args| push(it, args, End::Left, false),
    ),
    command(
        "lpushx",
        -3,
        WRITE | DENYOOM | FAST,
        (1, 1, 1),
        "list",
        "Prepends one or more elements to a list only when the list exists.",
        |it, args| push(it, args, End::Left, true),
    ),
    command(
        "lrange",
        4,
        READONLY,
        (1, 1, 1),
        "list",
        "Returns a range of elements from a list.",
        lrange,
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
    command(
        "lset",
        4,
        WRITE | DENYOOM,
        (1, 1, 1),
        "list",
        "Sets the value of an element in a list by its index.",
        lset,
    ),
    command(
        "ltrim",
        4,
        WRITE,
        (1, 1, 1),
        "list",
        "Removes elements from both ends a list. Deletes the list if all elements were trimmed.",
        ltrim,
    ),
    command(
        "rpop",
        -2,
        WRITE | FAST,
        (1, 1, 1),
        "list",
        "Returns and removes the last elements of a list. Deletes the list if the last element was popped.",
        |it, args| pop(it, args, End::Right),
    ),
    command(
        "rpush",
        -3,
        WRITE | DENYOOM | FAST,
        (1, 1, 1),
        "list",
        "Appends one or more elements to a list. Creates the key if it doesn't exist.",
        |it, args| push(it, args, End::Right, false),
    ),
    command(
        "rpushx",
        -3,
        WRITE | DENYOOM | FAST,
        (1, 1, 1),
        "list",
        "Appends an element to a list only when the list exists.",
        |it, args| push(it, args, End::Right, true),
    ),
];

/// The name of the row of an element.
pub(super) fn row(place: i64) -> Text {
    place_name(place)[..].into()
}

fn push(context: &mut Context<'_>, args: Args<'_>, end: End, only_old: bool) -> Outcome {
    let key = args.get(1);
    let db = context.db();
    if only_old && db.list(key)?.is_none() {
        context.reply.integer(0);
        return Ok(());
    }
    let list = db.list_or_new(key)?;
    let mut first = None;
    for item in args.from(2) {
        let place = list.push(end, item.into());
        first.get_or_insert(place);
    }
    let len = list.items.len();
    let added = args.len() - 2;
    if let Some(first) = first {
        let step = if end == End::Left { -1 } else { 1 };
        for number in 0..added as i64 {
            db.touch_element(key, || row(first + step * number));
        }
    }
    db.signal(key);
    context.reply.count(len);
    Ok(())
}

fn pop(context: &mut Context<'_>, args: Args<'_>, end: End) -> Outcome {
    if args.len() > 3 {
        return Err(wrong_arity(if end == End::Left { "lpop" } else { "rpop" }));
    }
    let wanted = match args.len() {
        3 => Some(count(args.get(2)).map_err(|_| NOT_POSITIVE)?),
        _ => None,
    };
    let key = args.get(1);
    let db = context
        .data
        .keyspace
        .database(context.client.database.load());
    let Some(list) = db.list_mut(key)? else {
        match wanted {
            Some(_) => context.reply.null_array(),
            None => context.reply.null(),
        }
        return Ok(());
    };
    let number = wanted.unwrap_or(1).min(list.items.len());
    if wanted.is_some() {
        context.reply.array(number);
    }
    if number > long::MANY {
        let mut taken = remove_many(db, key, end, number)?;
        long::reply_items(context.reply, move |reply| {
            let item = match end {
                End::Left => taken.pop_front(),
                End::Right => taken.pop_back(),
            };
            item.map(|item| reply.bulk(item.as_bytes())).is_some()
        });
        return Ok(());
    }
    for _ in 0..number {
        let Some((item, place)) = db.list_mut(key)?.and_then(|list| list.pop(end)) else {
            break;
        };
        context.reply.bulk(item.as_bytes());
        db.touch_element(key, || row(place));
    }
    db.remove_if_empty(key);
    Ok(())
}

/// Removes elements at an end, and the key if there are no others.
fn remove_many(
    db: &mut Database,
    key: &[u8],
    end: End,
    number: usize,
) -> Result<VecDeque<Text>, WrongType> {
    let Some(list) = db.list_mut(key)? else {
        return Ok(VecDeque::new());
    };
    let len = list.items.len();
    let first = match end {
        End::Left => list.place(0),
        End::Right => list.place(len - number),
    };
    let taken = list.take(end, number);
    // The disk and those who watch learn of a removed key as a whole.
    if number < len {
        db.touch_main(key);
        if db.changes.is_some() {
            for place in (first..).take(number) {
                db.touch_element(key, || row(place));
            }
        }
    }
    db.remove_if_empty(key);
    Ok(taken)
}

fn llen(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let len = context
        .db()
        .list(args.get(1))?
        .map_or(0, |list| list.items.len());
    context.reply.count(len);
    Ok(())
}

/// The index of an element, which may count from the end.
fn index_in(list: &List, index: i64) -> Option<usize> {
    let index = match index {
        0.. => index,
        _ => index + list.items.len() as i64,
    };
    usize::try_from(index)
        .ok()
        .filter(|index| *index < list.items.len())
}

fn lindex(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let db = context
        .data
        .keyspace
        .database(context.client.database.load());
    let Some(list) = db.list(args.get(1))? else {
        context.reply.null();
        return Ok(());
    };
    let index = index_in(list, integer(args.get(2))?);
    let item = index.and_then(|index| list.items.get(index));
    context.reply.optional(item.map(Text::as_bytes));
    Ok(())
}

fn lset(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let key = args.get(1);
    let db = context.db();
    let list = db.list_mut(key)?.ok_or(NO_SUCH_KEY)?;
    let index = index_in(list, integer(args.get(2))?).ok_or(fail("ERR index out of range"))?;
    list.items[index] = args.get(3).into();
    let place = list.place(index);
    db.touch_element(key, || row(place));
    context.ok()
}

fn lrange(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (start, stop) = (integer(args.get(2))?, integer(args.get(3))?);
    let db = context
        .data
        .keyspace
        .database(context.client.database.load());
    let Some(list) = db.list(args.get(1))? else {
        context.reply.array(0);
        return Ok(());
    };
    let range = range(start, stop, list.items.len());
    context.reply.array(range.len());
    let sizes = list.items.range(range.clone());
    if !long::are_many(sizes.map(|item| item.as_bytes().len())) {
        list.items
            .range(range)
            .for_each(|item| context.reply.bulk(item.as_bytes()));
        return Ok(());
    }
    let (list, mut range) = (Arc::clone(list), range);
    long::reply_items(context.reply, move |reply| {
        let item = range.next().and_then(|index| list.items.get(index));
        item.map(|item| reply.bulk(item.as_bytes())).is_some()
    });
    Ok(())
}

fn ltrim(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let key = args.get(1);
    let (start, stop) = (integer(args.get(2))?, integer(args.get(3))?);
    let db = context.db();
    if let Some(list) = db.list(key)? {
        let len = list.items.len();
        let range = range(start, stop, len);
        for (end, number) in [(End::Right, len - range.end), (End::Left, range.start)] {
            if number > long::MANY {
                long::drop_later(remove_many(db, key, end, number)?);
                continue;
            }
            for _ in 0..number {
                if let Some((_, place)) = db.list_mut(key)?.and_then(|list| list.pop(end)) {
                    db.touch_element(key, || row(place));
                }
            }
        }
        // As in Redis, a transaction that watches the list fails also if nothing was removed.
        db.touch_main(key);
        db.remove_if_empty(key);
    }
    context.ok()
}

fn lrem(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (key, wanted, item) = (args.get(1), integer(args.get(2))?, args.get(3));
    let db = context.db();
    let mut removed = 0;
    if let Some(list) = db.list_mut(key)? {
        let most = match wanted {
            0 => usize::MAX,
            wanted => wanted.unsigned_abs() as usize,
        };
        let mut is_kept = |it: &Text| {
            let is_removed = removed < most && it.as_bytes() == item;
            removed += usize::from(is_removed);
            !is_removed
        };
        match wanted < 0 {
            false => list.items.retain(is_kept),
            true => {
                let kept: Vec<Text> = list
                    .items
                    .drain(..)
                    .rev()
                    .filter(|it| is_kept(it))
                    .collect();
                list.items = kept.into_iter().rev().collect();
            }
        }
        if removed > 0 {
            db.touch(key);
            db.remove_if_empty(key);
        }
    }
    context.reply.count(removed);
    Ok(())
}

fn linsert(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let key = args.get(1);
    let behind = match () {
        () if args.is(2, "before") => 0,
        () if args.is(2, "after") => 1,
        () => return Err(SYNTAX),
    };
    let db = context.db();
    let len = match db.list_mut(key)? {
        None => 0,
        Some(list) => match list
            .items
            .iter()
            .position(|it| it.as_bytes() == args.get(3))
        {
            None => -1,
            Some(index) => {
                list.items.insert(index + behind, args.get(4).into());
                let len = list.items.len() as i64;
                db.touch(key);
                db.signal(key);
                len
            }
        },
    };
    context.reply.integer(len);
    Ok(())
}

fn lpos(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (mut rank, mut most, mut longest) = (1, None, 0);
    for at in (3..args.len()).step_by(2) {
        if at + 1 == args.len() {
            return Err(SYNTAX);
        }
        let value = args.get(at + 1);
        match args.get(at).to_ascii_lowercase().as_slice() {
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
    let wanted = match most {
        None => 1,
        Some(0) => usize::MAX,
        Some(most) => most,
    };
    let longest = if longest == 0 { usize::MAX } else { longest };
    let skipped = rank.unsigned_abs() as usize - 1;
    let item = args.get(2);
    let db = context
        .data
        .keyspace
        .database(context.client.database.load());
    let mut found: Vec<usize> = Vec::new();
    if let Some(list) = db.list(args.get(1))? {
        let is_match = |(_, it): &(usize, &Text)| it.as_bytes() == item;
        let all = list.items.iter().enumerate();
        match rank > 0 {
            true => found.extend(
                all.take(longest)
                    .filter(is_match)
                    .skip(skipped)
                    .take(wanted)
                    .map(|it| it.0),
            ),
            false => found.extend(
                all.rev()
                    .take(longest)
                    .filter(is_match)
                    .skip(skipped)
                    .take(wanted)
                    .map(|it| it.0),
            ),
        }
    }
    match most {
        Some(_) => {
            context.reply.array(found.len());
            found.iter().for_each(|index| context.reply.count(*index));
        }
        None => match found.first() {
            Some(index) => context.reply.count(*index),
            None => context.reply.null(),
        },
    }
    Ok(())
}

//! Lists.

use super::flag::{COUNTED, DENYOOM, FAST, READONLY, TAKES, WRITE};
use super::long::Snapshot;
use super::{
    Command, Context, NO_SUCH_KEY, NOT_POSITIVE, Outcome, command, count, fail, integer, long,
    wrong_arity,
};
use crate::resp::request::Args;
use crate::store::change::element_name;
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
        WRITE | FAST | COUNTED | TAKES,
        (1, 1, 1),
        "list",
        "Returns the first elements in a list after removing it. Deletes the list if the last element was popped.",
        |it, args| pop(it, args, End::Left),
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
        WRITE | FAST | COUNTED | TAKES,
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
pub(super) fn row(number: i64) -> Text {
    element_name(number)[..].into()
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
    for at in 2..args.len() {
        let number = list.push(end, args.text(at));
        first.get_or_insert(number);
    }
    let len = list.len();
    let added = args.len() - 2;
    if let Some(first) = first {
        let step = if end == End::Left { -1 } else { 1 };
        let numbers = (0..added).map(|number| row(first + step * number as i64));
        db.touch_elements(key, numbers);
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
    let number = wanted.unwrap_or(1).min(list.len());
    if wanted.is_some() {
        context.reply.array(number);
    }
    take(context, key, end, number)
}

/// Removes so many elements at an end of a list, which has as many, and replies with each.
pub(super) fn take(context: &mut Context<'_>, key: &[u8], end: End, number: usize) -> Outcome {
    let db = context
        .data
        .keyspace
        .database(context.client.database.load());
    if number > long::MANY {
        let mut taken = Snapshot(remove_many(db, key, end, number)?);
        long::reply_items(context.reply, move |reply| {
            let item = taken.pop(end);
            item.map(|(item, _)| reply.item(&item)).is_some()
        });
        return Ok(());
    }
    let mut taken = Vec::new();
    if let Some(list) = db.list_mut(key)? {
        for (item, number) in std::iter::from_fn(|| list.pop(end)).take(number) {
            context.reply.item(&item);
            taken.push(number);
        }
    }
    db.touch_elements(key, taken.into_iter().map(row));
    db.remove_if_empty(key);
    Ok(())
}

/// Removes elements at an end, and the key if there are no others.
fn remove_many(db: &mut Database, key: &[u8], end: End, number: usize) -> Result<List, WrongType> {
    let Some(list) = db.list_mut(key)? else {
        return Ok(List::default());
    };
    let len = list.len();
    let first = match end {
        End::Left => list.number(0),
        End::Right => list.number(len - number),
    };
    let taken = list.take(end, number);
    // The disk and those who watch learn of a removed key as a whole.
    if number < len {
        db.touch_removed(key, first..first + number as i64);
    }
    db.remove_if_empty(key);
    Ok(taken)
}

fn llen(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let len = context.db().list(args.get(1))?.map_or(0, |list| list.len());
    context.reply.count(len);
    Ok(())
}

/// The index of an element, which may count from the end.
fn index_in(list: &List, index: i64) -> Option<usize> {
    let index = match index {
        0.. => index,
        _ => index + list.len() as i64,
    };
    usize::try_from(index)
        .ok()
        .filter(|index| *index < list.len())
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
    let item = index.and_then(|index| list.get(index));
    context.reply.optional_item(item);
    Ok(())
}

fn lset(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let key = args.get(1);
    let db = context.db();
    let list = db.list_mut(key)?.ok_or(NO_SUCH_KEY)?;
    let index = index_in(list, integer(args.get(2))?).ok_or(fail("ERR index out of range"))?;
    if let Some(item) = list.get_mut(index) {
        *item = args.text(3);
    }
    let number = list.number(index);
    db.touch_element(key, || row(number));
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
    let range = range(start, stop, list.len());
    let number = range.len();
    context.reply.array(number);
    let sizes = list.range(range.clone());
    if !long::are_many(number, sizes.map(|item| item.as_bytes().len())) {
        list.range(range).for_each(|item| context.reply.item(item));
        return Ok(());
    }
    let mut wanted = Snapshot(List::clone(list));
    wanted.take(End::Right, list.len() - range.end);
    wanted.take(End::Left, range.start);
    long::reply_items(context.reply, move |reply| {
        let item = wanted.pop(End::Left);
        item.map(|(item, _)| reply.item(&item)).is_some()
    });
    Ok(())
}

fn ltrim(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let key = args.get(1);
    let (start, stop) = (integer(args.get(2))?, integer(args.get(3))?);
    let db = context.db();
    if let Some(list) = db.list(key)? {
        let len = list.len();
        let range = range(start, stop, len);
        for (end, number) in [(End::Right, len - range.end), (End::Left, range.start)] {
            if number > long::MANY {
                long::drop_later(remove_many(db, key, end, number)?);
                continue;
            }
            let mut taken = Vec::new();
            if number > 0
                && let Some(list) = db.list_mut(key)?
            {
                let popped = std::iter::from_fn(|| list.pop(end)).take(number);
                taken.extend(popped.map(|(_, number)| row(number)));
            }
            db.touch_elements(key, taken.into_iter());
        }
        // As in Redis, a transaction that watches the list fails also if nothing was removed.
        db.touch_main(key);
        db.remove_if_empty(key);
    }
    context.ok()
}

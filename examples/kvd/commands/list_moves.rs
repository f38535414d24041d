//! Elements that move between lists, and commands that wait for an element.

use super::flag::{BLOCKING, DENYOOM, NOSCRIPT, TAKES, WRITE};
use super::lists::row;
use super::{Command, Context, Failure, Mode, Outcome, SYNTAX, command, fail, table};
use crate::resp::request::Args;
use crate::server::client::Blocked;
use crate::store::list::End;
use crate::store::number;

pub(super) const TABLE: &[Command] = &[
    command(
        "blmove",
        6,
        WRITE | DENYOOM | NOSCRIPT | BLOCKING,
        (1, 2, 1),
        "list",
        "Pops an element from a list, pushes it to another list and returns it. Blocks until an element is available otherwise. Deletes the list if the last element was moved.",
        |it, args| {
            let ends = (end(args, 3)?, end(args, 4)?);
            block_move(it, args, ends, 5)
        },
    ),
    command(
        "blpop",
        -3,
        WRITE | TAKES | NOSCRIPT | BLOCKING,
        (1, -2, 1),
        "list",
        "Removes and returns the first element in a list. Blocks until an element is available otherwise. Deletes the list if the last element was popped.",
        |it, args| block_pop(it, args, End::Left),
    ),
    command(
        "brpop",
        -3,
        WRITE | TAKES | NOSCRIPT | BLOCKING,
        (1, -2, 1),
        "list",
        "Removes and returns the last element in a list. Blocks until an element is available otherwise. Deletes the list if the last element was popped.",
        |it, args| block_pop(it, args, End::Right),
    ),
    command(
        "brpoplpush",
        4,
        WRITE | DENYOOM | NOSCRIPT | BLOCKING,
        (1, 2, 1),
        "list",
        "Pops an element from a list, pushes it to another list and returns it. Block until an element is available otherwise. Deletes the list if the last element was popped.",
        |it, args| block_move(it, args, (End::Right, End::Left), 3),
    ),
    command(
        "lmove",
        5,
        WRITE | DENYOOM,
        (1, 2, 1),
        "list",
        "Returns an element after popping it from one list and pushing it to another. Deletes the list if the last element was moved.",
        |it, args| {
            let ends = (end(args, 3)?, end(args, 4)?);
            reply_moved(it, args, ends)
        },
    ),
    command(
        "rpoplpush",
        3,
        WRITE | DENYOOM,
        (1, 2, 1),
        "list",
        "Returns the last element of a list after removing and pushing it to another list. Deletes the list if the last element was popped.",
        |it, args| reply_moved(it, args, (End::Right, End::Left)),
    ),
];

fn end(args: Args<'_>, at: usize) -> Result<End, Failure> {
    match () {
        () if args.is(at, "left") => Ok(End::Left),
        () if args.is(at, "right") => Ok(End::Right),
        () => Err(SYNTAX),
    }
}

/// The longest time to wait.
const MOST_MILLISECONDS: f64 = i64::MAX as f64;

/// The time to wait in seconds. 0 is for ever.
pub(super) fn timeout(text: &[u8]) -> Result<f64, Failure> {
    let seconds = number::float(text);
    let seconds = seconds.ok_or(fail("ERR timeout is not a float or out of range"))?;
    // Redis counts milliseconds in 64 bits: a time that has more is negative. A float is not exact there.
    let has_more = number::integer(text).is_some_and(|it| it.checked_mul(1000).is_none());
    match (seconds * 1000.0).ceil() {
        _ if has_more => Err(fail("ERR timeout is negative")),
        0.0..=MOST_MILLISECONDS => Ok(seconds.max(0.0)),
        _ => Err(fail("ERR timeout is negative")),
    }
}

/// A client waits for so many keys at most: its place in the queue of each is taken at once.
const MOST_KEYS: usize = 10_000;

pub(super) fn check_number(keys: &std::ops::Range<usize>) -> Outcome {
    if keys.len() <= MOST_KEYS {
        Ok(())
    } else {
        Err(fail(
            "ERR too many keys for a command that waits (10000 at most)",
        ))
    }
}

/// The keys from which a command takes an element: if it has waited for one, the one that has received some.
pub(super) fn awaited<'a>(
    mode: Mode<'a>,
    args: Args<'a>,
    keys: std::ops::Range<usize>,
) -> impl Iterator<Item = &'a [u8]> {
    let keys = keys.map(move |at| args.get(at));
    keys.filter(move |key| match mode {
        Mode::Serving(ready) => *key == ready,
        Mode::Request | Mode::Exec => true,
    })
}

/// Waits for an element of one of the keys, unless the command may not wait. `null` is the reply then.
pub(super) fn wait(
    context: &mut Context<'_>,
    args: Args<'_>,
    keys: std::ops::Range<usize>,
    seconds: f64,
    null: fn(&mut Context<'_>),
) -> Outcome {
    match context.mode {
        Mode::Serving(_) => {}
        Mode::Exec => null(context),
        Mode::Request => {
            let name = args.get(0).to_ascii_lowercase();
            let Some(command) = table().get(name.as_slice()).copied() else {
                return Err(SYNTAX);
            };
            let blocked = Blocked {
                ticket: 0,
                command,
                args: args.to_owned(),
                database: context.client.database.load(),
                keys: keys.map(|at| args.text(at)).collect(),
                timer: None,
            };
            context
                .data
                .block(context.client, context.chat, blocked, seconds);
        }
    }
    Ok(())
}

fn block_pop(context: &mut Context<'_>, args: Args<'_>, end: End) -> Outcome {
    let last = args.len() - 1;
    let seconds = timeout(args.get(last))?;
    check_number(&(1..last))?;
    let db = context.data.keyspace.database(number_of(context));
    for key in awaited(context.mode, args, 1..last) {
        if let Some((item, number)) = db.list_mut(key)?.and_then(|list| list.pop(end)) {
            context.reply.array(2);
            context.reply.bulk(key);
            context.reply.item(&item);
            db.touch_element(key, || row(number));
            db.remove_if_empty(key);
            return Ok(());
        }
    }
    wait(context, args, 1..last, seconds, |it| it.reply.null_array())
}

/// The database that the client has selected, or had when it began to wait.
pub(super) fn number_of(context: &Context<'_>) -> usize {
    context.client.database.load()
}

/// Moves an element. Returns whether there was one.
fn move_item(
    context: &mut Context<'_>,
    args: Args<'_>,
    (from, to): (End, End),
) -> Result<bool, Failure> {
    let (source, target) = (args.get(1), args.get(2));
    let db = context.data.keyspace.database(number_of(context));
    if db.list(source)?.is_none() {
        return Ok(false);
    }
    // The type of the target is checked before the element is taken.
    db.list(target)?;
    let Some((item, number)) = db.list_mut(source)?.and_then(|list| list.pop(from)) else {
        return Ok(false);
    };
    db.touch_element(source, || row(number));
    context.reply.item(&item);
    if source != target {
        db.remove_if_empty(source);
    }
    let number = db.list_or_new(target)?.push(to, item);
    db.touch_element(target, || row(number));
    db.signal(target);
    Ok(true)
}

fn reply_moved(context: &mut Context<'_>, args: Args<'_>, ends: (End, End)) -> Outcome {
    if !move_item(context, args, ends)? {
        context.reply.null();
    }
    Ok(())
}

fn block_move(
    context: &mut Context<'_>,
    args: Args<'_>,
    ends: (End, End),
    timeout_at: usize,
) -> Outcome {
    let seconds = timeout(args.get(timeout_at))?;
    if move_item(context, args, ends)? {
        return Ok(());
    }
    wait(context, args, 1..2, seconds, |it| it.reply.null())
}

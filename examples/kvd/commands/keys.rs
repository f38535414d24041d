//! Keys of any type.

use super::flag::{DANGEROUS, DENYOOM, FAST, READONLY, REMOVES, WRITE};
use super::{
    Command, Context, Failure, NO_SUCH_KEY, Outcome, SYNTAX, command, container, fail, integer,
    long,
};
use crate::resp::request::Args;
use crate::store::database::{Database, Entry};
use crate::store::keyspace::DATABASES;
use crate::store::table::size_of_entry;
use crate::store::value::Value;

pub(super) const TABLE: &[Command] = &[
    command(
        "copy",
        -3,
        WRITE | DENYOOM,
        (1, 2, 1),
        "generic",
        "Copies the value of a key to a new key.",
        copy,
    ),
    command(
        "dbsize",
        1,
        READONLY | FAST,
        (0, 0, 0),
        "server",
        "Returns the number of keys in the database.",
        dbsize,
    ),
    command(
        "del",
        -2,
        WRITE | REMOVES,
        (1, -1, 1),
        "generic",
        "Deletes one or more keys.",
        del,
    ),
    command(
        "exists",
        -2,
        READONLY | FAST,
        (1, -1, 1),
        "generic",
        "Determines whether one or more keys exist.",
        exists,
    ),
    command(
        "flushall",
        -1,
        WRITE | REMOVES | DANGEROUS,
        (0, 0, 0),
        "server",
        "Removes all keys from all databases.",
        flushall,
    ),
    command(
        "flushdb",
        -1,
        WRITE | REMOVES | DANGEROUS,
        (0, 0, 0),
        "server",
        "Remove all keys from the current database.",
        flushdb,
    ),
    command(
        "keys",
        2,
        READONLY | DANGEROUS,
        (0, 0, 0),
        "generic",
        "Returns all key names that match a pattern.",
        long::keys,
    ),
    command(
        "move",
        3,
        WRITE | FAST,
        (1, 1, 1),
        "generic",
        "Moves a key to another database.",
        move_key,
    ),
    container(
        "memory",
        "server",
        "A container for memory diagnostics commands.",
        MEMORY,
    ),
    container(
        "object",
        "generic",
        "A container for object introspection commands.",
        OBJECT,
    ),
    command(
        "randomkey",
        1,
        READONLY,
        (0, 0, 0),
        "generic",
        "Returns a random key name from the database.",
        randomkey,
    ),
    command(
        "rename",
        3,
        WRITE,
        (1, 2, 1),
        "generic",
        "Renames a key and overwrites the destination.",
        |it, args| rename(it, args, false),
    ),
    command(
        "renamenx",
        3,
        WRITE | FAST,
        (1, 2, 1),
        "generic",
        "Renames a key only when the target key name doesn't exist.",
        |it, args| rename(it, args, true),
    ),
    command(
        "swapdb",
        3,
        WRITE | FAST | DANGEROUS,
        (0, 0, 0),
        "server",
        "Swaps two Redis databases.",
        swapdb,
    ),
    command(
        "touch",
        -2,
        READONLY | FAST,
        (1, -1, 1),
        "generic",
        "Returns the number of existing keys out of those specified after updating the time they were last accessed.",
        exists,
    ),
    command(
        "type",
        2,
        READONLY | FAST,
        (1, 1, 1),
        "generic",
        "Determines the type of value stored at a key.",
        type_of,
    ),
    command(
        "unlink",
        -2,
        WRITE | REMOVES | FAST,
        (1, -1, 1),
        "generic",
        "Asynchronously deletes one or more keys.",
        del,
    ),
];

const OBJECT: &[Command] = &[
    command(
        "object|encoding",
        3,
        READONLY,
        (2, 2, 1),
        "generic",
        "Returns the internal encoding of an object.",
        encoding,
    ),
    command(
        "object|refcount",
        3,
        READONLY,
        (2, 2, 1),
        "generic",
        "Returns the reference count of a value of a key.",
        refcount,
    ),
];

const MEMORY: &[Command] = &[command(
    "memory|usage",
    -3,
    READONLY,
    (2, 2, 1),
    "server",
    "Estimates the memory usage of a key.",
    usage,
)];

fn del(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let db = context.db();
    let mut count = 0;
    for key in args.from(1) {
        count += usize::from(db.contains(key) && db.delete(key));
    }
    context.reply.count(count);
    Ok(())
}

fn exists(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let db = context.db();
    let count = args.from(1).filter(|key| db.contains(key)).count();
    context.reply.count(count);
    Ok(())
}

fn type_of(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let name = context
        .db()
        .find(args.get(1))
        .map_or("none", Value::type_name);
    context.reply.simple(name);
    Ok(())
}

fn dbsize(context: &mut Context<'_>, _: Args<'_>) -> Outcome {
    let len = context.db().len();
    context.reply.count(len);
    Ok(())
}

fn randomkey(context: &mut Context<'_>, _: Args<'_>) -> Outcome {
    for _ in 0..100 {
        let found = context
            .db()
            .table()
            .random(fastrand::u64(..))
            .map(|entry| entry.key.clone());
        let Some(key) = found else { break };
        // It may have expired.
        if context.db().contains(key.as_bytes()) {
            context.reply.bulk(key.as_bytes());
            return Ok(());
        }
    }
    context.reply.null();
    Ok(())
}

fn rename(context: &mut Context<'_>, args: Args<'_>, only_new: bool) -> Outcome {
    let (from, to) = (args.get(1), args.get(2));
    let db = context.db();
    if !db.contains(from) {
        return Err(NO_SUCH_KEY);
    }
    if only_new && db.contains(to) {
        context.reply.integer(0);
        return Ok(());
    }
    if from != to {
        db.rename(from, to);
        db.signal(to);
    }
    if only_new {
        context.reply.integer((from != to).into());
    } else {
        context.reply.ok();
    }
    Ok(())
}

/// The number of a database.
pub(super) fn database(text: &[u8]) -> Result<usize, Failure> {
    let number = i32::try_from(integer(text)?);
    existing(number.map_err(|_| {
        fail("ERR value is out of range, value must between -2147483648 and 2147483647")
    })?)
}

fn existing(database: i32) -> Result<usize, Failure> {
    let number = usize::try_from(database).ok();
    number
        .filter(|number| *number < DATABASES)
        .ok_or(fail("ERR DB index is out of range"))
}

fn move_key(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let key = args.get(1);
    let to = database(args.get(2))?;
    let from = context.client.database.load();
    if to == from {
        return Err(fail("ERR source and destination objects are the same"));
    }
    let is_free = !context.data.keyspace.database(to).contains(key);
    let is_moved = is_free
        && context.db().contains(key)
        && context.db().remove(key).is_some_and(|entry| {
            let db = context.data.keyspace.database(to);
            db.set(key, entry.value, entry.expires);
            db.note_stale(key);
            db.signal(key);
            true
        });
    context.reply.boolean(is_moved);
    Ok(())
}

fn copy(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (mut to, mut replaces) = (context.client.database.load(), false);
    let mut at = 3;
    while at < args.len() {
        match () {
            () if args.is(at, "replace") => replaces = true,
            () if args.is(at, "db") && at + 1 < args.len() => {
                to = database(args.get(at + 1))?;
                at += 1;
            }
            () => return Err(SYNTAX),
        }
        at += 1;
    }
    if to == context.client.database.load() && args.get(1) == args.get(2) {
        return Err(fail("ERR source and destination objects are the same"));
    }
    // A string is shared. The first of the two that changes has to copy it.
    if let Some(value) = context.db().find_mut(args.get(1)) {
        value.share();
    }
    let found = context
        .db()
        .entry(args.get(1))
        .map(|entry| (entry.value.clone(), entry.expires));
    let db = context.data.keyspace.database(to);
    let is_copied = match found {
        Some((value, expires)) if replaces || !db.contains(args.get(2)) => {
            db.set(args.get(2), value, expires);
            db.note_stale(args.get(2));
            db.signal(args.get(2));
            true
        }
        _ => false,
    };
    context.reply.boolean(is_copied);
    Ok(())
}

fn swapdb(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let number = |index: usize, text| {
        let number = integer(args.get(index))
            .ok()
            .and_then(|it| it.try_into().ok());
        number.ok_or(fail(text))
    };
    let first = number(1, "ERR invalid first DB index")?;
    let second = number(2, "ERR invalid second DB index")?;
    let (first, second) = (existing(first)?, existing(second)?);
    context.data.keyspace.swap(first, second);
    context.ok()
}

fn check_flush(args: Args<'_>) -> Outcome {
    match args.len() {
        1 => Ok(()),
        2 if args.is(1, "sync") || args.is(1, "async") => Ok(()),
        _ => Err(SYNTAX),
    }
}

fn flushdb(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    check_flush(args)?;
    context.db().clear();
    context.ok()
}

fn flushall(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    check_flush(args)?;
    context.data.keyspace.databases().for_each(Database::clear);
    context.ok()
}

fn encoding(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    match context.db().find(args.get(2)).map(Value::encoding) {
        Some(name) => context.reply.text(name),
        None => context.reply.null(),
    }
    Ok(())
}

/// No value is shared between keys, except by COPY until one of them changes.
fn refcount(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    if context.db().contains(args.get(2)) {
        context.reply.integer(1);
    } else {
        context.reply.null();
    }
    Ok(())
}

fn usage(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let mut samples = 5;
    for at in (3..args.len()).step_by(2) {
        if at + 1 == args.len() || !args.is(at, "samples") {
            return Err(SYNTAX);
        }
        samples = match integer(args.get(at + 1))? {
            ..0 => return Err(SYNTAX),
            // All of a small collection.
            0 => usize::MAX,
            number => number as usize,
        };
    }
    let found = context.db().entry(args.get(2)).map(|entry| {
        // The table has 8 slots for 7 entries at most, and a byte of its own for each slot.
        size_of_entry::<Entry>() + entry.key.heap() + entry.value.heap(samples)
    });
    match found {
        Some(bytes) => context.reply.count(bytes),
        None => context.reply.null(),
    }
    Ok(())
}

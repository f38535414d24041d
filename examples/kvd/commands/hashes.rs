//! Hashes.

use std::sync::Arc;

use super::counters::float_sum;
use super::flag::{DENYOOM, FAST, READONLY, WRITE};
use super::long::Snapshot;
use super::sample::{self, Wanted};
use super::{Command, Context, Outcome, command, fail, integer, long, wrong_arity};
use crate::resp::reply::Reply;
use crate::resp::request::Args;
use crate::store::hash::{Field, Hash};
use crate::store::number;
use crate::store::table::Table;

pub(super) const TABLE: &[Command] = &[
    command(
        "hdel",
        -3,
        WRITE | FAST,
        (1, 1, 1),
        "hash",
        "Deletes one or more fields and their values from a hash. Deletes the hash if no fields remain.",
        hdel,
    ),
    command(
        "hexists",
        3,
        READONLY | FAST,
        (1, 1, 1),
        "hash",
        "Determines whether a field exists in a hash.",
        hexists,
    ),
    command(
        "hget",
        3,
        READONLY | FAST,
        (1, 1, 1),
        "hash",
        "Returns the value of a field in a hash.",
        hget,
    ),
    command(
        "hgetall",
        2,
        READONLY,
        (1, 1, 1),
        "hash",
        "Returns all fields and values in a hash.",
        |it, args| all(it, args, FieldParts::Both),
    ),
    command(
        "hincrby",
        4,
        WRITE | DENYOOM | FAST,
        (1, 1, 1),
        "hash",
        "Increments the integer value of a field in a hash by a number. Uses 0 as initial value if the field doesn't exist.",
        hincrby,
    ),
    command(
        "hincrbyfloat",
        4,
        WRITE | DENYOOM | FAST,
        (1, 1, 1),
        "hash",
        "Increments the floating point value of a field by a number. Uses 0 as initial value if the field doesn't exist.",
        hincrbyfloat,
    ),
    command(
        "hkeys",
        2,
        READONLY,
        (1, 1, 1),
        "hash",
        "Returns all fields in a hash.",
        |it, args| all(it, args, FieldParts::Names),
    ),
    command(
        "hlen",
        2,
        READONLY | FAST,
        (1, 1, 1),
        "hash",
        "Returns the number of fields in a hash.",
        hlen,
    ),
    command(
        "hmget",
        -3,
        READONLY | FAST,
        (1, 1, 1),
        "hash",
        "Returns the values of all fields in a hash.",
        hmget,
    ),
    command(
        "hmset",
        -4,
        WRITE | DENYOOM | FAST,
        (1, 1, 1),
        "hash",
        "Sets the values of multiple fields.",
        hset,
    ),
    command(
        "hrandfield",
        -2,
        READONLY,
        (1, 1, 1),
        "hash",
        "Returns one or more random fields from a hash.",
        hrandfield,
    ),
    command(
        "hset",
        -4,
        WRITE | DENYOOM | FAST,
        (1, 1, 1),
        "hash",
        "Creates or modifies the value of a field in a hash.",
        hset,
    ),
    command(
        "hsetnx",
        4,
        WRITE | DENYOOM | FAST,
        (1, 1, 1),
        "hash",
        "Sets the value of a field in a hash only when the field doesn't exist.",
        hsetnx,
    ),
    command(
        "hstrlen",
        3,
        READONLY | FAST,
        (1, 1, 1),
        "hash",
        "Returns the length of the value of a field.",
        hstrlen,
    ),
    command(
        "hvals",
        2,
        READONLY,
        (1, 1, 1),
        "hash",
        "Returns all values in a hash.",
        |it, args| all(it, args, FieldParts::Values),
    ),
];

fn hset(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let is_hmset = args.is(0, "hmset");
    if !args.len().is_multiple_of(2) {
        return Err(wrong_arity(if is_hmset { "hmset" } else { "hset" }));
    }
    let key = args.get(1);
    let db = context.db();
    let hash = db.hash_or_new(key)?;
    let pairs = (2..args.len()).step_by(2);
    let added = pairs
        .clone()
        .filter(|at| hash.insert(args.arg(*at), args.text(*at + 1)));
    let added = added.count();
    db.touch_elements(key, pairs.map(|at| args.text(at)));
    if is_hmset {
        context.reply.ok();
    } else {
        context.reply.count(added);
    }
    Ok(())
}

fn hsetnx(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (key, name) = (args.get(1), args.get(2));
    let db = context.db();
    let is_new = db.hash(key)?.is_none_or(|hash| hash.find(name).is_none());
    if is_new {
        db.hash_or_new(key)?.insert(args.arg(2), args.text(3));
        db.touch_element(key, || args.text(2));
    }
    context.reply.boolean(is_new);
    Ok(())
}

fn hget(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let db = context
        .data
        .keyspace
        .database(context.client.database.load());
    let value = db
        .hash(args.get(1))?
        .and_then(|hash| hash.find(args.get(2)));
    context.reply.optional_item(value);
    Ok(())
}

fn hmget(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let db = context
        .data
        .keyspace
        .database(context.client.database.load());
    let hash = db.hash(args.get(1))?;
    context.reply.array(args.len() - 2);
    let encode = |reply: &mut Reply, hash: Option<&Arc<Hash>>, name: &[u8]| {
        let value = hash.and_then(|hash| hash.find(name));
        reply.optional_item(value);
    };
    for at in 2..args.len() {
        if long::is_long(context.reply) {
            let (hash, args, mut rest) = (hash.cloned(), args.to_owned(), at..args.len());
            long::reply_items(context.reply, move |reply| {
                let next = rest.next();
                next.map(|at| encode(reply, hash.as_ref(), args.args().get(at)))
                    .is_some()
            });
            break;
        }
        encode(context.reply, hash, args.get(at));
    }
    Ok(())
}

fn hexists(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let hash = context.db().hash(args.get(1))?;
    let is_there = hash.is_some_and(|hash| hash.find(args.get(2)).is_some());
    context.reply.boolean(is_there);
    Ok(())
}

fn hstrlen(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let hash = context.db().hash(args.get(1))?;
    let len = hash
        .and_then(|hash| hash.find(args.get(2)))
        .map_or(0, |it| it.as_bytes().len());
    context.reply.count(len);
    Ok(())
}

fn hlen(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let len = context.db().hash(args.get(1))?.map_or(0, |hash| hash.len());
    context.reply.count(len);
    Ok(())
}

fn hdel(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let key = args.get(1);
    let db = context.db();
    let mut removed = Vec::new();
    if let Some(hash) = db.hash_mut(key)? {
        removed.extend((2..args.len()).filter(|at| hash.remove(args.get(*at))));
    }
    db.touch_elements(key, removed.iter().map(|at| args.text(*at)));
    db.remove_if_empty(key);
    context.reply.count(removed.len());
    Ok(())
}

fn hincrby(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (key, name, by) = (args.get(1), args.get(2), integer(args.get(3))?);
    let db = context.db();
    let old = match db.hash(key)?.and_then(|hash| hash.find(name)) {
        None => 0,
        Some(value) => {
            number::integer(value.as_bytes()).ok_or(fail("ERR hash value is not an integer"))?
        }
    };
    let sum = old.checked_add(by).ok_or(super::OVERFLOW)?;
    let mut digits = number::Digits::default();
    db.hash_or_new(key)?
        .insert(name, number::decimal(sum, &mut digits).into());
    db.touch_element(key, || name.into());
    context.reply.integer(sum);
    Ok(())
}

fn hincrbyfloat(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (key, name, by) = (args.get(1), args.get(2), args.get(3));
    if super::float(by)?.is_infinite() {
        return Err(fail("ERR value is NaN or Infinity"));
    }
    let db = context.db();
    let old = match db.hash(key)?.and_then(|hash| hash.find(name)) {
        None => b"0",
        Some(value) => value.as_bytes(),
    };
    let sum = float_sum(old, by, fail("ERR hash value is not a float"))?;
    db.hash_or_new(key)?.insert(name, sum.as_bytes().into());
    db.touch_element(key, || name.into());
    context.reply.text(&sum);
    Ok(())
}

/// What of each field is in the reply.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FieldParts {
    Names,
    Values,
    Both,
}

fn encode(reply: &mut Reply, field: &Field, parts: FieldParts) {
    if parts != FieldParts::Values {
        reply.item(&field.name);
    }
    if parts != FieldParts::Names {
        reply.item(&field.value);
    }
}

fn size(field: &Field) -> usize {
    field.name.as_bytes().len() + field.value.as_bytes().len()
}

fn are_many(table: &Table<Field>) -> bool {
    long::are_many(table.len(), table.iter().map(size))
}

fn all(context: &mut Context<'_>, args: Args<'_>, parts: FieldParts) -> Outcome {
    let db = context
        .data
        .keyspace
        .database(context.client.database.load());
    let hash = db.hash(args.get(1))?.cloned();
    let len = hash.as_ref().map_or(0, |hash| hash.len());
    match parts {
        FieldParts::Both => context.reply.map(len),
        _ => context.reply.array(len),
    }
    match hash.as_deref() {
        None => {}
        Some(Hash::Small(fields)) => fields
            .iter()
            .for_each(|it| encode(context.reply, it, parts)),
        Some(Hash::Large(table)) if !are_many(table) => {
            table.iter().for_each(|it| encode(context.reply, it, parts));
        }
        Some(Hash::Large(table)) => {
            let (table, mut segment) = (Snapshot(table.clone()), 0);
            long::reply_items(context.reply, move |reply| {
                let fields = table.segment(segment);
                segment += 1;
                fields
                    .map(|fields| fields.for_each(|it| encode(reply, it, parts)))
                    .is_some()
            });
        }
    }
    Ok(())
}

fn hrandfield(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let wanted = Wanted::parse(args, "withvalues")?;
    let hash = context.db().hash(args.get(1))?.map(Arc::clone);
    let Some(wanted) = wanted else {
        let field = hash
            .as_ref()
            .and_then(|hash| hash.random(fastrand::u64(..)));
        context.reply.optional_item(field.map(|it| &it.name));
        return Ok(());
    };
    let Some(hash) = hash else {
        context.reply.array(0);
        return Ok(());
    };
    let (number, are_arrays) = wanted.begin(context.reply, hash.len());
    let parts = if wanted.in_pairs {
        FieldParts::Both
    } else {
        FieldParts::Names
    };
    let encode_one = move |reply: &mut Reply, field: &Field| {
        if are_arrays {
            reply.array(2);
        }
        encode(reply, field, parts);
    };
    if wanted.is_repeated() {
        sample::repeated(context.reply, number, move |reply| {
            let field = hash.random(fastrand::u64(..));
            field.map(|field| encode_one(reply, field)).is_some()
        });
        return Ok(());
    }
    match &*hash {
        Hash::Large(table) => {
            let memory = context.result_memory();
            sample::distinct((context.reply, memory), table, number, size, encode_one);
        }
        Hash::Small(fields) => {
            let mut found: Vec<&Field> = fields.iter().collect();
            if number < found.len() {
                fastrand::shuffle(&mut found);
            }
            let found = found.into_iter().take(number);
            found.for_each(|field| encode_one(context.reply, field));
        }
    }
    Ok(())
}

//! Strings.

use std::collections::HashMap;
use std::io;

use foldhash::quality::RandomState;

use super::expiry::Unit;
use super::flag::{DENYOOM, FAST, READONLY, SHORT, TAKES, WRITE};
use super::found::{Found, Values};
use super::long::Snapshot;
use super::{
    Command, Context, Failure, Outcome, SYNTAX, command, expiry, integer, long, wrong_arity,
};
use crate::resp::request::Args;
use crate::server::results::ResultMemory;
use crate::store::database::WrongType;
use crate::store::number::Digits;
use crate::store::value::{SHARED, Value};

pub(super) const TABLE: &[Command] = &[
    command(
        "get",
        2,
        READONLY | FAST,
        (1, 1, 1),
        "string",
        "Returns the string value of a key.",
        get,
    ),
    command(
        "getdel",
        2,
        WRITE | TAKES | FAST,
        (1, 1, 1),
        "string",
        "Returns the string value of a key after deleting the key.",
        getdel,
    ),
    command(
        "getex",
        -2,
        WRITE | FAST,
        (1, 1, 1),
        "string",
        "Returns the string value of a key after setting its expiration time.",
        getex,
    ),
    command(
        "getset",
        3,
        WRITE | TAKES | DENYOOM | FAST,
        (1, 1, 1),
        "string",
        "Returns the previous string value of a key after setting it to a new value.",
        getset,
    ),
    command(
        "mget",
        -2,
        READONLY | FAST,
        (1, -1, 1),
        "string",
        "Atomically returns the string values of one or more keys.",
        mget,
    ),
    command(
        "mset",
        -3,
        WRITE | DENYOOM,
        (1, -1, 2),
        "string",
        "Atomically creates or modifies the string values of one or more keys.",
        mset,
    ),
    command(
        "msetnx",
        -3,
        WRITE | DENYOOM,
        (1, -1, 2),
        "string",
        "Atomically modifies the string values of one or more keys only when all keys don't exist.",
        msetnx,
    ),
    command(
        "psetex",
        4,
        WRITE | DENYOOM | SHORT,
        (1, 1, 1),
        "string",
        "Sets both string value and expiration time in milliseconds of a key. The key is created if it doesn't exist.",
        |it, args| setex(it, args, 1),
    ),
    command(
        "set",
        -3,
        WRITE | DENYOOM | SHORT,
        (1, 1, 1),
        "string",
        "Sets the string value of a key, ignoring its type. The key is created if it doesn't exist.",
        set,
    ),
    command(
        "setex",
        4,
        WRITE | DENYOOM | SHORT,
        (1, 1, 1),
        "string",
        "Sets the string value and expiration time of a key. Creates the key if it doesn't exist.",
        |it, args| setex(it, args, 1000),
    ),
    command(
        "setnx",
        3,
        WRITE | DENYOOM | FAST,
        (1, 1, 1),
        "string",
        "Set the string value of a key only when the key doesn't exist.",
        setnx,
    ),
    command(
        "strlen",
        2,
        READONLY | FAST,
        (1, 1, 1),
        "string",
        "Returns the length of a string value.",
        strlen,
    ),
];

/// The value of an argument.
#[inline]
pub(super) fn value(args: Args<'_>, index: usize) -> Value {
    match args.get(index).len() {
        0..16_384 => Value::string(args.get(index)),
        _ => Value::from_bytes(args.bytes(index)),
    }
}

/// Replies with the string of a key.
#[inline]
fn reply_string(context: &mut Context<'_>, key: &[u8]) -> Outcome {
    let database = context
        .data
        .keyspace
        .database(context.client.database.load());
    let found = database.find(key);
    let is_found = found.is_some();
    match found {
        None => context.reply.null(),
        Some(Value::Shared(data)) => context.reply.bytes(data),
        Some(Value::Growing(data)) if data.len() >= SHARED => {
            if let Some(data) = database.find_mut(key).and_then(Value::share) {
                context.reply.bytes(data);
            }
        }
        Some(value) => {
            let mut digits = Digits::default();
            context
                .reply
                .bulk(value.text(&mut digits).ok_or(WrongType)?);
        }
    }
    context.note_lookup(is_found);
    Ok(())
}

fn get(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    reply_string(context, args.get(1))
}

fn getdel(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    reply_string(context, args.get(1))?;
    context.db().remove(args.get(1));
    Ok(())
}

fn getset(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    reply_string(context, args.get(1))?;
    context.db().set(args.get(1), value(args, 2), 0);
    Ok(())
}

fn getex(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let now = context.data.keyspace.now();
    let mut persists = false;
    let mut time: Option<(Unit, usize)> = None;
    let mut at = 2;
    while at < args.len() {
        match args.option(at).as_slice() {
            b"persist" if time.is_none() => persists = true,
            option if !persists => {
                at += 1;
                time = Some((repeated_unit(option, time, at, args)?, at));
            }
            _ => return Err(SYNTAX),
        }
        at += 1;
    }
    let is_string = context.db().find(args.get(1)).map(Value::is_string);
    let expires = match time {
        // The time is of interest for a string only.
        Some((unit, at)) if is_string == Some(true) => {
            Some(unit.time(args.get(at), now, "getex")?)
        }
        _ => persists.then_some(0),
    };
    reply_string(context, args.get(1))?;
    if let Some(expires) = expires {
        expiry::apply(context.db(), args.get(1), expires);
    }
    Ok(())
}

/// The unit that an option names, whose time is this argument. The same option may be given twice, another one not.
fn repeated_unit(
    option: &[u8],
    earlier: Option<(Unit, usize)>,
    at: usize,
    args: Args<'_>,
) -> Result<Unit, Failure> {
    let unit = Unit::of(option).filter(|_| at < args.len());
    let unit = unit.filter(|unit| earlier.is_none_or(|(earlier, _)| earlier == *unit));
    unit.ok_or(SYNTAX)
}

fn set(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let key = args.get(1);
    if args.len() == 3 {
        context.db().set(key, value(args, 2), 0);
        return context.ok();
    }
    let now = context.data.keyspace.now();
    let (mut only_new, mut only_old, mut keep, mut get) = (false, false, false, false);
    let mut time: Option<(Unit, usize)> = None;
    let mut at = 3;
    while at < args.len() {
        match args.option(at).as_slice() {
            b"nx" if !only_old => only_new = true,
            b"xx" if !only_new => only_old = true,
            b"get" => get = true,
            b"keepttl" if time.is_none() => keep = true,
            option if !keep => {
                at += 1;
                time = Some((repeated_unit(option, time, at, args)?, at));
            }
            _ => return Err(SYNTAX),
        }
        at += 1;
    }
    let expires = time.map(|(unit, at)| unit.time(args.get(at), now, "set"));
    let expires = expires.transpose()?;
    let old = context
        .db()
        .entry(key)
        .map(|entry| (entry.expires, entry.value.is_string()));
    if get {
        reply_string(context, key)?;
        context.reply.has_taken = true;
    }
    if (only_new && old.is_some()) || (only_old && old.is_none()) {
        if !get {
            context.reply.null();
        }
        return Ok(());
    }
    let kept = old.map_or(0, |(expires, _)| expires);
    let expires = expires.unwrap_or(if keep { kept } else { 0 });
    let value = value(args, 2);
    let db = context.db();
    if expires != 0 && expires <= db.now {
        // A time that is over removes the key. A watch of the key counts this as a change.
        db.delete(key);
        db.touch(key);
    } else {
        db.set(key, value, expires);
    }
    if !get {
        context.reply.ok();
    }
    Ok(())
}

fn setnx(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let is_new = !context.db().contains(args.get(1));
    if is_new {
        context.db().set(args.get(1), value(args, 2), 0);
    }
    context.reply.boolean(is_new);
    Ok(())
}

fn setex(context: &mut Context<'_>, args: Args<'_>, unit: i64) -> Outcome {
    let name = if unit == 1 { "psetex" } else { "setex" };
    let now = context.data.keyspace.now();
    let expires = expiry::after(integer(args.get(2))?, unit, now, name)?;
    context.db().set(args.get(1), value(args, 3), expires);
    context.ok()
}

fn mget(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    context.reply.array(args.len() - 1);
    for at in 1..args.len() {
        if long::is_long(context.reply) {
            mget_later(context, args, at);
            break;
        }
        if reply_string(context, args.get(at)).is_err() {
            context.reply.null();
        }
    }
    Ok(())
}

/// A request of some bytes for each key may have a reply of thousands for each. The values are taken now, each once, and
/// encoded while the reply is sent. A snapshot of the keys would take less time here. But then each change of any key would
/// copy a part of the table, and all old values would stay until the client has read the reply.
fn mget_later(context: &mut Context<'_>, args: Args<'_>, from: usize) {
    let mut taken = Taken::default();
    let mut known = HashMap::with_hasher(RandomState::default());
    let mut memory = context.result_memory();
    for key in args.from(from) {
        let number = known.entry(key).or_insert_with(|| {
            let found = context.db().find(key);
            taken.add(found.map(Found::of))
        });
        taken.numbers.push(*number);
        taken.size += size_of::<u32>();
        context.note_lookup(taken.are_there[*number as usize]);
        // The memory is not noted for each key, because that takes a lock of all workers.
        let is_last = taken.numbers.len() == args.len() - from;
        if (is_last || taken.size - taken.noted > long::MANY_BYTES)
            && let Err(why) = taken.note(&mut memory)
        {
            // Nothing that follows, such as the next reply of EXEC, may be taken for the rest.
            let mut why = Some(why);
            return long::reply_parts(context.reply, move |_, _| {
                Err(why
                    .take()
                    .unwrap_or_else(|| io::Error::other("the reply is incomplete")))
            });
        }
    }
    let mut numbers = std::mem::take(&mut taken.numbers).into_iter();
    long::reply_parts(context.reply, move |reply, budget| {
        memory.note_use(taken.size)?;
        while long::has_room(reply, budget)
            && let Some(number) = numbers.next()
        {
            match &taken.values.0.0[number as usize] {
                Some(value) => value.encode(reply),
                None => reply.null(),
            }
        }
        Ok(())
    });
}

/// The values that a long MGET has found so far.
#[derive(Default)]
struct Taken {
    values: Snapshot<Values>,
    /// Whether there is such a key. It may be none of a string.
    are_there: Vec<bool>,
    /// For each key of the request, the number of its value.
    numbers: Vec<u32>,
    /// The bytes of memory of all this, when they were noted last, and now.
    noted: usize,
    size: usize,
}

impl Taken {
    /// Adds the string of a key, if the key is there, and if it has a string. Returns the number of the value.
    fn add(&mut self, found: Option<Option<Found>>) -> u32 {
        self.are_there.push(found.is_some());
        let value = found.flatten();
        self.size += size_of_val(&value) + 1 + value.as_ref().map_or(0, Found::size_of_copy);
        self.values.0.0.push(value);
        self.are_there.len() as u32 - 1
    }

    fn note(&mut self, memory: &mut ResultMemory) -> io::Result<()> {
        self.noted = self.size;
        memory.note_use(self.size)
    }
}

fn mset(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    set_pairs(context, args, "mset")?;
    context.ok()
}

fn msetnx(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let is_new = (1..args.len())
        .step_by(2)
        .all(|at| !context.db().contains(args.get(at)));
    if is_new {
        set_pairs(context, args, "msetnx")?;
    } else if args.len().is_multiple_of(2) {
        return Err(wrong_arity("msetnx"));
    }
    context.reply.boolean(is_new);
    Ok(())
}

fn set_pairs(context: &mut Context<'_>, args: Args<'_>, name: &str) -> Outcome {
    if args.len().is_multiple_of(2) {
        return Err(wrong_arity(name));
    }
    let db = context.db();
    for at in (1..args.len()).step_by(2) {
        db.set(args.get(at), value(args, at + 1), 0);
    }
    Ok(())
}

fn strlen(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let mut digits = Digits::default();
    let len = match context.db().find(args.get(1)) {
        None => 0,
        Some(value) => value.text(&mut digits).ok_or(WrongType)?.len(),
    };
    context.reply.count(len);
    Ok(())
}

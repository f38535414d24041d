//! COMMAND: what the table says.

use super::docs::document;
use super::flag::{self, BLOCKING, FAST, LOADING, MOVABLEKEYS, READONLY, STALE, WRITE};
use super::key_flags::key_flags;
use super::{Command, Context, Failure, Outcome, SYNTAX, command, fail, long, pattern, table};
use crate::commands;
use crate::resp::reply::Reply;
use crate::resp::request::Args;
use crate::store::{glob, number};

pub(super) const TABLE: &[Command] = &[Command {
    name: "command",
    arity: -1,
    flags: LOADING | STALE,
    keys: (0, 0, 0),
    group: "server",
    summary: "Returns detailed information about all commands.",
    run: all,
    index: 0,
    subcommands: &[
        command(
            "command|count",
            2,
            LOADING | STALE,
            (0, 0, 0),
            "server",
            "Returns a count of commands.",
            |it, _| {
                it.reply.count(table().len());
                Ok(())
            },
        ),
        command(
            "command|docs",
            -2,
            LOADING | STALE,
            (0, 0, 0),
            "server",
            "Returns documentary information about one, multiple or all commands.",
            docs,
        ),
        command(
            "command|getkeys",
            -4,
            LOADING | STALE,
            (0, 0, 0),
            "server",
            "Extracts the key names from an arbitrary command.",
            getkeys,
        ),
        command(
            "command|getkeysandflags",
            -4,
            LOADING | STALE,
            (0, 0, 0),
            "server",
            "Extracts the key names and access flags for an arbitrary command.",
            getkeysandflags,
        ),
        command(
            "command|info",
            -2,
            LOADING | STALE,
            (0, 0, 0),
            "server",
            "Returns information about one, multiple or all commands.",
            info,
        ),
        command(
            "command|list",
            -2,
            LOADING | STALE,
            (0, 0, 0),
            "server",
            "Returns a list of command names.",
            list,
        ),
    ],
}];

/// A command, or a subcommand by a name such as `config|get`.
fn find_any(name: &[u8]) -> Option<&'static Command> {
    let name = name.to_ascii_lowercase();
    let Some(at) = name.iter().position(|byte| *byte == b'|') else {
        return find(&name);
    };
    let mut subcommands = find(&name[..at])?.subcommands.iter();
    subcommands.find(|it| it.name.as_bytes() == name)
}

/// All commands in the order of their names.
fn sorted() -> Vec<&'static Command> {
    let mut all: Vec<_> = table().values().copied().collect();
    all.sort_unstable_by_key(|command| command.name);
    all
}

fn find(name: &[u8]) -> Option<&'static Command> {
    table().get(name.to_ascii_lowercase().as_slice()).copied()
}

fn all(context: &mut Context<'_>, _: Args<'_>) -> Outcome {
    let all = sorted();
    context.reply.array(all.len());
    all.iter()
        .for_each(|command| describe(context.reply, command));
    Ok(())
}

fn info(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    if args.len() == 2 {
        return all(context, args);
    }
    context.reply.array(args.len() - 2);
    encode_all(
        context.reply,
        args.from(2).map(find_any).collect(),
        |reply, found| match found {
            Some(command) => describe(reply, command),
            None => reply.null(),
        },
    );
    Ok(())
}

/// A name of some bytes may have a description of thousands, and may be repeated. So only the beginning of a long reply is
/// made at once.
fn encode_all<T: Send + 'static>(reply: &mut Reply, all: Vec<T>, encode: fn(&mut Reply, T)) {
    let mut all = all.into_iter();
    while !long::is_long(reply) {
        let Some(item) = all.next() else { return };
        encode(reply, item);
    }
    long::reply_items(reply, move |reply| {
        let Some(item) = all.next() else { return false };
        encode(reply, item);
        true
    });
}

/// The ten fields of COMMAND INFO.
fn describe(reply: &mut Reply, command: &Command) {
    reply.array(10);
    reply.text(command.name);
    reply.integer(command.arity.into());
    let flags: Vec<&str> = flag::NAMES
        .iter()
        .enumerate()
        .filter(|(bit, _)| command.flags & 1 << bit != 0)
        .map(|(_, name)| *name)
        .collect();
    reply.set(flags.len());
    flags.iter().for_each(|name| reply.simple(name));
    let (first, last, step) = command.keys;
    [first, last, step]
        .iter()
        .for_each(|it| reply.integer((*it).into()));
    let categories = categories(command);
    reply.set(categories.len());
    categories.iter().for_each(|name| reply.simple(name));
    reply.array(0);
    reply.array(0);
    reply.array(command.subcommands.len());
    command
        .subcommands
        .iter()
        .for_each(|sub| describe(reply, sub));
}

fn categories(command: &Command) -> Vec<String> {
    let has = |flags: u32| command.flags & flags != 0;
    let mut names = Vec::new();
    for name in families(command) {
        names.push(format!("@{name}"));
    }
    for (is_in, name) in [
        (has(READONLY), "read"),
        (has(WRITE), "write"),
        (has(flag::ADMIN), "admin"),
        (has(flag::ADMIN | flag::DANGEROUS), "dangerous"),
        (has(flag::BLOCKING), "blocking"),
        (has(FAST), "fast"),
        (!has(FAST), "slow"),
    ] {
        if is_in {
            names.push(format!("@{name}"));
        }
    }
    names
}

/// The categories that say what a command is for. Some are not those of its group.
fn families(command: &Command) -> &'static [&'static str] {
    match (command.name, command.group) {
        ("dbsize" | "flushall" | "flushdb" | "swapdb", _) => &["keyspace"],
        ("sort" | "sort_ro", _) => &["set", "sortedset", "list"],
        (name, _) if name.starts_with("command") => &["connection"],
        _ if !command.subcommands.is_empty() => &[],
        (_, "generic") => &["keyspace"],
        (_, "sorted-set") => &["sortedset"],
        (_, "transactions") => &["transaction"],
        (_, "hash") => &["hash"],
        (_, "list") => &["list"],
        (_, "set") => &["set"],
        (_, "string") => &["string"],
        (_, "pubsub") => &["pubsub"],
        (_, "connection") => &["connection"],
        _ => &[],
    }
}

fn docs(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let found: Vec<&'static Command> = match args.len() {
        2 => sorted(),
        _ => args.from(2).filter_map(find_any).collect(),
    };
    context.reply.map(found.len());
    encode_all(context.reply, found, document);
    Ok(())
}

fn list(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let mut found = commands::all();
    match args.len() {
        2 => {}
        5 if args.is(2, "filterby") => {
            let wanted = args.get(4);
            match args.option(3).as_slice() {
                // There are no modules.
                b"module" => found.clear(),
                b"aclcat" => found.retain(|it| {
                    let mut categories = categories(it).into_iter();
                    categories.any(|name| wanted.eq_ignore_ascii_case(&name.as_bytes()[1..]))
                }),
                b"pattern" => {
                    let pattern = pattern(wanted)?;
                    found.retain(|it| glob::matches(pattern, it.name.as_bytes()));
                }
                _ => return Err(SYNTAX),
            }
        }
        _ => return Err(SYNTAX),
    }
    context.reply.array(found.len());
    found.iter().for_each(|it| context.reply.text(it.name));
    Ok(())
}

fn getkeys(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (_, keys) = keys_of(args)?;
    context.reply.array(keys.len());
    keys.iter().for_each(|at| context.reply.bulk(args.get(*at)));
    Ok(())
}

fn getkeysandflags(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (command, keys) = keys_of(args)?;
    context.reply.array(keys.len());
    for (number, at) in keys.into_iter().enumerate() {
        context.reply.array(2);
        context.reply.bulk(args.get(at));
        let flags = key_flags(command.name, args, number);
        context.reply.set(flags.len());
        flags.iter().for_each(|it| context.reply.simple(it));
    }
    Ok(())
}

/// The command that the arguments describe, and which of them are keys.
fn keys_of(args: Args<'_>) -> Result<(&'static Command, Vec<usize>), Failure> {
    const INVALID: Failure = fail("ERR Invalid command specified");
    let mut command = find(args.get(2)).ok_or(INVALID)?;
    if !command.subcommands.is_empty() {
        let is_meant = |name: &str| args.len() > 3 && args.is(3, name);
        let mut subcommands = command.subcommands.iter();
        let found = subcommands.find(|it| it.name.split('|').nth(1).is_some_and(is_meant));
        command = found.ok_or(INVALID)?;
    }
    let count = args.len() as i32 - 2;
    let (first, ..) = command.keys;
    if first == 0 && command.flags & MOVABLEKEYS == 0 {
        return Err(fail("ERR The command has no key arguments"));
    }
    if (command.arity > 0 && command.arity != count) || count < -command.arity {
        return Err(fail(
            "ERR Invalid number of arguments specified for command",
        ));
    }
    let request: Vec<&[u8]> = args.from(2).collect();
    let keys = key_places(command, &request);
    let keys = keys.ok_or(fail("ERR Invalid arguments specified for command"))?;
    Ok((command, keys.into_iter().map(|at| at + 2).collect()))
}

/// Which arguments of a request are keys. `None` if the request is not possible.
pub(super) fn key_places(command: &Command, request: &[&[u8]]) -> Option<Vec<usize>> {
    let (first, last, step) = command.keys;
    let last = match last {
        0.. => last,
        _ => request.len() as i32 + last,
    };
    let fixed = (first.max(1)..=last).step_by(step.unsigned_abs().max(1) as usize);
    let mut places: Vec<usize> = fixed.map(|at| at as usize).collect();
    if command.name == "sort" {
        places.extend(sort_store(request));
    } else if command.flags & MOVABLEKEYS != 0 && command.name != "sort_ro" {
        // Their number is behind the fixed keys, or the timeout.
        let at = if command.flags & BLOCKING != 0 || !places.is_empty() {
            2
        } else {
            1
        };
        let number = number::integer(request.get(at)?).filter(|it| *it > 0)?;
        let end = (at as i64 + 1).checked_add(number)?;
        let end = usize::try_from(end)
            .ok()
            .filter(|end| *end <= request.len())?;
        places.extend(at + 1..end);
    }
    Some(places)
}

/// The key in which SORT stores: that of the last STORE which is not an argument of another option.
fn sort_store(request: &[&[u8]]) -> Option<usize> {
    let mut found = None;
    let mut at = 2;
    while let Some(option) = request.get(at) {
        at += match option.to_ascii_lowercase().as_slice() {
            b"limit" => 3,
            b"by" | b"get" => 2,
            b"store" if at + 1 < request.len() => {
                found = Some(at + 1);
                2
            }
            _ => 1,
        };
    }
    found
}

//! SCAN, HSCAN, SSCAN and ZSCAN. An element that is there during the whole scan is returned exactly once.

use super::flag::READONLY;
use super::{Command, Context, Failure, Outcome, SYNTAX, command, fail, integer, long};
use crate::resp::reply::Reply;
use crate::resp::request::Args;
use crate::store::comparison::cost_per_byte;
use crate::store::glob;
use crate::store::hash::Hash;
use crate::store::number::float_text;
use crate::store::text::Text;

pub(super) const TABLE: &[Command] = &[
    command(
        "hscan",
        -3,
        READONLY,
        (1, 1, 1),
        "hash",
        "Iterates over fields and values of a hash.",
        hscan,
    ),
    command(
        "scan",
        -2,
        READONLY,
        (0, 0, 0),
        "generic",
        "Iterates over the key names in the database.",
        scan,
    ),
    command(
        "sscan",
        -3,
        READONLY,
        (1, 1, 1),
        "set",
        "Iterates over members of a set.",
        sscan,
    ),
    command(
        "zscan",
        -3,
        READONLY,
        (1, 1, 1),
        "sorted-set",
        "Iterates over members and scores of a sorted set.",
        zscan,
    ),
];

/// No call visits more than this many elements, whatever COUNT is: others are served in between.
const MOST: usize = 10_000;

/// Nor does it compare more bytes of names with a short pattern, apart from the last one. With a long one they are fewer.
const MOST_BYTES: usize = 128 * 1024;

struct Options<'a> {
    pattern: Option<&'a [u8]>,
    count: usize,
    bytes: usize,
    type_name: Option<String>,
}

impl Options<'_> {
    fn wants(&self, name: &[u8]) -> bool {
        self.pattern
            .is_none_or(|pattern| glob::matches(pattern, name))
    }
}

/// As in C, a negative number is one from the other end, and nothing is 0.
fn cursor(text: &[u8]) -> Result<u64, Failure> {
    let cursor = std::str::from_utf8(text).ok();
    let cursor = cursor.and_then(|it| match it.strip_prefix('-') {
        Some(rest) => rest.parse().ok().map(u64::wrapping_neg),
        None if it.is_empty() => Some(0),
        None => it.parse().ok(),
    });
    cursor.ok_or(fail("ERR invalid cursor"))
}

/// The options from this index on.
fn options(args: Args<'_>, from: usize) -> Result<Options<'_>, Failure> {
    let mut options = Options {
        pattern: None,
        count: 10,
        bytes: usize::MAX,
        type_name: None,
    };
    for at in (from..args.len()).step_by(2) {
        if at + 1 == args.len() {
            return Err(SYNTAX);
        }
        let value = args.get(at + 1);
        match args.option(at).as_slice() {
            b"match" => {
                options.pattern = Some(super::pattern(value)?);
                options.bytes = MOST_BYTES / cost_per_byte(value);
            }
            b"count" => match integer(value)? {
                count @ 1.. => options.count = (count as usize).min(MOST),
                _ => return Err(SYNTAX),
            },
            b"type" if args.is(0, "scan") => {
                options.type_name = Some(super::shown(value).to_lowercase());
            }
            _ => return Err(SYNTAX),
        }
    }
    Ok(options)
}

/// Replies with the cursor and what was found.
fn reply(reply: &mut Reply, cursor: u64, found: Vec<Text>) {
    reply.array(2);
    reply.text(&cursor.to_string());
    reply.array(found.len());
    let sizes = found.iter().map(|text| text.as_bytes().len());
    if !long::are_many(found.len(), sizes) {
        return found.iter().for_each(|text| reply.item(text));
    }
    let mut found = found.into_iter();
    long::reply_items(reply, move |reply| {
        let next = found.next();
        next.map(|text| reply.item(&text)).is_some()
    });
}

/// The reply for a missing key. Its options are not checked.
fn empty(context: &mut Context<'_>) -> Outcome {
    reply(context.reply, 0, Vec::new());
    Ok(())
}

fn scan(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (cursor, options) = (cursor(args.get(1))?, options(args, 2)?);
    let now = context.data.keyspace.now();
    let mut found = Vec::new();
    let table = context.db().table();
    let cursor = table.scan(cursor, options.count, options.bytes, |entry| {
        let is_there = entry.expires == 0 || entry.expires > now;
        let is_type = options
            .type_name
            .as_ref()
            .is_none_or(|name| name == entry.value.type_name());
        if is_there && is_type && options.wants(entry.key.as_bytes()) {
            found.push(entry.key.clone());
        }
    });
    reply(context.reply, cursor, found);
    Ok(())
}

fn hscan(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let cursor = cursor(args.get(2))?;
    let mut found = Vec::new();
    let Some(hash) = context.db().hash(args.get(1))? else {
        return empty(context);
    };
    let options = options(args, 3)?;
    let mut visit = |name: &Text, value: &Text| {
        if options.wants(name.as_bytes()) {
            found.push(name.clone());
            found.push(value.clone());
        }
    };
    let cursor = match &**hash {
        // A small hash is returned at once, so a scan never sees it change.
        Hash::Small(fields) => {
            fields.iter().for_each(|it| visit(&it.name, &it.value));
            0
        }
        Hash::Large(table) => table.scan(cursor, options.count, options.bytes, |it| {
            visit(&it.name, &it.value);
        }),
    };
    reply(context.reply, cursor, found);
    Ok(())
}

fn sscan(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let cursor = cursor(args.get(2))?;
    let mut found = Vec::new();
    let Some(set) = context.db().members(args.get(1))? else {
        return empty(context);
    };
    let options = options(args, 3)?;
    let cursor = set.scan(cursor, options.count, options.bytes, |member| {
        if options.wants(member.as_bytes()) {
            found.push(member.clone());
        }
    });
    reply(context.reply, cursor, found);
    Ok(())
}

fn zscan(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let cursor = cursor(args.get(2))?;
    let mut found = Vec::new();
    let Some(set) = context.db().sorted(args.get(1))? else {
        return empty(context);
    };
    let options = options(args, 3)?;
    let cursor = set.scan(cursor, (options.count, options.bytes), |it| {
        if options.wants(it.member.as_bytes()) {
            found.push(it.member.clone());
            found.push(float_text(it.score).into_bytes().into());
        }
    });
    reply(context.reply, cursor, found);
    Ok(())
}

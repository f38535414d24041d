//! SCAN, HSCAN, SSCAN and ZSCAN. An element that is there during the whole scan is returned exactly once.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use asynchat::{More, Producer};

use super::flag::READONLY;
use super::long::{Chunks, LongResult, has_room};
use super::{Command, Context, Failure, Outcome, SYNTAX, command, fail, integer, long};
use crate::resp::reply::Reply;
use crate::resp::request::Args;
use crate::server::progress::Progress;
use crate::server::shared::lock;
use crate::store::comparison::cost_per_byte;
use crate::store::glob::{self, Comparison};
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

/// What a call has visited and has to return.
#[derive(Default)]
struct Visited {
    found: Vec<Text>,
    /// Names that are too long to be compared at once, with their values.
    long: VecDeque<(Text, Option<Text>)>,
}

impl Visited {
    /// Adds a name, and what `value` returns, if the name matches the pattern.
    fn add(&mut self, options: &Options<'_>, name: &Text, value: impl FnOnce() -> Option<Text>) {
        match options.pattern {
            Some(_) if name.as_bytes().len() > glob::LONG => {
                self.long.push_back((name.clone(), value()));
            }
            Some(pattern) if !glob::matches(pattern, name.as_bytes()) => {}
            _ => {
                self.found.push(name.clone());
                self.found.extend(value());
            }
        }
    }

    /// Replies with the cursor and what was found.
    fn reply(self, context: &mut Context<'_>, options: &Options<'_>, cursor: u64) {
        if self.long.is_empty() {
            return reply(context.reply, cursor, self.found);
        }
        let rest = Rest {
            pattern: options.pattern.unwrap_or_default().to_vec(),
            comparison: Comparison::default(),
            long: self.long,
            found: self.found.into(),
        };
        let scanned = Scanned {
            rest: long::make_later(context, rest),
            cursor: Some(cursor),
            chunks: Chunks::default(),
        };
        context.reply.produce(scanned);
    }
}

/// The comparisons with long names.
struct Rest {
    pattern: Vec<u8>,
    /// With the first of the names.
    comparison: Comparison,
    long: VecDeque<(Text, Option<Text>)>,
    found: VecDeque<Text>,
}

impl LongResult for Rest {
    fn turn(&mut self) -> io::Result<Progress> {
        let first = self.long.front().map(|(name, _)| name.as_bytes());
        let outcome = first.map(|name| self.comparison.advance(&self.pattern, name));
        if outcome != Some(None)
            && let Some((name, value)) = self.long.pop_front()
            && outcome == Some(Some(true))
        {
            self.found.push_back(name);
            self.found.extend(value);
        }
        Ok(Progress::more_if(!self.long.is_empty()))
    }
}

/// The reply when the long names are compared.
struct Scanned {
    rest: Arc<Mutex<Rest>>,
    /// `None` once it is encoded.
    cursor: Option<u64>,
    chunks: Chunks,
}

impl Producer for Scanned {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        if let Some(more) = self.chunks.next() {
            return Ok(more);
        }
        let rest = &mut *lock(&self.rest);
        if !rest.long.is_empty() {
            return Ok(More::Pending);
        }
        let mut reply = Reply::default();
        if let Some(cursor) = self.cursor.take() {
            begin(&mut reply, cursor, rest.found.len());
        }
        while has_room(&reply, budget)
            && let Some(text) = rest.found.pop_front()
        {
            reply.item(&text);
        }
        Ok(self.chunks.first(reply).unwrap_or(More::Done))
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

fn begin(reply: &mut Reply, cursor: u64, found: usize) {
    reply.array(2);
    reply.text(&cursor.to_string());
    reply.array(found);
}

/// Replies with the cursor and what was found.
fn reply(reply: &mut Reply, cursor: u64, found: Vec<Text>) {
    begin(reply, cursor, found.len());
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
    let mut visited = Visited::default();
    let table = context.db().table();
    let cursor = table.scan(cursor, options.count, options.bytes, |entry| {
        let is_there = entry.expires == 0 || entry.expires > now;
        let is_type = options
            .type_name
            .as_ref()
            .is_none_or(|name| name == entry.value.type_name());
        if is_there && is_type {
            visited.add(&options, &entry.key, || None);
        }
    });
    visited.reply(context, &options, cursor);
    Ok(())
}

fn hscan(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let cursor = cursor(args.get(2))?;
    let mut visited = Visited::default();
    let Some(hash) = context.db().hash(args.get(1))? else {
        return empty(context);
    };
    let options = options(args, 3)?;
    let mut visit = |name: &Text, value: &Text| {
        visited.add(&options, name, || Some(value.clone()));
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
    visited.reply(context, &options, cursor);
    Ok(())
}

fn sscan(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let cursor = cursor(args.get(2))?;
    let mut visited = Visited::default();
    let Some(set) = context.db().members(args.get(1))? else {
        return empty(context);
    };
    let options = options(args, 3)?;
    let cursor = set.scan(cursor, options.count, options.bytes, |member| {
        visited.add(&options, member, || None);
    });
    visited.reply(context, &options, cursor);
    Ok(())
}

fn zscan(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let cursor = cursor(args.get(2))?;
    let mut visited = Visited::default();
    let Some(set) = context.db().sorted(args.get(1))? else {
        return empty(context);
    };
    let options = options(args, 3)?;
    let cursor = set.scan(cursor, (options.count, options.bytes), |it| {
        visited.add(&options, &it.member, || {
            Some(float_text(it.score).into_bytes().into())
        });
    });
    visited.reply(context, &options, cursor);
    Ok(())
}

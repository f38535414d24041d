//! Parts of a string. A long string that has to be copied, because a reply contains it, is copied a part at a time.

use std::ops::Range;
use std::sync::Arc;

use asynchat::bytes::Bytes;

use super::flag::{DENYOOM, FAST, READONLY, WRITE};
use super::stored::{self, Making};
use super::strings::value;
use super::{Command, Context, Failure, Outcome, TOO_LONG, command, fail, integer};
use crate::resp::reply::Reply;
use crate::resp::request::Args;
use crate::server::progress::Progress;
use crate::store::database::{Database, WrongType};
use crate::store::number::Digits;
use crate::store::text::Text;
use crate::store::value::{SHARED, Value};

pub(super) const TABLE: &[Command] = &[
    command(
        "append",
        3,
        WRITE | DENYOOM | FAST,
        (1, 1, 1),
        "string",
        "Appends a string to the value of a key. Creates the key if it doesn't exist.",
        append,
    ),
    command(
        "getrange",
        4,
        READONLY,
        (1, 1, 1),
        "string",
        "Returns a substring of the string stored at a key.",
        getrange,
    ),
    command(
        "setrange",
        4,
        WRITE | DENYOOM,
        (1, 1, 1),
        "string",
        "Overwrites a part of a string value with another by an offset. Creates the key if it doesn't exist.",
        setrange,
    ),
    command(
        "substr",
        4,
        READONLY,
        (1, 1, 1),
        "string",
        "Returns a substring from a string value.",
        getrange,
    ),
];

/// A string of more bytes than this that has to be copied is copied a part at a time.
const LONG: usize = 1 << 20;

/// So are more bytes than this that are added to or written into one which has not.
const MANY_ADDED: usize = 8 << 20;

/// How many bytes are a part.
const PART: usize = 128 * 1024;

fn append(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let key = args.get(1);
    if !context.db().contains(key) {
        context.db().set(key, value(args, 2), 0);
        context.reply.count(args.get(2).len());
        return Ok(());
    }
    write(context, args, None, 2)
}

fn setrange(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let Ok(offset) = usize::try_from(integer(args.get(2))?) else {
        return Err(fail("ERR offset is out of range"));
    };
    let len = len(context.db(), args.get(1))?;
    if args.get(3).is_empty() {
        context.reply.count(len);
        return Ok(());
    }
    write(context, args, Some(offset), 3)
}

/// The length of the string of a key.
fn len(db: &mut Database, key: &[u8]) -> Result<usize, Failure> {
    let mut digits = Digits::default();
    Ok(match db.find(key) {
        None => 0,
        Some(value) => value.text(&mut digits).ok_or(WrongType)?.len(),
    })
}

/// What APPEND and SETRANGE write.
struct Writing<P> {
    part: P,
    /// `None` for the end of the string, wherever that is when the command is executed.
    offset: Option<usize>,
    /// The longest string.
    longest: usize,
}

impl<P: AsRef<[u8]>> Writing<P> {
    /// Where the part is in a string that had this length before.
    fn range(&self, len: usize) -> Result<Range<usize>, Failure> {
        let start = self.offset.unwrap_or(len);
        let end = start.saturating_add(self.part.as_ref().len());
        if end > self.longest {
            Err(TOO_LONG)
        } else {
            Ok(start..end)
        }
    }
}

/// Writes an argument into the string of a key: at this offset, or at its end.
fn write(context: &mut Context<'_>, args: Args<'_>, offset: Option<usize>, part: usize) -> Outcome {
    let key = args.get(1);
    let longest = context.data.config.argument as usize;
    let writing = Writing {
        part: args.get(part),
        offset,
        longest,
    };
    let db = context.db();
    let len = len(db, key)?;
    let range = writing.range(len)?;
    // If a snapshot has the key, this copies the entry, which shares the string from then on.
    let is_shared = db.find_mut(key).is_some_and(|it| it.is_shared());
    let is_long = writing.part.len() > MANY_ADDED || range.end.saturating_sub(len) > MANY_ADDED;
    if is_long || (is_shared && len > LONG) {
        let writing = Writing {
            part: args.bytes(part),
            offset,
            longest,
        };
        return write_in_parts(context, key, writing);
    }
    if !db.contains(key) {
        db.set(key, Value::string(b""), 0);
    }
    let data = db.find_mut(key).and_then(Value::growing).ok_or(WrongType)?;
    let (old, len) = (len, len.max(range.end));
    data.resize(len, 0);
    data[range.clone()].copy_from_slice(writing.part);
    db.touch_part_of_string(key, old.min(range.start)..range.end);
    context.reply.count(len);
    Ok(())
}

fn write_in_parts(context: &mut Context<'_>, key: &[u8], writing: Writing<Bytes>) -> Outcome {
    let source = Text::from(key);
    stored::store(context, key, vec![source.clone()], move |db| {
        let old = match db.find_mut(source.as_bytes()) {
            None => Bytes::new(),
            Some(value) => {
                if let Some(data) = value.share() {
                    data.clone()
                } else {
                    let mut digits = Digits::default();
                    let data = value.text(&mut digits).ok_or(WrongType)?;
                    Bytes::copy_from_slice(data)
                }
            }
        };
        let Range { start, end } = writing.range(old.len())?;
        Ok(Copy {
            data: Vec::with_capacity(end.max(old.len())),
            pieces: [
                Piece::Bytes(old.slice(..start.min(old.len()))),
                Piece::Zeros(start.saturating_sub(old.len())),
                Piece::Bytes(writing.part.clone()),
                Piece::Bytes(old.slice(end.min(old.len())..)),
            ],
            piece: 0,
            changed: start.min(old.len())..end,
        })
    })
}

/// A string that is put together.
struct Copy {
    data: Vec<u8>,
    /// What is still missing.
    pieces: [Piece; 4],
    piece: usize,
    /// Which bytes are not those of the old string.
    changed: Range<usize>,
}

enum Piece {
    Bytes(Bytes),
    Zeros(usize),
}

impl Making for Copy {
    fn len(&self) -> usize {
        self.data.capacity()
    }

    fn advance(&mut self) -> Result<Progress, Failure> {
        let Some(piece) = self.pieces.get_mut(self.piece) else {
            return Ok(Progress::Complete);
        };
        let left = match piece {
            Piece::Bytes(bytes) => {
                let part = bytes.split_to(bytes.len().min(PART));
                self.data.extend_from_slice(&part);
                bytes.len()
            }
            Piece::Zeros(number) => {
                let part = PART.min(*number);
                self.data.resize(self.data.len() + part, 0);
                *number -= part;
                *number
            }
        };
        self.piece += usize::from(left == 0);
        Ok(Progress::More)
    }

    fn store(&mut self, db: &mut Database, target: &[u8], reply: &mut Reply) {
        reply.count(self.data.len());
        let value = Value::Growing(Arc::new(std::mem::take(&mut self.data)));
        if db.contains(target) {
            db.replace_part(target, value, self.changed.clone());
        } else {
            db.set(target, value, 0);
        }
    }
}

fn getrange(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (start, end) = (integer(args.get(2))?, integer(args.get(3))?);
    let database = context
        .data
        .keyspace
        .database(context.client.database.load());
    let len = len(database, args.get(1))?;
    // As in Redis: two negative ends in the wrong order are nothing, also if both lie before the beginning.
    let range = if start < 0 && end < 0 && start > end {
        0..0
    } else {
        substring(start, end, len)
    };
    let is_small_part = range.len() <= LONG && range.len() <= len / 2;
    if range.len() >= SHARED
        && !is_small_part
        && let Some(data) = database.find_mut(args.get(1)).and_then(Value::share)
    {
        context.reply.bytes(&data.slice(range));
        return Ok(());
    }
    let mut digits = Digits::default();
    let found = database.find(args.get(1));
    let data = found
        .and_then(|it| it.text(&mut digits))
        .unwrap_or_default();
    match range.len() {
        0..SHARED => context.reply.bulk(&data[range]),
        // A reply that shares the string keeps all of it in memory, also when the key is overwritten.
        _ => context.reply.long_bulk(&data[range]),
    }
    Ok(())
}

/// Unlike the range of a list, one that ends before the beginning is the first byte.
fn substring(start: i64, end: i64, len: usize) -> std::ops::Range<usize> {
    let len = len as i64;
    let from_end = |at: i64| {
        if at < 0 {
            at.saturating_add(len).max(0)
        } else {
            at
        }
    };
    let (start, end) = (from_end(start), from_end(end).min(len - 1));
    if len == 0 || start > end {
        0..0
    } else {
        start as usize..end as usize + 1
    }
}

//! Counters: strings that are numbers.

use super::flag::{DENYOOM, FAST, WRITE};
use super::{
    Command, Context, Failure, NOT_FLOAT, NOT_INTEGER, OVERFLOW, Outcome, command, fail, float,
    integer,
};
use crate::resp::request::Args;
use crate::store::database::WrongType;
use crate::store::decimal;
use crate::store::number::{self, Digits, float_text};
use crate::store::value::Value;

pub(super) const TABLE: &[Command] = &[
    command(
        "decr",
        2,
        WRITE | DENYOOM | FAST,
        (1, 1, 1),
        "string",
        "Decrements the integer value of a key by one. Uses 0 as initial value if the key doesn't exist.",
        |it, args| add(it, args, -1),
    ),
    command(
        "decrby",
        3,
        WRITE | DENYOOM | FAST,
        (1, 1, 1),
        "string",
        "Decrements a number from the integer value of a key. Uses 0 as initial value if the key doesn't exist.",
        decrby,
    ),
    command(
        "incr",
        2,
        WRITE | DENYOOM | FAST,
        (1, 1, 1),
        "string",
        "Increments the integer value of a key by one. Uses 0 as initial value if the key doesn't exist.",
        |it, args| add(it, args, 1),
    ),
    command(
        "incrby",
        3,
        WRITE | DENYOOM | FAST,
        (1, 1, 1),
        "string",
        "Increments the integer value of a key by a number. Uses 0 as initial value if the key doesn't exist.",
        |it, args| add(it, args, integer(args.get(2))?),
    ),
    command(
        "incrbyfloat",
        3,
        WRITE | DENYOOM | FAST,
        (1, 1, 1),
        "string",
        "Increments the floating point value of a key by a number. Uses 0 as initial value if the key doesn't exist.",
        incrbyfloat,
    ),
];

/// INCR and its kind.
fn add(context: &mut Context<'_>, args: Args<'_>, by: i64) -> Outcome {
    let key = args.get(1);
    let db = context.db();
    let sum = match db.find_mut(key) {
        Some(Value::Int(number)) => {
            *number = number.checked_add(by).ok_or(OVERFLOW)?;
            let sum = *number;
            db.touch(key);
            sum
        }
        Some(value) => {
            let mut digits = Digits::default();
            let text = value.text(&mut digits).ok_or(WrongType)?;
            let sum = number::integer(text)
                .ok_or(NOT_INTEGER)?
                .checked_add(by)
                .ok_or(OVERFLOW)?;
            *value = Value::Int(sum);
            db.touch(key);
            sum
        }
        None => {
            db.set(key, Value::Int(by), 0);
            by
        }
    };
    context.reply.integer(sum);
    Ok(())
}

fn decrby(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let by = integer(args.get(2))?;
    let by = by
        .checked_neg()
        .ok_or(fail("ERR decrement would overflow"))?;
    add(context, args, by)
}

/// The sum of two numbers as a text, for INCRBYFLOAT and HINCRBYFLOAT. `invalid` is the error if the old value is not
/// a number.
pub(super) fn float_sum(old: &[u8], by: &[u8], invalid: Failure) -> Result<String, Failure> {
    let sum = number::float(old).ok_or(invalid)? + float(by)?;
    if let Some(exact) = decimal::sum(old, by) {
        return Ok(exact);
    }
    if !sum.is_finite() {
        return Err(fail("ERR increment would produce NaN or Infinity"));
    }
    // Without an exponent.
    Ok(match float_text(sum) {
        text if text.contains('e') => format!("{sum}"),
        text => text,
    })
}

fn incrbyfloat(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let key = args.get(1);
    let db = context
        .data
        .keyspace
        .database(context.client.database.load());
    let mut digits = Digits::default();
    let (old, expires) = match db.entry(key) {
        None => (&b"0"[..], 0),
        Some(entry) => {
            let text = entry.value.text(&mut digits).ok_or(WrongType)?;
            (text, entry.expires)
        }
    };
    let sum = float_sum(old, args.get(2), NOT_FLOAT)?;
    db.set(key, Value::string(sum.as_bytes()), expires);
    context.reply.text(&sum);
    Ok(())
}

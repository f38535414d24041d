//! When keys expire.

use super::flag::{FAST, READONLY, WRITE};
use super::{Command, Context, Failure, Outcome, SYNTAX, command, fail, integer, shown};
use crate::resp::request::Args;
use crate::store::database::Database;

pub(super) const TABLE: &[Command] = &[
    command(
        "expire",
        -3,
        WRITE | FAST,
        (1, 1, 1),
        "generic",
        "Sets the expiration time of a key in seconds.",
        |it, args| expire(it, args, 1000, false, "expire"),
    ),
    command(
        "expireat",
        -3,
        WRITE | FAST,
        (1, 1, 1),
        "generic",
        "Sets the expiration time of a key to a Unix timestamp.",
        |it, args| expire(it, args, 1000, true, "expireat"),
    ),
    command(
        "expiretime",
        2,
        READONLY | FAST,
        (1, 1, 1),
        "generic",
        "Returns the expiration time of a key as a Unix timestamp.",
        |it, args| ttl(it, args, |expires, _| seconds(expires)),
    ),
    command(
        "persist",
        2,
        WRITE | FAST,
        (1, 1, 1),
        "generic",
        "Removes the expiration time of a key.",
        persist,
    ),
    command(
        "pexpire",
        -3,
        WRITE | FAST,
        (1, 1, 1),
        "generic",
        "Sets the expiration time of a key in milliseconds.",
        |it, args| expire(it, args, 1, false, "pexpire"),
    ),
    command(
        "pexpireat",
        -3,
        WRITE | FAST,
        (1, 1, 1),
        "generic",
        "Sets the expiration time of a key to a Unix milliseconds timestamp.",
        |it, args| expire(it, args, 1, true, "pexpireat"),
    ),
    command(
        "pexpiretime",
        2,
        READONLY | FAST,
        (1, 1, 1),
        "generic",
        "Returns the expiration time of a key as a Unix milliseconds timestamp.",
        |it, args| ttl(it, args, |expires, _| expires),
    ),
    command(
        "pttl",
        2,
        READONLY | FAST,
        (1, 1, 1),
        "generic",
        "Returns the expiration time in milliseconds of a key.",
        |it, args| ttl(it, args, |expires, now| expires - now),
    ),
    command(
        "ttl",
        2,
        READONLY | FAST,
        (1, 1, 1),
        "generic",
        "Returns the expiration time in seconds of a key.",
        |it, args| ttl(it, args, |expires, now| seconds(expires - now)),
    ),
];

fn invalid(name: &str) -> Failure {
    format!("ERR invalid expire time in '{name}' command").into()
}

/// The time after so many units of milliseconds, which must be positive.
pub(super) fn after(amount: i64, unit: i64, now: i64, name: &str) -> Result<i64, Failure> {
    let delay = amount.checked_mul(unit).filter(|_| amount > 0);
    delay
        .and_then(|delay| delay.checked_add(now))
        .ok_or_else(|| invalid(name))
}

/// What the argument of EX, PX, EXAT or PXAT counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Unit {
    millis: i64,
    is_absolute: bool,
}

impl Unit {
    /// The unit of this option. `None` if it is another option.
    pub(super) fn of(option: &[u8]) -> Option<Unit> {
        let is = |name: &str| option.eq_ignore_ascii_case(name.as_bytes());
        let (millis, is_absolute) = match () {
            () if is("ex") => (1000, false),
            () if is("px") => (1, false),
            () if is("exat") => (1000, true),
            () if is("pxat") => (1, true),
            () => return None,
        };
        Some(Unit {
            millis,
            is_absolute,
        })
    }

    /// The time that the argument of the option gives.
    pub(super) fn time(self, text: &[u8], now: i64, name: &str) -> Result<i64, Failure> {
        let from = if self.is_absolute { 0 } else { now };
        after(integer(text)?, self.millis, from, name)
    }
}

/// Sets when the key expires, which may be over already. 0 is never.
pub(super) fn apply(db: &mut Database, key: &[u8], expires: i64) {
    if expires != 0 && expires <= db.now {
        db.delete(key);
    } else {
        db.set_expiry(key, expires);
    }
}

fn expire(
    context: &mut Context<'_>,
    args: Args<'_>,
    unit: i64,
    is_absolute: bool,
    name: &str,
) -> Outcome {
    let from = if is_absolute {
        0
    } else {
        context.data.keyspace.now()
    };
    let (mut only_without, mut only_with, mut only_later, mut only_earlier) =
        (false, false, false, false);
    for at in 3..args.len() {
        match args.option(at).as_slice() {
            b"nx" => only_without = true,
            b"xx" => only_with = true,
            b"gt" => only_later = true,
            b"lt" => only_earlier = true,
            _ => return Err(format!("ERR Unsupported option {}", shown(args.get(at))).into()),
        }
    }
    if only_without && (only_with || only_later || only_earlier) {
        return Err(fail(
            "ERR NX and XX, GT or LT options at the same time are not compatible",
        ));
    }
    if only_later && only_earlier {
        return Err(fail(
            "ERR GT and LT options at the same time are not compatible",
        ));
    }
    let at = integer(args.get(2))?
        .checked_mul(unit)
        .and_then(|delay| delay.checked_add(from));
    let at = at.ok_or_else(|| invalid(name))?;
    let db = context.db();
    let is_set = match db.entry(args.get(1)).map(|entry| entry.expires) {
        None => false,
        Some(old) => {
            let never = old == 0;
            !(only_without && !never
                || only_with && never
                || only_later && (never || at <= old)
                || only_earlier && !never && at >= old)
        }
    };
    if is_set {
        // 0 would be never.
        apply(db, args.get(1), if at == 0 { 1 } else { at });
    }
    context.reply.boolean(is_set);
    Ok(())
}

fn persist(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let db = context.db();
    let has_expiry = db
        .entry(args.get(1))
        .is_some_and(|entry| entry.expires != 0);
    if has_expiry {
        db.set_expiry(args.get(1), 0);
    }
    context.reply.boolean(has_expiry);
    Ok(())
}

/// TTL and its kind: -2 without the key, -1 if it does not expire.
fn ttl(context: &mut Context<'_>, args: Args<'_>, left: fn(i64, i64) -> i64) -> Outcome {
    let now = context.data.keyspace.now();
    let left = match context.db().entry(args.get(1)).map(|entry| entry.expires) {
        None => -2,
        Some(0) => -1,
        Some(expires) => left(expires, now),
    };
    context.reply.integer(left);
    Ok(())
}

/// Rounded. The time may be the last one that there is.
fn seconds(millis: i64) -> i64 {
    millis / 1000 + i64::from(millis % 1000 >= 500)
}

/// Whether an option is known, for commands that take one of two.
pub(super) fn one_of(
    args: Args<'_>,
    at: usize,
    first: &str,
    second: &str,
) -> Result<bool, Failure> {
    match args {
        _ if args.is(at, first) => Ok(true),
        _ if args.is(at, second) => Ok(false),
        _ => Err(SYNTAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Redis adds 500 first, which overflows for the last ones.
    #[test]
    fn the_last_times_are_rounded_to_seconds_without_an_overflow() {
        assert_eq!(seconds(i64::MAX), i64::MAX / 1000 + 1);
        assert_eq!(seconds(i64::MAX - 308), i64::MAX / 1000);
        assert_eq!(seconds(1_499), 1);
        assert_eq!(seconds(1_500), 2);
    }
}

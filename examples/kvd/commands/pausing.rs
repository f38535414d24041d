//! CLIENT PAUSE and CLIENT UNPAUSE: see `server/pause.rs`.

use super::flag::{ADMIN, LOADING, NOSCRIPT, STALE};
use super::{Command, Context, Failure, Outcome, command, fail};
use crate::resp::request::Args;
use crate::server::pause::Paused;
use crate::store::number;

pub(super) const PAUSE: Command = command(
    "client|pause",
    -3,
    ADMIN | NOSCRIPT | LOADING | STALE,
    (0, 0, 0),
    "connection",
    "Suspends commands processing.",
    pause,
);

pub(super) const UNPAUSE: Command = command(
    "client|unpause",
    2,
    ADMIN | NOSCRIPT | LOADING | STALE,
    (0, 0, 0),
    "connection",
    "Resumes processing commands from paused clients.",
    |it, _| {
        it.server.end_pause(it.data);
        it.ok()
    },
);

fn pause(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let paused = match args.len() {
        3 => Paused::All,
        4 if args.is(3, "all") => Paused::All,
        4 if args.is(3, "write") => Paused::Writes,
        4 => return Err(fail("ERR CLIENT PAUSE mode must be WRITE or ALL")),
        _ => return Err(super::too_many(args)),
    };
    let until = end_of(args.get(2), context.data.keyspace.now())?;
    context.server.pause(context.data, paused, until);
    context.ok()
}

/// When a number of milliseconds is over. A pause of 0 is over at once.
fn end_of(milliseconds: &[u8], now: i64) -> Result<i64, Failure> {
    const NOT_INTEGER: Failure = fail("ERR timeout is not an integer or out of range");
    match number::integer(milliseconds).ok_or(NOT_INTEGER)? {
        ..0 => Err(fail("ERR timeout is negative")),
        0 => Ok(0),
        after => now
            .checked_add(after)
            .ok_or(fail("ERR timeout is out of range")),
    }
}

//! LMPOP, BLMPOP, ZMPOP and BZMPOP: elements of the first of several keys that has some.

use super::flag::{BLOCKING, MOVABLEKEYS, TAKES, WRITE};
use super::list_moves::{awaited, check_number, number_of, timeout, wait};
use super::{Command, Context, Failure, Outcome, SYNTAX, command, fail, lists, sorted_sets};
use crate::resp::request::Args;
use crate::store::list::End;
use crate::store::number;

pub(super) const TABLE: &[Command] = &[
    command(
        "blmpop",
        -5,
        WRITE | TAKES | BLOCKING | MOVABLEKEYS,
        (0, 0, 0),
        "list",
        "Pops the first element from one of multiple lists. Blocks until an element is available otherwise. Deletes the list if the last element was popped.",
        |it, args| pop_list(it, args, 2),
    ),
    command(
        "bzmpop",
        -5,
        WRITE | TAKES | BLOCKING | MOVABLEKEYS,
        (0, 0, 0),
        "sorted-set",
        "Removes and returns a member by score from one or more sorted sets. Blocks until a member is available otherwise. Deletes the sorted set if the last element was popped.",
        |it, args| pop_sorted(it, args, 2),
    ),
    command(
        "lmpop",
        -4,
        WRITE | TAKES | MOVABLEKEYS,
        (0, 0, 0),
        "list",
        "Returns multiple elements from a list after removing them. Deletes the list if the last element was popped.",
        |it, args| pop_list(it, args, 1),
    ),
    command(
        "zmpop",
        -4,
        WRITE | TAKES | MOVABLEKEYS,
        (0, 0, 0),
        "sorted-set",
        "Returns the highest- or lowest-scoring members from one or more sorted sets after removing them. Deletes the sorted set if the last member was popped.",
        |it, args| pop_sorted(it, args, 1),
    ),
];

struct Request {
    keys: std::ops::Range<usize>,
    /// Whether it takes from the left end, or the lowest scores.
    is_first: bool,
    count: usize,
    /// How long it waits in seconds, if it does.
    seconds: Option<f64>,
}

impl Request {
    /// Parses the arguments. The number of keys is at `at`. Before it is the timeout, if there is one.
    fn parse(args: Args<'_>, at: usize, [first, last]: [&str; 2]) -> Result<Request, Failure> {
        let positive = |at: usize, why: &'static str| {
            let number = number::integer(args.get(at)).filter(|it| *it > 0);
            number.map(|it| it as usize).ok_or(fail(why))
        };
        let keys = positive(at, "ERR numkeys should be greater than 0")?;
        let end = (at + 1).saturating_add(keys);
        if end >= args.len() {
            return Err(SYNTAX);
        }
        let is_first = args.is(end, first);
        if !is_first && !args.is(end, last) {
            return Err(SYNTAX);
        }
        let mut count = None;
        for option in (end + 1..args.len()).step_by(2) {
            if count.is_some() || option + 1 == args.len() || !args.is(option, "count") {
                return Err(SYNTAX);
            }
            count = Some(positive(option + 1, "ERR count should be greater than 0")?);
        }
        // The last error, as in Redis.
        let seconds = match at {
            1 => None,
            _ => {
                check_number(&(at + 1..end))?;
                Some(timeout(args.get(1))?)
            }
        };
        Ok(Request {
            keys: at + 1..end,
            is_first,
            count: count.unwrap_or(1),
            seconds,
        })
    }

    /// There is nothing to pop.
    fn wait(self, context: &mut Context<'_>, args: Args<'_>) -> Outcome {
        match self.seconds {
            Some(seconds) => wait(context, args, self.keys, seconds, |it| {
                it.reply.null_array();
            }),
            None => {
                context.reply.null_array();
                Ok(())
            }
        }
    }
}

fn pop_list(context: &mut Context<'_>, args: Args<'_>, at: usize) -> Outcome {
    let request = Request::parse(args, at, ["left", "right"])?;
    let end = if request.is_first {
        End::Left
    } else {
        End::Right
    };
    for key in awaited(context.mode, args, request.keys.clone()) {
        let db = context.data.keyspace.database(number_of(context));
        if let Some(list) = db.list(key)? {
            let number = request.count.min(list.len());
            context.reply.array(2);
            context.reply.bulk(key);
            context.reply.array(number);
            return lists::take(context, key, end, number);
        }
    }
    request.wait(context, args)
}

fn pop_sorted(context: &mut Context<'_>, args: Args<'_>, at: usize) -> Outcome {
    let request = Request::parse(args, at, ["min", "max"])?;
    for key in awaited(context.mode, args, request.keys.clone()) {
        let db = context.data.keyspace.database(number_of(context));
        if db.sorted(key)?.is_some() {
            return sorted_sets::pop_with_key(context, key, request.count, request.is_first);
        }
    }
    request.wait(context, args)
}

//! SORT. The elements are sorted in runs of some hundred, and then merged, a part at a time: a million of them delay nobody.
//! What GET refers to is looked up before the reply begins, so a client that does not read holds no snapshot of all keys.
//!
//! With STORE, and BY or GET, the result depends on all keys that the patterns may name. It is made at once if one of them
//! has changed during each of the attempts to make it in parts.

mod job;
mod options;
mod order;
mod sorting;

use std::sync::Arc;

use job::Job;

use super::flag::{DANGEROUS, DENYOOM, MOVABLEKEYS, READONLY, WRITE};
use super::found::Found;
use super::stored::{self, Making, Sources};
use super::{Command, Context, Failure, Outcome, command, fail};
use crate::resp::reply::Reply;
use crate::resp::request::Args;
use crate::server::progress::Progress;
use crate::store::database::Database;
use crate::store::list::{End, List};
use crate::store::text::Text;
use crate::store::value::Value;

pub(super) const TABLE: &[Command] = &[
    command(
        "sort",
        -2,
        WRITE | DENYOOM | MOVABLEKEYS | DANGEROUS,
        (1, 1, 1),
        "generic",
        "Sorts the elements in a list, a set, or a sorted set, optionally storing the result.",
        |it, args| sort(it, args, true),
    ),
    command(
        "sort_ro",
        -2,
        READONLY | MOVABLEKEYS | DANGEROUS,
        (1, 1, 1),
        "generic",
        "Returns the sorted elements of a list, a set, or a sorted set.",
        |it, args| sort(it, args, false),
    ),
];

fn sort(context: &mut Context<'_>, args: Args<'_>, may_store: bool) -> Outcome {
    let (options, target) = options::parse(args, may_store)?;
    let (key, options) = (args.get(1), Arc::new(options));
    let Some(target) = target else {
        let job = Job::new(context.db(), key, options)?;
        return reply(context, job);
    };
    let key = Text::from(key);
    let sources = Sources {
        keys: vec![key.clone()],
        families: options.families(),
    };
    let of_set = Arc::new(options.of_stored_set());
    let longest = context.data.config.argument as usize;
    stored::store(context, target, sources, move |db| {
        let options = match db.find(key.as_bytes()) {
            Some(Value::Set(_)) => &of_set,
            _ => &options,
        };
        let job = Job::new(db, key.as_bytes(), Arc::clone(options))?;
        Ok(Stored {
            job,
            list: List::default(),
            size: 0,
            longest,
        })
    })
}

fn reply(context: &mut Context<'_>, mut job: Job) -> Outcome {
    if job.is_long() {
        sorting::reply_later(context, job);
        return Ok(());
    }
    while !job.is_sorted() {
        job.advance(|_| ())?;
    }
    context.reply.array(job.results());
    while job.advance(|result| sorting::encode(context.reply, result.as_ref()))? == Progress::More {
    }
    Ok(())
}

const TOO_LARGE: Failure =
    fail("ERR the result of GET exceeds the maximum allowed size (proto-max-bulk-len)");

/// The result as a list.
struct Stored {
    job: Job,
    list: List,
    /// The bytes of what GET has found. In memory the elements share the strings of the keys, and on disk each has its
    /// own: without a limit a short request would need more room than there is on any disk.
    size: usize,
    longest: usize,
}

impl Making for Stored {
    fn len(&self) -> usize {
        self.job.len()
    }

    fn is_long(&self) -> bool {
        self.job.is_long_to_store()
    }

    fn advance(&mut self) -> Result<Progress, Failure> {
        let returns_of_patterns = self.job.returns_of_patterns();
        let (list, size) = (&mut self.list, &mut self.size);
        let progress = self.job.advance(|result| {
            let result = result.map_or_else(Text::default, Found::into_text);
            if returns_of_patterns {
                *size += result.as_bytes().len();
            }
            list.push(End::Right, result);
        })?;
        if self.size > self.longest {
            Err(TOO_LARGE)
        } else {
            Ok(progress)
        }
    }

    fn store(&mut self, db: &mut Database, target: &[u8], reply: &mut Reply) {
        let value = Value::List(Arc::new(std::mem::take(&mut self.list)));
        stored::replace(db, target, value, reply);
    }
}

//! SORT. The elements are sorted in runs of some hundred, and merged while the reply is sent: a million of them delay
//! nobody.
//!
//! With STORE and a BY or GET that refers to other keys, the result may depend on any key. It is made at once if some key
//! has changed during each of the attempts to make it in parts.

pub(super) mod found;
mod job;
mod options;
mod order;

use std::sync::Arc;

use found::Found;
use job::{Job, RUN, Sorting};

use super::flag::{DANGEROUS, DENYOOM, MOVABLEKEYS, READONLY, WRITE};
use super::long::Chunks;
use super::stored::{self, Making};
use super::{Command, Context, Failure, Outcome, command};
use crate::resp::reply::Reply;
use crate::resp::request::Args;
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
        READONLY | DANGEROUS,
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
    let sources = (!options.refers_to_keys()).then(|| vec![key.clone()]);
    let of_set = Arc::new(options.of_stored_set());
    stored::store(context, target, sources, move |db| {
        let options = match db.find(key.as_bytes()) {
            Some(Value::Set(_)) => &of_set,
            _ => &options,
        };
        let job = Job::new(db, key.as_bytes(), Arc::clone(options))?;
        Ok(Stored {
            job,
            list: List::default(),
        })
    })
}

fn reply(context: &mut Context<'_>, mut job: Job) -> Outcome {
    if job.is_long() {
        let sorting = Sorting {
            job,
            memory: context.result_memory(),
            resp3: context.reply.resp3,
            chunks: Chunks::default(),
        };
        context.reply.produce(sorting);
        return Ok(());
    }
    while job.sort_run()? {}
    context.reply.array(job.begin());
    while job.skip_some() {}
    while job.encode_next(context.reply) {}
    Ok(())
}

/// The result as a list.
struct Stored {
    job: Job,
    list: List,
}

impl Making for Stored {
    fn len(&self) -> usize {
        self.job.len()
    }

    fn advance(&mut self) -> Result<bool, Failure> {
        if !self.job.is_sorted() {
            if !self.job.sort_run()? {
                self.job.begin();
            }
            return Ok(true);
        }
        if self.job.skip_some() {
            return Ok(true);
        }
        for _ in 0..RUN {
            let Some(text) = self.job.next() else {
                return Ok(false);
            };
            for result in self.job.results(text) {
                let result = result.map_or_else(Text::default, Found::into_text);
                self.list.push(End::Right, result);
            }
        }
        Ok(true)
    }

    fn store(&mut self, db: &mut Database, target: &[u8], reply: &mut Reply) {
        let value = Value::List(Arc::new(std::mem::take(&mut self.list)));
        stored::replace(db, target, value, reply);
    }
}

//! Unions, intersections and differences of sorted sets. A set counts as one whose scores are 1.

use std::sync::Arc;

use super::combined::{self, Combined};
use super::flag::{DENYOOM, MOVABLEKEYS, READONLY, WRITE};
use super::sorted_combined::{Aggregate, Combine, Job, Source};
use super::sorted_removal::encode;
use super::stored::{self, Making};
use super::{Command, Context, Failure, Outcome, SYNTAX, command, fail, integer};
use crate::resp::reply::Reply;
use crate::resp::request::Args;
use crate::server::progress::Progress;
use crate::store::database::{Database, WrongType};
use crate::store::number;
use crate::store::text::Text;
use crate::store::value::Value;

pub(super) const TABLE: &[Command] = &[
    command(
        "zdiff",
        -3,
        READONLY | MOVABLEKEYS,
        (0, 0, 0),
        "sorted-set",
        "Returns the difference between multiple sorted sets.",
        |it, args| reply(it, args, Combine::Difference),
    ),
    command(
        "zdiffstore",
        -4,
        WRITE | DENYOOM | MOVABLEKEYS,
        (1, 1, 1),
        "sorted-set",
        "Stores the difference of multiple sorted sets in a key.",
        |it, args| store(it, args, Combine::Difference),
    ),
    command(
        "zinter",
        -3,
        READONLY | MOVABLEKEYS,
        (0, 0, 0),
        "sorted-set",
        "Returns the intersect of multiple sorted sets.",
        |it, args| reply(it, args, Combine::Intersection),
    ),
    command(
        "zintercard",
        -3,
        READONLY | MOVABLEKEYS,
        (0, 0, 0),
        "sorted-set",
        "Returns the number of members of the intersect of multiple sorted sets.",
        zintercard,
    ),
    command(
        "zinterstore",
        -4,
        WRITE | DENYOOM | MOVABLEKEYS,
        (1, 1, 1),
        "sorted-set",
        "Stores the intersect of multiple sorted sets in a key.",
        |it, args| store(it, args, Combine::Intersection),
    ),
    command(
        "zunion",
        -3,
        READONLY | MOVABLEKEYS,
        (0, 0, 0),
        "sorted-set",
        "Returns the union of multiple sorted sets.",
        |it, args| reply(it, args, Combine::Union),
    ),
    command(
        "zunionstore",
        -4,
        WRITE | DENYOOM | MOVABLEKEYS,
        (1, 1, 1),
        "sorted-set",
        "Stores the union of multiple sorted sets in a key.",
        |it, args| store(it, args, Combine::Union),
    ),
];

/// How many members are sent at a time.
const PART: usize = 250;

/// What a command combines.
struct Query {
    combine: Combine,
    keys: Vec<Text>,
    /// One for each key.
    weights: Vec<f64>,
    aggregate: Aggregate,
    with_scores: bool,
    /// The highest number of members that is of interest.
    limit: usize,
}

/// Which command it is, apart from how it combines.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Replies,
    Stores,
    Counts,
}

impl Query {
    /// Parses the arguments from the number of keys on, which is at `at`.
    fn parse(
        db: &mut Database,
        args: Args<'_>,
        at: usize,
        combine: Combine,
        form: Form,
    ) -> Result<Query, Failure> {
        let number = integer(args.get(at))?;
        if number < 1 {
            let name = String::from_utf8_lossy(args.get(0)).to_ascii_lowercase();
            let text = format!("ERR at least 1 input key is needed for '{name}' command");
            return Err(text.into());
        }
        if number > (args.len() - at - 1) as i64 {
            return Err(SYNTAX);
        }
        let number = number as usize;
        let keys: Vec<Text> = args.from(at + 1).take(number).map(Text::from).collect();
        // Types are checked before options.
        for key in &keys {
            Source::find(db, key.as_bytes())?;
        }
        let mut query = Query {
            combine,
            weights: vec![1.0; number],
            keys,
            aggregate: Aggregate::Sum,
            with_scores: false,
            limit: usize::MAX,
        };
        query.parse_options(args, at + 1 + number, form)?;
        Ok(query)
    }

    fn parse_options(&mut self, args: Args<'_>, mut at: usize, form: Form) -> Outcome {
        let number = self.keys.len();
        let has_scores = self.combine != Combine::Difference && form != Form::Counts;
        while at < args.len() {
            let left = args.len() - at - 1;
            if has_scores && left >= number && args.is(at, "weights") {
                for (weight, at) in self.weights.iter_mut().zip(at + 1..) {
                    let given = number::float(args.get(at));
                    *weight = given.ok_or(fail("ERR weight value is not a float"))?;
                }
                at += 1 + number;
            } else if has_scores && left >= 1 && args.is(at, "aggregate") {
                self.aggregate = match () {
                    () if args.is(at + 1, "sum") => Aggregate::Sum,
                    () if args.is(at + 1, "min") => Aggregate::Min,
                    () if args.is(at + 1, "max") => Aggregate::Max,
                    () => return Err(SYNTAX),
                };
                at += 2;
            } else if form == Form::Replies && args.is(at, "withscores") {
                self.with_scores = true;
                at += 1;
            } else if form == Form::Counts && left >= 1 && args.is(at, "limit") {
                let limit = super::count(args.get(at + 1));
                self.limit = match limit.map_err(|_| fail("ERR LIMIT can't be negative"))? {
                    0 => usize::MAX,
                    limit => limit,
                };
                at += 2;
            } else {
                return Err(SYNTAX);
            }
        }
        Ok(())
    }

    /// Takes snapshots of the sets.
    fn begin(&self, db: &mut Database) -> Result<Job, WrongType> {
        let mut sources = Vec::new();
        for (key, weight) in self.keys.iter().zip(&self.weights) {
            sources.push((Source::find(db, key.as_bytes())?, *weight));
        }
        Ok(Job::new(sources, self.combine, self.aggregate, self.limit))
    }
}

impl Making for Job {
    fn len(&self) -> usize {
        self.len()
    }

    fn is_long(&self) -> bool {
        self.is_long()
    }

    fn advance(&mut self) -> Result<Progress, Failure> {
        Ok(self.combine_some())
    }

    fn store(&mut self, db: &mut Database, target: &[u8], reply: &mut Reply) {
        let value = Value::Sorted(Arc::new(std::mem::take(&mut *self.result)));
        stored::replace(db, target, value, reply);
    }
}

fn store(context: &mut Context<'_>, args: Args<'_>, combine: Combine) -> Outcome {
    let query = Query::parse(context.db(), args, 2, combine, Form::Stores)?;
    let sources = query.keys.clone();
    stored::store(
        context,
        args.get(1),
        sources,
        move |db| Ok(query.begin(db)?),
    )
}

fn zintercard(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let query = Query::parse(context.db(), args, 1, Combine::Intersection, Form::Counts)?;
    send(context, &query, Form::Counts)
}

fn reply(context: &mut Context<'_>, args: Args<'_>, combine: Combine) -> Outcome {
    let query = Query::parse(context.db(), args, 1, combine, Form::Replies)?;
    send(context, &query, Form::Replies)
}

fn send(context: &mut Context<'_>, query: &Query, form: Form) -> Outcome {
    let resp3 = context.reply.resp3;
    let mut answer = Answer {
        job: query.begin(context.db())?,
        form,
        with_scores: query.with_scores,
        resp3,
    };
    if answer.job.is_long() {
        combined::reply_later(context, answer);
        return Ok(());
    }
    while answer.combine_some() == Progress::More {}
    answer.begin(context.reply);
    if form == Form::Replies {
        answer.encode(context.reply, 0, usize::MAX);
    }
    Ok(())
}

/// The result, and what the reply has of it.
struct Answer {
    job: Job,
    form: Form,
    with_scores: bool,
    resp3: bool,
}

impl Combined for Answer {
    fn combine_some(&mut self) -> Progress {
        self.job.combine_some()
    }

    fn size(&self) -> usize {
        self.job.size()
    }

    fn begin(&self, reply: &mut Reply) {
        let len = self.job.result.len();
        match self.form {
            Form::Counts => reply.count(len.min(self.job.limit)),
            _ if self.with_scores && !self.resp3 => reply.array(2 * len),
            _ => reply.array(len),
        }
    }

    /// The position is that of a member.
    fn encode_some(&self, reply: &mut Reply, from: usize) -> Option<usize> {
        let count = match self.form {
            Form::Replies => self.encode(reply, from, PART),
            _ => 0,
        };
        (count > 0).then_some(from + count)
    }
}

impl Answer {
    /// Returns how many members there were.
    fn encode(&self, reply: &mut Reply, from: usize, most: usize) -> usize {
        let mut count = 0;
        for it in self.job.result.ranked.from(from).take(most) {
            count += 1;
            if self.with_scores {
                encode(reply, it, self.resp3);
            } else {
                reply.item(&it.member);
            }
        }
        count
    }
}

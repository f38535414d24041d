//! Sets.

use std::sync::Arc;

use super::flag::{COUNTED, DENYOOM, FAST, READONLY, TAKES, WRITE};
use super::long::Snapshot;
use super::stored::{self, Making};
use super::{
    Command, Context, Failure, NOT_POSITIVE, Outcome, SYNTAX, command, count, long, sample,
    signed_count,
};
use crate::resp::reply::Reply;
use crate::resp::request::Args;
use crate::server::progress::Progress;
use crate::store::database::Database;
use crate::store::text::Text;
use crate::store::value::{Set, Value};

pub(super) const TABLE: &[Command] = &[
    command(
        "sadd",
        -3,
        WRITE | DENYOOM | FAST,
        (1, 1, 1),
        "set",
        "Adds one or more members to a set. Creates the key if it doesn't exist.",
        sadd,
    ),
    command(
        "scard",
        2,
        READONLY | FAST,
        (1, 1, 1),
        "set",
        "Returns the number of members in a set.",
        scard,
    ),
    command(
        "sismember",
        3,
        READONLY | FAST,
        (1, 1, 1),
        "set",
        "Determines whether a member belongs to a set.",
        sismember,
    ),
    command(
        "smembers",
        2,
        READONLY,
        (1, 1, 1),
        "set",
        "Returns all members of a set.",
        smembers,
    ),
    command(
        "smismember",
        -3,
        READONLY | FAST,
        (1, 1, 1),
        "set",
        "Determines whether multiple members belong to a set.",
        smismember,
    ),
    command(
        "smove",
        4,
        WRITE | FAST,
        (1, 2, 1),
        "set",
        "Moves a member from one set to another.",
        smove,
    ),
    command(
        "spop",
        -2,
        WRITE | FAST | COUNTED | TAKES,
        (1, 1, 1),
        "set",
        "Returns one or more random members from a set after removing them. Deletes the set if the last member was popped.",
        spop,
    ),
    command(
        "srandmember",
        -2,
        READONLY,
        (1, 1, 1),
        "set",
        "Get one or multiple random members from a set",
        srandmember,
    ),
    command(
        "srem",
        -3,
        WRITE | FAST,
        (1, 1, 1),
        "set",
        "Removes one or more members from a set. Deletes the set if the last member was removed.",
        srem,
    ),
];

fn sadd(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let key = args.get(1);
    let db = context.db();
    let set = db.members_or_new(key)?;
    let mut added = Vec::new();
    for at in 2..args.len() {
        if !set.contains(args.get(at)) {
            set.insert_new(args.text(at));
            added.push(at);
        }
    }
    db.touch_elements(key, added.iter().map(|at| args.text(*at)));
    context.reply.count(added.len());
    Ok(())
}

fn srem(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let key = args.get(1);
    let db = context.db();
    let mut removed = Vec::new();
    if let Some(set) = db.members_mut(key)? {
        removed.extend((2..args.len()).filter(|at| set.remove(args.get(*at)).is_some()));
    }
    db.touch_elements(key, removed.iter().map(|at| args.text(*at)));
    db.remove_if_empty(key);
    context.reply.count(removed.len());
    Ok(())
}

fn scard(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let len = context
        .db()
        .members(args.get(1))?
        .map_or(0, |set| set.len());
    context.reply.count(len);
    Ok(())
}

fn sismember(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let is_member = context
        .db()
        .members(args.get(1))?
        .is_some_and(|set| set.contains(args.get(2)));
    context.reply.boolean(is_member);
    Ok(())
}

fn smismember(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let db = context
        .data
        .keyspace
        .database(context.client.database.load());
    let set = db.members(args.get(1))?;
    context.reply.array(args.len() - 2);
    for member in args.from(2) {
        context
            .reply
            .boolean(set.is_some_and(|set| set.contains(member)));
    }
    Ok(())
}

fn smembers(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let db = context
        .data
        .keyspace
        .database(context.client.database.load());
    let Some(set) = db.members(args.get(1))? else {
        context.reply.set(0);
        return Ok(());
    };
    context.reply.set(set.len());
    if set.len() <= long::MANY
        && set.iter().map(|it| it.as_bytes().len()).sum::<usize>() <= long::MANY_BYTES
    {
        set.iter().for_each(|member| context.reply.item(member));
        return Ok(());
    }
    let (set, mut segment) = (Snapshot((**set).clone()), 0);
    long::reply_items(context.reply, move |reply| {
        let members = set.segment(segment);
        segment += 1;
        members
            .map(|members| members.for_each(|it| reply.item(it)))
            .is_some()
    });
    Ok(())
}

fn smove(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (from, to, member) = (args.get(1), args.get(2), args.get(3));
    let db = context.db();
    let is_member = db.members(from)?.is_some_and(|set| set.contains(member));
    if db.members(from)?.is_some() {
        db.members(to)?;
    }
    if is_member && from != to {
        if let Some(set) = db.members_mut(from)? {
            set.remove(member);
        }
        db.touch_element(from, || args.text(3));
        db.remove_if_empty(from);
        let target = db.members_or_new(to)?;
        // A transaction that watches a target with this member does not fail.
        if !target.contains(member) {
            target.insert_new(args.text(3));
            db.touch_element(to, || args.text(3));
        }
    }
    context.reply.boolean(is_member);
    Ok(())
}

fn spop(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let wanted = match args.len() {
        2 => None,
        3 => Some(count(args.get(2)).map_err(|_| NOT_POSITIVE)?),
        _ => return Err(SYNTAX),
    };
    let key = args.get(1);
    let db = context
        .data
        .keyspace
        .database(context.client.database.load());
    let len = db.members(key)?.map_or(0, |set| set.len());
    let number = wanted.unwrap_or(1).min(len);
    if let Some(wanted) = wanted
        && number > long::MANY
    {
        return pop_many(context, key, wanted);
    }
    if wanted.is_some() {
        context.reply.set(number);
    } else if len == 0 {
        context.reply.null();
    }
    let mut taken = Vec::new();
    if number > 0
        && let Some(set) = db.members_mut(key)?
    {
        for _ in 0..number {
            let Some(member) = set.random(fastrand::u64(..)).cloned() else {
                break;
            };
            set.remove(member.as_bytes());
            context.reply.item(&member);
            taken.push(member);
        }
    }
    db.touch_elements(key, taken.into_iter());
    db.remove_if_empty(key);
    Ok(())
}

/// How many members are a part.
const PART: usize = 250;

/// SPOP of many members, a part at a time.
struct Popped {
    set: Set,
    number: usize,
    members: Vec<Text>,
}

fn pop_many(context: &mut Context<'_>, key: &[u8], wanted: usize) -> Outcome {
    let source = Text::from(key);
    stored::store(context, key, vec![source.clone()], move |db| {
        let set = db.members(source.as_bytes())?;
        let set = set.map(|set| Set::clone(set)).unwrap_or_default();
        Ok(Popped {
            number: wanted.min(set.len()),
            set,
            members: Vec::new(),
        })
    })
}

impl Making for Popped {
    fn len(&self) -> usize {
        self.number
    }

    fn advance(&mut self) -> Result<Progress, Failure> {
        for _ in 0..PART.min(self.number - self.members.len()) {
            let Some(member) = self.set.random(fastrand::u64(..)).cloned() else {
                return Ok(Progress::Complete);
            };
            self.set.remove(member.as_bytes());
            self.members.push(member);
        }
        Ok(Progress::more_if(self.members.len() < self.number))
    }

    fn store(&mut self, db: &mut Database, target: &[u8], reply: &mut Reply) {
        let left = Value::Set(Arc::new(std::mem::take(&mut self.set)));
        stored::leave(db, target, left);
        let members = std::mem::take(&mut self.members);
        reply.has_taken = true;
        reply.set(members.len());
        let mut members = members.into_iter();
        long::reply_items(reply, move |reply| {
            let next = members.next();
            next.map(|it| reply.item(&it)).is_some()
        });
    }
}

fn srandmember(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let wanted = match args.len() {
        2 => None,
        3 => Some(signed_count(args.get(2))?),
        _ => return Err(SYNTAX),
    };
    let memory = context.result_memory();
    let db = context
        .data
        .keyspace
        .database(context.client.database.load());
    let set = db.members(args.get(1))?;
    let Some(wanted) = wanted else {
        let member = set.and_then(|set| set.random(fastrand::u64(..)));
        context.reply.optional_item(member);
        return Ok(());
    };
    let Some(set) = set else {
        context.reply.array(0);
        return Ok(());
    };
    if wanted < 0 {
        let set = Snapshot((**set).clone());
        let number = wanted.unsigned_abs() as usize;
        context.reply.array(number);
        sample::repeated(context.reply, number, move |reply| {
            let member = set.random(fastrand::u64(..));
            member.map(|it| reply.item(it)).is_some()
        });
        return Ok(());
    }
    let number = set.len().min(wanted as usize);
    context.reply.array(number);
    let size = |it: &Text| it.as_bytes().len();
    sample::distinct(
        (context.reply, memory),
        &**set,
        number,
        size,
        |reply, it| {
            reply.item(it);
        },
    );
    Ok(())
}

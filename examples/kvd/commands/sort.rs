//! SORT. The elements are sorted in runs of some hundred, and merged while the reply is sent: a million of them delay
//! nobody.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::io;
use std::sync::Arc;

use asynchat::bytes::Bytes;
use asynchat::{More, Producer};

use super::flag::{DENYOOM, READONLY, WRITE};
use super::stored::{self, Making};
use super::{Command, Context, Failure, Outcome, SYNTAX, command, fail, integer, long};
use crate::resp::reply::Reply;
use crate::resp::request::Args;
use crate::store::database::{Database, Entry, WrongType};
use crate::store::list::{End, List};
use crate::store::number::{self, Digits};
use crate::store::sorted_set::SortedSet;
use crate::store::table::Table;
use crate::store::text::Text;
use crate::store::value::{Set, Value};

pub(super) const TABLE: &[Command] = &[
    command(
        "sort",
        -2,
        WRITE | DENYOOM,
        (1, 1, 1),
        "generic",
        "Sorts the elements in a list, a set, or a sorted set, optionally storing the result.",
        |it, args| sort(it, args, true),
    ),
    command(
        "sort_ro",
        -2,
        READONLY,
        (1, 1, 1),
        "generic",
        "Returns the sorted elements of a list, a set, or a sorted set.",
        |it, args| sort(it, args, false),
    ),
];

/// How many elements of a list are a run. A set has runs of a segment each.
const RUN: usize = 500;

/// How many runs are sorted at a time.
const RUNS_AT_ONCE: usize = 2;

struct Options {
    by: Option<Vec<u8>>,
    /// What is returned of each element. Itself if this is empty.
    wanted: Vec<Vec<u8>>,
    offset: usize,
    most: usize,
    descending: bool,
    alphabetic: bool,
}

impl Options {
    /// BY with a pattern that is the same for all elements leaves them in their order.
    fn is_sorted(&self) -> bool {
        self.by
            .as_ref()
            .is_none_or(|pattern| pattern.contains(&b'*'))
    }

    /// Whether the result depends on other keys, too.
    fn refers_to_keys(&self) -> bool {
        let sorts_by_key = self.by.is_some() && self.is_sorted();
        sorts_by_key || self.wanted.iter().any(|pattern| pattern != b"#")
    }
}

/// An element with what it is sorted by.
struct Item {
    weight: Weight,
    text: Text,
    /// Its number in the collection.
    sequence: usize,
    options: Arc<Options>,
}

enum Weight {
    Number(f64),
    Text(Option<Text>),
    /// The element itself.
    Own,
}

impl Ord for Item {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_weight = match (&self.weight, &other.weight) {
            _ if !self.options.is_sorted() => return self.sequence.cmp(&other.sequence),
            (Weight::Number(a), Weight::Number(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
            (Weight::Text(a), Weight::Text(b)) => a.cmp(b),
            _ => Ordering::Equal,
        };
        let order = by_weight.then_with(|| self.text.cmp(&other.text));
        match self.options.descending {
            true => order.reverse(),
            false => order,
        }
    }
}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Item {}

/// The least remaining element of a run, and those that follow it. The greatest of these in a heap is the one with the
/// least element.
struct Run(Item, std::vec::IntoIter<Item>);

impl Ord for Run {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.cmp(&self.0)
    }
}

impl PartialOrd for Run {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Run {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Run {}

/// A snapshot of the collection.
enum Source {
    List(Arc<List>),
    Set(Table<Text>),
    Sorted(Arc<SortedSet>),
}

impl Source {
    fn len(&self) -> usize {
        match self {
            Source::List(list) => list.items.len(),
            Source::Set(set) => set.len(),
            Source::Sorted(set) => set.len(),
        }
    }

    /// The elements of a run. `None` behind the last one.
    fn run(&self, number: usize, options: &Options) -> Option<Vec<Text>> {
        let (from, len) = (number * RUN, self.len());
        match self {
            Source::Set(set) => Some(set.segment(number)?.cloned().collect()),
            _ if from >= len => None,
            // DESC without sorting begins at the end of a list, too.
            Source::List(list) if options.descending && !options.is_sorted() => {
                let items = list.items.range(len.saturating_sub(from + RUN)..len - from);
                Some(items.rev().cloned().collect())
            }
            Source::List(list) => Some(
                list.items
                    .range(from..len.min(from + RUN))
                    .cloned()
                    .collect(),
            ),
            // Without sorting, the members are in the order of their scores.
            Source::Sorted(set) if options.descending && !options.is_sorted() => {
                let members = set.ranked.before(len - from).take(RUN);
                Some(members.map(|it| it.member.clone()).collect())
            }
            Source::Sorted(set) => {
                let members = set.ranked.from(from).take(RUN);
                Some(members.map(|it| it.member.clone()).collect())
            }
        }
    }
}

struct Job {
    source: Source,
    /// The keys that BY and GET refer to, if they do.
    keys: Table<Entry>,
    now: i64,
    options: Arc<Options>,
    next_run: usize,
    count: usize,
    runs: BinaryHeap<Run>,
    /// How many elements are still to be left out, and to be returned. `None` before the reply has begun.
    left: Option<(usize, usize)>,
    resp3: bool,
}

impl Job {
    fn new(
        db: &mut Database,
        key: &[u8],
        options: Arc<Options>,
        resp3: bool,
    ) -> Result<Job, Failure> {
        let source = match db.find(key) {
            None => Source::Set(Set::default()),
            Some(Value::List(list)) => Source::List(Arc::clone(list)),
            Some(Value::Set(set)) => Source::Set((**set).clone()),
            Some(Value::Sorted(set)) => Source::Sorted(Arc::clone(set)),
            Some(_) => return Err(WrongType.into()),
        };
        let keys = match options.refers_to_keys() {
            true => db.table().clone(),
            false => Table::default(),
        };
        Ok(Job {
            source,
            keys,
            now: db.now,
            options,
            next_run: 0,
            count: 0,
            runs: BinaryHeap::new(),
            left: None,
            resp3,
        })
    }

    /// Sorts one more run. Returns false if there is none.
    fn sort_run(&mut self) -> Result<bool, Failure> {
        let Some(texts) = self.source.run(self.next_run, &self.options) else {
            return Ok(false);
        };
        self.next_run += 1;
        let mut items = Vec::with_capacity(texts.len());
        for text in texts {
            items.push(Item {
                weight: self.weight(&text)?,
                text,
                sequence: self.count,
                options: Arc::clone(&self.options),
            });
            self.count += 1;
        }
        items.sort_unstable();
        let mut items = items.into_iter();
        if let Some(first) = items.next() {
            self.runs.push(Run(first, items));
        }
        Ok(true)
    }

    fn weight(&self, text: &Text) -> Result<Weight, Failure> {
        let options = &*self.options;
        if !options.is_sorted() {
            return Ok(Weight::Own);
        }
        let found = match &options.by {
            None if options.alphabetic => return Ok(Weight::Own),
            None => Some(text.clone()),
            Some(pattern) => self.look_up(pattern, text),
        };
        if options.alphabetic {
            return Ok(Weight::Text(found));
        }
        let number = match &found {
            None => Some(0.0),
            Some(text) => number::float(text.as_bytes()),
        };
        let number = number.ok_or(fail(
            "ERR One or more scores can't be converted into double",
        ))?;
        Ok(Weight::Number(number))
    }

    /// The value that a pattern refers to: of a key, or of a field of a hash (`key->field`), with the element for `*`.
    fn look_up(&self, pattern: &[u8], text: &Text) -> Option<Text> {
        if pattern == b"#" {
            return Some(text.clone());
        }
        let star = pattern.iter().position(|byte| *byte == b'*')?;
        let arrow = pattern.windows(2).skip(star).position(|it| it == b"->");
        let arrow = arrow
            .map(|at| at + star)
            .filter(|at| at + 2 < pattern.len());
        let key = [
            &pattern[..star],
            text.as_bytes(),
            &pattern[star + 1..arrow.unwrap_or(pattern.len())],
        ];
        let entry = self.keys.find(&key.concat())?;
        if entry.expires != 0 && entry.expires <= self.now {
            return None;
        }
        match (&entry.value, arrow) {
            (Value::Hash(hash), Some(arrow)) => hash.find(&pattern[arrow + 2..]).cloned(),
            (value, None) => value.text(&mut Digits::default()).map(Text::from),
            _ => None,
        }
    }

    /// Begins the reply. Returns the number of its elements.
    fn begin(&mut self) -> usize {
        let offset = self.options.offset.min(self.count);
        let most = self.options.most.min(self.count - offset);
        self.left = Some((offset, most));
        most * self.options.wanted.len().max(1)
    }

    /// The next element in order.
    fn next(&mut self) -> Option<Text> {
        loop {
            let (skipped, wanted) = self.left?;
            if wanted == 0 {
                return None;
            }
            let Run(item, mut rest) = self.runs.pop()?;
            if let Some(next) = rest.next() {
                self.runs.push(Run(next, rest));
            }
            match skipped {
                0 => {
                    self.left = Some((0, wanted - 1));
                    return Some(item.text);
                }
                _ => self.left = Some((skipped - 1, wanted)),
            }
        }
    }

    /// What is returned of an element.
    fn results(&self, text: Text) -> Vec<Option<Text>> {
        match self.options.wanted.as_slice() {
            [] => vec![Some(text)],
            wanted => wanted
                .iter()
                .map(|pattern| self.look_up(pattern, &text))
                .collect(),
        }
    }

    fn encode_next(&mut self, reply: &mut Reply) -> bool {
        let Some(text) = self.next() else {
            return false;
        };
        for result in self.results(text) {
            reply.optional(result.as_ref().map(Text::as_bytes));
        }
        true
    }
}

impl long::Droppable for BinaryHeap<Run> {
    fn is_long(&self) -> bool {
        !self.is_empty()
    }
}

impl Producer for Job {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        let mut reply = Reply {
            resp3: self.resp3,
            ..Reply::default()
        };
        if self.left.is_none() {
            for _ in 0..RUNS_AT_ONCE {
                match self.sort_run() {
                    Ok(true) => {}
                    Ok(false) => {
                        let len = self.begin();
                        reply.array(len);
                        return Ok(More::Chunk(reply.buffer.into()));
                    }
                    Err(failure) => {
                        self.left = Some((0, 0));
                        reply.error(&failure.0);
                        return Ok(More::Chunk(reply.buffer.into()));
                    }
                }
            }
            return Ok(More::Chunk(Bytes::new()));
        }
        while reply.len() < budget.min(1 << 14) && self.encode_next(&mut reply) {}
        Ok(match reply.is_empty() {
            true => {
                // With LIMIT most elements are left.
                long::drop_later(std::mem::take(&mut self.runs));
                More::Done
            }
            false => More::Chunk(reply.buffer.into()),
        })
    }
}

/// The result as a list.
struct Stored {
    job: Job,
    list: List,
}

impl Making for Stored {
    fn len(&self) -> usize {
        self.job.source.len()
    }

    fn advance(&mut self) -> Result<bool, Failure> {
        if self.job.left.is_none() {
            if !self.job.sort_run()? {
                self.job.begin();
            }
            return Ok(true);
        }
        for _ in 0..RUN {
            let Some(text) = self.job.next() else {
                return Ok(false);
            };
            for result in self.job.results(text) {
                let result = result.unwrap_or_else(|| b""[..].into());
                self.list.push(End::Right, result);
            }
        }
        Ok(true)
    }

    fn value(&mut self) -> Value {
        long::drop_later(std::mem::take(&mut self.job.runs));
        Value::List(Arc::new(std::mem::take(&mut self.list)))
    }
}

fn sort(context: &mut Context<'_>, args: Args<'_>, may_store: bool) -> Outcome {
    let (options, target) = parse(args, may_store)?;
    let (key, options) = (args.get(1), Arc::new(options));
    let Some(target) = target else {
        let resp3 = context.reply.resp3;
        let job = Job::new(context.db(), key, options, resp3)?;
        return reply(context, job);
    };
    let key = Text::from(key);
    let sources = (!options.refers_to_keys()).then(|| vec![key.clone()]);
    stored::store(context, target, sources, move |db| {
        let job = Job::new(db, key.as_bytes(), Arc::clone(&options), false)?;
        Ok(Stored {
            job,
            list: List::default(),
        })
    })
}

fn reply(context: &mut Context<'_>, mut job: Job) -> Outcome {
    if job.source.len() > long::MANY {
        context.reply.produce(job);
        return Ok(());
    }
    while job.sort_run()? {}
    context.reply.array(job.begin());
    while job.encode_next(context.reply) {}
    Ok(())
}

/// The options, and the key for the result.
fn parse(args: Args<'_>, may_store: bool) -> Result<(Options, Option<&[u8]>), Failure> {
    let mut options = Options {
        by: None,
        wanted: Vec::new(),
        offset: 0,
        most: usize::MAX,
        descending: false,
        alphabetic: false,
    };
    let mut target = None;
    let mut at = 2;
    while at < args.len() {
        let left = args.len() - at - 1;
        match args.get(at).to_ascii_lowercase().as_slice() {
            b"asc" => options.descending = false,
            b"desc" => options.descending = true,
            b"alpha" => options.alphabetic = true,
            b"limit" if left >= 2 => {
                options.offset = usize::try_from(integer(args.get(at + 1))?).unwrap_or(0);
                options.most = usize::try_from(integer(args.get(at + 2))?).unwrap_or(usize::MAX);
                at += 2;
            }
            b"store" if left >= 1 && may_store => {
                target = Some(args.get(at + 1));
                at += 1;
            }
            b"by" if left >= 1 => {
                options.by = Some(args.get(at + 1).to_vec());
                at += 1;
            }
            b"get" if left >= 1 => {
                options.wanted.push(args.get(at + 1).to_vec());
                at += 1;
            }
            _ => return Err(SYNTAX),
        }
        at += 1;
    }
    Ok((options, target))
}

//! Sorts the elements of a snapshot in runs, and merges them.

use std::collections::BinaryHeap;
use std::io;
use std::sync::Arc;

use asynchat::bytes::Bytes;
use asynchat::{More, Producer};

use super::found::Found;
use super::options::Options;
use super::order::{Item, Order, Run, Weight};
use crate::commands::long::{Chunks, Snapshot, are_many, has_room};
use crate::commands::{Failure, fail};
use crate::resp::reply::Reply;
use crate::server::results::ResultMemory;
use crate::store::database::{Database, Entry, WrongType};
use crate::store::list::List;
use crate::store::number;
use crate::store::sorted_set::SortedSet;
use crate::store::table::Table;
use crate::store::text::Text;
use crate::store::value::{Set, Value};

/// How many elements of a list are a run. A set has runs of a segment each.
pub const RUN: usize = 500;

/// How many elements are not many even if each refers to other keys, whose values may be large.
const FEW: usize = 16;

/// How many runs are sorted at a time.
const RUNS_AT_ONCE: usize = 2;

/// A snapshot of the collection.
enum Source {
    List(Snapshot<Arc<List>>),
    Set(Snapshot<Set>),
    Sorted(Snapshot<Arc<SortedSet>>),
}

impl Source {
    fn len(&self) -> usize {
        match self {
            Source::List(list) => list.len(),
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
                let items = list.range(len.saturating_sub(from + RUN)..len - from);
                Some(items.rev().cloned().collect())
            }
            Source::List(list) => Some(list.range(from..len.min(from + RUN)).cloned().collect()),
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

pub struct Job {
    source: Source,
    /// The keys that BY and GET refer to, if they do.
    keys: Snapshot<Table<Entry>>,
    now: i64,
    options: Arc<Options>,
    next_run: usize,
    count: usize,
    /// The bytes of the elements and weights that are copies.
    copied: usize,
    runs: Snapshot<BinaryHeap<Run>>,
    /// How many elements are still to be left out, and to be returned. `None` before the reply has begun.
    left: Option<(usize, usize)>,
}

impl Job {
    pub fn new(db: &mut Database, key: &[u8], options: Arc<Options>) -> Result<Job, Failure> {
        let source = match db.find(key) {
            None => Source::Set(Snapshot::default()),
            Some(Value::List(list)) => Source::List(Snapshot(Arc::clone(list))),
            Some(Value::Set(set)) => Source::Set(Snapshot((**set).clone())),
            Some(Value::Sorted(set)) => Source::Sorted(Snapshot(Arc::clone(set))),
            Some(_) => return Err(WrongType.into()),
        };
        let keys = match options.refers_to_keys() {
            true => Snapshot(db.table().clone()),
            false => Snapshot::default(),
        };
        Ok(Job {
            source,
            keys,
            now: db.now,
            options,
            next_run: 0,
            count: 0,
            copied: 0,
            runs: Snapshot::default(),
            left: None,
        })
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.source.len()
    }

    /// Whether the reply takes long: because they are many, or because they or what they refer to may be large.
    pub fn is_long(&self) -> bool {
        if self.options.refers_to_keys() && self.len() > FEW {
            return true;
        }
        let size = |text: &Text| text.as_bytes().len();
        match &self.source {
            Source::List(list) => are_many(list.len(), list.iter().map(size)),
            Source::Set(set) => are_many(set.len(), set.iter().map(size)),
            Source::Sorted(set) => {
                are_many(set.len(), set.ranked.from(0).map(|it| size(&it.member)))
            }
        }
    }

    /// Whether the result is complete, and can be taken.
    pub fn is_sorted(&self) -> bool {
        self.left.is_some()
    }

    /// Sorts one more run. Returns false if there is none.
    pub fn sort_run(&mut self) -> Result<bool, Failure> {
        let Some(texts) = self.source.run(self.next_run, &self.options) else {
            return Ok(false);
        };
        self.next_run += 1;
        let order = Order {
            is_sorted: self.options.is_sorted(),
            is_descending: self.options.descending,
        };
        let mut items = Vec::with_capacity(texts.len());
        for text in texts {
            let weight = self.weight(&text)?;
            self.copied += text.size_of_clone() + weight.size_of_copy();
            items.push(Item {
                weight,
                text,
                sequence: self.count as u32,
                order,
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
            None => Some(Found::Text(text.clone())),
            Some(pattern) => self.look_up(pattern, text),
        };
        if options.alphabetic {
            return Ok(Weight::Text(found.map(Box::new)));
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
    fn look_up(&self, pattern: &[u8], text: &Text) -> Option<Found> {
        if pattern == b"#" {
            return Some(Found::Text(text.clone()));
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
            (Value::Hash(hash), Some(arrow)) => {
                let text = hash.find(&pattern[arrow + 2..])?;
                Some(Found::Text(text.clone()))
            }
            (value, None) => Found::of(value),
            _ => None,
        }
    }

    /// The bytes of memory of the result.
    fn size(&self) -> usize {
        self.count * size_of::<Item>() + self.copied
    }

    /// Begins the reply. Returns the number of its elements.
    pub fn begin(&mut self) -> usize {
        let offset = self.options.offset.min(self.count);
        let most = self.options.most.min(self.count - offset);
        self.left = Some((if most == 0 { 0 } else { offset }, most));
        most * self.options.wanted.len().max(1)
    }

    /// Leaves out some of the elements that are not wanted. Returns false if there are no more of them.
    pub fn skip_some(&mut self) -> bool {
        let Some((skipped @ 1.., wanted)) = self.left else {
            return false;
        };
        let number = skipped.min(RUN);
        for _ in 0..number {
            self.take();
        }
        self.left = Some((skipped - number, wanted));
        true
    }

    /// The next element in order, when those that are not wanted are left out.
    pub fn next(&mut self) -> Option<Text> {
        let Some((0, wanted @ 1..)) = self.left else {
            return None;
        };
        self.left = Some((0, wanted - 1));
        self.take()
    }

    fn take(&mut self) -> Option<Text> {
        let Run(item, mut rest) = self.runs.pop()?;
        if let Some(next) = rest.next() {
            self.runs.push(Run(next, rest));
        }
        Some(item.text)
    }

    /// What is returned of an element.
    pub fn results(&self, text: Text) -> Vec<Option<Found>> {
        match self.options.wanted.as_slice() {
            [] => vec![Some(Found::Text(text))],
            wanted => wanted
                .iter()
                .map(|pattern| self.look_up(pattern, &text))
                .collect(),
        }
    }

    pub fn encode_next(&mut self, reply: &mut Reply) -> bool {
        let Some(text) = self.next() else {
            return false;
        };
        for result in self.results(text) {
            match result {
                Some(result) => result.encode(reply),
                None => reply.null(),
            }
        }
        true
    }
}

/// A job whose result is sent when it is sorted.
pub struct Sorting {
    pub job: Job,
    pub memory: ResultMemory,
    pub resp3: bool,
    pub chunks: Chunks,
}

impl Producer for Sorting {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        if let Some(more) = self.chunks.next() {
            return Ok(more);
        }
        self.memory.note_use(self.job.size())?;
        let mut reply = Reply {
            resp3: self.resp3,
            ..Reply::default()
        };
        if self.job.left.is_none() {
            for _ in 0..RUNS_AT_ONCE {
                match self.job.sort_run() {
                    Ok(true) => {}
                    Ok(false) => {
                        let len = self.job.begin();
                        reply.array(len);
                        return Ok(More::Chunk(reply.buffer.into()));
                    }
                    Err(failure) => {
                        self.job.left = Some((0, 0));
                        reply.error(&failure.0);
                        return Ok(More::Chunk(reply.buffer.into()));
                    }
                }
            }
            return Ok(More::Chunk(Bytes::new()));
        }
        if self.job.skip_some() {
            return Ok(More::Chunk(Bytes::new()));
        }
        while has_room(&reply, budget.min(1 << 14)) && self.job.encode_next(&mut reply) {}
        Ok(self.chunks.first(reply).unwrap_or(More::Done))
    }
}

//! Sorts the elements of a snapshot in runs, merges them, and looks up what is returned of them.

use std::collections::BinaryHeap;
use std::mem;
use std::sync::Arc;
use std::vec;

use super::options::{Options, Reference};
use super::order::{Item, Order, Run, Weight};
use crate::commands::found::Found;
use crate::commands::long::{MANY, Snapshot, are_many};
use crate::commands::{Failure, LONGEST_NAME, fail};
use crate::server::progress::Progress;
use crate::store::database::{Database, Entry, WrongType};
use crate::store::list::List;
use crate::store::number;
use crate::store::sorted_set::SortedSet;
use crate::store::table::Table;
use crate::store::text::Text;
use crate::store::value::{Set, Value};

/// How many elements of a list are a run. A set has runs of a segment each. A run of large elements has fewer: it is sorted
/// at once.
const RUN: usize = 500;

/// How many look-ups of other keys, whose values may be large, are not many.
const FEW: usize = 16;

/// How many bytes a part of the work reads. An element, and each look-up, counts as so many more: 500 short ones are a
/// part.
const PART: usize = 64 * 1024;
const OVERHEAD: usize = 128;

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
    /// The keys that BY and GET refer to, if they do, as long as some are to be looked up.
    keys: Snapshot<Table<Entry>>,
    now: i64,
    options: Arc<Options>,
    next_run: usize,
    /// The run that is being made: the elements that are still to be weighed, and the others.
    texts: vec::IntoIter<Text>,
    items: Vec<Item>,
    /// The bytes that are read if each of them is compared once.
    compared: usize,
    count: usize,
    /// The bytes of the elements and weights that are copies.
    copied: usize,
    runs: Snapshot<BinaryHeap<Run>>,
    /// How many elements are still to be left out, and to be returned. `None` before all are sorted.
    left: Option<(usize, usize)>,
    /// The element of which something is still to be returned, and how many of the patterns are done.
    element: Option<Text>,
    done: usize,
    /// How much of a part is done.
    cost: usize,
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
        let keys = if options.refers_to_keys() {
            Snapshot(db.table().clone())
        } else {
            Snapshot::default()
        };
        Ok(Job {
            source,
            keys,
            now: db.now,
            options,
            next_run: 0,
            texts: Vec::new().into_iter(),
            items: Vec::new(),
            compared: 0,
            count: 0,
            copied: 0,
            runs: Snapshot::default(),
            left: None,
            element: None,
            done: 0,
            cost: 0,
        })
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.source.len()
    }

    /// Whether the reply takes long: because the elements or the look-ups are many, or because they may be large.
    pub fn is_long(&self) -> bool {
        self.len().saturating_mul(self.options.look_ups()) > FEW || self.has_many_texts()
    }

    /// Whether it takes long to store the result.
    pub fn is_long_to_store(&self) -> bool {
        self.len() > MANY || (self.options.refers_to_keys() && self.has_many_texts())
    }

    fn has_many_texts(&self) -> bool {
        let texts = self.options.texts();
        let number = self.len().saturating_mul(texts);
        let size = |text: &Text| text.as_bytes().len().saturating_mul(texts);
        match &self.source {
            Source::List(list) => are_many(number, list.iter().map(size)),
            Source::Set(set) => are_many(number, set.iter().map(size)),
            Source::Sorted(set) => are_many(number, set.ranked.from(0).map(|it| size(&it.member))),
        }
    }

    /// Whether all elements are sorted, and the results can be taken.
    pub fn is_sorted(&self) -> bool {
        self.left.is_some()
    }

    /// Whether other keys are looked up for the results.
    pub fn returns_of_keys(&self) -> bool {
        self.options.returns_of_keys()
    }

    /// Whether there is a pattern of GET. Otherwise the results are elements of the collection, each once.
    pub fn returns_of_patterns(&self) -> bool {
        !self.options.wanted.is_empty()
    }

    /// Does one more part, and gives the results that this makes to `take`.
    pub fn advance(&mut self, mut take: impl FnMut(Option<Found>)) -> Result<Progress, Failure> {
        self.cost = 0;
        if !self.is_sorted() {
            if self.sort_some()? == Progress::Complete {
                self.end_sorting();
            }
            return Ok(Progress::More);
        }
        if self.skip_some() == Progress::More {
            return Ok(Progress::More);
        }
        while self.cost < PART {
            let Some(result) = self.next_result() else {
                self.clear();
                return Ok(Progress::Complete);
            };
            take(result);
        }
        Ok(Progress::More)
    }

    /// Sorts one more part, if there is one.
    fn sort_some(&mut self) -> Result<Progress, Failure> {
        while self.cost < PART {
            self.cost += OVERHEAD;
            let Some(text) = self.texts.next() else {
                self.end_run();
                let Some(texts) = self.source.run(self.next_run, &self.options) else {
                    return Ok(Progress::Complete);
                };
                self.next_run += 1;
                self.items = Vec::with_capacity(texts.len());
                self.texts = texts.into_iter();
                continue;
            };
            self.cost += text.as_bytes().len();
            let weight = self.weight(&text)?;
            self.copied += text.size_of_clone() + weight.size_of_copy();
            let item = Item {
                weight,
                text,
                sequence: self.count as u32,
                order: Order {
                    is_sorted: self.options.is_sorted(),
                    is_descending: self.options.descending,
                },
            };
            self.compared += item.cost_of_comparison();
            self.items.push(item);
            self.count += 1;
            if self.compared > PART {
                self.end_run();
            }
        }
        Ok(Progress::More)
    }

    fn end_run(&mut self) {
        self.cost += mem::take(&mut self.compared);
        let mut items = mem::take(&mut self.items);
        items.sort_unstable();
        let mut items = items.into_iter();
        if let Some(first) = items.next() {
            self.runs.push(Run(first, items));
        }
    }

    fn weight(&mut self, text: &Text) -> Result<Weight, Failure> {
        let options = Arc::clone(&self.options);
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
            Some(text) => {
                self.cost += text.as_bytes().len();
                number::weight(text.as_bytes())
            }
        };
        let number = number.ok_or(fail(
            "ERR One or more scores can't be converted into double",
        ))?;
        Ok(Weight::Number(number))
    }

    /// The value that a [pattern](Reference) refers to.
    fn look_up(&mut self, pattern: &[u8], text: &Text) -> Option<Found> {
        self.cost += OVERHEAD + pattern.len() + text.as_bytes().len();
        if pattern == b"#" {
            return Some(Found::Text(text.clone()));
        }
        let reference = Reference::of(pattern)?;
        let key = [reference.start, text.as_bytes(), reference.end];
        // An element may be much longer than any key.
        if key.iter().map(|it| it.len()).sum::<usize>() > LONGEST_NAME {
            return None;
        }
        let entry = self.keys.find(&key.concat())?;
        if entry.expires != 0 && entry.expires <= self.now {
            return None;
        }
        match (&entry.value, reference.field) {
            (Value::Hash(hash), Some(field)) => {
                let text = hash.find(field)?;
                Some(Found::Text(text.clone()))
            }
            (value, None) => Found::of(value),
            _ => None,
        }
    }

    /// The bytes of memory of the elements.
    pub fn size(&self) -> usize {
        self.count * size_of::<Item>() + self.copied
    }

    /// The collection, and without GET the other keys, are not used any more.
    fn end_sorting(&mut self) {
        let offset = self.options.offset.min(self.count);
        let most = self.options.most.min(self.count - offset);
        self.left = Some((if most == 0 { 0 } else { offset }, most));
        self.source = Source::Set(Snapshot::default());
        if !self.returns_of_keys() {
            self.keys = Snapshot::default();
        }
    }

    /// Gives everything back.
    pub fn clear(&mut self) {
        self.left = Some((0, 0));
        self.source = Source::Set(Snapshot::default());
        self.keys = Snapshot::default();
        self.runs = Snapshot::default();
        (self.count, self.copied) = (0, 0);
    }

    /// How many results there are, when all elements are sorted.
    pub fn results(&self) -> usize {
        let (_, most) = self.left.unwrap_or_default();
        most * self.options.wanted.len().max(1)
    }

    /// Leaves out some of the elements that are not wanted, if there are any.
    pub fn skip_some(&mut self) -> Progress {
        let Some((skipped @ 1.., wanted)) = self.left else {
            return Progress::Complete;
        };
        let (mut number, before) = (0, self.cost);
        while number < skipped.min(RUN) && self.cost - before < PART {
            self.take();
            number += 1;
        }
        self.left = Some((skipped - number, wanted));
        Progress::More
    }

    /// The next element in order, when those that are not wanted are left out.
    fn next(&mut self) -> Option<Text> {
        let Some((0, wanted @ 1..)) = self.left else {
            return None;
        };
        self.left = Some((0, wanted - 1));
        self.take()
    }

    fn take(&mut self) -> Option<Text> {
        let Run(item, mut rest) = self.runs.pop()?;
        self.cost += item.cost_of_comparison();
        if let Some(next) = rest.next() {
            self.runs.push(Run(next, rest));
        }
        Some(item.text)
    }

    /// What is returned next: of an element there is something for each pattern of GET.
    pub fn next_result(&mut self) -> Option<Option<Found>> {
        let text = match self.element.take() {
            Some(text) => text,
            None => self.next()?,
        };
        let options = Arc::clone(&self.options);
        let Some(pattern) = options.wanted.get(self.done) else {
            self.cost += OVERHEAD;
            return Some(Some(Found::Text(text)));
        };
        let found = self.look_up(pattern, &text);
        self.done = (self.done + 1) % options.wanted.len();
        if self.done > 0 {
            self.element = Some(text);
        }
        Some(found)
    }
}

//! The reply of a job that takes long. All elements are sorted, and all other keys are looked up, before it begins.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::vec;

use asynchat::{More, Producer};

use super::job::Job;
use crate::commands::found::Found;
use crate::commands::long::{Chunks, LongResult, PARTS_AT_ONCE, Snapshot, has_room};
use crate::commands::{Context, Failure, long};
use crate::resp::reply::Reply;
use crate::server::progress::Progress;
use crate::server::results::ResultMemory;
use crate::server::shared::lock;
use crate::store::dropper::Droppable;

/// What GET has found, in the parts in which it was made.
#[derive(Default)]
struct Results(VecDeque<vec::IntoIter<Option<Found>>>);

impl Droppable for Results {
    fn is_long(&self) -> bool {
        self.0.len() > 1
    }
}

impl Results {
    fn next(&mut self) -> Option<Option<Found>> {
        while let Some(part) = self.0.front_mut() {
            if let Some(result) = part.next() {
                return Some(result);
            }
            self.0.pop_front();
        }
        None
    }
}

struct Sorting {
    job: Job,
    memory: ResultMemory,
    /// What is returned, if other keys are looked up for it. Otherwise the job returns it when it is sent.
    results: Snapshot<Results>,
    /// Their bytes.
    size: usize,
    /// The number of results, or an error, when all is ready to be sent.
    head: Option<Result<usize, Failure>>,
    is_complete: bool,
}

impl Sorting {
    fn note_use(&mut self) -> io::Result<()> {
        self.memory.note_use(self.job.size() + self.size)
    }

    /// Does one more part of what has to be complete before the reply begins.
    fn advance(&mut self) -> Result<Progress, Failure> {
        if self.job.is_sorted() {
            self.head.get_or_insert(Ok(self.job.results()));
            if !self.job.returns_of_keys() {
                return Ok(self.job.skip_some());
            }
        }
        let mut found = Vec::new();
        let progress = self.job.advance(|result| found.push(result))?;
        if !found.is_empty() {
            let copies = found.iter().flatten().map(Found::size_of_copy);
            self.size += found.capacity() * size_of::<Option<Found>>() + copies.sum::<usize>();
            self.results.0.0.push_back(found.into_iter());
        }
        Ok(progress)
    }

    fn next_result(&mut self) -> Option<Option<Found>> {
        if self.job.returns_of_keys() {
            self.results.next()
        } else {
            self.job.next_result()
        }
    }
}

impl LongResult for Sorting {
    fn turn(&mut self) -> io::Result<Progress> {
        for _ in 0..PARTS_AT_ONCE {
            match self.advance() {
                Ok(Progress::More) => {}
                Ok(Progress::Complete) => self.is_complete = true,
                Err(failure) => {
                    self.job.clear();
                    self.head = Some(Err(failure));
                    self.is_complete = true;
                }
            }
            if self.is_complete {
                break;
            }
        }
        self.note_use()?;
        Ok(Progress::more_if(!self.is_complete))
    }
}

/// Begins to make the reply.
pub fn reply_later(context: &mut Context<'_>, job: Job) {
    let sorting = Sorting {
        job,
        memory: context.result_memory(),
        results: Snapshot::default(),
        size: 0,
        head: None,
        is_complete: false,
    };
    let sorting = long::make_later(context, sorting);
    context.reply.produce(Sorted {
        sorting,
        resp3: context.reply.resp3,
        chunks: Chunks::default(),
    });
}

struct Sorted {
    sorting: Arc<Mutex<Sorting>>,
    resp3: bool,
    chunks: Chunks,
}

impl Producer for Sorted {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        if let Some(more) = self.chunks.next() {
            return Ok(more);
        }
        let sorting = &mut *lock(&self.sorting);
        if !sorting.is_complete {
            return Ok(More::Pending);
        }
        sorting.note_use()?;
        let mut reply = Reply {
            resp3: self.resp3,
            ..Reply::default()
        };
        match sorting.head.take() {
            Some(Ok(len)) => reply.array(len),
            Some(Err(failure)) => reply.error(&failure.0),
            None => {}
        }
        while has_room(&reply, budget.min(1 << 14))
            && let Some(result) = sorting.next_result()
        {
            encode(&mut reply, result.as_ref());
        }
        Ok(self.chunks.first(reply).unwrap_or(More::Done))
    }
}

pub fn encode(reply: &mut Reply, result: Option<&Found>) {
    match result {
        Some(result) => result.encode(reply),
        None => reply.null(),
    }
}

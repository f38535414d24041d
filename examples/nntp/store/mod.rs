//! Posts in an embedded database, written by a thread of their own.
//!
//! A commit waits for the disk, and a loop that waits for a disk serves nobody.
//! So the loop sends a [`Job`] to the writer and goes on; the writer commits
//! all the jobs that wait in one transaction, and calls each one's answer,
//! which finds its way back to the session with `Remote::post_to`. After an I/O
//! error, such as a full disk, the writer closes the database and opens it again.

// In a program `pub` is what a module offers its neighbours.
#![allow(unreachable_pub)]

mod database;
mod text;

use std::cell::Cell;
use std::collections::HashSet;
use std::io::{self, Read, Seek};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::server::article::{Article, Size};
use super::server::complaint::Complaint;
use super::server::head::Head;
use super::server::spool::Spool;
use super::server::store::{Job, Store};
use database::{Result, Shared, is_stale};
use text::Stored;

/// Group to the time of its creation.
const GROUPS: TableDefinition<&str, i64> = TableDefinition::new("groups");
/// Group to the highest number that an article in it has had.
const HIGH: TableDefinition<&str, u64> = TableDefinition::new("high");
/// Serial to time of arrival, octets and lines of the body, and the head.
const ARTICLES: TableDefinition<u64, (i64, u64, u64, &[u8])> = TableDefinition::new("articles");
/// Serial and index to a piece of the body.
const BODIES: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("bodies");
/// Group and number to serial.
const NUMBERS: TableDefinition<(&str, u64), u64> = TableDefinition::new("numbers");

/// Pieces are small enough to be copied in one turn of the loop. redb stores each in pages of a
/// power of two, with some octets for the key: a piece of 16 KiB would take 32.
const PIECE: usize = 16 * 1024 - ROW;

/// Octets that redb needs for a row beside its value, rounded up.
const ROW: usize = 64;

/// Jobs that one transaction takes: one wait for the disk for all of them.
const BATCH: usize = 64;

/// How long no post is taken after one could not be written. To open the database again is more
/// work the more there is in it, and nobody can read meanwhile.
const PAUSE: Duration = Duration::from_secs(2);

/// What the writer is asked for.
enum Work {
    Keep(Box<Job>),
    Reopen,
}

/// What became of a job, for the spool.
enum Outcome {
    Kept(Article, Vec<(String, u64)>),
    /// The message-id, and the octets that it does not take after all.
    Lost(String, u64),
}

/// The open database. Dropping it waits for the writer to finish its jobs.
pub struct DiskStore {
    database: Arc<Shared>,
    /// Octets of the disk that articles may take, and that they take.
    limit: u64,
    taken: Cell<u64>,
    work: Option<Sender<Work>>,
    outcomes: Receiver<Outcome>,
    writer: Option<JoinHandle<()>>,
    /// When the writer will take jobs again.
    paused: Arc<Pause>,
}

impl DiskStore {
    /// Opens the database in `path`, or makes it. Articles may take `limit` octets of the disk.
    pub fn open(path: &Path, limit: u64) -> Result<DiskStore> {
        let database = Arc::new(Shared::open(path)?);
        database.write(|write| {
            write.open_table(GROUPS)?;
            write.open_table(HIGH)?;
            write.open_table(ARTICLES)?;
            write.open_table(BODIES)?;
            write.open_table(NUMBERS)?;
            Ok(())
        })?;
        let (work, queue) = mpsc::channel();
        let (done, outcomes) = mpsc::channel();
        let paused = Arc::new(Pause::default());
        let writer = Writer {
            database: Arc::clone(&database),
            paused: Arc::clone(&paused),
            done,
            in_doubt: Cell::new(false),
        };
        let writer = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || writer.run(&queue))?;
        Ok(DiskStore {
            database,
            limit,
            taken: Cell::new(0),
            work: Some(work),
            outcomes,
            writer: Some(writer),
            paused,
        })
    }

    /// Sees that the groups are there, each with the time of its creation, and
    /// brings all that the database holds to the spool.
    pub fn load(&self, spool: &mut Spool, groups: &[(String, String)], now: i64) -> Result<()> {
        self.database.write(|write| {
            let mut table = write.open_table(GROUPS)?;
            for (name, _) in groups {
                if table.get(name.as_str())?.is_none() {
                    table.insert(name.as_str(), now)?;
                }
            }
            Ok(())
        })?;
        self.database.read(|read| {
            for row in read.open_table(GROUPS)?.iter()? {
                let (name, created) = row?;
                let name = name.value();
                let description = groups.iter().find(|(n, _)| n == name);
                let description = description.map_or("", |(_, d)| d.as_str());
                spool.add_group(name, description, created.value(), true);
            }
            let mut counted = HashSet::new();
            let articles = read.open_table(ARTICLES)?;
            for row in read.open_table(NUMBERS)?.iter()? {
                let (place, serial) = row?;
                let (group, number) = place.value();
                let serial = serial.value();
                let article = articles.get(serial)?.ok_or("an article is missing")?;
                let (arrived, bytes, lines, head) = article.value();
                if counted.insert(serial) {
                    self.take(octets(head.len(), bytes));
                }
                let text = Stored {
                    database: Arc::clone(&self.database),
                    serial,
                };
                let head = Head::repair(head);
                let article = Article::new(&head, Size { bytes, lines }, arrived, text);
                spool.file(article, &[(group.to_owned(), number)]);
            }
            // After the articles: a database of an older version has no such rows.
            for row in read.open_table(HIGH)?.iter()? {
                let (name, high) = row?;
                if let Some(group) = spool.group(name.value()) {
                    group.raise(high.value());
                }
            }
            Ok(())
        })
    }

    fn take(&self, octets: u64) {
        self.taken.set(self.taken.get().saturating_add(octets));
    }
}

impl Store for DiskStore {
    fn has_room(&self, head: usize, body: u64) -> bool {
        let taken = self.taken.get().saturating_add(octets(head, body));
        taken <= self.limit && !self.paused.is_on(Instant::now())
    }

    fn submit(&self, job: Job) {
        self.take(octets(job.head.as_bytes().len(), job.size.bytes));
        if let Some(work) = &self.work
            && let Err(mpsc::SendError(Work::Keep(job))) = work.send(Work::Keep(Box::new(job)))
        {
            static GONE: Complaint = Complaint::new("the store can not write");
            GONE.tell(&"its writer is gone");
            (job.answer)(false);
        }
    }

    fn settle(&self, spool: &mut Spool) {
        while let Ok(outcome) = self.outcomes.try_recv() {
            match outcome {
                Outcome::Kept(article, numbers) => spool.file(article, &numbers),
                Outcome::Lost(message_id, octets) => {
                    self.taken.set(self.taken.get().saturating_sub(octets));
                    spool.forget(&message_id);
                }
            }
        }
        if self.database.is_stale()
            && let Some(work) = &self.work
        {
            // Without a writer there is nobody to open it again, and the next post says so.
            let _ = work.send(Work::Reopen);
        }
    }
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        self.work = None;
        if self.writer.take().is_some_and(|w| w.join().is_err()) {
            tracing::error!("the store's writer died");
        }
    }
}

/// Octets of the disk that an article takes: each row has a page of a power of two, or a part of
/// a small page of which two thirds are used.
fn octets(head: usize, body: u64) -> u64 {
    let row = |octets: u64| match octets + ROW as u64 {
        small @ ..=2048 => small + small / 2,
        large => large.next_power_of_two(),
    };
    let pieces = body / PIECE as u64;
    let rest = body % PIECE as u64;
    row(head as u64) + pieces * row(PIECE as u64) + row(rest)
}

/// Until when no job is taken.
#[derive(Default)]
struct Pause(Mutex<Option<Instant>>);

impl Pause {
    fn is_on(&self, now: Instant) -> bool {
        let until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| now < until)
    }

    fn begin(&self) {
        let mut until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *until = Some(Instant::now() + PAUSE);
    }
}

/// The writer's thread. It owns the opening and closing of the database.
struct Writer {
    database: Arc<Shared>,
    paused: Arc<Pause>,
    done: Sender<Outcome>,
    /// The last commit has failed: see first whether there is room.
    in_doubt: Cell<bool>,
}

impl Writer {
    /// Ends when the store is dropped.
    fn run(&self, queue: &Receiver<Work>) {
        loop {
            let first = if self.database.is_closed() {
                queue.recv_timeout(PAUSE)
            } else {
                queue.recv().map_err(RecvTimeoutError::from)
            };
            match first {
                Ok(Work::Keep(first)) => {
                    let mut jobs = vec![*first];
                    let more = queue.try_iter().take(BATCH - 1);
                    jobs.extend(more.filter_map(|work| match work {
                        Work::Keep(job) => Some(*job),
                        Work::Reopen => None,
                    }));
                    self.keep(jobs);
                }
                Ok(Work::Reopen) | Err(RecvTimeoutError::Timeout) => self.reopen(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn keep(&self, mut jobs: Vec<Job>) {
        let serials = self.commit(&mut jobs);
        let kept = serials.is_ok();
        let first = serials.unwrap_or_default();
        for (serial, job) in (first..).zip(jobs) {
            let outcome = if kept {
                let text = Stored {
                    database: Arc::clone(&self.database),
                    serial,
                };
                let article = Article::new(&job.head, job.size, job.arrived, text);
                Outcome::Kept(article, job.numbers)
            } else {
                Outcome::Lost(
                    job.message_id,
                    octets(job.head.as_bytes().len(), job.size.bytes),
                )
            };
            // Nobody listens any more when the server is on its way out.
            let _ = self.done.send(outcome);
            (job.answer)(kept);
        }
    }

    /// Writes the jobs; on an error it leaves the database as it was, and open if that can be.
    fn commit(&self, jobs: &mut [Job]) -> Result<u64> {
        if self.paused.is_on(Instant::now()) {
            return Err("the disk has failed a moment ago".into());
        }
        let outcome = self.try_commit(jobs);
        if let Err(error) = &outcome {
            static UNWRITABLE: Complaint = Complaint::new("the store can not write");
            UNWRITABLE.tell(error);
            self.paused.begin();
        }
        self.in_doubt.set(outcome.is_err());
        outcome
    }

    fn try_commit(&self, jobs: &mut [Job]) -> Result<u64> {
        if self.in_doubt.get() {
            let octets = |job: &Job| octets(job.head.as_bytes().len(), job.size.bytes);
            probe(self.database.directory(), jobs.iter().map(octets).sum())?;
        }
        let mut outcome = self.database.write(|write| insert(write, jobs));
        // That is no fault of these jobs: a read has failed before them.
        if outcome.as_ref().is_err_and(is_stale) {
            self.reopen();
            outcome = self.database.write(|write| insert(write, jobs));
        }
        if outcome.is_err() {
            self.reopen();
        }
        outcome
    }

    fn reopen(&self) {
        if let Err(error) = self.database.reopen() {
            static CLOSED: Complaint = Complaint::new("the store can not be opened again");
            CLOSED.tell(&error);
        }
    }
}

/// Sees whether the disk has room for so many octets, and for what the database needs beside them.
/// A failed commit costs more: the database has to be checked as a whole when it is opened again,
/// and nobody can read meanwhile.
fn probe(directory: &Path, octets: u64) -> Result<()> {
    let mut file = tempfile::tempfile_in(directory)?;
    let mut zeros = io::repeat(0).take(2 * octets + (1 << 20));
    io::copy(&mut zeros, &mut file)?;
    file.sync_data()?;
    Ok(())
}

/// Inserts the jobs under consecutive serials and returns the first one.
fn insert(write: &WriteTransaction, jobs: &mut [Job]) -> Result<u64> {
    let mut articles = write.open_table(ARTICLES)?;
    let mut bodies = write.open_table(BODIES)?;
    let mut numbers = write.open_table(NUMBERS)?;
    let mut highs = write.open_table(HIGH)?;
    let first = articles.last()?.map_or(0, |(serial, _)| serial.value() + 1);
    for (serial, job) in (first..).zip(jobs) {
        let Size { bytes, lines } = job.size;
        articles.insert(serial, (job.arrived, bytes, lines, job.head.as_bytes()))?;
        job.body.rewind()?;
        for index in 0.. {
            let mut piece = Vec::with_capacity(PIECE);
            (&mut job.body).take(PIECE as u64).read_to_end(&mut piece)?;
            if piece.is_empty() {
                break;
            }
            bodies.insert((serial, index), piece.as_slice())?;
        }
        for (group, number) in &job.numbers {
            numbers.insert((group.as_str(), *number), serial)?;
            let before = highs.get(group.as_str())?.map_or(0, |high| high.value());
            highs.insert(group.as_str(), before.max(*number))?;
        }
    }
    Ok(first)
}

//! Stores posts in an embedded database, which its own thread writes.
//!
//! A commit waits for the disk, and the loop must not wait. So the loop sends a
//! [`Job`] to the writer's thread and continues. The writer commits all queued
//! jobs in one transaction and calls `on_done` of each, which posts the result to
//! the session with `Remote::post_to`. After an I/O error, such as a full disk,
//! the writer closes the database and opens it again.

#![allow(
    unreachable_pub,
    reason = "in a program, `pub` items are visible to the other modules only"
)]

mod database;
mod text;

use std::cell::Cell;
use std::collections::HashSet;
use std::io::{self, Read, Seek};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::server::article::{Article, Size};
use super::server::head::Head;
use super::server::spool::Spool;
use super::server::store::{Job, Store};
use super::server::throttled_warning::ThrottledWarning;
use database::{Result, Shared, needs_reopening};
use text::Stored;

/// Group name to the time of its creation.
const GROUPS: TableDefinition<&str, i64> = TableDefinition::new("groups");
/// Group name to the highest number that an article in it has had.
const HIGH: TableDefinition<&str, u64> = TableDefinition::new("high");
/// Serial number to time of arrival, octets and lines of the body, and the header.
const ARTICLES: TableDefinition<u64, (i64, u64, u64, &[u8])> = TableDefinition::new("articles");
/// Serial number and index to a piece of the body.
const BODIES: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("bodies");
/// Group name and article number to serial number.
const NUMBERS: TableDefinition<(&str, u64), u64> = TableDefinition::new("numbers");

/// The size of a piece of a body, small enough to be copied in one turn of the loop. redb stores a row,
/// with some octets of overhead, in a page whose size is a power of two. A piece of exactly 16 KiB would
/// use 32 KiB.
const PIECE: usize = 16 * 1024 - ROW;

/// The overhead of a row in octets, rounded up.
const ROW: usize = 64;

/// The maximum number of jobs in one transaction, which waits for the disk once for all of them.
const BATCH: usize = 64;

/// How long posts are refused after a failed write. Reopening a large database takes long, and no article
/// can be read during that time, so it must not happen often.
const PAUSE: Duration = Duration::from_secs(2);

/// A request to the writer.
enum Work {
    Write(Box<Job>),
    Reopen,
}

/// The result of a job, for the spool.
enum Outcome {
    Written(Article, Vec<(String, u64)>),
    /// The message-id, and the octets of the disk that are not used after all.
    Failed(String, u64),
}

/// The store. Dropping it waits until the writer has finished its jobs.
pub struct DiskStore {
    database: Arc<Shared>,
    /// Octets of the disk that articles may use, and that they use.
    limit: u64,
    used: Cell<u64>,
    work: Option<Sender<Work>>,
    finished: Receiver<Outcome>,
    writer: Option<JoinHandle<()>>,
    /// The writer has panicked.
    has_panicked: Cell<bool>,
    /// Until when posts are refused after a failed write.
    paused: Arc<Pause>,
}

impl DiskStore {
    /// Opens the database in `path`, or creates it. Articles may use `limit` octets of the disk.
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
        let (done, finished) = mpsc::channel();
        let paused = Arc::new(Pause::default());
        let writer = Writer {
            database: Arc::clone(&database),
            paused: Arc::clone(&paused),
            done,
            last_failed: Cell::new(false),
        };
        let writer = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || writer.run(&queue))?;
        Ok(DiskStore {
            database,
            limit,
            used: Cell::new(0),
            work: Some(work),
            finished,
            writer: Some(writer),
            has_panicked: Cell::new(false),
            paused,
        })
    }

    /// Adds missing groups to the database, with `now` as their time of creation.
    /// Then adds all groups and articles of the database to the spool.
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
                    self.add_used(octets(head.len(), bytes));
                }
                let text = Stored {
                    database: Arc::clone(&self.database),
                    serial,
                };
                let head = Head::repair(head);
                let article = Article::new(&head, Size { bytes, lines }, arrived, text);
                spool.file(article, &[(group.to_owned(), number)]);
            }
            // An older version of this program did not write these rows. So the highest number also
            // follows from the articles above.
            for row in read.open_table(HIGH)?.iter()? {
                let (name, high) = row?;
                if let Some(group) = spool.group(name.value()) {
                    group.raise(high.value());
                }
            }
            Ok(())
        })
    }

    fn add_used(&self, octets: u64) {
        self.used.set(self.used.get().saturating_add(octets));
    }
}

impl Store for DiskStore {
    fn has_room(&self, head: usize, body: u64) -> bool {
        let used = self.used.get().saturating_add(octets(head, body));
        used <= self.limit && !self.has_panicked.get() && !self.paused.is_on(Instant::now())
    }

    fn submit(&self, job: Job) {
        self.add_used(octets(job.head.as_bytes().len(), job.size.bytes));
        if let Some(work) = &self.work
            && work.send(Work::Write(Box::new(job))).is_err()
        {
            static NO_WRITER: ThrottledWarning = ThrottledWarning::new("the store cannot write");
            NO_WRITER.log(&"the writer's thread has ended");
        }
    }

    fn file_finished(&self, spool: &mut Spool) {
        loop {
            match self.finished.try_recv() {
                Ok(Outcome::Written(article, numbers)) => spool.file(article, &numbers),
                Ok(Outcome::Failed(message_id, octets)) => {
                    self.used.set(self.used.get().saturating_sub(octets));
                    spool.forget(&message_id);
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    if !self.has_panicked.replace(true) {
                        tracing::error!(
                            "the store's thread has panicked: posts are refused until a restart"
                        );
                    }
                    // The pending posts get no outcome. A peer can offer them again.
                    spool.forget_all();
                    break;
                }
            }
        }
        if self.database.needs_reopening()
            && let Some(work) = &self.work
        {
            // An error means that the writer's thread has ended, which is logged above.
            let _ = work.send(Work::Reopen);
        }
    }
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        self.work = None;
        if self.writer.take().is_some_and(|w| w.join().is_err()) {
            tracing::error!("the store's writer panicked");
        }
    }
}

/// The octets of the disk that an article uses. A large row has its own page, whose size is a power of two.
/// Small rows share a page, of which two thirds are used.
fn octets(head: usize, body: u64) -> u64 {
    let row = |octets: u64| match octets + ROW as u64 {
        small @ ..=2048 => small + small / 2,
        large => large.next_power_of_two(),
    };
    let pieces = body / PIECE as u64;
    let rest = body % PIECE as u64;
    row(head as u64) + pieces * row(PIECE as u64) + row(rest)
}

/// The time until which posts are refused.
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

/// The writer's thread. Only this thread reopens the database.
struct Writer {
    database: Arc<Shared>,
    paused: Arc<Pause>,
    done: Sender<Outcome>,
    /// The last commit has failed, so the next one first checks whether the disk has space.
    last_failed: Cell<bool>,
}

impl Writer {
    /// Processes requests until the store is dropped.
    fn run(&self, queue: &Receiver<Work>) {
        loop {
            let first = if self.database.is_closed() {
                queue.recv_timeout(PAUSE)
            } else {
                queue.recv().map_err(RecvTimeoutError::from)
            };
            match first {
                Ok(Work::Write(first)) => {
                    let mut jobs = vec![*first];
                    let more = queue.try_iter().take(BATCH - 1);
                    jobs.extend(more.filter_map(|work| match work {
                        Work::Write(job) => Some(*job),
                        Work::Reopen => None,
                    }));
                    self.write(jobs);
                }
                Ok(Work::Reopen) | Err(RecvTimeoutError::Timeout) => self.reopen(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn write(&self, mut jobs: Vec<Job>) {
        let serials = self.commit(&mut jobs);
        let is_written = serials.is_ok();
        let first = serials.unwrap_or_default();
        for (serial, job) in (first..).zip(jobs) {
            let outcome = if is_written {
                let text = Stored {
                    database: Arc::clone(&self.database),
                    serial,
                };
                let article = Article::new(&job.head, job.size, job.arrived, text);
                Outcome::Written(article, job.numbers)
            } else {
                Outcome::Failed(
                    job.message_id,
                    octets(job.head.as_bytes().len(), job.size.bytes),
                )
            };
            // `send` fails if the store is being dropped, and then the outcome is not needed.
            let _ = self.done.send(outcome);
            job.on_done.call(is_written);
        }
    }

    /// Writes the jobs in one transaction and returns their first serial number. An error leaves the content
    /// of the database unchanged.
    fn commit(&self, jobs: &mut [Job]) -> Result<u64> {
        if self.paused.is_on(Instant::now()) {
            return Err("the disk has failed recently".into());
        }
        let outcome = self.try_commit(jobs);
        if let Err(error) = &outcome {
            static UNWRITABLE: ThrottledWarning = ThrottledWarning::new("the store cannot write");
            UNWRITABLE.log(error);
            self.paused.begin();
        }
        self.last_failed.set(outcome.is_err());
        outcome
    }

    fn try_commit(&self, jobs: &mut [Job]) -> Result<u64> {
        if self.last_failed.get() {
            let octets = |job: &Job| octets(job.head.as_bytes().len(), job.size.bytes);
            check_space(self.database.directory(), jobs.iter().map(octets).sum())?;
        }
        let mut outcome = self.database.write(|write| insert(write, jobs));
        // An earlier read has failed, not the write of these jobs. So the write is tried again.
        if outcome.as_ref().is_err_and(needs_reopening) {
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
            static CLOSED: ThrottledWarning = ThrottledWarning::new("cannot reopen the store");
            CLOSED.log(&error);
        }
    }
}

/// Checks whether the disk has space for this many octets and for the overhead of the database, by writing a
/// temporary file. A failed commit would cost more: the database is checked as a whole when it is reopened,
/// and no article can be read during that time.
fn check_space(directory: &Path, octets: u64) -> Result<()> {
    let mut file = tempfile::tempfile_in(directory)?;
    let mut zeros = io::repeat(0).take(2 * octets + (1 << 20));
    io::copy(&mut zeros, &mut file)?;
    file.sync_data()?;
    Ok(())
}

/// Inserts the jobs under consecutive serial numbers and returns the first one.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::store::OnDone;

    fn job(on_done: impl FnOnce(bool) + Send + 'static) -> Job {
        Job {
            message_id: "<1@x>".to_owned(),
            head: Head::default(),
            body: tempfile::SpooledTempFile::new(0),
            size: Size { bytes: 0, lines: 0 },
            arrived: 0,
            numbers: Vec::new(),
            on_done: OnDone::new(on_done),
        }
    }

    #[test]
    fn every_job_is_answered_when_the_writer_panics() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = DiskStore::open(&dir.path().join("store"), u64::MAX).unwrap();
        let mut spool = Spool::default();
        spool.reserve("<1@x>", &[], 1000);
        let (gate, opened) = mpsc::channel();
        store.submit(job(move |_| {
            opened.recv().unwrap();
            panic!("as the test wants it");
        }));
        let (sender, answers) = mpsc::channel();
        for _ in 0..2 {
            let sender = sender.clone();
            store.submit(job(move |is_stored| sender.send(is_stored).unwrap()));
        }
        gate.send(()).unwrap();
        let deadline = Duration::from_secs(60);
        assert_eq!(answers.recv_timeout(deadline), Ok(false));
        assert_eq!(answers.recv_timeout(deadline), Ok(false));

        // The article can be offered again, and the next POST is refused before the client sends the article.
        assert!(store.has_room(0, 0));
        assert!(store.writer.take().unwrap().join().is_err());
        store.file_finished(&mut spool);
        assert!(!spool.is_pending("<1@x>"));
        assert!(!store.has_room(0, 0));
    }
}

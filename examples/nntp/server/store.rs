//! Posts in an embedded database, written by a thread of their own.
//!
//! A commit waits for the disk, and a loop that waits for a disk serves nobody.
//! So the loop sends a [`Job`] to the writer and goes on; the writer commits
//! all the jobs that wait in one transaction, and calls each one's answer,
//! which finds its way back to the session with `Remote::post_to`. Reading is
//! done on the loop: it is a copy out of the database's cache or the system's.

use std::io::{self, Read, Seek};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use asynchat::{More, Producer};
use bytes::Bytes;
use redb::{Database, Durability, ReadableTable, TableDefinition};
use tempfile::SpooledTempFile;

use super::article::{Article, Size, Text};
use super::complaint::Complaint;
use super::head::Head;
use super::spool::Spool;

/// Group to the time of its creation.
const GROUPS: TableDefinition<&str, i64> = TableDefinition::new("groups");
/// Serial to time of arrival, octets and lines of the body, and the head.
const ARTICLES: TableDefinition<u64, (i64, u64, u64, &[u8])> = TableDefinition::new("articles");
/// Serial and index to a piece of the body.
const BODIES: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("bodies");
/// Group and number to serial.
const NUMBERS: TableDefinition<(&str, u64), u64> = TableDefinition::new("numbers");

/// Pieces are small enough to be copied in one turn of the loop.
const PIECE: usize = 16 * 1024;

/// Octets of the database's own cache, which is of 1 GiB if not told. What is not
/// in it is in the system's.
const CACHE: usize = 16 << 20;

/// Jobs that one transaction takes: one wait for the disk for all of them.
const BATCH: usize = 64;

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// An article to be kept.
pub struct Job {
    pub message_id: String,
    pub head: Head,
    pub body: SpooledTempFile,
    pub size: Size,
    pub arrived: i64,
    pub numbers: Vec<(String, u64)>,
    /// Called on the writer's thread: true when the article is durable.
    pub answer: Box<dyn FnOnce(bool) + Send>,
}

/// What became of a job, for the spool.
enum Outcome {
    Kept(Article, Vec<(String, u64)>),
    Lost(String),
}

/// The open database. Dropping it waits for the writer to finish its jobs.
pub struct Store {
    database: Arc<Database>,
    jobs: Option<Sender<Job>>,
    outcomes: Receiver<Outcome>,
    writer: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens the database in `path`, or makes it.
    pub fn open(path: &Path) -> Result<Store> {
        let database = Arc::new(Database::builder().set_cache_size(CACHE).create(path)?);
        let write = database.begin_write()?;
        write.open_table(GROUPS)?;
        write.open_table(ARTICLES)?;
        write.open_table(BODIES)?;
        write.open_table(NUMBERS)?;
        write.commit()?;
        let (jobs, queue) = mpsc::channel();
        let (done, outcomes) = mpsc::channel();
        let writer = std::thread::Builder::new().name("store".into()).spawn({
            let database = Arc::clone(&database);
            move || write_all(&database, &queue, &done)
        })?;
        Ok(Store {
            database,
            jobs: Some(jobs),
            outcomes,
            writer: Some(writer),
        })
    }

    /// Sees that the groups are there, each with the time of its creation, and
    /// brings all that the database holds to the spool.
    pub fn load(&self, spool: &mut Spool, groups: &[(String, String)], now: i64) -> Result<()> {
        let write = self.database.begin_write()?;
        {
            let mut table = write.open_table(GROUPS)?;
            for (name, _) in groups {
                if table.get(name.as_str())?.is_none() {
                    table.insert(name.as_str(), now)?;
                }
            }
        }
        write.commit()?;

        let read = self.database.begin_read()?;
        for row in read.open_table(GROUPS)?.iter()? {
            let (name, created) = row?;
            let name = name.value();
            let description = groups.iter().find(|(n, _)| n == name);
            let description = description.map_or("", |(_, d)| d.as_str());
            spool.add_group(name, description, created.value(), true);
        }
        let articles = read.open_table(ARTICLES)?;
        for row in read.open_table(NUMBERS)?.iter()? {
            let (place, serial) = row?;
            let (group, number) = place.value();
            let serial = serial.value();
            let article = articles.get(serial)?.ok_or("an article is missing")?;
            let (arrived, bytes, lines, head) = article.value();
            let text = Stored {
                database: Arc::clone(&self.database),
                serial,
            };
            let article = Article::new(&Head::repair(head), Size { bytes, lines }, arrived, text);
            spool.file(article, &[(group.to_owned(), number)]);
        }
        Ok(())
    }

    /// Hands a job to the writer.
    pub fn submit(&self, job: Job) {
        if let Some(jobs) = &self.jobs
            && let Err(mpsc::SendError(job)) = jobs.send(job)
        {
            static GONE: Complaint = Complaint::new("the store can not write");
            GONE.tell(&"its writer is gone");
            (job.answer)(false);
        }
    }

    /// Files what has become durable since the last call. An answer finds a
    /// session, and only while it lives; the articles have to be filed also
    /// when the poster has hung up.
    pub fn settle(&self, spool: &mut Spool) {
        while let Ok(outcome) = self.outcomes.try_recv() {
            match outcome {
                Outcome::Kept(article, numbers) => spool.file(article, &numbers),
                Outcome::Lost(message_id) => spool.forget(&message_id),
            }
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.jobs = None;
        if self.writer.take().is_some_and(|w| w.join().is_err()) {
            tracing::error!("the store's writer died");
        }
    }
}

/// The writer's thread: ends when the store is dropped.
fn write_all(database: &Arc<Database>, queue: &Receiver<Job>, done: &Sender<Outcome>) {
    while let Ok(first) = queue.recv() {
        let mut jobs = vec![first];
        jobs.extend(queue.try_iter().take(BATCH - 1));
        let serials = commit(database, &mut jobs);
        if let Err(error) = &serials {
            static UNWRITABLE: Complaint = Complaint::new("the store can not write");
            UNWRITABLE.tell(error);
        }
        let kept = serials.is_ok();
        let first = serials.unwrap_or_default();
        for (serial, job) in (first..).zip(jobs) {
            let outcome = if kept {
                let text = Stored {
                    database: Arc::clone(database),
                    serial,
                };
                let article = Article::new(&job.head, job.size, job.arrived, text);
                Outcome::Kept(article, job.numbers)
            } else {
                Outcome::Lost(job.message_id)
            };
            // Nobody listens any more when the server is on its way out.
            let _ = done.send(outcome);
            (job.answer)(kept);
        }
    }
}

/// Writes the jobs under consecutive serials and returns the first one, when
/// the disk has them all.
fn commit(database: &Database, jobs: &mut [Job]) -> Result<u64> {
    let mut write = database.begin_write()?;
    write.set_durability(Durability::Immediate);
    let first;
    {
        let mut articles = write.open_table(ARTICLES)?;
        let mut bodies = write.open_table(BODIES)?;
        let mut numbers = write.open_table(NUMBERS)?;
        first = articles.last()?.map_or(0, |(serial, _)| serial.value() + 1);
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
            }
        }
    }
    write.commit()?;
    Ok(first)
}

/// Text that is in the database.
struct Stored {
    database: Arc<Database>,
    serial: u64,
}

impl Text for Stored {
    fn head(&self) -> io::Result<Head> {
        let read = self.database.begin_read().map_err(io::Error::other)?;
        let table = read.open_table(ARTICLES).map_err(io::Error::other)?;
        let row = table.get(self.serial).map_err(io::Error::other)?;
        let row = row.ok_or(io::ErrorKind::NotFound)?;
        Ok(Head::repair(row.value().3))
    }

    fn body(&self) -> io::Result<Box<dyn Producer>> {
        Ok(Box::new(StoredBody {
            database: Arc::clone(&self.database),
            serial: self.serial,
            index: 0,
            piece: Bytes::new(),
        }))
    }
}

/// A body, read a piece at a time. Each piece is a transaction of its own, for
/// one held open while a slow client reads would keep the file from shrinking;
/// articles are never changed, so nothing is lost by it.
struct StoredBody {
    database: Arc<Database>,
    serial: u64,
    index: u32,
    piece: Bytes,
}

impl Producer for StoredBody {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        if self.piece.is_empty() {
            let read = self.database.begin_read().map_err(io::Error::other)?;
            let table = read.open_table(BODIES).map_err(io::Error::other)?;
            let key = (self.serial, self.index);
            let Some(row) = table.get(key).map_err(io::Error::other)? else {
                return Ok(More::Done);
            };
            self.piece = Bytes::copy_from_slice(row.value());
            self.index += 1;
        }
        let size = budget.min(self.piece.len());
        Ok(More::Chunk(self.piece.split_to(size)))
    }
}

//! The thread that writes to the database.
//!
//! It takes all batches that wait, and writes them in one transaction. Only then it fulfills the promises of the
//! replies. If the disk is full, it keeps the batches and tries again each second, or when another batch comes: what
//! is in memory is on the disk in the end.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use asynchat::Promise;
use asynchat::bytes::Bytes;
use redb::{Database, ReadableTable, TableDefinition};

use super::rows::{Loader, Op};
use crate::store::keyspace::Keyspace;

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
const RETRY: Duration = Duration::from_secs(1);

/// redb's cache. The keyspace is in memory anyway.
const CACHE: usize = 64 << 20;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The replies of a client to requests that have written.
pub struct Held {
    pub client: u64,
    pub promise: Promise,
    /// What is sent when the transaction is on disk.
    pub replies: Vec<u8>,
    /// How many replies that are.
    pub count: usize,
}

/// What one turn of the loop has changed.
#[derive(Default)]
pub struct Batch {
    pub ops: Vec<Op>,
    pub held: Vec<Held>,
}

/// Whether the last transaction has failed, and why.
#[derive(Default)]
pub struct Status {
    has_failed: AtomicBool,
    why: Mutex<String>,
}

impl Status {
    /// The error reply for commands that write, if they would not be durable.
    pub fn refusal(&self) -> Option<String> {
        let has_failed = self.has_failed.load(Ordering::Acquire);
        has_failed.then(|| {
            let why = self.why.lock().unwrap_or_else(PoisonError::into_inner);
            format!("MISCONF Errors writing to the AOF file: {why}")
        })
    }

    fn set(&self, outcome: &Result<(), Error>) {
        if let Err(error) = outcome {
            let mut why = self.why.lock().unwrap_or_else(PoisonError::into_inner);
            *why = error.to_string().replace(['\r', '\n'], " ");
        }
        let was = self.has_failed.swap(outcome.is_err(), Ordering::Release);
        match outcome {
            Err(error) if !was => {
                tracing::error!(%error, "cannot write to the database: commands that write are refused");
            }
            Ok(()) if was => tracing::info!("the database can be written again"),
            _ => {}
        }
    }
}

/// The thread, and the way to it.
pub struct Writer {
    pub batches: Sender<Batch>,
    pub status: Arc<Status>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Opens the database in `dir`, or creates it, and loads what is in it.
    pub fn open(dir: &Path) -> Result<(Writer, Keyspace), Error> {
        std::fs::create_dir_all(dir)?;
        let mut file = File {
            path: dir.join("kvd.redb"),
            database: None,
        };
        let keyspace = file.load()?;
        let (batches, waiting) = mpsc::channel();
        let status = Arc::new(Status::default());
        let shared = Arc::clone(&status);
        let thread = thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || write_batches(&mut file, &waiting, &shared))?;
        let writer = Writer {
            batches,
            status,
            thread,
        };
        Ok((writer, keyspace))
    }

    /// Writes what is left, and closes the database.
    pub fn close(self) {
        drop(self.batches);
        if self.thread.join().is_err() {
            tracing::error!("the thread that writes to the database has panicked");
        }
    }
}

fn write_batches(file: &mut File, waiting: &Receiver<Batch>, status: &Status) {
    // What could not be written.
    let mut ops: Vec<Op> = Vec::new();
    loop {
        let first = match ops.is_empty() {
            true => waiting.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => waiting.recv_timeout(RETRY),
        };
        let is_over = matches!(first, Err(RecvTimeoutError::Disconnected));
        let mut held = Vec::new();
        for batch in first.into_iter().chain(waiting.try_iter()) {
            ops.extend(batch.ops);
            held.extend(batch.held);
        }
        let outcome = match ops.is_empty() {
            true => Ok(()),
            false => file.write(&ops),
        };
        status.set(&outcome);
        match outcome {
            Ok(()) => ops.clear(),
            Err(_) if is_over => {
                tracing::error!(rows = ops.len(), "the last changes are not on disk");
            }
            Err(_) => {}
        }
        let refusal = status.refusal().map(|text| format!("-{text}\r\n"));
        for it in held {
            it.promise.fulfill(match &refusal {
                None => Bytes::from(it.replies),
                Some(text) => Bytes::from(text.repeat(it.count)),
            });
        }
        if is_over {
            return;
        }
    }
}

/// The database. After an error of the disk it is opened again: redb refuses all work until then.
struct File {
    path: PathBuf,
    database: Option<Database>,
}

impl File {
    fn open(&mut self) -> Result<&Database, Error> {
        let database = match self.database.take() {
            Some(database) => database,
            None => Database::builder()
                .set_cache_size(CACHE)
                .create(&self.path)?,
        };
        Ok(self.database.insert(database))
    }

    fn load(&mut self) -> Result<Keyspace, Error> {
        let transaction = self.open()?.begin_write()?;
        let mut loader = Loader::default();
        {
            let table = transaction.open_table(ROWS)?;
            for row in table.range::<&[u8]>(..)? {
                let (name, content) = row?;
                loader.add(name.value(), content.value())?;
            }
        }
        transaction.commit()?;
        Ok(loader.finish())
    }

    fn write(&mut self, ops: &[Op]) -> Result<(), Error> {
        let outcome = self.open().and_then(|database| transact(database, ops));
        if outcome.is_err() {
            self.database = None;
        }
        outcome
    }
}

/// Does all of it, durably, or nothing.
fn transact(database: &Database, ops: &[Op]) -> Result<(), Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(ROWS)?;
        for op in ops {
            match op {
                Op::Clear(names) => {
                    table.retain_in(names.start.as_slice()..names.end.as_slice(), |_, _| false)?;
                }
                Op::Put(name, content) => drop(table.insert(name.as_slice(), &content[..])?),
                Op::Delete(name) => drop(table.remove(name.as_slice())?),
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

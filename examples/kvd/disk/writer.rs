//! The thread that writes to the database.
//!
//! It takes all batches that wait, and writes them in one transaction. Only then it fulfills the promises of the
//! replies. If the disk is full, it keeps both and tries again later, or when another batch comes: these commands were
//! executed, so an error reply would make their clients repeat them. Only new commands get the error.

use std::mem;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use asynchat::Promise;
use redb::{Database, ReadableTable, TableDefinition};

use super::clear::clear;
use super::loader::Loader;
use super::rows::{Op, each_row};
use crate::resp::reply::{Part, encode};
use crate::store::keyspace::Keyspace;

pub(super) const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
/// After a failure it tries again after this time, which doubles each time up to the second one.
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(8);

/// How many bytes wait for the disk before clients that write have to wait.
const MOST_WAITING: usize = 64 << 20;

/// redb's cache. The keyspace is in memory anyway.
const CACHE: usize = 64 << 20;

pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The replies of a client to requests that have written.
pub struct Delayed {
    pub client: u64,
    pub promise: Promise,
    /// What is sent when the transaction is on disk.
    pub replies: Vec<Part>,
}

/// The replies of a client that have waited for the disk are in memory as a whole, so they have a maximum.
const MOST_DELAYED: usize = 1 << 30;

impl Delayed {
    /// Sends the replies, with everything that their producers make. They are made here, because a client may get many
    /// elements of a list that it has removed, and the others of its loop must not wait for that.
    fn send(self) {
        match encode(self.replies, MOST_DELAYED) {
            Some(replies) => self.promise.fulfill(replies),
            None => {
                tracing::warn!(
                    client = self.client,
                    "the replies to commands that write are too long, connection closed"
                );
                self.promise.fail("the replies are too long");
            }
        }
    }
}

/// What was changed since the last batch, on all workers, and the replies of one of them.
#[derive(Default)]
pub struct Batch {
    pub ops: Vec<Op>,
    pub delayed: Vec<Delayed>,
    /// Whether they are to be written now, and not with a later batch.
    pub is_due: bool,
}

impl Batch {
    /// The bytes of memory.
    pub fn size(&self) -> usize {
        let delayed = self.delayed.iter().flat_map(|it| &it.replies);
        let delayed = delayed.map(Part::size).sum::<usize>();
        self.ops.iter().map(Op::size).sum::<usize>() + delayed
    }
}

/// Whether the last transaction has failed, and why.
#[derive(Default)]
pub struct Status {
    has_failed: AtomicBool,
    why: Mutex<String>,
    /// The bytes of the batches that are not on disk yet.
    waiting: AtomicUsize,
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

    /// Whether so much waits for the disk that clients which write have to wait, too.
    pub fn is_behind(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > MOST_WAITING
    }

    /// A batch of this size is sent to the thread.
    fn add_waiting(&self, size: usize) {
        self.waiting.fetch_add(size, Ordering::Relaxed);
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

/// Reports the end of the thread, unless the server has ended it.
struct Alive {
    status: Arc<Status>,
    /// What the loop does then.
    on_death: Option<Box<dyn FnOnce() + Send>>,
    is_over: bool,
}

impl Alive {
    /// The server has ended the thread.
    fn end(mut self) {
        self.is_over = true;
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.status.set(&Err(DIED.into()));
        if let Some(on_death) = self.on_death.take() {
            on_death();
        }
    }
}

const DIED: &str = "the thread that writes to the database has ended";

/// The thread, while it can be reached.
struct Open {
    batches: Sender<Batch>,
    thread: JoinHandle<Result<(), Error>>,
}

/// The thread, and the way to it, for all workers.
pub struct Writer {
    pub status: Arc<Status>,
    /// `None` once it is closed.
    open: Mutex<Option<Open>>,
}

impl Writer {
    /// Opens the database in `dir`, or creates it, and loads what is in it. `on_death` is called if the thread ends
    /// by itself.
    pub fn open(
        dir: &Path,
        on_death: impl FnOnce() + Send + 'static,
    ) -> Result<(Writer, Keyspace), Error> {
        std::fs::create_dir_all(dir)?;
        let mut file = File {
            path: dir.join("kvd.redb"),
            database: None,
        };
        let keyspace = file.load()?;
        let writer = Writer::start(move |ops: &[Op]| file.write(ops), on_death)?;
        Ok((writer, keyspace))
    }

    /// Starts the thread. `write` does all of it, durably, or nothing.
    pub fn start(
        write: impl FnMut(&[Op]) -> Result<(), Error> + Send + 'static,
        on_death: impl FnOnce() + Send + 'static,
    ) -> Result<Writer, Error> {
        let (batches, waiting) = mpsc::channel();
        let status = Arc::new(Status::default());
        let alive = Alive {
            status: Arc::clone(&status),
            on_death: Some(Box::new(on_death)),
            is_over: false,
        };
        let thread = thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || {
                let outcome = write_batches(write, &waiting, &alive.status);
                alive.end();
                outcome
            })?;
        Ok(Writer {
            status,
            open: Mutex::new(Some(Open { batches, thread })),
        })
    }

    /// Sends changes to the thread.
    pub fn send(&self, batch: Batch) {
        // Without the thread the promises are dropped, which ends their connections: nothing is acknowledged. The
        // thread itself has reported its end.
        if let Some(open) = &*self.lock() {
            self.status.add_waiting(batch.size());
            let _ = open.batches.send(batch);
        }
    }

    /// Writes what was sent, and closes the database. An error means that changes are not on disk.
    pub fn close(&self) -> Result<(), Error> {
        let Some(Open { batches, thread }) = self.lock().take() else {
            return Ok(());
        };
        drop(batches);
        thread.join().unwrap_or_else(|_| Err(DIED.into()))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns when no batch can come any more. An error means that the last ones are not on disk.
fn write_batches(
    mut write: impl FnMut(&[Op]) -> Result<(), Error>,
    waiting: &Receiver<Batch>,
    status: &Status,
) -> Result<(), Error> {
    // What could not be written, and the replies that wait for it.
    let mut ops: Vec<Op> = Vec::new();
    let mut delayed: Vec<Delayed> = Vec::new();
    let mut size = 0;
    let mut has_failed = false;
    let mut retry = RETRY;
    loop {
        let first = match has_failed {
            false => waiting.recv().map_err(|_| RecvTimeoutError::Disconnected),
            true => waiting.recv_timeout(retry),
        };
        let is_over = matches!(first, Err(RecvTimeoutError::Disconnected));
        let mut is_due = is_over || has_failed;
        for batch in first.into_iter().chain(waiting.try_iter()) {
            is_due |= batch.is_due;
            size += batch.size();
            ops.extend(batch.ops);
            delayed.extend(batch.delayed);
        }
        if !is_due {
            continue;
        }
        let outcome = match ops.is_empty() {
            true => Ok(()),
            false => write(&ops),
        };
        status.set(&outcome);
        has_failed = outcome.is_err();
        match &outcome {
            Ok(()) => {
                // A large batch leaves no memory behind.
                ops = Vec::new();
                status
                    .waiting
                    .fetch_sub(mem::take(&mut size), Ordering::Relaxed);
                delayed.drain(..).for_each(Delayed::send);
                retry = RETRY;
            }
            Err(_) if is_over => {
                tracing::error!(rows = ops.len(), "the last changes are not on disk");
            }
            // Each attempt opens the file again, and checks it.
            Err(_) => retry = (retry * 2).min(LONGEST_RETRY),
        }
        if is_over {
            return outcome;
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
                Op::Clear(names) => table = clear(&transaction, table, names)?,
                Op::Put(name, content) => drop(table.insert(name.as_slice(), &content[..])?),
                Op::PutString(name, head, text) => {
                    let content = [&head[..], &text[..]].concat();
                    drop(table.insert(name.as_slice(), &content[..])?);
                }
                Op::PutElements(prefix, value, _) => {
                    let mut outcome = Ok(());
                    each_row(prefix, value, &mut |name, content| {
                        if outcome.is_ok() {
                            outcome = table.insert(name, content).map(drop);
                        }
                    });
                    outcome?;
                }
                Op::Delete(name) => drop(table.remove(name.as_slice())?),
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

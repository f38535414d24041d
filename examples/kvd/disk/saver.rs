//! The thread that puts what is in the log into redb.
//!
//! It does that from time to time, or when it is much, in one transaction. If the disk is full, it tries again later:
//! nothing is lost, because it is in the log.

use std::mem;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use redb::{Database, ReadableTable, TableDefinition};

use super::Error;
use super::clear::clear;
use super::delayed::Delayed;
use super::loader::Loader;
use super::log::Log;
use super::rows::{Op, each_row};
use super::status::Status;
use super::unsaved::{Row, Unsaved};
use super::writer::Save;
use crate::store::keyspace::Keyspace;

pub(super) const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");

/// The number of the last frame of the log that is in the rows.
const SAVED: TableDefinition<'_, &str, u64> = TableDefinition::new("saved");

/// After a failure a thread tries again after this time, which doubles each time up to the second one.
pub const RETRY: Duration = Duration::from_secs(1);
pub const LONGEST_RETRY: Duration = Duration::from_secs(8);

/// So many bytes are saved at once. Up to four times as many may wait.
const MANY_BYTES: usize = 16 << 20;

/// redb's cache. The keyspace is in memory anyway.
const CACHE: usize = 64 << 20;

/// What is in the log.
pub struct Logged {
    pub ops: Vec<Op>,
    /// The number of the last frame.
    pub number: u64,
    pub size: usize,
    /// Replies that wait until it is in the database.
    pub delayed: Vec<Delayed>,
}

/// Returns when no more can come. An error means that the last changes are in the log only.
pub fn save_batches(
    save: &mut Save,
    interval: Duration,
    logged: &Receiver<Logged>,
    status: &Status,
) -> Result<(), Error> {
    let mut unsaved = Unsaved::default();
    let mut delayed: Vec<Delayed> = Vec::new();
    let mut number = status.saved.load(Ordering::Acquire);
    let mut size = 0;
    let mut due: Option<Instant> = None;
    let mut retry = RETRY;
    loop {
        let first = match due {
            None => logged.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => logged.recv_timeout(due.saturating_duration_since(Instant::now())),
        };
        let is_over = matches!(first, Err(RecvTimeoutError::Disconnected));
        for batch in first.into_iter().chain(logged.try_iter()) {
            batch.ops.into_iter().for_each(|op| unsaved.add(op));
            number = batch.number;
            size += batch.size;
            delayed.extend(batch.delayed);
        }
        let now = Instant::now();
        let has_failed = status.database.failure().is_some();
        if has_failed {
            // What is not in the database is in the log.
            delayed.drain(..).for_each(|it| it.send(status));
        }
        let is_much = size > MANY_BYTES || !delayed.is_empty();
        if !is_over && *due.get_or_insert(now + interval) > now && (has_failed || !is_much) {
            continue;
        }
        let outcome = match unsaved.is_empty() {
            true => Ok(()),
            false => save(number, &unsaved),
        };
        status.database.set("database", &outcome);
        delayed.drain(..).for_each(|it| it.send(status));
        match &outcome {
            Ok(()) => {
                status.saved.store(number, Ordering::Release);
                status.remove_waiting(mem::take(&mut size));
                unsaved = Unsaved::default();
                due = None;
                retry = RETRY;
            }
            // Each attempt opens the file again, and checks it.
            Err(_) => {
                due = Some(Instant::now() + retry);
                retry = (retry * 2).min(LONGEST_RETRY);
            }
        }
        if is_over {
            return outcome;
        }
    }
}

/// The database. After an error of the disk it is opened again: redb refuses all work until then.
pub struct Saved {
    path: PathBuf,
    database: Option<Database>,
}

impl Saved {
    pub fn open(path: PathBuf) -> Result<Saved, Error> {
        let mut saved = Saved {
            path,
            database: None,
        };
        match saved.database() {
            Ok(_) => Ok(saved),
            Err(error) => Err(saved.named(&error)),
        }
    }

    /// The error, with the name of the file.
    fn named(&self, error: &Error) -> Error {
        format!("{}: {error}", self.path.display()).into()
    }

    fn database(&mut self) -> Result<&Database, Error> {
        let database = match self.database.take() {
            Some(database) => database,
            None => Database::builder()
                .set_cache_size(CACHE)
                .create(&self.path)?,
        };
        Ok(self.database.insert(database))
    }

    /// Reads all keys, with the changes that are in the log only, and the number of the last frame of the log.
    pub fn load(&mut self, log: &mut Log) -> Result<(Keyspace, u64), Error> {
        self.replay(log)
            .and_then(|last| Ok((self.load_rows()?, last)))
            .map_err(|error| self.named(&error))
    }

    fn replay(&mut self, log: &mut Log) -> Result<u64, Error> {
        let transaction = self.database()?.begin_write()?;
        transaction.open_table(ROWS)?;
        let saved = transaction
            .open_table(SAVED)?
            .get("log")?
            .map_or(0, |number| number.value());
        transaction.commit()?;
        let mut unsaved = Unsaved::default();
        let number = log.replay(saved, &mut |op| unsaved.add(op))?;
        if !unsaved.is_empty() {
            self.save(number, &unsaved)?;
            let frames = number - saved;
            tracing::info!(frames, "the changes in the log are in the database");
        }
        log.clear()?;
        Ok(number)
    }

    fn load_rows(&mut self) -> Result<Keyspace, Error> {
        let transaction = self.database()?.begin_read()?;
        let table = transaction.open_table(ROWS)?;
        let mut loader = Loader::default();
        for row in table.range::<&[u8]>(..)? {
            let (name, content) = row?;
            loader.add(name.value(), content.value())?;
        }
        Ok(loader.finish())
    }

    /// Does all of it, durably, or nothing. `number` is that of the last frame of the log.
    pub fn save(&mut self, number: u64, unsaved: &Unsaved) -> Result<(), Error> {
        let outcome = self
            .database()
            .and_then(|database| transact(database, number, unsaved));
        if outcome.is_err() {
            self.database = None;
        }
        outcome
    }
}

fn transact(database: &Database, number: u64, unsaved: &Unsaved) -> Result<(), Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(ROWS)?;
        for (start, end) in &unsaved.cleared {
            table = clear(&transaction, table, start, end)?;
        }
        for (name, value) in &unsaved.collections {
            let prefix = &name[..name.len() - 1];
            let mut outcome = Ok(());
            each_row(prefix, value, &mut |name, content| {
                if outcome.is_ok() {
                    outcome = table.insert(name, content).map(drop);
                }
            });
            outcome?;
        }
        for (name, row) in &unsaved.rows {
            match row {
                Row::Put(head, content) if head.is_empty() => {
                    table.insert(name.as_slice(), &content[..])?;
                }
                Row::Put(head, text) => {
                    let content = [&head[..], &text[..]].concat();
                    table.insert(name.as_slice(), &content[..])?;
                }
                Row::Delete => drop(table.remove(name.as_slice())?),
            }
        }
        transaction.open_table(SAVED)?.insert("log", number)?;
    }
    transaction.commit()?;
    Ok(())
}

//! The thread that puts what is in the log into redb.
//!
//! It does that from time to time, or when it is much, in one transaction. If the disk is full, it tries again later:
//! nothing is lost, because it is in the log. Between these transactions it removes the rows of values that were removed.

use std::mem;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use redb::Database;

use super::Error;
use super::delayed::Delayed;
use super::log::Log;
use super::rows::Op;
use super::status::Status;
use super::tables;
use super::unsaved::Unsaved;
use super::writer::Save;
use crate::store::keyspace::Keyspace;

/// After a failure a thread tries again after this time, which doubles each time up to the second one.
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(8);

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
    // Whether there may be rows of removed values, which are removed while there is nothing else to do.
    let mut has_dead = true;
    loop {
        let first = match due {
            _ if has_dead && status.database.failure().is_none() => {
                logged.recv_timeout(Duration::ZERO)
            }
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
        let is_due =
            is_over || *due.get_or_insert(now + interval) <= now || (is_much && !has_failed);
        if !is_due && (has_failed || !has_dead) {
            continue;
        }
        let outcome = match is_due {
            true if unsaved.is_empty() && (is_over || !has_dead) => Ok(false),
            true => save(number, &unsaved),
            false => save(status.saved.load(Ordering::Acquire), &Unsaved::default()),
        };
        status.database.set("database", &outcome);
        match &outcome {
            Ok(has_more) => {
                has_dead = *has_more;
                retry = RETRY;
            }
            // Each attempt opens the file again, and checks it.
            Err(_) => {
                due = Some(Instant::now() + retry);
                retry = (retry * 2).min(LONGEST_RETRY);
            }
        }
        if is_due {
            delayed.drain(..).for_each(|it| it.send(status));
        }
        if is_due && outcome.is_ok() {
            status.saved.store(number, Ordering::Release);
            status.remove_waiting(mem::take(&mut size));
            unsaved = Unsaved::default();
            due = None;
        }
        if is_over {
            return outcome.map(drop);
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
            .and_then(|last| Ok((tables::load(self.database()?)?, last)))
            .map_err(|error| self.named(&error))
    }

    fn replay(&mut self, log: &mut Log) -> Result<u64, Error> {
        let saved = tables::prepare(self.database()?)?;
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

    /// Does all of it, durably, or nothing. `number` is that of the last frame of the log. Some dead rows are removed,
    /// too. Returns whether there are more of these.
    pub fn save(&mut self, number: u64, unsaved: &Unsaved) -> Result<bool, Error> {
        let outcome = self
            .database()
            .and_then(|database| tables::save(database, number, unsaved));
        if outcome.is_err() {
            self.database = None;
        }
        outcome
    }
}

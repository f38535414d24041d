//! The thread that puts what is in the log into redb.
//!
//! It does that from time to time, or when it is much, in one transaction. If the disk is full, it tries again later:
//! nothing is lost, because it is in the log. Between these transactions it removes the rows of values that were removed.

use std::mem;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::Error;
use super::delayed::Delayed;
use super::rows::Op;
use super::size::Size;
use super::status::Status;
use super::unsaved::Unsaved;
use super::writer::Save;

/// After a failure a thread tries again after this time, which doubles each time up to the second one.
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(8);

/// So many bytes are saved at once. Up to four times as many may wait.
const MANY_BYTES: usize = 16 << 20;

/// What is in the log.
pub struct Logged {
    pub ops: Vec<Op>,
    /// The number of the last frame.
    pub number: u64,
    pub size: Size,
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
    let mut size = Size::default();
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
        let is_much = size.total() > MANY_BYTES || !delayed.is_empty();
        let is_due =
            is_over || *due.get_or_insert(now + interval) <= now || (is_much && !has_failed);
        if !is_due && (has_failed || !has_dead) {
            continue;
        }
        let outcome = if !is_due {
            save(status.saved.load(Ordering::Acquire), &Unsaved::default())
        } else if unsaved.is_empty() && (is_over || !has_dead) {
            Ok(false)
        } else {
            save(number, &unsaved)
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

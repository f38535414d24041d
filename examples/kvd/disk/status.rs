//! What the loops know of the threads that write.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Error;
use super::size::Size;
use super::writer::MUCH;

/// Clients that write have to wait while more bytes of small changes than this wait for the database.
const MOST_SMALL: usize = 64 << 20;

/// A client that has written a large value has to wait while more bytes of large changes than this do. The others do not
/// wait for it: to put 64 MB into the database takes seconds.
const MOST_LARGE: usize = 64 << 20;

/// All clients that write have to wait while more bytes of large changes than this do. Two values may have so many bytes.
const MOST_OF_ALL: usize = 1 << 30;

#[derive(Default)]
pub struct Status {
    pub log: Health,
    pub database: Health,
    /// How many commands that write were executed.
    executed: AtomicU64,
    /// How many of them are in the log.
    logged: AtomicU64,
    /// The number of the last frame of the log that is in the database, durably.
    pub saved: AtomicU64,
    /// The bytes of the changes that are not in the database yet, and of the replies that wait: small ones, and large
    /// ones.
    small: AtomicUsize,
    large: AtomicUsize,
    /// The bytes of the changes that the log thread has, and that are not in the log yet.
    unlogged: AtomicUsize,
}

impl Status {
    /// A command that writes is executed.
    pub fn note_write(&self) {
        self.executed.fetch_add(1, Ordering::Relaxed);
    }

    pub fn executed(&self) -> u64 {
        self.executed.load(Ordering::Relaxed)
    }

    /// So many commands that write are in the log, with all that they have changed.
    pub fn set_logged(&self, executed: u64) {
        self.logged.store(executed, Ordering::Release);
    }

    /// Whether there are changes that are not in the log.
    #[inline]
    pub fn is_pending(&self) -> bool {
        self.logged.load(Ordering::Acquire) != self.executed()
    }

    /// The error reply for commands that write, if they would not be durable.
    #[inline]
    pub fn refusal(&self) -> Option<String> {
        let why = self.log.failure().or_else(|| self.database.failure())?;
        Some(format!("MISCONF Errors writing to the AOF file: {why}"))
    }

    /// Whether so much waits for the database that a client which has written has to wait, too. `is_large`: it has
    /// written much.
    pub fn is_behind(&self, is_large: bool) -> bool {
        let most_large = if is_large { MOST_LARGE } else { MOST_OF_ALL };
        self.small.load(Ordering::Relaxed) > MOST_SMALL
            || self.large.load(Ordering::Relaxed) > most_large
    }

    /// Whether so much waits for the log that a client which has written has to wait, too: every reply waits behind that.
    pub fn is_log_behind(&self) -> bool {
        self.unlogged.load(Ordering::Relaxed) > MUCH
    }

    pub fn add_unlogged(&self, bytes: usize) {
        self.unlogged.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn remove_unlogged(&self, bytes: usize) {
        self.unlogged.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub fn add_waiting(&self, size: Size) {
        self.small.fetch_add(size.small, Ordering::Relaxed);
        self.large.fetch_add(size.large, Ordering::Relaxed);
    }

    pub fn remove_waiting(&self, size: Size) {
        self.small.fetch_sub(size.small, Ordering::Relaxed);
        self.large.fetch_sub(size.large, Ordering::Relaxed);
    }
}

/// Whether the last attempt to write has failed, and why.
#[derive(Default)]
pub struct Health {
    has_failed: AtomicBool,
    why: Mutex<String>,
}

impl Health {
    #[inline]
    pub fn failure(&self) -> Option<String> {
        self.has_failed
            .load(Ordering::Acquire)
            .then(|| self.why().clone())
    }

    /// Notes the outcome of an attempt to write to `what`.
    pub fn set<T>(&self, what: &str, outcome: &Result<T, Error>) {
        if let Err(error) = outcome {
            *self.why() = error.to_string().replace(['\r', '\n'], " ");
        }
        let was = self.has_failed.swap(outcome.is_err(), Ordering::Release);
        match outcome {
            Err(error) if !was => {
                tracing::error!(%error, "cannot write to the {what}: commands that write are refused, but for those that only remove keys");
            }
            Ok(_) if was => tracing::info!("the {what} can be written again"),
            _ => {}
        }
    }

    fn why(&self) -> MutexGuard<'_, String> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports the end of a thread, unless the server has ended it.
pub struct Alive {
    pub status: Arc<Status>,
    /// What the loop does then.
    pub on_death: Arc<dyn Fn() + Send + Sync>,
    is_over: bool,
}

pub const DIED: &str = "a thread that writes to the disk has ended";

impl Alive {
    pub fn new(status: &Arc<Status>, on_death: &Arc<dyn Fn() + Send + Sync>) -> Alive {
        Alive {
            status: Arc::clone(status),
            on_death: Arc::clone(on_death),
            is_over: false,
        }
    }

    /// The server has ended the thread.
    pub fn end(mut self) {
        self.is_over = true;
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        if !self.is_over {
            // The other thread may note a success of its own.
            self.status.log.set::<()>("log", &Err(DIED.into()));
            self.status
                .database
                .set::<()>("database", &Err(DIED.into()));
            (self.on_death)();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_changes_that_wait_concern_only_those_who_write_such_unless_they_are_very_many() {
        let status = Status::default();
        let is_behind = || [true, false].map(|is_large| status.is_behind(is_large));
        let large = Size::of(MOST_LARGE + 1);
        status.add_waiting(large);
        assert_eq!(is_behind(), [true, false]);
        let more = Size::of(MOST_OF_ALL);
        status.add_waiting(more);
        assert_eq!(is_behind(), [true, true]);
        status.remove_waiting(large + more);
        assert_eq!(is_behind(), [false, false]);
        for _ in 0..=MOST_SMALL / 1_000 {
            status.add_waiting(Size::of(1_000));
        }
        assert_eq!(is_behind(), [true, true]);
    }
}

//! What the loops know of the threads that write.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Error;

/// How many bytes wait for the database before clients that write have to wait.
const MOST_WAITING: usize = 64 << 20;

#[derive(Default)]
pub struct Status {
    /// Whether a reply follows durability: `--appendfsync always`.
    pub is_synced: bool,
    pub log: Health,
    pub database: Health,
    /// How many commands that write were executed.
    executed: AtomicU64,
    /// How many of them are in the log.
    logged: AtomicU64,
    /// The number of the last frame of the log that is in the database, durably.
    pub saved: AtomicU64,
    /// The bytes of the changes that are not in the database yet, and of the replies that wait.
    waiting: AtomicUsize,
}

impl Status {
    pub fn new(is_synced: bool) -> Status {
        Status {
            is_synced,
            ..Status::default()
        }
    }

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

    /// Whether so much waits for the database that clients which write have to wait, too.
    pub fn is_behind(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > MOST_WAITING
    }

    pub fn add_waiting(&self, size: usize) {
        self.waiting.fetch_add(size, Ordering::Relaxed);
    }

    pub fn remove_waiting(&self, size: usize) {
        self.waiting.fetch_sub(size, Ordering::Relaxed);
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
                tracing::error!(%error, "cannot write to the {what}: commands that write are refused");
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

//! A database that is closed and opened again after an I/O error, and that is an error and no
//! panic when its file is damaged.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Once, PoisonError, RwLock};

use redb::{Database, ReadTransaction, WriteTransaction};

pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Octets of the database's own cache, which would be of 1 GiB. What is not in it is in the
/// system's.
const CACHE: usize = 16 << 20;

/// The open database; it is closed between an I/O error and the time that it can be opened again.
pub struct Shared {
    path: PathBuf,
    database: RwLock<Option<Database>>,
    stale: AtomicBool,
}

impl Shared {
    /// Opens the database in `path`, or makes it.
    pub fn open(path: &Path) -> Result<Shared> {
        Ok(Shared {
            path: path.to_owned(),
            database: RwLock::new(Some(open(path)?)),
            stale: AtomicBool::new(false),
        })
    }

    /// The directory that the file is in.
    pub fn directory(&self) -> &Path {
        let parent = self
            .path
            .parent()
            .filter(|path| !path.as_os_str().is_empty());
        parent.unwrap_or(Path::new("."))
    }

    /// Reads, without ever waiting: while the database is being opened again, it is an error.
    pub fn read<T>(&self, read: impl FnOnce(&ReadTransaction) -> Result<T>) -> Result<T> {
        let database = self.database.try_read().map_err(|_| CLOSED)?;
        let database = database.as_ref().ok_or(CLOSED)?;
        let outcome = guarded(|| read(&database.begin_read()?));
        if outcome.as_ref().is_err_and(is_stale) {
            self.stale.store(true, Ordering::Relaxed);
        }
        outcome
    }

    /// Writes, and returns when the disk has it.
    pub fn write<T>(&self, write: impl FnOnce(&WriteTransaction) -> Result<T>) -> Result<T> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(CLOSED)?;
        guarded(|| {
            let transaction = database.begin_write()?;
            let outcome = write(&transaction)?;
            transaction.commit()?;
            Ok(outcome)
        })
    }

    /// Whether a read has found that the database must be closed and opened again; true once.
    pub fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed) && self.stale.swap(false, Ordering::Relaxed)
    }

    pub fn is_closed(&self) -> bool {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        database.is_none()
    }

    /// Closes the database and opens it again. On an error it stays closed.
    pub fn reopen(&self) -> Result<()> {
        let mut database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // It must be closed first, for redb locks the file.
        close(database.take())?;
        *database = Some(open(&self.path)?);
        Ok(())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let database = self.database.get_mut();
        let database = database.unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = close(database.take()) {
            tracing::error!(%error, "the store was not closed");
        }
    }
}

const CLOSED: &str = "the database is being opened again after an error";

/// What redb returns for everything after an I/O error, until it is opened again.
pub fn is_stale(error: &Error) -> bool {
    use redb::{CommitError, StorageError::PreviousIo, TableError, TransactionError};
    matches!(error.downcast_ref(), Some(PreviousIo))
        || matches!(
            error.downcast_ref(),
            Some(TransactionError::Storage(PreviousIo))
        )
        || matches!(error.downcast_ref(), Some(TableError::Storage(PreviousIo)))
        || matches!(error.downcast_ref(), Some(CommitError::Storage(PreviousIo)))
}

fn open(path: &Path) -> Result<Database> {
    guarded(|| Ok(Database::builder().set_cache_size(CACHE).create(path)?))
}

fn close(database: Option<Database>) -> Result<()> {
    guarded(|| {
        drop(database);
        Ok(())
    })
}

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Makes an error of a panic. redb asserts what it reads from its file, so a damaged file makes it
/// panic; nobody wants to see where.
pub fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    static SILENT: Once = Once::new();
    SILENT.call_once(|| {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                hook(info);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    outcome.unwrap_or_else(|panic| Err(damaged(&*panic)))
}

fn damaged(panic: &(dyn Any + Send)) -> Error {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| panic.downcast_ref().copied());
    let message = message.and_then(|text| text.lines().next());
    format!(
        "the database is damaged ({})",
        message.unwrap_or("it panicked")
    )
    .into()
}

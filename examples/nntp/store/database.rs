//! The database, with two additions to redb: after an I/O error it can be reopened, and a damaged file
//! causes an error instead of a panic.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Once, PoisonError, RwLock};

use redb::{Database, ReadTransaction, WriteTransaction};

pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The size of redb's cache in octets. The default of 1 GiB is not needed, because the operating system
/// also caches the file.
const CACHE_SIZE: usize = 16 << 20;

/// The database, shared by the loop and the writer.
pub struct Shared {
    path: PathBuf,
    /// `None` while the database is closed because reopening has failed.
    database: RwLock<Option<Database>>,
    /// A read has failed, and the database must be reopened.
    must_reopen: AtomicBool,
}

impl Shared {
    /// Opens the database in `path`, or creates it.
    pub fn open(path: &Path) -> Result<Shared> {
        Ok(Shared {
            path: path.to_owned(),
            database: RwLock::new(Some(open(path)?)),
            must_reopen: AtomicBool::new(false),
        })
    }

    /// The directory that contains the file.
    pub fn directory(&self) -> &Path {
        let parent = self
            .path
            .parent()
            .filter(|path| !path.as_os_str().is_empty());
        parent.unwrap_or(Path::new("."))
    }

    /// Reads without blocking. While the database is being reopened, it returns an error.
    pub fn read<T>(&self, read: impl FnOnce(&ReadTransaction) -> Result<T>) -> Result<T> {
        let database = self.database.try_read().map_err(|_| CLOSED)?;
        let database = database.as_ref().ok_or(CLOSED)?;
        let outcome = catch_panics(|| read(&database.begin_read()?));
        if outcome.as_ref().is_err_and(needs_reopening) {
            self.must_reopen.store(true, Ordering::Relaxed);
        }
        outcome
    }

    /// Writes, and returns when the data is on the disk.
    pub fn write<T>(&self, write: impl FnOnce(&WriteTransaction) -> Result<T>) -> Result<T> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(CLOSED)?;
        catch_panics(|| {
            let transaction = database.begin_write()?;
            let outcome = write(&transaction)?;
            transaction.commit()?;
            Ok(outcome)
        })
    }

    /// Whether a read has found that the database must be reopened. Returns true once for each such event.
    pub fn needs_reopening(&self) -> bool {
        self.must_reopen.load(Ordering::Relaxed) && self.must_reopen.swap(false, Ordering::Relaxed)
    }

    pub fn is_closed(&self) -> bool {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        database.is_none()
    }

    /// Closes the database and opens it again. After an error it remains closed.
    pub fn reopen(&self) -> Result<()> {
        let mut database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // redb locks the file, so the database must be closed first.
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
            tracing::error!(%error, "cannot close the store");
        }
    }
}

const CLOSED: &str = "the database is being opened again after an error";

/// Whether the error is the one that redb returns for each operation after an I/O error, until the database
/// is reopened.
pub fn needs_reopening(error: &Error) -> bool {
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
    catch_panics(|| {
        Ok(Database::builder()
            .set_cache_size(CACHE_SIZE)
            .create(path)?)
    })
}

fn close(database: Option<Database>) -> Result<()> {
    catch_panics(|| {
        drop(database);
        Ok(())
    })
}

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Turns a panic into an error. redb panics when its file is damaged, because it asserts what it reads. The
/// panic's message is part of the error, so the panic hook does not run.
pub fn catch_panics<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !CATCHING.get() {
                hook(info);
            }
        }));
    });
    let outer = CATCHING.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(outer);
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

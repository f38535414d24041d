//! The file of redb, with four differences to redb's own.
//!
//! A read behind its end is an error. On Windows redb 2.6 reads again and again there, so a start with a file that was cut
//! would never end.
//!
//! After a sync that has failed all of the file is written again. The system may have dropped what it could not write, but
//! shows it to readers, and the next sync succeeds (<https://lwn.net/Articles/752063/>). redb would build on pages that are
//! not on disk.
//!
//! A file that is opened always needs recovery for redb, whatever its header says. redb 2.6 stores which pages are in use
//! when a repair ends, and in the same flush the header which says that no repair is needed (`end_repair` in
//! `page_manager.rs`). A start makes two repairs, when it opens the database and when it checks it. If it ends between the
//! writes of such a flush, or with the system before the sync, the header may be on disk without the rest: the next start
//! would trust pages that are older, and write over rows. With the flag redb never reads these pages. It finds out which
//! pages are in use from the trees, whose writes are ordered, or after an orderly end from a table of the last transaction.
//!
//! A file is synced when it is opened, and each time it has grown. The next flush of redb writes the header with the size of
//! the file. If only the header were on disk after a crash of the system, redb would panic at each start, because the file
//! is too short.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use redb::backends::FileBackend;
use redb::{DatabaseError, StorageBackend};

use super::folder::options;

#[derive(Debug)]
pub struct DatabaseFile<B = FileBackend> {
    backend: B,
    /// Nobody else changes it: redb locks the file.
    len: AtomicU64,
    unsynced: Arc<Unsynced>,
}

/// Whether a sync has failed, and the file was not written again since. A file beside it says so to a process that is
/// started later. After a crash of the system it may be missing: then only what is on disk can be read.
#[derive(Debug)]
pub struct Unsynced {
    /// For this process: the disk may have no room for the file.
    is_set: AtomicBool,
    path: PathBuf,
}

impl Unsynced {
    pub fn new(database: &Path) -> Arc<Unsynced> {
        Arc::new(Unsynced {
            is_set: AtomicBool::new(false),
            path: database.with_extension("unsynced"),
        })
    }

    fn is_set(&self) -> io::Result<bool> {
        Ok(self.is_set.load(Ordering::Acquire) || self.path.try_exists()?)
    }

    fn set(&self) {
        self.is_set.store(true, Ordering::Release);
        if let Err(error) = File::create(&self.path) {
            let path = self.path.display();
            tracing::error!(%path, %error, "the file cannot be made: do not restart the server before kvd.redb can be written");
        }
    }

    fn clear(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => self.is_set.store(false, Ordering::Release),
        }
        Ok(())
    }
}

impl DatabaseFile {
    /// Opens the file, or creates it.
    pub fn open(path: &Path, unsynced: &Arc<Unsynced>) -> Result<DatabaseFile, DatabaseError> {
        let mut file = options().create(true).open(path)?;
        if unsynced.is_set()? {
            write_again(&mut file)?;
            file.sync_data()?;
            unsynced.clear()?;
        }
        Ok(DatabaseFile::new(FileBackend::new(file)?, unsynced)?)
    }
}

impl<B: StorageBackend> DatabaseFile<B> {
    pub(super) fn new(backend: B, unsynced: &Arc<Unsynced>) -> io::Result<DatabaseFile<B>> {
        let file = DatabaseFile {
            len: AtomicU64::new(backend.len()?),
            backend,
            unsynced: Arc::clone(unsynced),
        };
        if file.len()? > 0 {
            file.require_recovery()?;
            file.sync_data(false)?;
        }
        Ok(file)
    }

    /// Sets the flag in the header, unless the file is none of redb, which refuses it then.
    fn require_recovery(&self) -> io::Result<()> {
        let head = self.read(0, self.len()?.min(MAGIC.len() as u64 + 1) as usize)?;
        if let Some([flags]) = head.strip_prefix(&MAGIC)
            && flags & RECOVERY_REQUIRED == 0
        {
            self.write(MAGIC.len() as u64, &[flags | RECOVERY_REQUIRED])?;
        }
        Ok(())
    }
}

/// What a file of redb begins with. A byte with flags follows (`header.rs` of redb).
const MAGIC: [u8; 9] = *b"redb\x1A\x0A\xA9\x0D\x0A";
const RECOVERY_REQUIRED: u8 = 2;

impl<B: StorageBackend> StorageBackend for DatabaseFile<B> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.len.load(Ordering::Acquire))
    }

    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        if offset.saturating_add(len as u64) > self.len()? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.backend.read(offset, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.backend.set_len(len)?;
        if self.len.swap(len, Ordering::AcqRel) < len {
            self.sync_data(false)?;
        }
        Ok(())
    }

    fn sync_data(&self, eventual: bool) -> io::Result<()> {
        let outcome = self.backend.sync_data(eventual);
        if outcome.is_err() {
            self.unsynced.set();
        }
        outcome
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.backend.write(offset, data)
    }
}

/// Writes all of the file as it reads now. The system has to write each page then.
fn write_again(file: &mut (impl Read + Write + Seek)) -> io::Result<()> {
    let mut part = Vec::with_capacity(PART as usize);
    let mut at = 0;
    loop {
        part.clear();
        file.seek(SeekFrom::Start(at))?;
        let read = Read::by_ref(file).take(PART).read_to_end(&mut part)?;
        if read == 0 {
            return Ok(());
        }
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&part)?;
        at += read as u64;
    }
}

/// How many bytes are read and written at once.
const PART: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn a_read_behind_the_end_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = DatabaseFile::open(&path, &Unsynced::new(&path)).unwrap();
        file.set_len(10).unwrap();
        file.write(0, b"0123456789").unwrap();
        assert_eq!(file.read(2, 8).unwrap(), b"23456789");
        for (offset, len) in [(3, 8), (10, 1), (u64::MAX, 2)] {
            let error = file.read(offset, len).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
        file.set_len(5).unwrap();
        assert!(file.read(4, 2).is_err());
    }

    /// Notes where it was written.
    struct Noted(Cursor<Vec<u8>>, Vec<(u64, usize)>);

    impl Read for Noted {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0.read(into)
        }
    }

    impl Write for Noted {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.1.push((self.0.position(), data.len()));
            self.0.write(data)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Noted {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }

    #[test]
    fn each_byte_is_written_again() {
        let data: Vec<u8> = (0..PART as u32 + 5).map(|it| it as u8).collect();
        let mut file = Noted(Cursor::new(data.clone()), Vec::new());
        write_again(&mut file).unwrap();
        assert_eq!(file.1, [(0, PART as usize), (PART, 5)]);
        assert!(file.0.into_inner() == data);
    }

    #[test]
    fn the_file_is_written_again_when_it_is_opened_after_a_sync_that_has_failed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = DatabaseFile::open(&path, &Unsynced::new(&path)).unwrap();
        file.write(0, b"0123456789").unwrap();
        file.unsynced.set();
        drop(file);
        // Also by another process.
        let unsynced = Unsynced::new(&path);
        assert!(unsynced.is_set().unwrap());
        drop(DatabaseFile::open(&path, &unsynced).unwrap());
        assert!(!unsynced.is_set().unwrap());
        // Also without the file that says so.
        unsynced.set();
        fs::remove_file(path.with_extension("unsynced")).unwrap();
        assert!(unsynced.is_set().unwrap());
        let file = DatabaseFile::open(&path, &unsynced).unwrap();
        assert!(!unsynced.is_set().unwrap());
        assert_eq!(file.len().unwrap(), 10);
        assert_eq!(file.read(0, 10).unwrap(), b"0123456789");
    }
}

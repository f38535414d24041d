//! The file of redb. A read behind its end is an error.
//!
//! On Windows redb 2.6 reads again and again there, so a start with a file that was cut would never end.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::backends::FileBackend;
use redb::{DatabaseError, StorageBackend};

use super::folder::options;

#[derive(Debug)]
pub struct DatabaseFile {
    backend: FileBackend,
    /// Nobody else changes it: redb locks the file.
    len: AtomicU64,
}

impl DatabaseFile {
    /// Opens the file, or creates it.
    pub fn open(path: &Path) -> Result<DatabaseFile, DatabaseError> {
        let backend = FileBackend::new(options().create(true).open(path)?)?;
        let len = AtomicU64::new(backend.len()?);
        Ok(DatabaseFile { backend, len })
    }
}

impl StorageBackend for DatabaseFile {
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
        self.len.store(len, Ordering::Release);
        Ok(())
    }

    fn sync_data(&self, eventual: bool) -> io::Result<()> {
        self.backend.sync_data(eventual)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.backend.write(offset, data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_behind_the_end_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = DatabaseFile::open(&dir.path().join("file")).unwrap();
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
}

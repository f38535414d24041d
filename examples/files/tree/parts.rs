//! The parts of uploads. A server that is killed leaves those that it was receiving. A later one removes them when it first
//! receives a file for the same folder, or when a client removes the folder.
//!
//! Each part is locked while it is received, and the system releases the lock of a process that ends, whatever ends it. So
//! a part without a lock belongs to nobody. Where there are no such locks (some network file systems), parts stay.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use rustix::fs::{AtFlags, Dev, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::searched::{self, MOST_NAMES};
use super::{closing, is_part_name};

/// So many large parts wait for their close at most. Each is an open descriptor. The others stay for the next upload.
const MOST_WAITING: usize = 16;

#[derive(Default)]
pub struct Searched {
    /// The folders that were searched for parts. (The numbers of devices have other types on other systems.)
    folders: searched::Searched<(Dev, u64)>,
    /// Has a clone for each part that waits for its close.
    waiting: Arc<()>,
    /// Whether the present search has left out a part, because too many wait.
    has_skipped: Cell<bool>,
}

impl Searched {
    /// Removes the parts in a folder that belong to nobody, unless this was done before.
    pub fn remove_abandoned(&self, folder: BorrowedFd<'_>) {
        let removed = rustix::fs::fstat(folder).map(|found| {
            let key = (found.st_dev, found.st_ino);
            if !self.folders.add(key) {
                return Ok(());
            }
            self.has_skipped.set(false);
            let outcome = self.remove_all(folder);
            if self.has_skipped.get() {
                self.folders.forget(&key);
            }
            outcome
        });
        if let Ok(Err(error)) | Err(error) = removed {
            tracing::warn!(%error, "a folder cannot be searched for parts of uploads");
        }
    }

    fn remove_all(&self, folder: BorrowedFd<'_>) -> rustix::io::Result<()> {
        for entry in Dir::read_from(folder)?.take(MOST_NAMES) {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if is_part_name(name) {
                self.remove_if_abandoned(folder, name);
            }
        }
        Ok(())
    }

    /// Removes the parts that belong to nobody in a folder that somebody wants to remove. Ends at anything else, with which
    /// the folder stays in any case. Returns whether it has left out a part that may be removed later.
    pub fn remove_until_other(&self, folder: BorrowedFd<'_>) -> rustix::io::Result<bool> {
        self.has_skipped.set(false);
        for entry in Dir::read_from(folder)?.take(MOST_NAMES) {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            let is_itself = name == "." || name == "..";
            let is_gone = || is_part_name(name) && self.remove_if_abandoned(folder, name);
            if !is_itself && !is_gone() {
                break;
            }
        }
        Ok(self.has_skipped.get())
    }

    /// Returns whether the part is removed.
    fn remove_if_abandoned(&self, folder: BorrowedFd<'_>, name: &OsStr) -> bool {
        if Arc::strong_count(&self.waiting) > MOST_WAITING {
            self.has_skipped.set(true);
            return false;
        }
        let Some(part) = abandoned(folder, name) else {
            return false;
        };
        let removed = rustix::fs::unlinkat(folder, name, AtFlags::empty());
        match removed {
            Ok(()) => tracing::info!(name = %name.display(), "removed the part of an upload"),
            // The server that has created it did so.
            Err(Errno::NOENT) => {}
            Err(error) => tracing::warn!(%error, name = %name.display(), "a part stays"),
        }
        closing::close(part, Arc::clone(&self.waiting));
        matches!(removed, Ok(()) | Err(Errno::NOENT))
    }
}

/// Opens a file, not a link to one, that nobody has locked.
fn abandoned(folder: BorrowedFd<'_>, name: &OsStr) -> Option<File> {
    let is_file = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::RegularFile);
    // On NFS such a lock needs a file that can be written.
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = || rustix::fs::openat(folder, name, flags, Mode::empty()).ok();
    let part = File::from(is_file.then(opened)??);
    let locked = rustix::fs::flock(&part, FlockOperation::NonBlockingLockExclusive);
    locked.is_ok().then_some(part)
}

/// Locks a part that was created. If that fails, it is removed.
///
/// # Errors
/// `AlreadyExists` if another server has taken it for abandoned before. Another name is to be tried.
pub fn lock(folder: BorrowedFd<'_>, name: &OsStr, part: &File) -> io::Result<()> {
    let is_locked = match lock_exclusively(part) {
        Ok(()) => part.metadata().map(|found| found.nlink() > 0),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    };
    let error = match is_locked {
        Ok(true) => return Ok(()),
        Ok(false) => ErrorKind::AlreadyExists.into(),
        Err(error) => error,
    };
    // The other server may have done it.
    let _ = rustix::fs::unlinkat(folder, name, AtFlags::empty());
    Err(error)
}

/// Locks a file for its only writer. Where there are no locks, it does nothing.
///
/// # Errors
/// `WouldBlock` if another one has locked it.
pub fn lock_exclusively(file: &File) -> io::Result<()> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_part_that_cannot_be_locked_is_removed() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let (opened, path) = (File::open(folder.path())?, folder.path().join("part"));
        let lock = |part: &File| lock(opened.as_fd(), OsStr::new("part"), part);
        let part = File::create(&path)?;
        lock(&part)?;
        assert!(path.exists());
        // The other server has opened it itself.
        let other = File::open(&path)?;
        assert_eq!(lock(&other).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert!(!path.exists());
        assert_eq!(lock(&part).unwrap_err().kind(), ErrorKind::AlreadyExists);
        Ok(())
    }

    #[test]
    fn parts_stay_while_many_large_ones_wait_for_their_close() -> io::Result<()> {
        let (folder, searched) = (tempfile::tempdir()?, Searched::default());
        let path = folder.path().join(".files-upload-0123456789abcdef");
        File::create(&path)?;
        let opened = File::open(folder.path())?;
        let waiting = [(); MOST_WAITING].map(|()| Arc::clone(&searched.waiting));
        searched.remove_abandoned(opened.as_fd());
        searched.remove_until_other(opened.as_fd())?;
        assert!(path.exists());
        drop(waiting);
        searched.remove_abandoned(opened.as_fd());
        assert!(!path.exists());
        Ok(())
    }
}

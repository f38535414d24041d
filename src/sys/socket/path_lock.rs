//! [`PathLock`]: one process at a time begins to listen at a path.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};

use crate::log::log;

/// How often a lock is tried whose file its owner removes meanwhile.
const TRIES: usize = 100;

/// The lock of a path, from the bind of a socket until it listens: meanwhile a connection to the socket is
/// refused as if it were stale, and two processes that replace a stale socket could each remove the new one
/// of the other. Outside Linux a listener keeps it: see `unix_domain.rs`.
///
/// It is an flock(2) on a file beside the path that exists as long as the lock. A killed process may leave the
/// file, but not the lock: the next process uses the file and removes it.
///
/// Where no lock is possible, `bind` decides: a folder that is not writable, a policy that allows the process only
/// this path, a lock file of another user, a file system without flock.
pub(super) struct PathLock {
    path: PathBuf,
    _file: File,
}

impl PathLock {
    /// # Errors
    /// `AddrInUse` while another process has the lock.
    pub(super) fn acquire(path: &Path) -> io::Result<Option<Self>> {
        let Some(name) = path.file_name() else {
            return Ok(None);
        };
        let mut file_name = OsString::from(".");
        file_name.push(name);
        file_name.push(".asynchat-lock");
        let path = path.with_file_name(file_name);
        // No link is followed, and a FIFO is not waited for: others may write to the folder.
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        for _ in 0..TRIES {
            let file = match open(&path, flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => File::from(file),
                Err(error) => {
                    log!(debug, path = %path.display(), %error, "a path is not locked");
                    return Ok(None);
                }
            };
            if !lock(&file) {
                break;
            }
            // The owner removes the file before it unlocks it, so the lock may be that of a removed file.
            let locked = file.metadata()?;
            match fs::symlink_metadata(&path) {
                Ok(found) if (found.dev(), found.ino()) == (locked.dev(), locked.ino()) => {
                    return Ok(Some(PathLock { path, _file: file }));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process listens on it, or is about to",
        ))
    }
}

impl Drop for PathLock {
    fn drop(&mut self) {
        // If the removal fails, the next process does it.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether nobody else has locked this file.
#[cfg(not(target_os = "solaris"))]
fn lock(file: &File) -> bool {
    use rustix::fs::{FlockOperation, flock};
    use rustix::io::{Errno, retry_on_intr};

    let locked = retry_on_intr(|| flock(file, FlockOperation::NonBlockingLockExclusive));
    // Another error is that of a file system without locks.
    locked != Err(Errno::WOULDBLOCK)
}

/// Solaris has no flock(2).
#[cfg(target_os = "solaris")]
fn lock(_: &File) -> bool {
    true
}

//! The folder, and its lock: one server at a time has it.
//!
//! redb has a lock of its own, but gives it up while the database is opened again after an error of the disk.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use super::Error;

/// Creates the folder if it is missing. Its name is on disk then, too.
pub fn create(dir: &Path) -> io::Result<()> {
    let is_missing = |it: &&Path| !it.as_os_str().is_empty() && !it.exists();
    let missing: Vec<&Path> = dir.ancestors().take_while(is_missing).collect();
    fs::create_dir_all(dir)?;
    for it in missing {
        match it.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent)?,
            _ => sync_folder(Path::new("."))?,
        }
    }
    Ok(())
}

/// Waits until the names of new files are on disk. Windows has no call for that, and needs none.
pub fn sync_folder(dir: &Path) -> io::Result<()> {
    if cfg!(windows) {
        return Ok(());
    }
    match File::open(dir).and_then(|it| it.sync_all()) {
        // Some network file systems cannot, and a folder may be closed to readers. The files are synced all the same.
        Err(error) if is_impossible(&error) => Ok(()),
        outcome => outcome,
    }
}

fn is_impossible(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported)
}

/// Locks the folder until the file is closed, or the process ends.
pub fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("kvd.lock");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(windows)]
    std::os::windows::fs::OpenOptionsExt::share_mode(&mut options, 0);
    let locked = options.open(&path).and_then(|file| {
        #[cfg(unix)]
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        Ok(file)
    });
    locked.map_err(|error| {
        let why = "another server may be using this folder";
        format!("{}: {error}: {why}", path.display()).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_server() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("a/b");
        create(&dir).unwrap();
        create(&dir).unwrap();
        let held = lock(&dir).unwrap();
        assert!(lock(&dir).is_err());
        drop(held);
        lock(&dir).unwrap();
    }
}

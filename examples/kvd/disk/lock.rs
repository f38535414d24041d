//! The lock of the folder: one server at a time has it.
//!
//! redb has a lock of its own, but gives it up while the database is opened again after an error of the disk.

use std::fs::{self, File, OpenOptions};
use std::path::Path;

use super::Error;

/// Creates the folder if it is missing.
pub fn create(dir: &Path) -> Result<(), Error> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir)?;
    // Its name is on disk, too. Windows has no call for that, and needs none.
    #[cfg(unix)]
    if let Some(parent) = dir.canonicalize()?.parent() {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
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

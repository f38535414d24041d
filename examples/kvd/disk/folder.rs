//! The folder, and its lock: one server at a time has it.
//!
//! redb has a lock of its own, but gives it up while the database is opened again after an error of the disk.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::Error;
use super::log::NAMES;

/// Creates the folder if it is missing, for the user of the server alone. Its name is on disk then, too.
pub fn create(dir: &Path) -> io::Result<()> {
    let is_missing = |it: &&Path| !it.as_os_str().is_empty() && !it.exists();
    let missing: Vec<&Path> = dir.ancestors().take_while(is_missing).collect();
    if let [_, folder, ..] = missing[..] {
        fs::create_dir_all(folder)?;
    }
    if dir.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::NotADirectory,
            "it is not a folder",
        ));
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)?;
    for it in missing {
        match it.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent)?,
            _ => sync_folder(Path::new("."))?,
        }
    }
    Ok(())
}

/// How a file of the folder is opened. Others cannot read one that is created.
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
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
    let mut options = options();
    options.create(true);
    #[cfg(windows)]
    std::os::windows::fs::OpenOptionsExt::share_mode(&mut options, 0);
    let locked = options.open(&path).and_then(|file| {
        #[cfg(unix)]
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        Ok(file)
    });
    locked.map_err(|error| {
        let (folder, file) = (dir.display(), path.display());
        if is_locked(&error) {
            format!("{folder}: another server is using this folder")
        } else if !dir.exists() {
            format!("{folder}: there is no such folder")
        } else {
            format!("{file}: {error}")
        }
        .into()
    })
}

fn is_locked(error: &io::Error) -> bool {
    const ERROR_SHARING_VIOLATION: i32 = 32;
    error.kind() == io::ErrorKind::WouldBlock
        || cfg!(windows) && error.raw_os_error() == Some(ERROR_SHARING_VIOLATION)
}

/// Whether a database is to be created there.
pub fn is_missing_or_empty(path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        found => Ok(found?.len() == 0),
    }
}

/// The database in this folder. It is created and written before the log. So if there is a log, and no database, it was
/// lost: the server would start without the keys in it.
pub fn database(dir: &Path) -> Result<PathBuf, Error> {
    let path = dir.join("kvd.redb");
    let is_missing = is_missing_or_empty(&path);
    let is_missing = is_missing.map_err(|error| format!("{}: {error}", path.display()))?;
    if is_missing && NAMES.iter().any(|log| dir.join(log).exists()) {
        return Err(format!(
            "{}: the file is missing or empty, and there is a log: the folder is incomplete. Restore the file, or remove \
             {} and {} to start without keys",
            path.display(),
            NAMES[0],
            NAMES[1]
        )
        .into());
    }
    Ok(path)
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
        let error = lock(&dir).unwrap_err().to_string();
        assert!(
            error.ends_with("another server is using this folder"),
            "{error}"
        );
        drop(held);
        lock(&dir).unwrap();
    }

    /// They have everything that clients store.
    #[cfg(unix)]
    #[test]
    fn others_cannot_read_what_is_created() {
        use std::os::unix::fs::PermissionsExt;

        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join("a/b");
        create(&dir).unwrap();
        lock(&dir).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir), 0o700);
        assert_eq!(mode(&dir.join("kvd.lock")), 0o600);
        assert_ne!(mode(&top.path().join("a")), 0o700);
    }

    #[test]
    fn an_error_that_is_no_lock_does_not_name_another_server() {
        let dir = tempfile::tempdir().unwrap();
        let error = lock(&dir.path().join("missing")).unwrap_err().to_string();
        assert!(
            error.ends_with("missing: there is no such folder"),
            "{error}"
        );
        fs::create_dir(dir.path().join("kvd.lock")).unwrap();
        let error = lock(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("kvd.lock: ") && !error.contains("server"),
            "{error}"
        );
    }

    #[test]
    fn a_log_without_a_database_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        database(dir.path()).unwrap();
        fs::write(dir.path().join(NAMES[1]), "").unwrap();
        let error = database(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("kvd.redb: the file is missing or empty"),
            "{error}"
        );
        fs::write(dir.path().join("kvd.redb"), "").unwrap();
        assert!(database(dir.path()).is_err());
        fs::write(dir.path().join("kvd.redb"), "something").unwrap();
        database(dir.path()).unwrap();
    }
}

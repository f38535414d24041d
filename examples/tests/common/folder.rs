//! A folder that a server shares. Its files were changed at a fixed time.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use asynchat::Result;
use tempfile::TempDir;

/// When the files were changed: Sun, 06 Nov 1994 08:49:37 GMT.
pub(crate) fn changed() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(784_111_777)
}

/// The clock of the server: Mon, 15 Jun 2026 12:00:00 GMT.
pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_781_524_800)
}

pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Result<Folder> {
        Ok(Folder(TempDir::new()?))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn store(&self, name: &str, content: &[u8]) -> Result {
        let path = self.path().join(name);
        fs::write(&path, content)?;
        File::options()
            .write(true)
            .open(path)?
            .set_modified(changed())?;
        Ok(())
    }

    pub(crate) fn read(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.path().join(name)).ok()
    }

    /// The names in the folder, those of incomplete uploads included.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path())? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }
}

/// Makes a named pipe. `rustix` has no function for this on macOS.
#[cfg(unix)]
pub(crate) fn make_pipe(path: &Path) -> Result {
    let made = std::process::Command::new("mkfifo").arg(path).status()?;
    assert!(made.success(), "mkfifo {}", path.display());
    Ok(())
}

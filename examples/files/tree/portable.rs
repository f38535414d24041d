//! Folders by their paths, where they cannot be opened one in the other. Each name on the way is checked for a link
//! before the path is used. Somebody who can write to the folder can replace one in between.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, ReadDir};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::portable_parts::{self, Searched};
use super::{Entry, Found, is_shown};
use crate::users::Share;

pub struct Root {
    folder: PathBuf,
    follow_symlinks: bool,
    searched: Searched,
}

impl Root {
    pub fn open(folder: &Path, follow_symlinks: bool) -> io::Result<Root> {
        let folder = folder.canonicalize()?;
        if !folder.is_dir() {
            return Err(ErrorKind::NotADirectory.into());
        }
        Ok(Root {
            folder,
            follow_symlinks,
            searched: Searched::default(),
        })
    }

    /// Checks the folder with this path.
    pub fn folder(&self, path: &Path) -> io::Result<Folder<'_>> {
        let path = self.checked(path)?;
        if path.metadata()?.is_dir() {
            Ok(Folder { root: self, path })
        } else {
            Err(ErrorKind::NotFound.into())
        }
    }

    /// Creates the part of an upload, which will replace the file with this path, or become a new one.
    pub fn create(&self, path: &Path, part: &OsStr) -> io::Result<Pending> {
        self.check_replaceable(path)?;
        let folder = self.checked(path.parent().unwrap_or(Path::new("")))?;
        self.searched.remove_abandoned(&folder);
        let file = portable_parts::create(&folder.join(part))?;
        Ok(Pending {
            file,
            folder,
            follow_symlinks: self.follow_symlinks,
        })
    }

    pub fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(self.checked(path)?)
    }

    /// Two clients must not write in a file at the same time. Where this cannot be said to the system, they can.
    pub fn open_for_writing(&self, path: &Path) -> io::Result<File> {
        let path = self.checked(path)?;
        match path.metadata()? {
            found if found.is_file() => portable_parts::for_one_writer().open(path),
            found if found.is_dir() => Err(ErrorKind::IsADirectory.into()),
            _ => Err(ErrorKind::PermissionDenied.into()),
        }
    }

    pub fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(self.checked_parent(path)?)
    }

    pub fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let path = self.checked(path)?;
        match fs::remove_dir(&path) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {
                portable_parts::remove_all(&path)?;
                fs::remove_dir(path)
            }
            outcome => outcome,
        }
    }

    pub fn rename(&self, from: &Path, to: &Path, _: Arc<Share>) -> io::Result<()> {
        fs::rename(self.checked(from)?, self.checked_parent(to)?)
    }

    /// Whether the path leads to this file. Their numbers are not known here, but hardly two files have the same times. The
    /// open file is asked first: Windows may store the time of a write only then.
    pub fn leads_to(&self, path: &Path, file: &File) -> io::Result<bool> {
        let own = file.metadata()?;
        let found = self.checked(path)?.metadata()?;
        let times = |it: &Metadata| (it.created().ok(), it.modified().ok());
        Ok(found.len() == own.len() && times(&found) == times(&own))
    }

    /// See [`replaceable`].
    pub fn check_replaceable(&self, path: &Path) -> io::Result<()> {
        replaceable(&self.checked_parent(path)?, self.follow_symlinks)
    }

    /// The path of something that need not exist, in a folder that is checked.
    fn checked_parent(&self, path: &Path) -> io::Result<PathBuf> {
        let folder = self.checked(path.parent().unwrap_or(Path::new("")))?;
        Ok(folder.join(path.file_name().unwrap_or_default()))
    }

    fn checked(&self, path: &Path) -> io::Result<PathBuf> {
        let mut checked = self.folder.clone();
        for name in path {
            checked = self.checked_in(checked, name)?;
        }
        Ok(checked)
    }

    fn checked_in(&self, mut folder: PathBuf, name: &OsStr) -> io::Result<PathBuf> {
        folder.push(name);
        if !self.follow_symlinks && folder.symlink_metadata()?.is_symlink() {
            Err(ErrorKind::NotFound.into())
        } else {
            Ok(folder)
        }
    }
}

/// A folder whose path was checked.
pub struct Folder<'r> {
    root: &'r Root,
    path: PathBuf,
}

impl<'r> Folder<'r> {
    /// Opens a file in this folder for reading, or checks a folder in it.
    pub fn find(&self, name: &OsStr) -> io::Result<Found<'r>> {
        let root = self.root;
        let path = root.checked_in(self.path.clone(), name)?;
        let metadata = path.metadata()?;
        if metadata.is_dir() {
            return Ok(Found::Folder(Folder { root, path }));
        }
        if !metadata.is_file() {
            return Err(ErrorKind::PermissionDenied.into());
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        Ok(Found::File(file, metadata))
    }

    pub fn list(self) -> io::Result<Listing> {
        Ok(Listing {
            names: fs::read_dir(&self.path)?,
            folder: self.path,
            follow_symlinks: self.root.follow_symlinks,
        })
    }
}

/// Only a file or nothing may be replaced, and with `follow` a symbolic link. Otherwise clients do not see a link, and would
/// replace what they did not know of.
fn replaceable(path: &Path, follow: bool) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(found) if found.is_file() || (follow && found.is_symlink()) => Ok(()),
        Ok(found) if found.is_dir() => Err(ErrorKind::IsADirectory.into()),
        Ok(_) => Err(ErrorKind::PermissionDenied.into()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The names in a folder.
pub struct Listing {
    names: ReadDir,
    folder: PathBuf,
    follow_symlinks: bool,
}

impl Listing {
    /// The next name, in no order.
    pub fn next_name(&mut self) -> Option<io::Result<OsString>> {
        loop {
            let name = self.names.next()?.map(|entry| entry.file_name());
            if !matches!(&name, Ok(name) if !is_shown(name)) {
                return Some(name);
            }
        }
    }

    /// What has this name now. `None` if it is not served.
    pub fn look(&self, name: &OsStr) -> Option<Entry> {
        let path = self.folder.join(name);
        let found = if self.follow_symlinks {
            path.metadata()
        } else {
            path.symlink_metadata()
        };
        let found = found.ok()?;
        (found.is_file() || found.is_dir()).then(|| Entry {
            is_folder: found.is_dir(),
            size: found.len(),
            modified: found.modified().ok(),
        })
    }
}

/// A file without its final name.
pub struct Pending {
    pub file: File,
    folder: PathBuf,
    follow_symlinks: bool,
}

impl Pending {
    pub fn rename(&self, from: &OsStr, to: &OsStr, _: Arc<Share>) -> io::Result<()> {
        let to = self.folder.join(to);
        replaceable(&to, self.follow_symlinks)?;
        fs::rename(self.folder.join(from), to)
    }

    /// Whether this is the folder that it is in. Windows does not rename a folder with a file that is open.
    pub fn is_in(&self, folder: &Folder<'_>) -> io::Result<bool> {
        Ok(self.folder == folder.path)
    }

    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        fs::remove_file(self.folder.join(name))
    }
}

#[cfg(all(test, windows))]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_writer() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("log"), "content")?;
        let root = Root::open(folder.path(), false)?;
        let first = root.open_for_writing(Path::new("log"))?;
        let second = root.open_for_writing(Path::new("log"));
        // ERROR_SHARING_VIOLATION
        assert_eq!(second.unwrap_err().raw_os_error(), Some(32));
        drop(first);
        root.open_for_writing(Path::new("log"))?;
        Ok(())
    }
}

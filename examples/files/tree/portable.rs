//! Folders by their paths, where they cannot be opened one in the other. Each name on the way is checked for a link
//! before the path is used. Somebody who can write to the folder can replace one in between.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, ReadDir};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::{Entry, Found, is_shown};

pub struct Root {
    folder: PathBuf,
    follow_symlinks: bool,
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
        })
    }

    pub fn find(&self, path: &Path) -> io::Result<Found> {
        let path = self.checked(path)?;
        let metadata = path.metadata()?;
        if metadata.is_dir() {
            return Ok(Found::Folder);
        }
        if !metadata.is_file() {
            return Err(ErrorKind::PermissionDenied.into());
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        Ok(Found::File(file, metadata))
    }

    pub fn list(&self, path: &Path) -> io::Result<Listing> {
        let folder = self.checked(path)?;
        Ok(Listing {
            names: fs::read_dir(&folder)?,
            folder,
            follow_symlinks: self.follow_symlinks,
        })
    }

    /// Creates the part of an upload, which will replace the file with this path, or become a new one.
    pub fn create(&self, path: &Path, part: &OsStr) -> io::Result<Pending> {
        self.check_replaceable(path)?;
        let folder = self.checked(path.parent().unwrap_or(Path::new("")))?;
        let file = File::create_new(folder.join(part))?;
        Ok(Pending { file, folder })
    }

    pub fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(self.checked(path)?)
    }

    pub fn open_for_writing(&self, path: &Path) -> io::Result<File> {
        match self.find(path)? {
            Found::File(..) => File::options().write(true).open(self.checked(path)?),
            Found::Folder => Err(ErrorKind::IsADirectory.into()),
        }
    }

    pub fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(self.checked_parent(path)?)
    }

    pub fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(self.checked(path)?)
    }

    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(self.checked(from)?, self.checked_parent(to)?)
    }

    /// Whether a file that is open has another one in its place. What is open for writing is not replaced here.
    pub fn is_replaced(_: &File) -> io::Result<bool> {
        Ok(false)
    }

    /// See [`replaceable`].
    pub fn check_replaceable(&self, path: &Path) -> io::Result<()> {
        replaceable(&self.checked_parent(path)?)
    }

    /// The path of something that need not exist, in a folder that is checked.
    fn checked_parent(&self, path: &Path) -> io::Result<PathBuf> {
        let folder = self.checked(path.parent().unwrap_or(Path::new("")))?;
        Ok(folder.join(path.file_name().unwrap_or_default()))
    }

    fn checked(&self, path: &Path) -> io::Result<PathBuf> {
        let mut checked = self.folder.clone();
        for name in path {
            checked.push(name);
            if !self.follow_symlinks && checked.symlink_metadata()?.is_symlink() {
                return Err(ErrorKind::NotFound.into());
            }
        }
        Ok(checked)
    }
}

/// Only a file, a symbolic link or nothing may be replaced.
fn replaceable(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(found) if found.is_file() || found.is_symlink() => Ok(()),
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
        let found = match self.follow_symlinks {
            true => path.metadata(),
            false => path.symlink_metadata(),
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
}

impl Pending {
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let to = self.folder.join(to);
        replaceable(&to)?;
        fs::rename(self.folder.join(from), to)
    }

    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        fs::remove_file(self.folder.join(name))
    }
}

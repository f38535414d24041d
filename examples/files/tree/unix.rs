//! Folders are opened one in the other, and stay open while they are used. So nobody can put a symbolic link in the
//! place of a folder between a check and its use.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::parts::{self, Searched};
use super::{Entry, Found, closing, is_shown};

/// A pipe is opened without a writer, and a terminal does not become that of the process.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

pub struct Root {
    folder: OwnedFd,
    follow_symlinks: bool,
    searched: Searched,
}

impl Root {
    pub fn open(folder: &Path, follow_symlinks: bool) -> io::Result<Root> {
        let flags = READ.union(OFlags::DIRECTORY);
        let folder = rustix::fs::open(folder, flags, Mode::empty())?;
        Ok(Root {
            folder,
            follow_symlinks,
            searched: Searched::default(),
        })
    }

    pub fn find(&self, path: &Path) -> io::Result<Found> {
        let Some(name) = path.file_name() else {
            return Ok(Found::Folder);
        };
        let folder = self.folder(path.parent())?;
        let file = File::from(self.open_at(folder.as_fd(), name, OFlags::empty())?);
        let metadata = file.metadata()?;
        match metadata.file_type() {
            kind if kind.is_file() => Ok(Found::File(file, metadata)),
            kind if kind.is_dir() => Ok(Found::Folder),
            _ => Err(ErrorKind::PermissionDenied.into()),
        }
    }

    pub fn list(&self, path: &Path) -> io::Result<Listing> {
        let folder = match self.folder(Some(path))? {
            Folder::Below(folder) => folder,
            // The position of a reader belongs to a description of its own.
            Folder::Root(root) => self.open_at(root, OsStr::new("."), OFlags::DIRECTORY)?,
        };
        Ok(Listing {
            names: Dir::new(folder)?,
            follow_symlinks: self.follow_symlinks,
        })
    }

    /// Creates the part of an upload, which will replace the file with this path, or become a new one.
    pub fn create(&self, path: &Path, part: &OsStr) -> io::Result<Pending> {
        let folder = self.folder(path.parent())?;
        let name = path.file_name().unwrap_or_default();
        let mode = replaceable(folder.as_fd(), name, self.follow_symlinks)?;
        self.searched.remove_abandoned(folder.as_fd());
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        // What replaces a private file is never readable by others, also not before it has the permissions of that file.
        let first_mode = Mode::from_raw_mode(if mode.is_some() { 0o600 } else { 0o666 });
        let flags = flags | OFlags::NOFOLLOW;
        let file = File::from(rustix::fs::openat(folder.as_fd(), part, flags, first_mode)?);
        parts::lock(&file)?;
        Ok(Pending {
            file,
            mode,
            folder: folder.as_fd().try_clone_to_owned()?,
            follow_symlinks: self.follow_symlinks,
        })
    }

    pub fn remove(&self, path: &Path) -> io::Result<()> {
        let folder = self.folder(path.parent())?;
        let name = path.file_name().unwrap_or_default();
        Ok(rustix::fs::unlinkat(
            folder.as_fd(),
            name,
            AtFlags::empty(),
        )?)
    }

    pub fn open_for_writing(&self, path: &Path) -> io::Result<File> {
        let folder = self.folder(path.parent())?;
        let name = path.file_name().unwrap_or_default();
        let flags = READ.difference(OFlags::RDONLY).union(OFlags::WRONLY);
        let file = File::from(self.open_as(folder.as_fd(), name, flags)?);
        if !file.metadata()?.is_file() {
            return Err(ErrorKind::PermissionDenied.into());
        }
        parts::lock_exclusively(&file)?;
        Ok(file)
    }

    pub fn create_folder(&self, path: &Path) -> io::Result<()> {
        let folder = self.folder(path.parent())?;
        let name = path.file_name().unwrap_or_default();
        let mode = Mode::from_raw_mode(0o777);
        Ok(rustix::fs::mkdirat(folder.as_fd(), name, mode)?)
    }

    pub fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let folder = self.folder(path.parent())?;
        let name = path.file_name().unwrap_or_default();
        let remove = || rustix::fs::unlinkat(folder.as_fd(), name, AtFlags::REMOVEDIR);
        match remove() {
            // Some systems say EEXIST.
            Err(error @ (Errno::NOTEMPTY | Errno::EXIST)) => {
                let flags = READ.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW);
                let opened = rustix::fs::openat(folder.as_fd(), name, flags, Mode::empty());
                match opened.and_then(|opened| parts::remove_until_other(opened.as_fd())) {
                    Ok(()) => Ok(remove()?),
                    Err(_) => Err(error.into()),
                }
            }
            outcome => Ok(outcome?),
        }
    }

    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (old, new) = (self.folder(from.parent())?, self.folder(to.parent())?);
        let (from, to) = (from.file_name(), to.file_name());
        let (from, to) = (from.unwrap_or_default(), to.unwrap_or_default());
        replace(old.as_fd(), from, new.as_fd(), to)
    }

    /// See [`replaceable`].
    pub fn check_replaceable(&self, path: &Path) -> io::Result<()> {
        let folder = self.folder(path.parent())?;
        let name = path.file_name().unwrap_or_default();
        replaceable(folder.as_fd(), name, self.follow_symlinks).map(drop)
    }

    /// Whether a file that is open has another one in its place, or none.
    pub fn is_replaced(file: &File) -> io::Result<bool> {
        Ok(file.metadata()?.nlink() == 0)
    }

    fn folder(&self, path: Option<&Path>) -> io::Result<Folder<'_>> {
        let mut folder = Folder::Root(self.folder.as_fd());
        for name in path.unwrap_or(Path::new("")) {
            folder = Folder::Below(self.open_at(folder.as_fd(), name, OFlags::DIRECTORY)?);
        }
        Ok(folder)
    }

    fn open_at(&self, folder: BorrowedFd<'_>, name: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
        self.open_as(folder, name, READ | flags)
    }

    fn open_as(&self, folder: BorrowedFd<'_>, name: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
        let follow = match self.follow_symlinks {
            true => OFlags::empty(),
            false => OFlags::NOFOLLOW,
        };
        match rustix::fs::openat(folder, name, flags | follow, Mode::empty()) {
            Ok(file) => Ok(file),
            // It is a symbolic link (FreeBSD says EMLINK), or a file that is used as a folder, or too long a name.
            Err(Errno::LOOP | Errno::MLINK | Errno::NOTDIR | Errno::NAMETOOLONG) => {
                Err(ErrorKind::NotFound.into())
            }
            // A socket or a device without a driver.
            Err(Errno::NXIO | Errno::OPNOTSUPP) => Err(ErrorKind::PermissionDenied.into()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Only a file, a symbolic link or nothing may be replaced: not a folder, and not a pipe, a socket or a device, which
/// belong to another program. Returns the permissions of a file.
fn replaceable(folder: BorrowedFd<'_>, name: &OsStr, follow: bool) -> io::Result<Option<Mode>> {
    let found = match rustix::fs::statat(folder, name, flags_of_stat(follow)) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => Ok(Some(Mode::from_raw_mode(found.st_mode & 0o777))),
        FileType::Symlink => Ok(None),
        FileType::Directory => Err(ErrorKind::IsADirectory.into()),
        _ => Err(ErrorKind::PermissionDenied.into()),
    }
}

/// Renames. The last close of a large file that had the name is not left to the rename.
fn replace(
    old_folder: BorrowedFd<'_>,
    old: &OsStr,
    new_folder: BorrowedFd<'_>,
    new: &OsStr,
) -> io::Result<()> {
    let replaced = large_file(new_folder, new);
    rustix::fs::renameat(old_folder, old, new_folder, new)?;
    if let Some(file) = replaced {
        closing::close(file);
    }
    Ok(())
}

fn large_file(folder: BorrowedFd<'_>, name: &OsStr) -> Option<File> {
    let found = rustix::fs::statat(folder, name, flags_of_stat(false)).ok()?;
    let is_file = FileType::from_raw_mode(found.st_mode).is_file();
    let is_large = u64::try_from(found.st_size).is_ok_and(|size| size >= closing::LARGE);
    if !is_file || !is_large {
        return None;
    }
    let flags = READ.union(OFlags::NOFOLLOW);
    let opened = rustix::fs::openat(folder, name, flags, Mode::empty());
    opened.ok().map(File::from)
}

fn flags_of_stat(follow_symlinks: bool) -> AtFlags {
    match follow_symlinks {
        true => AtFlags::empty(),
        false => AtFlags::SYMLINK_NOFOLLOW,
    }
}

enum Folder<'r> {
    Root(BorrowedFd<'r>),
    Below(OwnedFd),
}

impl Folder<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Folder::Root(folder) => *folder,
            Folder::Below(folder) => folder.as_fd(),
        }
    }
}

/// The names in a folder. It takes one descriptor.
pub struct Listing {
    names: Dir,
    follow_symlinks: bool,
}

impl Listing {
    /// The next name, in no order.
    pub fn next_name(&mut self) -> Option<io::Result<OsString>> {
        loop {
            let entry = match self.names.read()? {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error.into())),
            };
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." && is_shown(name) {
                return Some(Ok(name.to_owned()));
            }
        }
    }

    /// What has this name now. `None` if it is not served.
    pub fn look(&self, name: &OsStr) -> Option<Entry> {
        let flags = flags_of_stat(self.follow_symlinks);
        let found = rustix::fs::statat(self.names.fd().ok()?, name, flags).ok()?;
        let kind = FileType::from_raw_mode(found.st_mode);
        let seconds = u64::try_from(found.st_mtime).ok();
        (kind.is_file() || kind.is_dir()).then(|| Entry {
            is_folder: kind.is_dir(),
            size: u64::try_from(found.st_size).unwrap_or_default(),
            modified: seconds.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
        })
    }
}

/// A file without its final name.
pub struct Pending {
    pub file: File,
    /// The permissions of the file that there was when the upload began.
    mode: Option<Mode>,
    folder: OwnedFd,
    follow_symlinks: bool,
}

impl Pending {
    /// Replaces the file of the name `to`, and takes its permissions.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let current = replaceable(self.folder.as_fd(), to, self.follow_symlinks)?;
        if let Some(mode) = current.or(self.mode) {
            rustix::fs::fchmod(&self.file, mode)?;
        }
        let folder = self.folder.as_fd();
        replace(folder, from, folder, to)
    }

    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.folder, name, AtFlags::empty())?)
    }
}

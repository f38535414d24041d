//! Folders are opened without following a symbolic link, and stay open while they are used. So nobody can put a link in
//! the place of a folder between a check and its use.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dev, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::parts::{self, Searched};
use super::regular::{Key, Regular};
use super::{Entry, Found, closing, is_shown};
use crate::users::Share;

/// A pipe is opened without a writer, and a terminal does not become that of the process.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

/// A folder on the way to a file that may not be listed: files behind it may be known by their names.
#[cfg(target_os = "linux")]
const SEARCH: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const SEARCH: OFlags = READ.union(OFlags::DIRECTORY);

pub struct Root {
    folder: OwnedFd,
    follow_symlinks: bool,
    searched: Searched,
    regular: Regular,
}

impl Root {
    pub fn open(folder: &Path, follow_symlinks: bool) -> io::Result<Root> {
        let flags = READ.union(OFlags::DIRECTORY);
        let folder = rustix::fs::open(folder, flags, Mode::empty())?;
        Ok(Root {
            folder,
            follow_symlinks,
            searched: Searched::default(),
            regular: Regular::default(),
        })
    }

    /// Opens the folder with this path, to find something in it.
    pub fn folder(&self, path: &Path) -> io::Result<Folder<'_>> {
        let mut folder = Folder {
            root: self,
            opened: None,
            key: self.regular.key(path.as_os_str()),
        };
        if path.as_os_str().is_empty() {
            return Ok(folder);
        }
        if let Some(opened) = open_at_once(self.folder.as_fd(), path, self.follow_symlinks) {
            folder.opened = Some(opened?);
            return Ok(folder);
        }
        for name in path {
            let opened = open_folder(|flags| folder.openat(name, flags));
            folder.opened = Some(opened.map_err(error_of_open)?);
        }
        Ok(folder)
    }

    /// Creates the part of an upload, which will replace the file with this path, or become a new one.
    pub fn create(&self, path: &Path, part: &OsStr) -> io::Result<Pending> {
        let folder = self.folder(parent(path))?;
        let name = path.file_name().unwrap_or_default();
        let mode = replaceable(folder.as_fd(), name, self.follow_symlinks)?;
        self.searched.remove_abandoned(folder.as_fd());
        // Before there is a file, which would stay if no descriptor is left.
        let owned = folder.as_fd().try_clone_to_owned()?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        // What replaces a private file is never readable by others, also not before it has the permissions of that file.
        let first_mode = Mode::from_raw_mode(if mode.is_some() { 0o600 } else { 0o666 });
        let flags = flags | OFlags::NOFOLLOW;
        let file = File::from(rustix::fs::openat(folder.as_fd(), part, flags, first_mode)?);
        parts::lock(folder.as_fd(), part, &file)?;
        Ok(Pending {
            file,
            mode,
            folder: owned,
            follow_symlinks: self.follow_symlinks,
        })
    }

    pub fn remove(&self, path: &Path) -> io::Result<()> {
        let folder = self.folder(parent(path))?;
        let name = path.file_name().unwrap_or_default();
        Ok(rustix::fs::unlinkat(
            folder.as_fd(),
            name,
            AtFlags::empty(),
        )?)
    }

    pub fn open_for_writing(&self, path: &Path) -> io::Result<File> {
        let folder = self.folder(parent(path))?;
        let name = path.file_name().unwrap_or_default();
        if folder.kind(name)? == FileType::Directory {
            return Err(ErrorKind::IsADirectory.into());
        }
        let flags = READ.difference(OFlags::RDONLY).union(OFlags::WRONLY);
        let file = File::from(folder.open(name, flags)?);
        if !file.metadata()?.is_file() {
            return Err(ErrorKind::PermissionDenied.into());
        }
        parts::lock_exclusively(&file)?;
        Ok(file)
    }

    pub fn create_folder(&self, path: &Path) -> io::Result<()> {
        let folder = self.folder(parent(path))?;
        let name = path.file_name().unwrap_or_default();
        let mode = Mode::from_raw_mode(0o777);
        Ok(rustix::fs::mkdirat(folder.as_fd(), name, mode)?)
    }

    pub fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let folder = self.folder(parent(path))?;
        let name = path.file_name().unwrap_or_default();
        let remove = || rustix::fs::unlinkat(folder.as_fd(), name, AtFlags::REMOVEDIR);
        match remove() {
            // Some systems say EEXIST.
            Err(error @ (Errno::NOTEMPTY | Errno::EXIST)) => {
                let flags = READ.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW);
                let opened = rustix::fs::openat(folder.as_fd(), name, flags, Mode::empty());
                match opened.and_then(|opened| self.searched.remove_until_other(opened.as_fd())) {
                    // A part of it that clients do not see waits for its turn.
                    Ok(true) => remove().map_err(|_| ErrorKind::WouldBlock.into()),
                    Ok(false) => Ok(remove()?),
                    Err(_) => Err(error.into()),
                }
            }
            outcome => Ok(outcome?),
        }
    }

    pub fn rename(&self, from: &Path, to: &Path, open_file: Arc<Share>) -> io::Result<()> {
        let (old, new) = (self.folder(parent(from))?, self.folder(parent(to))?);
        let (from, to) = (from.file_name(), to.file_name());
        let (from, to) = (from.unwrap_or_default(), to.unwrap_or_default());
        replace((old.as_fd(), from), (new.as_fd(), to), open_file)
    }

    /// See [`replaceable`].
    pub fn check_replaceable(&self, path: &Path) -> io::Result<()> {
        let folder = self.folder(parent(path))?;
        let name = path.file_name().unwrap_or_default();
        replaceable(folder.as_fd(), name, self.follow_symlinks).map(drop)
    }

    /// Whether the path leads to this file.
    pub fn leads_to(&self, path: &Path, file: &File) -> io::Result<bool> {
        let folder = self.folder(parent(path))?;
        let name = path.file_name().unwrap_or_default();
        let flags = flags_of_stat(self.follow_symlinks);
        let found = rustix::fs::statat(folder.as_fd(), name, flags).map_err(error_of_open)?;
        Ok(identity(&found) == identity(&rustix::fs::fstat(file)?))
    }
}

/// The device and the inode.
fn identity(file: &Stat) -> (Dev, u64) {
    (file.st_dev, file.st_ino)
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// Opens a folder for reading, or only to find something in it if that is all that is permitted.
fn open_folder(
    open: impl Fn(OFlags) -> rustix::io::Result<OwnedFd>,
) -> rustix::io::Result<OwnedFd> {
    match open(READ | OFlags::DIRECTORY) {
        Err(Errno::ACCESS) => open(SEARCH),
        outcome => outcome,
    }
}

/// Whether a folder is open for more than search.
#[cfg(target_os = "linux")]
fn is_readable(folder: BorrowedFd<'_>) -> bool {
    rustix::fs::fcntl_getfl(folder).is_ok_and(|flags| !flags.contains(OFlags::PATH))
}

#[cfg(not(target_os = "linux"))]
fn is_readable(_: BorrowedFd<'_>) -> bool {
    true
}

/// Opens a folder by its whole path: one system call, however many names it has. `None` if the system cannot do this, or
/// not for this path. Then the folders are opened one in the other.
fn open_at_once(
    root: BorrowedFd<'_>,
    path: &Path,
    follow_symlinks: bool,
) -> Option<io::Result<OwnedFd>> {
    let opened = if follow_symlinks {
        open_folder(|flags| rustix::fs::openat(root, path, flags, Mode::empty()))
    } else {
        open_folder(|flags| open_without_links(root, path, flags))
    };
    match opened {
        // NOSYS: Linux before 5.6. PERM: some containers. NAMETOOLONG: the path, or one of the names.
        Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN | Errno::NAMETOOLONG) => None,
        // Linux follows 40 links in a path.
        Err(Errno::LOOP) if follow_symlinks => None,
        outcome => Some(outcome.map_err(error_of_open)),
    }
}

#[cfg(target_os = "linux")]
fn open_without_links(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    use rustix::fs::ResolveFlags;

    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)
}

#[cfg(not(target_os = "linux"))]
fn open_without_links(_: BorrowedFd<'_>, _: &Path, _: OFlags) -> rustix::io::Result<OwnedFd> {
    Err(Errno::NOSYS)
}

fn error_of_open(error: Errno) -> io::Error {
    match error {
        // It is a symbolic link (FreeBSD says EMLINK), or a file that is used as a folder, or too long a name.
        Errno::LOOP | Errno::MLINK | Errno::NOTDIR | Errno::NAMETOOLONG => {
            ErrorKind::NotFound.into()
        }
        // A socket or a device without a driver.
        Errno::NXIO | Errno::OPNOTSUPP => ErrorKind::PermissionDenied.into(),
        error => error.into(),
    }
}

/// A folder that is open.
pub struct Folder<'r> {
    root: &'r Root,
    /// `None` for the shared folder.
    opened: Option<OwnedFd>,
    key: Key,
}

impl<'r> Folder<'r> {
    /// Opens a file or a folder in this one, for reading.
    pub fn find(&self, name: &OsStr) -> io::Result<Found<'r>> {
        let (root, regular) = (self.root, &self.root.regular);
        let key = regular.key_in(self.key, name);
        if !regular.has(key) {
            self.kind(name)?;
        }
        let file = File::from(self.open(name, READ)?);
        let metadata = file.metadata()?;
        match metadata.file_type() {
            kind if kind.is_file() => {
                regular.add(key);
                Ok(Found::File(file, metadata))
            }
            kind if kind.is_dir() => Ok(Found::Folder(Folder {
                root,
                opened: Some(file.into()),
                key,
            })),
            _ => Err(ErrorKind::PermissionDenied.into()),
        }
    }

    pub fn list(self) -> io::Result<Listing> {
        let follow_symlinks = self.root.follow_symlinks;
        let folder = match self.opened {
            Some(folder) if is_readable(folder.as_fd()) => folder,
            // The position of a reader belongs to a description of its own.
            _ => self.open(OsStr::new("."), READ | OFlags::DIRECTORY)?,
        };
        Ok(Listing {
            names: Dir::new(folder)?,
            follow_symlinks,
        })
    }

    /// A file or a folder. Anything else is refused before it is opened: the program at the other end of a pipe would notice
    /// that, and a device may act on it.
    fn kind(&self, name: &OsStr) -> io::Result<FileType> {
        let flags = flags_of_stat(self.root.follow_symlinks);
        let found = rustix::fs::statat(self.as_fd(), name, flags).map_err(error_of_open)?;
        match FileType::from_raw_mode(found.st_mode) {
            kind @ (FileType::RegularFile | FileType::Directory) => Ok(kind),
            FileType::Symlink => Err(ErrorKind::NotFound.into()),
            _ => Err(ErrorKind::PermissionDenied.into()),
        }
    }

    fn open(&self, name: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
        self.openat(name, flags).map_err(error_of_open)
    }

    fn openat(&self, name: &OsStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let follow = if self.root.follow_symlinks {
            OFlags::empty()
        } else {
            OFlags::NOFOLLOW
        };
        rustix::fs::openat(self.as_fd(), name, flags | follow, Mode::empty())
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.opened {
            Some(folder) => folder.as_fd(),
            None => self.root.folder.as_fd(),
        }
    }
}

/// Only a file or nothing may be replaced: not a folder, and not a pipe, a socket or a device, which belong to another program.
/// With `follow`, a symbolic link is what it leads to, and is replaced itself. Otherwise clients do not see a link, and would
/// replace what they did not know of. Returns the permissions of a file.
fn replaceable(folder: BorrowedFd<'_>, name: &OsStr, follow: bool) -> io::Result<Option<Mode>> {
    let found = match rustix::fs::statat(folder, name, flags_of_stat(follow)) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => Ok(Some(Mode::from_raw_mode(found.st_mode & 0o777))),
        FileType::Directory => Err(ErrorKind::IsADirectory.into()),
        _ => Err(ErrorKind::PermissionDenied.into()),
    }
}

/// Renames. The last close of a large file that had the name is not left to the rename.
fn replace(
    (old_folder, old): (BorrowedFd<'_>, &OsStr),
    (new_folder, new): (BorrowedFd<'_>, &OsStr),
    open_file: Arc<Share>,
) -> io::Result<()> {
    let replaced = large_file(new_folder, new);
    rustix::fs::renameat(old_folder, old, new_folder, new)?;
    if let Some(file) = replaced {
        closing::close(file, open_file);
    }
    Ok(())
}

/// Some file systems refuse this, although they report the same permissions for each file. Where they differ, the file keeps
/// its own, unless it could be read by more users than the one that it replaces.
fn set_mode(file: &File, mode: Mode) -> io::Result<()> {
    let own = Mode::from_raw_mode(rustix::fs::fstat(file)?.st_mode & 0o777);
    if own == mode {
        return Ok(());
    }
    match rustix::fs::fchmod(file, mode) {
        Err(error) if mode.contains(own) => {
            tracing::warn!(%error, "an upload does not get the permissions of the file that it replaces");
            Ok(())
        }
        outcome => Ok(outcome?),
    }
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
    if follow_symlinks {
        AtFlags::empty()
    } else {
        AtFlags::SYMLINK_NOFOLLOW
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
    pub fn rename(&self, from: &OsStr, to: &OsStr, open_file: Arc<Share>) -> io::Result<()> {
        let current = replaceable(self.folder.as_fd(), to, self.follow_symlinks)?;
        if let Some(mode) = current.or(self.mode) {
            set_mode(&self.file, mode)?;
        }
        let folder = self.folder.as_fd();
        replace((folder, from), (folder, to), open_file)
    }

    /// Whether this is the folder that it is in.
    pub fn is_in(&self, folder: &Folder<'_>) -> io::Result<bool> {
        let own = rustix::fs::fstat(&self.folder)?;
        let other = rustix::fs::fstat(folder.as_fd())?;
        Ok(identity(&own) == identity(&other))
    }

    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.folder, name, AtFlags::empty())?)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::users::{Client, Shares};

    /// With such a descriptor the system refuses fchmod(2).
    #[test]
    fn an_upload_is_stored_where_permissions_cannot_be_changed() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let (part, old) = (folder.path().join("part"), folder.path().join("old"));
        let set = |path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
        for (own, of_old, is_stored) in [
            (0o644, 0o644, true),
            (0o600, 0o644, true),
            (0o666, 0o600, false),
        ] {
            for (path, mode) in [(&part, own), (&old, of_old)] {
                fs::write(path, "content")?;
                set(path, mode)?;
            }
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let pending = Pending {
                file: rustix::fs::open(&part, flags, Mode::empty())?.into(),
                mode: None,
                folder: File::open(folder.path())?.into(),
                follow_symlinks: false,
            };
            let open_file = Arc::new(Shares::unlimited().take(Client::new(None)).unwrap());
            let renamed = pending.rename(OsStr::new("part"), OsStr::new("old"), open_file);
            assert_eq!(renamed.is_ok(), is_stored, "{own:o} {of_old:o}");
            assert_eq!(part.exists(), !is_stored);
        }
        Ok(())
    }
}

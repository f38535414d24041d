//! The shared folder. Nothing outside it can be reached: a path has no `..` ([`Names`]), and the folders on the way are
//! opened without following a symbolic link (unless that is permitted).

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use crate::names::{Names, TEMPORARY, is_temporary};
use crate::users::Share;

#[path = "tree/closing.rs"]
mod closing;
#[cfg(unix)]
#[path = "tree/parts.rs"]
mod parts;
#[cfg(not(unix))]
#[path = "tree/portable_parts.rs"]
mod portable_parts;
#[cfg(unix)]
#[path = "tree/regular.rs"]
mod regular;
#[path = "tree/searched.rs"]
mod searched;
#[cfg(not(unix))]
#[path = "tree/portable.rs"]
mod system;
#[cfg(unix)]
#[path = "tree/unix.rs"]
mod system;

pub use closing::InUse;
pub use system::{Folder, Listing};

pub struct Tree {
    root: system::Root,
}

/// What a path leads to.
pub enum Found<'t> {
    File(File, Metadata),
    Folder(Folder<'t>),
}

/// An entry of a folder.
pub struct Entry {
    pub is_folder: bool,
    /// In bytes.
    pub size: u64,
    pub modified: Option<SystemTime>,
}

impl Tree {
    /// With `follow_symlinks`, links lead to wherever they point, also out of the folder.
    pub fn open(folder: &Path, follow_symlinks: bool) -> io::Result<Tree> {
        let root = system::Root::open(folder, follow_symlinks)?;
        Ok(Tree { root })
    }

    /// Opens a file or a folder for reading. Nothing else is opened: a pipe would stall the loop. A path with a slash at its
    /// end leads to a folder only.
    pub fn find(&self, names: &Names) -> io::Result<Found<'_>> {
        let Some(name) = names.last() else {
            return Ok(Found::Folder(self.folder(names)?));
        };
        match self.parent(names)?.find(name)? {
            Found::File(..) if names.is_folder => Err(ErrorKind::NotADirectory.into()),
            found => Ok(found),
        }
    }

    /// Opens the folder that something is in. Who looks for several files in it walks the path once.
    pub fn parent(&self, names: &Names) -> io::Result<Folder<'_>> {
        let parent = names.as_path().parent();
        self.root.folder(parent.unwrap_or(Path::new("")))
    }

    fn folder(&self, names: &Names) -> io::Result<Folder<'_>> {
        self.root.folder(names.as_path())
    }

    /// Begins to read the names in a folder.
    pub fn list(&self, names: &Names) -> io::Result<Listing> {
        self.folder(names)?.list()
    }

    /// Begins an upload to this path, in a file of its own. `open_file` counts it until its last close, or that of the file
    /// which it replaces.
    pub fn upload(&self, names: &Names, open_file: Arc<Share>) -> io::Result<Upload> {
        if names.last().is_none() || names.is_folder {
            return Err(ErrorKind::IsADirectory.into());
        }
        let mut tries = 0;
        loop {
            let temporary = part_name();
            match self.root.create(names.as_path(), &temporary) {
                Ok(pending) => {
                    return Ok(Upload {
                        part: Some(Part {
                            pending,
                            name: temporary,
                        }),
                        names: names.clone(),
                        open_file,
                    });
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists && tries < 5 => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes a file. `open_file` counts it until its last close.
    pub fn remove(&self, names: &Names, open_file: Arc<Share>) -> io::Result<()> {
        match self.find(names)? {
            Found::File(file, _) => {
                self.root.remove(names.as_path())?;
                closing::close(file, open_file);
                Ok(())
            }
            Found::Folder(_) => Err(ErrorKind::IsADirectory.into()),
        }
    }

    /// Opens a file that exists, to write in it. Its content stays. On Unix, the error is `WouldBlock` while somebody else
    /// writes in it, from here or with flock(2).
    pub fn open_for_writing(&self, names: &Names) -> io::Result<File> {
        match names.last() {
            Some(_) if !names.is_folder => self.root.open_for_writing(names.as_path()),
            _ => Err(ErrorKind::IsADirectory.into()),
        }
    }

    /// Whether the path leads to this file, which was opened for writing, and not to another one meanwhile, or to none.
    pub fn leads_to(&self, names: &Names, file: &File) -> io::Result<bool> {
        missing_is(false, self.root.leads_to(names.as_path(), file))
    }

    /// The folder that an upload is in, if its path leads there. If somebody has renamed a folder meanwhile, it leads to another
    /// one, or to none: the file would appear elsewhere, and replace what nobody has checked.
    pub fn folder_of(&self, upload: &Upload) -> io::Result<Option<Folder<'_>>> {
        let part = upload.part.as_ref().ok_or(ErrorKind::NotFound)?;
        let found = self.parent(&upload.names).and_then(|folder| {
            let is_same = part.pending.is_in(&folder)?;
            Ok(is_same.then_some(folder))
        });
        missing_is(None, found)
    }

    /// Sets when a file was changed. Returns the time that the file has now: not every file system can store every time.
    pub fn set_modified(&self, names: &Names, time: SystemTime) -> io::Result<SystemTime> {
        let file = match self.find(names)? {
            // Windows permits it only to those who may write.
            Found::File(..) if cfg!(windows) => self.open_for_writing(names)?,
            Found::File(file, _) => file,
            Found::Folder(_) => return Err(ErrorKind::IsADirectory.into()),
        };
        file.set_modified(time)?;
        file.metadata()?.modified()
    }

    pub fn create_folder(&self, names: &Names) -> io::Result<()> {
        match names.last() {
            Some(_) => self.root.create_folder(names.as_path()),
            None => Err(ErrorKind::AlreadyExists.into()),
        }
    }

    /// Removes an empty folder.
    pub fn remove_folder(&self, names: &Names) -> io::Result<()> {
        match self.find(names)? {
            Found::Folder(_) if names.last().is_some() => self.root.remove_folder(names.as_path()),
            Found::Folder(_) => Err(ErrorKind::PermissionDenied.into()),
            Found::File(..) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    /// Gives a file or a folder another name. A file that has it is replaced: `open_file` counts that one until its last close.
    pub fn rename(&self, from: &Names, to: &Names, open_file: Arc<Share>) -> io::Result<()> {
        let is_file = matches!(self.find(from)?, Found::File(..));
        if is_file && to.is_folder {
            return Err(ErrorKind::NotADirectory.into());
        }
        match self.root.check_replaceable(to.as_path()) {
            // The system decides: a folder can have the same name as before in other letters, where these are equal.
            Err(error) if error.kind() == ErrorKind::IsADirectory => {}
            outcome => outcome?,
        }
        match (from.last(), to.last()) {
            (Some(_), Some(_)) => self.root.rename(from.as_path(), to.as_path(), open_file),
            _ => Err(ErrorKind::PermissionDenied.into()),
        }
    }
}

fn missing_is<T>(missing: T, outcome: io::Result<T>) -> io::Result<T> {
    match outcome {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(missing)
        }
        outcome => outcome,
    }
}

/// Says that the content of a file was changed now. The clock of the system for files can stand still for some milliseconds, in
/// which several contents would have one time, and so one entity tag if they have one length. `now` has to be of a finer one.
/// Where the system does not permit it (on a mounted FAT, for example), the file has the time of the system.
pub fn set_changed(file: &File, now: SystemTime) {
    if let Err(error) = file.set_modified(now) {
        tracing::debug!(%error, "the time of an uploaded file cannot be set");
    }
}

/// A file that is being received, beside the one that it will replace. If it is dropped before [`Upload::finish`], it
/// leaves nothing. A process that is killed leaves the part, `.files-upload-` and 16 digits. The next process removes it when
/// it first receives a file for the folder, or when a client removes the folder. Of several uploads to one name each is whole,
/// and the last that completes stays.
pub struct Upload {
    names: Names,
    /// Until it has the name.
    part: Option<Part>,
    open_file: Arc<Share>,
}

struct Part {
    pending: system::Pending,
    name: OsString,
}

impl Upload {
    pub fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        match &mut self.part {
            Some(part) => part.pending.file.write_all(piece),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    /// Gives the file its name, and on Unix the permissions of the file that it replaces. See [`set_changed`] for `now`. Does not
    /// wait until it is on the disk: that would stall the loop. Returns the metadata after that, if it can be read: the
    /// rename changes the ctime, and with it the entity tag.
    pub fn finish(&mut self, now: SystemTime) -> io::Result<Option<Metadata>> {
        let part = self.part.as_ref().ok_or(ErrorKind::NotFound)?;
        set_changed(&part.pending.file, now);
        let name = self.names.last().unwrap_or_default();
        // `NotFound` means that another process has removed the part or its folder. This is an error of the server, not of the
        // request.
        let renamed = part
            .pending
            .rename(&part.name, name, Arc::clone(&self.open_file));
        renamed.map_err(|error| match error.kind() {
            ErrorKind::NotFound => io::Error::other(error),
            _ => error,
        })?;
        let part = self.part.take().ok_or(ErrorKind::NotFound)?;
        // The file is stored in any case.
        let metadata = part.pending.file.metadata();
        if let Err(error) = &metadata {
            tracing::warn!(%error, "the metadata of an uploaded file cannot be read");
        }
        Ok(metadata.ok())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(Part { pending, name }) = self.part.take() else {
            return;
        };
        if let Err(error) = pending.remove(&name) {
            tracing::warn!(%error, name = %name.display(), "an upload that is incomplete cannot be removed");
        }
        closing::close(pending.file, Arc::clone(&self.open_file));
    }
}

/// The name of a new part of an upload.
fn part_name() -> OsString {
    format!("{TEMPORARY}{:016x}", fastrand::u64(..)).into()
}

/// Whether [`part_name`] can have made the name.
fn is_part_name(name: &OsStr) -> bool {
    let digits = name.as_encoded_bytes().strip_prefix(TEMPORARY.as_bytes());
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    digits.is_some_and(|digits| digits.len() == 16 && digits.iter().all(is_digit))
}

/// Whether a name in a folder is shown.
fn is_shown(name: &OsStr) -> bool {
    !is_temporary(name.as_encoded_bytes())
}

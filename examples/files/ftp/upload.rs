//! A file that is being received (STOR, APPE).

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::rc::Rc;
use std::sync::Arc;

use tracing::info;

use super::ascii::Lines;
use super::cut_uploads::Left;
use super::{Refusal, Service, failed};
use crate::author::Author;
use crate::names::Names;
use crate::tree::{self, Found, InUse};
use crate::users::Share;

pub const TOO_LARGE: Refusal = "552 the file is too large";

/// APPE.
const CUT: Refusal =
    "550 the last upload of this file was cut, and nothing of it was kept: send it whole";

/// REST and STOR.
const NO_PART: Refusal =
    "550 no upload of yours has left a part of this file: send it whole, without REST";

/// The path leads elsewhere at the end.
const MOVED: Refusal = "451 the file or its folder was renamed, removed or replaced meanwhile";

/// So much is cut from the end of a file in a turn of the loop: the system frees its blocks, which takes about a millisecond.
const STEP: u64 = 4 << 20;

pub struct Upload {
    service: Rc<Service>,
    target: Target,
    names: Names,
    author: Author,
    /// TYPE A, and a buffer.
    lines: Option<(Lines, Vec<u8>)>,
    /// The length of the file so far.
    size: u64,
    /// APPE.
    appends: bool,
    /// There is a data connection, so the client may have sent something.
    has_begun: bool,
    is_complete: bool,
}

enum Target {
    /// Gets its name when it is complete. Until then there is the file of this name that was there before.
    New(tree::Upload),
    /// APPE, or STOR after REST, of one client at a time: what has arrived stays when the transfer is cut, so that the client can continue.
    Existing(InUse),
}

impl Upload {
    /// `start`: where in the file; `append`: at its end.
    pub fn begin(
        service: &Rc<Service>,
        names: Names,
        author: Author,
        is_ascii: bool,
        start: Option<u64>,
        append: bool,
        open_file: Arc<Share>,
    ) -> Result<Upload, Refusal> {
        let mut size = 0;
        let opened = if start.is_some() || append {
            service.tree.open_for_writing(&names)
        } else {
            Err(ErrorKind::NotFound.into())
        };
        let target = match opened {
            Ok(mut file) => {
                let found = file.metadata().map_err(|error| failed(&names, &error))?;
                let cut = &service.cut_uploads;
                let part = Left::Part(author.user().to_owned());
                if start.is_some() && !cut.have_left(&names, &found, &part) {
                    return Err(NO_PART);
                }
                if cut.have_left(&names, &found, &Left::Nothing) {
                    return Err(CUT);
                }
                size = start.unwrap_or(found.len());
                if size > found.len() {
                    return Err("554 the file is shorter");
                }
                file.seek(SeekFrom::Start(size))
                    .map_err(|error| failed(&names, &error))?;
                Target::Existing(InUse::new(file, Some(open_file)))
            }
            Err(error) if error.kind() == ErrorKind::NotFound && start.is_none() => {
                let upload = service.tree.upload(&names, open_file);
                Target::New(upload.map_err(|error| failed(&names, &error))?)
            }
            Err(error) => return Err(failed(&names, &error)),
        };
        Ok(Upload {
            service: Rc::clone(service),
            target,
            names,
            author,
            lines: is_ascii.then(Default::default),
            size,
            appends: append,
            has_begun: false,
            is_complete: false,
        })
    }

    pub fn begun(&mut self) {
        self.has_begun = true;
        if !self.replaces() {
            return;
        }
        // Until it is complete, it has left nothing: a client that has lost its connection comes back before the server has
        // noticed that, and must not continue the old file.
        let cut = &self.service.cut_uploads;
        match self.old_file() {
            Ok(Some(old)) => cut.add(self.names.clone(), &old, Left::Nothing),
            _ => cut.forget(&self.names),
        }
    }

    /// Whether it is a STOR of a whole file.
    fn replaces(&self) -> bool {
        matches!(self.target, Target::New(_)) && !self.appends
    }

    pub fn max_size(&self) -> u64 {
        self.service.options.max_upload
    }

    pub fn least_dropped(&self) -> u64 {
        self.service.options.least_dropped
    }

    pub fn write(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        match self.lines.take() {
            None => self.write_bytes(piece),
            Some((mut lines, mut text)) => {
                text.clear();
                lines.convert(piece, &mut text);
                let outcome = self.write_bytes(&text);
                self.lines = Some((lines, text));
                outcome
            }
        }
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.size += bytes.len() as u64;
        if self.size > self.max_size() {
            return Err(TOO_LARGE);
        }
        let outcome = match &mut self.target {
            Target::New(upload) => upload.write(bytes),
            Target::Existing(file) => file.file().and_then(|mut file| file.write_all(bytes)),
        };
        outcome.map_err(|error| failed(&self.names, &error))
    }

    /// The client has sent all of the file. Returns whether it is complete. If not, this has to be called again in the next
    /// turn of the loop.
    pub fn finish(&mut self) -> Result<bool, Refusal> {
        if let Some((mut lines, _)) = self.lines.take() {
            self.write_bytes(lines.end())?;
        }
        if let Target::Existing(file) = &self.target {
            // The end of what was received is that of the file.
            let shortened = file.file().and_then(|file| shorten(file, self.size));
            if !shortened.map_err(|error| failed(&self.names, &error))? {
                return Ok(false);
            }
        }
        self.check_path()?;
        let now = (self.service.options.clock)();
        let finished = match &mut self.target {
            Target::New(upload) => upload.finish(now).map(drop),
            Target::Existing(file) => file.file().map(|file| tree::set_changed(file, now)),
        };
        finished.map_err(|error| failed(&self.names, &error))?;
        self.is_complete = true;
        self.service.cut_uploads.forget(&self.names);
        let (names, author, size) = (self.names.display(), &self.author, self.size);
        info!(?names, %author, size, "uploaded");
        Ok(true)
    }

    /// What was received is at the end of its path, also if another client has renamed a folder or the file meanwhile.
    fn check_path(&self) -> Result<(), Refusal> {
        let tree = &self.service.tree;
        let is_there = match &self.target {
            Target::New(upload) => tree.folder_of(upload).map(|folder| folder.is_some()),
            Target::Existing(file) => file.file().and_then(|it| tree.leads_to(&self.names, it)),
        };
        if !is_there.map_err(|error| failed(&self.names, &error))? {
            return Err(MOVED);
        }
        // Another client of APPE may have created the file. What it has sent must not be lost.
        if self.appends && matches!(self.target, Target::New(_)) {
            let old = self
                .old_file()
                .map_err(|error| failed(&self.names, &error))?;
            if old.is_some() {
                return Err("451 the file was created meanwhile");
            }
        }
        Ok(())
    }

    /// The file that has the name before the upload is complete.
    fn old_file(&self) -> io::Result<Option<Metadata>> {
        match self.service.tree.find(&self.names) {
            Ok(Found::File(_, found)) => Ok(Some(found)),
            Ok(Found::Folder(_)) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            // There may be one, for example if no descriptor is left.
            Err(error) => Err(error),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.is_complete || !self.has_begun {
            return;
        }
        let (found, left) = match &self.target {
            Target::New(_) if self.appends => return,
            Target::New(_) => (self.old_file(), Left::Nothing),
            Target::Existing(file) => {
                let service = &self.service;
                let now = (service.options.clock)();
                let found = file.file().and_then(|file| {
                    // Another file at this path has an entry of its own.
                    if !service.tree.leads_to(&self.names, file)? {
                        return Ok(None);
                    }
                    tree::set_changed(file, now);
                    file.metadata().map(Some)
                });
                let user = self.author.user().to_owned();
                (found, Left::Part(user))
            }
        };
        match found {
            Ok(Some(file)) => self
                .service
                .cut_uploads
                .add(self.names.clone(), &file, left),
            Ok(None) => {}
            // It is logged.
            Err(error) => _ = failed(&self.names, &error),
        }
    }
}

/// Cuts at most [`STEP`] from the end of the file. Returns whether the file has this length now.
fn shorten(file: &File, length: u64) -> io::Result<bool> {
    let current = file.metadata()?.len();
    let next = length.max(current.saturating_sub(STEP));
    file.set_len(next)?;
    Ok(next == length)
}

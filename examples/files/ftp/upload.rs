//! A file that is being received (STOR, APPE).

use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::rc::Rc;

use tracing::info;

use super::ascii::Lines;
use super::{Refusal, Service, failed};
use crate::author::Author;
use crate::names::Names;
use crate::tree::{self, InUse};

pub const TOO_LARGE: Refusal = "552 the file is too large";

pub struct Upload {
    target: Target,
    names: Names,
    author: Author,
    /// TYPE A, and a buffer.
    lines: Option<(Lines, Vec<u8>)>,
    /// The length of the file so far.
    size: u64,
    max_size: u64,
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
    ) -> Result<Upload, Refusal> {
        let mut size = 0;
        let opened = match start.is_some() || append {
            true => service.tree.open_for_writing(&names),
            false => Err(ErrorKind::NotFound.into()),
        };
        let target = match opened {
            Ok(mut file) => {
                let length = file
                    .metadata()
                    .map_err(|error| failed(&names, &error))?
                    .len();
                size = start.unwrap_or(length);
                if size > length {
                    return Err("554 the file is shorter");
                }
                file.seek(SeekFrom::Start(size))
                    .map_err(|error| failed(&names, &error))?;
                Target::Existing(InUse::new(file))
            }
            Err(error) if error.kind() == ErrorKind::NotFound && start.is_none() => {
                let upload = service.tree.upload(&names);
                Target::New(upload.map_err(|error| failed(&names, &error))?)
            }
            Err(error) => return Err(failed(&names, &error)),
        };
        Ok(Upload {
            target,
            names,
            author,
            lines: is_ascii.then(Default::default),
            size,
            max_size: service.options.max_upload,
        })
    }

    pub fn max_size(&self) -> u64 {
        self.max_size
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
        if self.size > self.max_size {
            return Err(TOO_LARGE);
        }
        let outcome = match &mut self.target {
            Target::New(upload) => upload.write(bytes),
            Target::Existing(file) => file.file().and_then(|mut file| file.write_all(bytes)),
        };
        outcome.map_err(|error| failed(&self.names, &error))
    }

    /// The file is complete.
    pub fn finish(mut self) -> Result<(), Refusal> {
        if let Some((mut lines, _)) = self.lines.take() {
            self.write_bytes(lines.end())?;
        }
        let Upload {
            target,
            names,
            author,
            size,
            ..
        } = self;
        let outcome = match target {
            Target::New(upload) => upload.finish().map(drop),
            Target::Existing(file) => {
                // The end of what was received is that of the file.
                let ended = file.file().and_then(|file| file.set_len(size));
                if file
                    .file()
                    .and_then(tree::Tree::is_replaced)
                    .unwrap_or(false)
                {
                    return Err("451 the file was replaced meanwhile");
                }
                ended
            }
        };
        outcome.map_err(|error| failed(&names, &error))?;
        info!(names = %names.display(), %author, size, "uploaded");
        Ok(())
    }
}

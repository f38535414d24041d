//! LIST, NLST and MLSD. The names of a folder are read and sorted, and then its lines are made, a bounded number in each
//! turn.

use std::ffi::{OsStr, OsString};
use std::io;
use std::time::SystemTime;

use asynchat::{More, Producer};

use super::describe::Facts;
use super::time;
use crate::sorted::SortedNames;
use crate::tree::{Entry, Listing};

/// How many lines a call makes. Each takes a system call or less.
const LINES: usize = 100;

pub enum Format {
    /// LIST: as `ls -l`, which clients parse (draft-bernstein-eplf says how).
    Long,
    /// NLST.
    Names,
    /// MLSD.
    Facts(Facts),
}

pub struct ListingProducer {
    names: SortedNames,
    format: Format,
    can_write: bool,
    now: SystemTime,
}

impl ListingProducer {
    /// `only`: lists this name instead of all.
    pub fn new(
        listing: Listing,
        only: Option<OsString>,
        format: Format,
        can_write: bool,
        now: SystemTime,
    ) -> ListingProducer {
        ListingProducer {
            names: match only {
                Some(name) => SortedNames::only(listing, name),
                None => SortedNames::new(listing),
            },
            format,
            can_write,
            now,
        }
    }

    fn line(&self, text: &mut Vec<u8>, name: &OsStr) {
        // No command can name it, and it would look like two lines.
        let is_cut = memchr::memchr2(b'\r', b'\n', name.as_encoded_bytes()).is_some();
        let entry = self.names.look(name).filter(|_| !is_cut);
        let Some(entry) = entry else {
            return; // or it was removed, or it is no file
        };
        match self.format {
            Format::Names => {}
            Format::Facts(facts) => {
                text.extend_from_slice(facts.line(&entry, self.can_write).as_bytes());
            }
            Format::Long => text.extend_from_slice(self.long(&entry).as_bytes()),
        }
        text.extend_from_slice(name.as_encoded_bytes());
        text.extend_from_slice(b"\r\n");
    }

    /// `-rw-r--r-- 1 ftp ftp         1024 Nov  6 08:49 `
    fn long(&self, entry: &Entry) -> String {
        let mode = match (entry.is_folder, self.can_write) {
            (true, true) => "drwxr-xr-x",
            (true, false) => "dr-xr-xr-x",
            (false, true) => "-rw-r--r--",
            (false, false) => "-r--r--r--",
        };
        let size = entry.size;
        let modified = entry.modified.unwrap_or(SystemTime::UNIX_EPOCH);
        let modified = time::ls_time(modified, self.now);
        format!("{mode} 1 ftp ftp {size:12} {modified} ")
    }
}

impl Producer for ListingProducer {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        if self.names.read()? {
            return Ok(More::Chunk(Default::default()));
        }
        if self.names.is_at_end() {
            return Ok(More::Done);
        }
        let mut text = Vec::new();
        for _ in 0..LINES {
            if text.len() >= budget {
                break;
            }
            let Some(name) = self.names.pop() else {
                break;
            };
            self.line(&mut text, &name);
        }
        Ok(More::Chunk(text.into()))
    }
}

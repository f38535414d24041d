//! LIST, NLST, MLSD, and STAT with a path: what a path lists. The names of a folder are read and sorted, and then its lines are
//! made, a bounded number in each turn.

use std::ffi::OsStr;
use std::io;
use std::time::SystemTime;

use asynchat::{More, Producer};

use super::describe::Facts;
use super::folders::INVALID;
use super::session::Session;
use super::{Refusal, failed, refusal, time};
use crate::failure::{Failure, Logged};
use crate::names::Names;
use crate::sorted::{Pattern, SortedNames};
use crate::tree::{Entry, Found};

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

/// What a path lists.
struct Listed {
    /// The folder, or the file.
    path: Names,
    names: SortedNames,
    /// With a name behind it, this is a path to what has the name.
    prefix: Vec<u8>,
}

impl Session {
    pub fn listing_producer(
        &self,
        path: &[u8],
        format: Format,
    ) -> Result<(Names, Logged<ListingProducer>), Refusal> {
        let listed = match (self.named(path), split_pattern(path)) {
            // RFC 3659 section 2.2.2: a path is literal here, and no pattern. A program that synchronizes must not take a
            // folder like `[1]` that is missing for an empty one.
            (Err(why), Some(_)) if matches!(format, Format::Facts(_)) => {
                let is_missing = [INVALID, refusal(&Failure::Missing)].contains(&why);
                return Err(if is_missing {
                    "550 there is no such folder, and a pattern is not possible: use NLST or LIST"
                } else {
                    why
                });
            }
            (Err(_), Some((folder, pattern))) => self.matching(folder, pattern)?,
            (named, _) => named?,
        };
        let producer = ListingProducer {
            names: listed.names,
            prefix: match format {
                Format::Names => listed.prefix,
                Format::Long | Format::Facts(_) => Vec::new(),
            },
            format,
            can_write: self.writer().is_ok(),
            now: (self.service.options.clock)(),
        };
        let names = listed.path;
        Ok((names.clone(), Logged::new(producer, names)))
    }

    /// The names in the folder of this path, or the file alone.
    fn named(&self, path: &[u8]) -> Result<Listed, Refusal> {
        let names = self.resolve(path)?;
        let tree = &self.service.tree;
        let listed = match tree.find(&names) {
            Ok(Found::Folder(folder)) => folder.list().map(|listing| {
                let prefix = folder_prefix(path);
                (SortedNames::new(listing), prefix)
            }),
            Ok(Found::File(..)) => tree.list(&names.parent()).map(|listing| {
                let name = names.last().unwrap_or_default().to_owned();
                let prefix = file_prefix(path, &names);
                (SortedNames::only(listing, name), prefix)
            }),
            Err(error) => Err(error),
        };
        match listed {
            Ok((sorted, prefix)) => Ok(Listed {
                path: names,
                names: sorted,
                prefix,
            }),
            Err(error) => Err(failed(&names, &error)),
        }
    }

    /// The names in a folder that match a pattern. If there are none the listing is empty, as that of vsftpd. ncftp then says that
    /// there is no match; a 550 would be an error of the server to it.
    fn matching(&self, folder: &[u8], pattern: Pattern) -> Result<Listed, Refusal> {
        let path = self.resolve(folder)?;
        let listing = self.service.tree.list(&path);
        let listing = listing.map_err(|error| failed(&path, &error))?;
        Ok(Listed {
            path,
            names: SortedNames::matching(listing, pattern),
            prefix: folder.to_vec(),
        })
    }
}

/// The folder and the pattern in a path whose last name is one. RFC 959 leaves patterns to the server; clients send them for
/// commands as `mget *.txt`.
fn split_pattern(path: &[u8]) -> Option<(&[u8], Pattern)> {
    let end = memchr::memrchr(b'/', path).map_or(0, |slash| slash + 1);
    let (folder, name) = path.split_at(end);
    Some((folder, Pattern::new(name)?))
}

/// The names that NLST lists are the arguments of the next commands (RFC 1123 section 4.1.2.7), so they begin with the folder as
/// the client has written it. As with vsftpd, a dot alone is not repeated.
fn folder_prefix(path: &[u8]) -> Vec<u8> {
    match path {
        b"" | b"." => Vec::new(),
        [.., b'/'] => path.to_vec(),
        _ => [path, b"/"].concat(),
    }
}

fn file_prefix(path: &[u8], names: &Names) -> Vec<u8> {
    let name = names.last().unwrap_or_default();
    match path.strip_suffix(name.as_encoded_bytes()) {
        Some(prefix) => prefix.to_vec(),
        // The path of a file ends with its name.
        None => folder_prefix(&names.parent().to_ftp_path()),
    }
}

pub struct ListingProducer {
    names: SortedNames,
    /// What is before each name.
    prefix: Vec<u8>,
    format: Format,
    can_write: bool,
    now: SystemTime,
}

impl ListingProducer {
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
        text.extend_from_slice(&self.prefix);
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

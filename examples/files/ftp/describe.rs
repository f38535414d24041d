//! What the server can (FEAT, OPTS), how it sends (TYPE), and what a file is (SIZE, MDTM, MFMT, MLST).

use std::time::SystemTime;

use tracing::info;

use super::command::Command;
use super::session::Session;
use super::{Refusal, failed, time};
use crate::names::Names;
use crate::tree::{Entry, Found};

/// What MLSD and MLST tell (RFC 3659 section 7.5). OPTS MLST chooses.
#[derive(Clone, Copy)]
pub struct Facts {
    kind: bool,
    size: bool,
    modify: bool,
    perm: bool,
}

impl Default for Facts {
    fn default() -> Facts {
        Facts {
            kind: true,
            size: true,
            modify: true,
            perm: true,
        }
    }
}

impl Facts {
    fn chosen(names: &str) -> Facts {
        let has = |name| {
            names
                .split(';')
                .any(|chosen| chosen.eq_ignore_ascii_case(name))
        };
        Facts {
            kind: has("type"),
            size: has("size"),
            modify: has("modify"),
            perm: has("perm"),
        }
    }

    /// As in FEAT: a star is behind what is chosen.
    fn all(self) -> String {
        let star = |is_chosen| if is_chosen { "*" } else { "" };
        let Facts {
            kind,
            size,
            modify,
            perm,
        } = self;
        let (kind, size, modify, perm) = (star(kind), star(size), star(modify), star(perm));
        format!("type{kind};size{size};modify{modify};perm{perm};")
    }

    /// `type=file;size=1024;modify=19941106084937;perm=r; `
    pub fn line(self, entry: &Entry, can_write: bool) -> String {
        let mut line = String::new();
        let mut add = |is_chosen: bool, name: &str, value: &str| {
            if is_chosen {
                line.extend([name, "=", value, ";"]);
            }
        };
        let (kind, perm) = match (entry.is_folder, can_write) {
            (true, true) => ("dir", "cdeflmp"),
            (true, false) => ("dir", "el"),
            (false, true) => ("file", "adfrw"),
            (false, false) => ("file", "r"),
        };
        add(self.kind, "type", kind);
        add(
            self.size && !entry.is_folder,
            "size",
            &entry.size.to_string(),
        );
        if let Some(modified) = entry.modified {
            add(self.modify, "modify", &time::time_val(modified));
        }
        add(self.perm, "perm", perm);
        line.push(' ');
        line
    }
}

impl Session {
    pub fn set_type(&mut self, command: &Command) {
        let kind = command.text().unwrap_or_default().to_ascii_uppercase();
        self.is_ascii = match kind.as_str() {
            "A" | "A N" => true,
            "I" | "L 8" => false,
            _ => return self.reply("504 use TYPE A or TYPE I"),
        };
        self.reply("200 done");
    }

    pub fn feat(&self) {
        let tls = match self.service.options.tls {
            Some(_) => " AUTH TLS\r\n PBSZ\r\n PROT\r\n",
            None => "",
        };
        let active = if self.service.options.passive_only {
            ""
        } else {
            " EPRT\r\n"
        };
        let facts = self.facts.all();
        let reply = format!(
            "211-the features:\r\n{tls}{active} EPSV\r\n MDTM\r\n MFMT\r\n MLST {facts}\r\n REST STREAM\r\n SIZE\r\n TVFS\r\n \
             UTF8\r\n211 end"
        );
        self.reply(&reply);
    }

    pub fn opts(&mut self, command: &Command) {
        let text = command.text().unwrap_or_default();
        let (option, value) = text.split_once(' ').unwrap_or((text, ""));
        match option.to_ascii_uppercase().as_str() {
            // Names are UTF-8 in any case.
            "UTF8" | "UTF-8" if !value.eq_ignore_ascii_case("off") => self.reply("200 UTF-8 is on"),
            "MLST" => {
                self.facts = Facts::chosen(value);
                let all = self.facts.all();
                let chosen = all.split_inclusive(';').filter(|fact| fact.ends_with("*;"));
                let chosen = chosen.collect::<String>().replace('*', "");
                self.reply(&format!("200 MLST OPTS {chosen}"));
            }
            _ => self.reply("501 there is no such option"),
        }
    }

    pub fn size(&self, path: &[u8]) {
        // It is the number of bytes that a transfer sends (RFC 3659 section 4), which takes a reading of the file.
        let found = if self.is_ascii {
            Err("550 use TYPE I before SIZE")
        } else {
            self.file(path)
        };
        match found {
            Ok(entry) => self.reply(&format!("213 {}", entry.size)),
            Err(refusal) => self.reply(refusal),
        }
    }

    /// When a file was changed. Some clients also set it with this command, with the time before the path, as with vsftpd.
    pub fn mdtm(&self, path: &[u8]) {
        let found = self.file(path);
        if found.is_err()
            && let Some((time, path)) = with_time(path)
            && self.writer().is_ok()
        {
            return match self.set_modified(time, path) {
                Ok(_) => self.reply("213 the time is set"),
                Err(refusal) => self.reply(refusal),
            };
        }
        match found {
            Ok(entry) => {
                let modified = entry.modified.unwrap_or(SystemTime::UNIX_EPOCH);
                self.reply(&format!("213 {}", time::time_val(modified)));
            }
            Err(refusal) => self.reply(refusal),
        }
    }

    /// Sets when a file was changed (draft-somers-ftp-mfxx section 3). Clients that synchronize folders do, after an upload.
    pub fn mfmt(&self, argument: &[u8]) {
        let Some((time, path)) = with_time(argument) else {
            return self.reply("501 expected YYYYMMDDHHMMSS and a path");
        };
        match self.set_modified(time, path) {
            Ok((names, time)) => {
                let (time, path) = (time::time_val(time), names.to_ftp_path());
                let parts = [b"213 Modify=", time.as_bytes(), b"; ", &path, b"\r\n"];
                self.chat.push_slices(&parts);
            }
            Err(refusal) => self.reply(refusal),
        }
    }

    /// Returns the time that the file has now.
    fn set_modified(&self, time: SystemTime, path: &[u8]) -> Result<(Names, SystemTime), Refusal> {
        let (author, names) = (self.writer()?, self.resolve(path)?);
        let set = self.service.tree.set_modified(&names, time);
        let time = set.map_err(|error| failed(&names, &error))?;
        info!(names = ?names.display(), %author, time = time::time_val(time), "the time was set");
        Ok((names, time))
    }

    fn file(&self, path: &[u8]) -> Result<Entry, Refusal> {
        let (_, entry) = self.entry(path)?;
        if entry.is_folder {
            Err("550 it is a folder")
        } else {
            Ok(entry)
        }
    }

    pub fn mlst(&self, path: &[u8]) {
        match self.entry(path) {
            Ok((names, entry)) => {
                let line = self.facts.line(&entry, self.writer().is_ok());
                self.reply("250-the facts:");
                let path = names.to_ftp_path();
                self.chat
                    .push_slices(&[b" ", line.as_bytes(), &path, b"\r\n"]);
                self.reply("250 end");
            }
            Err(refusal) => self.reply(refusal),
        }
    }

    fn entry(&self, path: &[u8]) -> Result<(Names, Entry), Refusal> {
        let names = self.resolve(path)?;
        let entry = match self.service.tree.find(&names) {
            Ok(Found::File(_, metadata)) => Entry {
                is_folder: false,
                size: metadata.len(),
                modified: metadata.modified().ok(),
            },
            Ok(Found::Folder(_)) => Entry {
                is_folder: true,
                size: 0,
                modified: None,
            },
            Err(error) => return Err(failed(&names, &error)),
        };
        Ok((names, entry))
    }
}

/// A time and a path.
fn with_time(argument: &[u8]) -> Option<(SystemTime, &[u8])> {
    let space = memchr::memchr(b' ', argument)?;
    let (time, path) = (&argument[..space], &argument[space + 1..]);
    let time = time::parse_time_val(std::str::from_utf8(time).ok()?)?;
    Some((time, path)).filter(|_| !path.is_empty())
}

//! Paths, and the commands that change folders: CWD, PWD, DELE, MKD, RMD, RNFR, RNTO.

use tracing::info;

use super::session::Session;
use super::{Refusal, failed, refusal};
use crate::failure::Failure;
use crate::names::{Invalid, Names};
use crate::tree::Found;

/// On Windows that is so of each name with a `*`.
pub const INVALID: Refusal = "550 no file can have this name";

impl Session {
    /// A path from the current folder. An empty one is the folder itself.
    pub fn resolve(&self, path: &[u8]) -> Result<Names, Refusal> {
        self.names(path).map_err(|invalid| match invalid {
            Invalid::Name => INVALID,
            Invalid::TooDeep => "550 the path has more than 100 names",
            Invalid::TooLong => "550 the path has more than 4096 bytes",
        })
    }

    /// The path of a file that is to be written. RFC 959 section 5.4 has 553 for STOR, APPE and RNTO alone.
    pub fn resolve_new(&self, path: &[u8]) -> Result<Names, Refusal> {
        self.names(path).map_err(|invalid| match invalid {
            Invalid::Name => "553 no file can have this name",
            Invalid::TooDeep => "553 the path has more than 100 names",
            Invalid::TooLong => "553 the path has more than 4096 bytes",
        })
    }

    fn names(&self, path: &[u8]) -> Result<Names, Invalid> {
        // A CR in a reply could look like the end of its line.
        if path.contains(&b'\r') {
            Err(Invalid::Name)
        } else {
            self.folder.resolve(path)
        }
    }

    pub fn cwd(&mut self, path: &[u8]) {
        let found = self
            .resolve(path)
            .and_then(|names| match self.service.tree.find(&names) {
                Ok(Found::Folder(_)) => Ok(names),
                Ok(Found::File(..)) => Err("550 it is a file"),
                Err(error) => Err(failed(&names, &error)),
            });
        match found {
            Ok(names) => {
                self.folder = names;
                self.reply("250 done");
            }
            Err(refusal) => self.reply(refusal),
        }
    }

    pub fn pwd(&self) {
        self.reply_path("257", &self.folder, "is the current folder");
    }

    /// A reply with a path in quotes (RFC 959 appendix II).
    fn reply_path(&self, code: &str, names: &Names, text: &str) {
        let path = names.to_ftp_path();
        let mut quoted = Vec::with_capacity(path.len());
        for byte in path {
            quoted.push(byte);
            if byte == b'"' {
                quoted.push(byte);
            }
        }
        let parts = [
            code.as_bytes(),
            b" \"",
            &quoted,
            b"\" ",
            text.as_bytes(),
            b"\r\n",
        ];
        self.chat.push_slices(&parts);
    }

    pub fn dele(&self, path: &[u8]) -> Result<&'static str, Refusal> {
        let (author, names) = (self.writer()?, self.resolve(path)?);
        let removed = self.service.tree.remove(&names, self.open_file()?);
        removed.map_err(|error| failed(&names, &error))?;
        self.service.cut_uploads.forget(&names);
        info!(names = ?names.display(), %author, "deleted");
        Ok("250 deleted")
    }

    pub fn mkd(&self, path: &[u8]) {
        let create = || -> Result<Names, Refusal> {
            let (author, names) = (self.writer()?, self.resolve(path)?);
            let created = self.service.tree.create_folder(&names);
            created.map_err(|error| failed(&names, &error))?;
            info!(names = ?names.display(), %author, "created");
            Ok(names)
        };
        match create() {
            Ok(names) => self.reply_path("257", &names, "created"),
            Err(refusal) => self.reply(refusal),
        }
    }

    pub fn rmd(&self, path: &[u8]) -> Result<&'static str, Refusal> {
        let (author, names) = (self.writer()?, self.resolve(path)?);
        let removed = self.service.tree.remove_folder(&names);
        removed.map_err(|error| failed(&names, &error))?;
        info!(names = ?names.display(), %author, "deleted");
        Ok("250 deleted")
    }

    pub fn rnfr(&mut self, path: &[u8]) -> Result<&'static str, Refusal> {
        self.writer()?;
        let names = self.resolve(path)?;
        let found = self.service.tree.find(&names);
        found.map_err(|error| failed(&names, &error))?;
        self.rename_from = Some(names);
        Ok("350 send RNTO")
    }

    pub fn rnto(&self, from: Option<Names>, path: &[u8]) -> Result<&'static str, Refusal> {
        let from = from.ok_or("503 RNFR first")?;
        let (author, to) = (self.writer()?, self.resolve_new(path)?);
        let open_file = self.open_file()?;
        let renamed = self.service.tree.rename(&from, &to, open_file);
        renamed.map_err(|error| refusal(&Failure::of_rename(&from, &to, &error)))?;
        self.service.cut_uploads.forget(&to);
        info!(from = ?from.display(), to = ?to.display(), %author, "renamed");
        Ok("250 renamed")
    }
}

//! A maildir: <https://cr.yp.to/proto/maildir.html>. A message is written under
//! `tmp/` as it comes in, and moved to `new/` when it is whole and on the disk,
//! so who reads `new/` never sees half of one.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::time::{SystemTime, UNIX_EPOCH};

pub struct Maildir {
    tmp: PathBuf,
    new: PathBuf,
    /// The last part of each file's name.
    host: String,
    /// Whether a message is on the disk before it counts as delivered.
    fsync: bool,
    begun: u64,
}

impl Maildir {
    /// Makes the directories that are not there.
    pub fn open(path: &Path, host: &str, fsync: bool) -> io::Result<Maildir> {
        for name in ["tmp", "new", "cur"] {
            fs::create_dir_all(path.join(name))?;
        }
        Ok(Maildir {
            tmp: path.join("tmp"),
            new: path.join("new"),
            // As the maildir page asks for.
            host: host.replace('/', r"\057").replace(':', r"\072"),
            fsync,
            begun: 0,
        })
    }

    /// A new message, without a byte in it yet. Its name is unique: by the time
    /// and the process, and by a count inside it.
    pub fn begin(&mut self, now: SystemTime) -> io::Result<Message> {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.begun += 1;
        let id = format!(
            "{}.M{:06}P{}Q{}.{}",
            since.as_secs(),
            since.subsec_micros(),
            process::id(),
            self.begun,
            self.host
        );
        let tmp = self.tmp.join(&id);
        let file = File::options().write(true).create_new(true).open(&tmp)?;
        Ok(Message {
            file: BufWriter::new(file),
            tmp,
            new: self.new.clone(),
            fsync: self.fsync,
            id,
        })
    }
}

/// A message on its way in. Unless it is delivered, dropping it removes it.
pub struct Message {
    file: BufWriter<File>,
    tmp: PathBuf,
    /// The directory it goes to.
    new: PathBuf,
    fsync: bool,
    id: String,
}

impl Message {
    /// Its name: of the file, and in the replies and the log.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.file.write_all(data)
    }

    /// Brings it to `new/`. When this has returned a power cut does not undo
    /// it: RFC 5321, section 6.1, "must not lose the message for frivolous
    /// reasons". That takes as long as the disk takes.
    pub fn deliver(mut self) -> io::Result<()> {
        self.file.flush()?;
        if self.fsync {
            self.file.get_ref().sync_all()?;
        }
        fs::rename(&self.tmp, self.new.join(&self.id))?;
        if self.fsync {
            sync_directory(&self.new)?;
        }
        Ok(())
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // If it was delivered, there is nothing of this name any more.
        let _ = fs::remove_file(&self.tmp);
    }
}

/// The name of a file is in its directory, which is written by itself.
#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Elsewhere a directory can not be opened as a file, and need not be.
#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

//! A maildir: <https://cr.yp.to/proto/maildir.html>. A message is written to `tmp/`
//! while it arrives, and moved to `new/` when it is complete and on the disk. So
//! programs that read `new/` see complete messages only.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::time::{SystemTime, UNIX_EPOCH};

use memchr::memmem;

pub struct Maildir {
    tmp: PathBuf,
    new: PathBuf,
    /// The last part of each file's name.
    host: String,
    /// Whether `deliver` waits until a message is on the disk.
    fsync: bool,
    /// The number of messages begun, which is part of their names.
    begun: u64,
}

impl Maildir {
    /// Creates the directories that do not exist.
    pub fn open(path: &Path, host: &str, fsync: bool) -> io::Result<Maildir> {
        for name in ["tmp", "new", "cur"] {
            fs::create_dir_all(path.join(name))?;
        }
        Ok(Maildir {
            tmp: path.join("tmp"),
            new: path.join("new"),
            // The specification requires these replacements.
            host: host.replace('/', r"\057").replace(':', r"\072"),
            fsync,
            begun: 0,
        })
    }

    /// Creates an empty message. The time, the process id and a counter make its
    /// name unique.
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
            cr: false,
            tmp,
            new: self.new.clone(),
            fsync: self.fsync,
            id,
        })
    }
}

/// A message that is being received. Dropping it removes its file unless it was
/// delivered.
pub struct Message {
    file: BufWriter<File>,
    /// The last octet was a CR. It is written when the next octet is not LF.
    cr: bool,
    tmp: PathBuf,
    /// The directory for delivered messages.
    new: PathBuf,
    fsync: bool,
    id: String,
}

impl Message {
    /// The name of the file, which also identifies the message in replies and in the log.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Writes a part of the text. Each CR LF becomes LF, because programs that read a maildir expect that.
    /// A CR or an LF that is alone does not change.
    pub fn write(&mut self, data: &[u8]) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        if self.cr && !data.starts_with(b"\n") {
            self.file.write_all(b"\r")?;
        }
        self.cr = data.ends_with(b"\r");
        let end = data.len() - usize::from(self.cr);
        let mut written = 0;
        for at in memmem::find_iter(data, b"\r\n") {
            self.file.write_all(&data[written..at])?;
            written = at + 1;
        }
        self.file.write_all(&data[written..end])
    }

    /// Moves the message to `new/`. This blocks until it is on the disk, so that a
    /// power failure cannot lose it: RFC 5321, section 6.1, "must not lose the
    /// message for frivolous reasons".
    pub fn deliver(mut self) -> io::Result<()> {
        if self.cr {
            self.file.write_all(b"\r")?;
        }
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
        // After a delivery the file no longer exists, and this fails.
        let _ = fs::remove_file(&self.tmp);
    }
}

/// Writes a directory to the disk. The name of a new file is in its directory, not
/// in the file.
#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// On other systems a directory cannot be opened as a file, and this is not needed.
#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The content of the file after these pieces were written.
    fn delivered(pieces: &[&[u8]]) -> Vec<u8> {
        let dir = tempfile::TempDir::new().unwrap();
        let mut maildir = Maildir::open(dir.path(), "x", false).unwrap();
        let mut message = maildir.begin(UNIX_EPOCH).unwrap();
        let path = dir.path().join("new").join(message.id());
        for piece in pieces {
            message.write(piece).unwrap();
        }
        message.deliver().unwrap();
        fs::read(path).unwrap()
    }

    #[test]
    fn line_ends_become_lf_under_every_segmentation() {
        let text = b"\r\na\r\n\r\r\nb\n\rc\r\n\n\r";
        let expected = b"\na\n\r\nb\n\rc\n\n\r";
        assert_eq!(delivered(&[text]), expected);
        let octets: Vec<_> = text.chunks(1).collect();
        assert_eq!(delivered(&octets), expected);
        for at in 0..=text.len() {
            let (one, two) = text.split_at(at);
            assert_eq!(delivered(&[one, b"", two]), expected, "{at}");
        }
    }
}

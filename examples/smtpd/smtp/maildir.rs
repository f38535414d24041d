//! A maildir: <https://cr.yp.to/proto/maildir.html>. A message is written under
//! `tmp/` as it comes in, and moved to `new/` when it is whole and on the disk,
//! so who reads `new/` never sees half of one.

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
            cr: false,
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
    /// Whether the last octet was a CR. It is written when it is known not to end a line.
    cr: bool,
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

    /// Writes a part of the text, which ends its lines with CR LF. The file ends them with LF, as
    /// programs that read a maildir expect. A CR or a LF that is alone stays.
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

    /// Brings it to `new/`. When this has returned a power cut does not undo
    /// it: RFC 5321, section 6.1, "must not lose the message for frivolous
    /// reasons". That takes as long as the disk takes.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written down of these pieces.
    fn filed(pieces: &[&[u8]]) -> Vec<u8> {
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
    fn lines_end_with_lf_however_the_text_is_cut() {
        let text = b"\r\na\r\n\r\r\nb\n\rc\r\n\n\r";
        let expected = b"\na\n\r\nb\n\rc\n\n\r";
        assert_eq!(filed(&[text]), expected);
        let octets: Vec<_> = text.chunks(1).collect();
        assert_eq!(filed(&octets), expected);
        for at in 0..=text.len() {
            let (one, two) = text.split_at(at);
            assert_eq!(filed(&[one, b"", two]), expected, "{at}");
        }
    }
}

//! The log: the changes that may be missing in the database.
//!
//! It has two files. Changes are appended to one of them, until it is large and everything in the other one is in the
//! database: that one is emptied then, and they change places.
//!
//! A file is a sequence of frames. A frame has the changes of one or more batches (`writer.rs`):
//!
//! ```text
//! frame  = BEGIN number{8} *record END digest{8}
//! record = (CLEAR | PUT | DELETE) length-of-name{8} length-of-content{8} name content
//! ```
//!
//! The frames have consecutive numbers, over both files, and the numbers are little-endian. The digest is the beginning
//! of the SHA-256 of what comes before it in the frame. A frame that is not complete is the last one: the process or the
//! system has ended while it was written, so nobody has got the replies that wait for it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use asynchat::bytes::Bytes;
use ring::digest::{Context, SHA256};

use super::Error;
use super::lock::sync_folder;
use super::rows::{Op, each_row};

const BEGIN: u8 = b'B';
const CLEAR: u8 = b'C';
const PUT: u8 = b'P';
const DELETE: u8 = b'D';
const END: u8 = b'E';

/// The files change places when one has more bytes than this.
const MANY_BYTES: u64 = 1 << 20;

/// Changes of so many bytes are written with one call.
const BUFFER: usize = 64 * 1024;

pub struct Log {
    files: [LogFile; 2],
    /// The one to which changes are appended.
    current: usize,
    /// The number of the last frame.
    last: u64,
    /// Whether the system has a frame on disk before it counts.
    is_synced: bool,
}

struct LogFile {
    path: PathBuf,
    file: File,
    /// The bytes of its frames.
    len: u64,
    /// The number of its last frame.
    last: u64,
    /// Whether there may be a part of a frame behind them.
    is_torn: bool,
}

impl Log {
    /// Opens the log in this directory, or creates it.
    pub fn open(dir: &Path, is_synced: bool) -> Result<Log, Error> {
        let log = Log {
            files: [
                LogFile::open(dir.join("kvd.log.1"))?,
                LogFile::open(dir.join("kvd.log.2"))?,
            ],
            current: 0,
            last: 0,
            is_synced,
        };
        sync_folder(dir)?;
        Ok(log)
    }

    /// Reads what was changed after the frame with this number. Returns the number of the last frame.
    pub fn replay(&mut self, after: u64, change: &mut dyn FnMut(Op)) -> Result<u64, Error> {
        self.last = after;
        let mut readers = Vec::new();
        for it in &mut self.files {
            let mut reader = Reader::new(it)?;
            readers.push((reader.next()?, reader));
        }
        readers.sort_by_key(|(first, _)| *first);
        for (mut number, mut reader) in readers {
            while let Some(this) = number {
                match reader.changes(this) {
                    // A file that cannot be read has no end that could be ignored.
                    Err(error) if !is_damage(&error) => return Err(reader.named(&error).into()),
                    // All that is behind it depends on what is missing.
                    _ if this > self.last + 1 => {
                        let (path, wanted) = (reader.path.display(), self.last + 1);
                        tracing::warn!(%path, frame = this, wanted, "frames are missing before this one, which is ignored");
                        break;
                    }
                    Ok(ops) if this == self.last + 1 => {
                        ops.into_iter().for_each(&mut *change);
                        self.last = this;
                    }
                    Ok(_) => {}
                    Err(error) => {
                        let path = reader.path.display();
                        tracing::warn!(%path, frame = this, %error, "the log ends with a part of a frame, which is ignored");
                        break;
                    }
                }
                number = reader.next()?;
            }
        }
        Ok(self.last)
    }

    /// Empties the log: all of it is in the database. The system has that on disk, too: behind a gap there may be frames
    /// that were ignored, and whose numbers are used again.
    pub fn clear(&mut self) -> io::Result<()> {
        self.files.iter_mut().try_for_each(|it| {
            it.clear()?;
            it.file.sync_all()
        })
    }

    /// Appends a frame, or nothing. `saved` is the number of the last frame that is in the database. Returns the number of
    /// the new one.
    pub fn append(&mut self, ops: &[Op], saved: u64) -> Result<u64, Error> {
        // Before the files may change places: a frame whose sync has failed must not stay, because its number is used again.
        self.files[self.current].cut()?;
        self.make_room(saved)?;
        let number = self.last + 1;
        let file = &mut self.files[self.current];
        let written = write_frame(&file.file, number, ops).and_then(|len| {
            if self.is_synced {
                file.file.sync_data()?;
            }
            Ok(len)
        });
        match written {
            Ok(len) => {
                file.len += len;
                file.last = number;
                self.last = number;
                Ok(number)
            }
            Err(error) => {
                file.is_torn = true;
                // The next attempt does it, if it fails now.
                let _ = file.cut();
                Err(error.into())
            }
        }
    }

    fn make_room(&mut self, saved: u64) -> io::Result<()> {
        let other = 1 - self.current;
        if self.files[self.current].len > MANY_BYTES {
            if self.files[self.current].last <= saved {
                self.files[self.current].clear()?;
            } else if self.files[other].last <= saved {
                self.files[other].clear()?;
                self.current = other;
            }
        }
        Ok(())
    }
}

impl LogFile {
    fn open(path: PathBuf) -> Result<LogFile, Error> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options
            .open(&path)
            .and_then(|file| file.sync_all().map(|()| file))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(LogFile {
            path,
            file,
            len: 0,
            last: 0,
            is_torn: false,
        })
    }

    fn clear(&mut self) -> io::Result<()> {
        self.len = 0;
        self.is_torn = true;
        self.cut()
    }

    /// Removes what a failed attempt has left.
    fn cut(&mut self) -> io::Result<()> {
        if self.is_torn {
            self.file.set_len(self.len)?;
            self.file.seek(SeekFrom::Start(self.len))?;
            self.is_torn = false;
        }
        Ok(())
    }
}

/// Returns the number of bytes.
fn write_frame(file: &File, number: u64, ops: &[Op]) -> io::Result<u64> {
    let mut frame = Frame {
        file: BufWriter::with_capacity(BUFFER, file),
        digest: Context::new(&SHA256),
        len: 0,
    };
    frame.write(&[BEGIN])?;
    frame.write(&number.to_le_bytes())?;
    for op in ops {
        match op {
            Op::Clear(names) => frame.record(CLEAR, &names.start, &[&names.end])?,
            Op::Put(name, content) => frame.record(PUT, name, &[content])?,
            Op::PutWithHead(name, head, rest) => frame.record(PUT, name, &[head, rest])?,
            Op::PutElements(prefix, value, _) => {
                let mut outcome = Ok(());
                each_row(prefix, value, |name, head, content| {
                    if outcome.is_ok() {
                        outcome = frame.record(PUT, name, &[head, content]);
                    }
                });
                outcome?;
            }
            Op::Delete(name) => frame.record(DELETE, name, &[])?,
        }
    }
    frame.write(&[END])?;
    let digest = frame.digest.clone().finish();
    frame.write(&digest.as_ref()[..8])?;
    frame.file.flush()?;
    Ok(frame.len)
}

struct Frame<'a> {
    file: BufWriter<&'a File>,
    digest: Context,
    len: u64,
}

impl Frame<'_> {
    fn record(&mut self, kind: u8, name: &[u8], content: &[&[u8]]) -> io::Result<()> {
        let len: usize = content.iter().map(|it| it.len()).sum();
        self.write(&[kind])?;
        self.write(&(name.len() as u64).to_le_bytes())?;
        self.write(&(len as u64).to_le_bytes())?;
        self.write(name)?;
        content.iter().try_for_each(|it| self.write(it))
    }

    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.digest.update(data);
        self.len += data.len() as u64;
        self.file.write_all(data)
    }
}

/// Reads a file from its beginning.
struct Reader<'a> {
    path: &'a Path,
    file: BufReader<&'a File>,
    digest: Context,
    /// How many bytes follow.
    left: u64,
}

impl<'a> Reader<'a> {
    fn new(of: &'a mut LogFile) -> io::Result<Reader<'a>> {
        of.file.seek(SeekFrom::Start(0))?;
        let left = of.file.metadata()?.len();
        Ok(Reader {
            path: &of.path,
            file: BufReader::with_capacity(BUFFER, &of.file),
            digest: Context::new(&SHA256),
            left,
        })
    }

    /// The number of the next frame, if there is one.
    fn next(&mut self) -> io::Result<Option<u64>> {
        if self.left == 0 {
            return Ok(None);
        }
        match self.number() {
            Ok(number) => Ok(Some(number)),
            Err(error) if is_damage(&error) => {
                let path = self.path.display();
                tracing::warn!(%path, "the log ends with something that is no frame, which is ignored");
                Ok(None)
            }
            Err(error) => Err(self.named(&error)),
        }
    }

    /// The error, with the name of the file.
    fn named(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
    }

    fn number(&mut self) -> io::Result<u64> {
        self.digest = Context::new(&SHA256);
        match self.array()? {
            [BEGIN] => Ok(u64::from_le_bytes(self.array()?)),
            _ => Err(damaged()),
        }
    }

    /// The changes of the frame whose number was read.
    fn changes(&mut self, number: u64) -> io::Result<Vec<Op>> {
        let mut ops = Vec::new();
        loop {
            let [kind] = self.array()?;
            if kind == END {
                break;
            }
            let (name, content) = (u64::from_le_bytes(self.array()?), self.array()?);
            let name = self.bytes(name)?;
            let content = self.bytes(u64::from_le_bytes(content))?;
            ops.push(match kind {
                CLEAR => Op::Clear(name..content),
                PUT => Op::Put(name, Bytes::from(content)),
                DELETE => Op::Delete(name),
                _ => return Err(damaged()),
            });
        }
        let digest = self.digest.clone().finish();
        let stored: [u8; 8] = self.array()?;
        match number > 0 && digest.as_ref()[..8] == stored {
            true => Ok(ops),
            false => Err(damaged()),
        }
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut data = [0; N];
        self.read(&mut data)?;
        Ok(data)
    }

    fn bytes(&mut self, len: u64) -> io::Result<Vec<u8>> {
        // What is not there needs no memory.
        if len > self.left {
            return Err(damaged());
        }
        let mut data = vec![0; len as usize];
        self.read(&mut data)?;
        Ok(data)
    }

    fn read(&mut self, data: &mut [u8]) -> io::Result<()> {
        self.file.read_exact(data)?;
        self.left = self.left.saturating_sub(data.len() as u64);
        self.digest.update(data);
        Ok(())
    }
}

/// Whether the file is damaged or too short, and can be read.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is not complete")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(text: &str) -> [Op; 1] {
        [Op::Put(
            text.into(),
            Bytes::copy_from_slice(text.as_bytes()),
        )]
    }

    /// What is in the log behind this frame, and the number of the last one.
    fn replayed(dir: &Path, after: u64) -> (Vec<String>, u64) {
        let mut names = Vec::new();
        let mut log = Log::open(dir, false).unwrap();
        let last = log.replay(after, &mut |op| match op {
            Op::Put(name, content) => {
                assert_eq!(name, content);
                names.push(String::from_utf8(name).unwrap());
            }
            _ => panic!("another record"),
        });
        (names, last.unwrap())
    }

    #[test]
    fn what_was_appended_is_read_up_to_the_first_frame_that_is_not_complete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kvd.log.1");
        let mut log = Log::open(dir.path(), true).unwrap();
        let mut ends = vec![0];
        for (at, text) in ["a", "bb", "ccc"].into_iter().enumerate() {
            assert_eq!(log.append(&put(text), 0).unwrap(), at as u64 + 1);
            ends.push(std::fs::metadata(&path).unwrap().len());
        }
        assert_eq!(
            replayed(dir.path(), 1),
            (vec!["bb".into(), "ccc".into()], 3)
        );
        assert_eq!(replayed(dir.path(), 3), (vec![], 3));
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let complete = ends.iter().rposition(|end| *end <= cut as u64).unwrap();
            let (names, last) = replayed(dir.path(), 0);
            assert_eq!((names.len(), last), (complete, complete as u64), "{cut}");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x41;
            std::fs::write(&path, &damaged).unwrap();
            let frame = ends.iter().rposition(|end| *end <= at as u64).unwrap();
            assert_eq!(replayed(dir.path(), 0).1, frame as u64, "{at}");
        }
        std::fs::write(&path, [&whole[..], &[0; 100]].concat()).unwrap();
        assert_eq!(replayed(dir.path(), 0).1, 3);
    }

    /// The log would be emptied after that.
    #[test]
    fn a_file_that_cannot_be_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(dir.path(), false).unwrap();
        log.append(&put("a"), 0).unwrap();
        let path = dir.path().join("kvd.log.1");
        log.files[0].file = OpenOptions::new().write(true).open(&path).unwrap();
        let error = log.replay(0, &mut |_| ()).unwrap_err().to_string();
        assert!(error.contains("kvd.log.1: "), "{error}");
    }

    #[test]
    fn the_files_change_places_when_one_is_large_and_the_other_one_saved() {
        let dir = tempfile::tempdir().unwrap();
        let len = |number| {
            let path = dir.path().join(format!("kvd.log.{number}"));
            std::fs::metadata(path).unwrap().len()
        };
        let mut log = Log::open(dir.path(), false).unwrap();
        let large = "x".repeat(MANY_BYTES as usize);
        log.append(&put(&large), 0).unwrap();
        log.append(&put("a"), 0).unwrap();
        assert!(len(1) > MANY_BYTES && (1..100).contains(&len(2)));
        log.append(&put(&large), 0).unwrap();
        // The first file has what is not saved, so the second one grows.
        log.append(&put("b"), 0).unwrap();
        assert!(len(1) > MANY_BYTES && len(2) > MANY_BYTES);
        let (names, last) = replayed(dir.path(), 0);
        assert_eq!((names.len(), last), (4, 4));
        log.append(&put("c"), 1).unwrap();
        assert!((1..100).contains(&len(1)));
        assert_eq!(
            replayed(dir.path(), 1),
            (vec!["a".into(), large, "b".into(), "c".into()], 5)
        );
        // What is missing is not skipped.
        assert_eq!(replayed(dir.path(), 0), (vec![], 0));
    }
}

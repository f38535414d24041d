//! The log: the changes that may be missing in the database.
//!
//! It has two files. Changes are appended to one of them, until it is large and everything in the other one is in the
//! database: that one is emptied then, and they change places.
//!
//! A file is a sequence of frames (`frames.rs`). A frame has the changes of one or more batches (`writer.rs`). The frames
//! have consecutive numbers, over both files.
//!
//! When the process or the system ends, the last frames may not be whole. With `--appendfsync always` that can only be the
//! last one, and nobody has got the replies that wait for it. Otherwise the system writes the last second to the disk in
//! any order, so whole frames may follow one that is not. These are not used, because they depend on what is missing. But
//! each frame says up to which number the changes were on disk before. If one of these is missing, the folder is damaged
//! or incomplete, and no crash has done that.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use asynchat::bytes::Bytes;

use super::Error;
use super::folder::{options, sync_folder};
use super::frames::{Beginning, Frames, write_frame};
use super::rows::Op;

/// The names of the files.
pub const NAMES: [&str; 2] = ["kvd.log.1", "kvd.log.2"];

/// The files change places when one has more bytes than this.
const MANY_BYTES: u64 = 1 << 20;

pub struct Log {
    files: [LogFile; 2],
    beginning: Beginning,
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
    /// The number of the missing frame behind which this file has frames that are not used.
    unused_after: Option<u64>,
}

impl Log {
    /// Opens the log in this directory. `saved` is the number of the last frame that is in the database, and `marker` the
    /// random number of the folder.
    pub fn open(dir: &Path, is_synced: bool, saved: u64, marker: u64) -> Result<Log, Error> {
        // The second file is created last, and before anything is written to the first one.
        let [first, second] = NAMES.map(|name| fs::metadata(dir.join(name)));
        let is_new = saved == 0 && second.is_err() && first.map_or(true, |it| it.len() == 0);
        let log = Log {
            files: [
                LogFile::open(dir.join(NAMES[0]), is_new)?,
                LogFile::open(dir.join(NAMES[1]), is_new)?,
            ],
            beginning: Beginning::new(marker),
            current: 0,
            last: 0,
            is_synced,
        };
        sync_folder(dir)?;
        Ok(log)
    }

    /// Its files, for another thread.
    pub fn handles(&self) -> io::Result<[File; 2]> {
        let [first, second] = &self.files;
        Ok([first.file.try_clone()?, second.file.try_clone()?])
    }

    /// Reads what was changed after the frame with this number. Returns the number of the last frame.
    pub fn replay(&mut self, after: u64, change: &mut dyn FnMut(Op)) -> Result<u64, Error> {
        self.last = after;
        let mut unused = 0;
        let mut files = Vec::new();
        for it in &mut self.files {
            let mut frames = Frames::new(it.read()?, self.beginning);
            files.push((frames.next(), frames, it));
        }
        files.sort_by_key(|(first, ..)| first.as_ref().map(|it| it.number));
        for (first, mut frames, file) in files {
            let path = file.path.display();
            for frame in first.into_iter().chain(&mut frames) {
                let wanted = self.last + 1;
                if frame.number == wanted {
                    frame.ops.into_iter().for_each(&mut *change);
                    self.last = wanted;
                } else if frame.durable >= wanted {
                    let (last, number) = (frame.number - 1, frame.number);
                    return Err(format!(
                        "{path}: the frames {wanted} to {last} were on disk, and are missing before frame {number}: the \
                         folder is damaged or incomplete"
                    )
                    .into());
                } else if frame.number > wanted {
                    unused += 1;
                    file.unused_after = Some(wanted);
                }
            }
            if frames.are_foreign() {
                return Err(format!("{path}: the file belongs to another kvd.redb").into());
            }
            if frames.skipped > 0 {
                let bytes = frames.skipped;
                tracing::warn!(%path, bytes, "the log has something that is no frame, as after a crash, which is ignored");
            }
        }
        if unused > 0 {
            let missing = self.last + 1;
            tracing::error!(
                unused,
                missing,
                "frames of the log are not used, because one is missing before them"
            );
        }
        Ok(self.last)
    }

    /// Empties the log: all of it is in the database. The system has that on disk, too: behind a gap there may be frames
    /// that were ignored, and whose numbers are used again. A copy of these stays: after a crash of the system they are the
    /// last second, but damage of the disk looks the same.
    pub fn clear(&mut self) -> Result<(), Error> {
        self.files.iter_mut().try_for_each(|it| {
            let cleared = it
                .copy_unused()
                .and_then(|()| it.clear())
                .and_then(|()| it.file.sync_all());
            cleared.map_err(|error| it.named(&error).into())
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
        let durable = if self.is_synced { self.last } else { saved };
        let written =
            write_frame(&file.file, self.beginning, number, durable, ops).and_then(|len| {
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
    fn open(path: PathBuf, is_new: bool) -> Result<LogFile, Error> {
        let file = options()
            .create(is_new)
            .open(&path)
            .and_then(|file| file.sync_all().map(|()| file))
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    format!(
                        "{}: the file is missing: the folder is incomplete",
                        path.display()
                    )
                }
                _ => format!("{}: {error}", path.display()),
            })?;
        Ok(LogFile {
            path,
            file,
            len: 0,
            last: 0,
            is_torn: false,
            unused_after: None,
        })
    }

    fn read(&mut self) -> io::Result<Bytes> {
        let mut data = Vec::new();
        let read = self
            .file
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.file.read_to_end(&mut data));
        match read {
            Ok(_) => Ok(data.into()),
            Err(error) => Err(self.named(&error)),
        }
    }

    /// The error, with the name of the file.
    fn named(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
    }

    /// Copies the file if it has frames that are not used.
    fn copy_unused(&mut self) -> io::Result<()> {
        if let Some(missing) = self.unused_after.take() {
            let mut copy = self.path.clone().into_os_string();
            copy.push(format!(".damaged-{missing}"));
            fs::copy(&self.path, &copy)?;
            tracing::error!(
                ?copy,
                "the frames of the log that are not used are in this copy"
            );
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use asynchat::bytes::Bytes;

    use super::*;

    fn put(text: &str) -> [Op; 1] {
        [Op::Put(
            text.into(),
            Bytes::copy_from_slice(text.as_bytes()),
        )]
    }

    const MARKER: u64 = 0x0123_4567_89AB_CDEF;

    fn open(dir: &Path, is_synced: bool) -> Log {
        Log::open(dir, is_synced, 0, MARKER).unwrap()
    }

    /// What is in the log behind this frame, and the number of the last one.
    fn replayed(dir: &Path, after: u64) -> (Vec<String>, u64) {
        let mut names = Vec::new();
        let mut log = open(dir, false);
        let last = log.replay(after, &mut |op| match op {
            Op::Put(name, content) => {
                assert_eq!(name, content);
                names.push(String::from_utf8(name).unwrap());
            }
            _ => panic!("another record"),
        });
        (names, last.unwrap())
    }

    fn refusal(dir: &Path, after: u64) -> String {
        let outcome = open(dir, false).replay(after, &mut |_| ());
        outcome.unwrap_err().to_string()
    }

    #[test]
    fn what_was_appended_is_read_up_to_the_first_frame_that_is_not_complete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kvd.log.1");
        let mut log = open(dir.path(), true);
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
        for at in ends[2] as usize..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x41;
            std::fs::write(&path, &damaged).unwrap();
            assert_eq!(replayed(dir.path(), 0).1, 2, "{at}");
        }
        std::fs::write(&path, [&whole[..], &[0; 100]].concat()).unwrap();
        assert_eq!(replayed(dir.path(), 0).1, 3);
    }

    /// No crash damages what was on disk.
    #[test]
    fn a_damaged_frame_that_was_on_disk_before_the_last_one_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kvd.log.1");
        let mut log = open(dir.path(), true);
        for text in ["a", "bb"] {
            log.append(&put(text), 0).unwrap();
        }
        let end = std::fs::metadata(&path).unwrap().len();
        log.append(&put("ccc"), 0).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for at in 0..end as usize {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x41;
            std::fs::write(&path, &damaged).unwrap();
            let error = refusal(dir.path(), 0);
            assert!(error.contains("kvd.log.1: the frames "), "{at}: {error}");
            assert!(error.contains("are missing before frame "), "{at}: {error}");
        }
        // What is in the database already may be damaged.
        let mut damaged = whole;
        damaged[20] ^= 0x41;
        std::fs::write(&path, &damaged).unwrap();
        assert_eq!(replayed(dir.path(), 1).1, 3);
    }

    /// The system writes the last second to the disk in any order.
    #[test]
    fn frames_behind_a_gap_that_a_crash_may_leave_are_not_used_and_stay_in_a_copy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kvd.log.1");
        let mut log = open(dir.path(), false);
        let mut ends = vec![0];
        for (saved, text) in [(0, "a"), (1, "bb"), (1, "ccc"), (1, "dddd")] {
            log.append(&put(text), saved).unwrap();
            ends.push(std::fs::metadata(&path).unwrap().len() as usize);
        }
        let whole = std::fs::read(&path).unwrap();
        let with_gap = |frame: usize| {
            let mut torn = whole.clone();
            torn[ends[frame - 1]..ends[frame]].fill(0);
            std::fs::write(&path, &torn).unwrap();
            torn
        };
        let torn = with_gap(3);
        let (names, last) = replayed(dir.path(), 0);
        assert_eq!((names.len(), last), (2, 2));
        let mut log = open(dir.path(), false);
        log.replay(1, &mut |_| ()).unwrap();
        log.clear().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        let copy = dir.path().join("kvd.log.1.damaged-3");
        assert_eq!(std::fs::read(copy).unwrap(), torn);
        // The first one was on disk: the others say so.
        with_gap(1);
        refusal(dir.path(), 0);
        assert_eq!(replayed(dir.path(), 1).1, 4);
    }

    #[test]
    fn a_log_that_begins_behind_the_database_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), false);
        log.replay(7, &mut |_| ()).unwrap();
        assert_eq!(log.append(&put("a"), 7).unwrap(), 8);
        assert_eq!(replayed(dir.path(), 7).1, 8);
        for after in [0, 6] {
            let error = refusal(dir.path(), after);
            assert!(error.contains("to 7 were on disk"), "{error}");
        }
    }

    #[test]
    fn a_missing_file_is_an_error_unless_the_folder_is_new() {
        let dir = tempfile::tempdir().unwrap();
        let remove = |name| fs::remove_file(dir.path().join(name)).unwrap();
        let refused = |name: &str, saved| {
            let error = Log::open(dir.path(), false, saved, MARKER)
                .map(drop)
                .unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        };
        open(dir.path(), false);
        remove("kvd.log.1");
        refused("kvd.log.1: ", 0);
        remove("kvd.log.2");
        refused("kvd.log.1: ", 1);
        // As after a crash between the creation of the two.
        open(dir.path(), false);
        remove("kvd.log.2");
        let mut log = open(dir.path(), false);
        log.append(&put("a"), 0).unwrap();
        drop(log);
        remove("kvd.log.2");
        refused("kvd.log.2: ", 0);
    }

    /// What follows a frame that is not whole may be a value that a client has made up.
    #[test]
    fn frames_inside_a_value_are_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kvd.log.1");
        // Of another folder, whose marker is known to the client.
        let made_up = tempfile::tempdir().unwrap();
        let mut log = Log::open(made_up.path(), false, 0, !MARKER).unwrap();
        for text in ["a", "bb", "ccc"] {
            log.append(&put(text), 0).unwrap();
        }
        let value = std::fs::read(made_up.path().join("kvd.log.1")).unwrap();
        let mut log = open(dir.path(), true);
        log.append(&put("real"), 0).unwrap();
        let end = std::fs::metadata(&path).unwrap().len() as usize;
        log.append(&[Op::Put(b"large".to_vec(), value.into())], 0)
            .unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in (end..whole.len()).step_by(7) {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(replayed(dir.path(), 0), (vec!["real".into()], 1), "{cut}");
        }
    }

    /// Heads of frames that are not whole do not make a start take long, however many there are.
    #[test]
    fn many_beginnings_of_frames_are_skipped() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), true);
        let mut frame = b"kvd4".to_vec();
        frame.extend(MARKER.to_le_bytes());
        std::fs::write(dir.path().join("kvd.log.1"), frame.repeat(100_000)).unwrap();
        assert_eq!(replayed(dir.path(), 0), (vec![], 0));
    }

    #[test]
    fn the_log_of_another_folder_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(dir.path(), true, 0, !MARKER).unwrap();
        log.append(&put("a"), 0).unwrap();
        let error = refusal(dir.path(), 0);
        assert!(
            error.ends_with("kvd.log.1: the file belongs to another kvd.redb"),
            "{error}"
        );
    }

    /// The log would be emptied after that.
    #[test]
    fn a_file_that_cannot_be_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), false);
        log.append(&put("a"), 0).unwrap();
        let path = dir.path().join("kvd.log.1");
        log.files[0].file = fs::OpenOptions::new().write(true).open(&path).unwrap();
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
        let mut log = open(dir.path(), false);
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
        refusal(dir.path(), 0);
    }
}

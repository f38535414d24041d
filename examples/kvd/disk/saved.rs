//! The file of redb: opening it, after an error of the disk once more, and what a start reads from it.

use std::any::Any;
use std::fs;
use std::io;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::Database;

use super::Error;
use super::file::{DatabaseFile, Unsynced};
use super::folder::{is_missing_or_empty, sync_folder};
use super::log::Log;
use super::tables;
use super::unsaved::Unsaved;
use crate::store::keyspace::Keyspace;

/// redb's cache. The keyspace is in memory anyway.
const CACHE: usize = 64 << 20;

/// The database. After an error of the disk it is opened again: redb refuses all work until then.
pub struct Saved {
    path: PathBuf,
    database: Option<Database>,
    unsynced: Arc<Unsynced>,
    /// The number of the last frame of the log that was in the database when it was opened.
    pub number: u64,
    /// The marker of the log's frames.
    pub marker: u64,
}

impl Saved {
    /// Opens the file, or creates it, and compares all its pages with their checksums. That takes a fifth of the time of a
    /// start.
    pub fn open(path: PathBuf) -> Result<Saved, Error> {
        let mut saved = Saved {
            unsynced: Unsynced::new(&path),
            path,
            database: None,
            number: 0,
            marker: 0,
        };
        (saved.number, saved.marker) = saved.at_start(|saved| {
            saved.create()?;
            tables::prepare(saved.database()?)
        })?;
        saved.at_start(Saved::check)?;
        Ok(saved)
    }

    /// Creates the file if it is missing or empty. It has another name until the tables are in it, on disk: redb refuses a
    /// file that it has only begun to create, as on a full disk.
    fn create(&self) -> Result<(), Error> {
        let new = self.path.with_extension("redb.new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        if is_missing_or_empty(&self.path)? {
            let outcome = self.create_as(&new);
            if outcome.is_err() {
                let _ = fs::remove_file(&new);
            }
            outcome?;
        }
        Ok(())
    }

    fn create_as(&self, new: &Path) -> Result<(), Error> {
        tables::prepare(&open(new, &self.unsynced)?)?;
        fs::rename(new, &self.path)?;
        match self.path.parent() {
            Some(dir) => Ok(sync_folder(dir)?),
            None => Ok(()),
        }
    }

    fn database(&mut self) -> Result<&Database, Error> {
        let database = match self.database.take() {
            Some(database) => database,
            None => open(&self.path, &self.unsynced)?,
        };
        Ok(self.database.insert(database))
    }

    fn check(&mut self) -> Result<(), Error> {
        match self.database.as_mut().map(Database::check_integrity) {
            // After a repair there may be an earlier state.
            Some(Ok(false)) if tables::prepare(self.database()?)? != (self.number, self.marker) => {
                Err("damaged: the last state is lost".into())
            }
            Some(Err(error)) => {
                // It would panic when it is closed.
                mem::forget(self.database.take());
                Err(format!("damaged: {error}").into())
            }
            _ => Ok(()),
        }
    }

    /// Reads all keys, with the changes that are in the log only, and the number of the last frame of the log.
    pub fn load(&mut self, log: &mut Log) -> Result<(Keyspace, u64), Error> {
        let mut unsaved = Unsaved::default();
        let number = log.replay(self.number, &mut |op| unsaved.add(op))?;
        let keyspace = self.at_start(|saved| {
            if !unsaved.is_empty() {
                saved.save(number, &unsaved)?;
                let frames = number - saved.number;
                tracing::info!(frames, "the changes in the log are in the database");
            }
            tables::load(saved.database()?)
        })?;
        log.clear()?;
        Ok((keyspace, number))
    }

    /// Gives the disk back what removed rows have left: redb uses it again, but does not make the file smaller.
    pub fn compact(&mut self) -> Result<(), Error> {
        self.at_start(|saved| {
            saved.database()?;
            if let Some(database) = &mut saved.database {
                database.compact()?;
            }
            Ok(())
        })
    }

    /// Does all of it, durably, or nothing. `number` is that of the last frame of the log. Some dead rows are removed,
    /// too. Returns whether there are more of these.
    pub fn save(&mut self, number: u64, unsaved: &Unsaved) -> Result<bool, Error> {
        let outcome = self
            .database()
            .and_then(|database| tables::save(database, number, unsaved));
        if outcome.is_err() {
            self.database = None;
        }
        outcome
    }

    /// The error has the name of the file. redb panics with some damaged files: nothing but this shows that they are
    /// damaged.
    fn at_start<T>(
        &mut self,
        run: impl FnOnce(&mut Saved) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| run(self)));
        let error = match outcome {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => {
                // What is left of it must not write to the file.
                mem::forget(self.database.take());
                format!("damaged: {}", message(&*panic))
            }
        };
        Err(format!("{}: {error}", self.path.display()).into())
    }
}

fn open(path: &Path, unsynced: &Arc<Unsynced>) -> Result<Database, Error> {
    let file = DatabaseFile::open(path, unsynced)?;
    let mut builder = Database::builder();
    Ok(builder.set_cache_size(CACHE).create_with_backend(file)?)
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("redb has panicked")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Mutex, MutexGuard};

    use asynchat::bytes::Bytes;
    use redb::StorageBackend;

    use super::*;
    use crate::disk::names::{KEY, name_of};
    use crate::disk::rows::{Kind, Op};
    use crate::store::number::Digits;

    const MARKER: &[u8] = b"the content of a row";

    /// A file with some rows. Nobody loads them.
    fn written(path: &Path) -> Vec<u8> {
        let mut saved = Saved::open(path.into()).unwrap();
        let mut unsaved = Unsaved::default();
        for number in 0..2_000u32 {
            let name = [&[KEY, 0, 0], &number.to_be_bytes()[..]].concat();
            unsaved.add(Op::Put(name, Bytes::from_static(MARKER)));
        }
        saved.save(1, &unsaved).unwrap();
        drop(saved);
        fs::read(path).unwrap()
    }

    #[test]
    fn a_file_that_was_cut_is_an_error_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kvd.redb");
        let whole = written(&path);
        // Each in a file of its own: redb keeps the lock of one with which it panicked.
        for len in [100, 4096, 8192, whole.len() / 2, whole.len() - 4096] {
            let name = format!("{len}.redb");
            let path = dir.path().join(&name);
            fs::write(&path, &whole[..len]).unwrap();
            let error = Saved::open(path).map(drop).unwrap_err();
            let error = error.to_string();
            assert!(error.contains(&format!("{name}: ")), "{error}");
        }
    }

    #[test]
    fn a_file_becomes_smaller_when_its_rows_were_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kvd.redb");
        let len = || fs::metadata(&path).unwrap().len();
        let name = |number: u32| [&[KEY, 0, 0], &number.to_be_bytes()[..]].concat();
        let content = Bytes::from(vec![b'x'; 10_000]);
        let mut saved = Saved::open(path.clone()).unwrap();
        let (mut stored, mut removed) = (Unsaved::default(), Unsaved::default());
        for number in 0..2_000 {
            stored.add(Op::Put(name(number), content.clone()));
            removed.add(Op::Delete(name(number)));
        }
        saved.save(1, &stored).unwrap();
        saved.save(2, &removed).unwrap();
        let before = len();
        saved.compact().unwrap();
        drop(saved);
        assert!(len() < before / 2, "{before} {}", len());
        assert_eq!(Saved::open(path.clone()).unwrap().number, 2);
    }

    #[test]
    fn a_changed_byte_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kvd.redb");
        let mut data = written(&path);
        Saved::open(path.clone()).unwrap();
        // Pages that are not used any more have some of the rows, too.
        for at in 0..data.len() - MARKER.len() {
            if data[at..].starts_with(MARKER) {
                data[at] ^= 1;
            }
        }
        fs::write(&path, &data).unwrap();
        let error = Saved::open(path).map(drop).unwrap_err();
        assert!(error.to_string().contains("kvd.redb: damaged: "), "{error}");
    }

    /// A file in memory, and what was done with it.
    #[derive(Clone, Debug, Default)]
    struct Disk(Arc<Mutex<Recorded>>);

    #[derive(Debug, Default)]
    struct Recorded {
        data: Vec<u8>,
        steps: Vec<Step>,
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(usize, Vec<u8>),
        SetLen(usize),
        Sync,
    }

    impl Step {
        /// What is behind the end of a file is not on disk.
        fn run(&self, data: &mut Vec<u8>) {
            match self {
                Step::Write(at, new) => {
                    let end = data.len().min(at + new.len());
                    if let Some(old) = data.get_mut(*at..end) {
                        old.copy_from_slice(&new[..end - at]);
                    }
                }
                Step::SetLen(len) => data.resize(*len, 0),
                Step::Sync => {}
            }
        }
    }

    impl Disk {
        fn new(data: Vec<u8>) -> Disk {
            let recorded = Recorded {
                data,
                steps: Vec::new(),
            };
            Disk(Arc::new(Mutex::new(recorded)))
        }

        fn recorded(&self) -> MutexGuard<'_, Recorded> {
            self.0.lock().unwrap()
        }

        fn run(&self, step: Step) -> io::Result<()> {
            let mut recorded = self.recorded();
            step.run(&mut recorded.data);
            recorded.steps.push(step);
            Ok(())
        }

        /// Opens the file as a start does.
        fn start(&self) -> Result<Saved, Error> {
            let path = PathBuf::from("not on disk");
            let unsynced = Unsynced::new(&path);
            let file = DatabaseFile::new(self.clone(), &unsynced)?;
            let builder = &mut Database::builder();
            let mut saved = Saved {
                database: Some(builder.set_cache_size(CACHE).create_with_backend(file)?),
                path,
                unsynced,
                number: 0,
                marker: 0,
            };
            (saved.number, saved.marker) = tables::prepare(saved.database()?)?;
            saved.check()?;
            Ok(saved)
        }
    }

    impl StorageBackend for Disk {
        fn len(&self) -> io::Result<u64> {
            Ok(self.recorded().data.len() as u64)
        }

        fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
            let at = offset as usize;
            Ok(self.recorded().data[at..at + len].to_vec())
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.run(Step::SetLen(len as usize))
        }

        fn sync_data(&self, _: bool) -> io::Result<()> {
            self.run(Step::Sync)
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.run(Step::Write(offset as usize, data.to_vec()))
        }
    }

    const ROWS: u32 = 32;

    type Contents = BTreeMap<u32, u8>;

    /// Stores a letter in each row of these numbers.
    fn changes(letter: u8, numbers: impl Iterator<Item = u32>) -> Unsaved {
        let mut unsaved = Unsaved::default();
        for number in numbers {
            let name = name_of(vec![KEY, 0], &number.to_be_bytes());
            let head = [&[Kind::String as u8][..], &[0; 16]].concat();
            let content = vec![letter; 500];
            unsaved.add(Op::Put(name, [head, content].concat().into()));
        }
        unsaved
    }

    fn contents(saved: &mut Saved) -> Result<Contents, Error> {
        let mut keyspace = tables::load(saved.database()?)?;
        let mut found = Contents::new();
        for number in 0..ROWS {
            let value = keyspace.database(0).find(&number.to_be_bytes());
            if let Some(text) =
                value.and_then(|it| it.text(&mut Digits::default()).map(<[u8]>::to_vec))
            {
                found.insert(number, text[0]);
            }
        }
        Ok(found)
    }

    /// What a start reads. It makes a transaction, and then checks whether that has written over rows.
    fn read_by_start(data: Vec<u8>) -> Result<(u64, Contents), Error> {
        let disk = Disk::new(data);
        let mut saved = disk.start()?;
        let found = (saved.number, contents(&mut saved)?);
        // An orderly end takes long.
        mem::forget(saved.database.take());
        disk.recorded().data = Vec::new();
        Ok(found)
    }

    /// What may be on disk after a crash of the system: all steps up to the last sync, and of those behind it all, none,
    /// all but one, or one. All of them is also what the end of the process leaves.
    fn each_crash(base: &[u8], steps: &[Step], check: &mut dyn FnMut(String, &[u8])) {
        let mut synced = base.to_vec();
        let mut from = 0;
        let mut seen: Vec<Vec<u8>> = Vec::new();
        for end in 0..=steps.len() {
            let waiting = &steps[from..end];
            let mut crash = |what: &str, is_done: &dyn Fn(usize) -> bool| {
                let mut data = synced.clone();
                let done = waiting.iter().enumerate().filter(|(at, _)| is_done(*at));
                done.for_each(|(_, step)| step.run(&mut data));
                if !seen.contains(&data) {
                    check(format!("{what} of {from}..{end}"), &data);
                    seen.push(data);
                }
            };
            crash("all", &|_| true);
            if matches!(steps.get(end), None | Some(Step::Sync)) {
                for one in 0..waiting.len() {
                    crash(&format!("all but {one}"), &|at| at != one);
                    crash(&format!("only {one}"), &|at| at == one);
                }
                waiting.iter().for_each(|step| step.run(&mut synced));
                from = end;
                seen.retain(|it| *it == synced);
            }
        }
    }

    /// With the end of the process or of the system between any two steps of a start.
    #[test]
    fn a_start_that_ends_early_leaves_a_file_with_all_rows() {
        let disk = Disk::default();
        let mut saved = disk.start().unwrap();
        saved.save(1, &changes(b'a', 0..ROWS)).unwrap();
        let part = (0..ROWS).step_by(2);
        saved.save(2, &changes(b'b', part)).unwrap();
        let killed = disk.recorded().data.clone();
        let wanted = (2, contents(&mut saved).unwrap());
        drop(saved);
        let closed = disk.recorded().data.clone();
        for base in [killed, closed] {
            let disk = Disk::new(base.clone());
            mem::forget(disk.start().unwrap().database);
            let steps = disk.recorded().steps.clone();
            each_crash(&base, &steps, &mut |what, data| {
                let found = panic::catch_unwind(|| {
                    read_by_start(data.to_vec()).map_err(|it| it.to_string())
                });
                match found {
                    Ok(Ok(found)) => assert!(found == wanted, "{what}"),
                    Ok(Err(error)) => panic!("{what}: {error}"),
                    Err(panic) => panic!("{what}: {}", message(&*panic)),
                }
            });
        }
    }

    /// The header has the size of the file.
    #[test]
    fn a_header_without_the_growth_of_the_file_is_not_left_by_a_crash() {
        let disk = Disk::default();
        let mut saved = disk.start().unwrap();
        saved.save(1, &changes(b'a', 0..ROWS)).unwrap();
        let base = {
            let mut recorded = disk.recorded();
            recorded.steps.clear();
            recorded.data.clone()
        };
        let mut large = Unsaved::default();
        let name = |number: u32| name_of(vec![KEY, 0], &number.to_be_bytes());
        for number in ROWS..ROWS + 40 {
            large.add(Op::Put(name(number), vec![b'x'; 60_000].into()));
        }
        saved.save(2, &large).unwrap();
        drop(saved);
        let steps = disk.recorded().steps.clone();
        let is_growth = |step: &Step| matches!(step, Step::SetLen(len) if *len > base.len());
        assert!(steps.iter().any(is_growth));
        let mut data = base.clone();
        for flush in steps.split(|it| matches!(it, Step::Sync)) {
            for header in flush.iter().filter(|it| matches!(it, Step::Write(0, _))) {
                let mut data = data.clone();
                header.run(&mut data);
                assert_eq!(Disk::new(data).start().unwrap().number, 1);
            }
            flush.iter().for_each(|step| step.run(&mut data));
            if flush.iter().any(|step| matches!(step, Step::Write(0, _))) {
                break;
            }
        }
    }

    #[test]
    fn a_start_that_could_not_create_the_file_leaves_none_that_the_next_one_refuses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kvd.redb");
        let new = dir.path().join("kvd.redb.new");
        // What the end of the process may leave: redb writes first the size, and last how the file begins.
        fs::write(&new, [0; 10_000]).unwrap();
        drop(Saved::open(path.clone()).unwrap());
        assert!(path.exists() && !new.exists());
        // The file is complete under its name.
        written(&path);
        fs::write(&new, "").unwrap();
        assert_eq!(Saved::open(path.clone()).unwrap().number, 1);
        assert!(!new.exists());
        // The old file stays if the new one cannot be created.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&new).unwrap();
        let error = Saved::open(path.clone()).map(drop).unwrap_err();
        assert!(error.to_string().contains("kvd.redb: "), "{error}");
        assert!(!path.exists());
        fs::remove_dir(&new).unwrap();
        assert_eq!(Saved::open(path).unwrap().number, 0);
    }
}

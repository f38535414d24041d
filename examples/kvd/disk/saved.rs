//! The file of redb: opening it, after an error of the disk once more, and what a start reads from it.

use std::any::Any;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::Arc;

use redb::Database;

use super::Error;
use super::file::{DatabaseFile, Unsynced};
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
        (saved.number, saved.marker) =
            saved.at_start(|saved| tables::prepare(saved.database()?))?;
        saved.at_start(Saved::check)?;
        Ok(saved)
    }

    fn database(&mut self) -> Result<&Database, Error> {
        let database = match self.database.take() {
            Some(database) => database,
            None => Database::builder()
                .set_cache_size(CACHE)
                .create_with_backend(DatabaseFile::open(&self.path, &self.unsynced)?)?,
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

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("redb has panicked")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use asynchat::bytes::Bytes;

    use super::*;
    use crate::disk::names::KEY;
    use crate::disk::rows::Op;

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
}

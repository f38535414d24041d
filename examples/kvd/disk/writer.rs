//! The thread that appends to the log.
//!
//! It takes the batches that wait, up to a large one, and appends them as one frame. Only then it sends the replies that
//! wait for them. If the disk is full, the thread keeps the changes, and tries again after some time (`retry.rs`), whatever
//! comes meanwhile: keys that expire are changes, too. Of each row it keeps the last change only: what is too much for the disk
//! may be removed meanwhile. New commands that write are refused, unless they only remove keys. A reply without an error promises
//! that the change is in the log. So an error takes the place of the reply to a command that was executed, which says that the
//! change is in memory; but a reply with what a command has removed waits until there is room, because nobody else has that any
//! more.

use std::fs::File;
use std::mem;
use std::ops::Add;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Error;
use super::delayed::{Delayed, not_written};
use super::folder::{self, lock, sync_folder};
use super::journal::AppendFsync;
use super::log::Log;
use super::retry::Retry;
use super::rows::Op;
use super::saved::Saved;
use super::saver::{Logged, save_batches};
use super::size::Size;
use super::status::{Alive, DIED, Status};
use super::syncer::Syncer;
use super::unsaved::{Unsaved, last_changes};
use crate::store::keyspace::Keyspace;

/// How long changes may be given to the system only, with `everysec`.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// Batches of more bytes than this are not appended together with what comes later. Who waits for one of several large
/// changes does not wait for all of them.
pub const MUCH: usize = 1 << 20;

/// What was changed since the last batch, on all workers, and the replies of one of them.
pub struct Batch {
    pub ops: Vec<Op>,
    /// How many commands that write were executed so far.
    pub executed: u64,
    pub delayed: Vec<Delayed>,
}

impl Batch {
    /// The bytes of memory of the changes.
    pub fn size(&self) -> Size {
        let sizes = self.ops.iter().map(|it| Size::of(it.size()));
        sizes.fold(Size::default(), Size::add)
    }

    /// Those of the replies.
    fn size_of_replies(&self) -> Size {
        let sizes = self.delayed.iter().map(Delayed::size);
        sizes.fold(Size::default(), Size::add)
    }
}

/// Appends changes to the log. The number is that of the last frame in the database. Returns that of the new one.
pub type Append = dyn FnMut(&[Op], u64) -> Result<u64, Error> + Send;

/// Puts what is in the log up to this frame into the database, durably.
/// Some dead rows are removed, too, also without any changes. Returns whether there are more of these.
pub type Save = dyn FnMut(u64, &Unsaved) -> Result<bool, Error> + Send;

/// What the threads write to. Each does all of it, or nothing.
pub struct Files {
    pub append: Box<Append>,
    pub save: Box<Save>,
    /// The number of the last frame.
    pub last: u64,
    /// How long changes may be in the log only.
    pub interval: Duration,
}

/// The threads, while they can be reached.
struct Open {
    batches: Sender<Batch>,
    threads: [JoinHandle<Result<(), Error>>; 2],
}

/// The threads, and the way to them, for all workers.
pub struct Writer {
    pub status: Arc<Status>,
    /// `None` once it is closed.
    open: Mutex<Option<Open>>,
}

impl Writer {
    /// Opens the log and the database in `dir`, or creates them, and loads what is in them. `on_death` is called if a
    /// thread ends by itself.
    pub fn open(
        dir: &Path,
        sync: AppendFsync,
        on_death: impl Fn() + Send + Sync + 'static,
    ) -> Result<(Writer, Keyspace), Error> {
        folder::create(dir)?;
        // Both threads hold it, as long as they may write.
        let lock = Arc::new(lock(dir)?);
        let of_saver = Arc::clone(&lock);
        let mut saved = Saved::open(folder::database(dir)?)?;
        // The name of the database is on disk before those of the log.
        sync_folder(dir)?;
        let mut log = Log::open(dir, sync == AppendFsync::Always, saved.number, saved.marker)?;
        let (keyspace, last) = saved.load(&mut log)?;
        let syncer = match sync {
            AppendFsync::Everysec => {
                let files = log.handles()?;
                let sync = move || files.iter().try_for_each(File::sync_data);
                Some(Syncer::start(SYNC_INTERVAL, sync)?)
            }
            AppendFsync::Always | AppendFsync::No => None,
        };
        let files = Files {
            append: Box::new(move |ops, saved| {
                let _ = &lock;
                let number = log.append(ops, saved)?;
                if let Some(syncer) = &syncer {
                    syncer.note_append();
                }
                Ok(number)
            }),
            save: Box::new(move |number, unsaved| {
                let _ = &of_saver;
                saved.save(number, unsaved)
            }),
            last,
            interval: sync.interval(),
        };
        Ok((Writer::start(files, on_death)?, keyspace))
    }

    /// Reads what is in `dir` as a start does, and makes the database as small as possible if that is wanted. Returns the
    /// number of keys.
    pub fn check(dir: &Path, compacts: bool) -> Result<usize, Error> {
        let _lock = lock(dir)?;
        let path = folder::database(dir)?;
        if !path.exists() {
            return Err(format!("{}: the file is missing", path.display()).into());
        }
        let mut saved = Saved::open(path)?;
        let mut log = Log::open(dir, false, saved.number, saved.marker)?;
        let (mut keyspace, number) = saved.load(&mut log)?;
        if compacts {
            // The rows of large values that were removed go a part at a time.
            while saved.save(number, &Unsaved::default())? {}
            saved.compact()?;
        }
        Ok(keyspace.databases().map(|it| it.len()).sum())
    }

    /// Starts the threads.
    pub fn start(
        files: Files,
        on_death: impl Fn() + Send + Sync + 'static,
    ) -> Result<Writer, Error> {
        let Files {
            mut append,
            mut save,
            last,
            interval,
        } = files;
        let (batches, waiting) = mpsc::channel();
        let (to_saver, logged) = mpsc::channel();
        let status = Arc::new(Status::default());
        status.saved.store(last, Ordering::Release);
        let on_death: Arc<dyn Fn() + Send + Sync> = Arc::new(on_death);
        let alive = || Alive::new(&status, &on_death);
        let threads = [
            spawn("log", alive(), move |status| {
                log_batches(
                    &mut *append,
                    last,
                    &waiting,
                    &to_saver,
                    status,
                    Instant::now,
                )
            })?,
            spawn("saver", alive(), move |status| {
                save_batches(&mut *save, interval, &logged, status)
            })?,
        ];
        Ok(Writer {
            status,
            open: Mutex::new(Some(Open { batches, threads })),
        })
    }

    /// Sends changes to the thread.
    pub fn send(&self, batch: Batch) {
        // Without the thread the promises are dropped, which ends their connections: nothing is acknowledged. The
        // thread itself has reported its end.
        if let Some(open) = &*self.lock() {
            let changes = batch.size();
            self.status.add_waiting(changes + batch.size_of_replies());
            self.status.add_unlogged(changes.total());
            let _ = open.batches.send(batch);
        }
    }

    /// Writes what was sent, and closes the files. The error says where the last changes are.
    pub fn close(&self) -> Result<(), Error> {
        let Some(Open { batches, threads }) = self.lock().take() else {
            return Ok(());
        };
        drop(batches);
        let [logged, saved] =
            threads.map(|thread| thread.join().unwrap_or_else(|_| Err(DIED.into())));
        let is_logged = logged.is_ok() && self.status.log.failure().is_none();
        logged.and(saved).map_err(|error| {
            if is_logged {
                format!("the last changes are in the log only, which the next start reads: {error}")
            } else {
                format!("changes are not on disk: {error}")
            }
            .into()
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn spawn(
    name: &str,
    alive: Alive,
    run: impl FnOnce(&Status) -> Result<(), Error> + Send + 'static,
) -> std::io::Result<JoinHandle<Result<(), Error>>> {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(move || {
        let outcome = run(&alive.status);
        alive.end();
        outcome
    })
}

/// Returns when no batch can come any more. What could not be written may still be saved in the database.
fn log_batches(
    append: &mut Append,
    mut number: u64,
    waiting: &Receiver<Batch>,
    logged: &Sender<Logged>,
    status: &Status,
    clock: impl Fn() -> Instant,
) -> Result<(), Error> {
    // What could not be written.
    let mut ops: Vec<Op> = Vec::new();
    // The replies that wait for it.
    let mut delayed: Vec<Delayed> = Vec::new();
    let (mut size, mut executed) = (Size::default(), 0);
    // Whether there are more changes than at the last attempt.
    let mut has_more = false;
    let mut retry = Retry::default();
    loop {
        let first = if retry.has_failed() {
            waiting.recv_timeout(retry.left(clock()))
        } else {
            waiting.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        let is_over = matches!(first, Err(RecvTimeoutError::Disconnected));
        for batch in first.into_iter().chain(waiting.try_iter()) {
            size += batch.size();
            executed = batch.executed;
            has_more |= !batch.ops.is_empty();
            ops.extend(batch.ops);
            delayed.extend(batch.delayed);
            // What is behind a large change goes into the next frame.
            if size.total() > MUCH && !retry.has_failed() {
                break;
            }
        }
        if !is_over && retry.left(clock()) > Duration::ZERO {
            let why = status.log.failure().unwrap_or_default();
            answer_after_failure(&mut delayed, &why, status);
            continue;
        }
        if mem::take(&mut has_more) && retry.has_failed() {
            ops = last_changes(ops);
        }
        let outcome = if ops.is_empty() {
            Ok(number)
        } else {
            append(&ops, status.saved.load(Ordering::Acquire))
        };
        status.log.set("log", &outcome);
        let has_failed = outcome.is_err();
        // An attempt may take longer than the time until the next one.
        retry.note(!has_failed, clock());
        let mut for_later = Vec::new();
        match outcome {
            Ok(last) => {
                number = last;
                status.remove_unlogged(size.total());
                status.set_logged(executed);
                for it in delayed.drain(..) {
                    if it.waits_for_database {
                        for_later.push(it);
                    } else {
                        it.send(status);
                    }
                }
            }
            Err(error) => answer_after_failure(&mut delayed, &error.to_string(), status),
        }
        // At the end the database may still have room for what the log has not.
        if !has_failed || is_over {
            // An error means that the other thread has died, which it has reported.
            let _ = logged.send(Logged {
                ops: mem::take(&mut ops),
                // A frame that has failed may be in the file, whole: a start must not read it.
                number: number + u64::from(has_failed),
                size: mem::take(&mut size),
                delayed: for_later,
            });
        }
        if is_over {
            return Ok(());
        }
    }
}

/// Sends the replies that need not wait until the log can be written.
fn answer_after_failure(delayed: &mut Vec<Delayed>, why: &str, status: &Status) {
    let error = not_written(why);
    for it in mem::take(delayed) {
        if it.has_taken {
            delayed.push(it);
        } else {
            it.refuse(&error, status);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;
    use crate::disk::changes::take_changes;
    use crate::disk::loader::Loader;
    use crate::store::list::{End, List};
    use crate::store::value::Value;

    fn send_op(batches: &Sender<Batch>, op: Op) {
        let batch = Batch {
            ops: vec![op],
            executed: 1,
            delayed: Vec::new(),
        };
        batches.send(batch).unwrap();
    }

    fn send(batches: &Sender<Batch>) {
        send_op(batches, Op::Delete(b"k".to_vec()));
    }

    #[test]
    fn what_comes_behind_a_large_change_is_in_the_next_frame() {
        let (batches, waiting) = mpsc::channel();
        let (logged, _saver) = mpsc::channel();
        send(&batches);
        for _ in 0..2 {
            let large = Batch {
                ops: vec![Op::Put(b"k".to_vec(), vec![b'x'; MUCH].into())],
                executed: 1,
                delayed: Vec::new(),
            };
            batches.send(large).unwrap();
        }
        send(&batches);
        send(&batches);
        drop(batches);
        let mut number = 0;
        let (sender, written) = mpsc::channel();
        let mut append = move |ops: &[Op], _| {
            sender.send(ops.len()).unwrap();
            number += 1;
            Ok(number)
        };
        let status = Status::default();
        log_batches(&mut append, 0, &waiting, &logged, &status, Instant::now).unwrap();
        drop(append);
        assert_eq!(written.iter().collect::<Vec<_>>(), [2, 1, 2]);
    }

    /// The rows of a large value that was removed are not removed at once.
    #[test]
    fn a_database_is_compacted_without_the_rows_of_removed_values() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kvd.redb");
        let mut saved = Saved::open(path.clone()).unwrap();
        Log::open(dir.path(), false, 0, saved.marker).unwrap();
        let mut keyspace = Loader::default().finish().unwrap();
        for (key, len) in [(b"other", 10), (b"large", 30_000)] {
            let mut list = List::default();
            for _ in 0..len {
                list.push(End::Right, vec![b'x'; 500].into());
            }
            let value = Value::List(Arc::new(list));
            keyspace.database(0).set(key, value, 0);
        }
        let mut save = |number, keyspace: &mut Keyspace| {
            let mut unsaved = Unsaved::default();
            take_changes(keyspace)
                .into_iter()
                .for_each(|op| unsaved.add(op));
            saved.save(number, &unsaved).unwrap()
        };
        save(1, &mut keyspace);
        keyspace.database(0).delete(b"large");
        let has_more = save(2, &mut keyspace);
        assert!(has_more);
        drop(saved);
        let len = || std::fs::metadata(&path).unwrap().len();
        let before = len();
        assert_eq!(Writer::check(dir.path(), true).unwrap(), 1);
        assert!(len() < before / 4, "{before} {}", len());
    }

    /// Each expired key is a batch.
    #[test]
    fn a_log_that_cannot_be_written_is_not_tried_for_each_batch() {
        let (batches, waiting) = mpsc::channel();
        let (logged, _saver) = mpsc::channel();
        send(&batches);
        // Whenever the thread looks at the time, there is another batch. There are no more after the time has stood still
        // for long, and then gone on.
        let (now, looks) = (Cell::new(Instant::now()), Cell::new(0));
        let batches = RefCell::new(Some(batches));
        let clock = || {
            looks.set(looks.get() + 1);
            match looks.get() {
                100 => now.set(now.get() + Duration::from_secs(1)),
                200 => drop(batches.take()),
                _ => {}
            }
            let key = looks.get().to_string().into_bytes();
            if let Some(batches) = &*batches.borrow() {
                send_op(batches, Op::Delete(key));
            }
            now.get()
        };
        let attempts = Arc::new(Mutex::new(Vec::new()));
        let of_log = Arc::clone(&attempts);
        let mut append = move |ops: &[Op], _| {
            of_log.lock().unwrap().push(ops.len());
            Err("full".into())
        };
        let outcome = log_batches(&mut append, 0, &waiting, &logged, &Status::default(), clock);
        assert!(outcome.is_ok());
        // The last one is that of the end. Nothing is lost.
        let attempts = attempts.lock().unwrap();
        assert_eq!((attempts.len(), attempts[0]), (3, 1), "{attempts:?}");
        assert!(attempts[1] > 90 && attempts[2] > 190, "{attempts:?}");
    }

    /// Otherwise nothing could be written any more.
    #[test]
    fn what_is_removed_while_the_disk_is_full_needs_no_room_any_more() {
        let (batches, waiting) = mpsc::channel();
        let (logged, saver) = mpsc::channel();
        let put = |name: &[u8], len| Op::Put(name.to_vec(), vec![b'x'; len].into());
        send_op(&batches, put(b"k", 2 * MUCH));
        let mut batches = Some(batches);
        let mut append = move |ops: &[Op], _| {
            let is_large = ops.iter().map(Op::size).sum::<usize>() > MUCH;
            let Some(batches) = batches.take_if(|_| !is_large) else {
                if let Some(batches) = &batches {
                    send_op(batches, put(b"other", 1));
                    send_op(batches, Op::Delete(b"k".to_vec()));
                }
                return Err("full".into());
            };
            drop(batches);
            Ok(7)
        };
        // The next attempt is always due.
        let now = Cell::new(Instant::now());
        let clock = || {
            now.set(now.get() + Duration::from_secs(1));
            now.get()
        };
        let status = Status::default();
        log_batches(&mut append, 6, &waiting, &logged, &status, clock).unwrap();
        assert_eq!(status.log.failure(), None);
        let written = saver.recv().unwrap();
        assert_eq!(written.number, 7);
        let names = written.ops.iter().map(|op| match op {
            Op::Delete(name) => (&name[..], 0),
            Op::Put(name, content) => (&name[..], content.len()),
            _ => unreachable!("there is no other change"),
        });
        assert_eq!(names.collect::<Vec<_>>(), [(&b"k"[..], 0), (b"other", 1)]);
    }

    /// A disk that answers slowly is not asked without a pause.
    #[test]
    fn the_time_until_the_next_attempt_begins_at_the_end_of_the_last_one() {
        let (batches, waiting) = mpsc::channel();
        let (logged, _saver) = mpsc::channel();
        send(&batches);
        let (now, looks) = (Arc::new(Mutex::new(Instant::now())), Cell::new(0));
        let batches = RefCell::new(Some(batches));
        let clock = || {
            looks.set(looks.get() + 1);
            if looks.get() == 100 {
                drop(batches.take());
            }
            batches.borrow().iter().for_each(send);
            *now.lock().unwrap()
        };
        let attempts = Arc::new(Mutex::new(0));
        let (of_log, time) = (Arc::clone(&attempts), Arc::clone(&now));
        // Each attempt takes ten seconds. Nothing else takes any time.
        let mut append = move |_: &[Op], _| {
            *of_log.lock().unwrap() += 1;
            *time.lock().unwrap() += Duration::from_secs(10);
            Err("slow".into())
        };
        let outcome = log_batches(&mut append, 0, &waiting, &logged, &Status::default(), clock);
        assert!(outcome.is_ok());
        // The first one, and that of the end.
        assert_eq!(*attempts.lock().unwrap(), 2);
    }
}

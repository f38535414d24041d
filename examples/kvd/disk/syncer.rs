//! The thread that syncs the log: `--appendfsync everysec`.
//!
//! What is in the log is in redb a second later, durably. That takes longer while much is written, so that the log is
//! synced, too. A thread of its own does that: the system may take long.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Ends the thread when it is dropped.
pub struct Syncer {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    /// Whether something was appended since the last sync.
    has_changed: AtomicBool,
    is_over: AtomicBool,
}

impl Syncer {
    /// `sync` is called at the latest after the interval and the time of the last call.
    pub fn start(
        interval: Duration,
        sync: impl FnMut() -> io::Result<()> + Send + 'static,
    ) -> io::Result<Syncer> {
        let state = Arc::new(State::default());
        let of_thread = Arc::clone(&state);
        let thread = thread::Builder::new().name("sync".to_owned());
        let thread = thread.spawn(move || sync_changes(interval, sync, &of_thread))?;
        Ok(Syncer {
            state,
            thread: Some(thread),
        })
    }

    pub fn note_append(&self) {
        if !self.state.has_changed.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Release);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // What has failed is also put into the database, which reports its own errors.
            let _ = thread.join();
        }
    }
}

fn sync_changes(interval: Duration, mut sync: impl FnMut() -> io::Result<()>, state: &State) {
    let is_over = || state.is_over.load(Ordering::Acquire);
    while !is_over() {
        if !state.has_changed.load(Ordering::Acquire) {
            thread::park();
            continue;
        }
        let due = Instant::now() + interval;
        while !is_over() && Instant::now() < due {
            thread::park_timeout(due.saturating_duration_since(Instant::now()));
        }
        // What is appended during the sync needs another one.
        state.has_changed.store(false, Ordering::Release);
        if let Err(error) = sync() {
            tracing::error!(%error, "the log cannot be synced");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn what_was_appended_is_synced_and_the_end_waits_for_no_interval() {
        let (sender, syncs) = mpsc::channel();
        let called = move || sender.send(()).map_err(io::Error::other);
        let syncer = Syncer::start(Duration::ZERO, called).unwrap();
        for _ in 0..3 {
            syncer.note_append();
            syncs.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        drop(syncer);
        assert_eq!(syncs.try_iter().count(), 0);
        let syncer = Syncer::start(Duration::from_secs(100_000), || Ok(())).unwrap();
        syncer.note_append();
        drop(syncer);
    }
}

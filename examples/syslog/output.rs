//! Writes to standard output on a thread, because its reader may be slow and the loop must not block.

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

/// How many bytes may be queued for the thread. Further lines are discarded and counted.
const MAX_QUEUED: usize = 4 * 1024 * 1024;

/// How long [`Output::finish`] waits for the queued lines.
const GRACE: Duration = Duration::from_secs(2);

/// Writes lines. After an error it continues, and counts the lines that were not written.
pub(crate) struct Output {
    lines: RefCell<Option<Sender<String>>>,
    /// Becomes disconnected when the thread ends.
    end: Receiver<()>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    queued: AtomicUsize,
    not_written: AtomicU64,
}

impl Output {
    pub(crate) fn new(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, queue) = mpsc::channel();
        let (ends, end) = mpsc::channel();
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        let write = move || {
            write_all(queue, out, &shared);
            drop(ends);
        };
        thread::Builder::new()
            .name("output".to_owned())
            .spawn(write)?;
        Ok(Output {
            lines: RefCell::new(Some(lines)),
            end,
            counts,
        })
    }

    /// Queues a line, which includes its line end.
    pub(crate) fn write(&self, line: String) {
        let length = line.len();
        let queued = self.counts.queued.fetch_add(length, Ordering::Relaxed) + length;
        let sent = match &*self.lines.borrow() {
            Some(lines) if queued <= MAX_QUEUED => lines.send(line).is_ok(),
            _ => false,
        };
        if !sent {
            self.counts.queued.fetch_sub(length, Ordering::Relaxed);
            self.counts.not_written.fetch_add(1, Ordering::Relaxed);
            tracing::warn!("standard output is slow: a message was discarded");
        }
    }

    /// How many lines were not written so far.
    pub(crate) fn not_written(&self) -> u64 {
        self.counts.not_written.load(Ordering::Relaxed)
    }

    /// Waits until all queued lines are written, for at most [`GRACE`].
    pub(crate) fn finish(&self) {
        if self.lines.take().is_some()
            && self.end.recv_timeout(GRACE) == Err(mpsc::RecvTimeoutError::Timeout)
        {
            tracing::warn!("standard output is slow: the last messages were not written");
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.finish();
    }
}

fn write_all(queue: Receiver<String>, mut out: impl Write, counts: &Counts) {
    let mut failing = false;
    for line in queue {
        // After an error, a part of the failed line may have been written, so a line end precedes the next
        // line. Both are written in one call that ends with a line end: then `Stdout` has nothing in its
        // buffer when the call fails.
        let begin = if failing { "\n" } else { "" };
        let written = out.write_all(format!("{begin}{line}").as_bytes());
        counts.queued.fetch_sub(line.len(), Ordering::Relaxed);
        match written.and_then(|()| out.flush()) {
            Ok(()) if failing => tracing::warn!("standard output works again"),
            Ok(()) => {}
            Err(error) => {
                counts.not_written.fetch_add(1, Ordering::Relaxed);
                if !failing {
                    tracing::warn!(%error, "cannot write to standard output; the report counts the lines that are not written");
                }
                failing = true;
                continue;
            }
        }
        failing = false;
    }
}

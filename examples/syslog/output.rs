//! Standard output, written by a thread: its reader may be slow or stuck, and the loop must not wait.

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

/// How many bytes of lines may wait for the thread. What comes beyond that is not written.
const WAITING: usize = 4 * 1024 * 1024;

/// How long the last lines have at the end.
const GRACE: Duration = Duration::from_secs(2);

/// Writes lines. An error ends nothing: the lines that it costs are counted.
pub(crate) struct Output {
    lines: RefCell<Option<Sender<String>>>,
    /// Disconnected when the thread has ended.
    end: Receiver<()>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    waiting: AtomicUsize,
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

    /// Queues a line, which has its line end.
    pub(crate) fn write(&self, line: String) {
        let length = line.len();
        let waiting = self.counts.waiting.fetch_add(length, Ordering::Relaxed) + length;
        let sent = match &*self.lines.borrow() {
            Some(lines) if waiting <= WAITING => lines.send(line).is_ok(),
            _ => false,
        };
        if !sent {
            self.counts.waiting.fetch_sub(length, Ordering::Relaxed);
            self.counts.not_written.fetch_add(1, Ordering::Relaxed);
            tracing::warn!("standard output is slow: a message is not written");
        }
    }

    /// How many lines were not written, so far.
    pub(crate) fn not_written(&self) -> u64 {
        self.counts.not_written.load(Ordering::Relaxed)
    }

    /// Waits until all is written, for [`GRACE`] at most.
    pub(crate) fn finish(&self) {
        if self.lines.take().is_some()
            && self.end.recv_timeout(GRACE) == Err(mpsc::RecvTimeoutError::Timeout)
        {
            tracing::warn!("standard output is slow: the last messages are not written");
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
        // An error may have left a part of its line. In one call with a line end last: then `Stdout`
        // has nothing in its buffer when it fails.
        let begin = if failing { "\n" } else { "" };
        let written = out.write_all(format!("{begin}{line}").as_bytes());
        counts.waiting.fetch_sub(line.len(), Ordering::Relaxed);
        match written.and_then(|()| out.flush()) {
            Ok(()) if failing => tracing::warn!("standard output works"),
            Ok(()) => {}
            Err(error) => {
                counts.not_written.fetch_add(1, Ordering::Relaxed);
                if !failing {
                    tracing::warn!(%error, "standard output fails; the report counts what is not written");
                }
                failing = true;
                continue;
            }
        }
        failing = false;
    }
}

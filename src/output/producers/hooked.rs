use std::io;
use std::thread;

use super::{More, Producer};
use crate::user_code::contain;

/// A producer that reports, when it is over, how far it came.
///
/// The hook runs exactly once, whatever happens, after the producer inside it has been dropped (so
/// that it may delete the file that was being sent): when all is produced, when the producer fails,
/// when the connection closes or the queue is discarded. Medusa's ran only in the first case, and
/// whoever counted transfers with it leaked one for each client that hung up.
///
/// *Produced* is handed to the connection's queue. To act when the bytes have gone to the kernel
/// push a hook behind it with `Chat::push_hook`.
///
/// ```
/// use std::{cell::Cell, rc::Rc};
/// use asynchat::{HookedProducer, More, Producer};
///
/// let sent = Rc::new(Cell::new((0, false)));
/// let mut producer = HookedProducer::new("hello", {
///     let sent = sent.clone();
///     move |produced| sent.set((produced.bytes, produced.complete))
/// });
/// assert_eq!(producer.more(65536)?, More::Chunk("hello".into()));
/// drop(producer); // before it could say that it is done
/// assert_eq!(sent.get(), (5, false));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct HookedProducer<P, F: FnOnce(Produced)> {
    // Fields are dropped in this order: the hook runs last.
    producer: P,
    report: Report<F>,
}

/// What a [`HookedProducer`] tells its hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Produced {
    /// How many bytes were produced.
    pub bytes: u64,
    /// True when the producer came to its end, false when it failed or was dropped before that.
    pub complete: bool,
}

impl<P: Producer, F: FnOnce(Produced)> HookedProducer<P, F> {
    /// A producer of what `producer` produces, that calls `hook` when it is over.
    ///
    /// A panic of the hook is one of the connection. If the producer has panicked before, it is
    /// only logged.
    pub fn new(producer: P, hook: F) -> Self {
        Self {
            producer,
            report: Report {
                produced: Produced {
                    bytes: 0,
                    complete: false,
                },
                hook: Some(hook),
            },
        }
    }
}

impl<P: Producer, F: FnOnce(Produced)> Producer for HookedProducer<P, F> {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        let more = self.producer.more(budget)?;
        match &more {
            More::Chunk(chunk) => self.report.produced.bytes += chunk.len() as u64,
            More::Pending => {}
            More::Done => self.report.produced.complete = true,
        }
        Ok(more)
    }
}

struct Report<F: FnOnce(Produced)> {
    produced: Produced,
    hook: Option<F>,
}

impl<F: FnOnce(Produced)> Drop for Report<F> {
    fn drop(&mut self) {
        let Some(hook) = self.hook.take() else {
            return;
        };
        match thread::panicking() {
            // A second panic while the first unwinds would abort the process.
            true => contain(|| hook(self.produced)),
            false => hook(self.produced),
        }
    }
}

use std::fmt;
use std::io;
use std::thread;

use super::{More, Producer};
use crate::user_code::contain;

/// Sends the output of another producer, and then calls a hook with how much that was.
///
/// The hook runs exactly once: when the inner producer is done or has failed, when the connection ends, or
/// when the queue is discarded. It runs after the inner producer has been dropped, so it may delete the file
/// that was being sent. (The hook of Medusa's `hooked_producer` ran in the first case only. A count of
/// transfers that relied on it leaked one for each client that hung up.)
///
/// If the connection ends before the producer is done, the hook runs after
/// [`handle_close`](crate::AsyncChat::handle_close).
///
/// The hook reports what was handed to the connection's queue, which may be more than was sent: for what was sent, ask
/// [`Chat::stats`](crate::Chat::stats) in `handle_close`. To act when the bytes have been handed to the
/// kernel, queue a hook behind the producer with [`Chat::push_hook`](crate::Chat::push_hook).
///
/// # Errors
///
/// Those of the inner producer.
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
/// drop(producer); // before it was done
/// assert_eq!(sent.get(), (5, false));
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "a producer does nothing until it is pushed"]
pub struct HookedProducer<P, F: FnOnce(Produced)> {
    // Fields are dropped in this order. The hook runs last.
    producer: P,
    report: Report<F>,
}

/// What the hook of a [`HookedProducer`] is called with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Produced {
    /// The number of bytes produced.
    pub bytes: u64,
    /// True if the producer was done, false if it failed or was dropped before.
    pub complete: bool,
}

impl<P: Producer, F: FnOnce(Produced)> HookedProducer<P, F> {
    /// A producer of the output of `producer` that calls `hook` at the end.
    ///
    /// A panic of the hook ends the connection. If the inner producer has panicked before, a panic of the
    /// hook is only logged.
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

impl<P, F: FnOnce(Produced)> fmt::Debug for HookedProducer<P, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookedProducer")
            .field("produced", &self.report.produced)
            .finish_non_exhaustive()
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
        if thread::panicking() {
            // A second panic while the first unwinds would abort the process.
            contain(|| hook(self.produced));
        } else {
            hook(self.produced);
        }
    }
}

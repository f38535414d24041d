//! Output that is promised now and made later, on another thread.

use std::io;
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;

use crate::{ChannelId, Chat, More, Producer, Remote};

/// Output that is promised: its place in the queue is taken now, its bytes come later, from any
/// thread.
///
/// This is how replies keep the order of their requests while the work for them is done in any
/// order. The session queues the [`PromiseProducer`], and gives the `Promise` to whoever does the work. What is
/// pushed after it waits for it. A session that closes when done, and a loop that shuts down, wait for
/// it too, the latter as long as its grace lasts.
///
/// A promise that is dropped without being [kept](Promise::fulfill), which is what a panic of the worker
/// does, closes the connection: the replies behind it could not be told from the one that is missing.
///
/// While a connection waits for a promise it is idle, if it does nothing else: an idle
/// [deadline](crate::Deadlines::idle) has to allow for the work.
///
/// ```no_run
/// use asynchat::{AsyncChat, Chat, Promise, Result};
///
/// struct Prover { chat: Chat }
///
/// impl AsyncChat for Prover {
///     fn found_terminator(&mut self, line: &[u8]) -> Result {
///         let n: u64 = std::str::from_utf8(line)?.parse()?;
///         let (promise, later) = Promise::new(&self.chat);
///         self.chat.push_with_producer(later);
///         std::thread::spawn(move || {
///             let mut divisors = 2..n;
///             // Looks now and then whether the client is still there.
///             let prime = n > 1 && divisors.all(|d| n % d != 0 && promise.is_wanted());
///             promise.fulfill(format!("{n} {prime}\r\n"));
///         });
///         Ok(())
///     }
/// }
/// # fn main() -> Result {
/// # asynchat::listen("127.0.0.1:7007", |chat| Prover { chat })?;
/// # asynchat::run()
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a promise that is dropped closes its connection"]
pub struct Promise {
    place: Weak<Place>,
    chat: ChannelId,
    remote: Option<Remote>,
}

/// The producer of what a [`Promise`] is of: nothing until that is kept, then its bytes.
#[derive(Debug)]
pub struct PromiseProducer {
    place: Arc<Place>,
    output: Option<Bytes>,
}

/// `None`, once it is set, is a promise that was broken.
type Place = OnceLock<Option<Bytes>>;

impl Promise {
    /// A promise, and the producer to push to `chat`; by itself, or inside another producer.
    pub fn new(chat: &Chat) -> (Promise, PromiseProducer) {
        let place = Arc::new(Place::new());
        let promise = Promise {
            place: Arc::downgrade(&place),
            chat: chat.id(),
            remote: chat.event_loop().map(|event_loop| event_loop.remote()),
        };
        let output = None;
        (promise, PromiseProducer { place, output })
    }

    /// Hands over the bytes, and wakes the loop to send them. If nobody
    /// [wants](Promise::is_wanted) them any more they are dropped.
    pub fn fulfill(self, output: impl Into<Bytes>) {
        self.settle(Some(output.into()));
    }

    /// Whether somebody waits for it: false once the connection has ended or its queue was
    /// discarded. Then the work for it can be given up, and the promise dropped.
    pub fn is_wanted(&self) -> bool {
        self.place.strong_count() > 0
    }

    fn settle(&self, output: Option<Bytes>) {
        let Some(place) = self.place.upgrade() else {
            return;
        };
        if place.set(output).is_ok()
            && let Some(remote) = &self.remote
        {
            let id = self.chat;
            // An error means that the loop is gone, and the connection with it.
            let _ = remote.post(move || {
                if let Some(chat) = crate::chat(id) {
                    chat.resume_producing();
                }
            });
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.settle(None); // does nothing if it was kept
    }
}

impl Producer for PromiseProducer {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        if self.output.is_none() {
            self.output = match self.place.get() {
                None => return Ok(More::Pending),
                Some(None) => return Err(io::Error::other("a promise was broken")),
                Some(kept) => kept.clone(),
            };
        }
        self.output
            .as_mut()
            .map_or(Ok(More::Done), |output| output.more(budget))
    }
}

//! `Promise`: a reply that another thread makes, with its place in the queue.

use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bytes::Bytes;

use super::handle::Chat;
use crate::error::{BoxError, into_io};
use crate::output::fifo::Item;
use crate::output::producers::{More, Producer};
use crate::runtime::remote::Remote;
use crate::state::ChannelId;
use crate::state::inbox::Post;

/// A reply that another thread will make. Its place in the queue is reserved now.
///
/// Replies stay in the order of their requests, while the work for them is done in any order. The session
/// calls [`Chat::promise`] and gives the `Promise` to the thread that does the work. Everything pushed
/// afterwards waits for it. `close_when_done` waits for it, too, and so does a shutdown, until its
/// grace ends.
///
/// A promise that [fails](Promise::fail), or is dropped without being [fulfilled](Promise::fulfill), for example by a
/// panic of the worker, and has [no other reply](Promise::otherwise), ends the connection with
/// [`Close::Handler`](crate::Close::Handler): the client could not tell which reply is missing. The client receives
/// what was sent before the promise, and then a reset.
///
/// A connection that waits for a promise may be idle. An idle [deadline](crate::Deadlines::idle) has to
/// exceed the time of the work. If it passes first, the connection is reset, because the promise is queued
/// output.
///
/// ```no_run
/// use asynchat::{AsyncChat, Chat, Result};
///
/// struct Prover { chat: Chat }
///
/// impl AsyncChat for Prover {
///     fn found_terminator(&mut self, line: &[u8]) -> Result {
///         let n: u64 = std::str::from_utf8(line)?.parse()?;
///         let promise = self.chat.promise();
///         std::thread::spawn(move || {
///             let mut divisors = 2..n;
///             // Stops when the connection has ended.
///             let prime = n > 1 && divisors.all(|d| n % d != 0 && promise.is_wanted());
///             promise.fulfill(format!("{n} {prime}\r\n"));
///         });
///         Ok(())
///     }
/// }
/// # fn main() -> Result {
/// # asynchat::listen("127.0.0.1:7007", |chat| Prover { chat })?;
/// # asynchat::run()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a promise that is dropped is not fulfilled, and may close its connection"]
pub struct Promise {
    reply: Weak<Reply>,
    chat: ChannelId,
    remote: Option<Remote>,
    /// What is sent if it is dropped.
    otherwise: Option<Bytes>,
}

/// The producer of a [`Promise`]: it is pending until the promise is fulfilled, then produces its bytes.
struct PromiseProducer {
    reply: Arc<Reply>,
    output: Option<Bytes>,
}

/// The reply, shared by a promise and its producer, or why there is none. The producer takes the error.
type Reply = OnceLock<Result<Bytes, Mutex<Option<BoxError>>>>;

impl Chat {
    /// Queues a reply that another thread will make: a [`Promise`]. Everything that is pushed afterwards waits
    /// for it. If a close is queued, or the connection has ended, the promise is not
    /// [wanted](Promise::is_wanted).
    pub fn promise(&self) -> Promise {
        let reply = Arc::new(Reply::new());
        let promise = Promise {
            reply: Arc::downgrade(&reply),
            chat: self.id(),
            remote: self
                .state()
                .agenda()
                .map(|agenda| Remote::new(&agenda.inbox)),
            otherwise: None,
        };
        let output = None;
        let producer = PromiseProducer { reply, output };
        // A producer that the queue does not take holds nothing of the user's: it is dropped here, so that the
        // promise is unwanted at once.
        drop(
            self.state()
                .try_push_item(Item::Producer(Box::new(producer))),
        );
        promise
    }
}

impl Promise {
    /// Provides the bytes, and wakes the loop to send them. They are dropped if they are no longer
    /// [wanted](Promise::is_wanted).
    pub fn fulfill(self, output: impl Into<Bytes>) {
        self.settle(|| Ok(output.into()));
    }

    /// Ends the connection with this error, as a producer that fails: the client receives what was sent before the
    /// promise, and then a reset. [`Close::Handler`](crate::Close::Handler) contains the error. To report the failure to
    /// the client instead, [fulfill](Promise::fulfill) the promise with that reply.
    ///
    /// ```
    /// # fn work(path: &str, promise: asynchat::Promise) {
    /// match std::fs::read(path) {
    ///     Ok(content) => promise.fulfill(content),
    ///     Err(error) => promise.fail(error),
    /// }
    /// # }
    /// ```
    pub fn fail(self, error: impl Into<BoxError>) {
        self.settle(|| Err(error.into()));
    }

    /// Sets the reply that is sent if the promise is dropped without being fulfilled, instead of the end of the connection:
    /// that of a job that a pool has dropped, or of a call that was
    /// [posted](crate::Remote::post_to) to a session which has left.
    ///
    /// ```
    /// use asynchat::{AsyncChat, Chat, ChannelId, Remotes, Result};
    ///
    /// struct Member { chat: Chat, remotes: Remotes }
    ///
    /// impl Member {
    ///     /// Sends a message to a member who may be on another worker, and tells this one whether it has arrived.
    ///     fn send_to(&self, id: ChannelId, message: String) {
    ///         let reply = self.chat.promise().otherwise("404 has left\r\n");
    ///         let posted = self.remotes.post_to(id, move |other: &mut Member| {
    ///             other.chat.push(message);
    ///             reply.fulfill("200 sent\r\n");
    ///             Ok(())
    ///         });
    ///         // An error means that the workers have ended: the promise was dropped.
    ///         drop(posted);
    ///     }
    /// }
    /// # impl AsyncChat for Member { fn found_terminator(&mut self, _: &[u8]) -> Result { Ok(()) } }
    /// ```
    pub fn otherwise(mut self, output: impl Into<Bytes>) -> Promise {
        self.otherwise = Some(output.into());
        self
    }

    /// Whether the reply can still be sent. If the connection ends, or its queue is discarded, it becomes false when
    /// the loop drops the queue, in the same turn or in the next one. The worker may then stop and drop the
    /// promise.
    pub fn is_wanted(&self) -> bool {
        self.reply.strong_count() > 0
    }

    /// Provides the reply, or why there is none, unless it was provided before.
    fn settle(&self, output: impl FnOnce() -> Result<Bytes, BoxError>) {
        let Some(reply) = self.reply.upgrade() else {
            return;
        };
        if reply.get().is_some() {
            return;
        }
        let output = output().map_err(|error| Mutex::new(Some(error)));
        if reply.set(output).is_ok()
            && let Some(remote) = &self.remote
        {
            // An error means that the loop is gone, and the connection with it.
            let _ = remote.send(Post::ResumeProducing(self.chat));
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let otherwise = self.otherwise.take();
        self.settle(|| otherwise.ok_or("a promise was dropped without being fulfilled".into()));
    }
}

impl Producer for PromiseProducer {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        if self.output.is_none() {
            self.output = match self.reply.get() {
                None => return Ok(More::Pending),
                Some(Ok(output)) => Some(output.clone()),
                Some(Err(error)) => {
                    let error = error.lock().unwrap_or_else(PoisonError::into_inner).take();
                    let error = error.unwrap_or_else(|| "the promise has failed".into());
                    return Err(into_io(error, io::ErrorKind::Other));
                }
            };
        }
        self.output
            .as_mut()
            .map_or(Ok(More::Done), |output| output.more(budget))
    }
}

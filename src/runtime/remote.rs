//! `Remote`: calls of a loop from other threads.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::state::ChannelId;
use crate::state::agenda::typed_call;
use crate::state::inbox::{Inbox, Post};

/// A handle to a loop for other threads. All other handles stay on the thread of their loop.
/// [`run_forever`](crate::EventLoop::run_forever) runs a loop that gets all its work from other threads.
///
/// The loop makes posted calls on its own thread, in the order of their posting. A post wakes the loop if it
/// sleeps. Worker threads return their results this way: a session passes its
/// [`Chat::id`](crate::Chat::id) and a `Remote` to the worker, which [posts the result to
/// it](Remote::post_to). A [`Promise`](crate::Promise) does this for replies that have to stay in order.
///
/// ```
/// use std::thread;
/// # fn main() -> asynchat::Result {
/// let remote = asynchat::remote()?;
/// asynchat::call_later(std::time::Duration::from_secs(60), || ()); // keeps the loop running
/// let worker = thread::spawn(move || {
///     let gold = 6 * 7; // slow work
///     remote.post(move || println!("the loop got {gold}"))?;
///     remote.stop()
/// });
/// asynchat::run()?;
/// worker.join().expect("the worker does not panic")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Remote(Arc<Inbox>);

impl Remote {
    pub(crate) fn new(inbox: &Arc<Inbox>) -> Self {
        Remote(Arc::clone(inbox))
    }

    /// Makes the loop call `call` on its thread. During the call, the crate's free functions act on that
    /// loop. The loop makes at most 1,024 posted calls in a turn, or an eighth of those that wait if that is more. A
    /// panic is logged.
    ///
    /// # Errors
    /// When the loop is gone: the call is dropped, and [`Error::io_kind`] is `None`. When the loop cannot be woken,
    /// which no system is known to cause: the call then waits for the next post that wakes the loop, and `io_kind`
    /// is that of the system's error.
    pub fn post(&self, call: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        self.send(Post::Call(Box::new(call)))
    }

    /// Makes the loop call `callback` with the handler of channel `id`, which must be a `C`: a type that
    /// implements [`AsyncChat`](crate::AsyncChat) or [`Dispatcher`](crate::Dispatcher). It is a callback
    /// like any other: an error that it returns closes the channel.
    ///
    /// If the channel has ended by then, or its handler is of another type, the callback is dropped and an
    /// event is logged. The compiler does not check the type, because a layer-1 and a layer-2 handler have no trait in
    /// common: write the type of the handler itself, not of an `Rc` of it. This is no error for the worker, because a client may leave at any time.
    ///
    /// # Errors
    /// As [`post`](Remote::post). When the channel is one of another loop, as far as its id tells: for the connections of
    /// [`Workers`](crate::Workers) use [`Remotes::post_to`](crate::Remotes::post_to).
    pub fn post_to<C: 'static>(
        &self,
        id: ChannelId,
        callback: impl FnOnce(&mut C) -> Result + Send + 'static,
    ) -> Result<(), Error> {
        self.send(Post::CallHandler(id, Box::new(typed_call(callback))))
    }

    /// Calls [`EventLoop::stop`](crate::EventLoop::stop) on the loop's thread, after everything that was
    /// posted before.
    ///
    /// # Errors
    /// As [`post`](Remote::post).
    pub fn stop(&self) -> Result<(), Error> {
        self.send(Post::Stop)
    }

    /// Calls [`EventLoop::shutdown`](crate::EventLoop::shutdown) on the loop's thread, after everything that
    /// was posted before.
    ///
    /// # Errors
    /// As [`post`](Remote::post).
    pub fn shutdown(&self, grace: Duration) -> Result<(), Error> {
        self.send(Post::Shutdown(grace))
    }

    pub(crate) fn send(&self, post: Post) -> Result<(), Error> {
        self.0.send(post)
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}

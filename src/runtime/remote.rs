//! The way onto the loop from other threads.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::state::ChannelId;
use crate::state::agenda::visit_of;
use crate::state::inbox::{Inbox, Post};

/// A handle to a loop for other threads: the only one that crosses them.
///
/// What is posted runs on the loop's thread, in the order posted, and wakes it if it sleeps. This
/// is how slow work comes back: a session hands it to a worker together with its
/// [`Chat::id`](crate::Channel::id) and a `Remote`, and the worker
/// [posts the result to it](Remote::post_to).
///
/// ```
/// use std::thread;
/// # fn main() -> asynchat::Result {
/// let remote = asynchat::remote()?;
/// asynchat::call_later(std::time::Duration::from_secs(60), || ()); // something to wait for
/// let worker = thread::spawn(move || {
///     let gold = 6 * 7; // slow work
///     remote.post(move || println!("the loop got {gold}"))?;
///     remote.stop()
/// });
/// asynchat::run()?;
/// worker.join().expect("the worker does not panic")
/// # }
/// ```
#[derive(Clone)]
pub struct Remote(Arc<Inbox>);

impl Remote {
    pub(crate) fn new(inbox: &Arc<Inbox>) -> Self {
        Remote(Arc::clone(inbox))
    }

    /// Runs `job` on the loop's thread. While it runs, the crate's free functions mean that loop.
    /// One turn of the loop runs at most 1,024 posts; the rest run in the turns that follow at once.
    ///
    /// # Errors
    /// When the loop is gone: the job will never run. When the system can not wake it, which no
    /// system is known for: the job waits for something else that does.
    pub fn post(&self, job: impl FnOnce() + Send + 'static) -> Result {
        self.send(Post::Call(Box::new(job)))
    }

    /// Visits the handler of channel `id`: a type `C` that implements
    /// [`AsyncChat`](crate::AsyncChat) or [`Dispatcher`](crate::Dispatcher). The visit is a
    /// callback like any other: an error it returns closes that channel.
    ///
    /// If the channel has ended by then, or its handler is of another type, the visit is dropped
    /// and a `tracing` event says so: a client that did not wait is no failure of the worker's.
    ///
    /// # Errors
    /// When the loop is gone.
    pub fn post_to<C: 'static>(
        &self,
        id: ChannelId,
        visit: impl FnOnce(&mut C) -> Result + Send + 'static,
    ) -> Result {
        self.send(Post::Visit(id, Box::new(visit_of(visit))))
    }

    /// As [`EventLoop::stop`](crate::EventLoop::stop), after all that was posted before.
    ///
    /// # Errors
    /// When the loop is gone.
    pub fn stop(&self) -> Result {
        self.send(Post::Stop)
    }

    /// As [`EventLoop::shutdown`](crate::EventLoop::shutdown), after all that was posted before.
    ///
    /// # Errors
    /// When the loop is gone.
    pub fn shutdown(&self, grace: Duration) -> Result {
        self.send(Post::Shutdown(grace))
    }

    pub(crate) fn send(&self, post: Post) -> Result {
        self.0.send(post)
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}

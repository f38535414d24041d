//! The way onto the loop from other threads.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::event_loop::EventLoop;
use crate::runtime::Runtime;
use crate::runtime::registry::ChannelId;
use crate::sys::poller::Waker;

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

type Job = Box<dyn FnOnce(&Rc<Runtime>) + Send>;

/// What has been posted and not yet fetched.
pub(crate) struct Inbox {
    /// `None` once the loop is gone.
    jobs: Mutex<Option<VecDeque<Job>>>,
    /// There is something in it: saves the loop the lock in most turns.
    filled: AtomicBool,
    waker: Waker,
}

impl Remote {
    pub(crate) fn new(inbox: Arc<Inbox>) -> Self {
        Remote(inbox)
    }

    /// Runs `job` on the loop's thread. While it runs, the crate's free functions mean that loop.
    /// One turn of the loop runs at most 1,024 posts; the rest run in the turns that follow at once.
    ///
    /// # Errors
    /// When the loop is gone: the job will never run. When the system can not wake it, which no
    /// system is known for: the job waits for something else that does.
    pub fn post(&self, job: impl FnOnce() + Send + 'static) -> Result {
        self.send(Box::new(move |_| job()))
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
        self.send(Box::new(move |runtime| runtime.deliver(id, visit)))
    }

    /// As [`EventLoop::stop`], after all that was posted before.
    ///
    /// # Errors
    /// When the loop is gone.
    pub fn stop(&self) -> Result {
        self.send(Box::new(|runtime| EventLoop(Rc::clone(runtime)).stop()))
    }

    /// As [`EventLoop::shutdown`], after all that was posted before.
    ///
    /// # Errors
    /// When the loop is gone.
    pub fn shutdown(&self, grace: Duration) -> Result {
        self.send(Box::new(move |runtime| {
            EventLoop(Rc::clone(runtime)).shutdown(grace);
        }))
    }

    pub(crate) fn send(&self, job: Job) -> Result {
        let inbox = &*self.0;
        {
            let mut jobs = inbox.jobs.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *jobs {
                Some(jobs) => jobs.push_back(job),
                None => return Err(Error::new("the event loop is gone")),
            }
        }
        // The first to fill it wakes the loop; until the loop has fetched, that is enough.
        if !inbox.filled.swap(true, Ordering::AcqRel) {
            inbox.waker.wake().map_err(|error| {
                // The next to post tries again.
                inbox.filled.store(false, Ordering::Release);
                Error::from(error).context("wake the event loop")
            })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}

impl Inbox {
    pub(crate) fn new(waker: Waker) -> Self {
        Inbox {
            jobs: Mutex::new(Some(VecDeque::new())),
            filled: AtomicBool::new(false),
            waker,
        }
    }

    pub(crate) fn is_filled(&self) -> bool {
        self.filled.load(Ordering::Acquire)
    }

    /// Fetches what was posted first, so many at most; what is left keeps it filled.
    pub(crate) fn fetch(&self, most: usize) -> VecDeque<Job> {
        if !self.filled.swap(false, Ordering::AcqRel) {
            return VecDeque::new();
        }
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(jobs) = &mut *jobs else {
            return VecDeque::new();
        };
        if jobs.len() <= most {
            return mem::take(jobs);
        }
        self.filled.store(true, Ordering::Release);
        jobs.drain(..most).collect()
    }

    /// Takes nothing any more, and hands out what nobody will run.
    pub(crate) fn close(&self) -> VecDeque<Job> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.take().unwrap_or_default()
    }
}

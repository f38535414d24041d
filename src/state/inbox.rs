//! What other threads have posted to a loop.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{ChannelId, NO_WORKER};
use crate::error::{Error, Result};
use crate::sys::poller::Waker;

/// What a thread asks of a loop.
pub(crate) enum Post {
    Call(Box<dyn FnOnce() + Send>),
    /// A callback of this channel's handler.
    CallHandler(ChannelId, SentCall),
    /// The producer of this channel that has answered `Pending` has something.
    ResumeProducing(ChannelId),
    /// The addresses of the host that this channel connects to.
    Resolved(ChannelId, io::Result<Vec<SocketAddr>>),
    /// The process has got a signal.
    #[cfg(feature = "signal")]
    Signal(i32),
    Stop,
    Shutdown(Duration),
    /// The shutdown of the service that the loop works for.
    ShutdownOfService(Duration),
    /// The service that the loop works for closes all channels, and ends.
    CloseAllOfService,
    /// A worker has closed a socket while accepting was paused.
    ResumeAccepting,
    /// Closes the channels for a shutdown that the loop's own thread began behind the posts before this.
    CloseChannels,
}

/// A callback for a handler, whatever its type.
type SentCall = Box<dyn FnOnce(&mut dyn Any) -> Result + Send>;

/// What has been posted and not yet fetched.
pub(crate) struct Inbox {
    /// `None` once the loop is gone.
    open: Mutex<Option<Open>>,
    /// There is a post: saves the loop the lock in most turns.
    filled: AtomicBool,
}

/// The inbox of a loop that is there. The waker goes with the loop, because it holds a descriptor.
struct Open {
    posts: VecDeque<Post>,
    waker: Waker,
    /// The worker whose loop it is, or [`NO_WORKER`].
    worker: u16,
}

/// The wake-up that a post needs, if the loop was not woken since it last fetched. The poller may log it, and a subscriber
/// may post: nothing that a post needs may be locked.
#[must_use = "the loop may sleep"]
pub(crate) struct Wake<'a> {
    inbox: &'a Inbox,
    waker: Option<Waker>,
}

impl Wake<'_> {
    /// # Errors
    /// When the system cannot wake the loop.
    pub(crate) fn wake(self) -> Result<(), Error> {
        let Some(waker) = self.waker else {
            return Ok(());
        };
        waker.wake().map_err(|error| {
            // The next to post tries again.
            self.inbox.filled.store(false, Ordering::Release);
            Error::from(error).context("wake the event loop")
        })
    }
}

impl Inbox {
    pub(super) fn new(waker: Waker) -> Self {
        let open = Open {
            posts: VecDeque::new(),
            waker,
            worker: NO_WORKER,
        };
        Inbox {
            open: Mutex::new(Some(open)),
            filled: AtomicBool::new(false),
        }
    }

    /// The loop is that of this worker.
    pub(crate) fn set_worker(&self, worker: u16) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &mut *open {
            open.worker = worker;
        }
    }

    /// That of a loop that is gone.
    #[cfg(test)]
    pub(super) fn without_loop() -> Self {
        Inbox {
            open: Mutex::new(None),
            filled: AtomicBool::new(false),
        }
    }

    /// Adds a post, and wakes the loop if none has since it last fetched.
    ///
    /// # Errors
    /// When the loop is gone, or the system cannot wake it. When the post is a call of a handler of another loop.
    pub(crate) fn send(&self, post: Post) -> Result<(), Error> {
        self.enqueue(post)?.wake()
    }

    /// The first half of [`send`](Inbox::send), for callers that have locked something of their own: they wake the loop
    /// when they have unlocked it.
    ///
    /// # Errors
    /// As [`send`](Inbox::send).
    pub(crate) fn enqueue(&self, post: Post) -> Result<Wake<'_>, Error> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = &mut *open else {
            return Err(Error::new("the event loop is gone"));
        };
        if let Post::CallHandler(id, _) = &post
            && id.is_of_another_loop(open.worker)
        {
            return Err(Error::new(format!("channel {id} is not one of this loop")));
        }
        open.posts.push_back(post);
        let was_filled = self.filled.swap(true, Ordering::AcqRel);
        Ok(Wake {
            inbox: self,
            waker: (!was_filled).then(|| open.waker.clone()),
        })
    }

    /// Ends the sleep of the loop, or of the loop that contains it, without a post.
    pub(crate) fn wake(&self) -> io::Result<()> {
        let waker = {
            let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.as_ref().map(|open| open.waker.clone())
        };
        waker.map_or(Ok(()), |waker| waker.wake())
    }

    pub(crate) fn is_filled(&self) -> bool {
        self.filled.load(Ordering::Acquire)
    }

    /// Takes the first posts. `share` gets the number of all, and returns how many to take. The inbox stays filled when some
    /// are left.
    pub(crate) fn fetch(&self, share: impl FnOnce(usize) -> usize) -> VecDeque<Post> {
        if !self.filled.swap(false, Ordering::AcqRel) {
            return VecDeque::new();
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Open { posts, .. }) = &mut *open else {
            return VecDeque::new();
        };
        let count = share(posts.len());
        if count >= posts.len() {
            return mem::take(posts);
        }
        self.filled.store(true, Ordering::Release);
        posts.drain(..count).collect()
    }

    /// Takes no more posts, and returns those that will not be run.
    pub(crate) fn close(&self) -> VecDeque<Post> {
        let open = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.take()
        };
        // After the lock: the waker may be the last to refer to the poller, which may log its end.
        open.map(|open| open.posts).unwrap_or_default()
    }
}

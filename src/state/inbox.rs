//! What other threads have posted to a loop.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::ChannelId;
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
}

/// A callback for a handler, whatever its type.
type SentCall = Box<dyn FnOnce(&mut dyn Any) -> Result + Send>;

/// What has been posted and not yet fetched.
pub(crate) struct Inbox {
    /// `None` once the loop is gone.
    posts: Mutex<Option<VecDeque<Post>>>,
    /// There is a post: saves the loop the lock in most turns.
    filled: AtomicBool,
    waker: Waker,
}

impl Inbox {
    pub(super) fn new(waker: Waker) -> Self {
        Inbox {
            posts: Mutex::new(Some(VecDeque::new())),
            filled: AtomicBool::new(false),
            waker,
        }
    }

    /// Adds a post, and wakes the loop if none has since it last fetched.
    ///
    /// # Errors
    /// When the loop is gone, or the system cannot wake it.
    pub(crate) fn send(&self, post: Post) -> Result {
        {
            let mut posts = self.posts.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *posts {
                Some(posts) => posts.push_back(post),
                None => return Err(Error::new("the event loop is gone")),
            }
        }
        if !self.filled.swap(true, Ordering::AcqRel) {
            self.waker.wake().map_err(|error| {
                // The next to post tries again.
                self.filled.store(false, Ordering::Release);
                Error::from(error).context("wake the event loop")
            })?;
        }
        Ok(())
    }

    pub(crate) fn is_filled(&self) -> bool {
        self.filled.load(Ordering::Acquire)
    }

    /// Takes the first posts, `most` at most. The inbox stays filled when some are left.
    pub(crate) fn fetch(&self, most: usize) -> VecDeque<Post> {
        if !self.filled.swap(false, Ordering::AcqRel) {
            return VecDeque::new();
        }
        let mut posts = self.posts.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(posts) = &mut *posts else {
            return VecDeque::new();
        };
        if posts.len() <= most {
            return mem::take(posts);
        }
        self.filled.store(true, Ordering::Release);
        posts.drain(..most).collect()
    }

    /// Takes no more posts, and returns those that will not be run.
    pub(crate) fn close(&self) -> VecDeque<Post> {
        let mut posts = self.posts.lock().unwrap_or_else(PoisonError::into_inner);
        posts.take().unwrap_or_default()
    }
}

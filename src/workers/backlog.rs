//! The pushes to groups that wait for a worker.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::event_loop::EventLoop;
use crate::state::inbox::{Inbox, Post};

/// What a push costs in addition to its bytes: the post, the call in it, and the header of the shared bytes. With it the
/// limit bounds the number of pushes, too.
const PUSH: usize = 256;

/// Above this number of bytes the sessions that push are throttled, until half of it is left. A worker takes so much in some
/// milliseconds, and is woken and given more before it has nothing to do.
const HIGH: usize = 1 << 20;

/// How much was pushed to groups for one worker that has not taken it yet.
pub(super) struct GroupBacklog {
    worker: usize,
    bytes: AtomicUsize,
    /// When this number of bytes waits, nothing is added.
    most: usize,
    /// The loops with sessions that are throttled until this has fallen to the low mark.
    throttling: Mutex<Vec<Arc<Inbox>>>,
    /// Whether there are any.
    is_awaited: AtomicBool,
}

/// A push that counts for its worker, until this is dropped.
pub(super) struct Waiting {
    backlog: Arc<GroupBacklog>,
    bytes: usize,
}

impl GroupBacklog {
    pub(super) fn new(worker: usize, most: usize) -> Arc<Self> {
        Arc::new(GroupBacklog {
            worker,
            bytes: AtomicUsize::new(0),
            most,
            throttling: Mutex::default(),
            is_awaited: AtomicBool::new(false),
        })
    }

    /// The bytes above which sessions are throttled.
    fn high(&self) -> usize {
        HIGH.min(self.most / 4)
    }

    pub(super) fn is_high(&self) -> bool {
        self.bytes.load(Ordering::SeqCst) > self.high()
    }

    fn is_low(&self) -> bool {
        self.bytes.load(Ordering::SeqCst) <= self.high() / 2
    }

    /// The loop with this inbox has throttled sessions. It gets a post when the worker has caught up.
    pub(super) fn await_low(&self, inbox: &Arc<Inbox>) {
        let mut throttling = self.throttling();
        if !throttling.iter().any(|it| Arc::ptr_eq(it, inbox)) {
            throttling.push(Arc::clone(inbox));
        }
        self.is_awaited.store(true, Ordering::SeqCst);
        drop(throttling);
        // The worker may have caught up meanwhile, without knowing that somebody waits. In one order with the stores and
        // loads of `drop`, one of the two sees the other.
        if self.is_low() {
            self.release();
        }
    }

    /// Lets the throttled sessions continue.
    fn release(&self) {
        let throttling = {
            let mut throttling = self.throttling();
            self.is_awaited.store(false, Ordering::SeqCst);
            mem::take(&mut *throttling)
        };
        // Not while the list is locked: to wake a loop may log, and a subscriber may push to a group.
        let worker = self.worker;
        for inbox in throttling {
            let release = move || {
                if let Ok(event_loop) = EventLoop::current() {
                    event_loop.0.release_throttled(worker);
                }
            };
            // A loop that has ended has no sessions.
            let _ = inbox.send(Post::Call(Box::new(release)));
        }
    }

    fn throttling(&self) -> MutexGuard<'_, Vec<Arc<Inbox>>> {
        self.throttling
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a push of this number of bytes. `None` if too much waits already. As with the output of a connection, a push is
    /// checked against what waited before it, so one that is larger than the limit can be made.
    pub(super) fn add(self: &Arc<Self>, bytes: usize) -> Option<Waiting> {
        // The length of an allocation is too small for an overflow.
        let bytes = bytes + PUSH;
        let add = |waiting: usize| {
            if waiting < self.most {
                waiting.checked_add(bytes)
            } else {
                None
            }
        };
        let added = self
            .bytes
            .fetch_update(Ordering::SeqCst, Ordering::Relaxed, add);
        let backlog = Arc::clone(self);
        added.ok().map(|_| Waiting { backlog, bytes })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.backlog.bytes.fetch_sub(self.bytes, Ordering::SeqCst);
        if self.backlog.is_awaited.load(Ordering::SeqCst) && self.backlog.is_low() {
            self.backlog.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_takes_no_more_at_its_limit() {
        let backlog = GroupBacklog::new(0, 10 * (100 + PUSH));
        let mut waiting: Vec<_> = (0..20).filter_map(|_| backlog.add(100)).collect();
        assert_eq!(waiting.len(), 10);
        waiting.pop();
        assert!(backlog.add(100).is_some(), "there is room for one");
    }

    #[test]
    fn the_number_of_empty_pushes_is_bounded_too() {
        let backlog = GroupBacklog::new(0, 1000 * PUSH);
        let waiting: Vec<_> = (0..5000).filter_map(|_| backlog.add(0)).collect();
        assert_eq!(waiting.len(), 1000);
    }

    #[test]
    fn an_empty_backlog_takes_any_push() {
        let backlog = GroupBacklog::new(0, 1000);
        let large = backlog.add(isize::MAX as usize);
        assert!(large.is_some() && backlog.add(0).is_none());
        drop(large);
        assert!(backlog.add(0).is_some());
    }

    /// The worker may catch up at any moment between the push that exceeds the mark and the note of who waits.
    #[cfg(feature = "sim")]
    #[test]
    fn a_loop_with_throttled_sessions_is_notified_once_when_its_worker_has_caught_up() {
        let event_loop = crate::sim::Network::new(1).event_loop().unwrap();
        let inbox = &event_loop.0.agenda.inbox;
        let has_post = || inbox.is_filled();
        let backlog = GroupBacklog::new(0, 8 * (1000 + PUSH));
        let mut waiting: Vec<_> = (0..2).filter_map(|_| backlog.add(1000)).collect();
        assert!(!backlog.is_high());
        waiting.extend(backlog.add(1000));
        assert!(backlog.is_high());
        backlog.await_low(inbox);
        backlog.await_low(inbox);
        drop(waiting.pop());
        assert!(!has_post(), "it is not low yet");
        drop(waiting.pop());
        assert_eq!(inbox.fetch(|posts| posts).len(), 1);
        drop(waiting);
        assert!(!has_post());
        backlog.await_low(inbox);
        assert!(has_post(), "it has caught up before");
    }

    /// On systems of 32 bits the same bytes can be pushed more often than their length can be counted.
    #[test]
    fn a_sum_that_would_overflow_is_refused_and_nothing_is_counted() {
        let backlog = GroupBacklog::new(0, usize::MAX);
        let large = backlog.add(isize::MAX as usize);
        let second = backlog.add(isize::MAX as usize);
        assert!(large.is_some() && second.is_none());
        drop(large);
        assert_eq!(backlog.bytes.load(Ordering::Relaxed), 0);
    }
}

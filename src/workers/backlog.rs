//! The pushes to groups that wait for a worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a push costs in addition to its bytes: the post, the call in it, and the header of the shared bytes. With it the
/// limit bounds the number of pushes, too.
const PUSH: usize = 256;

/// How much was pushed to groups for one worker that has not taken it yet.
pub(super) struct GroupBacklog {
    bytes: AtomicUsize,
    /// When this number of bytes waits, nothing is added.
    most: usize,
}

/// A push that counts for its worker, until this is dropped.
pub(super) struct Waiting {
    backlog: Arc<GroupBacklog>,
    bytes: usize,
}

impl GroupBacklog {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(GroupBacklog {
            bytes: AtomicUsize::new(0),
            most,
        })
    }

    /// Counts a push of this number of bytes. `None` if too much waits already. As with the output of a connection, a push
    /// is checked against what waited before it, so one that is larger than the limit can be made.
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
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        let backlog = Arc::clone(self);
        added.ok().map(|_| Waiting { backlog, bytes })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.backlog.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_takes_no_more_at_its_limit() {
        let backlog = GroupBacklog::new(10 * (100 + PUSH));
        let mut waiting: Vec<_> = (0..20).filter_map(|_| backlog.add(100)).collect();
        assert_eq!(waiting.len(), 10);
        waiting.pop();
        assert!(backlog.add(100).is_some(), "there is room for one");
    }

    #[test]
    fn the_number_of_empty_pushes_is_bounded_too() {
        let backlog = GroupBacklog::new(1000 * PUSH);
        let waiting: Vec<_> = (0..5000).filter_map(|_| backlog.add(0)).collect();
        assert_eq!(waiting.len(), 1000);
    }

    #[test]
    fn an_empty_backlog_takes_any_push() {
        let backlog = GroupBacklog::new(1000);
        let large = backlog.add(isize::MAX as usize);
        assert!(large.is_some() && backlog.add(0).is_none());
        drop(large);
        assert!(backlog.add(0).is_some());
    }

    /// On systems of 32 bits the same bytes can be pushed more often than their length can be counted.
    #[test]
    fn a_sum_that_would_overflow_is_refused_and_nothing_is_counted() {
        let backlog = GroupBacklog::new(usize::MAX);
        let large = backlog.add(isize::MAX as usize);
        let second = backlog.add(isize::MAX as usize);
        assert!(large.is_some() && second.is_none());
        drop(large);
        assert_eq!(backlog.bytes.load(Ordering::Relaxed), 0);
    }
}

//! What the loops of workers have done in the end.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::runtime::counters::LoopStats;

/// The figures of the workers that have ended, by number.
#[derive(Default)]
pub(super) struct Ended(Mutex<BTreeMap<usize, LoopStats>>);

impl Ended {
    pub(super) fn add(&self, worker: usize, stats: LoopStats) {
        self.lock().insert(worker, stats);
    }

    /// All zeros if the worker has not ended, or has panicked.
    pub(super) fn stats(&self, worker: usize) -> LoopStats {
        self.lock().get(&worker).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, LoopStats>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Serial numbers for the ids of channels and timers.

use std::sync::atomic::{AtomicU64, Ordering};

/// Returns the next serial number: at least 1, and never the same one twice in a process.
///
/// All loops of a process share the counter. An id that comes from another loop therefore matches
/// nothing here, and the id of something that has ended never matches its successor.
pub(crate) fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

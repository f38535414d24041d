//! A subscriber for one thread, beside other tests that log.

use std::sync::OnceLock;

use tracing::dispatcher::{self, Dispatch};
use tracing::subscriber::NoSubscriber;

/// Calls `act` with this subscriber.
///
/// While a process has one subscriber, tracing-core asks only the thread that reaches an event first whether it is
/// wanted, and remembers the answer for all threads. Another test may be that thread, without a subscriber. So the
/// process gets a second one, which wants nothing.
pub(crate) fn with_subscriber<T>(subscriber: impl Into<Dispatch>, act: impl FnOnce() -> T) -> T {
    static SECOND: OnceLock<Dispatch> = OnceLock::new();
    SECOND.get_or_init(|| Dispatch::new(NoSubscriber::default()));
    dispatcher::with_default(&subscriber.into(), act)
}

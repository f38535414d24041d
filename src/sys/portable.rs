//! The wait on all other systems: that of the `polling` crate.

use std::cell::{Cell, RefCell};
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use polling::{Events, Poller};

use super::interest::{Event, Ready};

/// The most events that one wait takes. The next wait reports what is left.
const BATCH: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);

/// A longer wait ends early: the loop takes a turn and waits again. kevent(2) of macOS refuses more than
/// 100,000,000 seconds with EINVAL.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// On Windows `polling` handles what a wait has taken from the completion port packet by packet. If it cannot begin to
/// watch one of the sockets again, it returns the error, and drops the packets that follow. Their sockets are not watched
/// any more. A socket that it could not begin to watch before the wait is lost in the same way.
pub(super) const MAY_LOSE_EVENTS: bool = cfg!(any(windows, all(test, asynchat_portable_wait)));

pub(super) struct Waiter {
    poller: Arc<Poller>,
    events: RefCell<Events>,
    /// The last wait has failed, and may have dropped the packet of a wake-up. `polling` remembers the wake-up until a
    /// wait succeeds, and would not make another one.
    has_failed: Cell<bool>,
    #[cfg(all(test, asynchat_portable_wait))]
    loses_events: Cell<bool>,
}

/// Ends a wait from another thread.
#[derive(Clone)]
pub(crate) struct Waker(Arc<Poller>);

impl Waker {
    pub(crate) fn wake(&self) -> io::Result<()> {
        self.0.notify()
    }
}

impl Waiter {
    pub(super) fn new(poller: &Arc<Poller>) -> io::Result<Self> {
        Ok(Waiter {
            poller: Arc::clone(poller),
            events: RefCell::new(Events::with_capacity(BATCH)),
            has_failed: Cell::new(false),
            #[cfg(all(test, asynchat_portable_wait))]
            loses_events: Cell::new(false),
        })
    }

    pub(super) fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.poller))
    }

    /// See [`Poller::wait`](super::poller::Poller::wait).
    pub(super) fn wait(
        &self,
        events: &mut Vec<Event>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        let mut reported = self.events.borrow_mut();
        reported.clear();
        let timeout = if self.has_failed.get() {
            Some(Duration::ZERO)
        } else {
            clamped(timeout)
        };
        let outcome = self.poller.wait(&mut reported, timeout);
        #[cfg(all(test, asynchat_portable_wait))]
        let outcome = self.lose_events(&mut reported, outcome);
        let is_interrupted =
            matches!(&outcome, Err(error) if error.kind() == io::ErrorKind::Interrupted);
        self.has_failed.set(outcome.is_err() && !is_interrupted);
        events.extend(reported.iter().map(|event| Event {
            key: event.key,
            ready: readiness(&event),
        }));
        if is_interrupted {
            Ok(())
        } else {
            outcome.map(|_| ())
        }
    }
}

#[cfg(all(test, asynchat_portable_wait))]
impl Waiter {
    /// The next wait that finds events fails, as on Windows.
    pub(super) fn fail_and_lose_events(&self) {
        self.loses_events.set(true);
    }

    fn lose_events(&self, found: &mut Events, outcome: io::Result<usize>) -> io::Result<usize> {
        if found.is_empty() || !self.loses_events.take() {
            return outcome;
        }
        found.clear();
        Err(io::ErrorKind::OutOfMemory.into())
    }
}

fn readiness(event: &polling::Event) -> Ready {
    let is_hung_up = event.is_interrupt() || event.is_err() == Some(true);
    (Ready::READ.when(event.readable))
        .union(Ready::WRITE.when(event.writable))
        .union(Ready::URGENT.when(event.is_priority()))
        .union(Ready::HUNG_UP.when(is_hung_up))
}

fn clamped(timeout: Option<Duration>) -> Option<Duration> {
    timeout.map(|timeout| timeout.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_wait_is_longer_than_macos_allows() {
        let most = Some(Duration::from_secs(100_000_000));
        assert!(clamped(Some(Duration::MAX)) <= most);
        let short = Some(Duration::from_secs(60));
        assert_eq!(clamped(short), short);
        assert_eq!(clamped(None), None);
    }
}

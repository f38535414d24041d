//! Waiting wherever there is no shorter way: through `polling`'s own `wait`.

use std::cell::RefCell;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use polling::{Events, Poller};

use super::{Ready, Report};

/// How many events one wait takes at most; what is left is reported by the next.
const BATCH: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);

pub(super) struct Waiter {
    poller: Arc<Poller>,
    events: RefCell<Events>,
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
        })
    }

    pub(super) fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.poller))
    }

    pub(super) fn wait(
        &self,
        found: &mut Vec<Report>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        let mut events = self.events.borrow_mut();
        events.clear();
        let outcome = self.poller.wait(&mut events, timeout);
        found.extend(events.iter().map(|event| Report {
            key: event.key,
            ready: Ready {
                read: event.readable,
                write: event.writable,
                urgent: event.is_priority(),
                hung_up: event.is_interrupt() || event.is_err() == Some(true),
            },
        }));
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            outcome => outcome.map(|_| ()),
        }
    }
}

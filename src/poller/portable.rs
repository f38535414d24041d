//! Waiting wherever there is no shorter way: through `polling`'s own `wait`.

use std::cell::RefCell;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use polling::{Events, Poller};

use super::Ready;

/// How many events one wait takes at most; what is left is reported by the next.
const BATCH: NonZeroUsize = NonZeroUsize::new(1024).expect("a constant over zero");

pub(super) struct Waiter {
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
    pub(super) fn new(_: &Poller) -> io::Result<Self> {
        let events = RefCell::new(Events::with_capacity(BATCH));
        Ok(Waiter { events })
    }

    pub(super) fn waker(&self, poller: &Arc<Poller>) -> Waker {
        Waker(Arc::clone(poller))
    }

    pub(super) fn wait(
        &self,
        poller: &Poller,
        ready: &mut Vec<Ready>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        let mut events = self.events.borrow_mut();
        events.clear();
        let outcome = poller.wait(&mut events, timeout);
        ready.extend(events.iter().map(|event| Ready {
            key: event.key,
            read: event.readable,
            write: event.writable,
            urgent: event.is_priority(),
        }));
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            outcome => outcome.map(|_| ()),
        }
    }
}

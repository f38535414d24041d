//! What the clients count.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use asynchat::Result;

/// Shared by all clients. It stops the loop when the last impatient one has finished, and at the
/// first failure.
#[derive(Default)]
pub struct Tally {
    /// Commands of the barrage, responses to them, and what came in all.
    pub commands: Cell<u64>,
    pub responses: Cell<u64>,
    pub bytes: Cell<u64>,
    /// The most commands that were sent and not answered.
    pub outstanding: Cell<u64>,
    /// Impatient clients that have not finished.
    pub busy: Cell<u64>,
    latencies: RefCell<Vec<Duration>>,
    failure: RefCell<Option<String>>,
}

impl Tally {
    pub fn count_command(&self) {
        self.commands.update(|n| n + 1);
    }

    pub fn count_response(&self) {
        let outstanding = self.commands.get() - self.responses.get();
        self.outstanding.update(|most| most.max(outstanding));
        self.responses.update(|n| n + 1);
    }

    pub fn count_bytes(&self, bytes: u64) {
        self.bytes.update(|n| n + bytes);
    }

    pub fn record_latency(&self, latency: Duration) {
        self.latencies.borrow_mut().push(latency);
    }

    /// The latencies recorded since the last call, in order of length.
    pub fn latencies(&self) -> Vec<Duration> {
        let mut latencies = self.latencies.take();
        latencies.sort_unstable();
        latencies
    }

    /// An impatient client has ended, well or not.
    pub fn finish(&self, outcome: Result<(), String>) {
        self.busy.update(|n| n.saturating_sub(1));
        if self.busy.get() == 0 {
            asynchat::stop();
        }
        if let Err(what) = outcome {
            self.fail(what);
        }
    }

    /// The first failure is the one that is told.
    pub fn fail(&self, what: String) {
        self.failure.borrow_mut().get_or_insert(what);
        asynchat::stop();
    }

    /// # Errors
    /// The first failure, if there was one.
    pub fn verdict(&self) -> Result {
        match self.failure.take() {
            Some(what) => Err(what.into()),
            None => Ok(()),
        }
    }
}

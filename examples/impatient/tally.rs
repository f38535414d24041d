//! The counters and latencies that the clients record.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use asynchat::Result;

/// All clients share it. It stops the loop when the last impatient client has finished, and at the first
/// failure.
#[derive(Default)]
pub struct Tally {
    /// Commands of the barrage.
    pub commands: Cell<u64>,
    /// Responses to commands of the barrage.
    pub responses: Cell<u64>,
    /// Bytes that the impatient clients received.
    pub bytes: Cell<u64>,
    /// The largest number of commands that were sent and not yet answered.
    pub outstanding: Cell<u64>,
    /// How many impatient clients have not finished.
    pub running: Cell<u64>,
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

    /// The latencies recorded since the last call, sorted.
    pub fn latencies(&self) -> Vec<Duration> {
        let mut latencies = self.latencies.take();
        latencies.sort_unstable();
        latencies
    }

    /// Records that an impatient client has ended.
    pub fn finish(&self, outcome: Result<(), String>) {
        self.running.update(|n| n.saturating_sub(1));
        if self.running.get() == 0 {
            asynchat::stop();
        }
        if let Err(what) = outcome {
            self.fail(what);
        }
    }

    /// Records a failure, if it is the first, and stops the loop.
    pub fn fail(&self, what: String) {
        self.failure.borrow_mut().get_or_insert(what);
        asynchat::stop();
    }

    /// # Errors
    /// The first failure, if there was one.
    pub fn result(&self) -> Result {
        match self.failure.take() {
            Some(what) => Err(what.into()),
            None => Ok(()),
        }
    }
}

//! How much may pass in what time.

use std::time::Duration;

/// What may pass at once after a pause: this time's worth.
const BURST: Duration = Duration::from_millis(100);

/// A token bucket, told as the time at which it is full again rather than as a count: so it loses
/// nothing to rounding, and needs no timer of its own. It reads no clock.
pub struct Bucket {
    /// Bytes a second.
    rate: u64,
    /// When what was taken is made up for.
    due: Duration,
}

impl Bucket {
    pub fn new(rate: u64) -> Self {
        let due = Duration::ZERO;
        Bucket { rate, due }
    }

    /// Takes this much, which may be more than there is; how long to wait then before taking more.
    pub fn take(&mut self, count: usize, now: Duration) -> Duration {
        let nanos = count as u128 * 1_000_000_000 / u128::from(self.rate.max(1));
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.due = self.due.max(now).saturating_add(cost);
        let wait = self.due.saturating_sub(now);
        wait.checked_sub(BURST).unwrap_or_default()
    }
}

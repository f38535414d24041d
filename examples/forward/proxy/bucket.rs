//! A rate limit: a token bucket.

use std::time::Duration;

/// The size of the bucket, as the time in which it fills.
const BURST: Duration = Duration::from_millis(100);

/// A token bucket. It stores the time at which it is full again instead of a count of tokens: so rounding
/// errors do not add up, and it needs no timer. The caller passes the current time.
pub struct Bucket {
    /// Bytes a second.
    rate: u64,
    /// When the bucket is full again.
    full_at: Duration,
}

impl Bucket {
    pub fn new(rate: u64) -> Self {
        let full_at = Duration::ZERO;
        Bucket { rate, full_at }
    }

    /// Takes `count` bytes, even if there are fewer. Returns how long to wait before taking more.
    pub fn take(&mut self, count: usize, now: Duration) -> Duration {
        let nanos = count as u128 * 1_000_000_000 / u128::from(self.rate.max(1));
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.full_at = self.full_at.max(now).saturating_add(cost);
        let wait = self.full_at.saturating_sub(now);
        wait.checked_sub(BURST).unwrap_or_default()
    }
}

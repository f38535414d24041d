//! When something that has failed is tried again.

use std::time::{Duration, Instant};

/// The time until the next attempt, which doubles each time up to the second one.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(1);

/// Attempts that have failed one after another.
#[derive(Default)]
pub struct Retry {
    /// When the next attempt is due, and after which time that was. `None` after a success.
    next: Option<(Instant, Duration)>,
}

impl Retry {
    pub fn has_failed(&self) -> bool {
        self.next.is_some()
    }

    /// How long the next attempt has to wait.
    pub fn left(&self, now: Instant) -> Duration {
        self.next.map_or(Duration::ZERO, |(due, _)| {
            due.saturating_duration_since(now)
        })
    }

    /// Notes the outcome of an attempt.
    pub fn note(&mut self, is_ok: bool, now: Instant) {
        let wait = match self.next {
            Some((_, before)) => (before * 2).min(LONGEST),
            None => FIRST,
        };
        self.next = (!is_ok).then(|| (now + wait, wait));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_become_rarer_until_one_succeeds() {
        let mut retry = Retry::default();
        let mut now = Instant::now();
        for wait in [100, 200, 400, 800, 1_000, 1_000] {
            assert_eq!(retry.left(now), Duration::ZERO);
            retry.note(false, now);
            assert_eq!(retry.left(now), Duration::from_millis(wait));
            now += Duration::from_millis(wait);
        }
        retry.note(true, now);
        assert!(!retry.has_failed());
        retry.note(false, now);
        assert_eq!(retry.left(now), FIRST);
    }
}

//! Exponential back-off: how long to wait before a connection is tried again.
//!
//! Sans-IO: the caller passes the times and the random numbers.

use std::time::Duration;

/// The pauses before an outgoing connection is [tried again](crate::Connector::reconnect):
/// exponential back-off with jitter.
///
/// Each pause is [`factor`](Backoff#structfield.factor) times as long as the one before, up to a
/// maximum. After a connection that has lasted, the pauses start again with the initial one. A random part
/// of each pause is left out, so that the clients of a server that went down do not all return at the
/// same moment.
///
/// ```
/// use std::time::Duration;
/// use asynchat::Backoff;
/// // 5 s, 10 s, 20 s, 40 s, 60 s, 60 s, ... Up to a quarter of each is left out.
/// let backoff = Backoff::default().initial(Duration::from_secs(5)).jitter(0.25);
/// assert_eq!(backoff.max, Duration::from_secs(60));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Backoff {
    /// The first pause. Default 1 s.
    pub initial: Duration,
    /// The longest pause. Default 60 s.
    pub max: Duration,
    /// The ratio of a pause to the one before, at least 1. Smaller numbers and NaN count as 1.
    /// Default 2.
    pub factor: f64,
    /// The largest part of a pause that chance may leave out, from 0 (none) to 1 (all of it). The part
    /// is uniformly distributed. Numbers outside the range count as its nearest end, NaN as 0.
    /// Default 1, which is known as "full jitter".
    pub jitter: f64,
    /// How long a connection must have been established for the next pause to be the initial one again. A
    /// shorter connection counts as a failed one, because a server may accept connections only to close
    /// them. Default 60 s.
    pub reset_after: Duration,
    /// How many connections in a row may fail before there is no further one. `None`, the default, sets no
    /// limit. 0 counts as 1. A connection that has lasted for [`reset_after`](Backoff#structfield.reset_after)
    /// has not failed, and the count starts again after it.
    pub tries: Option<u32>,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(60),
            factor: 2.0,
            jitter: 1.0,
            reset_after: Duration::from_secs(60),
            tries: None,
        }
    }
}

impl Backoff {
    /// Sets the first pause, [`initial`](Backoff#structfield.initial).
    #[must_use]
    pub fn initial(mut self, pause: Duration) -> Self {
        self.initial = pause;
        self
    }

    /// Sets the longest pause, [`max`](Backoff#structfield.max).
    #[must_use]
    pub fn max(mut self, pause: Duration) -> Self {
        self.max = pause;
        self
    }

    /// Sets the [`factor`](Backoff#structfield.factor) between pauses.
    #[must_use]
    pub fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// Sets the part that chance may leave out, [`jitter`](Backoff#structfield.jitter).
    #[must_use]
    pub fn jitter(mut self, part: f64) -> Self {
        self.jitter = part;
        self
    }

    /// Sets how long a connection must last, [`reset_after`](Backoff#structfield.reset_after).
    #[must_use]
    pub fn reset_after(mut self, time: Duration) -> Self {
        self.reset_after = time;
        self
    }

    /// Sets how many connections in a row may fail, [`tries`](Backoff#structfield.tries).
    #[must_use]
    pub fn tries(mut self, count: impl Into<Option<u32>>) -> Self {
        self.tries = count.into();
        self
    }

    /// Returns the full length of the pause that follows `pause`, or of the first one.
    fn after(&self, pause: Option<Duration>) -> Duration {
        let Some(pause) = pause else {
            return self.initial.min(self.max);
        };
        // `max` of NaN and 1 is 1.
        let longer = pause.as_secs_f64() * self.factor.max(1.0);
        Duration::try_from_secs_f64(longer).map_or(self.max, |longer| longer.min(self.max))
    }

    /// Returns the pause without the part that `chance`, from 0 to 1, leaves out.
    fn jittered(&self, pause: Duration, chance: f64) -> Duration {
        let part = match self.jitter {
            part if part.is_nan() => 0.0,
            part => part.clamp(0.0, 1.0),
        };
        pause.saturating_sub(pause.mul_f64(part * chance.clamp(0.0, 1.0)))
    }
}

/// The successive pauses of one connection.
#[derive(Debug)]
pub(crate) struct Pauses {
    backoff: Backoff,
    last: Option<Duration>,
    /// How many connections in a row have failed.
    failed: u32,
}

impl Pauses {
    pub(crate) fn new(backoff: Backoff) -> Self {
        Pauses {
            backoff,
            last: None,
            failed: 0,
        }
    }

    /// Returns the next pause, or `None` after the last try. `up` is how long the last connection was
    /// established, or `None` if it was not. `chance` is a random number from 0 to 1.
    pub(crate) fn next(&mut self, up: Option<Duration>, chance: f64) -> Option<Duration> {
        if up.is_some_and(|up| up >= self.backoff.reset_after) {
            self.last = None;
            self.failed = 0;
        } else {
            self.failed = self.failed.saturating_add(1);
            if self.backoff.tries.is_some_and(|tries| self.failed >= tries) {
                return None;
            }
        }
        let pause = self.backoff.after(self.last);
        self.last = Some(pause);
        Some(self.backoff.jittered(pause, chance))
    }

    /// How many connections in a row have failed.
    pub(crate) fn failed(&self) -> u32 {
        self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// The first pauses in seconds, if no connection is established.
    fn pauses(backoff: Backoff, chance: f64) -> Vec<f64> {
        let mut pauses = Pauses::new(backoff);
        (0..8)
            .map_while(|_| pauses.next(None, chance))
            .map(|pause| pause.as_secs_f64())
            .collect()
    }

    #[test]
    fn by_default_pauses_double_up_to_a_minute() {
        let expected = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0];
        assert_eq!(pauses(Backoff::default(), 0.0), expected);
    }

    #[test]
    fn jitter_shortens_a_pause_and_not_the_next_one() {
        let expected = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0];
        assert_eq!(pauses(Backoff::default(), 0.5), expected);
        assert_eq!(pauses(Backoff::default().jitter(0.5), 1.0), expected);
        assert_eq!(pauses(Backoff::default(), 1.0), [0.0; 8]);
    }

    #[test]
    fn a_connection_that_has_lasted_resets_the_pauses_and_a_short_one_does_not() {
        let mut pauses = Pauses::new(Backoff::default().reset_after(secs(30)));
        let mut next = |up| pauses.next(up, 0.0).unwrap().as_secs();
        assert_eq!([next(None), next(None)], [1, 2]);
        assert_eq!(next(Some(Duration::from_millis(29_999))), 4);
        assert_eq!(next(Some(secs(30))), 1);
        assert_eq!(next(None), 2);
    }

    #[test]
    fn the_last_try_is_the_one_whose_number_was_set() {
        for (tries, count) in [(0, 0), (1, 0), (3, 2)] {
            assert_eq!(pauses(Backoff::default().tries(tries), 0.0).len(), count);
        }
        let mut pauses = Pauses::new(Backoff::default().tries(3));
        let mut is_tried_again = |up| pauses.next(up, 0.0).is_some();
        assert!(is_tried_again(None) && is_tried_again(Some(secs(59))));
        // A connection that has lasted is no failure.
        assert!(is_tried_again(Some(secs(60))));
        assert!(is_tried_again(None) && is_tried_again(None));
        assert!(!is_tried_again(None));
    }

    #[test]
    fn values_out_of_range_count_as_the_nearest_valid_one() {
        let backoff = Backoff::default().initial(secs(90));
        assert_eq!(pauses(backoff, 0.0), [60.0; 8]);
        for factor in [0.0, -1.0, f64::NAN, 1.0] {
            assert_eq!(pauses(Backoff::default().factor(factor), 0.0), [1.0; 8]);
        }
        let endless = Backoff::default().factor(f64::INFINITY);
        assert_eq!(pauses(endless, 0.0)[..3], [1.0, 60.0, 60.0]);
        for (jitter, first) in [(-1.0, 1.0), (f64::NAN, 1.0), (7.0, 0.0)] {
            assert_eq!(pauses(Backoff::default().jitter(jitter), 1.0)[0], first);
        }
        let at_once = Backoff::default().initial(Duration::ZERO);
        assert_eq!(pauses(at_once, 0.0), [0.0; 8]);
        let longest = Backoff::default().initial(Duration::MAX).max(Duration::MAX);
        assert_eq!(pauses(longest, 0.0)[1], Duration::MAX.as_secs_f64());
    }
}

//! Exponential back-off: how long to wait before a connection is tried again.
//!
//! Sans-IO: the caller passes the times and the random numbers.

use std::time::Duration;

/// The pauses before an outgoing connection is [tried again](crate::Connector::reconnect):
/// exponential back-off with jitter.
///
/// Each pause is [`factor`](Backoff#structfield.factor) times as long as the one before, up to a
/// maximum. After a connection that has lasted, the pauses start again with the first. A random part
/// of each pause is left out, so that the clients of a server that went down do not all return at the
/// same moment.
///
/// ```
/// use std::time::Duration;
/// use asynchat::Backoff;
/// // 5 s, 10 s, 20 s, 40 s, 60 s, 60 s, ... Up to a quarter of each is left out.
/// let backoff = Backoff::default().first(Duration::from_secs(5)).jitter(0.25);
/// assert_eq!(backoff.most, Duration::from_secs(60));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Backoff {
    /// The first pause. Default 1 s.
    pub first: Duration,
    /// The longest pause. Default 60 s.
    pub most: Duration,
    /// The ratio of a pause to the one before, at least 1. Smaller numbers and NaN count as 1.
    /// Default 2.
    pub factor: f64,
    /// The largest part of a pause that chance may leave out, from 0 (none) to 1 (all of it). The part
    /// is uniformly distributed. Numbers outside the range count as its nearest end, NaN as 0.
    /// Default 1, which is known as "full jitter".
    pub jitter: f64,
    /// How long a connection must have been established for the next pause to be the first again. A
    /// shorter connection counts as a failure, because a server may accept connections only to close
    /// them. Default 60 s.
    pub steady: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff {
            first: Duration::from_secs(1),
            most: Duration::from_secs(60),
            factor: 2.0,
            jitter: 1.0,
            steady: Duration::from_secs(60),
        }
    }
}

impl Backoff {
    /// Sets the [`first`](Backoff#structfield.first) pause.
    #[must_use]
    pub fn first(mut self, pause: Duration) -> Self {
        self.first = pause;
        self
    }

    /// Sets the longest pause, [`most`](Backoff#structfield.most).
    #[must_use]
    pub fn most(mut self, pause: Duration) -> Self {
        self.most = pause;
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

    /// Sets how long a connection must last, [`steady`](Backoff#structfield.steady).
    #[must_use]
    pub fn steady(mut self, time: Duration) -> Self {
        self.steady = time;
        self
    }

    /// Returns the full length of the pause that follows `pause`, or of the first one.
    fn after(&self, pause: Option<Duration>) -> Duration {
        let Some(pause) = pause else {
            return self.first.min(self.most);
        };
        // `max` of NaN and 1 is 1.
        let longer = pause.as_secs_f64() * self.factor.max(1.0);
        Duration::try_from_secs_f64(longer).map_or(self.most, |longer| longer.min(self.most))
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
}

impl Pauses {
    pub(crate) fn new(backoff: Backoff) -> Self {
        Pauses {
            backoff,
            last: None,
        }
    }

    /// Returns the next pause. `up` is how long the last connection was established, or `None` if it was
    /// not. `chance` is a random number from 0 to 1.
    pub(crate) fn next(&mut self, up: Option<Duration>, chance: f64) -> Duration {
        if up.is_some_and(|up| up >= self.backoff.steady) {
            self.last = None;
        }
        let pause = self.backoff.after(self.last);
        self.last = Some(pause);
        self.backoff.jittered(pause, chance)
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
            .map(|_| pauses.next(None, chance).as_secs_f64())
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
        let mut pauses = Pauses::new(Backoff::default().steady(secs(30)));
        let mut next = |up| pauses.next(up, 0.0).as_secs();
        assert_eq!([next(None), next(None)], [1, 2]);
        assert_eq!(next(Some(Duration::from_millis(29_999))), 4);
        assert_eq!(next(Some(secs(30))), 1);
        assert_eq!(next(None), 2);
    }

    #[test]
    fn values_out_of_range_count_as_the_nearest_valid_one() {
        let backoff = Backoff::default().first(secs(90));
        assert_eq!(pauses(backoff, 0.0), [60.0; 8]);
        for factor in [0.0, -1.0, f64::NAN, 1.0] {
            assert_eq!(pauses(Backoff::default().factor(factor), 0.0), [1.0; 8]);
        }
        let endless = Backoff::default().factor(f64::INFINITY);
        assert_eq!(pauses(endless, 0.0)[..3], [1.0, 60.0, 60.0]);
        for (jitter, first) in [(-1.0, 1.0), (f64::NAN, 1.0), (7.0, 0.0)] {
            assert_eq!(pauses(Backoff::default().jitter(jitter), 1.0)[0], first);
        }
        let at_once = Backoff::default().first(Duration::ZERO);
        assert_eq!(pauses(at_once, 0.0), [0.0; 8]);
        let most = Backoff::default().first(Duration::MAX).most(Duration::MAX);
        assert_eq!(pauses(most, 0.0)[1], Duration::MAX.as_secs_f64());
    }
}

//! How long to wait before a connection is tried again. Sans-IO: times and chances are arguments.

use std::time::Duration;

/// The pauses of a connection that is [made again](crate::Connector::reconnect): the first, and how
/// the next follow from it.
///
/// Each is longer than the one before by a factor, up to a most. A connection that has lasted makes
/// the next pause the first again. Of each pause a part is left to chance, so that a thousand clients
/// of a server that went down do not all come back in the same instant.
///
/// ```
/// use std::time::Duration;
/// use asynchat::Backoff;
/// // 5 s, 10 s, 20 s, 40 s, 60 s, 60 s, ... less up to a quarter.
/// let backoff = Backoff::default().first(Duration::from_secs(5)).jitter(0.25);
/// assert_eq!(backoff.most, Duration::from_secs(60));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Backoff {
    /// The first pause. Default 1 s.
    pub first: Duration,
    /// What no pause is longer than. Default 60 s.
    pub most: Duration,
    /// How many times longer each is than the one before. Less than 1, or not a number, counts as
    /// 1. Default 2.
    pub factor: f64,
    /// Which part of each is left to chance, from 0, nothing, to 1, all of it: a pause is somewhere
    /// between none and its full length, each as likely. Beyond these, it is the nearer one; not a
    /// number is 0. Default 1 ("full jitter").
    pub jitter: f64,
    /// How long a connection has to be up for the next pause to be the first again. Less than that,
    /// and a server that takes connections only to close them is left in peace all the same.
    /// Default 60 s.
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
    /// The same with another [`first`](Backoff#structfield.first) pause.
    #[must_use]
    pub fn first(mut self, pause: Duration) -> Self {
        self.first = pause;
        self
    }

    /// The same with another [`most`](Backoff#structfield.most).
    #[must_use]
    pub fn most(mut self, pause: Duration) -> Self {
        self.most = pause;
        self
    }

    /// The same with another [`factor`](Backoff#structfield.factor).
    #[must_use]
    pub fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// The same with another [`jitter`](Backoff#structfield.jitter).
    #[must_use]
    pub fn jitter(mut self, part: f64) -> Self {
        self.jitter = part;
        self
    }

    /// The same with another time to be [`steady`](Backoff#structfield.steady).
    #[must_use]
    pub fn steady(mut self, time: Duration) -> Self {
        self.steady = time;
        self
    }

    /// The full length of a pause: of the one after this one, or of the first.
    fn after(&self, pause: Option<Duration>) -> Duration {
        let Some(pause) = pause else {
            return self.first.min(self.most);
        };
        // `max` takes the other one for what is no number.
        let longer = pause.as_secs_f64() * self.factor.max(1.0);
        Duration::try_from_secs_f64(longer).map_or(self.most, |longer| longer.min(self.most))
    }

    /// What chance, from 0 to 1, leaves of a pause.
    fn jittered(&self, pause: Duration, chance: f64) -> Duration {
        let part = match self.jitter {
            part if part.is_nan() => 0.0,
            part => part.clamp(0.0, 1.0),
        };
        pause.saturating_sub(pause.mul_f64(part * chance.clamp(0.0, 1.0)))
    }
}

/// The pauses of one connection, as they come.
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

    /// The next pause, after a connection that was up for so long, if it was at all.
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

    /// The first pauses of connections that never come up, in seconds.
    fn pauses(backoff: Backoff, chance: f64) -> Vec<f64> {
        let mut pauses = Pauses::new(backoff);
        (0..8)
            .map(|_| pauses.next(None, chance).as_secs_f64())
            .collect()
    }

    #[test]
    fn a_pause_is_twice_the_one_before_up_to_a_minute() {
        let expected = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0];
        assert_eq!(pauses(Backoff::default(), 0.0), expected);
    }

    #[test]
    fn chance_takes_its_part_of_the_pause_and_not_of_the_next() {
        let expected = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0];
        assert_eq!(pauses(Backoff::default(), 0.5), expected);
        assert_eq!(pauses(Backoff::default().jitter(0.5), 1.0), expected);
        assert_eq!(pauses(Backoff::default(), 1.0), [0.0; 8]);
    }

    #[test]
    fn a_connection_that_has_lasted_begins_them_anew_and_a_short_one_does_not() {
        let mut pauses = Pauses::new(Backoff::default().steady(secs(30)));
        let mut next = |up| pauses.next(up, 0.0).as_secs();
        assert_eq!([next(None), next(None)], [1, 2]);
        assert_eq!(next(Some(Duration::from_millis(29_999))), 4);
        assert_eq!(next(Some(secs(30))), 1);
        assert_eq!(next(None), 2);
    }

    #[test]
    fn what_makes_no_sense_is_taken_for_what_does() {
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

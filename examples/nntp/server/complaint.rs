//! What the log says of a disk that fails. A fault that stays comes back with each
//! command that meets it, and strangers give as many commands as they like: so
//! each kind of fault is told now and then, with how many there were meanwhile.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{debug, warn};

/// From one time that a fault is told to the next.
const PAUSE: Duration = Duration::from_secs(10);

/// A kind of fault; a `static` beside the code that meets it.
pub struct Complaint {
    what: &'static str,
    pace: Mutex<Pace>,
}

impl Complaint {
    pub const fn new(what: &'static str) -> Complaint {
        let pace = Mutex::new(Pace {
            told: None,
            untold: 0,
        });
        Complaint { what, pace }
    }

    pub fn tell(&self, error: &impl Display) {
        let what = self.what;
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        match pace.next(Instant::now()) {
            Some(untold) => warn!(%error, untold, "{what}"),
            None => debug!(%error, "{what}"),
        }
    }
}

struct Pace {
    told: Option<Instant>,
    untold: u64,
}

impl Pace {
    /// Whether it is time to tell, and how many were not told before this one.
    fn next(&mut self, now: Instant) -> Option<u64> {
        if self.told.is_some_and(|told| now < told + PAUSE) {
            self.untold += 1;
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_and_then_one_now_and_then() {
        let mut pace = Pace {
            told: None,
            untold: 0,
        };
        let start = Instant::now();
        assert_eq!(pace.next(start), Some(0));
        assert_eq!(pace.next(start), None);
        assert_eq!(pace.next(start + PAUSE / 2), None);
        assert_eq!(pace.next(start + PAUSE), Some(2));
        assert_eq!(pace.next(start + PAUSE), None);
        assert_eq!(pace.next(start + 3 * PAUSE), Some(1));
    }
}

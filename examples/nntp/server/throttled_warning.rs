//! Log messages about failing disks, with a limited rate. A disk that fails causes
//! an error with each command that uses it, and clients can send commands without
//! limit. So each kind of error is logged once in a while, with the number of
//! errors that were suppressed since.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{debug, warn};

/// The shortest time between two warnings of one kind.
const INTERVAL: Duration = Duration::from_secs(10);

/// A kind of error. Declare it as a `static` at the place where the error occurs.
pub struct ThrottledWarning {
    message: &'static str,
    throttle: Mutex<Throttle>,
}

impl ThrottledWarning {
    pub const fn new(message: &'static str) -> ThrottledWarning {
        let throttle = Mutex::new(Throttle {
            last: None,
            suppressed: 0,
        });
        ThrottledWarning { message, throttle }
    }

    /// Logs the error as a warning, or at debug level if the last warning is recent.
    pub fn log(&self, error: &impl Display) {
        let message = self.message;
        let throttle = self.throttle.lock();
        let mut throttle = throttle.unwrap_or_else(PoisonError::into_inner);
        match throttle.admit(Instant::now()) {
            Some(suppressed) => warn!(%error, suppressed, "{message}"),
            None => debug!(%error, "{message}"),
        }
    }
}

struct Throttle {
    /// When the last warning was logged.
    last: Option<Instant>,
    suppressed: u64,
}

impl Throttle {
    /// If a warning may be logged now, returns how many were suppressed before it.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now < last + INTERVAL) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_warning_is_admitted_in_each_interval() {
        let mut throttle = Throttle {
            last: None,
            suppressed: 0,
        };
        let start = Instant::now();
        assert_eq!(throttle.admit(start), Some(0));
        assert_eq!(throttle.admit(start), None);
        assert_eq!(throttle.admit(start + INTERVAL / 2), None);
        assert_eq!(throttle.admit(start + INTERVAL), Some(2));
        assert_eq!(throttle.admit(start + INTERVAL), None);
        assert_eq!(throttle.admit(start + 3 * INTERVAL), Some(1));
    }
}

//! The loop's clock.

use std::thread;
use std::time::{Duration, Instant};

#[cfg(feature = "sim")]
use super::simulated::SharedNet;

/// The clock that a loop's timers and deadlines go by: the system's monotonic clock, or the virtual
/// one of a simulated network.
#[derive(Clone)]
pub(crate) enum Clock {
    System,
    #[cfg(feature = "sim")]
    Simulated(SharedNet),
}

impl Clock {
    /// Whether it is the system's, so that time passes by itself.
    pub(crate) fn is_system(&self) -> bool {
        matches!(self, Clock::System)
    }

    #[inline]
    pub(crate) fn now(&self) -> Instant {
        match self {
            Clock::System => Instant::now(),
            #[cfg(feature = "sim")]
            Clock::Simulated(net) => net.lock().now(),
        }
    }

    /// Lets this much time pass, waiting for nothing. Virtual time passes at once.
    pub(crate) fn sleep(&self, time: Duration) {
        match self {
            Clock::System => thread::sleep(time),
            #[cfg(feature = "sim")]
            Clock::Simulated(net) => net.lock().sleep(time),
        }
    }
}

//! How long a socket lingers. Sans-IO: whoever asks says what time it is, and how many bytes the
//! peer has still to take.

use std::time::{Duration, Instant};

use super::super::timers::deadline_after;
use crate::deadlines::{DRAINED, Deadlines};

/// How often to look while the peer has bytes to take. Nothing reports that it has taken some. Most
/// have taken everything after a round trip, so the pauses are short at first, and double.
const FIRST_PAUSE: Duration = Duration::from_millis(125);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The least time that a peer is given to take some.
const LEAST: Duration = Duration::from_millis(250);

/// What the kernel still holds for a peer, and how long to wait for it.
pub(super) struct Delivery {
    deadlines: Deadlines,
    /// The end of the connection's lifetime, if it has one.
    end: Option<Instant>,
    /// When the peer last made progress, and how many bytes were left then.
    since: Instant,
    unsent: usize,
    /// Until the next look.
    pause: Duration,
}

impl Delivery {
    /// Of a socket that begins to linger.
    pub(super) fn new(deadlines: Deadlines, end: Option<Instant>, now: Instant) -> Self {
        Delivery {
            deadlines,
            end,
            since: now,
            unsent: usize::MAX,
            pause: FIRST_PAUSE,
        }
    }

    /// So many bytes are left now. Says when to look again; `None`: the waiting is over.
    pub(super) fn look(&mut self, now: Instant, unsent: usize) -> Option<Instant> {
        // The peer had all of it, and then the linger time to close.
        if self.unsent == 0 {
            return None;
        }
        if unsent == 0 {
            self.unsent = 0;
            return Some(deadline_after(now, self.deadlines.linger));
        }
        // The drain deadline is a least rate here as well.
        let progress = self.deadlines.drain.map_or(1, |_| DRAINED);
        if unsent as u64 + progress <= self.unsent as u64 {
            self.unsent = unsent;
            self.since = now;
        }
        let patience = self.deadlines.drain.unwrap_or(self.deadlines.linger);
        let patient = deadline_after(self.since, patience.max(LEAST));
        let deadline = self.end.map_or(patient, |end| end.min(patient));
        let next = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        (now < deadline).then(|| deadline.min(next))
    }
}

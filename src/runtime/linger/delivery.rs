//! How long a socket lingers. Sans-IO: the caller passes the time, and the number of sent bytes that the
//! peer has not received.

use std::time::{Duration, Instant};

use crate::state::agenda::deadline_after;
use crate::time::deadlines::{DRAINED, Deadlines};

/// The pause between two checks while the peer has not received everything, because no poller reports that
/// it has received some. Most peers have received everything after one round trip, so the first pause is
/// short. Each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(125);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The shortest time within which a peer has to receive something.
const LEAST: Duration = Duration::from_millis(250);

/// What the peer still has to receive, and how long to wait for it.
pub(super) struct Delivery {
    deadlines: Deadlines,
    /// The end of the connection's lifetime, if it has one.
    end: Option<Instant>,
    /// When the peer last made progress, and how many bytes were left then.
    since: Instant,
    unsent: usize,
    /// The pause before the next check.
    pause: Duration,
    /// The socket is closed when the peer has received everything, without waiting for its close.
    ends_at_once: bool,
}

impl Delivery {
    /// The delivery of a socket that begins to linger.
    pub(super) fn new(
        deadlines: Deadlines,
        end: Option<Instant>,
        ends_at_once: bool,
        now: Instant,
    ) -> Self {
        Delivery {
            deadlines,
            end,
            since: now,
            unsent: usize::MAX,
            pause: FIRST_PAUSE,
            ends_at_once,
        }
    }

    /// Whether the socket is closed when the peer has received everything.
    pub(super) fn ends_at_once(&self) -> bool {
        self.ends_at_once
    }

    /// Whether a deadline that the program has set ends the delivery of so many bytes. An open connection is reset then, and
    /// so is this one: the kernel would keep the bytes for minutes, in memory that no limit counts. Without such a deadline
    /// the kernel goes on.
    pub(super) fn has_missed_deadline(&self, now: Instant, unsent: usize) -> bool {
        let has_ended = self.end.is_some_and(|end| now >= end);
        unsent > 0 && (self.deadlines.drain.is_some() || has_ended)
    }

    /// Notes how many bytes are left now. Returns when to check again, or `None` when the socket has
    /// lingered long enough.
    pub(super) fn look(&mut self, now: Instant, unsent: usize) -> Option<Instant> {
        // The peer has received everything, and has had the linger time to close.
        if self.unsent == 0 || (unsent == 0 && self.ends_at_once) {
            return None;
        }
        if unsent == 0 {
            self.unsent = 0;
            return Some(deadline_after(now, self.deadlines.linger));
        }
        // The drain deadline is a minimum rate here as well.
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

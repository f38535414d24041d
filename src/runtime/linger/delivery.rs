//! How long a socket lingers. Sans-IO: the caller passes the time, the number of sent bytes that the peer has not
//! received, and the number of bytes that it has sent.

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

/// A peer that keeps sending has this many linger times for it: 30 s by default, as with `lingering_time` of nginx.
/// Many clients send a whole upload before they read the reply that refuses it.
const SENDING: u32 = 15;

/// How many bytes of input are discarded for one socket. The time above is the bound that a peer on a network meets.
/// This one is for a peer that is as fast as the loop, and for long linger times.
const MOST: usize = 1 << 30;

/// The same for a piped connection. Its peer sends to another one that has left, and learns of that from a reset.
const PIPED_SENDING: u32 = 1;
const PIPED_MOST: usize = 16 << 20;

/// What the peer still has to receive, what it still sends, and how long to wait for both.
pub(super) struct Delivery {
    deadlines: Deadlines,
    /// The end of the connection's lifetime, if it has one.
    end: Option<Instant>,
    /// When the peer last made progress: when it received something, and since it has everything, when it sent
    /// something.
    since: Instant,
    /// How many bytes were left when the peer last received something.
    unsent: usize,
    /// When the socket is closed although the peer still sends. Set when the peer has received everything.
    last: Option<Instant>,
    /// How many linger times it may be sending, how many bytes of its input are discarded, and how many were.
    sending: u32,
    most: usize,
    discarded: usize,
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
            last: None,
            sending: SENDING,
            most: MOST,
            discarded: 0,
            pause: FIRST_PAUSE,
            ends_at_once,
        }
    }

    /// That of a piped connection.
    pub(super) fn piped(self) -> Self {
        Delivery {
            sending: PIPED_SENDING,
            most: PIPED_MOST,
            ..self
        }
    }

    /// Whether the socket is closed when the peer has received everything.
    pub(super) fn ends_at_once(&self) -> bool {
        self.ends_at_once
    }

    /// Whether a deadline that the program has set ends the delivery of the `unsent` bytes. An open connection is
    /// reset then, and so is this one: the kernel would keep the bytes for minutes, in memory that no limit counts. Without
    /// such a deadline the kernel goes on.
    pub(super) fn has_missed_deadline(&self, now: Instant, unsent: usize) -> bool {
        let has_ended = self.end.is_some_and(|end| now >= end);
        unsent > 0 && (self.deadlines.drain.is_some() || has_ended)
    }

    /// Notes that input was discarded. Returns whether more of it may be.
    pub(super) fn discard(&mut self, count: usize, now: Instant) -> bool {
        self.discarded += count;
        self.peer_sends(now);
        self.discarded < self.most
    }

    /// Notes that the peer is still sending. No timer is set for that: the next look finds the time.
    pub(super) fn peer_sends(&mut self, now: Instant) {
        // A peer that sends, and does not receive what was sent to it, makes no progress.
        if self.last.is_some() {
            self.since = now;
        }
    }

    /// How many bytes of input were discarded.
    pub(super) fn discarded(&self) -> usize {
        self.discarded
    }

    /// Notes how many bytes are left now. Returns when to check again, or `None` when the socket has
    /// lingered long enough.
    pub(super) fn look(&mut self, now: Instant, unsent: usize) -> Option<Instant> {
        if unsent == 0 && self.last.is_none() {
            if self.ends_at_once {
                return None;
            }
            self.since = now;
            self.last = Some(self.last_of_sending(now));
        }
        if let Some(last) = self.last {
            let deadline = last.min(deadline_after(self.since, self.deadlines.linger));
            return (now < deadline).then_some(deadline);
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

    /// Until when a peer that has received everything may go on sending. The lifetime of the connection bounds that,
    /// but each peer has one linger time for its close.
    fn last_of_sending(&self, now: Instant) -> Instant {
        let linger = self.deadlines.linger;
        let last = deadline_after(now, linger.saturating_mul(self.sending));
        let last = self.end.map_or(last, |end| end.min(last));
        last.max(deadline_after(now, linger))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_secs(2);
    const SECOND: Duration = Duration::from_secs(1);

    /// A delivery to a peer that has received everything at the second time.
    fn delivered(deadlines: Deadlines, end: Option<Duration>) -> (Delivery, Instant) {
        let now = Instant::now();
        let end = end.map(|end| now + end);
        let mut delivery = Delivery::new(deadlines, end, false, now);
        assert_eq!(delivery.look(now, 10), Some(now + FIRST_PAUSE));
        let now = now + FIRST_PAUSE;
        assert_eq!(delivery.look(now, 0), Some(now + LINGER));
        (delivery, now)
    }

    /// How long the socket of a peer lingers that sends a byte in each period.
    fn lasts(delivery: &mut Delivery, since: Instant, period: Duration) -> Duration {
        let mut now = since;
        let mut next = since + LINGER;
        loop {
            now += period;
            while next <= now {
                match delivery.look(next, 0) {
                    Some(later) => next = later,
                    None => return next - since,
                }
            }
            assert!(delivery.discard(1, now));
        }
    }

    #[test]
    fn a_silent_peer_has_one_linger_time() {
        let (mut delivery, since) = delivered(Deadlines::default(), None);
        assert_eq!(lasts(&mut delivery, since, LINGER), LINGER);
    }

    #[test]
    fn a_peer_that_sends_has_fifteen_linger_times() {
        for period in [SECOND / 100, SECOND, LINGER - SECOND / 1000] {
            let (mut delivery, since) = delivered(Deadlines::default(), None);
            assert_eq!(lasts(&mut delivery, since, period), 15 * LINGER);
        }
    }

    #[test]
    fn a_piped_peer_has_one_linger_time_and_less_input() {
        for period in [SECOND / 100, SECOND] {
            let (delivery, since) = delivered(Deadlines::default(), None);
            let mut delivery = delivery.piped();
            // The look that has noted the delivery came before.
            delivery.last = Some(delivery.last_of_sending(since));
            assert_eq!(lasts(&mut delivery, since, period), LINGER);
        }
        let (delivery, now) = delivered(Deadlines::default(), None);
        let mut delivery = delivery.piped();
        assert!(delivery.discard(PIPED_MOST - 1, now));
        assert!(!delivery.discard(1, now));
    }

    #[test]
    fn a_peer_that_has_stopped_sending_has_one_linger_time_from_its_last_byte() {
        let (mut delivery, since) = delivered(Deadlines::default(), None);
        let last = since + LINGER - SECOND / 2;
        assert!(delivery.discard(1, last - SECOND));
        assert!(delivery.discard(1, last));
        // One look, when the first linger time is over, finds both.
        assert_eq!(delivery.look(since + LINGER, 0), Some(last + LINGER));
        assert_eq!(delivery.look(last + LINGER, 0), None);
    }

    #[test]
    fn what_a_peer_sends_before_it_has_received_everything_extends_nothing() {
        let now = Instant::now();
        let mut delivery = Delivery::new(Deadlines::default(), None, false, now);
        assert!(delivery.look(now, 10).is_some());
        assert!(delivery.discard(1, now + SECOND));
        assert_eq!(delivery.look(now + LINGER, 10), None);
    }

    #[test]
    fn the_lifetime_bounds_how_long_a_peer_may_send() {
        for (lifetime, expected) in [(10, 10 * SECOND), (1, LINGER), (40, 15 * LINGER)] {
            let end = FIRST_PAUSE + lifetime * SECOND;
            let (mut delivery, since) = delivered(Deadlines::default(), Some(end));
            assert_eq!(lasts(&mut delivery, since, SECOND / 4), expected);
        }
    }

    #[test]
    fn the_input_is_bounded() {
        let (mut delivery, now) = delivered(Deadlines::default(), None);
        let mut discarded = 0;
        while delivery.discard(1 << 16, now) {
            discarded += 1 << 16;
        }
        assert_eq!(discarded + (1 << 16), 1 << 30);
        assert_eq!(delivery.discarded(), 1 << 30);
    }

    #[test]
    fn a_stream_that_was_cut_waits_for_no_input() {
        let now = Instant::now();
        let mut delivery = Delivery::new(Deadlines::default(), None, true, now);
        assert!(delivery.look(now, 10).is_some());
        assert!(delivery.discard(1, now));
        assert_eq!(delivery.look(now, 0), None);
    }
}

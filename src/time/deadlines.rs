//! How long one connection may take over what it does.

use std::time::{Duration, Instant};

use crate::error::Deadline;

/// The times that one connection is given. All are off as they stand, but for the bound on a
/// [lingering](Deadlines::linger) close.
///
/// Set them for all connections of a [`Server`](crate::Server) or a
/// [`Connector`](crate::Connector), or for one with
/// [`Channel::set_deadlines`](crate::Channel::set_deadlines). One that passes closes the
/// connection with [`Close::Timeout`](crate::Close::Timeout), which says which it was. They cost
/// nothing while bytes move: one timer serves them all, and looks at the clocks when it is due.
/// The clock is monotonic.
///
/// An idle timeout alone does not stop a peer that sends, or takes, a byte now and then
/// (slowloris, CVE-2007-6750): that takes the [`record`](Deadlines::record) and the
/// [`drain`](Deadlines::drain) deadline.
///
/// ```
/// use std::time::Duration;
/// use asynchat::Deadlines;
/// let deadlines = Deadlines::default()
///     .idle(Duration::from_secs(600))
///     .record(Duration::from_secs(30))
///     .drain(Duration::from_secs(60));
/// assert_eq!(deadlines.lifetime, None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deadlines {
    /// For an outgoing connection to come up, looking its name up and trying all its addresses
    /// included. It fails with [`Close::ConnectFailed`](crate::Close::ConnectFailed). Unset, the
    /// system decides, which takes minutes, and a name is looked up for 30 seconds at most.
    pub connect: Option<Duration>,
    /// For anything to move, in either direction.
    pub idle: Option<Duration>,
    /// For a record to be complete, from its first byte on. It stands still while this side does
    /// not read. Not for [`Terminator::none`](crate::Terminator::none), whose record is the
    /// stream.
    pub record: Option<Duration>,
    /// For the peer to take what it is sent. When the kernel takes no more, all that is queued, or
    /// 64 KiB of it, must have been taken within this time: a least rate, for however long a
    /// queue.
    ///
    /// Taken is what the kernel has taken: its own buffer, which may grow to megabytes, fills first.
    /// While a closed connection [lingers](Deadlines::linger), taken is what the peer has received.
    pub drain: Option<Duration>,
    /// For the connection as a whole, from when it is up, or from when this is first set.
    pub lifetime: Option<Duration>,
    /// How long a connection that this side has closed with
    /// [`close_when_done`](crate::Chat::close_when_done) waits for its peer to close too. Default
    /// 2 s; zero does not wait.
    ///
    /// Closing a socket with input left unread, or one whose peer still sends, resets the
    /// connection and destroys what the peer has not received yet: the very reply that was to be
    /// sent first. So its sending side is shut down, and what comes is thrown away, until the
    /// peer's end, this time, or 16 MiB (RFC 9112 section 9.6; nginx's `lingering_close`). The
    /// handler has been told and dropped before.
    ///
    /// A slow reader may need longer for what the kernel still holds for it. This time therefore
    /// begins when the peer has received everything, which the loop checks about once a second. Before
    /// that, a peer that receives something within each linger time (at least 250 ms) is waited
    /// for; with a [`drain`](Deadlines::drain) deadline, one that is as fast as that demands. The
    /// wait ends with the connection's [`lifetime`](Deadlines::lifetime), the grace of a
    /// [shutdown](crate::shutdown), and when descriptors run out. It exists on Linux, Android, Apple's
    /// systems, FreeBSD and NetBSD; other systems do not say what a peer has received, and there the
    /// time begins with the close.
    pub linger: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Deadlines {
            connect: None,
            idle: None,
            record: None,
            drain: None,
            lifetime: None,
            linger: Duration::from_secs(2),
        }
    }
}

impl Deadlines {
    /// The same with another [`connect`](Deadlines#structfield.connect) deadline.
    #[must_use]
    pub fn connect(mut self, after: impl Into<Option<Duration>>) -> Self {
        self.connect = after.into();
        self
    }

    /// The same with another [`idle`](Deadlines#structfield.idle) deadline.
    #[must_use]
    pub fn idle(mut self, after: impl Into<Option<Duration>>) -> Self {
        self.idle = after.into();
        self
    }

    /// The same with another [`record`](Deadlines#structfield.record) deadline.
    #[must_use]
    pub fn record(mut self, after: impl Into<Option<Duration>>) -> Self {
        self.record = after.into();
        self
    }

    /// The same with another [`drain`](Deadlines#structfield.drain) deadline.
    #[must_use]
    pub fn drain(mut self, after: impl Into<Option<Duration>>) -> Self {
        self.drain = after.into();
        self
    }

    /// The same with another [`lifetime`](Deadlines#structfield.lifetime) deadline.
    #[must_use]
    pub fn lifetime(mut self, after: impl Into<Option<Duration>>) -> Self {
        self.lifetime = after.into();
        self
    }

    /// The same with another [`linger`](Deadlines#structfield.linger) time.
    #[must_use]
    pub fn linger(mut self, time: Duration) -> Self {
        self.linger = time;
        self
    }
}

/// How much has to be taken of a long queue for the drain clock to begin anew.
pub(crate) const DRAINED: u64 = 64 * 1024;

/// The running clocks of one connection. Sans-IO: whoever tells it something says when.
#[derive(Debug)]
pub(crate) struct Clocks {
    set: Deadlines,
    /// When it was registered, and then when it came up.
    since: Option<Instant>,
    up: bool,
    moved: Option<Instant>,
    record: Option<Waiting>,
    drain: Option<Draining>,
}

/// For the rest of a record.
#[derive(Clone, Copy, Debug)]
enum Waiting {
    Since(Instant),
    /// This side does not read. So long the peer had taken by then.
    Paused(Duration),
}

/// Output that the kernel does not take: since when, and how much had been sent by then.
#[derive(Clone, Copy, Debug)]
struct Draining {
    since: Instant,
    sent: u64,
}

/// What has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    Connect,
    Deadline(Deadline),
}

impl Clocks {
    pub(crate) fn new(set: Deadlines) -> Self {
        Clocks {
            set,
            since: None,
            up: false,
            moved: None,
            record: None,
            drain: None,
        }
    }

    pub(crate) fn deadlines(&self) -> Deadlines {
        self.set
    }

    /// The end of its lifetime, if that is bounded.
    pub(crate) fn end_of_life(&self) -> Option<Instant> {
        self.since?.checked_add(self.set.lifetime?)
    }

    /// Sets other deadlines. The clocks of those that change begin anew, and of no others: a
    /// session that is generous with one record must not give the peer more time for the rest. The
    /// lifetime never does.
    pub(crate) fn set(&mut self, set: Deadlines, now: Instant) {
        let before = std::mem::replace(&mut self.set, set);
        if before.idle != set.idle {
            self.moved = self.moved.and(Some(now));
        }
        if before.record != set.record {
            self.record = self.record.map(|waiting| match waiting {
                Waiting::Since(_) => Waiting::Since(now),
                Waiting::Paused(_) => Waiting::Paused(Duration::ZERO),
            });
        }
        if before.drain != set.drain
            && let Some(drain) = &mut self.drain
        {
            drain.since = now;
        }
    }

    /// It is registered, and up or not; or it has come up.
    pub(crate) fn start(&mut self, now: Instant, up: bool) {
        self.since = Some(now);
        self.up = up;
        self.moved = up.then_some(now);
    }

    /// Bytes have moved.
    pub(crate) fn moved(&mut self, now: Instant) {
        self.moved = Some(now);
    }

    /// Input was parsed: whether a record was completed, and whether one is begun.
    pub(crate) fn parsed(&mut self, now: Instant, completed: bool, begun: bool) {
        if !begun {
            self.record = None;
        } else if completed || self.record.is_none() {
            self.record = Some(Waiting::Since(now));
        }
    }

    /// There is no record to wait for any more, complete or not.
    pub(crate) fn record_over(&mut self) {
        self.record = None;
    }

    /// This side does not read for now: that time is not the peer's.
    pub(crate) fn pause(&mut self, now: Instant) {
        if let Some(Waiting::Since(begun)) = self.record {
            self.record = Some(Waiting::Paused(now.saturating_duration_since(begun)));
        }
    }

    /// This side reads again.
    pub(crate) fn resume(&mut self, now: Instant) {
        if let Some(Waiting::Paused(taken)) = self.record {
            self.record = Some(Waiting::Since(now.checked_sub(taken).unwrap_or(now)));
        }
    }

    /// The kernel was offered output, and took all of it or not; it has taken `sent` bytes so far.
    pub(crate) fn offered(&mut self, now: Instant, all: bool, sent: u64) {
        self.drain = match self.drain {
            _ if all => None,
            Some(drain) if sent < drain.sent.saturating_add(DRAINED) => Some(drain),
            _ => Some(Draining { since: now, sent }),
        };
    }

    /// Nothing waits to be sent any more.
    pub(crate) fn drained(&mut self) {
        self.drain = None;
    }

    /// The deadline that passes first, as things are.
    pub(crate) fn next(&self) -> Option<(Instant, Passed)> {
        let of = |since: Option<Instant>, after: Option<Duration>, passed| {
            Some((since?.checked_add(after?)?, passed))
        };
        if !self.up {
            return of(self.since, self.set.connect, Passed::Connect);
        }
        let drain = self.drain.map(|drain| drain.since);
        let record = match self.record {
            Some(Waiting::Since(begun)) => Some(begun),
            _ => None,
        };
        [
            (self.since, self.set.lifetime, Deadline::Lifetime),
            (self.moved, self.set.idle, Deadline::Idle),
            (record, self.set.record, Deadline::Record),
            (drain, self.set.drain, Deadline::Drain),
        ]
        .into_iter()
        .filter_map(|(since, after, which)| of(since, after, Passed::Deadline(which)))
        .min_by_key(|(when, _)| *when)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn clocks(set: Deadlines) -> (Clocks, Instant) {
        let (mut clocks, start) = (Clocks::new(set), Instant::now());
        clocks.start(start, true);
        (clocks, start)
    }

    fn passes(clocks: &Clocks, start: Instant) -> Option<(u64, Deadline)> {
        match clocks.next()? {
            (when, Passed::Deadline(which)) => Some(((when - start).as_secs(), which)),
            (when, Passed::Connect) => panic!("it is up: {when:?}"),
        }
    }

    #[test]
    fn nothing_passes_unless_it_is_set() {
        let (mut clocks, start) = clocks(Deadlines::default());
        clocks.parsed(start, false, true);
        clocks.offered(start, false, 0);
        assert_eq!(clocks.next(), None);
    }

    #[test]
    fn the_connect_deadline_holds_until_it_is_up() {
        let set = Deadlines::default().connect(secs(3)).idle(secs(9));
        let (mut clocks, start) = (Clocks::new(set), Instant::now());
        assert_eq!(clocks.next(), None);
        clocks.start(start, false);
        assert_eq!(clocks.next(), Some((start + secs(3), Passed::Connect)));
        clocks.start(start + secs(2), true);
        assert_eq!(passes(&clocks, start), Some((11, Deadline::Idle)));
    }

    #[test]
    fn what_moves_puts_idleness_off_and_not_the_lifetime() {
        let (mut clocks, start) = clocks(Deadlines::default().idle(secs(5)).lifetime(secs(20)));
        assert_eq!(passes(&clocks, start), Some((5, Deadline::Idle)));
        clocks.moved(start + secs(4));
        assert_eq!(passes(&clocks, start), Some((9, Deadline::Idle)));
        clocks.moved(start + secs(16));
        assert_eq!(passes(&clocks, start), Some((20, Deadline::Lifetime)));
    }

    #[test]
    fn a_record_is_timed_from_its_first_byte_whatever_trickles_in() {
        let (mut clocks, start) = clocks(Deadlines::default().record(secs(5)));
        assert_eq!(clocks.next(), None);
        clocks.parsed(start + secs(1), false, true);
        clocks.parsed(start + secs(4), false, true);
        assert_eq!(passes(&clocks, start), Some((6, Deadline::Record)));
        // Completed, and the next one begun with the same piece of input.
        clocks.parsed(start + secs(5), true, true);
        assert_eq!(passes(&clocks, start), Some((10, Deadline::Record)));
        clocks.parsed(start + secs(6), true, false);
        assert_eq!(clocks.next(), None);
    }

    #[test]
    fn a_record_is_not_timed_while_this_side_does_not_read() {
        let (mut clocks, start) = clocks(Deadlines::default().record(secs(5)));
        clocks.pause(start);
        clocks.resume(start);
        assert_eq!(clocks.next(), None);
        clocks.parsed(start, false, true);
        clocks.pause(start + secs(2));
        clocks.pause(start + secs(30));
        assert_eq!(clocks.next(), None);
        // Two of its five seconds were taken before.
        clocks.resume(start + secs(60));
        clocks.resume(start + secs(61));
        assert_eq!(passes(&clocks, start), Some((63, Deadline::Record)));
    }

    #[test]
    fn draining_is_a_rate_and_not_a_sign_of_life() {
        let (mut clocks, start) = clocks(Deadlines::default().drain(secs(10)));
        clocks.offered(start, true, 5);
        assert_eq!(clocks.next(), None);
        clocks.offered(start + secs(1), false, 100);
        // A byte now and then is not enough.
        clocks.offered(start + secs(9), false, 108);
        assert_eq!(passes(&clocks, start), Some((11, Deadline::Drain)));
        clocks.offered(start + secs(10), false, 100 + DRAINED);
        assert_eq!(passes(&clocks, start), Some((20, Deadline::Drain)));
        clocks.offered(start + secs(11), true, 100 + DRAINED + 1);
        assert_eq!(clocks.next(), None);
    }

    #[test]
    fn a_deadline_that_changes_begins_anew_and_no_other() {
        let (mut clocks, start) = clocks(Deadlines::default().record(secs(5)).lifetime(secs(30)));
        clocks.parsed(start + secs(1), false, true);
        clocks.set(clocks.deadlines().idle(secs(25)), start + secs(2));
        assert_eq!(passes(&clocks, start), Some((6, Deadline::Record)));
        let generous = Deadlines::default().record(secs(20)).lifetime(secs(30));
        clocks.set(generous, start + secs(3));
        assert_eq!(passes(&clocks, start), Some((23, Deadline::Record)));
        clocks.set(generous.record(secs(21)), start + secs(15));
        assert_eq!(passes(&clocks, start), Some((30, Deadline::Lifetime)));
    }

    #[test]
    fn a_deadline_beyond_the_clocks_reach_never_passes() {
        let (clocks, _) = clocks(Deadlines::default().idle(Duration::MAX));
        assert_eq!(clocks.next(), None);
    }
}

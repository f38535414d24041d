//! The deadlines of a connection, and the clocks that measure them.

use std::time::{Duration, Instant};

use crate::error::Deadline;

/// The deadlines of one connection. Each is a duration and off (`None`) by default, except
/// [`handshake`](Deadlines#structfield.handshake) and [`linger`](Deadlines#structfield.linger).
///
/// Set them for all connections of a [`Server`](crate::Server) or a
/// [`Connector`](crate::Connector), or for one connection with
/// [`Channel::set_deadlines`](crate::Channel::set_deadlines). A deadline that passes closes the
/// connection with [`Close::Timeout`](crate::Close::Timeout), which names the deadline;
/// [`connect`](Deadlines#structfield.connect) and `linger` differ, see there. The clock is monotonic.
///
/// The connection closes at once, and its queue is dropped. If output was queued, the peer gets a reset, so that
/// it does not take the output for complete. What `handle_close` pushes is not sent. For a farewell, set a timer
/// that is due before the deadline with [`Channel::call_later`](crate::Channel::call_later); in `handle_timer`
/// push the farewell and call [`close_when_done`](crate::Chat::close_when_done).
///
/// Deadlines cost no system call and no allocation per event. Each connection has one timer for all of
/// its deadlines, and bytes that move do not reset it: it examines the clocks when it fires.
///
/// An idle deadline does not stop a peer that sends or takes one byte at a time (slowloris,
/// CVE-2007-6750). The [`record`](Deadlines#structfield.record),
/// [`input`](Deadlines#structfield.input) and [`drain`](Deadlines#structfield.drain) deadlines do.
///
/// ```
/// use std::time::Duration;
/// use asynchat::Deadlines;
/// let deadlines = Deadlines::default()
///     .idle(Duration::from_secs(600))
///     .record(Duration::from_secs(30))
///     .drain(Duration::from_secs(60));
/// assert_eq!(deadlines.lifetime, None);
/// // `None` turns a deadline off.
/// assert_eq!(deadlines.idle(None).idle, None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deadlines {
    /// The time to establish an outgoing connection, including the name look-up and the attempts at
    /// all addresses. When it passes, the reason is
    /// [`Close::ConnectFailed`](crate::Close::ConnectFailed). If it is `None`, the operating system
    /// limits each attempt, usually to minutes, and a name look-up is limited to 30 seconds.
    pub connect: Option<Duration>,
    /// The time for a TLS handshake, from when it begins: when the connection is up, or when everything that was
    /// pushed before `start_tls` is sent. Default 10 s. A message of the peer that waits for this side, because many
    /// handshakes are under way, extends it by that time. A connector's
    /// [`connect`](Deadlines#structfield.connect) deadline includes the handshake as well. The other deadlines
    /// of a new connection begin after the handshake. The header of the PROXY protocol has the same time, from when the
    /// connection is accepted.
    pub handshake: Option<Duration>,
    /// The time without any byte in either direction. It also runs while a queued producer or
    /// [`Promise`](crate::Promise) has nothing to send yet. Such a connection has queued output, so the peer
    /// gets a reset.
    pub idle: Option<Duration>,
    /// The time from the first byte of a record to its end. It runs while the loop waits for the peer: it
    /// stops while the connection is paused or [back-pressured](crate::Limits#structfield.high_water), and
    /// while received input waits for the session. Then it goes on; only the end of the record resets it. It
    /// does not apply to [`Terminator::none`](crate::Terminator::none), whose record has no end.
    ///
    /// With TLS a record begins with the first byte of the TLS record that it comes in, so that a peer which sends
    /// TLS records byte by byte is closed as one that sends lines byte by byte. The same holds for `input`.
    ///
    /// A loop that takes no turn (a slow callback, a host that is busy) does not read either, and then a full
    /// buffer stops the peer. If at least 1 KiB was waiting when the loop reads again, the time of its absence
    /// does not count. The same holds for [`input`](Deadlines#structfield.input), and, when the kernel accepts as
    /// much, for [`drain`](Deadlines#structfield.drain).
    pub record: Option<Duration>,
    /// The time for the peer to send 64 KiB of a record, or the rest of it. It runs when the
    /// [`record`](Deadlines#structfield.record) deadline does, and starts again each time 64 KiB have
    /// arrived. It is therefore a minimum rate: an upload of 100 MB may take its time, but a peer that
    /// trickles may not. Use it instead of `record`, or with it as the bound on the whole.
    ///
    /// All input of [`Terminator::none`](crate::Terminator::none) is one record, which begins with its first byte
    /// and ends with the connection: an upload as in FTP. A peer that may be silent in the middle of such a
    /// stream, as a person at a terminal, needs a connection without this deadline. Neither this deadline nor `record` applies
    /// to a connection that is [piped](crate::pipe).
    pub input: Option<Duration>,
    /// The time for the peer to take output. It runs while the kernel accepts no more output. It starts again
    /// each time the kernel has accepted 64 KiB, and ends when it has accepted the whole queue. It is therefore a
    /// minimum rate, independent of the length of the queue. Before the deadline passes the loop tries to send
    /// once more. What the kernel accepts then counts, so a peer that takes nothing is closed after up to twice
    /// this time.
    ///
    /// The kernel buffers output, often several megabytes, and that counts as taken. While a closed
    /// connection [lingers](Deadlines#structfield.linger), only what the peer has acknowledged counts.
    pub drain: Option<Duration>,
    /// The time from the establishment of the connection to its end. If the connection has no deadlines
    /// at first, it starts when deadlines are set.
    pub lifetime: Option<Duration>,
    /// The time that a connection closed with [`close_when_done`](crate::Chat::close_when_done) waits
    /// for a silent peer to close as well. Default 2 s. With zero it does not wait.
    ///
    /// If a socket is closed with unread input, or while its peer still sends, the kernel resets the
    /// connection, and the peer can lose output that it has not received yet. Therefore only the
    /// sending side is shut down first, and input is dropped (RFC 9112 section 9.6; nginx's `lingering_close`)
    /// until the peer closes, or has sent nothing for this time. A client that sends its whole upload before it reads
    /// the reply that refuses it may need longer: while it keeps sending it has 15 times this time in all, 30 s by
    /// default, for at most 1 GiB. The peer of a [piped](crate::pipe) connection has this time once, for at most 16 MiB.
    /// `handle_close` is called and the handler dropped before that.
    ///
    /// The time starts when the peer has acknowledged all output, which the loop checks about once a
    /// second. Until then a slow peer is waited for as long as it acknowledges some output within each
    /// linger time (at least 250 ms), or, with a [`drain`](Deadlines#structfield.drain) deadline, as
    /// fast as that demands. The wait also ends with the connection's
    /// [`lifetime`](Deadlines#structfield.lifetime) (but a peer that has received everything has the linger time), with
    /// the grace of a [shutdown](crate::shutdown), and when file descriptors run out.
    ///
    /// When the drain deadline or the lifetime has passed, the peer gets a reset, and the kernel frees what was not
    /// acknowledged. At any other end the kernel goes on to send it, for as long as the system is configured to
    /// (`tcp_orphan_retries` of Linux).
    ///
    /// Also what [`Channel::send`](crate::Channel::send) has accepted with TLS, and the kernel has not, is sent
    /// within these bounds.
    ///
    /// Linux, Android, Apple's systems, FreeBSD and NetBSD report what a peer has acknowledged. On other
    /// systems the time starts when the connection is closed, and ends without a reset.
    pub linger: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Deadlines {
            connect: None,
            handshake: Some(Duration::from_secs(10)),
            idle: None,
            record: None,
            input: None,
            drain: None,
            lifetime: None,
            linger: Duration::from_secs(2),
        }
    }
}

impl Deadlines {
    /// Sets the [`connect`](Deadlines#structfield.connect) deadline. `None` turns it off.
    #[must_use]
    pub fn connect(mut self, after: impl Into<Option<Duration>>) -> Self {
        self.connect = after.into();
        self
    }

    /// Sets the [`handshake`](Deadlines#structfield.handshake) deadline. `None` turns it off.
    #[must_use]
    pub fn handshake(mut self, after: impl Into<Option<Duration>>) -> Self {
        self.handshake = after.into();
        self
    }

    /// Sets the [`idle`](Deadlines#structfield.idle) deadline. `None` turns it off.
    #[must_use]
    pub fn idle(mut self, after: impl Into<Option<Duration>>) -> Self {
        self.idle = after.into();
        self
    }

    /// Sets the [`record`](Deadlines#structfield.record) deadline. `None` turns it off.
    #[must_use]
    pub fn record(mut self, after: impl Into<Option<Duration>>) -> Self {
        self.record = after.into();
        self
    }

    /// Sets the [`input`](Deadlines#structfield.input) deadline. `None` turns it off.
    #[must_use]
    pub fn input(mut self, after: impl Into<Option<Duration>>) -> Self {
        self.input = after.into();
        self
    }

    /// Sets the [`drain`](Deadlines#structfield.drain) deadline. `None` turns it off.
    #[must_use]
    pub fn drain(mut self, after: impl Into<Option<Duration>>) -> Self {
        self.drain = after.into();
        self
    }

    /// Sets the [`lifetime`](Deadlines#structfield.lifetime) deadline. `None` turns it off.
    #[must_use]
    pub fn lifetime(mut self, after: impl Into<Option<Duration>>) -> Self {
        self.lifetime = after.into();
        self
    }

    /// Sets the [`linger`](Deadlines#structfield.linger) time.
    #[must_use]
    pub fn linger(mut self, time: Duration) -> Self {
        self.linger = time;
        self
    }
}

/// How many bytes the peer must take for the drain clock to start again, if more are queued.
pub(crate) const DRAINED: u64 = 64 * 1024;

/// How many bytes of a record the peer must send for the input clock to start again.
const RECEIVED: u64 = 64 * 1024;

/// How many bytes the kernel buffers at least. A peer for which fewer have passed since the loop was here last
/// was not stopped by a full buffer, whatever the loop did meanwhile. The smallest buffer of Linux has room for
/// slightly more. Were any byte enough, a trickling peer of a loop that is always late would have no deadline.
pub(crate) const BUFFERED: usize = 1024;

/// The clocks of one connection. Each method takes the time as an argument.
#[derive(Debug)]
pub(crate) struct Clocks {
    set: Deadlines,
    /// When the connection was registered, and later when it was established.
    since: Option<Instant>,
    /// Whether the connection is established.
    up: bool,
    /// When bytes last moved.
    moved: Option<Instant>,
    /// The time that the current record has taken.
    record: Option<Stopwatch>,
    /// The time since the last 64 KiB of that record have arrived, or of a stream that has no records. While there is
    /// a `record` clock there is this one as well, and both run or neither.
    input: Option<RateClock>,
    /// The time that the kernel has not accepted output, since the last 64 KiB that it has.
    drain: Option<RateClock>,
}

/// Measures the time for which this side has waited for the peer.
#[derive(Clone, Copy, Debug)]
enum Stopwatch {
    Since(Instant),
    /// The peer waits for this side. Before that, it had taken this long.
    Paused(Duration),
}

/// Measures the time since a number of bytes was counted.
#[derive(Clone, Copy, Debug)]
struct RateClock {
    stopwatch: Stopwatch,
    /// The bytes that had moved in this direction by then, in the life of the connection.
    counted: u64,
}

/// What has arrived in part when all that was received is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartialInput {
    Nothing,
    Record,
    /// Input that no terminator divides into records.
    Stream,
}

/// A deadline that passes.
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
            input: None,
            drain: None,
        }
    }

    pub(crate) fn deadlines(&self) -> Deadlines {
        self.set
    }

    /// Returns when the lifetime of the connection ends, if it has a deadline.
    pub(crate) fn end_of_life(&self) -> Option<Instant> {
        self.since?.checked_add(self.set.lifetime?)
    }

    /// Replaces the deadlines. The idle, record, input and drain clocks start again if their deadline changes.
    /// The others go on: a session that allows more time for one record must not extend the time for
    /// anything else. The lifetime is always counted from the establishment of the connection.
    pub(crate) fn set(&mut self, set: Deadlines, now: Instant) {
        let before = std::mem::replace(&mut self.set, set);
        if before.idle != set.idle {
            self.moved = self.moved.and(Some(now));
        }
        if before.record != set.record
            && let Some(record) = &mut self.record
        {
            record.restart(now);
        }
        if before.input != set.input
            && let Some(input) = &mut self.input
        {
            input.stopwatch.restart(now);
        }
        if before.drain != set.drain
            && let Some(drain) = &mut self.drain
        {
            drain.stopwatch.restart(now);
        }
    }

    /// The connection has been registered, or has been established (`up`).
    pub(crate) fn start(&mut self, now: Instant, up: bool) {
        self.since = Some(now);
        self.up = up;
        self.moved = up.then_some(now);
    }

    /// Bytes have been received or sent.
    pub(crate) fn moved(&mut self, now: Instant) {
        self.moved = Some(now);
    }

    /// Input has been parsed. `completed`: at least one record ended. `received`: how many bytes have arrived in the
    /// life of the connection.
    pub(crate) fn parsed(
        &mut self,
        now: Instant,
        completed: bool,
        begun: PartialInput,
        received: u64,
    ) {
        if begun == PartialInput::Nothing {
            return self.end_record();
        }
        if completed || self.record.is_some() != (begun == PartialInput::Record) {
            self.record = (begun == PartialInput::Record).then_some(Stopwatch::Since(now));
            self.input = None;
        }
        let is_due = |input: RateClock| received >= input.counted.saturating_add(RECEIVED);
        if self.input.is_none_or(is_due) {
            self.input = Some(RateClock::new(now, received));
        }
    }

    /// The current record will not be completed, or has been by silence.
    pub(crate) fn end_record(&mut self) {
        self.record = None;
        self.input = None;
    }

    /// This side stops reading. The record and input clocks stop, because the delay is not the peer's.
    pub(crate) fn pause(&mut self, now: Instant) {
        self.of_input().for_each(|it| it.pause(now));
    }

    fn of_input(&mut self) -> impl Iterator<Item = &mut Stopwatch> {
        let input = self.input.iter_mut().map(|input| &mut input.stopwatch);
        self.record.iter_mut().chain(input)
    }

    /// Output has been offered to the kernel. `all`: the kernel accepted all of it, which may be less than is
    /// queued. `sent`: how many bytes it has accepted in the life of the connection.
    pub(crate) fn offered(&mut self, now: Instant, all: bool, sent: u64) {
        self.drain
            .take_if(|drain| sent >= drain.counted.saturating_add(DRAINED));
        if !all {
            let drain = self.drain.get_or_insert(RateClock::new(now, sent));
            drain.stopwatch.resume(now);
        } else if let Some(drain) = &mut self.drain {
            drain.stopwatch.pause(now);
        }
    }

    /// No output is left to send.
    pub(crate) fn drained(&mut self) {
        self.drain = None;
    }

    /// Ends the turn of the connection. `awaits_input`: it waits for its peer to send, with nothing left to
    /// deliver. `has_output`: it has something to send.
    pub(crate) fn end_turn(&mut self, now: Instant, awaits_input: bool, has_output: bool) {
        self.of_input().for_each(|it| {
            if awaits_input {
                it.resume(now);
            } else {
                it.pause(now);
            }
        });
        if !has_output {
            self.drained();
        }
    }

    /// Whether that would change a clock.
    pub(crate) fn is_changed_by_turn(&self, awaits_input: bool, has_output: bool) -> bool {
        let runs = self.input.map(|input| input.stopwatch.begun().is_some());
        runs.is_some_and(|runs| runs != awaits_input) || (!has_output && self.drain.is_some())
    }

    /// Input has arrived that may have filled the kernel's buffer in the `absence` of the loop.
    pub(crate) fn forgive_input(&mut self, now: Instant, absence: Duration) {
        self.of_input().for_each(|it| it.forgive(now, absence));
    }

    /// The peer may have emptied the kernel's buffer in the `absence` of the loop.
    pub(crate) fn forgive_output(&mut self, now: Instant, absence: Duration) {
        if let Some(drain) = &mut self.drain {
            drain.stopwatch.forgive(now, absence);
        }
    }

    /// Returns the deadline that passes first and when, if no clock changes before.
    pub(crate) fn next(&self) -> Option<(Instant, Passed)> {
        let end = |since: Option<Instant>, after: Option<Duration>, passed| {
            Some((since?.checked_add(after?)?, passed))
        };
        if !self.up {
            return end(self.since, self.set.connect, Passed::Connect);
        }
        let record = self.record.and_then(Stopwatch::begun);
        let input = self.input.and_then(|input| input.stopwatch.begun());
        let drain = self.drain.and_then(|drain| drain.stopwatch.begun());
        let mut next: Option<(Instant, Passed)> = None;
        let mut add = |since: Option<Instant>, after: Option<Duration>, which| {
            if let Some((when, passed)) = end(since, after, Passed::Deadline(which))
                && next.is_none_or(|(first, _)| when < first)
            {
                next = Some((when, passed));
            }
        };
        add(self.since, self.set.lifetime, Deadline::Lifetime);
        add(self.moved, self.set.idle, Deadline::Idle);
        add(record, self.set.record, Deadline::Record);
        add(input, self.set.input, Deadline::Input);
        add(drain, self.set.drain, Deadline::Drain);
        next
    }
}

impl Stopwatch {
    /// When the time began to run; `None` while it does not.
    fn begun(self) -> Option<Instant> {
        match self {
            Stopwatch::Since(begun) => Some(begun),
            Stopwatch::Paused(_) => None,
        }
    }

    fn pause(&mut self, now: Instant) {
        if let Stopwatch::Since(begun) = *self {
            *self = Stopwatch::Paused(now.saturating_duration_since(begun));
        }
    }

    fn resume(&mut self, now: Instant) {
        if let Stopwatch::Paused(taken) = *self {
            *self = Stopwatch::Since(now.checked_sub(taken).unwrap_or(now));
        }
    }

    /// The time counts from now.
    fn restart(&mut self, now: Instant) {
        *self = match self {
            Stopwatch::Since(_) => Stopwatch::Since(now),
            Stopwatch::Paused(_) => Stopwatch::Paused(Duration::ZERO),
        };
    }

    /// This part of the time does not count.
    fn forgive(&mut self, now: Instant, time: Duration) {
        if let Stopwatch::Since(begun) = self {
            *begun = begun.checked_add(time).map_or(now, |later| later.min(now));
        }
    }
}

impl RateClock {
    fn new(now: Instant, counted: u64) -> Self {
        RateClock {
            stopwatch: Stopwatch::Since(now),
            counted,
        }
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
            (when, Passed::Connect) => panic!("the connection is established: {when:?}"),
        }
    }

    #[test]
    fn each_setter_sets_its_field() {
        let set = Deadlines::default()
            .connect(secs(1))
            .handshake(secs(8))
            .idle(secs(2))
            .record(secs(3))
            .input(secs(7))
            .drain(secs(4))
            .lifetime(secs(5))
            .linger(secs(6));
        let expected = Deadlines {
            connect: Some(secs(1)),
            handshake: Some(secs(8)),
            idle: Some(secs(2)),
            record: Some(secs(3)),
            input: Some(secs(7)),
            drain: Some(secs(4)),
            lifetime: Some(secs(5)),
            linger: secs(6),
        };
        assert_eq!(set, expected);
    }

    #[test]
    fn no_deadline_passes_by_default() {
        let (mut clocks, start) = clocks(Deadlines::default());
        clocks.parsed(start, false, PartialInput::Record, 0);
        clocks.offered(start, false, 0);
        assert_eq!(clocks.next(), None);
    }

    #[test]
    fn the_connect_deadline_applies_until_the_connection_is_established() {
        let set = Deadlines::default().connect(secs(3)).idle(secs(9));
        let (mut clocks, start) = (Clocks::new(set), Instant::now());
        assert_eq!(clocks.next(), None);
        clocks.start(start, false);
        assert_eq!(clocks.next(), Some((start + secs(3), Passed::Connect)));
        clocks.start(start + secs(2), true);
        assert_eq!(passes(&clocks, start), Some((11, Deadline::Idle)));
    }

    #[test]
    fn moving_bytes_defer_the_idle_deadline_and_not_the_lifetime() {
        let (mut clocks, start) = clocks(Deadlines::default().idle(secs(5)).lifetime(secs(20)));
        assert_eq!(passes(&clocks, start), Some((5, Deadline::Idle)));
        clocks.moved(start + secs(4));
        assert_eq!(passes(&clocks, start), Some((9, Deadline::Idle)));
        clocks.moved(start + secs(16));
        assert_eq!(passes(&clocks, start), Some((20, Deadline::Lifetime)));
    }

    #[test]
    fn a_record_is_timed_from_its_first_byte_and_later_bytes_do_not_matter() {
        let (mut clocks, start) = clocks(Deadlines::default().record(secs(5)));
        assert_eq!(clocks.next(), None);
        clocks.parsed(start + secs(1), false, PartialInput::Record, 0);
        clocks.parsed(start + secs(4), false, PartialInput::Record, 0);
        assert_eq!(passes(&clocks, start), Some((6, Deadline::Record)));
        // The same segment completes the record and begins the next one.
        clocks.parsed(start + secs(5), true, PartialInput::Record, 0);
        assert_eq!(passes(&clocks, start), Some((10, Deadline::Record)));
        clocks.parsed(start + secs(6), true, PartialInput::Nothing, 0);
        assert_eq!(clocks.next(), None);
    }

    #[test]
    fn a_record_is_not_timed_while_this_side_does_not_read() {
        let (mut clocks, start) = clocks(Deadlines::default().record(secs(5)));
        clocks.pause(start);
        clocks.end_turn(start, true, true);
        assert_eq!(clocks.next(), None);
        clocks.parsed(start, false, PartialInput::Record, 0);
        clocks.pause(start + secs(2));
        clocks.pause(start + secs(30));
        assert_eq!(clocks.next(), None);
        // Two of its five seconds had passed before the pause.
        clocks.end_turn(start + secs(60), true, true);
        clocks.end_turn(start + secs(61), true, true);
        assert_eq!(passes(&clocks, start), Some((63, Deadline::Record)));
    }

    #[test]
    fn draining_requires_a_rate() {
        let (mut clocks, start) = clocks(Deadlines::default().drain(secs(10)));
        clocks.offered(start, true, 5);
        assert_eq!(clocks.next(), None);
        clocks.offered(start + secs(1), false, 100);
        // Less than 64 KiB is not enough.
        clocks.offered(start + secs(8), false, 108);
        clocks.offered(start + secs(9), false, 100 + 65_535);
        assert_eq!(passes(&clocks, start), Some((11, Deadline::Drain)));
        clocks.offered(start + secs(10), false, 100 + 65_536);
        assert_eq!(passes(&clocks, start), Some((20, Deadline::Drain)));
        clocks.offered(start + secs(11), true, 100 + 65_537);
        assert_eq!(clocks.next(), None);
    }

    #[test]
    fn a_record_keeps_its_time_while_its_input_waits_for_this_side() {
        let (mut clocks, start) = clocks(Deadlines::default().record(secs(5)));
        clocks.parsed(start, false, PartialInput::Record, 0);
        assert!(clocks.is_changed_by_turn(false, true));
        clocks.end_turn(start + secs(2), false, true);
        assert!(!clocks.is_changed_by_turn(false, true));
        clocks.parsed(start + secs(60), false, PartialInput::Record, 0);
        assert_eq!(clocks.next(), None);
        assert!(clocks.is_changed_by_turn(true, true));
        clocks.end_turn(start + secs(60), true, true);
        assert!(!clocks.is_changed_by_turn(true, true));
        assert_eq!(passes(&clocks, start), Some((63, Deadline::Record)));
        // A record that begins in the meantime has its own time.
        clocks.end_turn(start + secs(61), false, true);
        clocks.parsed(start + secs(70), true, PartialInput::Record, 0);
        assert_eq!(passes(&clocks, start), Some((75, Deadline::Record)));
    }

    #[test]
    fn a_part_that_the_kernel_accepts_stops_draining_and_does_not_reset_it() {
        let (mut clocks, start) = clocks(Deadlines::default().drain(secs(10)));
        clocks.offered(start, false, 0);
        clocks.offered(start + secs(4), true, 1000);
        assert_eq!(clocks.next(), None);
        clocks.offered(start + secs(5), false, 1000);
        assert_eq!(passes(&clocks, start), Some((11, Deadline::Drain)));
        // Nothing is left to send.
        assert!(!clocks.is_changed_by_turn(true, true));
        assert!(clocks.is_changed_by_turn(true, false));
        clocks.end_turn(start + secs(6), true, false);
        clocks.offered(start + secs(7), false, 1000);
        assert_eq!(passes(&clocks, start), Some((17, Deadline::Drain)));
    }

    #[test]
    fn time_that_is_forgiven_does_not_count() {
        let set = Deadlines::default().input(secs(5)).drain(secs(7));
        let (mut clocks, start) = clocks(set);
        clocks.parsed(start, false, PartialInput::Record, 0);
        clocks.offered(start, false, 0);
        clocks.forgive_input(start + secs(4), secs(3));
        assert_eq!(passes(&clocks, start), Some((7, Deadline::Drain)));
        clocks.forgive_output(start + secs(4), secs(3));
        assert_eq!(passes(&clocks, start), Some((8, Deadline::Input)));
        // No more than all of it.
        clocks.forgive_input(start + secs(6), secs(100));
        clocks.forgive_output(start + secs(6), Duration::MAX);
        assert_eq!(passes(&clocks, start), Some((11, Deadline::Input)));
        clocks.end_turn(start + secs(6), false, true);
        assert_eq!(passes(&clocks, start), Some((13, Deadline::Drain)));
    }

    #[test]
    fn changing_a_deadline_restarts_its_own_clock_only() {
        let (mut clocks, start) = clocks(Deadlines::default().record(secs(5)).lifetime(secs(30)));
        clocks.parsed(start + secs(1), false, PartialInput::Record, 0);
        clocks.set(clocks.deadlines().idle(secs(25)), start + secs(2));
        assert_eq!(passes(&clocks, start), Some((6, Deadline::Record)));
        let generous = Deadlines::default().record(secs(20)).lifetime(secs(30));
        clocks.set(generous, start + secs(3));
        assert_eq!(passes(&clocks, start), Some((23, Deadline::Record)));
        clocks.set(generous.record(secs(21)), start + secs(15));
        assert_eq!(passes(&clocks, start), Some((30, Deadline::Lifetime)));
    }

    #[test]
    fn setting_the_same_deadlines_restarts_no_clock() {
        let set = Deadlines::default().idle(secs(9)).drain(secs(5));
        let (mut clocks, start) = clocks(set);
        clocks.offered(start + secs(1), false, 0);
        clocks.set(set, start + secs(3));
        assert_eq!(passes(&clocks, start), Some((6, Deadline::Drain)));
        clocks.set(set.drain(secs(7)), start + secs(4));
        assert_eq!(passes(&clocks, start), Some((9, Deadline::Idle)));
        clocks.set(set.idle(secs(8)).drain(None), start + secs(4));
        assert_eq!(passes(&clocks, start), Some((12, Deadline::Idle)));
    }

    #[test]
    fn the_lifetime_is_counted_from_the_establishment_of_the_connection() {
        let set = Deadlines::default().lifetime(secs(20));
        let (mut clocks, start) = (Clocks::new(set), Instant::now());
        assert_eq!(clocks.end_of_life(), None);
        clocks.start(start, false);
        clocks.start(start + secs(2), true);
        assert_eq!(clocks.end_of_life(), Some(start + secs(22)));
        clocks.set(Deadlines::default(), start + secs(3));
        assert_eq!(clocks.end_of_life(), None);
    }

    #[test]
    fn a_record_that_is_given_up_is_not_timed() {
        let (mut clocks, start) = clocks(Deadlines::default().record(secs(5)));
        clocks.parsed(start, false, PartialInput::Record, 0);
        clocks.end_record();
        assert_eq!(clocks.next(), None);
    }

    #[test]
    fn output_that_is_gone_is_not_timed() {
        let (mut clocks, start) = clocks(Deadlines::default().drain(secs(5)));
        clocks.offered(start, false, 0);
        clocks.drained();
        assert_eq!(clocks.next(), None);
    }

    #[test]
    fn a_deadline_beyond_the_range_of_the_clock_never_passes() {
        let (clocks, _) = clocks(Deadlines::default().idle(Duration::MAX));
        assert_eq!(clocks.next(), None);
    }

    #[test]
    fn each_64_kib_of_a_record_start_the_input_clock_again() {
        let (mut clocks, start) = clocks(Deadlines::default().input(secs(5)));
        clocks.parsed(start + secs(1), false, PartialInput::Record, 10);
        assert_eq!(passes(&clocks, start), Some((6, Deadline::Input)));
        // A trickle does not.
        clocks.parsed(
            start + secs(3),
            false,
            PartialInput::Record,
            10 + RECEIVED - 1,
        );
        assert_eq!(passes(&clocks, start), Some((6, Deadline::Input)));
        clocks.parsed(start + secs(4), false, PartialInput::Record, 10 + RECEIVED);
        assert_eq!(passes(&clocks, start), Some((9, Deadline::Input)));
        // It stops while this side does not read, and with the record.
        clocks.pause(start + secs(5));
        assert_eq!(clocks.next(), None);
        clocks.end_turn(start + secs(60), true, true);
        assert_eq!(passes(&clocks, start), Some((64, Deadline::Input)));
        clocks.parsed(start + secs(61), true, PartialInput::Record, 11 + RECEIVED);
        assert_eq!(passes(&clocks, start), Some((66, Deadline::Input)));
        clocks.set(Deadlines::default().input(secs(9)), start + secs(62));
        assert_eq!(passes(&clocks, start), Some((71, Deadline::Input)));
        clocks.parsed(start + secs(63), true, PartialInput::Nothing, 12 + RECEIVED);
        assert_eq!(clocks.next(), None);
    }
    #[test]
    fn a_stream_without_records_has_a_rate_and_no_record_deadline() {
        let (mut clocks, start) = clocks(Deadlines::default().record(secs(3)).input(secs(5)));
        clocks.parsed(start + secs(1), false, PartialInput::Stream, 10);
        assert_eq!(passes(&clocks, start), Some((6, Deadline::Input)));
        clocks.parsed(start + secs(4), false, PartialInput::Stream, 10 + RECEIVED);
        assert_eq!(passes(&clocks, start), Some((9, Deadline::Input)));
        assert!(clocks.is_changed_by_turn(false, true));
        clocks.end_turn(start + secs(5), false, true);
        assert!(!clocks.is_changed_by_turn(false, true));
        assert_eq!(clocks.next(), None);
        // A record begins while both wait.
        clocks.parsed(start + secs(20), false, PartialInput::Record, 10 + RECEIVED);
        assert_eq!(passes(&clocks, start), Some((23, Deadline::Record)));
        clocks.parsed(start + secs(21), false, PartialInput::Stream, 10 + RECEIVED);
        assert_eq!(passes(&clocks, start), Some((26, Deadline::Input)));
        clocks.parsed(
            start + secs(22),
            false,
            PartialInput::Nothing,
            10 + RECEIVED,
        );
        assert_eq!(clocks.next(), None);
    }
}

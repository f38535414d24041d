//! Counters of a loop.

use std::cell::Cell;
use std::iter::Sum;

use super::Runtime;
use crate::error::Close;
use crate::state::{ChannelState, Kind};

/// Counters of a loop, from [`EventLoop::stats`](crate::EventLoop::stats). They count from its creation.
///
/// ```
/// let stats = asynchat::EventLoop::new()?.stats();
/// assert_eq!(stats.accepted, 0);
/// assert_eq!(stats.closes.output_limit, 0);
/// # Ok::<(), asynchat::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoopStats {
    /// Turns of the loop. Each waits for events once, also if the timeout is zero.
    pub turns: u64,
    /// Turns in which the kernel reported at least one event.
    pub wakeups: u64,
    /// Events that the poller reported, including stale ones.
    pub events: u64,
    /// Connections accepted, those that were [refused](LoopStats#structfield.refused) included. The loop that accepts for
    /// [workers](crate::Workers) does not count those that it hands to one of them: the worker does.
    pub accepted: u64,
    /// Accepted connections that got no session: because of
    /// [`Limits::connections`](crate::Limits#structfield.connections) or
    /// [`Limits::per_address`](crate::Limits#structfield.per_address), by
    /// [`Server::accept_if`](crate::Server::accept_if), because
    /// [`Server::configure`](crate::Server::configure) failed, because a server of the PROXY protocol does not trust
    /// their address, or because no [worker](crate::Workers) could take them, which the loop that accepts for the workers
    /// counts.
    pub refused: u64,
    /// TLS handshakes that were completed.
    pub handshakes: u64,
    /// TLS handshakes that began and were not completed, on both sides: because they failed, took too long, or the
    /// channel was closed. An accepted connection that ends before its peer has sent a byte is not counted: it only checked
    /// whether the port is open.
    pub handshakes_failed: u64,
    /// Accepts that failed, for lack of descriptors or memory, or because the client was gone. The loop that accepts for
    /// [workers](crate::Workers) counts its own.
    pub accepts_failed: u64,
    /// Pushes to a [`SharedGroup`](crate::SharedGroup) that the members on this [worker](crate::Workers) have missed,
    /// because too much [waited](crate::Workers::group_backlog) for it.
    pub pushes_missed: u64,
    /// Channels registered, including listeners. A [worker](crate::Workers) has one for each server.
    pub opened: u64,
    /// Channels that have ended, including listeners.
    pub closed: u64,
    /// Channels that have ended, by reason.
    pub closes: Closes,
    /// Bytes received, on all channels, ended ones included. With TLS, bytes of plaintext. Bytes that a lingering socket discards count as
    /// well.
    pub bytes_in: u64,
    /// Bytes that the kernel has accepted for sending.
    pub bytes_out: u64,
    /// Records delivered to `found_terminator`.
    pub records_in: u64,
}

/// The counters of several loops together.
impl Sum for LoopStats {
    fn sum<I: Iterator<Item = LoopStats>>(loops: I) -> Self {
        loops.fold(LoopStats::default(), LoopStats::plus)
    }
}

impl LoopStats {
    fn plus(self, other: Self) -> Self {
        LoopStats {
            turns: self.turns + other.turns,
            wakeups: self.wakeups + other.wakeups,
            events: self.events + other.events,
            accepted: self.accepted + other.accepted,
            refused: self.refused + other.refused,
            handshakes: self.handshakes + other.handshakes,
            handshakes_failed: self.handshakes_failed + other.handshakes_failed,
            accepts_failed: self.accepts_failed + other.accepts_failed,
            pushes_missed: self.pushes_missed + other.pushes_missed,
            opened: self.opened + other.opened,
            closed: self.closed + other.closed,
            closes: self.closes.plus(other.closes),
            bytes_in: self.bytes_in + other.bytes_in,
            bytes_out: self.bytes_out + other.bytes_out,
            records_in: self.records_in + other.records_in,
        }
    }
}

/// How many channels have ended, by reason. Each field is named after a variant of [`Close`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the variants of Close are documented")]
pub struct Closes {
    pub local: u64,
    pub dropped: u64,
    pub eof: u64,
    pub reset: u64,
    pub connect_failed: u64,
    pub timeout: u64,
    pub input_limit: u64,
    pub output_limit: u64,
    pub handler: u64,
    pub panic: u64,
    pub shutdown: u64,
    pub interrupted: u64,
    pub piped: u64,
    pub truncated: u64,
    pub tls: u64,
    pub proxy_header: u64,
    pub io: u64,
}

impl Closes {
    /// The reasons, by the names of the fields, with how many channels have ended for each: for a page of figures, which
    /// then has the reasons of later versions, too.
    ///
    /// ```
    /// let event_loop = asynchat::EventLoop::new()?;
    /// for (reason, count) in event_loop.stats().closes.iter() {
    ///     println!("closed_total{{reason=\"{reason}\"}} {count}");
    /// }
    /// # Ok::<(), asynchat::Error>(())
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        // A new field does not compile without a name here.
        let Closes {
            local,
            dropped,
            eof,
            reset,
            connect_failed,
            timeout,
            input_limit,
            output_limit,
            handler,
            panic,
            shutdown,
            interrupted,
            piped,
            truncated,
            tls,
            proxy_header,
            io,
        } = *self;
        [
            ("local", local),
            ("dropped", dropped),
            ("eof", eof),
            ("reset", reset),
            ("connect_failed", connect_failed),
            ("timeout", timeout),
            ("input_limit", input_limit),
            ("output_limit", output_limit),
            ("handler", handler),
            ("panic", panic),
            ("shutdown", shutdown),
            ("interrupted", interrupted),
            ("piped", piped),
            ("truncated", truncated),
            ("tls", tls),
            ("proxy_header", proxy_header),
            ("io", io),
        ]
        .into_iter()
    }

    fn plus(self, other: Self) -> Self {
        Closes {
            local: self.local + other.local,
            dropped: self.dropped + other.dropped,
            eof: self.eof + other.eof,
            reset: self.reset + other.reset,
            connect_failed: self.connect_failed + other.connect_failed,
            timeout: self.timeout + other.timeout,
            input_limit: self.input_limit + other.input_limit,
            output_limit: self.output_limit + other.output_limit,
            handler: self.handler + other.handler,
            panic: self.panic + other.panic,
            shutdown: self.shutdown + other.shutdown,
            interrupted: self.interrupted + other.interrupted,
            piped: self.piped + other.piped,
            truncated: self.truncated + other.truncated,
            tls: self.tls + other.tls,
            proxy_header: self.proxy_header + other.proxy_header,
            io: self.io + other.io,
        }
    }

    fn count(&mut self, why: &Close) {
        let count = match why {
            Close::Local => &mut self.local,
            Close::Dropped => &mut self.dropped,
            Close::Eof => &mut self.eof,
            Close::Reset => &mut self.reset,
            Close::ConnectFailed(_) => &mut self.connect_failed,
            Close::Timeout(_) => &mut self.timeout,
            Close::InputLimit(_) => &mut self.input_limit,
            Close::OutputLimit => &mut self.output_limit,
            Close::Handler(_) => &mut self.handler,
            Close::Panic(_) => &mut self.panic,
            Close::Shutdown => &mut self.shutdown,
            Close::Interrupted => &mut self.interrupted,
            Close::Piped(_) => &mut self.piped,
            Close::Truncated => &mut self.truncated,
            Close::Tls(_) => &mut self.tls,
            Close::ProxyHeader(_) => &mut self.proxy_header,
            Close::Io(_) => &mut self.io,
        };
        *count += 1;
    }
}

/// The counters of a loop. [`LoopStats`] is their copy for users.
#[derive(Default)]
pub(crate) struct Counters {
    pub(super) turns: Counter,
    pub(super) wakeups: Counter,
    pub(super) events: Counter,
    pub(crate) accepted: Counter,
    pub(crate) refused: Counter,
    pub(crate) handshakes: Counter,
    pub(crate) handshakes_failed: Counter,
    pub(crate) accepts_failed: Counter,
    pub(crate) pushes_missed: Counter,
    pub(super) opened: Counter,
    closed: Counter,
    closes: Cell<Closes>,
    /// Totals of the channels that have ended, and of lingering sockets. The other channels have their own
    /// counters.
    pub(super) bytes_in: Counter,
    pub(super) bytes_out: Counter,
    pub(super) records_in: Counter,
}

#[derive(Default)]
pub(crate) struct Counter(Cell<u64>);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.set(self.0.get().wrapping_add(count));
    }
}

impl Runtime {
    /// Counts the end of a channel, which has left the registry, and what it has counted itself.
    pub(super) fn count_end(&self, state: &ChannelState, why: &Close) {
        let counters = &self.counters;
        counters.bytes_in.add(state.bytes_in());
        counters.bytes_out.add(state.bytes_out());
        counters.records_in.add(state.records_in.get());
        if state.kind.get() != Kind::Internal {
            counters.closed.add(1);
            let mut closes = counters.closes.get();
            closes.count(why);
            counters.closes.set(closes);
        }
    }

    /// The counters of the loop, with those of its channels.
    pub(crate) fn stats(&self) -> LoopStats {
        let counters = &self.counters;
        let of = |counter: &Counter| counter.0.get();
        let mut stats = LoopStats {
            turns: of(&counters.turns),
            wakeups: of(&counters.wakeups),
            events: of(&counters.events),
            accepted: of(&counters.accepted),
            refused: of(&counters.refused),
            handshakes: of(&counters.handshakes),
            handshakes_failed: of(&counters.handshakes_failed),
            accepts_failed: of(&counters.accepts_failed),
            pushes_missed: of(&counters.pushes_missed),
            opened: of(&counters.opened),
            closed: of(&counters.closed),
            closes: counters.closes.get(),
            bytes_in: of(&counters.bytes_in),
            bytes_out: of(&counters.bytes_out),
            records_in: of(&counters.records_in),
        };
        for state in self.channels() {
            stats.bytes_in += state.bytes_in();
            stats.bytes_out += state.bytes_out();
            stats.records_in += state.records_in.get();
        }
        stats
    }
}

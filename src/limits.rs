//! Limits on the memory of a connection, on its share of a turn, and on the number of connections.

/// Limits on each connection, and on the number of connections of a listener. The defaults are safe.
///
/// Set them for a [`Server`](crate::Server) or a [`Connector`](crate::Connector), for all servers and
/// connectors of a loop with [`EventLoop::set_limits`](crate::EventLoop::set_limits), or for one
/// connection with [`Chat::set_limits`](crate::Chat::set_limits). The unit is bytes unless the field
/// says otherwise. [`Limits::UNLIMITED`] lifts a limit.
///
/// ```
/// use asynchat::Limits;
/// let limits = Limits::default().record(64 * 1024);
/// assert_eq!(limits.record, 65_536);
/// assert_eq!(limits.low_water, 16_384);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The longest whole record, without its terminator. Default 8,192. The
    /// [`limit`](crate::Terminator::limit) of a terminator takes precedence. Streamed records are not
    /// collected in memory; only their terminator can limit them. A limit above [`i32::MAX`] (2 GiB) counts
    /// as that, unless it is [`UNLIMITED`](Limits::UNLIMITED).
    pub record: usize,
    /// The high-water mark: while more output than this is queued, this connection's input is neither
    /// read nor parsed. Default 65,536. A queue with more than 64 producers, hooks and large pushes is
    /// above the mark, too, regardless of its bytes, because a producer may hold a file. A mark above
    /// [`i32::MAX`] (2 GiB) counts as that, unless it is [`UNLIMITED`](Limits::UNLIMITED).
    ///
    /// The rule suits servers. A client that queues more than this before it reads a reply may
    /// deadlock with a server that has the same rule: each waits for the other to read. The commands of a
    /// [`Dialogue`](crate::Dialogue) do not stop its input.
    pub high_water: usize,
    /// The low-water mark: paused input resumes when the queue has drained to this. Default 16,384, with
    /// at most 16 producers, hooks and large pushes. A mark above the high-water mark counts as that one.
    pub low_water: usize,
    /// The most output that other sessions, broadcasts and timers may queue for a peer that does not
    /// read. Default 8 MiB. A push is checked against what was queued before it. If that exceeds this limit,
    /// as much of the queue as was pushed, and a little more, is sent at once. If the kernel does not take that, the
    /// connection closes with [`Close::OutputLimit`](crate::Close::OutputLimit) and a reset. Otherwise
    /// the push is accepted, whatever its size. If more than 64 producers, hooks, large pushes and
    /// [`shutdown_write`](crate::Chat::shutdown_write) marks are queued, each of them but a large push counts as
    /// 4,096 bytes in addition to its bytes in memory. A long record that was pushed by reference counts its length, and
    /// occupies at most a quarter more.
    ///
    /// Pushes in a session's own callbacks for its input do not count, because the
    /// [`high_water`](Limits#structfield.high_water) mark stops that input. A reply of a gigabyte
    /// therefore reaches a peer that reads, although a [producer](crate::Producer) takes less memory.
    /// Pushes in the factory of the session do not count, either: it is called once.
    /// Pushes in a session's timers and posted calls count only if the queue was above the high-water
    /// mark.
    ///
    /// Input also stops at this limit, if it is lower than the high-water mark, and then at [`i32::MAX`] (2 GiB) for a
    /// higher one, unless both are [`UNLIMITED`](Limits::UNLIMITED).
    pub output: usize,
    /// Bytes that a chat reads in one turn of the loop. Default 65,536, which is also the maximum. Zero counts
    /// as one, here and for the other budgets of a turn.
    pub turn_read: usize,
    /// Bytes that a chat writes in one turn of the loop. Default 65,536. With TLS at most 65,280. Without TLS a write may
    /// exceed it by a sixteenth, if that empties the queue: the CRLF behind a reply of 64 KiB needs no turn of its
    /// own. A [pipe](crate::pipe) may send as many in addition when the other connection receives them.
    pub turn_write: usize,
    /// Records, or chunks of streamed records, that are delivered in one turn of the loop. A count.
    /// Default 1,024.
    pub turn_records: usize,
    /// Connections that a listener accepts in one turn of the loop. A count. Default 64. Failed accepts
    /// have a separate bound: after 64 in a row the listener pauses.
    pub turn_accepts: usize,
    /// Connections that a [`Server`](crate::Server) has at a time. A count. Default 10,000. A further
    /// client receives the server's [refusal](crate::Server::refusal), with TLS an alert in its place, and is closed.
    /// Each server counts its own.
    pub connections: usize,
    /// Connections that a [`Server`](crate::Server) has at a time from one address. A count. Default
    /// 1,000, so that one address cannot use up [`connections`](Limits#structfield.connections). An IPv6
    /// /64 network counts as one address, because a single host is assigned one (RFC 6177); link-local
    /// addresses count separately. Behind a proxy all clients have the proxy's address: lift the limit
    /// there, or let the proxy send their addresses (`Server::proxy_protocol`). Unix-domain clients have no address and are not counted.
    pub per_address: usize,
}

impl Limits {
    /// No limit. It works for every field except `turn_read`, which is at most 65,536.
    pub const UNLIMITED: usize = usize::MAX;

    /// Sets the [`record`](Limits#structfield.record) limit.
    #[must_use]
    pub const fn record(mut self, bytes: usize) -> Self {
        self.record = bytes;
        self
    }

    /// Sets the [`high_water`](Limits#structfield.high_water) mark.
    #[must_use]
    pub const fn high_water(mut self, bytes: usize) -> Self {
        self.high_water = bytes;
        self
    }

    /// Sets the [`low_water`](Limits#structfield.low_water) mark.
    #[must_use]
    pub const fn low_water(mut self, bytes: usize) -> Self {
        self.low_water = bytes;
        self
    }

    /// Sets the budget of bytes to read in a turn, [`turn_read`](Limits#structfield.turn_read).
    #[must_use]
    pub const fn turn_read(mut self, bytes: usize) -> Self {
        self.turn_read = bytes;
        self
    }

    /// Sets the budget of bytes to write in a turn, [`turn_write`](Limits#structfield.turn_write).
    #[must_use]
    pub const fn turn_write(mut self, bytes: usize) -> Self {
        self.turn_write = bytes;
        self
    }

    /// Sets the budget of records in a turn, [`turn_records`](Limits#structfield.turn_records).
    #[must_use]
    pub const fn turn_records(mut self, records: usize) -> Self {
        self.turn_records = records;
        self
    }

    /// Sets the budget of connections to accept in a turn, [`turn_accepts`](Limits#structfield.turn_accepts).
    #[must_use]
    pub const fn turn_accepts(mut self, connections: usize) -> Self {
        self.turn_accepts = connections;
        self
    }

    /// Sets the limit on [`connections`](Limits#structfield.connections).
    #[must_use]
    pub const fn connections(mut self, count: usize) -> Self {
        self.connections = count;
        self
    }

    /// Sets the limit on connections [from one address](Limits#structfield.per_address).
    #[must_use]
    pub const fn per_address(mut self, count: usize) -> Self {
        self.per_address = count;
        self
    }

    /// Sets the [`output`](Limits#structfield.output) limit.
    #[must_use]
    pub const fn output(mut self, bytes: usize) -> Self {
        self.output = bytes;
        self
    }
}

impl Limits {
    pub(crate) const DEFAULT: Limits = Limits {
        record: 8 * 1024,
        high_water: 64 * 1024,
        low_water: 16 * 1024,
        output: 8 * 1024 * 1024,
        turn_read: 64 * 1024,
        turn_write: 64 * 1024,
        turn_records: 1024,
        turn_accepts: 64,
        connections: 10_000,
        per_address: 1_000,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Limits::DEFAULT
    }
}

/// A limit as each idle connection stores it: in four bytes, at most 2 GiB, or none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct CompactLimit(i32);

impl CompactLimit {
    #[inline]
    pub(crate) fn new(bytes: usize) -> Self {
        match bytes {
            Limits::UNLIMITED => CompactLimit(-1),
            _ => CompactLimit(i32::try_from(bytes).unwrap_or(i32::MAX)),
        }
    }

    /// The limit; [`Limits::UNLIMITED`] if there is none.
    #[inline]
    pub(crate) fn bytes(self) -> usize {
        // The sign is extended: -1 is the largest number.
        self.0 as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compact_limit_is_exact_up_to_2_gib() {
        let stored = |bytes| CompactLimit::new(bytes).bytes();
        for bytes in [0, 1, 65_536, (1 << 31) - 1, Limits::UNLIMITED] {
            assert_eq!(stored(bytes), bytes);
        }
        for bytes in [1 << 31, u32::MAX as usize, Limits::UNLIMITED - 1] {
            assert_eq!(stored(bytes), (1 << 31) - 1);
        }
    }
}

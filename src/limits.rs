//! How much one connection may hold and take of a turn, and how many there may be.

/// The bounds on one connection, and on the connections of one listener; safe as they stand.
///
/// Set them for all connections of a [`Server`](crate::Server) or a
/// [`Connector`](crate::Connector), for all of these on a loop with
/// [`EventLoop::set_limits`](crate::EventLoop::set_limits), or for one connection with
/// [`Chat::set_limits`](crate::Chat::set_limits). Every figure is a count of bytes unless it says
/// otherwise. To lift a bound, say so by name: [`Limits::UNLIMITED`].
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
    /// The longest whole record, without its terminator. Default 8,192. A terminator's own
    /// [`limit`](crate::Terminator::limit) goes before it. Streamed records are not held in
    /// memory and have no limit but their terminator's own.
    pub record: usize,
    /// Queued output over which this connection's input is neither read nor parsed.
    /// Default 65,536. More than 64 producers, hooks and large pushes in the queue are over it too,
    /// however few bytes they have at hand: a producer may hold a file.
    ///
    /// This rule is a server's. A client that queues more than this before it reads a reply can be
    /// stopped for good by a server with the same rule: each waits for the other to read.
    pub high_water: usize,
    /// Queued output at or under which input goes on, after it was over the high mark.
    /// Default 16,384; and no more than 16 producers, hooks and large pushes.
    pub low_water: usize,
    /// Output that others may queue for a peer that does not read: a broadcast, another session.
    /// Default 8 MiB. Where there are many, each producer and hook in the queue counts for 4,096
    /// bytes besides what is at hand. A push that finds more than this queued closes the connection
    /// with [`Close::OutputLimit`](crate::Close::OutputLimit) and a reset. One push of any size is
    /// accepted before that.
    ///
    /// What a session pushes in its own callbacks does not count, in a timer or a posted call unless the
    /// queue was over the [`high_water`](Limits#structfield.high_water) mark: its records stop there until that
    /// is sent. So a reply of a gigabyte reaches a peer that reads, though a
    /// [producer](crate::Producer) would take less memory.
    pub output: usize,
    /// Bytes that a chat reads in one turn. Default 65,536, which is also the most.
    pub turn_read: usize,
    /// Bytes written in one turn of the loop. Default 65,536.
    pub turn_write: usize,
    /// Records, or parts of streamed ones, delivered in one turn of the loop. Default 1,024. A
    /// count.
    pub turn_records: usize,
    /// Connections that a listener accepts in one turn of the loop. Default 64. A count. However
    /// many there may be, accepts that fail have a bound of their own: after 64 in a row the
    /// listener pauses.
    pub turn_accepts: usize,
    /// Connections that a [`Server`](crate::Server) has at a time. Default 10,000. A count. One
    /// more is sent the server's [refusal](crate::Server::refusal) and is closed.
    pub connections: usize,
    /// How many of them come from one address. Default 1,000, so that one stranger can not take
    /// all the places. A count. An IPv6 network of 64 bits is one address, for a single host is
    /// given one (RFC 6177); of link-local addresses each counts for itself. Behind a proxy, all
    /// clients have the proxy's address: lift it there. Unix-domain clients have no address and are
    /// not counted.
    pub per_address: usize,
}

impl Limits {
    /// No bound at all, for any of the figures. A turn's budget of reading stays at 65,536.
    pub const UNLIMITED: usize = usize::MAX;

    /// The same with another [`record`](Limits#structfield.record) limit.
    #[must_use]
    pub const fn record(mut self, bytes: usize) -> Self {
        self.record = bytes;
        self
    }

    /// The same with other water marks; a low mark over the high one is lowered to it.
    #[must_use]
    pub const fn water(mut self, low: usize, high: usize) -> Self {
        self.low_water = if low < high { low } else { high };
        self.high_water = high;
        self
    }

    /// The same with other budgets for one turn: bytes read, bytes written, records delivered. A
    /// zero counts as one.
    #[must_use]
    pub const fn turn(mut self, read: usize, write: usize, records: usize) -> Self {
        self.turn_read = read;
        self.turn_write = write;
        self.turn_records = records;
        self
    }

    /// The same with another budget for one turn of a listener:
    /// [`turn_accepts`](Limits#structfield.turn_accepts). Zero counts as one.
    #[must_use]
    pub const fn turn_accepts(mut self, connections: usize) -> Self {
        self.turn_accepts = connections;
        self
    }

    /// The same with another cap on [`connections`](Limits#structfield.connections).
    #[must_use]
    pub const fn connections(mut self, count: usize) -> Self {
        self.connections = count;
        self
    }

    /// The same with another cap on the connections
    /// [from one address](Limits#structfield.per_address).
    #[must_use]
    pub const fn per_address(mut self, count: usize) -> Self {
        self.per_address = count;
        self
    }

    /// The same with another [`output`](Limits#structfield.output) limit.
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

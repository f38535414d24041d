//! How reliable the simulated network and its kernel are.

/// The conditions on a [`Network`](crate::sim::Network). By default they are perfect.
///
/// Probabilities are from 0.0 (never) to 1.0 (always), and drawn from the network's seed.
///
/// ```
/// use asynchat::sim::{Conditions, Network};
/// let network = Network::new(42);
/// network.set_conditions(Conditions::default().short_reads(0.5).shuffled(true));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Conditions {
    /// The probability that a read receives only a part of the data that is there. Default 0.0.
    pub short_reads: f64,
    /// The probability that a write sends only a part of what there is room for. Default 0.0.
    pub short_writes: f64,
    /// The probability that a read, a write or an accept that could succeed fails with `WouldBlock`.
    /// Default 0.0. At 1.0 nothing ever moves.
    pub would_block: f64,
    /// The probability that an event is left to a later wait. Default 0.0. At 1.0 an event is reported
    /// only by a wait that would otherwise sleep.
    pub late_events: f64,
    /// Whether the events of one wait come in random order. Default false: they come in the order in
    /// which their sockets were made.
    pub shuffled: bool,
    /// Whether a socket is reported once and has to be armed again, as on Solaris. Default false: it is
    /// reported as long as it is ready, as on Linux. Handlers do not notice the difference. It applies
    /// to loops that are made afterwards.
    pub one_shot: bool,
    /// How many bytes the kernel buffers for each direction of a connection: sent by one side, and not
    /// read by the other. Default 65,536. Zero counts as one.
    pub buffer: usize,
}

impl Conditions {
    /// The same with this probability of [`short_reads`](Conditions#structfield.short_reads).
    #[must_use]
    pub const fn short_reads(mut self, probability: f64) -> Self {
        self.short_reads = probability;
        self
    }

    /// The same with this probability of [`short_writes`](Conditions#structfield.short_writes).
    #[must_use]
    pub const fn short_writes(mut self, probability: f64) -> Self {
        self.short_writes = probability;
        self
    }

    /// The same with this probability of [`would_block`](Conditions#structfield.would_block).
    #[must_use]
    pub const fn would_block(mut self, probability: f64) -> Self {
        self.would_block = probability;
        self
    }

    /// The same with this probability of [`late_events`](Conditions#structfield.late_events).
    #[must_use]
    pub const fn late_events(mut self, probability: f64) -> Self {
        self.late_events = probability;
        self
    }

    /// The same with [`shuffled`](Conditions#structfield.shuffled) events, or without.
    #[must_use]
    pub const fn shuffled(mut self, yes: bool) -> Self {
        self.shuffled = yes;
        self
    }

    /// The same with [`one_shot`](Conditions#structfield.one_shot) reports, or without.
    #[must_use]
    pub const fn one_shot(mut self, yes: bool) -> Self {
        self.one_shot = yes;
        self
    }

    /// The same with a [`buffer`](Conditions#structfield.buffer) of this many bytes.
    #[must_use]
    pub const fn buffer(mut self, bytes: usize) -> Self {
        self.buffer = bytes;
        self
    }
}

impl Default for Conditions {
    fn default() -> Self {
        Conditions {
            short_reads: 0.0,
            short_writes: 0.0,
            would_block: 0.0,
            late_events: 0.0,
            shuffled: false,
            one_shot: false,
            buffer: 64 * 1024,
        }
    }
}

/// A system call of a loop that can be made to [fail](crate::sim::Network::fail).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Call {
    /// Accepting a connection from the backlog. An error of kind `ConnectionAborted`,
    /// `ConnectionReset`, `BrokenPipe` or `TimedOut` ends that connection. Any other error leaves it
    /// in the backlog.
    Accept,
    /// Beginning to connect.
    Connect,
    /// Making a listening socket.
    Listen,
    /// Receiving. An error of kind `ConnectionReset`, `ConnectionAborted`, `BrokenPipe` or
    /// `TimedOut` ends the connection. After any other error the connection goes on.
    Recv,
    /// Sending. Errors have the same effects as for [`Recv`](Call::Recv).
    Send,
    /// Registering a socket with the poller, or changing its interest.
    Watch,
    /// Waiting for events. Those that were found are still reported.
    Wait,
}

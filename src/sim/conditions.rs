//! How good or bad the simulated network and its kernel are.

/// The conditions on a [`Network`](super::Network): perfect, unless you say otherwise.
///
/// Chances are from 0.0, never, to 1.0, always. They are drawn from the network's seed.
///
/// ```
/// use asynchat::sim::{Conditions, Network};
/// let network = Network::new(42);
/// network.set_conditions(Conditions::default().short_reads(0.5).shuffled(true));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Conditions {
    /// How often a read gets only a part of what is there. Default 0.0.
    pub short_reads: f64,
    /// How often a write takes only a part of what there is room for. Default 0.0.
    pub short_writes: f64,
    /// How often a read, a write or an accept that could go on says `WouldBlock`. Default 0.0; at
    /// 1.0 nothing ever moves.
    pub would_block: f64,
    /// How often an event is reported by a later wait and not by this one. Default 0.0; at 1.0
    /// events are reported only by waits that would sleep.
    pub late_events: f64,
    /// Whether the events of a wait come in random order. Default false: by when their sockets
    /// were made.
    pub shuffled: bool,
    /// Whether a socket is reported once and then has to be armed again, as on Solaris, rather
    /// than as long as it is ready, as on Linux. It is the loop's own business, and holds for loops
    /// made afterwards. Default false.
    pub one_shot: bool,
    /// How many bytes the kernel holds for each direction of a connection: sent by one side and
    /// not read by the other. Default 65,536; zero counts as one.
    pub buffer: usize,
}

impl Conditions {
    /// The same with another chance of [`short_reads`](Conditions#structfield.short_reads).
    #[must_use]
    pub const fn short_reads(mut self, chance: f64) -> Self {
        self.short_reads = chance;
        self
    }

    /// The same with another chance of [`short_writes`](Conditions#structfield.short_writes).
    #[must_use]
    pub const fn short_writes(mut self, chance: f64) -> Self {
        self.short_writes = chance;
        self
    }

    /// The same with another chance of [`would_block`](Conditions#structfield.would_block).
    #[must_use]
    pub const fn would_block(mut self, chance: f64) -> Self {
        self.would_block = chance;
        self
    }

    /// The same with another chance of [`late_events`](Conditions#structfield.late_events).
    #[must_use]
    pub const fn late_events(mut self, chance: f64) -> Self {
        self.late_events = chance;
        self
    }

    /// The same with events [`shuffled`](Conditions#structfield.shuffled) or not.
    #[must_use]
    pub const fn shuffled(mut self, yes: bool) -> Self {
        self.shuffled = yes;
        self
    }

    /// The same with sockets reported [once](Conditions#structfield.one_shot) or not.
    #[must_use]
    pub const fn one_shot(mut self, yes: bool) -> Self {
        self.one_shot = yes;
        self
    }

    /// The same with another size of the kernel's [`buffer`](Conditions#structfield.buffer).
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

/// A call of the loop's that can be made to [fail](super::Network::fail).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Call {
    /// Taking a connection that is waiting. An error of kind `ConnectionAborted` or
    /// `ConnectionReset` takes that connection away; any other leaves it in the queue.
    Accept,
    /// Beginning a connection.
    Connect,
    /// Making a socket that listens.
    Listen,
    /// Receiving. An error of kind `ConnectionReset`, `ConnectionAborted`, `BrokenPipe` or
    /// `TimedOut` is the end of the connection; any other passes.
    Recv,
    /// Sending. As [`Recv`](Call::Recv).
    Send,
    /// Telling the poller what to watch a socket for.
    Watch,
    /// Waiting. What was found all the same is reported.
    Wait,
}

//! What a socket is watched for, and what a wait reports about it.

use polling::PollMode;

/// What a socket is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interest(u8);

impl Interest {
    pub(crate) const NONE: Interest = Interest(0);

    pub(crate) const READ: Interest = Interest(1);

    pub(crate) const WRITE: Interest = Interest(2);

    /// A connection that is neither read nor written. The poller reports when the peer resets it,
    /// where the system can do that (kqueue cannot). The report is one-shot: level mode would repeat
    /// it forever.
    pub(crate) const HANG_UP: Interest = Interest(4);

    pub(crate) const fn new(read: bool, write: bool) -> Interest {
        Interest(read as u8 | (write as u8) << 1)
    }

    pub(crate) fn only_read(self) -> Interest {
        Interest(self.0 & !Interest::WRITE.0)
    }

    pub(crate) fn only_write(self) -> Interest {
        Interest(self.0 & !Interest::READ.0)
    }

    pub(crate) fn is_none(self) -> bool {
        self == Interest::NONE
    }

    pub(crate) fn reads(self) -> bool {
        self.0 & Interest::READ.0 != 0
    }

    pub(crate) fn writes(self) -> bool {
        self.0 & Interest::WRITE.0 != 0
    }

    /// The interest in the terms of the `polling` crate, for the socket with this poll key.
    pub(super) fn as_polling(self, key: usize) -> polling::Event {
        match self {
            Interest::HANG_UP => polling::Event::none(key).with_interrupt(),
            _ => polling::Event::new(key, self.reads(), self.writes()),
        }
    }

    /// The mode to register with, if the poller's own mode is `default`.
    pub(super) fn mode(self, default: PollMode) -> PollMode {
        match self {
            Interest::HANG_UP => PollMode::Oneshot,
            _ => default,
        }
    }
}

/// A wait found the socket that is registered under `key` ready.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) key: usize,
    pub(crate) ready: Ready,
}

/// What a socket is ready for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ready {
    pub(crate) read: bool,
    pub(crate) write: bool,
    /// Urgent data is waiting.
    pub(crate) urgent: bool,
    /// The peer has reset the connection, or both sides have finished sending. The socket is then
    /// readable and writable as well.
    pub(crate) hung_up: bool,
}

impl Ready {
    pub(crate) const NONE: Ready = Ready {
        read: false,
        write: false,
        urgent: false,
        hung_up: false,
    };

    /// Everything that either of the two is ready for.
    pub(crate) fn union(self, other: Ready) -> Ready {
        Ready {
            read: self.read || other.read,
            write: self.write || other.write,
            urgent: self.urgent || other.urgent,
            hung_up: self.hung_up || other.hung_up,
        }
    }
}

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
pub(crate) struct Ready(u8);

impl Ready {
    pub(crate) const NONE: Ready = Ready(0);

    pub(crate) const READ: Ready = Ready(1);

    /// Urgent data is waiting.
    pub(crate) const URGENT: Ready = Ready(2);

    pub(crate) const WRITE: Ready = Ready(4);

    /// The peer has reset the connection, or both sides have finished sending. The socket is then
    /// readable and writable as well.
    pub(crate) const HUNG_UP: Ready = Ready(8);

    #[inline]
    pub(crate) fn is_none(self) -> bool {
        self.0 == 0
    }

    /// This, if the condition holds.
    #[inline]
    pub(crate) const fn when(self, condition: bool) -> Ready {
        Ready(self.0 * condition as u8)
    }

    /// Everything that either of the two is ready for.
    #[inline]
    pub(crate) const fn union(self, other: Ready) -> Ready {
        Ready(self.0 | other.0)
    }

    /// Whether it is ready for something of `any_of`.
    #[inline]
    pub(crate) const fn has(self, any_of: Ready) -> bool {
        self.0 & any_of.0 != 0
    }

    pub(crate) fn remove(&mut self, other: Ready) {
        self.0 &= !other.0;
    }
}

//! The flags of a channel, which are conditions that last, and the requests to its driver.
//!
//! docs/architecture.md has a table of both: what sets each bit, and what clears it.

use std::cell::Cell;

/// A condition of a channel that lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flag(u32);

impl Flag {
    /// A handle has paused it: `pause_reading`.
    pub(crate) const PAUSED: Flag = Flag(1);
    /// The peer has finished sending, and that has been received.
    pub(crate) const EOF: Flag = Flag(1 << 1);
    /// A dispatcher's channel stays open after the end of its input.
    pub(crate) const HALF_OPEN: Flag = Flag(1 << 2);
    /// The kernel accepted less output than it was offered. Nothing is sent until the kernel reports room.
    pub(crate) const BLOCKED: Flag = Flag(1 << 3);
    /// The queue was over the high-water mark, and has not fallen to the low-water mark since.
    pub(crate) const BACK_PRESSURED: Flag = Flag(1 << 4);
    /// Its input goes to another connection.
    pub(crate) const PIPED: Flag = Flag(1 << 5);
    /// Its driver has input that is not parsed.
    pub(crate) const BACKLOG: Flag = Flag(1 << 6);
    /// A callback has failed, and only `handle_close` follows.
    pub(crate) const FAILED: Flag = Flag(1 << 7);
    /// The kernel has reported a hang-up while the channel was not read.
    pub(crate) const HUNG_UP: Flag = Flag(1 << 8);
    /// A listener waits for descriptors or memory.
    pub(crate) const STARVED: Flag = Flag(1 << 9);
    /// It has its turn: what is pushed now is a reply of its own session.
    pub(crate) const IN_TURN: Flag = Flag(1 << 10);
    /// It is in the run queue or waits for the next turn of the loop, or its driver is being called.
    pub(crate) const QUEUED: Flag = Flag(1 << 11);
    /// Its handler has not been made yet. Until then it has no turn.
    pub(crate) const AWAITS_HANDLER: Flag = Flag(1 << 12);
    /// This side has finished sending, and has one descriptor for input and output.
    pub(crate) const FINISHED: Flag = Flag(1 << 13);
    /// A handle has set its limits, perhaps to what they were.
    pub(crate) const LIMITS_SET: Flag = Flag(1 << 14);
    /// A handle has set its deadlines, perhaps to what they were.
    pub(crate) const DEADLINES_SET: Flag = Flag(1 << 15);
    /// A stage is between the channel and its socket.
    pub(crate) const STAGED: Flag = Flag(1 << 16);
    /// TLS is to begin when everything that was pushed before is sent. No input is received.
    pub(crate) const UPGRADING: Flag = Flag(1 << 17);
    /// The socket does not linger: the peer has said that it sends nothing more.
    pub(crate) const SKIPS_LINGER: Flag = Flag(1 << 18);
    /// Its session has pushed to a group for which too much waits on another worker. It gets no records until that worker
    /// has taken most of it.
    pub(crate) const AWAITS_WORKER: Flag = Flag(1 << 19);
}

/// The flags that are set.
#[derive(Default)]
pub(crate) struct Flags(Cell<u32>);

impl Flags {
    #[inline]
    pub(crate) fn has(&self, flag: Flag) -> bool {
        self.0.get() & flag.0 != 0
    }

    #[inline]
    pub(crate) fn set(&self, flag: Flag, on: bool) {
        let before = self.0.get();
        self.0.set(if on {
            before | flag.0
        } else {
            before & !flag.0
        });
    }

    /// Whether a handle has paused the channel, TLS is to begin, or another worker has to catch up: no input is received.
    #[inline]
    pub(crate) fn stop_reading(&self) -> bool {
        self.0.get() & (Flag::PAUSED.0 | Flag::UPGRADING.0 | Flag::AWAITS_WORKER.0) != 0
    }

    /// Whether something may have to be sent, or be called for output, although the queue has nothing.
    #[inline]
    pub(crate) fn may_write(&self) -> bool {
        self.0.get() & (Flag::BACK_PRESSURED.0 | Flag::STAGED.0) != 0
    }

    /// Whether a turn of the channel has to be prepared: the channel has a stage, or no handler yet.
    #[inline]
    pub(crate) fn need_preparation(&self) -> bool {
        self.0.get() & (Flag::AWAITS_HANDLER.0 | Flag::STAGED.0) != 0
    }

    /// Whether no flag is set that changes what a turn does.
    #[inline]
    pub(crate) fn affect_no_turn(&self) -> bool {
        let without_effect = Flag::LIMITS_SET.0 | Flag::DEADLINES_SET.0 | Flag::SKIPS_LINGER.0;
        self.0.get() & !without_effect == 0
    }

    /// Whether the channel has a stage, or is about to have one.
    #[inline]
    pub(crate) fn have_tls(&self) -> bool {
        self.0.get() & (Flag::STAGED.0 | Flag::UPGRADING.0) != 0
    }

    /// Sets or clears a flag, and returns whether it was set before.
    #[inline]
    pub(crate) fn replace(&self, flag: Flag, on: bool) -> bool {
        let before = self.has(flag);
        self.set(flag, on);
        before
    }
}

/// What a handle asks of the driver. Between two records the driver checks only whether any request is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request(u8);

impl Request {
    /// A condition has changed on which the next record depends.
    pub(crate) const CHECK: Request = Request(1);
    /// The splitter does not have the new terminator yet.
    pub(crate) const TERMINATOR: Request = Request(1 << 1);
    /// Input that was not delivered is to be dropped.
    pub(crate) const DISCARD: Request = Request(1 << 2);
    /// The splitter has to be asked again, although no input has arrived.
    pub(crate) const PARSE: Request = Request(1 << 3);
    /// The session is to be called for a shutdown.
    pub(crate) const SHUTDOWN: Request = Request(1 << 4);

    /// Another handler takes the place of this one.
    pub(crate) const REPLACE: Request = Request(1 << 5);
    /// TLS is to begin: no input may have been received that is not delivered.
    pub(crate) const UPGRADE: Request = Request(1 << 6);
    /// TLS is up: the session is to be called for that.
    pub(crate) const SECURED: Request = Request(1 << 7);

    /// The requests after which the splitter has to be asked again.
    pub(crate) const INPUT: Request =
        Request(Request::TERMINATOR.0 | Request::DISCARD.0 | Request::PARSE.0);
}

/// The requests that are pending.
#[derive(Default)]
pub(crate) struct Requests(Cell<u8>);

impl Requests {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.get() == 0
    }

    #[inline]
    pub(crate) fn has(&self, any_of: Request) -> bool {
        self.0.get() & any_of.0 != 0
    }

    /// Whether none is pending that concerns a turn without input. What [`Request::CHECK`] asks for is checked between two
    /// records.
    #[inline]
    pub(crate) fn only_concern_records(&self) -> bool {
        self.0.get() & !Request::CHECK.0 == 0
    }

    #[inline]
    pub(crate) fn add(&self, request: Request) {
        self.0.set(self.0.get() | request.0);
    }

    /// Removes these requests; returns whether any of them was pending.
    #[inline]
    pub(crate) fn take(&self, requests: Request) -> bool {
        let before = self.0.get();
        self.0.set(before & !requests.0);
        before & requests.0 != 0
    }
}

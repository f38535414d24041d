//! One end of a simulated connection, and what is on its way to it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use super::net::Id;

/// Who an end belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Nobody yet: the connection is in a listener's backlog.
    Queue,
    /// A socket of a loop.
    Loop,
    /// A peer outside the loops, which a script controls.
    Peer,
    /// Nobody any more: it is closed.
    Nobody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Connecting,
    Up,
    /// Refused or reset.
    Dead,
}

/// How a connection has ended for a [`Peer`](crate::sim::Peer).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// The other side has finished sending, and the peer has read everything.
    Finished,
    /// The connection was reset. What the peer had not read is lost.
    Reset,
    /// The connection was refused: nobody listens at that address.
    Refused,
}

pub(crate) struct End {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) owner: Owner,
    pub(crate) state: State,
    /// The other end, once the connection is up.
    pub(crate) other: Option<Id>,
    /// Sent to this end and not received yet.
    pub(crate) bytes: VecDeque<u8>,
    /// How many of `bytes` have arrived. The rest is on its way, and is lost if the sender resets.
    pub(crate) arrived: usize,
    /// The other end has finished sending.
    pub(crate) finished: bool,
    /// The end of the stream has arrived.
    pub(crate) finish_arrived: bool,
    pub(crate) urgent: Option<u8>,
    /// The error that the next call on this end returns.
    pub(crate) error: Option<io::ErrorKind>,
    /// This end has finished sending.
    pub(crate) write_shut: bool,
    /// The other end has shut its receiving side down: every send fails.
    pub(crate) no_receiver: bool,
    pub(crate) reset_on_close: bool,
    pub(crate) outside: Outside,
}

/// The program of a peer. It writes as fast as it can, and reads as much as its window allows.
pub(crate) struct Outside {
    /// Written, and not in the kernel's buffer yet.
    pub(crate) outbox: VecDeque<u8>,
    /// The end of its stream follows the outbox.
    pub(crate) finishing: bool,
    /// How many more bytes it reads.
    pub(crate) window: usize,
    pub(crate) received: Vec<u8>,
    pub(crate) ended: Option<Ended>,
}

impl End {
    pub(crate) fn new(local: SocketAddr, remote: SocketAddr, owner: Owner) -> Self {
        End {
            local,
            remote,
            owner,
            state: State::Connecting,
            other: None,
            bytes: VecDeque::new(),
            arrived: 0,
            finished: false,
            finish_arrived: false,
            urgent: None,
            error: None,
            write_shut: false,
            no_receiver: false,
            reset_on_close: false,
            outside: Outside {
                outbox: VecDeque::new(),
                finishing: false,
                window: usize::MAX,
                received: Vec::new(),
                ended: None,
            },
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// Whether it is readable, and whether it is writable if the other end's buffer has this room. As on
    /// Linux, an error or a hang-up makes it both.
    pub(crate) fn readiness(&self, room: usize) -> (bool, bool) {
        match self.state {
            State::Connecting => (false, false),
            State::Dead => (true, true),
            State::Up => (
                self.arrived > 0 || self.finish_arrived,
                !self.can_send() || room > 0,
            ),
        }
    }

    /// Whether a send can succeed: neither side has ended this direction.
    pub(crate) fn can_send(&self) -> bool {
        !self.write_shut && !self.no_receiver
    }

    /// Whether a poller reports a hang-up, whatever the interest.
    pub(crate) fn has_hung_up(&self) -> bool {
        self.state == State::Dead || (self.finish_arrived && !self.can_send())
    }

    /// Takes what has arrived, at most `most` bytes.
    pub(crate) fn take_arrived(&mut self, most: usize) -> Vec<u8> {
        let count = self.arrived.min(most);
        self.arrived -= count;
        let (front, back) = self.bytes.as_slices();
        let mut data = front.get(..count).unwrap_or(front).to_vec();
        data.extend_from_slice(back.get(..count - data.len()).unwrap_or_default());
        self.bytes.drain(..count);
        data
    }

    /// Has everything arrive that was sent. Returns whether that changed anything.
    pub(crate) fn arrive(&mut self) -> bool {
        let has_changed =
            self.arrived < self.bytes.len() || (self.finished && !self.finish_arrived);
        self.arrived = self.bytes.len();
        self.finish_arrived = self.finished;
        has_changed
    }

    /// The other end has reset the connection. What has not arrived never will.
    pub(crate) fn be_reset(&mut self) {
        if self.state != State::Up {
            return;
        }
        self.state = State::Dead;
        // As on Linux: see `Fd::reports_reset_after_end`.
        self.error = Some(if self.finish_arrived {
            io::ErrorKind::BrokenPipe
        } else {
            io::ErrorKind::ConnectionReset
        });
        self.bytes.truncate(self.arrived);
        self.urgent = None;
        if self.owner == Owner::Peer {
            // RFC 9293 section 3.10.7.4 flushes the queues. On many systems that also destroys what had
            // arrived and was not read. The peer's system is unknown, so the worst is assumed.
            self.bytes.clear();
            self.arrived = 0;
            self.outside.outbox.clear();
        }
        // Also for a peer that accepts the connection only later.
        self.outside.ended.get_or_insert(Ended::Reset);
    }

    /// Reads as the program of a peer. Returns whether that changed anything.
    pub(crate) fn read_as_peer(&mut self) -> bool {
        if self.owner != Owner::Peer {
            return false;
        }
        let window = self.outside.window;
        let data = self.take_arrived(window);
        if window != usize::MAX {
            self.outside.window -= data.len();
        }
        self.outside.received.extend_from_slice(&data);
        let has_ended =
            self.finish_arrived && self.bytes.is_empty() && self.outside.ended.is_none();
        if has_ended {
            self.outside.ended = Some(Ended::Finished);
        }
        has_ended || !data.is_empty()
    }
}

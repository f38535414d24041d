//! One end of a simulated connection, and what is on its way to it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use super::net::Id;

/// Whose an end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// In a listener's queue.
    Queue,
    /// A socket of a loop's.
    Loop,
    /// A peer outside, played by a script.
    Peer,
    /// Closed.
    Nobody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Connecting,
    Up,
    /// Refused or reset.
    Dead,
}

/// How a connection has ended for a [`Peer`](super::Peer).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// The other side has finished sending, and all of it has been read.
    Finished,
    /// It was reset: what had not been read by then is lost.
    Reset,
    /// It never came up: nobody listens there.
    Refused,
}

pub(super) struct End {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) owner: Owner,
    pub(super) state: State,
    /// The other end, once there is one.
    pub(super) other: Option<Id>,
    /// Sent to this end and not received yet.
    pub(super) bytes: VecDeque<u8>,
    /// How much of it has arrived; the rest is on its way, and lost when the sender resets.
    pub(super) arrived: usize,
    /// The other end has finished sending, and whether that has arrived.
    pub(super) finished: bool,
    pub(super) finish_arrived: bool,
    pub(super) urgent: Option<u8>,
    /// What the next call on this end is told.
    pub(super) error: Option<io::ErrorKind>,
    /// It has finished sending.
    pub(super) write_shut: bool,
    /// The other end has shut its receiving side down: every send fails.
    pub(super) no_receiver: bool,
    pub(super) reset_on_close: bool,
    pub(super) outside: Outside,
}

/// The program behind a peer: it writes as fast as it can, and reads as far as it may.
pub(super) struct Outside {
    /// Written, and not taken by its kernel yet.
    pub(super) outbox: VecDeque<u8>,
    /// The end of its output is behind that.
    pub(super) finishing: bool,
    /// How many bytes more it reads.
    pub(super) window: usize,
    pub(super) received: Vec<u8>,
    pub(super) ended: Option<Ended>,
}

impl End {
    pub(super) fn new(local: SocketAddr, remote: SocketAddr, owner: Owner) -> Self {
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

    pub(super) fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// What a wait would report of it: whether it can be read from, and written to with this room
    /// at the other end. As on Linux, an error or a hang-up is both.
    pub(super) fn readiness(&self, room: usize) -> (bool, bool) {
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
    pub(super) fn can_send(&self) -> bool {
        !self.write_shut && !self.no_receiver
    }

    /// Whether that is reported even where nobody asked.
    pub(super) fn has_hung_up(&self) -> bool {
        self.state == State::Dead || (self.finish_arrived && !self.can_send())
    }

    /// Takes what has arrived, at most `most` of it.
    pub(super) fn take_arrived(&mut self, most: usize) -> Vec<u8> {
        let count = self.arrived.min(most);
        self.arrived -= count;
        let (front, back) = self.bytes.as_slices();
        let mut data = front.get(..count).unwrap_or(front).to_vec();
        data.extend_from_slice(back.get(..count - data.len()).unwrap_or_default());
        self.bytes.drain(..count);
        data
    }

    /// All that was sent to it arrives. Says whether that is news.
    pub(super) fn arrive(&mut self) -> bool {
        let news = self.arrived < self.bytes.len() || (self.finished && !self.finish_arrived);
        self.arrived = self.bytes.len();
        self.finish_arrived = self.finished;
        news
    }

    /// The other end has reset the connection: what has not arrived never will.
    pub(super) fn be_reset(&mut self) {
        if self.state != State::Up {
            return;
        }
        self.state = State::Dead;
        self.error = Some(io::ErrorKind::ConnectionReset);
        self.bytes.truncate(self.arrived);
        self.urgent = None;
        if self.owner == Owner::Peer {
            // RFC 9293 3.10.7.4: what is queued is flushed, and what had arrived and was not read
            // is lost with it on many a system. The worst is assumed of a stranger's.
            self.bytes.clear();
            self.arrived = 0;
            self.outside.outbox.clear();
        }
        // A peer that accepts it only now is told, too.
        self.outside.ended.get_or_insert(Ended::Reset);
    }

    /// A peer reads. Says whether that changed anything.
    pub(super) fn read_as_peer(&mut self) -> bool {
        if self.owner != Owner::Peer {
            return false;
        }
        let window = self.outside.window;
        let data = self.take_arrived(window);
        if window != usize::MAX {
            self.outside.window -= data.len();
        }
        self.outside.received.extend_from_slice(&data);
        let over = self.finish_arrived && self.bytes.is_empty() && self.outside.ended.is_none();
        if over {
            self.outside.ended = Some(Ended::Finished);
        }
        over || !data.is_empty()
    }
}

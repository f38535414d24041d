//! The connections that an acceptor has handed to a worker, and that the worker has not taken yet.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Addr;
use crate::state::ChannelId;
use crate::state::load::Place;
use crate::sys::socket::Socket;

/// A connection that was accepted for a worker.
pub(crate) struct Arrival {
    pub(crate) socket: Socket,
    pub(crate) peer: Addr,
    /// Counts it for the worker.
    pub(crate) place: Place,
}

/// The queue between an acceptor and the receiver of one worker. `A` is an [`Arrival`].
pub(crate) struct Arrivals<A = Arrival>(Mutex<Queue<A>>);

struct Queue<A> {
    waiting: VecDeque<A>,
    /// How many may wait.
    most: usize,
    /// The acceptor that has stopped accepting because all its queues are full.
    acceptor: Option<ChannelId>,
    state: State,
}

enum State {
    Open,
    /// The listening socket has failed with an error of this kind and with this text.
    Failed(io::ErrorKind, String),
    /// The worker takes no more connections.
    Closed,
}

/// What happened to an arrival.
pub(crate) enum Pushed<A> {
    /// It is the first that waits: it is to be announced to the worker.
    First,
    /// The worker knows that there are some.
    Another,
    /// The worker takes no more.
    Refused(A),
}

impl<A> Arrivals<A> {
    pub(crate) fn new(most: usize) -> Self {
        Arrivals(Mutex::new(Queue {
            waiting: VecDeque::new(),
            most: most.max(1),
            acceptor: None,
            state: State::Open,
        }))
    }

    pub(crate) fn push(&self, arrival: A) -> Pushed<A> {
        let mut queue = self.lock();
        match queue.state {
            State::Open => {}
            State::Failed(..) | State::Closed => return Pushed::Refused(arrival),
        }
        queue.waiting.push_back(arrival);
        match queue.waiting.len() {
            1 => Pushed::First,
            _ => Pushed::Another,
        }
    }

    /// Takes all, and the acceptor that waits for room.
    pub(crate) fn take(&self) -> (VecDeque<A>, Option<ChannelId>) {
        self.lock().take()
    }

    /// Whether another one may be pushed.
    pub(crate) fn has_room(&self) -> bool {
        self.lock().has_room()
    }

    /// Notes that this acceptor waits until there is room. Returns false if there is some by now.
    pub(crate) fn wait_for_room(&self, acceptor: ChannelId) -> bool {
        let mut queue = self.lock();
        let is_full = !queue.has_room();
        if is_full {
            queue.acceptor = Some(acceptor);
        }
        is_full
    }

    /// Takes no more, and returns those that nobody will take, and the acceptor that waits for room.
    pub(crate) fn close(&self) -> (VecDeque<A>, Option<ChannelId>) {
        let mut queue = self.lock();
        queue.state = State::Closed;
        queue.take()
    }

    /// The listening socket has failed: no more will arrive.
    pub(crate) fn fail(&self, kind: io::ErrorKind, text: String) {
        let mut queue = self.lock();
        if matches!(queue.state, State::Open) {
            queue.state = State::Failed(kind, text);
        }
    }

    /// The error of the listening socket.
    pub(crate) fn failure(&self) -> Option<io::Error> {
        match &self.lock().state {
            State::Failed(kind, text) => Some(io::Error::new(*kind, text.clone())),
            State::Open | State::Closed => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue<A>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A> Queue<A> {
    fn has_room(&self) -> bool {
        matches!(self.state, State::Open) && self.waiting.len() < self.most
    }

    fn take(&mut self) -> (VecDeque<A>, Option<ChannelId>) {
        (mem::take(&mut self.waiting), self.acceptor.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_that_waits_is_announced() {
        let arrivals = Arrivals::new(64);
        assert!(matches!(arrivals.push('a'), Pushed::First));
        assert!(matches!(arrivals.push('b'), Pushed::Another));
        assert_eq!(arrivals.take().0, ['a', 'b']);
        assert!(matches!(arrivals.push('c'), Pushed::First));
    }

    #[test]
    fn a_full_queue_has_room_when_it_is_taken() {
        let arrivals = Arrivals::new(2);
        let acceptor = ChannelId::new();
        arrivals.push('a');
        assert!(!arrivals.wait_for_room(acceptor), "there is room");
        arrivals.push('b');
        assert!(arrivals.wait_for_room(acceptor));
        assert_eq!(arrivals.take().1, Some(acceptor));
        assert!(arrivals.has_room());
        assert_eq!(arrivals.take().1, None, "it is returned once");
    }

    #[test]
    fn a_closed_queue_returns_what_waits_and_what_follows() {
        let arrivals = Arrivals::new(64);
        arrivals.push('a');
        assert_eq!(arrivals.close().0, ['a']);
        assert!(matches!(arrivals.push('b'), Pushed::Refused('b')));
        assert!(!arrivals.has_room());
    }

    #[test]
    fn a_failure_leaves_what_waits() {
        let arrivals = Arrivals::new(64);
        arrivals.push('a');
        arrivals.fail(io::ErrorKind::InvalidInput, "it does not listen".into());
        assert!(matches!(arrivals.push('b'), Pushed::Refused('b')));
        assert_eq!(arrivals.take().0, ['a']);
        let failure = arrivals.failure().map(|error| error.to_string());
        assert_eq!(failure.as_deref(), Some("it does not listen"));
    }
}

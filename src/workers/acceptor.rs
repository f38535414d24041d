//! The driver of a listening socket whose connections are handed to workers.

use std::error::Error as StdError;
use std::rc::Rc;
use std::sync::Arc;

use super::crew::Crew;
use super::listeners::Recipient;
use super::spread::Spread;
use crate::Addr;
use crate::channel::accept::accept;
use crate::error::{Close, Result, WithSources};
use crate::event_loop::EventLoop;
use crate::log::{Escaped, log_throttled};
use crate::net::arrivals::{Arrival, Pushed};
use crate::net::receiver::announce;
use crate::runtime::counters::Counters;
use crate::runtime::driver::{Driver, Turn};
use crate::state::inbox::Post;
use crate::state::{ChannelId, ChannelState, Flag};
use crate::sys::socket::Socket;

/// The driver of a listening socket whose connections are distributed among the workers.
pub(super) struct DistributingAcceptor {
    crew: Arc<Crew>,
    recipients: Vec<Recipient>,
    spread: Spread,
    /// The recipients to which connections are to be announced, by their index.
    unannounced: Vec<usize>,
}

impl DistributingAcceptor {
    pub(super) fn new(crew: &Arc<Crew>, recipients: Vec<Recipient>) -> Self {
        DistributingAcceptor {
            crew: Arc::clone(crew),
            recipients,
            spread: Spread::default(),
            unannounced: Vec::new(),
        }
    }

    /// Whether a worker can take another connection. If no worker has ever listened, all are refused.
    ///
    /// When the workers have all ended, the service is about to end. What it does not accept waits in the kernel, for the
    /// next service if that has the same listening socket.
    ///
    /// If no worker can, this acceptor is registered as waiting with each of them. The first that has room posts a call to
    /// it, and the turn that follows the call accepts again. One step checks and registers, because
    /// a worker may get room between two steps, and would notify nobody.
    fn has_room_or_waits(&self, acceptor: ChannelId) -> bool {
        let arrivals = || self.recipients.iter().map(|it| &it.arrivals);
        arrivals().any(|it| it.has_room())
            || arrivals().any(|it| !it.wait_for_room(acceptor))
            || self.recipients.is_empty()
    }

    /// Hands a connection to the worker that has the fewest, which counts it.
    fn hand_over(&mut self, counters: &Counters, socket: Socket, peer: Addr) {
        let (recipients, loads) = (&self.recipients, &self.crew.loads);
        let chosen = self.spread.choose(recipients.len(), |index| {
            let recipient = recipients.get(index)?;
            let load = loads.get(recipient.worker)?.connections();
            recipient.arrivals.has_room().then_some(load)
        });
        let recipient = chosen.and_then(|index| Some((index, recipients.get(index)?)));
        let load = recipient.and_then(|(_, it)| loads.get(it.worker));
        let (Some((index, recipient)), Some(load)) = (recipient, load) else {
            return refuse(counters, &peer);
        };
        let arrival = Arrival {
            socket,
            peer,
            place: load.add(),
        };
        match recipient.arrivals.push(arrival) {
            Pushed::First => self.unannounced.push(index),
            Pushed::Another => {}
            // It has ended in this moment, and so will the service.
            Pushed::Refused(arrival) => refuse(counters, &arrival.peer),
        }
    }

    /// Wakes each worker that connections were handed to: once, however many they are.
    fn announce_arrivals(&mut self) {
        for index in self.unannounced.drain(..) {
            let recipient = self.recipients.get(index);
            if let Some((recipient, receiver)) = recipient.and_then(|it| Some((it, it.receiver?)))
                && let Some(inbox) = self.crew.inboxes.get(recipient.worker)
            {
                announce(inbox, receiver);
            }
        }
    }

    /// Descriptors or memory have run out. The loops of the workers may have what this one needs.
    fn note_starved(&self) {
        self.crew.acceptor.note_starved();
        for inbox in &self.crew.inboxes {
            let stop_lingering = || {
                if let Ok(event_loop) = EventLoop::current() {
                    event_loop.0.stop_lingering_soon();
                }
            };
            // A worker that has ended has no sockets.
            let _ = inbox.send(Post::Call(Box::new(stop_lingering)));
        }
    }
}

impl Driver for DistributingAcceptor {
    fn turn(&mut self, turn: &mut Turn<'_>) -> Result {
        let state = turn.state;
        let was_starved = state.flags.has(Flag::STARVED);
        let counters = &turn.runtime.counters;
        let id = state.id.get();
        accept(
            turn,
            self,
            |acceptor| acceptor.has_room_or_waits(id),
            |acceptor, socket, peer| acceptor.hand_over(counters, socket, peer),
        );
        self.announce_arrivals();
        if state.flags.has(Flag::STARVED) && !was_starved {
            self.note_starved();
        }
        Ok(())
    }

    fn error(&mut self, error: &(dyn StdError + Send + Sync + 'static)) {
        log_throttled!(warn, error = %Escaped(WithSources(error)), "accepting failed");
    }

    /// The receivers of the workers are the listeners that the program knows of: they end with the same error. At any
    /// other end they have been shut down, or are about to be stopped.
    fn close(&mut self, why: &Close) {
        let (kind, text) = match why {
            Close::Io(error) => (error.kind(), error.to_string()),
            Close::Panic(_) => (std::io::ErrorKind::Other, why.to_string()),
            _ => return,
        };
        for (index, recipient) in self.recipients.iter().enumerate() {
            recipient.arrivals.fail(kind, text.clone());
            self.unannounced.push(index);
        }
        self.announce_arrivals();
    }

    fn replaced(self: Box<Self>, _: &Rc<ChannelState>) -> Box<dyn Driver> {
        self
    }
}

fn refuse(counters: &Counters, peer: &Addr) {
    counters.accepted.add(1);
    counters.refused.add(1);
    log_throttled!(warn, peer = %Escaped(peer), "a connection was closed: no worker takes it");
}

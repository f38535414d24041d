//! What the workers listen on: each listening socket is made once, by the worker that asks for it first.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Addr;
use crate::channel::handle::Channel;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::net::arrivals::Arrivals;
use crate::net::endpoint::Endpoint;
use crate::net::server::{Opening, open};
use crate::runtime::Runtime;
use crate::state::ChannelId;
use crate::state::quota::SharedTotals;
use crate::sys::socket::{REUSE_PORT_SPREADS, Socket};
use crate::target::Target;

/// The listening sockets of a service, in the order in which each setup asks for them.
#[derive(Default)]
pub(super) struct Listeners(Mutex<Table>);

#[derive(Default)]
struct Table {
    listeners: Vec<Listener>,
    /// All setups have returned.
    is_complete: bool,
}

/// One listening socket, and the workers that serve its connections.
pub(super) struct Listener {
    /// What the first worker has asked for, to tell whether others ask for the same.
    asked: String,
    pub(super) addr: Addr,
    pub(super) limits: Limits,
    /// For the acceptor. Absent where each worker listens by itself.
    pub(super) socket: Option<Socket>,
    totals: SharedTotals,
    pub(super) recipients: Vec<Recipient>,
}

/// How many turns of accepting may wait for a worker. The rest of a burst waits in the backlog of the kernel, as on one
/// loop. A worker whose queue is full is passed over, so a short one would make the spread uneven after a short pause of
/// a worker. A long one would make its next turn long.
const WAITING_TURNS: usize = 4;

/// A worker that serves the connections of a listener.
pub(super) struct Recipient {
    pub(super) worker: usize,
    pub(super) arrivals: Arc<Arrivals>,
    /// Its receiver. Absent until that is registered.
    pub(super) receiver: Option<ChannelId>,
}

/// What a worker gets that listens.
pub(super) struct Opened {
    pub(super) addr: Addr,
    pub(super) totals: SharedTotals,
    pub(super) source: ArrivalSource,
}

/// Where the connections of a worker come from.
pub(super) enum ArrivalSource {
    OwnSocket(Channel),
    Acceptor(Arc<Arrivals>),
}

impl Listeners {
    /// Opens the listening socket at this place in the order, or joins those that have opened it.
    pub(super) fn open(
        &self,
        place: usize,
        worker: usize,
        opening: Opening<'_>,
        runtime: &Runtime,
    ) -> Result<Opened, Error> {
        if opening.is_once {
            return Err(Error::new("a server for one connection needs no workers"));
        }
        let mut table = self.lock();
        if table.is_complete {
            return Err(Error::new("a worker listens in its setup, not later"));
        }
        let Opening {
            endpoint,
            options,
            limits,
            ..
        } = opening;
        let asked = match &endpoint {
            Endpoint::Target(target) => target.to_string(),
            // Each worker has a duplicate of the same one.
            Endpoint::Adopted(socket) => {
                format!("a socket with the address {}", socket.local_addr()?)
            }
        };
        let is_made_here = matches!(endpoint, Endpoint::Target(_));
        let listens_itself = REUSE_PORT_SPREADS && options.reuse_port && is_made_here;
        let mut own = None;
        match table.listeners.get(place) {
            None => {
                let channel = open(endpoint, options, runtime)?;
                let addr = channel.local_addr();
                let addr = addr.ok_or_else(|| Error::new("the listening socket has no address"))?;
                let mut socket = None;
                if listens_itself && addr.inet().is_some() {
                    own = Some(channel);
                } else {
                    socket = Some(channel.release()?);
                }
                table.listeners.push(Listener {
                    asked,
                    addr,
                    limits: *limits,
                    socket,
                    totals: SharedTotals::default(),
                    recipients: Vec::new(),
                });
            }
            Some(first) if first.asked != asked => {
                return Err(Error::new(format!(
                    "this worker listens on {asked} where another one listens on {}: \
                     all have to listen on the same in the same order",
                    first.asked
                )));
            }
            Some(first) if first.socket.is_none() => {
                let same = Endpoint::Target(Target::from(first.addr.clone()));
                own = Some(open(same, options, runtime)?);
            }
            // A socket that is adopted is a duplicate of the first one.
            Some(_) => {}
        }
        let Some(listener) = table.listeners.get_mut(place) else {
            return Err(Error::new("a worker has listened out of order"));
        };
        let source = match own {
            Some(channel) => ArrivalSource::OwnSocket(channel),
            None => {
                let most = listener.limits.turn_accepts.saturating_mul(WAITING_TURNS);
                let arrivals = Arc::new(Arrivals::new(most));
                listener.recipients.push(Recipient {
                    worker,
                    arrivals: Arc::clone(&arrivals),
                    receiver: None,
                });
                ArrivalSource::Acceptor(arrivals)
            }
        };
        Ok(Opened {
            addr: listener.addr.clone(),
            totals: Arc::clone(&listener.totals),
            source,
        })
    }

    /// Sets the receiver of a worker at this place. It is registered.
    pub(super) fn set_receiver(&self, place: usize, worker: usize, receiver: ChannelId) {
        if let Some(listener) = self.lock().listeners.get_mut(place) {
            // The last one: an earlier one was not registered, if its setup has tried again.
            let mut recipients = listener.recipients.iter_mut();
            if let Some(recipient) = recipients.rfind(|it| it.worker == worker) {
                recipient.receiver = Some(receiver);
            }
        }
    }

    /// All setups have returned. Takes the listeners.
    pub(super) fn complete(&self) -> Vec<Listener> {
        let mut table = self.lock();
        table.is_complete = true;
        for listener in &mut table.listeners {
            // A setup may have ignored that its server could not be registered.
            listener.recipients.retain(|it| it.receiver.is_some());
            // The threads have come in any order.
            listener.recipients.sort_by_key(|it| it.worker);
        }
        mem::take(&mut table.listeners)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

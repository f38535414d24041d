//! The driver of the listener of a worker: it takes the connections that the acceptor of another loop has handed over.
//!
//! The acceptor posts a call to the worker when the first connection is queued. The receiver takes all connections in
//! that call, and not in a turn of its own: the call is made before a shutdown or a stop that is posted later, so
//! every connection that was handed over by then has a session.

use std::error::Error as StdError;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::accept::ListenerDriver;
use super::arrivals::{Arrival, Arrivals};
use crate::Addr;
use crate::chat::handle::Chat;
use crate::chat::into_session::IntoSession;
use crate::error::{Close, Result};
use crate::runtime::Runtime;
use crate::runtime::driver::{Driver, Turn};
use crate::state::agenda::HandlerCall;
use crate::state::inbox::{Inbox, Post};
use crate::state::{ChannelId, ChannelState};
use crate::user_code::discard;

/// Where the connections of a receiver come from.
#[derive(Clone)]
pub(crate) struct Arriving {
    pub(crate) arrivals: Arc<Arrivals>,
    /// The loop of the acceptor.
    pub(crate) acceptor: Arc<Inbox>,
    /// The address that it listens on.
    pub(crate) addr: Addr,
}

/// The driver of a listener whose connections another loop accepts.
pub(super) struct Receiver<F> {
    listener: ListenerDriver<F>,
    arriving: Arriving,
    /// Weak, because the runtime owns this.
    runtime: Weak<Runtime>,
}

impl<I: IntoSession, F: FnMut(Chat) -> I + 'static> Receiver<F> {
    pub(super) fn new(
        listener: ListenerDriver<F>,
        arriving: Arriving,
        runtime: &Rc<Runtime>,
    ) -> Self {
        Receiver {
            listener,
            arriving,
            runtime: Rc::downgrade(runtime),
        }
    }

    fn admit_all(&mut self) {
        let Some(runtime) = self.runtime.upgrade() else {
            return;
        };
        let (arrived, waiting) = self.arriving.arrivals.take();
        self.notify_acceptor(waiting);
        for Arrival {
            socket,
            peer,
            place,
        } in arrived
        {
            runtime.counters.accepted.add(1);
            self.listener.admit_arrival(&runtime, socket, peer, place);
        }
    }

    /// Notifies the acceptor that waits for room, if one does: it gets a turn.
    fn notify_acceptor(&self, waiting: Option<ChannelId>) {
        if let Some(acceptor) = waiting {
            announce(&self.arriving.acceptor, acceptor);
        }
    }
}

impl<I: IntoSession, F: FnMut(Chat) -> I + 'static> Driver for Receiver<F> {
    fn turn(&mut self, _: &mut Turn<'_>) -> Result {
        Ok(())
    }

    fn error(&mut self, error: &(dyn StdError + Send + Sync + 'static)) {
        self.listener.error(error);
    }

    /// Those that are left come too late for a session: they get the refusal.
    fn close(&mut self, why: &Close) {
        let (left, waiting) = self.arriving.arrivals.close();
        self.notify_acceptor(waiting);
        let runtime = self.runtime.upgrade();
        for Arrival { socket, peer, .. } in left {
            if let Some(runtime) = &runtime {
                runtime.counters.accepted.add(1);
            }
            self.listener.refuse_late(runtime.as_deref(), socket, &peer);
        }
        self.listener.close(why);
    }

    fn replaced(self: Box<Self>, _: &Rc<ChannelState>) -> Box<dyn Driver> {
        self
    }

    /// The acceptor has posted it: connections have arrived, or the listening socket has failed.
    fn call(&mut self, state: &Rc<ChannelState>, call: HandlerCall) -> Result {
        discard(call);
        self.admit_all();
        if let Some(error) = self.arriving.arrivals.failure() {
            state.end(Close::Io(error));
        }
        Ok(())
    }
}

/// Tells a receiver that connections have arrived, or an acceptor that there is room for some. A loop that is gone
/// needs neither.
pub(crate) fn announce(inbox: &Inbox, channel: ChannelId) {
    // A closure without captures takes no memory.
    let _ = inbox.send(Post::CallHandler(channel, Box::new(|_| Ok(()))));
}

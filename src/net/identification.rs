//! Receives the PROXY header of an accepted connection, and admits the client that it names.

use std::io;
use std::rc::Rc;

use super::policy::Policy;
use crate::Addr;
use crate::error::{Close, Error};
use crate::log::{Escaped, log_throttled};
use crate::proxy_protocol::Header;
use crate::proxy_protocol::incoming::Incoming;
use crate::runtime::driver::Turn;
use crate::state::quota::Exceeded;
use crate::state::{ChannelState, Phase};
use crate::time::timer::TimerId;

/// The PROXY header of a connection that is not complete.
pub(super) struct Identification {
    incoming: Incoming,
    proxy: Addr,
    policy: Rc<Policy>,
    /// Ends the connection when the header takes too long.
    timer: Option<TimerId>,
}

impl Identification {
    /// Begins to wait for the header of a connection that is registered.
    pub(super) fn begin(state: &ChannelState, proxy: Addr, policy: Rc<Policy>) -> Box<Self> {
        Box::new(Identification {
            incoming: Incoming::default(),
            proxy,
            policy,
            timer: state.set_handshake_timer(),
        })
    }

    /// Receives what the peer has sent, and nothing behind the header. Returns whether the client is known and
    /// admitted.
    pub(super) fn advance(&mut self, turn: &mut Turn<'_>) -> bool {
        let state = turn.state;
        if turn.ready.urgent {
            state.discard_urgent();
        }
        if !turn.ready.read {
            return false;
        }
        let mut buffer = turn.buffers.take_read();
        let outcome = self.receive(state, &mut buffer);
        turn.buffers.return_read(buffer);
        match outcome {
            Ok(Some(header)) => self.identify(turn, header),
            Ok(None) => false,
            Err(why) => {
                state.end(why);
                false
            }
        }
    }

    /// Receives until the header is complete or nothing is left.
    fn receive(
        &mut self,
        state: &ChannelState,
        buffer: &mut [u8],
    ) -> Result<Option<Header>, Close> {
        loop {
            let wanted = self.incoming.wanted().min(buffer.len());
            let free = buffer.get_mut(..wanted).unwrap_or_default();
            let count = match state.receive_header(free) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(Close::from_io(error)),
            };
            if count == 0 && self.incoming.is_empty() {
                // Somebody has looked whether the port is open.
                return Err(Close::Eof);
            }
            if count == 0 {
                let error = Error::from(io::Error::from(io::ErrorKind::UnexpectedEof));
                return Err(Close::ProxyHeader(error.context("receive the header")));
            }
            let received = buffer.get(..count).unwrap_or_default();
            let header = self.incoming.take(received).map_err(Close::ProxyHeader)?;
            if header.is_some() || count < wanted {
                return Ok(header);
            }
        }
    }

    /// The header is complete. Returns whether the client is admitted.
    fn identify(&mut self, turn: &Turn<'_>, header: Header) -> bool {
        let state = turn.state;
        state.forget_handshake_timer(self.timer.take());
        let client = header.source().unwrap_or(&self.proxy).clone();
        if !self.policy.accepts(&client) {
            turn.runtime.counters.refused.add(1);
            state.end(Close::Local);
            return false;
        }
        if let Err(exceeded) = state.count_client(&client) {
            self.refuse(turn, &client, exceeded);
            return false;
        }
        state.identify(client, header);
        true
    }

    /// The client has too many connections.
    fn refuse(&self, turn: &Turn<'_>, client: &Addr, exceeded: Exceeded) {
        let (runtime, state) = (turn.runtime, turn.state);
        runtime.counters.refused.add(1);
        // Only a connection that is up gives up its socket.
        state.phase.set(Phase::Open);
        if let Ok(socket) = state.release_socket() {
            let deadlines = state.deadlines();
            self.policy
                .refuse(runtime, socket, client, exceeded, deadlines);
        }
        state.end(Close::Local);
    }

    /// The connection has ended before its client was known.
    pub(super) fn report(&self, why: &Close) {
        if matches!(why, Close::ProxyHeader(_)) || !self.incoming.is_empty() && !why.is_local() {
            let proxy = Escaped(&self.proxy);
            log_throttled!(warn, %proxy, why = %Escaped(why), "a connection of a proxy was closed");
        }
    }
}

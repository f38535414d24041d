//! Receives the PROXY header of an accepted connection, and admits the client that it names.

use std::io;
use std::rc::Rc;

use super::policy::Policy;
use crate::Addr;
use crate::error::{Close, Error};
use crate::log::{Escaped, log_throttled};
use crate::proxy_protocol::{Header, Reader};
use crate::runtime::driver::Turn;
use crate::state::quota::Exceeded;
use crate::state::{ChannelState, Phase};
use crate::sys::interest::Ready;
use crate::time::timer::TimerId;

/// The PROXY header of a connection that is not complete.
pub(super) struct Identification {
    reader: Reader,
    proxy: Addr,
    policy: Rc<Policy>,
    /// Ends the connection when the header takes too long.
    timer: Option<TimerId>,
}

impl Identification {
    /// Begins to wait for the header of a connection that is registered.
    pub(super) fn begin(state: &ChannelState, proxy: Addr, policy: Rc<Policy>) -> Box<Self> {
        Box::new(Identification {
            reader: Reader::default(),
            proxy,
            policy,
            timer: state.set_handshake_timer(),
        })
    }

    /// Receives what the peer has sent, and nothing behind the header. Returns whether the client is known and
    /// admitted.
    pub(super) fn advance(&mut self, turn: &mut Turn<'_>) -> bool {
        let state = turn.state;
        if turn.ready.has(Ready::URGENT) {
            state.discard_urgent();
        }
        if !turn.ready.has(Ready::READ) {
            return false;
        }
        let outcome = self.receive(state);
        match outcome {
            Ok(Some(header)) => self.identify(turn, header),
            Ok(None) => false,
            Err(why) => {
                state.end(why);
                false
            }
        }
    }

    /// Receives what has arrived of the header.
    fn receive(&mut self, state: &ChannelState) -> Result<Option<Header>, Close> {
        let outcome = self.reader.receive(|buffer| state.receive_header(buffer));
        let error = match outcome {
            Ok(header) => return Ok(Some(header)),
            Err(error) => error,
        };
        match error.kind() {
            io::ErrorKind::WouldBlock => Ok(None),
            // Somebody has looked whether the port is open.
            io::ErrorKind::UnexpectedEof if self.reader.is_empty() => Err(Close::Eof),
            io::ErrorKind::UnexpectedEof => {
                let error = Error::from(error).context("receive the header");
                Err(Close::ProxyHeader(error))
            }
            io::ErrorKind::InvalidData => Err(Close::ProxyHeader(
                error.downcast().unwrap_or_else(Error::from),
            )),
            _ => Err(Close::from_io(error)),
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
        if matches!(why, Close::ProxyHeader(_)) || !self.reader.is_empty() && !why.is_local() {
            let proxy = Escaped(&self.proxy);
            log_throttled!(warn, %proxy, why = %Escaped(why), "a connection of a proxy was closed");
        }
    }
}

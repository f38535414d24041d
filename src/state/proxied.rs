//! A connection that a proxy forwards: its PROXY header says who the client is.

use std::io;
use std::rc::Rc;

use tracing::field::display;

use super::quota::Exceeded;
use super::{ChannelState, Phase};
use crate::Addr;
use crate::error::{Close, Error};
use crate::log::Escaped;
use crate::proxy_protocol::Header;
use crate::sys::socket::Fd;
use crate::user_code::{discard, enter};

/// The proxy of a connection.
pub(super) struct Proxied {
    proxy: Addr,
    /// `None` while it is not complete.
    header: Option<Header>,
}

impl ChannelState {
    /// The accepted connection is that of a proxy, which sends a header. Called before its registration.
    pub(crate) fn await_header(&self, proxy: Addr) {
        self.phase.set(Phase::Unidentified);
        let header = None;
        self.with_cold(|cold| cold.proxied = Some(Box::new(Proxied { proxy, header })));
    }

    /// Receives a part of the header.
    pub(crate) fn receive_header(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive_raw(buffer)
    }

    /// Counts the connection for the quota of its client, which is known now.
    pub(crate) fn count_client(&self, client: &Addr) -> Result<(), Exceeded> {
        let Some(mut admission) = self.admission.take() else {
            return Ok(());
        };
        let counted = self.limit(|limits| admission.identify(client, limits));
        self.admission.set(Some(admission));
        counted
    }

    /// The header is complete, and the client is this one.
    pub(crate) fn identify(self: &Rc<Self>, client: Addr, header: Header) {
        if let Some(span) = self.span() {
            let peer = display(Escaped(&client));
            discard(enter(|| {
                span.record("peer", &peer);
            }));
        }
        self.set_peer(client);
        self.cold(|cold| {
            if let Some(proxied) = &mut cold.proxied {
                proxied.header = Some(header);
            }
        });
        if let Some(make) = self.take_planned() {
            return self.begin_handshake(make, Phase::Arrived);
        }
        self.phase.set(Phase::Arrived);
        self.start_clocks();
    }

    /// Whether it has a client that is not known yet.
    pub(crate) fn is_unidentified(&self) -> bool {
        self.phase.get() == Phase::Unidentified
    }

    /// Whether a part of the header waits to be received.
    pub(crate) fn has_unread_header(&self) -> bool {
        self.is_unidentified() && self.on_socket(Fd::peek).is_ok()
    }

    /// Ends the channel, because the deadline of the header has passed.
    pub(super) fn end_without_header(self: &Rc<Self>) {
        let error = Error::from(io::Error::from(io::ErrorKind::TimedOut));
        self.end(Close::ProxyHeader(error.context("wait for the header")));
    }

    pub(crate) fn proxy_addr(&self) -> Option<Addr> {
        self.cold(|cold| cold.proxied.as_ref().map(|proxied| proxied.proxy.clone()))?
    }

    pub(crate) fn proxy_header(&self) -> Option<Header> {
        self.cold(|cold| cold.proxied.as_ref()?.header.clone())?
    }
}

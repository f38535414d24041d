//! Sends a PROXY header on an outgoing connection, before it counts as up: before TLS, and before everything that is
//! pushed.

use std::io;
use std::net::SocketAddr;

use crate::error::Error;
use crate::proxy_protocol::Header;
use crate::state::connect::{AttemptContext, Connect, Connected, Progress};
use crate::sys::interest::Interest;

/// The attempts to connect a channel, and then the header.
pub(super) struct Announcement {
    attempts: Box<dyn Connect>,
    /// What is left of the header.
    unsent: Vec<u8>,
    /// The connection, while the kernel has not accepted the header.
    connected: Option<Connected>,
}

impl Announcement {
    pub(super) fn new(attempts: Box<dyn Connect>, header: &Header) -> Self {
        Announcement {
            attempts,
            unsent: header.encode(),
            connected: None,
        }
    }

    /// Sends what the kernel accepts. A new connection has room for all of it, unless its buffer was made small.
    fn send(&mut self, connected: &Connected) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match connected.source.socket().send(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Connect for Announcement {
    fn advance(&mut self, context: &AttemptContext<'_>) -> Progress {
        const WRITABLE: Interest = Interest::new(false, true);
        let connected = match self.connected.take() {
            Some(connected) => connected,
            None => match self.attempts.advance(context) {
                Progress::Connected(connected) => connected,
                progress => return progress,
            },
        };
        // The channel finds out itself that its peer has reset the connection.
        if connected.reset.is_some() {
            return Progress::Connected(connected);
        }
        let outcome = self.send(&connected).and_then(|()| match self.unsent[..] {
            [] => Ok(()),
            _ => connected
                .source
                .watch(context.poller, WRITABLE, context.new_key),
        });
        match outcome {
            Ok(()) if self.unsent.is_empty() => Progress::Connected(connected),
            Ok(()) => {
                self.connected = Some(connected);
                Progress::Waiting(None)
            }
            Err(error) => Progress::Failed(Error::from(error).context(ACTION)),
        }
    }

    fn event_reported(&mut self) {
        match &self.connected {
            Some(connected) => connected.source.disarm_if_one_shot(),
            None => self.attempts.event_reported(),
        }
    }

    fn unwatch(&mut self) {
        match &self.connected {
            Some(connected) => connected.source.unwatch(),
            None => self.attempts.unwatch(),
        }
    }

    fn resolved(&mut self, outcome: io::Result<Vec<SocketAddr>>) {
        self.attempts.resolved(outcome);
    }

    fn action(&self) -> String {
        match &self.connected {
            Some(_) => ACTION.to_owned(),
            None => self.attempts.action(),
        }
    }
}

const ACTION: &str = "send the PROXY header";

//! The attempt of a socket whose owner has called `connect`.

use std::io;
use std::net::SocketAddr;

use crate::error::Error;
use crate::state::connect::{AttemptContext, Connect, Connected, Progress};
use crate::sys::interest::Interest;
use crate::sys::socket::Fd;
use crate::sys::watched_socket::WatchedSocket;

/// Waits for the outcome of one attempt, which was begun elsewhere.
pub(crate) struct AdoptedAttempt {
    /// Absent once there is an outcome.
    source: Option<WatchedSocket>,
    /// The poller has reported an event since the last advance.
    is_reported: bool,
}

impl AdoptedAttempt {
    pub(crate) fn new(socket: Fd) -> Self {
        AdoptedAttempt {
            source: Some(WatchedSocket::new(socket)),
            is_reported: false,
        }
    }
}

impl Connect for AdoptedAttempt {
    fn advance(&mut self, context: &AttemptContext<'_>) -> Progress {
        const WRITABLE: Interest = Interest::new(false, true);
        let is_reported = std::mem::take(&mut self.is_reported);
        let failed = |error: io::Error| Progress::Failed(Error::new(error).context(ACTION));
        let Some(source) = self.source.take() else {
            return failed(io::ErrorKind::NotConnected.into());
        };
        let (peer, reset) = match source.socket().connected() {
            Ok(Some(peer)) => (Some(peer), None),
            // It was up. What the peer had sent before the reset is still to be delivered.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => (None, Some(error)),
            Err(error) => return failed(error),
            // An event is an outcome. Without one the socket has never been connecting, and the poller would
            // report it for ever.
            Ok(None) if is_reported => return failed(io::ErrorKind::NotConnected.into()),
            Ok(None) => match source.watch(context.poller, WRITABLE, context.new_key) {
                Ok(()) => {
                    self.source = Some(source);
                    return Progress::Waiting(None);
                }
                Err(error) => return failed(error),
            },
        };
        Progress::Connected(Connected {
            source,
            peer,
            reset,
        })
    }

    fn event_reported(&mut self) {
        self.is_reported = true;
        if let Some(source) = &self.source {
            source.disarm_if_one_shot();
        }
    }

    fn unwatch(&mut self) {
        if let Some(source) = &self.source {
            source.unwatch();
        }
    }

    /// Its address was known to its owner.
    fn resolved(&mut self, _: io::Result<Vec<SocketAddr>>) {}

    fn action(&self) -> String {
        ACTION.to_owned()
    }
}

/// The address of a connection that is not up cannot be asked.
const ACTION: &str = "connect an adopted socket";

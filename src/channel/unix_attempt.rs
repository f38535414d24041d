//! The attempt to connect to the path of a Unix-domain socket.

use std::io;
use std::net::SocketAddr;

use super::attempts::Options;
use crate::Addr;
use crate::error::Error;
use crate::state::connect::{AttemptContext, Connect, Connected, Progress};
use crate::sys::socket::Fd;
use crate::sys::watched_socket::WatchedSocket;
use crate::target::UnixName;

/// The attempt to connect one channel. There is one address, and the system knows the outcome at once.
pub(crate) struct UnixAttempt {
    name: UnixName,
    options: Options,
}

impl UnixAttempt {
    /// # Errors
    /// When a local address is set.
    pub(crate) fn new(name: &UnixName, options: Options) -> Result<Self, Error> {
        if options.socket.local.is_set() {
            let error = Error::new("a Unix-domain connection has no local IP address");
            return Err(error.context(format_args!("connect to {name}")));
        }
        let name = name.clone();
        Ok(UnixAttempt { name, options })
    }

    fn connect(&self, context: &AttemptContext<'_>) -> io::Result<Connected> {
        let system = context.poller.system();
        let socket = system.connect_unix(&self.name, &self.options.socket)?;
        Ok(Connected {
            peer: Some(self.peer_of(&socket)),
            source: WatchedSocket::new(socket),
            reset: None,
        })
    }

    /// macOS and the BSDs do not tell the peer of a connection that the peer has closed by now. It may have sent
    /// something before.
    fn peer_of(&self, socket: &Fd) -> Addr {
        socket.peer_addr().unwrap_or_else(|_| match &self.name {
            UnixName::Path(path) => Addr::Unix(Some(path.clone())),
            UnixName::Abstract(name) => Addr::Abstract(name.as_bytes().into()),
        })
    }
}

impl Connect for UnixAttempt {
    fn advance(&mut self, context: &AttemptContext<'_>) -> Progress {
        match self.connect(context) {
            Ok(connected) => Progress::Connected(connected),
            Err(error) => Progress::Failed(Error::new(error).context(self.action())),
        }
    }

    fn event_reported(&mut self) {}

    fn unwatch(&mut self) {}

    fn resolved(&mut self, _: io::Result<Vec<SocketAddr>>) {}

    fn action(&self) -> String {
        format!("connect to {}", self.name)
    }
}

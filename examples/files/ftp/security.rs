//! TLS of control connections and of their data connections.
//!
//! A passive port belongs to nobody until somebody connects. The address of that client is checked, but other people can have
//! the same address. Each session has a key for its tickets. So a data connection can resume the TLS session of its own control
//! connection only, and whoever resumes it is the client of that one (RFC 4217 section 10.2).

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use asynchat::Error;
use asynchat::tls::rustls::ServerConfig;
use asynchat::tls::rustls::crypto::ring::Ticketer;
use asynchat::tls::rustls::server::ServerSessionMemoryCache;

/// Some clients use a ticket of TLS 1.3 once (RFC 8446 appendix C.4), so they can resume a session as often.
const TICKETS: usize = 8;

/// The handshakes of TLS 1.2 that can be resumed without a ticket: that of the control connection, and of data connections that
/// do not resume it.
const STORED: usize = 8;

/// The certificate, which can be renewed. Clones share it.
#[derive(Clone)]
pub struct Security(Rc<RefCell<Arc<ServerConfig>>>);

/// The configurations of a session. They share the key for tickets.
#[derive(Clone)]
pub struct SessionSecurity {
    pub control: Arc<ServerConfig>,
    pub data: Arc<ServerConfig>,
}

impl From<Arc<ServerConfig>> for Security {
    fn from(config: Arc<ServerConfig>) -> Security {
        Security(Rc::new(RefCell::new(config)))
    }
}

impl Security {
    /// Sessions that are open keep what they have.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        self.0.replace(config);
    }

    pub fn for_session(&self) -> Result<SessionSecurity, Error> {
        let mut config = ServerConfig::clone(&self.0.borrow());
        config.ticketer = Ticketer::new().map_err(Error::new)?;
        // Some clients, such as curl, use no tickets of TLS 1.2.
        config.session_storage = ServerSessionMemoryCache::new(STORED);
        config.send_tls13_tickets = TICKETS;
        let control = Arc::new(config.clone());
        // A client that only sends, as in an upload, would not read a ticket. When it closes its socket with unread input, its
        // kernel resets the connection, and the end of the file is lost.
        config.send_tls13_tickets = 0;
        let data = Arc::new(config);
        Ok(SessionSecurity { control, data })
    }
}

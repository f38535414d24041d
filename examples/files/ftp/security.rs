//! TLS of control connections and of their data connections.
//!
//! A passive port belongs to nobody until somebody connects. The address of that client is checked, but other people can have
//! the same address. Each control connection has a store for TLS sessions, and only its own handshake adds to it. So a data
//! connection can resume the TLS session of its own control connection only, and whoever resumes it is the client of that one
//! (RFC 4217 section 10.2).
//!
//! A data connection must not add to the store: a stranger's handshake is complete before it can be refused, and the stranger
//! would resume it at the next port.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use asynchat::tls::rustls::ServerConfig;
use asynchat::tls::rustls::server::{ServerSessionMemoryCache, StoresServerSessions};

/// Some clients use a ticket of TLS 1.3 once (RFC 8446 appendix C.4), so they can resume a session as often. Each ticket is an
/// entry of the store. TLS 1.2 has one entry.
const TICKETS: usize = 8;

/// The certificate, which can be renewed. Clones share it.
#[derive(Clone)]
pub struct Security(Rc<RefCell<Arc<ServerConfig>>>);

/// The configurations of a session. Data connections resume what the control connection has stored.
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

    pub fn for_session(&self) -> SessionSecurity {
        let mut config = ServerConfig::clone(&self.0.borrow());
        // There is no ticketer. With one, a key that is replaced after six hours would limit the life of a session, and TLS 1.2
        // would give each data connection a ticket.
        let store = ServerSessionMemoryCache::new(TICKETS);
        config.session_storage = Arc::clone(&store) as _;
        config.send_tls13_tickets = TICKETS;
        let control = Arc::new(config.clone());
        config.session_storage = Arc::new(ReadOnly(store));
        // A client that only sends, as in an upload, would not read a ticket. When it closes its socket with unread input, its
        // kernel resets the connection, and the end of the file is lost.
        config.send_tls13_tickets = 0;
        let data = Arc::new(config);
        SessionSecurity { control, data }
    }
}

/// The store of a control connection, for its data connections. They change nothing in it.
#[derive(Debug)]
struct ReadOnly(Arc<ServerSessionMemoryCache>);

impl StoresServerSessions for ReadOnly {
    fn put(&self, _: Vec<u8>, _: Vec<u8>) -> bool {
        false
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.get(key)
    }

    /// TLS 1.3 takes a ticket out of the store, against replays of early data, which the server does not accept. Some clients,
    /// such as those with OpenSSL's `SSL_set_session`, show one ticket in all data connections.
    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.get(key)
    }

    fn can_cache(&self) -> bool {
        false
    }
}

//! Which configuration a server uses for a client.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::server::ClientHello;

/// How a server accepts TLS connections: with one configuration, or with one that is chosen for each client.
///
/// All clones are the same acceptor. It can be used by several servers and loops, and from other threads.
/// [`replace`](Acceptor::replace) changes the configuration of a running server.
///
/// Early data (0-RTT) is never accepted, because it can be replayed: a `max_early_data_size` in a
/// configuration has no effect.
///
/// ```
/// use asynchat::{Server, tls};
///
/// # fn main() -> asynchat::Result {
/// # let cert = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
/// # let (chain, key) = (vec![cert.cert.der().clone()], cert.signing_key.serialize_der());
/// # let key = tls::PrivateKeyDer::try_from(key)?;
/// let acceptor = tls::Acceptor::from(tls::server_config(chain, key)?);
/// let server = Server::new("[::]:563").tls(acceptor.clone());
/// # drop(server);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Acceptor(Arc<RwLock<Source>>);

enum Source {
    Fixed(Arc<ServerConfig>),
    Chosen(Arc<Chooser>),
}

type Chooser = dyn Fn(&ClientHello<'_>) -> Option<Arc<ServerConfig>> + Send + Sync;

impl Acceptor {
    /// Creates an acceptor that calls `choose` for each client, with its first message: the name that it
    /// asks for (SNI), and the protocols that it offers (ALPN). If `choose` returns `None`, the handshake fails,
    /// and the client gets the alert `unrecognized_name`, or `missing_extension` if it asks for no name.
    ///
    /// If some of the configurations demand a certificate of the client, each needs its own session storage and
    /// ticketer: see [`replace`](Acceptor::replace).
    ///
    /// `choose` runs on the thread of the loop, so it must not block. If it panics, that handshake fails, with the
    /// alert `internal_error`.
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use std::sync::Arc;
    /// use asynchat::tls::{self, rustls::ServerConfig};
    ///
    /// fn acceptor(configs: HashMap<String, Arc<ServerConfig>>) -> tls::Acceptor {
    ///     tls::Acceptor::choosing(move |hello| configs.get(hello.server_name()?).cloned())
    /// }
    /// # drop(acceptor(HashMap::new()));
    /// ```
    pub fn choosing(
        choose: impl Fn(&ClientHello<'_>) -> Option<Arc<ServerConfig>> + Send + Sync + 'static,
    ) -> Self {
        Acceptor(Arc::new(RwLock::new(Source::Chosen(Arc::new(choose)))))
    }

    /// Uses this configuration for all handshakes that begin from now on: for a certificate that was renewed. It also
    /// takes the place of the closure of [`choosing`](Acceptor::choosing). To renew the configurations of a closure, let
    /// the closure read them from an `Arc<Mutex<..>>`.
    ///
    /// Connections that are up, and handshakes whose first message has arrived, keep theirs. A client
    /// cannot resume a session of another configuration, unless both have the same session storage or ticketer.
    ///
    /// **Warning**: do not give the `session_storage` or the `ticketer` of a configuration that asks for no certificate
    /// of the client to one that demands it, or that trusts other authorities. A client that has a session from the
    /// first resumes it under the second, and rustls does not ask for a certificate then (as in CVE-2025-23419). The
    /// crate cannot know what the verifier of a configuration demands. The configurations of `tls::server_config` and of
    /// rustls' builder share neither; a clone of one shares both. Where access depends on the certificate, look at
    /// [`peer_certificates`](crate::tls::Info#structfield.peer_certificates) in each session: it is empty then.
    ///
    /// This may be called on any thread.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        let source = Source::Fixed(without_early_data(config));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = source;
    }

    /// The configuration for this client. The chooser is user code: it is called without the lock.
    pub(super) fn choose(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        let chooser = match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            Source::Fixed(config) => return Some(Arc::clone(config)),
            Source::Chosen(chooser) => Arc::clone(chooser),
        };
        chooser(hello).map(without_early_data)
    }
}

impl From<Arc<ServerConfig>> for Acceptor {
    fn from(config: Arc<ServerConfig>) -> Self {
        Acceptor(Arc::new(RwLock::new(Source::Fixed(without_early_data(
            config,
        )))))
    }
}

impl From<&Acceptor> for Acceptor {
    fn from(acceptor: &Acceptor) -> Self {
        acceptor.clone()
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

fn without_early_data(config: Arc<ServerConfig>) -> Arc<ServerConfig> {
    if config.max_early_data_size == 0 {
        return config;
    }
    let mut config = ServerConfig::clone(&config);
    config.max_early_data_size = 0;
    Arc::new(config)
}

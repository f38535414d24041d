//! How a client connects: its configuration, and the name of the server.

use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::error::{Error, Result};

/// How a client connects with TLS: its configuration, and the name that the certificate of the server has to be
/// for.
///
/// [`Connector::tls`](crate::Connector::tls), and [`Chat::start_tls`](crate::Chat::start_tls) on a connection of a
/// connector, take the name from the target, unless one is given here. They also take the configuration alone.
/// The target has no name if it is a path, several addresses, or an [adopted](crate::Connector::adopt) socket.
///
/// ```
/// use std::sync::Arc;
/// use asynchat::tls::{self, rustls::ClientConfig};
///
/// fn upgrade(chat: &asynchat::Chat, config: Arc<ClientConfig>) -> Result<(), asynchat::Error> {
///     chat.start_tls(tls::Client::from(config).name("news.example.org"))
/// }
/// ```
///
/// Connections that use the same `Arc<ClientConfig>` share its sessions: a client that connects again resumes the
/// session of an earlier connection, which is cheaper for both sides. A configuration that is made anew has none.
#[derive(Clone)]
pub struct Client {
    config: Arc<ClientConfig>,
    name: Option<String>,
}

/// A client whose server has a name that can be in a certificate.
pub(crate) struct PreparedClient {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
}

impl Client {
    /// Sets the name of the server: a host name, or an IP address. Its certificate has to be for this name, which
    /// is also sent to it (SNI), unless it is an address.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Checks the name, which is the default if there is no other.
    ///
    /// # Errors
    /// When there is none, or when it is no host name and no address.
    pub(super) fn server(&self, default: Option<&str>) -> Result<PreparedClient, Error> {
        let Some(name) = self.name.as_deref().or(default) else {
            return Err(Error::new(
                "a TLS client needs the name of the server: tls::Client::name",
            ));
        };
        let checked = ServerName::try_from(name.to_owned());
        let name = checked.map_err(|error| {
            Error::new(error).context(format_args!("the name of a TLS server: {name:?}"))
        })?;
        Ok(PreparedClient {
            config: Arc::clone(&self.config),
            name,
        })
    }
}

/// The name is that of the target, or is still to be given.
impl From<Arc<ClientConfig>> for Client {
    fn from(config: Arc<ClientConfig>) -> Self {
        Client { config, name: None }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("name", &self.name).finish()
    }
}

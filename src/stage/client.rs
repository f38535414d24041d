//! How a client connects: its configuration, and the name of the server.

use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::error::{Error, Result};

/// How a client connects with TLS: its configuration, and the name that the certificate of the server has to be
/// for.
///
/// A [`Connector`](crate::Connector) takes the name from its target, unless one is given here.
/// [`Chat::start_tls`](crate::Chat::start_tls) needs it.
///
/// ```
/// use std::sync::Arc;
/// use asynchat::tls::{self, rustls::ClientConfig};
///
/// fn upgrade(chat: &asynchat::Chat, config: Arc<ClientConfig>) -> Result<(), asynchat::Error> {
///     chat.start_tls(tls::Client::from(config).name("news.example.org"))
/// }
/// ```
#[derive(Clone)]
pub struct Client {
    config: Arc<ClientConfig>,
    name: Option<String>,
}

/// A client whose server has a name that can be in a certificate.
pub(crate) struct Prepared {
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

    pub(crate) fn has_name(&self) -> bool {
        self.name.is_some()
    }

    /// Checks the name.
    ///
    /// # Errors
    /// When there is none, or when it is no host name and no address.
    pub(super) fn server(&self) -> Result<Prepared, Error> {
        let Some(name) = &self.name else {
            return Err(Error::new(
                "a TLS client needs the name of the server: tls::Client::name",
            ));
        };
        let checked = ServerName::try_from(name.clone());
        let name = checked.map_err(|error| {
            Error::new(error).context(format_args!("the name of a TLS server: {name:?}"))
        })?;
        Ok(Prepared {
            config: Arc::clone(&self.config),
            name,
        })
    }
}

/// The name is still to be given.
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

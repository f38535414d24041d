//! The server under test: its address, and whether the clients connect to it with TLS.

use asynchat::{Connector, Target};

use crate::TIMEOUT;

#[derive(Clone)]
pub struct Endpoint {
    target: Target,
    #[cfg(feature = "tls")]
    tls: Option<asynchat::tls::Client>,
}

impl Endpoint {
    pub fn plaintext(target: impl Into<Target>) -> Endpoint {
        Endpoint {
            target: target.into(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    #[cfg(feature = "tls")]
    pub fn tls(target: impl Into<Target>, client: asynchat::tls::Client) -> Endpoint {
        Endpoint {
            target: target.into(),
            tls: Some(client),
        }
    }

    /// How each client connects.
    pub fn connector(&self) -> Connector {
        let connector = Connector::new(self.target.clone()).connect_timeout(TIMEOUT);
        #[cfg(feature = "tls")]
        if let Some(client) = &self.tls {
            return connector.tls(client.clone());
        }
        connector
    }
}

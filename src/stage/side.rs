//! The side that a connection takes in TLS.

use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};

use super::acceptor::Acceptor;
use super::client::Client;
use super::tls::TlsStage;
use super::{MakeStage, Stage};
use crate::error::{Error, Result};

/// Which side of TLS a connection takes. [`Chat::start_tls`](crate::Chat::start_tls) takes whatever converts into
/// it: an [`Acceptor`], an `Arc<ServerConfig>`, a [`Client`], or an `Arc<ClientConfig>`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Side {
    /// It accepts the handshake of its peer.
    Server(Acceptor),
    /// It begins the handshake.
    Client(Client),
}

impl Side {
    /// `name` is that of the server if the side has none.
    pub(crate) fn prepare(self, name: Option<&str>) -> Result<MakeStage, Error> {
        match self {
            Side::Server(acceptor) => Ok(acceptor.prepare()),
            Side::Client(client) => client.prepare(name),
        }
    }
}

impl Acceptor {
    pub(crate) fn prepare(self) -> MakeStage {
        MakeStage::new(None, move || {
            Ok(Box::new(TlsStage::accept(self.clone())) as Box<dyn Stage>)
        })
    }
}

impl Client {
    /// `name` is that of the server if the client has none.
    ///
    /// # Errors
    /// When there is no name, or one that no certificate can have.
    pub(crate) fn prepare(&self, name: Option<&str>) -> Result<MakeStage, Error> {
        let server = self.server(name)?;
        let action = format!("TLS handshake with {}", server.name.to_str());
        Ok(MakeStage::new(Some(action), move || {
            Ok(Box::new(TlsStage::connect(&server)?) as Box<dyn Stage>)
        }))
    }
}

impl From<Acceptor> for Side {
    fn from(acceptor: Acceptor) -> Self {
        Side::Server(acceptor)
    }
}

impl From<&Acceptor> for Side {
    fn from(acceptor: &Acceptor) -> Self {
        Side::Server(acceptor.clone())
    }
}

impl From<Arc<ServerConfig>> for Side {
    fn from(config: Arc<ServerConfig>) -> Self {
        Side::Server(config.into())
    }
}

/// The name of the server is that of the target of the connection.
impl From<Arc<ClientConfig>> for Side {
    fn from(config: Arc<ClientConfig>) -> Self {
        Side::Client(config.into())
    }
}

impl From<Client> for Side {
    fn from(client: Client) -> Self {
        Side::Client(client)
    }
}

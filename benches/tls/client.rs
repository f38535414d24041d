//! The client: one connection at a time, that blocks.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use asynchat::Result;
use asynchat::tls::rustls::client::Resumption;
use asynchat::tls::rustls::crypto::{CryptoProvider, ring};
use asynchat::tls::rustls::pki_types::ServerName;
use asynchat::tls::rustls::{
    CipherSuite, ClientConfig, ClientConnection, HandshakeKind, StreamOwned, version,
};

use crate::certificate::Files;

pub struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

/// The configuration of all connections that may resume each other's sessions, or none.
pub fn config(files: &Files, resumes: bool) -> Result<Arc<ClientConfig>> {
    let mut provider: CryptoProvider = ring::default_provider();
    provider
        .cipher_suites
        .retain(|it| it.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider.kx_groups = vec![ring::kx_group::X25519];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&version::TLS13])?
        .with_root_certificates(files.roots()?)
        .with_no_client_auth();
    if !resumes {
        config.resumption = Resumption::disabled();
    }
    Ok(Arc::new(config))
}

impl Client {
    pub fn connect(addr: SocketAddr, config: &Arc<ClientConfig>) -> Result<Client> {
        let socket = TcpStream::connect(addr)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        let name = ServerName::try_from("localhost")?;
        let tls = ClientConnection::new(Arc::clone(config), name)?;
        let stream = StreamOwned::new(tls, socket);
        Ok(Client { stream })
    }

    /// Sends bytes that are echoed, and checks the echo.
    pub fn echo(&mut self, bytes: &[u8]) -> Result {
        self.stream.write_all(bytes)?;
        let mut echo = vec![0; bytes.len()];
        self.stream.read_exact(&mut echo)?;
        if echo == bytes {
            Ok(())
        } else {
            Err("the echo differs".into())
        }
    }

    /// Sends a command, and counts so many bytes of the reply.
    pub fn download(&mut self, command: &[u8], length: usize) -> Result {
        self.stream.write_all(command)?;
        let received = io::copy(&mut (&mut self.stream).take(length as u64), &mut io::sink())?;
        if received == length as u64 {
            Ok(())
        } else {
            Err("the download is too short".into())
        }
    }

    pub fn is_resumed(&self) -> bool {
        self.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Announces the end, and waits for that of the server.
    pub fn close(mut self) -> Result {
        self.stream.conn.send_close_notify();
        self.stream.flush()?;
        match self.stream.read(&mut [0; 64]) {
            Ok(0) => Ok(()),
            Ok(_) => Err("a surplus reply".into()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

//! Certificates, configurations, and a TLS peer on the simulated network.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::io::{Read, Write};
use std::sync::{Arc, OnceLock};

use asynchat::sim::Peer;
use asynchat::tls::rustls::crypto::ring::default_provider;
use asynchat::tls::rustls::{
    ClientConfig, ClientConnection, Connection, Error as TlsError, RootCertStore, ServerConfig,
    ServerConnection, SupportedProtocolVersion,
};
use asynchat::tls::{self, CertificateDer, PrivateKeyDer, ServerName};

/// A certificate for `localhost` and 127.0.0.1 that certifies itself, and its key, both also as PEM.
pub(crate) struct Identity {
    certificate: Vec<u8>,
    key: Vec<u8>,
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
}

pub(crate) fn identity() -> &'static Identity {
    static MADE: OnceLock<Identity> = OnceLock::new();
    MADE.get_or_init(|| Identity::with(&rcgen::PKCS_ECDSA_P256_SHA256))
}

/// One whose signatures have the same length each time, as everything else of the handshake. Those of ECDSA have not,
/// so that a seed of the simulator would not repeat its run.
pub(crate) fn identity_of_fixed_length() -> &'static Identity {
    static MADE: OnceLock<Identity> = OnceLock::new();
    MADE.get_or_init(|| Identity::with(&rcgen::PKCS_ED25519))
}

impl Identity {
    fn with(algorithm: &'static rcgen::SignatureAlgorithm) -> Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = rcgen::CertificateParams::new(names).expect("names");
        params.serial_number = Some(1u64.into());
        let key = rcgen::KeyPair::generate_for(algorithm).expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Identity {
            certificate: certificate.der().to_vec(),
            key: key.serialize_der(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        tls::server_config(self.chain(), self.key()).expect("a configuration")
    }

    pub(crate) fn client_config(&self) -> Arc<ClientConfig> {
        tls::client_config(self.roots()).expect("a configuration")
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from(self.certificate.clone())]
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.clone()).expect("a key")
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        for certificate in self.chain() {
            roots.add(certificate).expect("a root");
        }
        roots
    }
}

pub(crate) fn server_config() -> Arc<ServerConfig> {
    identity().server_config()
}

pub(crate) fn client_config() -> Arc<ClientConfig> {
    identity().client_config()
}

pub(crate) fn client_config_of(version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(identity().roots())
        .with_no_client_auth();
    Arc::new(config)
}

/// The other end of a simulated connection, with TLS of rustls' buffered kind.
pub(crate) struct TlsPeer {
    pub(crate) peer: Peer,
    pub(crate) tls: Connection,
    pub(crate) plaintext: Vec<u8>,
    pub(crate) error: Option<TlsError>,
}

impl TlsPeer {
    pub(crate) fn client(peer: Peer, config: Arc<ClientConfig>) -> Self {
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = ClientConnection::new(config, name).expect("a configuration");
        TlsPeer::new(peer, tls.into())
    }

    pub(crate) fn server(peer: Peer) -> Self {
        let tls = ServerConnection::new(server_config()).expect("a configuration");
        TlsPeer::new(peer, tls.into())
    }

    fn new(peer: Peer, tls: Connection) -> Self {
        TlsPeer {
            peer,
            tls,
            plaintext: Vec::new(),
            error: None,
        }
    }

    /// Takes what has arrived. Returns whether anything had.
    pub(crate) fn receive(&mut self) -> bool {
        let received = self.peer.take_received();
        let mut left = &received[..];
        while !left.is_empty() && self.error.is_none() {
            self.tls.read_tls(&mut left).expect("there is room");
            match self.tls.process_new_packets() {
                Ok(state) => {
                    let mut plaintext = vec![0; state.plaintext_bytes_to_read()];
                    if !plaintext.is_empty() {
                        let mut reader = self.tls.reader();
                        reader.read_exact(&mut plaintext).expect("it is there");
                    }
                    self.plaintext.append(&mut plaintext);
                    if state.peer_has_closed() {
                        break;
                    }
                }
                Err(error) => self.error = Some(error),
            }
        }
        !received.is_empty()
    }

    /// Takes what is to be sent.
    pub(crate) fn output(&mut self) -> Vec<u8> {
        let mut output = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut output).expect("a vector");
        }
        output
    }

    /// What is to be sent for `data`.
    pub(crate) fn encrypt(&mut self, data: &[u8]) -> Vec<u8> {
        let mut output = Vec::new();
        for piece in data.chunks(16 * 1024) {
            self.tls.writer().write_all(piece).expect("there is room");
            output.append(&mut self.output());
        }
        output
    }

    /// What is to be sent to announce the end.
    pub(crate) fn close_notify(&mut self) -> Vec<u8> {
        self.tls.send_close_notify();
        self.output()
    }

    pub(crate) fn send(&mut self, data: impl AsRef<[u8]>) {
        let output = self.encrypt(data.as_ref());
        self.peer.send(output);
    }

    /// Receives and sends until nothing moves.
    pub(crate) fn exchange(&mut self, mut settle: impl FnMut()) {
        loop {
            settle();
            let has_received = self.receive();
            let output = self.output();
            self.peer.send(&output);
            if !has_received && output.is_empty() {
                return;
            }
        }
    }

    /// What has arrived, as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.plaintext).into_owned()
    }

    /// Whether the other end has announced the end of its output.
    pub(crate) fn is_closed(&mut self) -> bool {
        let state = self.tls.process_new_packets();
        state.is_ok_and(|state| state.peer_has_closed())
    }
}

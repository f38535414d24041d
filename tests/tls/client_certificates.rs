//! Servers that ask their clients for certificates, and clients that have one.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use asynchat::tls::rustls::version::{TLS12, TLS13};
use asynchat::tls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use asynchat::tls::{self, CertificateDer, ClientCertificates, PrivateKeyDer};
use asynchat::{AsyncChat, Close, Connector, Result, Server};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::scene::Scene;
use crate::tls::identity;

/// An authority for clients, and the certificate of one of them with its key.
struct Clients {
    roots: RootCertStore,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Clients {
    fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let authority_key = KeyPair::generate()?;
        let root = params.self_signed(&authority_key)?;
        let authority = Issuer::new(params, authority_key);
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::default().signed_by(&key, &authority)?;
        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone())?;
        Ok(Clients {
            roots,
            certificate: certificate.der().clone(),
            key: PrivateKeyDer::try_from(key.serialize_der())?,
        })
    }

    fn client(&self) -> Result<Arc<ClientConfig>> {
        let (chain, key) = (vec![self.certificate.clone()], self.key.clone_key());
        Ok(tls::client_config_with_certificate(
            identity().roots(),
            chain,
            key,
        )?)
    }
}

type Log = Rc<RefCell<Vec<String>>>;

struct Client(Log);

impl AsyncChat for Client {
    fn handle_connect(&mut self) -> Result {
        self.0.borrow_mut().push("client: connect".to_owned());
        Ok(())
    }
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        let line = String::from_utf8_lossy(line);
        self.0.borrow_mut().push(format!("client: {line}"));
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        self.0.borrow_mut().push(format!("client: {why}"));
    }
}

/// What a client does at a server that greets it with the number of its certificates.
fn served(
    clients: &Clients,
    certificates: ClientCertificates,
    client: Arc<ClientConfig>,
) -> Result<Vec<String>> {
    let (chain, key) = (identity().chain(), identity().key());
    let roots = clients.roots.clone();
    let config = tls::server_config_with_clients(chain, key, roots, certificates)?;
    let scene = Scene::new()?;
    let expected = clients.certificate.clone();
    Server::new("127.0.0.1:563")
        .tls(config)
        .listen_on(&scene.event_loop, move |chat| {
            let shown = chat.tls().map_or(Vec::new(), |info| info.peer_certificates);
            // The session recognises one client by its certificate.
            let is_known = shown.first() == Some(&expected);
            write!(chat, "{} certificates, {is_known}\r\n", shown.len());
            |_: &[u8]| Ok(())
        })?;
    let log = Log::default();
    let session = Client(Rc::clone(&log));
    Connector::new("127.0.0.1:563")
        .tls(client)
        .connect_on(&scene.event_loop, |_| session)?;
    scene.settle()?;
    Ok(log.take())
}

fn without(version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    crate::tls::client_config_of(version)
}

#[test]
fn a_server_gets_the_certificate_of_its_client() -> Result {
    let clients = Clients::new()?;
    for certificates in [ClientCertificates::Required, ClientCertificates::Optional] {
        let log = served(&clients, certificates, clients.client()?)?;
        assert_eq!(log, ["client: connect", "client: 1 certificates, true"]);
    }
    Ok(())
}

#[test]
fn a_server_may_serve_clients_without_a_certificate() -> Result {
    let clients = Clients::new()?;
    let log = served(&clients, ClientCertificates::Optional, without(&TLS13))?;
    assert_eq!(log, ["client: connect", "client: 0 certificates, false"]);
    Ok(())
}

/// A client of TLS 1.3 sends its last message without waiting for the opinion of the server (RFC 8446 figure 1). One of
/// TLS 1.2 waits for the server's Finished (RFC 5246 figure 1).
#[test]
fn a_client_whose_certificate_is_refused_learns_it_after_the_handshake_with_tls_1_3() -> Result {
    let clients = Clients::new()?;
    let log = served(&clients, ClientCertificates::Required, without(&TLS13))?;
    assert_eq!(log[0], "client: connect");
    assert_eq!(log.len(), 2);
    assert!(
        log[1].starts_with("client: TLS failed: the peer demands a certificate"),
        "{log:?}"
    );

    let log = served(&clients, ClientCertificates::Required, without(&TLS12))?;
    assert_eq!(log.len(), 1);
    assert!(
        log[0].starts_with("client: could not connect: TLS handshake with "),
        "{log:?}"
    );
    assert!(log[0].contains("certificate"), "{log:?}");

    // A certificate of somebody else is refused also where none would do.
    let stranger = Clients::new()?;
    let log = served(&clients, ClientCertificates::Optional, stranger.client()?)?;
    assert!(
        log[1].starts_with("client: TLS failed: the peer"),
        "{log:?}"
    );
    Ok(())
}

#[test]
fn a_configuration_without_roots_or_with_another_key_is_an_error() -> Result {
    let clients = Clients::new()?;
    let (chain, key) = (identity().chain(), identity().key());
    let required = ClientCertificates::Required;
    let error = tls::server_config_with_clients(chain, key, RootCertStore::empty(), required);
    let error = error.err().ok_or("it has no roots")?.to_string();
    assert!(
        error.starts_with("the roots of client certificates: "),
        "{error}"
    );

    let chain = vec![clients.certificate.clone()];
    let error = tls::client_config_with_certificate(identity().roots(), chain, identity().key());
    let error = error.err().ok_or("the key is another one's")?.to_string();
    let expected =
        "TLS configuration of a client: the private key does not belong to the first certificate: ";
    assert!(error.starts_with(expected), "{error}");

    // Read from files, the error names both.
    let dir = tempfile::tempdir()?;
    let (chain, key) = (dir.path().join("chain.pem"), dir.path().join("key.pem"));
    std::fs::write(&chain, &identity().certificate_pem)?;
    std::fs::write(&key, KeyPair::generate()?.serialize_pem())?;
    assert_eq!(tls::certificates_from_file(&chain)?, identity().chain());
    tls::key_from_file(&key)?;
    let error = tls::server_config_from_files(&chain, &key).err();
    let error = error.ok_or("the key is another one's")?.to_string();
    let expected = format!(
        "{} with {}: TLS configuration of a server: the private key does not belong",
        chain.display(),
        key.display()
    );
    assert!(error.starts_with(&expected), "{error}");
    Ok(())
}

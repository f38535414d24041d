//! Configurations for the common cases, with the provider of the feature `tls`.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, ConfigBuilder, Error as Tls, RootCertStore, ServerConfig};

use super::files;
use crate::error::{Error, Result};

/// The cryptography of the feature `tls`, ring, for the builders of rustls. The crate never makes it the default of the
/// process: with two providers in a program, that default is a panic.
///
/// Needs the feature `tls`.
///
/// ```
/// use asynchat::tls::{self, rustls::{ServerConfig, version::TLS13}};
/// # fn main() -> asynchat::Result {
/// let builder = ServerConfig::builder_with_provider(tls::provider()).with_protocol_versions(&[&TLS13])?;
/// # drop(builder);
/// # Ok(()) }
/// ```
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}

/// Whether a server demands a certificate of its clients: [`server_config_with_clients`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// The handshake of a client without a certificate fails.
    Required,
    /// A client may have none. The sessions decide what it may do:
    /// [`peer_certificates`](crate::tls::Info#structfield.peer_certificates) is empty. A certificate that is not
    /// certified by the roots fails the handshake.
    Optional,
}

/// Creates the configuration of a server with this certificate, followed by those that certify it, and its key:
/// TLS 1.2 and 1.3, without client certificates. It has a session storage of its own, for 256 sessions. For anything else use
/// [`ServerConfig::builder_with_provider`](rustls::ServerConfig::builder_with_provider).
///
/// Needs the feature `tls`.
///
/// ```
/// use asynchat::tls;
/// # fn main() -> asynchat::Result {
/// # let cert = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
/// # let key = tls::PrivateKeyDer::try_from(cert.signing_key.serialize_der())?;
/// # let chain = vec![cert.cert.der().clone()];
/// let config = tls::server_config(chain, key)?;
/// let listener = asynchat::Server::new("127.0.0.1:0")
///     .tls(config)
///     .listen(|chat| move |line: &[u8]| {
///         chat.push_slice(line);
///         chat.push("\r\n");
///         Ok(())
///     })?;
/// # listener.close();
/// # asynchat::run()?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// When the key cannot be used, or does not belong to the certificate.
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, Error> {
    server(chain, key, None)
}

/// As [`server_config`], for clients that have certificates, which these roots certify. The sessions find them in
/// [`Chat::tls`](crate::Chat::tls).
///
/// Needs the feature `tls`.
///
/// ```no_run
/// use asynchat::tls::{self, ClientCertificates};
/// # fn main() -> asynchat::Result {
/// let config = tls::server_config_with_clients(
///     tls::certificates_from_file("fullchain.pem")?,
///     tls::key_from_file("privkey.pem")?,
///     tls::roots_from_file("clients-ca.pem")?,
///     ClientCertificates::Required,
/// )?;
/// # drop(config);
/// # Ok(()) }
/// ```
///
/// # Errors
/// As [`server_config`], and when there is no root.
pub fn server_config_with_clients(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: RootCertStore,
    certificates: ClientCertificates,
) -> Result<Arc<ServerConfig>, Error> {
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let builder = match certificates {
        ClientCertificates::Required => builder,
        ClientCertificates::Optional => builder.allow_unauthenticated(),
    };
    let verifier = builder
        .build()
        .map_err(|error| Error::new(error).context("the roots of client certificates"))?;
    server(chain, key, Some(verifier))
}

fn server(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<Arc<ServerConfig>, Error> {
    let context = |error| in_words(error).context("TLS configuration of a server");
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(context)?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let config = builder.with_single_cert(chain, key).map_err(context)?;
    Ok(Arc::new(config))
}

/// The error with its meaning in front, where it needs one.
fn in_words(error: Tls) -> Error {
    let meaning = match &error {
        Tls::InconsistentKeys(_) => "the private key does not belong to the first certificate",
        Tls::InvalidCertificate(_) => "the first certificate cannot be parsed",
        // The provider does not know such a key, or finds it too weak.
        Tls::General(text) if text.contains("private key") => "the private key cannot be used",
        _ => return Error::new(error),
    };
    Error::new(error).context(meaning)
}

/// As [`server_config`], with a certificate and a key from two files in the PEM format. The first may
/// have several certificates: that of the server, followed by those that certify it.
///
/// Needs the feature `tls`.
///
/// ```no_run
/// use asynchat::{Server, tls};
/// # fn main() -> asynchat::Result {
/// let config = tls::server_config_from_files("fullchain.pem", "privkey.pem")?;
/// let server = Server::new("[::]:563").tls(config);
/// # drop(server);
/// # Ok(()) }
/// ```
///
/// A certificate that has expired, or is for another name, is no error here: only the clients of the server refuse it.
///
/// # Errors
/// As [`server_config`], and when a file cannot be read or its key is encrypted. The error names the file.
pub fn server_config_from_files(
    chain: impl AsRef<Path>,
    key: impl AsRef<Path>,
) -> Result<Arc<ServerConfig>, Error> {
    let (chain, key) = (chain.as_ref(), key.as_ref());
    let read_key = files::private_key(key)?;
    server_config(files::certificates(chain)?, read_key)
        .map_err(|error| error.context(format_args!("{} with {}", chain.display(), key.display())))
}

/// Creates the configuration of a client that trusts the certificates which these roots certify: TLS 1.2 and
/// 1.3, without a certificate of its own. Roots come from the crate `webpki-roots`, from the system with the crate
/// `rustls-native-certs`, or from a file with [`roots_from_file`].
///
/// Needs the feature `tls`.
///
/// ```
/// use asynchat::tls::{self, rustls::RootCertStore};
/// # fn main() -> asynchat::Result {
/// # let cert = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
/// # let certificate = cert.cert.der().clone();
/// let mut roots = RootCertStore::empty();
/// roots.add(certificate)?;
/// let config = tls::client_config(roots)?;
/// let connector = asynchat::Connector::new("localhost:563").tls(config);
/// # drop(connector);
/// # Ok(()) }
/// ```
///
/// # Errors
/// When the provider has no parameters for these versions: in practice never.
pub fn client_config(roots: RootCertStore) -> Result<Arc<ClientConfig>, Error> {
    let builder = client(roots)?;
    Ok(Arc::new(builder.with_no_client_auth()))
}

/// As [`client_config`], with a certificate of the client, followed by those that certify it, and its key. A server that
/// asks for one gets it.
///
/// Needs the feature `tls`.
///
/// ```no_run
/// use asynchat::tls;
/// # fn main() -> asynchat::Result {
/// let config = tls::client_config_with_certificate(
///     tls::roots_from_file("ca.pem")?,
///     tls::certificates_from_file("client.pem")?,
///     tls::key_from_file("client-key.pem")?,
/// )?;
/// # drop(config);
/// # Ok(()) }
/// ```
///
/// # Errors
/// When the key cannot be used, or does not belong to the certificate.
pub fn client_config_with_certificate(
    roots: RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ClientConfig>, Error> {
    let config = client(roots)?.with_client_auth_cert(chain, key);
    let config =
        config.map_err(|error| in_words(error).context("TLS configuration of a client"))?;
    Ok(Arc::new(config))
}

fn client(roots: RootCertStore) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(error).context("TLS configuration of a client"))?;
    Ok(builder.with_root_certificates(roots))
}

/// Reads the certificates of a file in the PEM format, to trust what they certify.
///
/// Needs the feature `tls`.
///
/// # Errors
/// When the file cannot be read, has no certificate, or has one that cannot be a root. The error names the file.
pub fn roots_from_file(path: impl AsRef<Path>) -> Result<RootCertStore, Error> {
    let path = path.as_ref();
    let mut roots = RootCertStore::empty();
    for certificate in files::certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| Error::new(error).context(path.display()))?;
    }
    Ok(roots)
}

/// Reads the certificates of a file in the PEM format: that of a server or a client, followed by those that certify it.
/// Whether they have expired is not checked here: only the peers do that.
///
/// Needs the feature `tls`.
///
/// # Errors
/// When the file cannot be read, or has no certificate. The error names the file.
pub fn certificates_from_file(
    path: impl AsRef<Path>,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    files::certificates(path.as_ref())
}

/// Reads the first private key of a file in the PEM format: PKCS #8, PKCS #1 or SEC 1, without a passphrase.
///
/// Needs the feature `tls`.
///
/// # Errors
/// When the file cannot be read, or has no key, or one that is encrypted. The error names the file.
pub fn key_from_file(path: impl AsRef<Path>) -> Result<PrivateKeyDer<'static>, Error> {
    files::private_key(path.as_ref())
}

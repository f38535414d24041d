//! Configurations for the common cases, with the provider of the feature `tls`.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, Error as Tls, RootCertStore, ServerConfig};

use super::files;
use crate::error::{Error, Result};

/// The cryptography of the feature `tls`. It is never made the default of the process: with two providers in a
/// program, that default is a panic.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}

/// Creates the configuration of a server with this certificate, followed by those that certify it, and its key:
/// TLS 1.2 and 1.3, without client certificates. It has a session storage of its own. For anything else use
/// [`ServerConfig::builder_with_provider`](rustls::ServerConfig::builder_with_provider).
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
    let context = |error| in_words(error).context("TLS configuration of a server");
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(context)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(context)?;
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
/// ```no_run
/// use asynchat::{Server, tls};
/// # fn main() -> asynchat::Result {
/// let config = tls::server_config_from_files("fullchain.pem", "privkey.pem")?;
/// let server = Server::new("[::]:563").tls(config);
/// # drop(server);
/// # Ok(()) }
/// ```
///
/// # Errors
/// As [`server_config`], and when a file cannot be read. The error names the file.
pub fn server_config_from_files(
    chain: impl AsRef<Path>,
    key: impl AsRef<Path>,
) -> Result<Arc<ServerConfig>, Error> {
    let key = files::private_key(key.as_ref())?;
    server_config(files::certificates(chain.as_ref())?, key)
}

/// Creates the configuration of a client that trusts the certificates which these roots certify: TLS 1.2 and
/// 1.3, without a certificate of its own. Roots come from the crate `webpki-roots`, from the system with the crate
/// `rustls-native-certs`, or from a file with [`roots_from_file`].
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
    let context = |error| Error::new(error).context("TLS configuration of a client");
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(context)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Reads the certificates of a file in the PEM format, to trust what they certify.
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

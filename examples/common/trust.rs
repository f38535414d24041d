//! How a client checks the server that it connects to with TLS. A program that has these options includes this file
//! by its path: most programs are built without TLS.

use std::path::PathBuf;

use asynchat::tls::{self, rustls::RootCertStore};
use asynchat::{Error, Result};
use clap::Args;

/// `--tls-ca` and `--tls-name`. The program has the option that turns TLS on. Its id is `tls`.
#[derive(Args, Clone, Default)]
pub(crate) struct TrustOptions {
    /// The authorities that are trusted to certify the server, or the server's own certificate if it certifies
    /// itself: a file in the PEM format. Default: the authorities that the system trusts (SSL_CERT_FILE and
    /// SSL_CERT_DIR name others).
    #[arg(long, value_name = "FILE", requires = "tls", help_heading = "TLS")]
    tls_ca: Option<PathBuf>,

    /// The name that the server's certificate must be for, which is also sent to it (SNI). Default: the
    /// host that the program connects to.
    #[arg(long, value_name = "NAME", requires = "tls", help_heading = "TLS")]
    tls_name: Option<String>,
}

impl TrustOptions {
    /// How to connect, with a certificate that is checked.
    pub(crate) fn client(&self) -> Result<tls::Client, Error> {
        let roots = match &self.tls_ca {
            Some(file) => tls::roots_from_file(file).map_err(|error| error.context("--tls-ca"))?,
            None => system_roots()?,
        };
        Ok(self.named(tls::client_config(roots)?.into()))
    }

    /// The client, for the name that was given.
    pub(crate) fn named(&self, client: tls::Client) -> tls::Client {
        match &self.tls_name {
            Some(name) => client.name(name),
            None => client,
        }
    }
}

/// A certificate that cannot be used as a root does not prevent the use of the others.
fn system_roots() -> Result<RootCertStore, Error> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a certificate of the system cannot be read");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        Err("the system has no certificates to trust: --tls-ca names a file".into())
    } else {
        Ok(roots)
    }
}

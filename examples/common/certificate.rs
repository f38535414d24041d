//! The options of a server for its TLS certificate. A program that has them includes this file by its path:
//! most programs are built without TLS.

#[allow(clippy::duplicate_mod, reason = "a program may have `users`, too")]
#[path = "public.rs"]
mod public;

use std::path::PathBuf;
use std::sync::Arc;

use asynchat::tls::rustls::ServerConfig;
use asynchat::{Error, Result, tls};
use clap::Args;
use public::warn_if_public;

/// `--tls-cert` and `--tls-key`.
#[derive(Args, Clone)]
#[command(next_help_heading = "TLS")]
pub(crate) struct CertificateOptions {
    /// The server's certificate in the PEM format, followed by those that certify it.
    /// The example test_certificate makes one for tests. On Unix, SIGHUP reads both
    /// files again for new connections, if they have changed; elsewhere a renewed
    /// certificate needs a restart.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The private key of the certificate in the PEM format.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
}

impl CertificateOptions {
    /// Reads the two files. `None` if the options were not given. On Unix the files are read again when the
    /// process receives SIGHUP; connections that are up keep the certificate that they have.
    ///
    /// `alpn` are the names of the server's protocol, or empty if it is not known. A client that offers only
    /// others is refused, so that a browser cannot be led to this server instead of a web server (ALPACA,
    /// CVE-2021-3618). A client that offers none is served.
    pub(crate) fn acceptor(&self, alpn: &[&str]) -> Result<Option<tls::Acceptor>, Error> {
        self.replaceable(alpn, tls::Acceptor::from, tls::Acceptor::replace)
    }

    /// The same for another type than an acceptor.
    pub(crate) fn replaceable<T: Clone + 'static>(
        &self,
        alpn: &[&str],
        new: fn(Arc<ServerConfig>) -> T,
        replace: fn(&T, Arc<ServerConfig>),
    ) -> Result<Option<T>, Error> {
        let (Some(chain), Some(key)) = (&self.tls_cert, &self.tls_key) else {
            return Ok(None);
        };
        let files = Files {
            chain: chain.clone(),
            key: key.clone(),
            alpn: alpn.iter().map(|name| name.as_bytes().to_vec()).collect(),
        };
        // Before they are read: if they change meanwhile, SIGHUP reads them again.
        #[cfg(unix)]
        let used = files.fingerprint();
        let current = new(files.read()?);
        #[cfg(unix)]
        reload_on_sighup(files, current.clone(), used, replace)?;
        #[cfg(not(unix))]
        let _ = replace;
        Ok(Some(current))
    }

    /// Whether the options were given, so that SIGHUP reads the files again.
    #[allow(dead_code, reason = "not every program asks")]
    pub(crate) fn is_given(&self) -> bool {
        self.tls_cert.is_some()
    }
}

/// Where a configuration is read from.
struct Files {
    chain: PathBuf,
    key: PathBuf,
    alpn: Vec<Vec<u8>>,
}

impl Files {
    fn read(&self) -> Result<Arc<ServerConfig>, Error> {
        let Files { chain, key, alpn } = self;
        let read = tls::server_config_from_files(chain, key).map_err(|error| {
            let (chain, key) = (chain.display(), key.display());
            error.context(format_args!("--tls-cert {chain} --tls-key {key}"))
        })?;
        // Whoever can read the key can pretend to be this server.
        warn_if_public(key, "the private key");
        let mut config = Arc::unwrap_or_clone(read);
        config.alpn_protocols.clone_from(alpn);
        // All cipher suites of rustls are strong, but scanners complain about a choice by the client.
        config.ignore_client_order = true;
        Ok(Arc::new(config))
    }

    /// A hash of what the files contain, or `None` if they cannot be read.
    #[cfg(unix)]
    fn fingerprint(&self) -> Option<u64> {
        use std::hash::{DefaultHasher, Hash, Hasher};

        let mut hasher = DefaultHasher::new();
        for path in [&self.chain, &self.key] {
            std::fs::read(path).ok()?.hash(&mut hasher);
        }
        Some(hasher.finish())
    }
}

/// Replaces the configuration at SIGHUP. If the files cannot be read, the old one stays: a
/// renewal that went wrong must not end the service. Files that have not changed are not read: SIGHUP also has other reasons,
/// such as logrotate, and no client resumes its session under a new configuration.
#[cfg(unix)]
fn reload_on_sighup<T: 'static>(
    files: Files,
    current: T,
    mut used: Option<u64>,
    replace: fn(&T, Arc<ServerConfig>),
) -> Result<(), Error> {
    // A program can have several protocols, each of which reads it.
    let protocol = files.alpn.first();
    let protocol = protocol.map_or_else(String::new, |name| name.escape_ascii().to_string());
    asynchat::signal::on(asynchat::signal::SIGHUP, move || {
        let file = files.chain.display();
        let found = files.fingerprint();
        if found.is_some() && found == used {
            tracing::info!(%file, protocol, "the certificate has not changed");
            return;
        }
        match files.read() {
            Ok(config) => {
                replace(&current, config);
                used = found;
                tracing::info!(%file, protocol, "the certificate was read again");
            }
            Err(error) => tracing::error!(%error, protocol, "the old certificate stays"),
        }
    })?;
    Ok(())
}

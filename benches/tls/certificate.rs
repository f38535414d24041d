//! The certificate of all servers, in files.

use std::fs;
use std::path::{Path, PathBuf};

use asynchat::Result;
use asynchat::tls::rustls::RootCertStore;
use asynchat::tls::rustls::pki_types::CertificateDer;

pub struct Files {
    folder: tempfile::TempDir,
    certificate: CertificateDer<'static>,
}

impl Files {
    /// A new certificate for `localhost`.
    pub fn make() -> Result<Files> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let files = Files {
            folder: tempfile::tempdir()?,
            certificate: made.cert.der().clone(),
        };
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        fs::write(files.path("cert.pem"), &certificate)?;
        fs::write(files.path("key.pem"), &key)?;
        fs::write(files.path("both.pem"), certificate + &key)?;
        Ok(files)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// What a client trusts.
    pub fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        Ok(roots)
    }
}

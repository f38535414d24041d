//! Certificates and keys in files of the PEM format (RFC 7468).

use std::path::Path;

use memchr::memmem;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::Error;

/// # Errors
/// When the file cannot be read, or has no private key. The error names the file.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    read(path, PRIVATE_KEY, PrivateKeyDer::from_pem_slice)
}

/// # Errors
/// When the file cannot be read, or has no certificate. The error names the file.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    read(path, "certificate", |text| {
        let read = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>()?;
        if read.is_empty() {
            Err(pem::Error::NoItemsFound)
        } else {
            Ok(read)
        }
    })
}

const PRIVATE_KEY: &str = "private key";

fn read<T>(
    path: &Path,
    what: &str,
    parse: impl FnOnce(&[u8]) -> Result<T, pem::Error>,
) -> Result<T, Error> {
    let context = |error: Error| error.context(path.display());
    let text = std::fs::read(path).map_err(|error| context(error.into()))?;
    parse(&text).map_err(|error| context(in_words(error, what, &text)))
}

/// What is wrong with a file, for users who do not know the terms of the parser.
fn in_words(error: pem::Error, what: &str, text: &[u8]) -> Error {
    let has = |word: &str| memmem::find(text, word.as_bytes()).is_some();
    match error {
        // In the label of a section (RFC 7468 section 11), or in its second line (RFC 1421 section 4.6.1.1).
        _ if what == PRIVATE_KEY && has("ENCRYPTED") => Error::new(
            "the private key is encrypted; `openssl pkey -in FILE -out NEW` removes its passphrase",
        ),
        pem::Error::NoItemsFound if !has("-----BEGIN ") => Error::new(format!(
            "there is no {what} in the file, which is not in the PEM format"
        )),
        pem::Error::NoItemsFound => Error::new(format!("there is no {what} in the file")),
        pem::Error::MissingSectionEnd { .. } => Error::new(format!(
            "the line that ends a {what} (-----END ...) is missing"
        )),
        error => Error::new(error).context(format_args!("the file has a damaged {what}")),
    }
}

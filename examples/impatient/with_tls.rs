//! `--tls`, in a program that is built with the feature `tls`.

use std::rc::Rc;

use asynchat::tls::rustls::RootCertStore;
use asynchat::tls::{self, PrivateKeyDer};
use asynchat::{Channel, Result};

use crate::server::Service;

/// The name in the certificate of the program's own server.
const NAME: &str = "localhost";

/// Makes a certificate that certifies itself, and serves with it. The returned client trusts no other.
pub fn serve(service: &Rc<Service>, listen: &str) -> Result<(Channel, tls::Client)> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    let config = tls::server_config(vec![certificate], key)?;
    let listener = service.serve_tls(listen, |server| server.tls(config))?;
    let client = tls::Client::from(tls::client_config(roots)?).name(NAME);
    Ok((listener, client))
}

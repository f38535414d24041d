//! Configurations without randomness, so that an input does the same in each run. They protect nothing.

use std::cell::Cell;
use std::sync::{Arc, OnceLock};

use asynchat::internals::TlsEnd;
use asynchat::tls::rustls::client::Resumption;
use asynchat::tls::rustls::crypto::ring::{cipher_suite, default_provider};
use asynchat::tls::rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret,
    SupportedKxGroup,
};
use asynchat::tls::rustls::{
    ClientConfig, Error, NamedGroup, RootCertStore, ServerConfig, SupportedProtocolVersion, version,
};
use asynchat::tls::{self, CertificateDer, PrivateKeyDer};

/// A key of Ed25519 (RFC 8410), whose signatures are the same each time.
const KEY: &[u8] = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20an example of a key of 32 bytes!";

thread_local! {
    static STATE: Cell<u64> = const { Cell::new(1) };
}

#[derive(Debug)]
struct Xorshift;

impl SecureRandom for Xorshift {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), GetRandomFailed> {
        for byte in buffer {
            let mut state = STATE.get();
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            STATE.set(state);
            *byte = (state >> 32) as u8;
        }
        Ok(())
    }
}

/// A key exchange that always has the same outcome.
#[derive(Debug)]
struct NoExchange;

impl SupportedKxGroup for NoExchange {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        Ok(Box::new(NoExchange))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

impl ActiveKeyExchange for NoExchange {
    fn complete(self: Box<Self>, _peer: &[u8]) -> Result<SharedSecret, Error> {
        Ok(SharedSecret::from(&[9; 32][..]))
    }

    fn pub_key(&self) -> &[u8] {
        &[5; 32]
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

fn provider() -> Arc<CryptoProvider> {
    let mut provider = default_provider();
    provider.secure_random = &Xorshift;
    provider.kx_groups = vec![&NoExchange];
    provider.cipher_suites = vec![
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ];
    provider.into()
}

fn certificate() -> CertificateDer<'static> {
    static MADE: OnceLock<Vec<u8>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let key = PrivateKeyDer::try_from(KEY).expect("a key");
        let key =
            rcgen::KeyPair::from_der_and_sign_algo(&key, &rcgen::PKCS_ED25519).expect("a key");
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
        params.serial_number = Some(1u64.into());
        params
            .self_signed(&key)
            .expect("a certificate")
            .der()
            .to_vec()
    });
    CertificateDer::from(made.clone())
}

pub(super) fn client_config(version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate()).expect("a root");
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// A new server, and with it a new run.
pub(super) fn server_end() -> TlsEnd {
    STATE.set(1);
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS12, &version::TLS13])
        .expect("the versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate()],
            PrivateKeyDer::try_from(KEY).expect("a key"),
        )
        .expect("a certificate");
    TlsEnd::server(Arc::new(config))
}

/// A new client, and with it a new run.
pub(super) fn client_end() -> TlsEnd {
    STATE.set(1);
    let client = tls::Client::from(client_config(&version::TLS13)).name("localhost");
    TlsEnd::client(client).expect("a client")
}

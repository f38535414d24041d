//! A client and a server without sockets.

use std::sync::{Arc, OnceLock};

use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::unbuffered::{ConnectionState, UnbufferedConnectionCommon};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ProtocolVersion, RootCertStore, ServerConfig, SupportedProtocolVersion,
};

use super::run::MOST_QUIET;
use super::*;
use crate::stage::client::Client;

/// A certificate for `localhost` that certifies itself.
fn identity() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    static MADE: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
    let (certificate, key) = MADE.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.der().to_vec(), made.signing_key.serialize_der())
    });
    let key = PrivateKeyDer::try_from(key.clone()).unwrap();
    (CertificateDer::from(certificate.clone()), key)
}

fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(identity().0).unwrap();
    roots
}

const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

fn server(versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
    let (certificate, key) = identity();
    ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap()
}

fn client() -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&BOTH)
        .unwrap()
        .with_root_certificates(roots())
        .with_no_client_auth()
}

/// One end, with what it has received.
struct End {
    stage: TlsStage,
    received: Vec<u8>,
}

impl End {
    fn server(config: impl Into<Acceptor>) -> Self {
        End {
            stage: TlsStage::accept(config.into()),
            received: Vec::new(),
        }
    }

    fn client(config: Arc<ClientConfig>, name: &str) -> Self {
        let server = Client::from(config).name(name).server(None).unwrap();
        End {
            stage: TlsStage::connect(&server).unwrap(),
            received: Vec::new(),
        }
    }

    /// Feeds the bytes in pieces of this size, with a buffer of that size for the plaintext.
    fn feed(&mut self, bytes: &[u8], piece: usize, room: usize) {
        let mut into = vec![0; room];
        for piece in bytes.chunks(piece) {
            let mut input = vec![0xa5; self.stage.headroom()];
            input.extend_from_slice(piece);
            let count = self.stage.feed(&mut input, &mut into);
            self.received.extend_from_slice(&into[..count]);
            loop {
                let count = self.stage.take(&mut into);
                if count == 0 {
                    break;
                }
                self.received.extend_from_slice(&into[..count]);
            }
        }
    }

    fn take_output(&mut self) -> Vec<u8> {
        let output = self.stage.output().to_vec();
        self.stage.sent(output.len());
        output
    }

    fn encrypt(&mut self, data: &[u8]) {
        let mut left = data;
        while !left.is_empty() {
            let parts = [IoSlice::new(left)];
            let count = self.stage.encrypt(&parts, 64 * 1024).unwrap();
            left = &left[count..];
        }
    }

    fn error(&self) -> String {
        self.stage
            .failure()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }
}

/// Passes everything on, in pieces of this size, until neither end has anything to send.
fn exchange(a: &mut End, b: &mut End, piece: usize) {
    loop {
        let (from_a, from_b) = (a.take_output(), b.take_output());
        if from_a.is_empty() && from_b.is_empty() {
            return;
        }
        b.feed(&from_a, piece, 70_000);
        a.feed(&from_b, piece, 70_000);
    }
}

fn pair(versions: &[&'static SupportedProtocolVersion], piece: usize) -> (End, End) {
    let mut server = End::server(Arc::new(server(versions)));
    let mut client = End::client(Arc::new(client()), "localhost");
    exchange(&mut client, &mut server, piece);
    assert_eq!(
        (client.error(), server.error()),
        (String::new(), String::new())
    );
    assert!(!client.stage.is_handshaking() && !server.stage.is_handshaking());
    (client, server)
}

#[test]
fn both_versions_pass_bytes_in_both_directions_under_every_segmentation() {
    for (version, is) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        for piece in [1, 2, 5, 6, 100, 1000, 16_405, 100_000] {
            let (mut client, mut server) = pair(&[version], piece);
            assert_eq!(server.stage.info().unwrap().version, is);
            let sent: Vec<u8> = (0..100_000u32).map(|n| n.to_le_bytes()[0]).collect();
            client.encrypt(&sent);
            server.encrypt(b"hello");
            exchange(&mut client, &mut server, piece);
            assert!(server.received == sent, "{piece}");
            assert_eq!(client.received, b"hello");
        }
    }
}

#[test]
fn plaintext_that_does_not_fit_is_kept_for_later() {
    let (mut client, mut server) = pair(&BOTH, 70_000);
    client.encrypt(&[7; 40_000]);
    let ciphertext = client.take_output();
    server.feed(&ciphertext, 70_000, 3);
    assert_eq!(server.received, [7; 40_000]);
    assert!(!server.stage.has_input());
}

#[test]
fn short_parts_share_a_record_and_the_bound_is_kept() {
    let (mut client, mut server) = pair(&BOTH, 70_000);
    let parts = [b"one ".as_slice(), b"two ", b"", b"three"].map(IoSlice::new);
    assert_eq!(client.stage.encrypt(&parts, 1000).unwrap(), 13);
    assert_eq!(
        record_length(client.stage.output()),
        Some(client.stage.output().len())
    );
    exchange(&mut client, &mut server, 70_000);
    assert_eq!(server.received, b"one two three");
    let large = vec![1; 50_000];
    let parts = [b"x".as_slice(), &large, b"y"].map(IoSlice::new);
    assert_eq!(client.stage.encrypt(&parts, 20_000).unwrap(), 20_000);
    exchange(&mut client, &mut server, 70_000);
    assert_eq!(server.received.len(), 13 + 20_000);
}

#[test]
fn close_notify_ends_one_direction_and_what_follows_it_is_ignored() {
    let (mut client, mut server) = pair(&BOTH, 70_000);
    client.encrypt(b"last");
    client.stage.close();
    client.stage.close();
    let mut bytes = client.take_output();
    bytes.extend_from_slice(b"garbage that is no record");
    server.feed(&bytes, 70_000, 100);
    assert!(server.stage.peer_has_closed());
    assert_eq!(
        (&*server.received, server.error()),
        (b"last".as_slice(), String::new())
    );
    server.encrypt(b"still there");
    exchange(&mut server, &mut client, 70_000);
    assert_eq!(client.received, b"still there");
}

#[test]
fn a_stream_that_is_cut_at_any_byte_has_no_end() {
    let (mut client, _) = pair(&BOTH, 70_000);
    client.encrypt(b"a record");
    client.stage.close();
    let length = client.take_output().len();
    for cut in 0..length {
        // Records cannot be decrypted twice: each cut needs its own connection.
        let (mut client, mut server) = pair(&[&TLS13], 70_000);
        client.encrypt(b"a record");
        client.stage.close();
        let bytes = client.take_output();
        server.feed(&bytes[..cut], 70_000, 100);
        assert!(!server.stage.peer_has_closed(), "{cut}");
        assert_eq!(server.error(), "");
    }
}

#[test]
fn a_session_is_resumed() {
    for version in [&TLS12, &TLS13] {
        let (acceptor, config) = (Arc::new(server(&[version])), Arc::new(client()));
        for is_resumed in [false, true] {
            let mut server = End::server(Arc::clone(&acceptor));
            let mut client = End::client(Arc::clone(&config), "localhost");
            exchange(&mut client, &mut server, 70_000);
            for end in [&client, &server] {
                assert_eq!(end.stage.info().unwrap().is_resumed, is_resumed);
            }
        }
    }
}

#[test]
fn the_info_has_what_was_agreed_on() {
    let (certificate, key) = identity();
    let provider = Arc::new(default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots()), provider.clone());
    let mut server_config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    server_config.alpn_protocols = vec![b"nntp".to_vec()];
    let mut client_config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots())
        .with_client_auth_cert(vec![certificate.clone()], identity().1)
        .unwrap();
    client_config.alpn_protocols = vec![b"smtp".to_vec(), b"nntp".to_vec()];
    let mut server = End::server(Arc::new(server_config));
    let mut client = End::client(Arc::new(client_config), "localhost");
    assert_eq!(server.stage.info(), None);
    exchange(&mut client, &mut server, 1);
    let (of_server, of_client) = (server.stage.info().unwrap(), client.stage.info().unwrap());
    assert_eq!(of_server.alpn.as_deref(), Some(b"nntp".as_slice()));
    assert_eq!(of_server.alpn, of_client.alpn);
    assert_eq!(of_server.server_name.as_deref(), Some("localhost"));
    assert_eq!(of_server.peer_certificates.first(), Some(&certificate));
    assert_eq!(of_client.peer_certificates, [certificate]);
    assert_eq!(of_client.server_name, None);
}

#[test]
fn the_configuration_is_chosen_by_the_first_message_or_refused_with_an_alert() {
    let config = Arc::new(server(&BOTH));
    let acceptor = Acceptor::choosing(move |hello| {
        (hello.server_name() == Some("localhost")).then(|| Arc::clone(&config))
    });
    let mut end = End::server(acceptor.clone());
    let mut client_end = End::client(Arc::new(client()), "localhost");
    exchange(&mut client_end, &mut end, 7);
    assert!(!end.stage.is_handshaking());
    let mut end = End::server(acceptor);
    let mut client_end = End::client(Arc::new(client()), "example.org");
    exchange(&mut client_end, &mut end, 7);
    assert!(
        end.error().contains("no configuration for this client"),
        "{}",
        end.error()
    );
    let error = client_end.error();
    assert!(
        error.starts_with("the peer has no certificate for this name"),
        "{error}"
    );
}

#[test]
fn a_client_without_a_name_or_a_protocol_of_the_server_learns_it() {
    // No name (RFC 8446 section 9.2).
    let mut end = End::server(Acceptor::choosing(|_| None));
    let mut nameless = End::client(Arc::new(client()), "127.0.0.1");
    exchange(&mut nameless, &mut end, 70_000);
    let error = nameless.error();
    assert!(error.contains("MissingExtension"), "{error}");
    let error = end.error();
    let expected = "TLS: no configuration for this client, which asks for no name";
    assert_eq!(error, expected);
    // No protocol in common.
    let (mut of_server, mut of_client) = (server(&BOTH), client());
    of_server.alpn_protocols = vec![b"nntp".to_vec()];
    of_client.alpn_protocols = vec![b"smtp".to_vec()];
    let mut end = End::server(Arc::new(of_server));
    let mut client_end = End::client(Arc::new(of_client), "localhost");
    exchange(&mut client_end, &mut end, 70_000);
    let error = end.error();
    let expected = "the peer and this side have no protocol in common (ALPN)";
    assert!(error.starts_with(expected), "{error}");
    // A resolver without a certificate for the name.
    let mut config = server(&BOTH);
    config.cert_resolver = Arc::new(rustls::server::ResolvesServerCertUsingSni::new());
    let mut end = End::server(Arc::new(config));
    let mut client_end = End::client(Arc::new(client()), "localhost");
    exchange(&mut client_end, &mut end, 70_000);
    let error = end.error();
    let expected = "TLS: there is no certificate for the name that the client asks for";
    assert_eq!(error, expected);
}

#[test]
fn only_an_alert_of_this_side_is_to_reach_the_peer() {
    let mut end = End::server(Arc::new(server(&BOTH)));
    let mut client_end = End::client(Arc::new(client()), "example.org");
    exchange(&mut client_end, &mut end, 70_000);
    assert!(client_end.stage.has_sent_alert());
    assert!(end.stage.failure().is_some() && !end.stage.has_sent_alert());
}

#[test]
fn an_acceptor_that_was_replaced_uses_the_new_configuration() {
    let acceptor = Acceptor::from(Arc::new(server(&[&TLS12])));
    let mut early = End::server(&acceptor);
    acceptor.replace(Arc::new(server(&[&TLS13])));
    let mut client_end = End::client(Arc::new(client()), "localhost");
    exchange(&mut client_end, &mut early, 70_000);
    assert_eq!(
        early.stage.info().unwrap().version,
        ProtocolVersion::TLSv1_3
    );
}

#[test]
fn a_configuration_with_early_data_loses_it() {
    let mut config = server(&[&TLS13]);
    config.max_early_data_size = 1 << 14;
    let acceptor = Acceptor::from(Arc::new(config));
    let mut config = client();
    config.enable_early_data = true;
    let config = Arc::new(config);
    for _ in 0..2 {
        let mut server = End::server(&acceptor);
        let mut client = End::client(Arc::clone(&config), "localhost");
        exchange(&mut client, &mut server, 70_000);
        client.encrypt(b"x");
        exchange(&mut client, &mut server, 70_000);
        assert_eq!(
            (&*server.received, server.error()),
            (b"x".as_slice(), String::new())
        );
    }
}

/// Makes a client announce new keys.
fn update_keys(client: &mut End) {
    let Connection::Client(connection) = &mut client.stage.connection else {
        panic!("a client")
    };
    let connection: &mut UnbufferedConnectionCommon<_> = connection;
    match connection.process_tls_records(&mut []).state.unwrap() {
        ConnectionState::WriteTraffic(traffic) => traffic.refresh_traffic_keys().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn key_updates_are_answered_and_many_of_them_are_an_error() {
    let (mut client, mut server) = pair(&[&TLS13], 70_000);
    for n in 0..20 {
        update_keys(&mut client);
        client.encrypt(b"c");
        exchange(&mut client, &mut server, 1);
        server.encrypt(b"s");
        exchange(&mut client, &mut server, 1);
        assert_eq!(
            (client.received.len(), server.received.len()),
            (n + 1, n + 1)
        );
    }
    for _ in 0..40 {
        update_keys(&mut client);
        client.stage.process(&mut [], &mut Destination::nowhere());
    }
    let bytes = client.take_output();
    server.feed(&bytes, 70_000, 10);
    assert!(
        server.error().contains("TooManyKeyUpdateRequests"),
        "{}",
        server.error()
    );
    assert!(server.stage.output().len() < 1000);
}

/// rustls counts key updates and empty records, but each of them resets the count of the other.
#[test]
fn records_without_content_in_turn_are_an_error() {
    let quiet = |client: &mut End| {
        update_keys(client);
        client.stage.process(&mut [], &mut Destination::nowhere());
        let Connection::Client(connection) = &mut client.stage.connection else {
            panic!("a client")
        };
        seal(connection, &mut [], &[], &mut client.stage.output).unwrap();
    };
    for piece in [1, 70_000] {
        let (mut client, mut server) = pair(&[&TLS13], 70_000);
        // Content begins a new count.
        for n in 1..10 {
            for _ in 0..MOST_QUIET / 2 {
                quiet(&mut client);
            }
            client.encrypt(b"c");
            exchange(&mut client, &mut server, piece);
            assert_eq!((server.received.len(), server.error()), (n, String::new()));
        }
        let mut fed = 0;
        for _ in 0..MOST_QUIET {
            quiet(&mut client);
            let bytes = client.take_output();
            server.feed(&bytes, piece, 10);
            fed += 2;
            if !server.error().is_empty() {
                break;
            }
        }
        assert_eq!(fed, MOST_QUIET + 2);
        let error = server.error();
        let words = "the peer has sent too many TLS records without content";
        assert!(error.starts_with(words), "{error}");
        exchange(&mut server, &mut client, piece);
        assert!(
            client.error().contains("received fatal alert"),
            "{}",
            client.error()
        );
        // All of them at once.
        let (mut client, mut server) = pair(&[&TLS13], 70_000);
        for _ in 0..MOST_QUIET {
            quiet(&mut client);
        }
        server.feed(&client.take_output(), piece, 10);
        assert!(server.error().starts_with(words), "{}", server.error());
    }
}

#[test]
fn a_peer_that_sends_too_many_records_without_content_learns_it() {
    for piece in [1, 70_000] {
        let (mut client, mut server) = pair(&[&TLS13], 70_000);
        server.stage.received.quiet = MOST_QUIET;
        update_keys(&mut client);
        client.stage.process(&mut [], &mut Destination::nowhere());
        exchange(&mut client, &mut server, piece);
        let error = server.error();
        assert!(error.contains("without content"), "{error}");
        let error = client.error();
        assert!(error.contains("alert: UnexpectedMessage"), "{error}");
        // Behind close_notify there is no alert, and rustls must not be made to send one.
        let (mut client, mut server) = pair(&[&TLS13], 70_000);
        server.stage.received.quiet = MOST_QUIET;
        server.stage.close();
        exchange(&mut client, &mut server, piece);
        update_keys(&mut client);
        client.stage.process(&mut [], &mut Destination::nowhere());
        server.feed(&client.take_output(), piece, 10);
        assert!(server.stage.failure().is_some() && server.stage.output().is_empty());
    }
}

#[test]
fn errors_are_told_in_words_and_reach_the_peer_as_alerts() {
    // Plaintext.
    let mut end = End::server(Arc::new(server(&BOTH)));
    end.feed(b"EHLO example.org\r\n", 1, 10);
    let error = end.error();
    assert!(
        error.starts_with("the peer does not use TLS: it has sent plaintext"),
        "{error}"
    );
    assert_eq!(end.stage.output().first(), Some(&21));
    let mut end = End::client(Arc::new(client()), "localhost");
    end.take_output();
    end.feed(b"220 example.org ESMTP\r\n", 1, 10);
    let error = end.error();
    assert!(
        error.starts_with("the peer does not use TLS: it has sent plaintext"),
        "{error}"
    );
    // Another name.
    let mut end = End::server(Arc::new(server(&BOTH)));
    let mut client_end = End::client(Arc::new(client()), "example.org");
    exchange(&mut client_end, &mut end, 70_000);
    let error = client_end.error();
    assert!(
        error.starts_with("the certificate of the peer is for another name"),
        "{error}"
    );
    let error = end.error();
    assert!(
        error.starts_with("the peer does not accept our certificate"),
        "{error}"
    );
    // An issuer that is not trusted.
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let name = rcgen::DnType::CommonName;
    params.distinguished_name.push(name, "another issuer");
    let key = rcgen::KeyPair::generate().unwrap();
    let other = params.self_signed(&key).unwrap();
    let mut other_roots = RootCertStore::empty();
    other_roots.add(other.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(other_roots)
        .with_no_client_auth();
    let mut end = End::server(Arc::new(server(&BOTH)));
    let mut client_end = End::client(Arc::new(config), "localhost");
    exchange(&mut client_end, &mut end, 70_000);
    let error = client_end.error();
    assert!(error.contains("not trusted"), "{error}");
    assert!(
        end.error().contains("the peer does not trust"),
        "{}",
        end.error()
    );
}

#[test]
fn an_expired_certificate_is_named_as_such() {
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2001, 1, 1);
    params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let config = crate::stage::config::server_config(
        vec![certificate.der().clone()],
        PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
    );
    let mut end = End::server(config.unwrap());
    let client_config = crate::stage::config::client_config(roots).unwrap();
    let mut client_end = End::client(client_config, "localhost");
    exchange(&mut client_end, &mut end, 70_000);
    let error = client_end.error();
    assert!(
        error.starts_with("the certificate of the peer has expired"),
        "{error}"
    );
    assert!(
        end.error().contains("our certificate has expired"),
        "{}",
        end.error()
    );
}

#[test]
fn no_version_in_common_is_an_error_on_both_sides() {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots())
        .with_no_client_auth();
    let mut end = End::server(Arc::new(server(&[&TLS12])));
    let mut client_end = End::client(Arc::new(config), "localhost");
    exchange(&mut client_end, &mut end, 70_000);
    assert!(end.error().contains("in common"), "{}", end.error());
    assert!(
        client_end.error().contains("TLS version"),
        "{}",
        client_end.error()
    );
}

#[test]
fn what_came_before_a_broken_record_is_delivered() {
    let (mut client, mut server) = pair(&BOTH, 70_000);
    client.encrypt(b"good");
    let mut bytes = client.take_output();
    client.encrypt(b"bad");
    let mut bad = client.take_output();
    *bad.last_mut().unwrap() ^= 1;
    bytes.extend_from_slice(&bad);
    server.feed(&bytes, 70_000, 100);
    assert_eq!(server.received, b"good");
    assert!(
        server.error().starts_with("the peer has broken the rules"),
        "{}",
        server.error()
    );
    exchange(&mut server, &mut client, 70_000);
    assert!(client.error().contains("alert"), "{}", client.error());
}

/// A message that says it has 64 KiB, in records of four bytes.
fn endless(kind: u8, version: u8) -> Vec<u8> {
    let message: Vec<u8> = [kind, 0, 0xff, 0xf0]
        .into_iter()
        .chain([0; 64_000])
        .collect();
    let record = |piece: &[u8]| [&[22, 3, version, 0, 4], piece].concat();
    message.chunks(4).flat_map(record).collect()
}

#[test]
fn an_unfinished_handshake_keeps_a_bounded_number_of_bytes() {
    let config = || Arc::new(server(&[&TLS12]));
    for piece in [100, 1000, 5000, 18_000] {
        // The first message of a client, the one behind the answer to it, and the first one of a server.
        let first = (End::server(config()), endless(1, 1), MOST_HELLO);
        let mut second = (End::server(config()), endless(16, 3), MOST_KEPT);
        let mut client_end = End::client(Arc::new(client()), "localhost");
        second.0.feed(&client_end.take_output(), 1000, 100);
        let of_server = (client_end, endless(2, 3), MOST_KEPT);
        for (mut end, bytes, most) in [first, second, of_server] {
            let mut fed = 0;
            for bytes in bytes.chunks(piece) {
                end.feed(bytes, piece, 100);
                fed += bytes.len();
                assert!(end.stage.kept.capacity() <= most, "{most} {piece}");
                if !end.error().is_empty() {
                    break;
                }
            }
            assert!(fed > most && fed <= most + piece, "{most} {piece} {fed}");
            let error = end.error();
            assert!(error.contains("HandshakePayloadTooLarge"), "{error}");
            assert_eq!(end.stage.kept.capacity(), 0);
            let alert = alert(AlertDescription::DecodeError);
            assert!(end.take_output().ends_with(&alert), "{most} {piece}");
        }
    }
}

#[test]
fn a_part_of_a_record_takes_no_more_than_the_record() {
    let (mut client, mut server) = pair(&BOTH, 70_000);
    client.encrypt(&[7; 16_000]);
    let bytes = client.take_output();
    for piece in bytes.chunks(100) {
        server.feed(piece, 100, 20_000);
        assert!(server.stage.kept.capacity() <= bytes.len());
    }
    assert_eq!(server.received.len(), 16_000);
    // Nor does the next one keep the buffer of the last.
    client.encrypt(&[7; 16_000]);
    let mut bytes = client.take_output();
    client.encrypt(b"x");
    bytes.append(&mut client.take_output());
    let (before, rest) = bytes.split_at(15_000);
    server.feed(before, 70_000, 20_000);
    server.feed(&rest[..rest.len() - 1], 70_000, 20_000);
    assert!(server.stage.has_partial());
    assert!(server.stage.kept.capacity() < 100);
}

/// Otherwise rustls would parse everything again with each byte of that record.
#[test]
fn a_record_of_another_type_ends_the_handshake_with_its_first_byte() {
    let part_of_hello = [22, 3, 1, 0, 2, 1, 0];
    for before in [&[][..], &part_of_hello] {
        for (byte, words, alert) in [
            (20, "the peer has broken the rules of TLS", 10),
            (21, "the peer has broken the rules of TLS", 10),
            (23, "the peer has broken the rules of TLS", 10),
            (b'E', "the peer does not use TLS", 50),
        ] {
            let mut end = End::server(Arc::new(server(&BOTH)));
            end.feed(before, 1, 10);
            assert_eq!(end.error(), "");
            end.feed(&[byte], 1, 10);
            assert!(end.error().starts_with(words), "{byte}: {}", end.error());
            assert_eq!(end.take_output(), [21, 3, 3, 0, 2, 2, alert]);
        }
    }
}

#[test]
fn an_idle_connection_holds_no_buffer() {
    let (mut client, mut server) = pair(&BOTH, 70_000);
    client.encrypt(&[0; 100_000]);
    exchange(&mut client, &mut server, 70_000);
    drop((client.stage.release_buffer(), server.stage.release_buffer()));
    for stage in [&client.stage, &server.stage] {
        assert_eq!(stage.kept.capacity(), 0);
        assert_eq!(stage.received.plaintext.capacity(), 0);
        assert_eq!(stage.output.buffer.capacity(), 0);
    }
}

/// A message that is not complete stays in its buffer, also while this side encrypts: rustls refers to its parts by
/// their position.
#[test]
fn output_is_encrypted_between_the_pieces_of_a_handshake_message() {
    let mut config = server(&[&TLS13]);
    config.max_fragment_size = Some(40);
    let mut server = End::server(Arc::new(config));
    let mut client = End::client(Arc::new(client()), "localhost");
    let mut sent = 0;
    for _ in 0..20 {
        let from_client = client.take_output();
        server.feed(&from_client, 3, 100);
        // The tickets behind the handshake come in many records.
        for byte in server.take_output() {
            client.feed(&[byte], 1, 100);
            if !client.stage.is_handshaking() {
                client.encrypt(b"x");
                sent += 1;
            }
        }
    }
    assert!(sent > 100, "{sent}");
    assert_eq!(
        (client.error(), server.error()),
        (String::new(), String::new())
    );
    assert_eq!(server.received, vec![b'x'; sent]);
}

/// Bytes that are changed, left out or repeated on the way are an error on one side at most, and never a panic.
#[test]
fn changes_on_the_way_are_errors_and_what_is_received_was_sent() {
    for seed in 0..400 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let versions: &[_] = if rng.bool() { &[&TLS12] } else { &[&TLS13] };
        let mut ends = [
            End::client(Arc::new(client()), "localhost"),
            End::server(Arc::new(server(versions))),
        ];
        let mut sent = [Vec::new(), Vec::new()];
        for _ in 0..rng.usize(5..40) {
            let from = rng.usize(0..2);
            if !ends[from].stage.is_handshaking() && rng.bool() {
                let data: Vec<u8> = (0..rng.usize(1..3000)).map(|_| rng.u8(..)).collect();
                let count = ends[from].stage.encrypt(&[IoSlice::new(&data)], 65_536);
                sent[from].extend_from_slice(&data[..count.unwrap_or(0)]);
            }
            let mut bytes = ends[from].take_output();
            if !bytes.is_empty() && rng.u8(..) < 40 {
                let at = rng.usize(..bytes.len());
                match rng.u8(0..4) {
                    0 => bytes[at] ^= 1 << rng.u8(0..8),
                    1 => bytes.truncate(at),
                    2 => bytes.insert(at, rng.u8(..)),
                    _ => bytes.extend_from_within(at..),
                }
            }
            let (piece, room) = (rng.usize(1..2000), rng.usize(1..5000));
            ends[1 - from].feed(&bytes, piece, room);
            assert!(ends[1 - from].stage.kept.capacity() <= MOST_KEPT);
        }
        for to in 0..2 {
            assert!(sent[1 - to].starts_with(&ends[to].received), "seed {seed}");
        }
    }
}

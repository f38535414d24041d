//! TLS on several workers: sessions resume on any of them, and a new configuration reaches all.

use super::*;
use asynchat::tls::rustls::version::{TLS12, TLS13};
use asynchat::tls::rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};
use asynchat::tls::{self, ServerName};
use std::sync::Arc;

use crate::tls_peer::{client_config_of, identity, identity_of_fixed_length};

type Stream = BufReader<StreamOwned<ClientConnection, TcpStream>>;

fn connect(addr: SocketAddr, config: &Arc<ClientConfig>) -> Stream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let tls = ClientConnection::new(Arc::clone(config), name).unwrap();
    BufReader::new(StreamOwned::new(tls, stream))
}

/// The worker that has replied, and the kind of the handshake.
fn ask(stream: &mut Stream) -> (usize, HandshakeKind) {
    stream.get_mut().write_all(b"which\r\n").unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    let number = line.split(' ').next().unwrap().parse().unwrap();
    (number, stream.get_ref().conn.handshake_kind().unwrap())
}

#[test]
fn a_session_resumes_on_another_worker() {
    for version in [&TLS12, &TLS13] {
        let config = identity().server_config();
        let running = start_serving(3, move || any_port().tls(config.clone()));
        let client = client_config_of(version);
        // They take turns, because all stay open.
        let mut streams = Vec::new();
        for number in 0..6 {
            let mut stream = connect(running.addr, &client);
            let (worker, kind) = ask(&mut stream);
            assert_eq!(worker, number % 3);
            let expected = match number {
                0 => HandshakeKind::Full,
                _ => HandshakeKind::Resumed,
            };
            assert_eq!(kind, expected, "connection {number}");
            streams.push(stream);
        }
        running.shutdown().unwrap();
    }
}

#[test]
fn a_new_configuration_reaches_all_workers_and_loses_no_connection() {
    let acceptor = tls::Acceptor::from(identity().server_config());
    let shared = acceptor.clone();
    let running = start_serving(3, move || any_port().tls(&shared));
    let client = client_config_of(&TLS13);
    let mut before: Vec<_> = (0..3).map(|_| connect(running.addr, &client)).collect();
    let workers: Vec<_> = before.iter_mut().map(|stream| ask(stream).0).collect();
    assert_eq!(workers, [0, 1, 2]);

    acceptor.replace(identity_of_fixed_length().server_config());
    let renewed = identity_of_fixed_length().client_config();
    let mut after: Vec<_> = (0..3).map(|_| connect(running.addr, &renewed)).collect();
    let workers: Vec<_> = after.iter_mut().map(|stream| ask(stream).0).collect();
    assert_eq!(workers, [0, 1, 2]);
    assert!(before.iter_mut().all(|stream| ask(stream).0 < 3));
    running.shutdown().unwrap();
}

//! With `reuse_port` each worker listens by itself, where the system spreads the connections.

use super::*;
use asynchat::Limits;

#[test]
fn each_worker_listens_on_the_same_port() {
    let running = start_serving(3, || any_port().reuse_port(true));
    let mut clients: Vec<_> = (0..30).map(|_| running.connect()).collect();
    for client in &mut clients {
        client.worker();
    }
    let each = stats(&running);
    let accepted: u64 = each.iter().map(|it| it.accepted).sum();
    assert_eq!(accepted, 30);
    running.shutdown().unwrap();
    for client in &mut clients {
        assert_eq!(client.line(), "bye");
    }
}

/// The workers have duplicates of one socket, so none of them can listen by itself.
#[test]
fn the_option_has_no_effect_on_an_adopted_socket() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let running = start_serving(2, move || {
        let server = Server::adopt(socket.try_clone().unwrap()).reuse_port(true);
        server.deadlines(Deadlines::default().linger(LINGER))
    });
    let mut clients: Vec<_> = (0..4).map(|_| running.connect()).collect();
    let mut workers: Vec<_> = clients.iter_mut().map(Client::worker).collect();
    workers.sort_unstable();
    assert_eq!(workers, [0, 0, 1, 1]);
    running.shutdown().unwrap();
}

#[test]
fn the_quota_is_a_total_here_too() {
    let limits = Limits::default().connections(6);
    let running = start_serving(3, move || {
        any_port()
            .reuse_port(true)
            .limits(limits)
            .refusal("full\r\n")
    });
    let mut clients: Vec<_> = (0..6).map(|_| running.connect()).collect();
    for client in &mut clients {
        client.worker();
    }
    assert_eq!(running.connect().line(), "full");
    running.shutdown().unwrap();
}

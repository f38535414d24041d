//! The limits on the number of connections count those of all workers.

use super::*;
use asynchat::Limits;

fn start_with(limits: Limits, threads: usize) -> Running {
    start_serving(threads, move || {
        any_port().limits(limits).refusal("full\r\n")
    })
}

#[test]
fn the_limit_on_connections_is_a_total() {
    let running = start_with(Limits::default().connections(5), 3);
    let mut clients: Vec<_> = (0..5).map(|_| running.connect()).collect();
    for client in &mut clients {
        client.worker();
    }
    assert_eq!(running.connect().line(), "full");
    drop(clients.pop());
    // The worker learns of it a moment later.
    wait_until(|| {
        let mut client = running.connect();
        client.try_ask("x").is_ok_and(|reply| reply.ends_with(" x"))
    });
    let refused: u64 = stats(&running).iter().map(|it| it.refused).sum();
    assert!(refused >= 1);
    running.shutdown().unwrap();
}

#[test]
fn the_limit_of_an_address_is_a_total() {
    let running = start_with(Limits::default().per_address(4), 3);
    let mut clients: Vec<_> = (0..4).map(|_| running.connect()).collect();
    for client in &mut clients {
        client.worker();
    }
    assert_eq!(running.connect().line(), "full");
    running.shutdown().unwrap();
}

/// A refused connection does not count for its worker.
#[test]
fn refused_connections_do_not_unbalance_the_workers() {
    let running = start_with(Limits::default().connections(4), 2);
    let mut clients: Vec<_> = (0..2).map(|_| running.connect()).collect();
    for client in &mut clients {
        client.worker();
    }
    clients.extend((0..2).map(|_| running.connect()));
    for client in &mut clients {
        client.worker();
    }
    for _ in 0..11 {
        assert_eq!(running.connect().line(), "full");
    }
    let before = clients.len();
    clients.truncate(before - 2);
    wait_until(|| stats(&running).iter().map(|it| it.closes.eof).sum::<u64>() == 2);
    clients.extend((0..2).map(|_| running.connect()));
    let mut counts = [0; 2];
    for client in &mut clients {
        counts[client.worker()] += 1;
    }
    assert_eq!(counts, [2, 2]);
    running.shutdown().unwrap();
}

/// The client of a proxy is known on the worker only, when its header has arrived.
#[cfg(feature = "proxy-protocol")]
#[test]
fn the_limit_of_a_proxied_address_is_a_total() {
    let running = start_serving(3, || {
        let limits = Limits::default().per_address(2);
        let trusted = "127.0.0.0/8".parse().unwrap();
        any_port()
            .limits(limits)
            .refusal("full\r\n")
            .proxy_protocol([trusted])
    });
    let connect = |client: &str| {
        let mut proxy = running.connect();
        proxy.send(&format!("PROXY TCP4 {client} 198.51.100.1 4000 25"));
        proxy.send("x");
        let reply = proxy.line();
        (proxy, reply)
    };
    let first = [connect("192.0.2.1"), connect("192.0.2.1")];
    assert!(first.iter().all(|(_, reply)| reply.ends_with(" x")));
    assert_eq!(connect("192.0.2.1").1, "full");
    assert!(connect("192.0.2.2").1.ends_with(" x"));
    running.shutdown().unwrap();
}

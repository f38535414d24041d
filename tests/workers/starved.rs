//! When descriptors run out, accepting pauses, and no client is lost.
#![cfg(all(unix, not(target_os = "redox")))]

use super::*;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::process::Command;

const CHILD: &str = "WORKERS_WITHOUT_DESCRIPTORS";

/// That accepting resumes when a worker closes a connection, and not only by its timer, is tested on a simulated network
/// (`src/workers/service.rs`), where no time passes. The limit concerns the whole process, so this test runs in one of its
/// own.
#[test]
fn all_clients_are_served_after_descriptors_have_run_out() {
    if std::env::var_os(CHILD).is_some() {
        return in_child();
    }
    let name = "starved::all_clients_are_served_after_descriptors_have_run_out";
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
}

fn in_child() {
    let running = start_serving(2, any_port);
    let mut clients: Vec<_> = (0..4).map(|_| running.connect()).collect();
    for client in &mut clients {
        client.worker();
    }
    // The sockets of these clients are made before descriptors run out, and accepted after.
    let addr = socket2::SockAddr::from(running.addr);
    let new = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let sockets: Vec<_> = (0..8).map(|_| new()).collect();
    let spare = new();
    let mut limit = getrlimit(Resource::Nofile);
    // The next descriptor would be this one.
    let used = std::os::fd::AsRawFd::as_raw_fd(&spare);
    drop(spare);
    limit.current = Some(u64::try_from(used).unwrap());
    setrlimit(Resource::Nofile, limit).unwrap();
    for socket in &sockets {
        socket.connect(&addr).unwrap();
    }
    let mut waiting: Vec<_> = sockets
        .into_iter()
        .map(|socket| {
            let stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            Client(BufReader::new(stream))
        })
        .collect();
    // Each connection that ends frees two descriptors, of which the listener uses one, and so on.
    while let Some(client) = clients.pop().or_else(|| waiting.pop()) {
        drop(client);
        if let Some(first) = waiting.first_mut() {
            first.worker();
            clients.push(waiting.remove(0));
        }
    }
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    running.shutdown().unwrap();
}

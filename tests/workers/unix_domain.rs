//! Workers on a Unix-domain socket.
#![cfg(unix)]

use super::*;
use std::os::unix::net::UnixStream;

#[test]
fn clients_are_spread_and_the_file_is_removed_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workers.sock");
    let listened = path.clone();
    let running = start_serving(2, move || Server::new(listened.clone()));
    let mut counts = [0; 2];
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut stream = BufReader::new(UnixStream::connect(&path).unwrap());
        stream.get_ref().set_read_timeout(Some(DEADLINE)).unwrap();
        stream.get_mut().write_all(b"which\r\n").unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        counts[usize::from(line.starts_with('1'))] += 1;
        clients.push(stream);
    }
    assert_eq!(counts, [5, 5]);
    drop(clients);
    running.shutdown().unwrap();
    assert!(!path.exists());
}

/// The reuse of a port means nothing to a path.
#[test]
fn reuse_port_has_no_effect_on_a_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workers.sock");
    let listened = path.clone();
    let running = start_serving(2, move || Server::new(listened.clone()).reuse_port(true));
    let mut stream = BufReader::new(UnixStream::connect(&path).unwrap());
    stream.get_ref().set_read_timeout(Some(DEADLINE)).unwrap();
    stream.get_mut().write_all(b"hello\r\n").unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    assert!(line.ends_with(" hello\r\n"));
    drop(stream);
    running.shutdown().unwrap();
}

//! Failures of sessions stay local. A worker that fails ends the service.

use super::*;
#[cfg(target_os = "linux")]
use asynchat::Close;

#[test]
fn a_session_that_fails_ends_only_its_connection() {
    let running = start_serving(2, any_port);
    let mut witness = running.connect();
    for command in ["FAIL", "PANIC", "FAIL", "PANIC"] {
        let mut client = running.connect();
        assert_eq!(client.ask(command), "");
    }
    witness.ask("still there");
    running.shutdown().unwrap();
}

#[test]
fn a_call_that_panics_ends_nothing() {
    let running = start_serving(2, any_port);
    running.remotes.post_to_all(|| panic!("in a post")).unwrap();
    for _ in 0..4 {
        running.connect().worker();
    }
    running.shutdown().unwrap();
}

#[test]
fn a_factory_that_fails_ends_only_its_connection() {
    let running = start(Workers::new().threads(2), |worker| {
        let mut count = 0;
        let number = worker.number();
        worker.listen(any_port(), move |chat| {
            count += 1;
            match count % 2 {
                0 => Ok(Session { chat, number }),
                _ => Err("odd".into()),
            }
        })?;
        Ok(())
    });
    let running = running.unwrap();
    let mut served = 0;
    for _ in 0..20 {
        let mut client = running.connect();
        // A connection whose factory has failed may be reset, because its line is not read.
        served += usize::from(client.try_ask("x").is_ok_and(|line| !line.is_empty()));
    }
    // Each worker fails for its first one, and so on.
    assert!((9..=10).contains(&served), "{served}");
    running.shutdown().unwrap();
}

/// On one loop the listener closes, and its connections go on. So it is here, and each worker's server is notified.
#[cfg(target_os = "linux")]
#[test]
fn a_listening_socket_that_fails_closes_the_listener_of_each_worker() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let adopted = socket.try_clone().unwrap();
    let (sender, closes) = mpsc::channel();
    let running = start_serving(2, move || {
        let sender = sender.clone();
        Server::adopt(adopted.try_clone().unwrap()).on_close(move |why| {
            let Close::Io(error) = why else {
                panic!("{why:?}")
            };
            sender.send((error.kind(), why.to_string())).unwrap();
        })
    });
    let mut client = running.connect();
    client.ask("hello");
    socket2::SockRef::from(&socket)
        .shutdown(std::net::Shutdown::Both)
        .unwrap();
    for _ in 0..2 {
        let (kind, why) = closes.recv_timeout(DEADLINE).unwrap();
        assert_eq!(kind, std::io::ErrorKind::InvalidInput);
        assert!(why.starts_with("i/o error: accept: "), "{why}");
    }
    assert!(client.ask("hello").ends_with(" hello"));
    running.shutdown().unwrap();
}

//! The setup of each worker: what it may do, and how it fails.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

fn failed_start(setup: impl Fn(&Worker) -> Result + Send + Sync + 'static) -> String {
    let started = start(Workers::new().threads(3), setup);
    started.err().expect("it does not start").to_string()
}

#[test]
fn a_setup_that_fails_ends_the_start_and_names_its_worker() {
    let error = failed_start(|worker| {
        listen(worker, any_port())?;
        match worker.number() {
            1 => Err("no database".into()),
            _ => Ok(()),
        }
    });
    assert_eq!(error, "worker 1: its setup: no database");
}

#[test]
fn a_setup_that_panics_ends_the_start() {
    let error = failed_start(|worker| match worker.number() {
        2 => panic!("no such worker"),
        _ => Ok(()),
    });
    assert_eq!(error, "worker 2: its setup panicked: no such worker");
}

#[test]
fn an_address_in_use_is_the_reason() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let error = failed_start(move |worker| listen(worker, Server::new(addr)));
    assert!(
        error.contains(&format!("its setup: listen on {addr}")),
        "{error}"
    );
}

#[test]
fn workers_that_listen_on_different_addresses_do_not_start() {
    let error = failed_start(|worker| {
        let addr = format!("127.0.0.{}:0", 1 + worker.number());
        listen(worker, Server::new(addr))
    });
    assert!(error.contains("all have to listen on the same"), "{error}");
    let sockets: Vec<_> = (0..3)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let error = failed_start(move |worker| {
        let socket = sockets[worker.number()].try_clone().unwrap();
        listen(worker, Server::adopt(socket))
    });
    assert!(error.contains("all have to listen on the same"), "{error}");
}

#[test]
fn a_server_for_one_connection_has_no_workers() {
    let error = failed_start(|worker| listen(worker, any_port().once(DEADLINE)));
    assert!(error.contains("needs no workers"), "{error}");
}

#[test]
fn a_worker_listens_in_its_setup_only() {
    let (sender, answer) = mpsc::channel();
    let running = start(Workers::new().threads(1), move |worker| {
        let (worker, sender) = (worker.clone(), sender.clone());
        asynchat::call_later(Duration::ZERO, move || {
            let late = listen(&worker, any_port()).unwrap_err();
            // The service may have read it and ended.
            let _ = sender.send(late.to_string());
        });
        Ok(())
    });
    let running = running.unwrap();
    // A timer of the setup may fire in the turn of the setup, when others are not ready.
    let error = answer.recv_timeout(DEADLINE);
    if let Ok(error) = error {
        assert!(error.contains("in its setup"), "{error}");
    }
    running.shutdown().unwrap();
}

#[test]
fn a_failed_start_leaves_nothing_on_the_loop() {
    let started = Workers::new().threads(2).start(|worker| {
        listen(worker, any_port())?;
        Err("never".into())
    });
    assert!(started.is_err());
    assert!(asynchat::EventLoop::current().unwrap().is_empty());
    asynchat::run().unwrap();
}

#[test]
fn workers_do_not_start_on_a_loop_that_shuts_down() {
    let event_loop = asynchat::EventLoop::new().unwrap();
    event_loop.call_later(DEADLINE, || ());
    event_loop.shutdown(DEADLINE);
    let started = Workers::new()
        .threads(2)
        .start_on(&event_loop, |worker| listen(worker, any_port()));
    let error = started.expect_err("it does not start").to_string();
    assert!(error.contains("shutting down"), "{error}");
}

#[test]
fn each_setup_runs_in_the_loop_of_its_worker() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let running = start(Workers::new().threads(3), |worker| {
        assert_eq!(worker.count(), 3);
        assert_eq!(
            Worker::current().map(|it| it.number()),
            Some(worker.number())
        );
        assert!(asynchat::EventLoop::current()?.is_running());
        asynchat::call_every(Duration::from_millis(1), || {
            RUNS.fetch_add(1, Ordering::Relaxed);
        });
        listen(worker, any_port())
    });
    let running = running.unwrap();
    wait_until(|| RUNS.load(Ordering::Relaxed) > 10);
    assert!(running.connect().ask("x").ends_with(" x"));
    running.shutdown().unwrap();
}

/// A port for the administrator, which only one worker serves.
#[test]
fn a_worker_may_serve_more_than_the_others() {
    let (sender, addr) = mpsc::channel();
    let running = start(Workers::new().threads(3), move |worker| {
        listen(worker, any_port())?;
        if worker.number() == 1 {
            let number = worker.number();
            let addr = worker.listen(any_port(), move |chat| Session { chat, number })?;
            sender.send(addr.inet().ok_or("no address")?)?;
        }
        Ok(())
    });
    let running = running.unwrap();
    let addr = addr.recv_timeout(DEADLINE).unwrap();
    for _ in 0..5 {
        assert_eq!(Client::connect(addr).worker(), 1);
    }
    running.shutdown().unwrap();
}

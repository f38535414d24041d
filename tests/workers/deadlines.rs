//! The deadlines of a server are those of each connection, whichever worker has it.

use super::*;

/// Waits until each client has been closed, and for the workers to have counted that.
fn expect_timeouts(running: &Running, clients: &mut [Client]) {
    for client in clients {
        // With input that was not read, the close is a reset.
        assert!(client.try_line().map_or(true, |line| line.is_empty()));
    }
    let each: Vec<_> = stats(running).iter().map(|it| it.closes.timeout).collect();
    assert_eq!(each, [2, 2]);
}

#[test]
fn idle_connections_end_on_each_worker() {
    let deadlines = Deadlines::default().idle(Duration::from_millis(100));
    let running = start_serving(2, move || any_port().deadlines(deadlines.linger(LINGER)));
    let mut clients: Vec<_> = (0..4).map(|_| running.connect()).collect();
    expect_timeouts(&running, &mut clients);
    running.shutdown().unwrap();
}

#[test]
fn a_record_has_to_be_complete_in_time_on_each_worker() {
    let deadlines = Deadlines::default().record(Duration::from_millis(100));
    let running = start_serving(2, move || any_port().deadlines(deadlines.linger(LINGER)));
    let mut clients: Vec<_> = (0..4).map(|_| running.connect()).collect();
    for client in &mut clients {
        client.0.get_mut().write_all(b"half of a li").unwrap();
    }
    expect_timeouts(&running, &mut clients);
    running.shutdown().unwrap();
}

#[test]
fn the_grace_of_a_shutdown_ends_on_each_worker() {
    let (running, mut clients) = four_that_stay();
    running
        .remotes
        .shutdown(Duration::from_millis(100))
        .unwrap();
    running.outcome().unwrap();
    for client in &mut clients {
        assert_eq!(client.line(), "staying");
        let reset = client.try_line().map_err(|error| error.kind());
        assert_eq!(reset, Err(std::io::ErrorKind::ConnectionReset));
    }
}

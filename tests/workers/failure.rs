//! Failures of sessions stay local. A worker that fails ends the service.

use super::*;

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
        client.send("x");
        // A connection whose factory has failed may be reset, because its line is not read.
        served += usize::from(client.try_line().is_ok_and(|line| !line.is_empty()));
    }
    // Each worker fails for its first one, and so on.
    assert!((9..=10).contains(&served), "{served}");
    running.shutdown().unwrap();
}

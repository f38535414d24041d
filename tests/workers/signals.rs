//! The handlers of signals are on the loop that accepts.
#![cfg(all(unix, feature = "signal"))]

use super::*;
use asynchat::signal;

/// One test for all steps, because signals belong to the process.
#[test]
fn a_signal_shuts_all_workers_down_and_a_second_one_ends_the_grace() {
    let service = Workers::new().threads(2).start(|worker| {
        worker.listen(any_port(), Stays)?;
        // Each worker would take one signal, and the second one would end the grace.
        let refused = signal::shutdown_on_ctrl_c(DEADLINE).unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("the thread that starts the workers")
        );
        Ok(())
    });
    let service = service.unwrap();
    signal::shutdown_on_ctrl_c(DEADLINE * 10).unwrap();
    let addr = service.local_addrs()[0].inet().unwrap();
    let clients = thread::spawn(move || {
        let mut clients: Vec<_> = (0..4).map(|_| Client::connect(addr)).collect();
        for client in &mut clients {
            assert_eq!(client.ask("hello"), "hello");
        }
        raise_interrupt();
        for client in &mut clients {
            assert_eq!(client.line(), "staying");
        }
        raise_interrupt();
        for client in &mut clients {
            let reset = client.try_line().map_err(|error| error.kind());
            assert_eq!(reset, Err(std::io::ErrorKind::ConnectionReset));
        }
    });
    asynchat::run().unwrap();
    service.finish().unwrap();
    clients.join().unwrap();
}

fn raise_interrupt() {
    let process = rustix::process::getpid();
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
}

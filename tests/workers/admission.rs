//! Each worker asks its own `accept_if`, and sets the options of its own connections.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

static CONFIGURED: AtomicUsize = AtomicUsize::new(0);

#[test]
fn what_a_server_asks_for_each_connection_is_asked_on_its_worker() {
    let running = start(Workers::new().threads(2), |worker| {
        let mut count = 0;
        // State of this worker alone, which need not be `Send`.
        let numbers = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let number = worker.number();
        let server = any_port()
            .accept_if(move |_| {
                count += 1;
                numbers.borrow_mut().push(count);
                count % 2 == 1
            })
            .configure(|socket| {
                CONFIGURED.fetch_add(1, Ordering::Relaxed);
                socket.set_keepalive(true)
            });
        worker.listen(server, move |chat| Session { chat, number })?;
        Ok(())
    });
    let running = running.unwrap();
    let mut clients = Vec::new();
    let mut refused = 0;
    for _ in 0..20 {
        let mut client = running.connect();
        match client.try_ask("which") {
            Ok(line) if line.ends_with(" which") => clients.push(client),
            _ => refused += 1,
        }
    }
    // Each worker refuses every second one, wherever that is.
    assert!((9..=10).contains(&refused), "{refused}");
    assert_eq!(CONFIGURED.load(Ordering::Relaxed), clients.len());
    // Those that were refused count for no worker.
    let mut counts = [0usize; 2];
    for client in &mut clients {
        counts[client.worker()] += 1;
    }
    assert!(counts[0].abs_diff(counts[1]) <= 1, "{counts:?}");
    running.shutdown().unwrap();
}

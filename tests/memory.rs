//! The memory of a silent connection. This test binary has one test, because the allocator counts
//! the whole process.
#[path = "common/allocator.rs"]
mod allocator;
mod common;

use std::cell::Cell;
use std::rc::Rc;

use allocator::in_use;
use asynchat::Chat;
use common::{Peer, addr_of, new_loop, run_until};

/// Connections share buffers. If each connection held the one that a busy connection has grown, all
/// of them would cost as much as that one.
#[test]
fn silent_connections_beside_a_busy_one_hold_no_buffer() {
    const CONNECTIONS: usize = 100;
    const LISTING: usize = 60_000;
    let (event_loop, records) = (new_loop(), Rc::new(Cell::new(0)));
    let counted = Rc::clone(&records);
    let listener = event_loop
        .listen("127.0.0.1:0", move |chat: Chat| {
            let counted = Rc::clone(&counted);
            move |record: &[u8]| {
                counted.set(counted.get() + 1);
                if record == b"list" {
                    for _ in 0..LISTING / 100 {
                        chat.push_slice(&[b'x'; 100]);
                    }
                }
                Ok(())
            }
        })
        .unwrap();
    let mut busy = Peer::connect(addr_of(&listener));
    let mut list = || {
        busy.send("list\r\n");
        busy.expect(&event_loop, vec![b'x'; LISTING]);
    };
    list();
    let before = in_use();
    let mut silent: Vec<_> = (0..CONNECTIONS)
        .map(|_| Peer::connect(addr_of(&listener)))
        .collect();
    let connected = CONNECTIONS + 2;
    run_until(&event_loop, || event_loop.len() == connected);
    let up = in_use();
    for peer in &mut silent {
        let before = records.get();
        peer.send("x\r\n");
        run_until(&event_loop, || records.get() > before);
        list();
    }
    let each = |since: usize| in_use().saturating_sub(since) / CONNECTIONS;
    let (held, all) = (each(up), each(before));
    assert!(held < 1024, "{held} bytes held by each");
    // Including the channel itself, its handler, its registration, and its peer.
    assert!(all < 4096, "{all} bytes for each");
}

//! What memory a queue holds.

use std::cell::RefCell;

use asynchat::internals::{Fifo, Item, pump};
use bytes::Bytes;

use super::{Socket, hook, new_fifo, pending_producer, pump_limited, queue};

/// More than the largest tail that a few items need.
const LITTLE: usize = 4096;

#[test]
fn an_empty_queue_holds_no_memory_however_long_it_was() {
    for count in [1, 64, 65, 10_000] {
        let fifo = new_fifo(usize::MAX);
        for n in 0..count {
            queue(&fifo, hook());
            fifo.borrow_mut().push_slice(&vec![b'x'; n % 7]);
            fifo.borrow_mut().push_bytes(&vec![b'x'; 5000].into());
        }
        while !fifo.borrow().is_empty() {
            pump_limited(&fifo, usize::MAX).unwrap();
        }
        let _ = fifo.borrow_mut().release_buffer();
        assert_eq!(fifo.borrow().memory(), 0, "after {count} items");
    }
}

#[test]
fn a_discarded_queue_holds_no_memory() {
    let fifo = new_fifo(usize::MAX);
    for _ in 0..10_000 {
        queue(&fifo, hook());
    }
    drop(fifo.borrow_mut().discard());
    assert_eq!(fifo.borrow().memory(), 0);
}

#[test]
fn a_queue_of_one_item_gives_back_the_room_of_the_others() {
    let fifo = new_fifo(usize::MAX);
    for _ in 0..10_000 {
        queue(&fifo, hook());
    }
    queue(&fifo, pending_producer());
    assert!(fifo.borrow().memory() > 10_000 * size_of::<Item>());
    while fifo.borrow().is_actionable() {
        pump_limited(&fifo, usize::MAX).unwrap();
        let _ = fifo.borrow_mut().release_buffer();
    }
    assert!(!fifo.borrow().is_empty());
    let memory = fifo.borrow().memory();
    assert!(memory < LITTLE, "{memory} bytes for one item");
}

/// The number of bytes that the backlog takes from the queue's room is not a part of the queue.
#[test]
fn an_empty_queue_knows_its_backlog() {
    let fifo = new_fifo(10_000);
    queue(&fifo, hook());
    fifo.borrow_mut().set_backlog(9000);
    pump_limited(&fifo, usize::MAX).unwrap();
    let _ = fifo.borrow_mut().release_buffer();
    fifo.borrow_mut().push_slice(&[b'x'; 5000]);
    assert!(fifo.borrow().is_crowded());
}

/// Hooks and producers are not bytes that are sent. What they were exempt for must not be left for later output.
#[test]
fn an_empty_queue_exempts_nothing() {
    let fifo = new_fifo(1000);
    for _ in 0..1000 {
        queue(&fifo, hook());
    }
    fifo.borrow_mut().exempt();
    while !fifo.borrow().is_empty() {
        pump_limited(&fifo, usize::MAX).unwrap();
    }
    let _ = fifo.borrow_mut().release_buffer();
    fifo.borrow_mut().push_slice(&[b'x'; 5000]);
    assert_eq!(fifo.borrow().limited_weight(), 5000);
}

/// Has taken so much that this is left.
fn send_all_but(left: usize, fifo: &RefCell<Fifo>) {
    let count = fifo.borrow().queued() - left;
    pump(fifo, &mut Socket::new(count), usize::MAX).unwrap();
    assert_eq!(fifo.borrow().queued(), left);
}

/// A peer could otherwise leave the last byte of each of its connections unread, and occupy much with little.
#[test]
fn the_rest_of_a_large_push_does_not_occupy_its_memory() {
    for (left, is_copied) in [(1, true), (65_536, true), (65_537, false)] {
        let fifo = new_fifo(usize::MAX);
        fifo.borrow_mut().push_bytes(&vec![b'x'; 1 << 20].into());
        fifo.borrow_mut().push_slice(b"after");
        send_all_but(left + 5, &fifo);
        let unused = fifo.borrow_mut().trim();
        assert_eq!(unused.map(|rest| rest.len()), is_copied.then_some(left));
        assert!(fifo.borrow_mut().trim().is_none(), "copied once");
        send_all_but(0, &fifo);
        assert!(fifo.borrow().is_empty());
    }
}

/// To copy it would free nothing.
#[test]
fn the_rest_of_a_large_push_with_other_references_is_not_copied() {
    let fifo = new_fifo(usize::MAX);
    let large = Bytes::from(vec![b'x'; 100_000]);
    fifo.borrow_mut().push_bytes(&large);
    send_all_but(1, &fifo);
    assert!(fifo.borrow_mut().trim().is_none());
}

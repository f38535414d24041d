//! What memory a queue holds.

use asynchat::internals::Item;

use super::{hook, new_fifo, pending_producer, pump_limited, queue};

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

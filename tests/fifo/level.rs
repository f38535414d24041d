//! How full a queue is.

use std::cell::RefCell;
use std::rc::Rc;

use asynchat::More;
use asynchat::internals::{Fifo, Item, Pumped, pump};

use super::{Socket, hook, new_fifo, pending_producer, producer, pump_limited, queue, repeats};

#[test]
fn the_high_water_mark_is_exceeded_by_the_first_byte_above_it() {
    let mut fifo = Fifo::new(5000);
    assert!(!fifo.push_slices(&[&[b'x'; 50], &[b'x'; 4950]], |_| None));
    assert!(!fifo.is_over_high_water() && !fifo.is_full());
    assert!(fifo.push_slice(b"x"));
    assert!(fifo.is_over_high_water() && fifo.is_full());
    assert!(!fifo.is_crowded(), "there is no backlog");
}

#[test]
fn a_moved_high_water_mark_holds_for_the_next_push() {
    let mut fifo = Fifo::new(10);
    fifo.set_high_water(100);
    assert!(!fifo.push_slice(&[b'x'; 100]));
    fifo.set_high_water(10);
    assert!(fifo.push_slice(b"x"));
}

#[test]
fn more_than_64_items_are_over_the_high_water_mark() {
    let fifo = new_fifo(usize::MAX);
    for _ in 0..64 {
        queue(&fifo, hook());
        assert!(!fifo.borrow().is_over_high_water());
    }
    queue(&fifo, hook());
    assert!(fifo.borrow().is_over_high_water());
}

#[test]
fn the_low_water_mark_is_one_of_bytes_and_of_16_items() {
    let fifo = new_fifo(usize::MAX);
    fifo.borrow_mut().push_slice(&[b'x'; 10]);
    assert!(fifo.borrow().is_at_low_water(10));
    assert!(!fifo.borrow().is_at_low_water(9));
    for _ in 0..16 {
        queue(&fifo, hook());
    }
    assert!(fifo.borrow().is_at_low_water(10));
    queue(&fifo, hook());
    assert!(!fifo.borrow().is_at_low_water(10));
}

#[test]
fn a_backlog_takes_room_from_the_queue_but_for_4096_bytes() {
    for (backlog, room) in [(12_000, 8000), (19_000, 4096), (30_000, 4096)] {
        let mut fifo = Fifo::new(20_000);
        fifo.set_backlog(backlog);
        assert!(!fifo.push_slice(&vec![b'x'; room]));
        assert!(fifo.push_slice(b"x"));
        assert!(fifo.is_crowded() && fifo.is_full() && !fifo.is_over_high_water());
        fifo.set_backlog(0);
        assert!(!fifo.is_crowded());
        assert!(!fifo.push_slice(&vec![b'x'; 20_000 - room - 1]));
        assert!(fifo.push_slice(b"x"));
    }
}

/// The backlog may hold the record that resumes the producer.
#[test]
fn a_queue_that_waits_for_a_producer_is_not_crowded_by_a_backlog() {
    let fifo = new_fifo(20_000);
    queue(&fifo, pending_producer());
    fifo.borrow_mut().push_slice(&[b'x'; 10_000]);
    fifo.borrow_mut().set_backlog(15_000);
    assert!(fifo.borrow().is_crowded());
    assert!(matches!(pump_limited(&fifo, 9999), Ok(Pumped::Pending)));
    assert!(!fifo.borrow().is_crowded());
    fifo.borrow_mut().resume();
    assert!(fifo.borrow().is_crowded());
}

/// Above the mark the weight is looked at with every push.
#[test]
fn the_weight_of_many_producers_is_counted_as_they_come_and_go() {
    let fifo = new_fifo(65_536);
    for _ in 0..100 {
        repeats(&fifo, 1, 1);
    }
    assert_eq!(fifo.borrow().weight(), 100 * 4096);
    pump(&fifo, &mut Socket::new(usize::MAX), 65_536).unwrap();
    assert_eq!(fifo.borrow().weight(), 68 * 4096);
    let discarded = fifo.borrow_mut().discard();
    assert_eq!((discarded.len(), fifo.borrow().weight()), (68, 0));
}

#[test]
fn up_to_64_items_weigh_nothing_but_their_bytes() {
    let fifo = new_fifo(65_536);
    fifo.borrow_mut().push_slice(&[b'x'; 10]);
    for _ in 0..64 {
        queue(&fifo, hook());
    }
    assert_eq!(fifo.borrow().weight(), 10);
    queue(&fifo, Item::ShutdownWrite);
    assert_eq!(fifo.borrow().weight(), 10 + 65 * 4096);
}

#[test]
fn exempt_bytes_count_for_nothing_until_they_are_sent() {
    let fifo = new_fifo(65_536);
    let limited = || fifo.borrow().limited_weight();
    fifo.borrow_mut().push_slice(&[b'x'; 100]);
    assert_eq!(limited(), 100);
    fifo.borrow_mut().exempt();
    assert_eq!(limited(), 0);
    fifo.borrow_mut().push_slice(&[b'x'; 50]);
    assert_eq!(limited(), 50);
    pump_limited(&fifo, 30).unwrap();
    assert_eq!(limited(), 50);
    pump_limited(&fifo, 90).unwrap();
    assert_eq!(limited(), 30);
    fifo.borrow_mut().exempt();
    fifo.borrow_mut().discard();
    fifo.borrow_mut().push_slice(&[b'x'; 10]);
    assert_eq!(limited(), 10);
}

/// What a producer at the end of this queue is asked for in a turn of so many bytes.
fn asked(fifo: &RefCell<Fifo>, behind: usize, limit: usize, budget: usize) -> Vec<usize> {
    let asked = Rc::new(RefCell::new(Vec::new()));
    let noted = Rc::clone(&asked);
    let item = producer(move |wanted| {
        noted.borrow_mut().push(wanted);
        Ok(More::Done)
    });
    queue(fifo, item);
    fifo.borrow_mut().push_slice(&vec![b'y'; behind]);
    pump(fifo, &mut Socket::new(limit), budget).unwrap();
    asked.take()
}

#[test]
fn a_producer_is_asked_for_what_there_is_room_for() {
    let all = usize::MAX;
    // The turn's budget, and what was queued before takes its part of that.
    assert_eq!(asked(&new_fifo(65_536), 0, all, 65_536), [65_536]);
    assert_eq!(asked(&new_fifo(65_536), 0, all, 100), [100]);
    let fifo = new_fifo(65_536);
    fifo.borrow_mut().push_slice(&[b'x'; 1000]);
    assert_eq!(asked(&fifo, 0, all, 5000), [4000]);
    // The room up to the mark, and 4,096 bytes more.
    assert_eq!(asked(&new_fifo(65_536), 0, all, all), [65_536 + 4096]);
    assert_eq!(asked(&new_fifo(65_536), 9000, all, all), [65_536 - 4904]);
    // At least 16 KiB, and at least 4,096 bytes where a backlog takes the room.
    assert_eq!(asked(&new_fifo(10), 9000, all, all), [16_384]);
    let fifo = new_fifo(30_000);
    fifo.borrow_mut().set_backlog(10_000);
    assert_eq!(asked(&fifo, 0, all, all), [24_096]);
    let fifo = new_fifo(30_000);
    fifo.borrow_mut().set_backlog(29_000);
    assert_eq!(asked(&fifo, 9000, all, all), [4096]);
}

/// Its bytes are to share a write, but not to be made for a peer that takes nothing.
#[test]
fn a_producer_is_asked_ahead_of_its_turn_below_the_mark_only() {
    for (before, calls) in [(99, 1), (100, 0)] {
        let fifo = new_fifo(100);
        fifo.borrow_mut().push_slice(&vec![b'x'; before]);
        assert_eq!(asked(&fifo, 0, 50, 65_536).len(), calls);
    }
}

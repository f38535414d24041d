//! How a queue ends.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use asynchat::internals::{Fifo, Item, PumpError, Pumped, pump};
use asynchat::{Close, More};
use bytes::Bytes;

use super::{Socket, hook, new_fifo, pending_producer, producer, pump_limited, queue, repeats};

#[test]
fn a_queue_is_closed_when_the_pump_has_reached_its_close() {
    let fifo = new_fifo(65_536);
    fifo.borrow_mut().push_slice(b"bye");
    queue(&fifo, Item::Close(Close::Shutdown));
    assert!(matches!(pump_limited(&fifo, 2), Ok(Pumped::Blocked)));
    assert!(fifo.borrow().is_sealed() && !fifo.borrow().is_closed());
    assert!(matches!(
        pump_limited(&fifo, 2),
        Ok(Pumped::Closed(Close::Shutdown))
    ));
    assert!(fifo.borrow().is_sealed() && fifo.borrow().is_closed());
    // The end of the channel seals it once more.
    fifo.borrow_mut().seal();
    assert!(fifo.borrow().is_closed());
}

#[test]
fn a_queue_is_unfinished_while_its_peer_has_something_to_receive() {
    let fifo = new_fifo(65_536);
    let is_unfinished = || fifo.borrow().is_unfinished();
    assert!(!is_unfinished());
    queue(&fifo, hook());
    assert!(!is_unfinished());
    fifo.borrow_mut().push_slice(b"x");
    assert!(is_unfinished());
    assert!(matches!(pump_limited(&fifo, 1), Ok(Pumped::Drained)));
    assert!(!is_unfinished());
    queue(&fifo, pending_producer());
    queue(&fifo, Item::ShutdownWrite);
    assert!(is_unfinished());
    drop(fifo.borrow_mut().fail());
    assert!(!is_unfinished());
}

#[test]
fn behind_the_end_of_the_sending_side_only_hooks_and_a_close_are_queued() {
    let fifo = new_fifo(65_536);
    queue(&fifo, Item::ShutdownWrite);
    for is_sent in [false, true] {
        fifo.borrow_mut().push_slice(b"too late");
        fifo.borrow_mut()
            .push_bytes(&Bytes::from_static(&[b'x'; 10_000]));
        assert!(fifo.borrow_mut().push(hook()).is_none());
        assert!(fifo.borrow_mut().push(pending_producer()).is_some());
        assert!(fifo.borrow_mut().push(Item::ShutdownWrite).is_some());
        assert_eq!(fifo.borrow().queued(), 0);
        assert!(!fifo.borrow().is_unfinished() && !fifo.borrow().is_sealed());
        if !is_sent {
            assert!(matches!(pump_limited(&fifo, 9), Ok(Pumped::Drained)));
        }
    }
    queue(&fifo, Item::Close(Close::Local));
    assert!(fifo.borrow().is_sealed());
    assert!(matches!(
        pump_limited(&fifo, 9),
        Ok(Pumped::Closed(Close::Local))
    ));
}

#[test]
fn a_discarded_end_of_the_sending_side_lets_pushes_in_again() {
    let fifo = new_fifo(65_536);
    fifo.borrow_mut().push_slice(b"x");
    queue(&fifo, Item::ShutdownWrite);
    drop(fifo.borrow_mut().discard());
    fifo.borrow_mut().push_slice(b"another");
    assert_eq!(fifo.borrow().queued(), 7);
}

#[test]
fn a_discarded_queue_keeps_its_close() {
    let fifo = new_fifo(65_536);
    queue(&fifo, pending_producer());
    fifo.borrow_mut().push_slice(b"x");
    queue(&fifo, Item::Close(Close::Eof));
    assert!(matches!(pump_limited(&fifo, 9), Ok(Pumped::Pending)));
    assert_eq!(fifo.borrow_mut().discard().len(), 2);
    assert_eq!(fifo.borrow().queued(), 0);
    assert!(matches!(
        pump_limited(&fifo, 9),
        Ok(Pumped::Closed(Close::Eof))
    ));
}

#[test]
fn a_taken_close_leaves_the_queue_sealed() {
    let fifo = new_fifo(65_536);
    assert!(fifo.borrow_mut().take_close().is_none());
    queue(&fifo, hook());
    assert!(fifo.borrow_mut().take_close().is_none());
    queue(&fifo, Item::Close(Close::Eof));
    let taken = fifo.borrow_mut().take_close();
    assert!(matches!(taken, Some(Close::Eof)));
    assert!(fifo.borrow().is_sealed());
    assert_eq!(fifo.borrow_mut().discard().len(), 1);
}

/// A session must not be able to start more work for a peer that is gone than for one that does not read.
#[test]
fn a_failed_queue_counts_what_it_drops_up_to_the_mark() {
    let mut fifo = Fifo::new(12_000);
    fifo.push_slice(&[b'x'; 1000]);
    fifo.push_bytes(&vec![b'x'; 5000].into());
    assert!(fifo.push(hook()).is_none());
    // An item counts for a 64th of the mark: 188 bytes, rounded up.
    assert_eq!(fifo.fail().len(), 2);
    assert_eq!(fifo.queued(), 6000 + 2 * 188);
    assert!(!fifo.is_actionable() && !fifo.is_cut());
    assert!(!fifo.push_slice(&[b'x'; 100]));
    assert!(!fifo.push_bytes(&vec![b'x'; 5000].into()));
    assert!(fifo.push(hook()).is_some());
    assert_eq!(fifo.queued(), 6000 + 2 * 188 + 100 + 5000 + 188);
    // Buffered input does not wait for it.
    fifo.set_backlog(11_000);
    assert!(!fifo.is_crowded());
    assert!(fifo.discard().is_empty());
    assert!(fifo.push_slices(&[&[b'x'; 300], &[b'x'; 100]], |_| None));
    assert_eq!(fifo.queued(), 6000 + 3 * 188 + 5500);
    assert!(!fifo.is_actionable());
}

#[test]
fn the_65th_item_is_over_the_mark_of_a_failed_queue_too() {
    for high_water in [0, 1, 64, 6400] {
        let mut fifo = Fifo::new(high_water);
        assert!(fifo.fail().is_empty());
        for _ in 0..64 {
            assert!(high_water < 64 || !fifo.is_over_high_water());
            assert!(fifo.push(hook()).is_some());
        }
        assert_eq!(fifo.is_over_high_water(), high_water < 64);
        assert!(fifo.push(hook()).is_some());
        assert!(fifo.is_over_high_water());
    }
}

#[test]
fn a_replaced_close_comes_behind_what_is_queued() {
    let (fifo, mut sink) = (new_fifo(65_536), Socket::new(usize::MAX));
    fifo.borrow_mut().push_slice(b"x");
    repeats(&fifo, 2, 1);
    queue(&fifo, Item::Close(Close::Local));
    let lost = fifo.borrow_mut().replace_close(Close::Eof);
    assert!(matches!(lost.front(), Some(Item::Close(Close::Local))));
    assert_eq!(lost.len(), 1);
    assert!(matches!(
        pump(&fifo, &mut sink, 65_536),
        Ok(Pumped::Closed(Close::Eof))
    ));
    assert_eq!(sink.data, b"xxx");
}

#[test]
fn a_close_without_another_to_replace_seals_the_queue() {
    let mut fifo = Fifo::new(65_536);
    assert!(fifo.replace_close(Close::Eof).is_empty());
    assert!(fifo.is_sealed() && !fifo.push_slice(b"x"));
    assert_eq!(fifo.queued(), 0);
    assert!(matches!(fifo.take_close(), Some(Close::Eof)));
}

#[test]
fn behind_a_failed_producer_nothing_is_sent() {
    let (fifo, mut sink) = (new_fifo(65_536), Socket::new(usize::MAX));
    fifo.borrow_mut().push_slice(b"before");
    queue(&fifo, producer(|_| Err(io::Error::other("it fails"))));
    fifo.borrow_mut().push_slice(b"behind");
    queue(&fifo, pending_producer());
    assert!(matches!(
        pump(&fifo, &mut sink, 65_536),
        Err(PumpError::Producer(_))
    ));
    assert!(fifo.borrow().is_cut() && fifo.borrow().is_unfinished());
    let lost = fifo.borrow_mut().replace_close(Close::Reset);
    assert_eq!((lost.len(), fifo.borrow().queued()), (2, 6));
    assert!(matches!(
        pump(&fifo, &mut sink, 65_536),
        Ok(Pumped::Closed(Close::Reset))
    ));
    assert_eq!(sink.data, b"before");
    assert!(fifo.borrow().is_cut() && fifo.borrow().is_unfinished());
}

/// It has no answer: its panic ends the pump.
#[test]
fn behind_a_panicked_producer_nothing_is_sent() {
    let (fifo, mut sink) = (new_fifo(65_536), Socket::new(usize::MAX));
    fifo.borrow_mut().push_slice(b"before");
    queue(
        &fifo,
        producer(|_| -> io::Result<More> { panic!("it panics") }),
    );
    fifo.borrow_mut().push_slice(b"behind");
    let pumped = catch_unwind(AssertUnwindSafe(|| pump(&fifo, &mut sink, 65_536)));
    assert!(pumped.is_err());
    assert!(fifo.borrow().is_unfinished());
    let lost = fifo.borrow_mut().replace_close(Close::Reset);
    assert_eq!((lost.len(), fifo.borrow().is_cut()), (1, true));
    assert!(matches!(
        pump(&fifo, &mut sink, 65_536),
        Ok(Pumped::Closed(Close::Reset))
    ));
    assert_eq!(sink.data, b"before");
}

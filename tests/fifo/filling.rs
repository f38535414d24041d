//! How the queue takes pushes, and whose buffer they are in.

use asynchat::Close;
use asynchat::internals::{Fifo, Item, Pumped, pump};
use bytes::Bytes;

use super::{Socket, hook, new_fifo, pump_limited, queue};

/// Up to this much unused capacity stays with a buffer.
const SLACK: usize = 8 * 1024;

#[test]
fn pushed_bytes_are_copied_below_4096() {
    for (len, is_copied) in [(4095, true), (4096, false)] {
        let (fifo, mut sink) = (new_fifo(usize::MAX), Socket::new(usize::MAX));
        let data = Bytes::from(vec![b'x'; len]);
        fifo.borrow_mut().push_bytes(&data);
        assert!(matches!(
            pump(&fifo, &mut sink, 65_536),
            Ok(Pumped::Drained)
        ));
        assert_eq!(sink.parts[0] != data.as_ptr(), is_copied);
    }
}

/// Otherwise a thousand small pushes behind a producer would be a thousand items.
#[test]
fn small_pushes_behind_an_item_share_a_buffer() {
    let fifo = new_fifo(usize::MAX);
    queue(&fifo, hook());
    for _ in 0..100 {
        fifo.borrow_mut().push_slice(b"x");
    }
    assert!(!fifo.borrow().is_over_high_water());
    assert_eq!(fifo.borrow_mut().discard().len(), 2);
}

#[test]
fn a_sealed_queue_takes_nothing() {
    for close in [false, true] {
        let fifo = new_fifo(0);
        if close {
            queue(&fifo, Item::Close(Close::Local));
        } else {
            fifo.borrow_mut().seal();
        }
        let mut fifo = fifo.borrow_mut();
        assert!(!fifo.push_slice(b"x"));
        assert!(!fifo.push_slices(&[b"x", b"y"], |_| None));
        assert!(!fifo.push_bytes(&vec![b'x'; 5000].into()));
        assert!(fifo.push(hook()).is_some());
        assert_eq!((fifo.queued(), fifo.is_sealed()), (0, true));
    }
}

#[test]
fn nothing_is_queued_by_a_push_of_nothing() {
    for is_full in [false, true] {
        let items = [false, true].map(|pushes_nothing| {
            let fifo = new_fifo(100);
            fifo.borrow_mut().push_slice(b"x");
            queue(&fifo, hook());
            if is_full {
                fifo.borrow_mut().push_slice(&[b'x'; 200]);
                queue(&fifo, hook());
            }
            let mut fifo = fifo.borrow_mut();
            if pushes_nothing {
                assert!(!fifo.push_slice(b""));
                assert!(!fifo.push_slices(&[b"", b""], |_| None));
                assert!(!fifo.push_slices(&[], |_| None));
            }
            (fifo.queued(), fifo.discard().len())
        });
        assert_eq!(items[0], items[1]);
    }
}

#[test]
fn an_appended_queue_follows_what_is_queued() {
    for behind_hook in [false, true] {
        let (fifo, mut later) = (new_fifo(usize::MAX), Fifo::new(usize::MAX));
        fifo.borrow_mut().push_slice(b"a");
        if behind_hook {
            queue(&fifo, hook());
        }
        later.push_slice(b"b");
        later.push_bytes(&vec![b'c'; 5000].into());
        later.push_slice(b"d");
        assert!(later.push(Item::Close(Close::Eof)).is_none());
        // A reference to the large push is left for the caller to drop.
        let dropped = fifo.borrow_mut().append(later);
        assert!(matches!(dropped.front(), Some(Item::Large(_))));
        assert_eq!((dropped.len(), fifo.borrow().queued()), (1, 5003));
        let mut sink = Socket::new(usize::MAX);
        let pumped = pump(&fifo, &mut sink, 65_536);
        assert!(matches!(pumped, Ok(Pumped::Closed(Close::Eof))));
        assert_eq!(sink.data, format!("ab{}d", "c".repeat(5000)).as_bytes());
    }
}

#[test]
fn a_sealed_queue_returns_what_is_appended() {
    let (fifo, mut later) = (new_fifo(usize::MAX), Fifo::new(usize::MAX));
    fifo.borrow_mut().seal();
    later.push_slice(b"a");
    assert!(later.push(hook()).is_none());
    later.push_bytes(&vec![b'b'; 5000].into());
    let dropped = fifo.borrow_mut().append(later);
    assert_eq!((dropped.len(), fifo.borrow().queued()), (2, 0));
}

#[test]
fn a_head_without_a_buffer_adopts_one() {
    let mut fifo = Fifo::new(65_536);
    let mut buffer = Vec::with_capacity(1000);
    fifo.adopt_buffer(&mut buffer);
    assert_eq!((fifo.memory(), buffer.capacity()), (1000, 0));
    // It has one now.
    let mut other = Vec::with_capacity(2000);
    fifo.adopt_buffer(&mut other);
    assert_eq!((fifo.memory(), other.capacity()), (1000, 2000));
}

#[test]
fn an_empty_head_releases_its_buffer() {
    let fifo = new_fifo(65_536);
    fifo.borrow_mut()
        .adopt_buffer(&mut Vec::with_capacity(1000));
    fifo.borrow_mut().push_slice(b"x");
    assert_eq!(fifo.borrow_mut().release_buffer().capacity(), 0);
    assert_eq!(fifo.borrow().queued(), 1);
    pump_limited(&fifo, usize::MAX).unwrap();
    assert_eq!(fifo.borrow_mut().release_buffer().capacity(), 1000);
    assert_eq!(fifo.borrow().memory(), 0);
}

#[test]
fn unused_capacity_of_more_than_8_kib_is_trimmed() {
    for (unused, left) in [(SLACK, SLACK), (SLACK + 1, 0), (100_000, 0)] {
        let mut fifo = Fifo::new(65_536);
        fifo.adopt_buffer(&mut Vec::with_capacity(20_000 + unused));
        fifo.push_slice(&[b'x'; 20_000]);
        assert!(fifo.trim().is_none());
        assert_eq!(fifo.memory(), 20_000 + left);
    }
}

#[test]
fn sent_bytes_are_removed_when_the_head_is_trimmed() {
    let fifo = new_fifo(usize::MAX);
    let head = fifo.borrow().memory();
    assert_eq!(head, 0);
    fifo.borrow_mut()
        .adopt_buffer(&mut Vec::with_capacity(50_000));
    fifo.borrow_mut().push_slice(&[b'x'; 20_000]);
    pump_limited(&fifo, 15_000).unwrap();
    assert!(fifo.borrow_mut().trim().is_none());
    assert_eq!(fifo.borrow().memory(), 5000);
}

/// The bytes before the mark count from the first that is not sent.
#[test]
fn the_room_below_the_mark_moves_with_what_is_sent() {
    let fifo = new_fifo(1000);
    fifo.borrow_mut().push_slice(&[b'x'; 1000]);
    pump_limited(&fifo, 400).unwrap();
    assert!(!fifo.borrow_mut().push_slice(&[b'x'; 400]));
    assert!(fifo.borrow_mut().push_slice(b"x"));
    assert_eq!(fifo.borrow().queued(), 1001);
}

/// The bytes that a part shares are sent, without a copy of them.
#[test]
fn a_large_part_may_be_shared_and_a_small_one_is_copied() {
    let whole = Bytes::from(vec![b's'; 10_000]);
    let shared = |part: &[u8]| Some(whole.slice_ref(part));
    for (part, is_shared) in [
        (&whole[..], true),
        (&whole[1..4097], true),
        (&whole[..4095], false),
    ] {
        let mut fifo = Fifo::new(100);
        assert!(fifo.push_slices(&[part], shared));
        assert_eq!(whole.is_unique(), !is_shared, "{} bytes", part.len());
        assert_eq!(fifo.queued(), part.len());
        let item = fifo.discard().pop_front();
        match item {
            Some(Item::Large(queued)) => assert_eq!(queued.as_ptr(), part.as_ptr()),
            _ => assert!(!is_shared),
        }
    }
    // Where it fits into the buffer at hand, nobody is asked.
    let mut fifo = Fifo::new(100_000);
    assert!(!fifo.push_slices(&[&whole, b"x"], |_| panic!("asked")));
}

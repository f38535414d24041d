//! Spare buffers for the heads of queues that are filled between the turns of their connections.
//!
//! A connection that has its turn gets the buffer of its loop. A broadcast, or a timer, fills the queues of many connections
//! before any of them has its turn, so each needs a buffer. An idle connection keeps none. To allocate them and to free them
//! took a seventh of the instructions of a delivery, because a thousand blocks of one size are more than an allocator keeps
//! at hand.

use std::cell::RefCell;

use super::COPIED;

/// How many buffers a thread keeps.
const MOST: usize = 1024;

/// How many bytes the buffers may have in all.
const MOST_BYTES: usize = 1 << 20;

struct Spare {
    /// The last that was kept is the first to be used again: the processor has it in its cache.
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

thread_local! {
    static SPARE: RefCell<Spare> = const {
        RefCell::new(Spare { buffers: Vec::new(), bytes: 0 })
    };
}

/// Gives `head`, which has no buffer, a spare one for `least` bytes, if there is one. A buffer that is too small is
/// freed: the other members get the same pushes, which would not fit either.
pub(super) fn take(head: &mut Vec<u8>, least: usize) {
    if least > COPIED {
        return;
    }
    // It fails while the thread ends, whose buffers are freed.
    let _ = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if let Some(buffer) = spare.buffers.pop() {
            spare.bytes -= buffer.capacity();
            if buffer.capacity() >= least {
                *head = buffer;
            }
        }
    });
}

/// Keeps a buffer that is not needed any more, if it is small and there is room.
#[inline(never)] // Most turns have none.
pub(crate) fn keep(mut buffer: Vec<u8>) {
    let _ = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        let bytes = spare.bytes + buffer.capacity();
        let has_room = bytes <= MOST_BYTES && spare.buffers.len() < MOST;
        if has_room && buffer.capacity() <= COPIED {
            buffer.clear();
            spare.buffers.push(buffer);
            spare.bytes = bytes;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The capacity of the buffer that was given.
    fn taken(least: usize) -> usize {
        let mut head = Vec::new();
        take(&mut head, least);
        assert!(head.is_empty());
        head.capacity()
    }

    fn spare_count_and_bytes() -> (usize, usize) {
        SPARE.with_borrow(|spare| (spare.buffers.len(), spare.bytes))
    }

    #[test]
    fn spare_buffers_are_bounded_and_reused() {
        for _ in 0..2 {
            for _ in 0..10_000 {
                keep(Vec::with_capacity(1024));
            }
            assert_eq!(spare_count_and_bytes(), (MOST, MOST * 1024));
            for _ in 0..MOST {
                assert_eq!(taken(1000), 1024);
            }
            assert_eq!(taken(1), 0);
            assert_eq!(spare_count_and_bytes(), (0, 0));
        }
        for _ in 0..10_000 {
            keep(Vec::with_capacity(COPIED));
        }
        assert_eq!(spare_count_and_bytes(), (MOST_BYTES / COPIED, MOST_BYTES));
    }

    #[test]
    fn large_buffers_are_not_kept_and_small_ones_are_replaced() {
        keep(Vec::with_capacity(COPIED + 1));
        assert_eq!(taken(1), 0);
        keep(Vec::from("abc"));
        assert_eq!(taken(100), 0);
        assert_eq!(spare_count_and_bytes(), (0, 0));
        keep(Vec::from("abc"));
        assert_eq!(taken(COPIED + 1), 0);
        assert_eq!(taken(3), 3);
    }
}

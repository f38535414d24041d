//! The system's allocator with counters, for tests that measure the allocations of their process.
#![allow(unsafe_code, reason = "a global allocator needs unsafe code")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// For this thread only: the threads of the test harness allocate at any time.
    static MADE: Cell<usize> = const { Cell::new(0) };
    /// Their sizes.
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
    /// Bytes that this thread has allocated, minus those that it has freed.
    static BALANCE: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: each call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // A thread that is ending has no thread-local values any more. It does not read the
        // counters.
        let _ = MADE.try_with(|made| made.set(made.get() + 1));
        let _ = ALLOCATED.try_with(|bytes| bytes.set(bytes.get() + layout.size()));
        add_to_balance(layout.size().cast_signed());
        // SAFETY: the caller upholds the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        add_to_balance(-layout.size().cast_signed());
        // SAFETY: the caller upholds the contract, which is the same.
        unsafe { System.dealloc(memory, layout) }
    }
}

fn add_to_balance(bytes: isize) {
    let _ = BALANCE.try_with(|balance| balance.set(balance.get() + bytes));
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes allocated and not freed.
#[allow(dead_code, reason = "not every test counts all threads")]
pub(crate) fn in_use() -> usize {
    IN_USE.load(Ordering::Relaxed)
}

/// How many allocations this thread has made.
#[allow(dead_code, reason = "not every test counts allocations")]
pub(crate) fn made() -> usize {
    MADE.get()
}

/// How many bytes this thread has allocated, including those that it has freed.
#[allow(dead_code, reason = "not every test counts allocated bytes")]
pub(crate) fn allocated() -> usize {
    ALLOCATED.get()
}

/// Bytes that this thread has allocated, minus those that it has freed. Negative if it frees memory
/// that another thread has allocated.
#[allow(dead_code, reason = "not every test counts one thread")]
pub(crate) fn balance() -> isize {
    BALANCE.get()
}

//! The system's allocator, and how much of it is in use: a module of a test that counts what its
//! process has allocated.
#![allow(unsafe_code, reason = "an allocator cannot be had without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Of this thread: the test harness has threads of its own, which allocate when they like.
    static MADE: Cell<usize> = const { Cell::new(0) };
    /// Bytes that this thread has allocated, less those that it has freed.
    static BALANCE: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: each call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // A thread that is ending has none any more, and is not the one that asks.
        let _ = MADE.try_with(|made| made.set(made.get() + 1));
        add_to_balance(layout.size().cast_signed());
        // SAFETY: the caller keeps to the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        add_to_balance(-layout.size().cast_signed());
        // SAFETY: the caller keeps to the contract, which is the same.
        unsafe { System.dealloc(memory, layout) }
    }
}

fn add_to_balance(bytes: isize) {
    let _ = BALANCE.try_with(|balance| balance.set(balance.get() + bytes));
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes allocated and not freed.
#[allow(
    dead_code,
    reason = "not every test that counts bytes counts those of all threads"
)]
pub(crate) fn in_use() -> usize {
    IN_USE.load(Ordering::Relaxed)
}

/// How many allocations this thread has made.
#[allow(dead_code, reason = "not every test that counts bytes counts these")]
pub(crate) fn made() -> usize {
    MADE.get()
}

/// Bytes that this thread has allocated, less those that it has freed. Below zero where it frees what
/// another has allocated.
#[allow(
    dead_code,
    reason = "not every test that counts bytes does so for each thread"
)]
pub(crate) fn balance() -> isize {
    BALANCE.get()
}

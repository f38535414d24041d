//! Hostile peers, and how little harm they do: one kind in each test, bounded in count.
//!
//! The tests measure no time. They count what a peer costs: turns, wake-ups, records, bytes of
//! memory. A test that counts something of its whole process (memory, descriptors, the panic hook)
//! runs in processes of its own: see [`process`].

#[path = "../common/allocator.rs"]
mod allocator;
#[path = "../common/mod.rs"]
mod common;
mod process;

mod chat_room;
mod descriptors;
mod endless_line;
mod floods;
mod lingering;
mod never_reads;
mod panics;
mod quota;
mod resets;
mod slow_senders;
mod spinning;

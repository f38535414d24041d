//! Peers that mean harm, and how little of it they do: each of them alone, bounded in count.
//!
//! Nothing here is timed. What a peer costs is counted: turns, wake-ups, records, bytes of memory.
//! Where what is counted belongs to a whole process (memory, descriptors, the panic hook), the
//! test is played in processes of its own: see [`stage`].

#[path = "../common/allocator.rs"]
mod allocator;
#[path = "../common/mod.rs"]
mod common;
mod stage;

mod descriptors;
mod endless_line;
mod floods;
mod lingering;
mod never_reads;
mod panics;
mod places;
mod quiet;
mod resets;
mod room;
mod slow_senders;

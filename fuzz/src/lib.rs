//! What the fuzzers do to their input: a function for each of them, which panics when it has found
//! something.
//!
//! Each takes any bytes and makes the same of them every time. cargo-fuzz calls them from
//! `fuzz_targets/`. `tests/fuzz.rs` of the crate and `examples/tests/nntp_fuzz.rs` include these
//! modules, so that every `cargo test` runs them as well.

// Public in the fuzzers' package, a module's own in the test.
#![allow(unreachable_pub)]

mod choices;
mod dot_block;
mod fifo;
mod naive;
mod nntp;
mod splitter;

pub use dot_block::{dot_block, smuggled, stuffed};
pub use fifo::fifo;
pub use nntp::nntp_command;
pub use splitter::splitter;

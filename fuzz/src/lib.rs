//! The fuzz targets: one function for each, which panics if it finds a defect.
//!
//! Each function accepts any bytes and is deterministic. cargo-fuzz calls them from
//! `fuzz_targets/`. `tests/fuzz.rs` of the crate and `examples/tests/nntp_fuzz.rs` include these
//! modules, so that `cargo test` runs them too.

// Public in the package of the fuzzers, private to the module in the tests.
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

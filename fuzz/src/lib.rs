//! The fuzz targets: a function for each, which panics if it finds a defect.
//!
//! Each accepts any bytes and is deterministic. cargo-fuzz calls the functions from `fuzz_targets/`.
//! `tests/fuzz.rs` of the crate includes this file as a module, so that `cargo test` runs them too.

// Public in the fuzzers' package, a module's own in the test.
#![allow(unreachable_pub)]

mod choices;
mod dot_block;
mod fifo;
#[path = "../../tests/common/naive.rs"]
mod naive;
mod nntp;
mod splitter;

pub use dot_block::{dot_block, smuggled, stuffed};
pub use fifo::fifo;
pub use nntp::nntp_command;
pub use splitter::splitter;

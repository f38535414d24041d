//! The fuzz targets: a function for each, which panics if it finds a defect.
//!
//! Each accepts any bytes and is deterministic. cargo-fuzz calls the functions from `fuzz_targets/`.
//! `tests/fuzz.rs` of the crate and `examples/tests/*_fuzz.rs` include these modules, so that
//! `cargo test` runs them too.

// Public in the fuzzers' package, private to the test.
#![allow(unreachable_pub)]

mod choices;
mod dot_block;
mod fifo;
#[path = "../../tests/fifo/model/mod.rs"]
mod fifo_model;
mod files;
mod http1;
#[path = "../../tests/common/naive.rs"]
mod naive;
mod nntp;
mod proxy_header;
mod splitter;
mod tls_stage;

pub use dot_block::{dot_block, smuggled, stuffed};
pub use fifo::fifo;
pub use files::files;
pub use http1::http1;
pub use nntp::nntp_command;
pub use proxy_header::proxy_header;
pub use splitter::splitter;
pub use tls_stage::tls_stage;

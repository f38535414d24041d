//! Runs the fuzz target of the `nntp` example on a bounded number of inputs: see fuzz/bounded.rs.

#![allow(
    unreachable_pub,
    reason = "these items are public in the package of the fuzzers"
)]

#[path = "../../fuzz/bounded.rs"]
mod bounded;
#[allow(dead_code, reason = "this target uses only a part of it")]
#[path = "../../tests/common/naive.rs"]
mod naive;
#[path = "../../fuzz/src/nntp/mod.rs"]
mod nntp;

#[test]
fn nntp_command() {
    bounded::fuzz("nntp_command", nntp::nntp_command);
}

//! The fuzzer of the `nntp` example without a fuzzer: see fuzz/bounded.rs.

// Public in the fuzzers' package, a module's own here.
#![allow(unreachable_pub)]

#[path = "../../fuzz/bounded.rs"]
mod bounded;
#[allow(dead_code, reason = "it reads more than this target needs")]
#[path = "../../tests/common/naive.rs"]
mod naive;
#[path = "../../fuzz/src/nntp/mod.rs"]
mod nntp;

#[test]
fn nntp_command() {
    bounded::fuzz("nntp_command", nntp::nntp_command);
}

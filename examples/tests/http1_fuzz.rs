//! Runs the fuzz target of the examples `files` and `proxy` on a bounded number of inputs: see fuzz/bounded.rs.

#![allow(
    unreachable_pub,
    reason = "these items are public in the package of the fuzzers"
)]

#[path = "../../fuzz/bounded.rs"]
mod bounded;
#[path = "../../fuzz/src/http1.rs"]
mod http1;
#[allow(dead_code, reason = "this target uses only a part of it")]
#[path = "../../tests/common/naive.rs"]
mod naive;

#[test]
fn http1() {
    bounded::fuzz("http1", http1::http1);
}

//! Runs the fuzz target of the example `files` on a bounded number of inputs: see fuzz/bounded.rs.

#![allow(
    unreachable_pub,
    reason = "these items are public in the package of the fuzzers"
)]

#[path = "../../fuzz/bounded.rs"]
mod bounded;
#[path = "../../fuzz/src/files.rs"]
mod files;

#[test]
fn files() {
    bounded::fuzz("files", files::files);
}

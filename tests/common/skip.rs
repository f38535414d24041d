//! Reports a test that cannot run on this machine.

use std::io::{Write, stderr};
use std::thread;

/// Reports that the running test is skipped. The test harness captures `println!` and `eprintln!` of a
/// test that passes, so this writes to standard error directly.
pub(crate) fn skipped(why: &str) {
    let thread = thread::current();
    let test = thread.name().unwrap_or("a test");
    let _ = writeln!(stderr(), "SKIPPED {test}: {why}");
}

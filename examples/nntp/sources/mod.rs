//! Sources of articles that were not posted.

#![allow(
    unreachable_pub,
    reason = "in a program, `pub` items are visible to the other modules only"
)]

mod address;
pub mod docs;
pub mod git;
pub mod mbox;

/// Replaces each LF by CRLF.
fn crlf(text: &str) -> String {
    text.lines().flat_map(|line| [line, "\r\n"]).collect()
}

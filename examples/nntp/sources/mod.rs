//! Where the articles come from that were not posted here.

// In a program `pub` is what a module offers its neighbours.
#![allow(unreachable_pub)]

mod address;
pub mod docs;
pub mod git;
pub mod mbox;

/// LF to CRLF, for text that is in memory.
fn crlf(text: &str) -> String {
    text.lines().flat_map(|line| [line, "\r\n"]).collect()
}

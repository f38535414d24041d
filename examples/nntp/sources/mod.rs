//! Where the articles come from that were not posted here.

// In a program `pub` is what a module offers its neighbours.
#![allow(unreachable_pub)]

pub mod docs;
pub mod git;
pub mod mbox;

use mail_builder::headers::{Header, text::Text};

/// The value of a From field: a name in quotes, or as encoded words (RFC 2047)
/// when it is not of ASCII.
fn address(name: &str, email: &str) -> String {
    if name.is_ascii() {
        let name = name.replace(['"', '\\', '\r', '\n'], "");
        format!("\"{name}\" <{email}>")
    } else {
        format!("{} <{email}>", text(name))
    }
}

/// Any text as the value of a field, in encoded words and folded if need be.
fn text(value: &str) -> String {
    let mut folded = Vec::new();
    // Writing to memory does not fail.
    let _ = Text::new(value).write_header(&mut folded, "Subject: ".len());
    String::from_utf8_lossy(&folded).trim_end().to_owned()
}

/// LF to CRLF, for text that is in memory.
fn crlf(text: &str) -> String {
    text.lines().flat_map(|line| [line, "\r\n"]).collect()
}

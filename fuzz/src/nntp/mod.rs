//! Commands that a peer sends to the `nntp` example: each one gets exactly one well-formed reply,
//! and no bytes of the peer become a line of their own in it.

mod conversation;
mod words;

// The server module of the example, unchanged.
#[allow(dead_code, reason = "nothing here keeps its posts in a database")]
#[path = "../../../examples/nntp/server/mod.rs"]
mod server;

use conversation::converse;

/// Sends `input` to a server, and parses its words with the parsers of arguments.
pub fn nntp_command(input: &[u8]) {
    // Longer than any command line, so that limits are reached.
    let input = input.get(..4096).unwrap_or(input);
    words::parse(input);
    converse(input);
}

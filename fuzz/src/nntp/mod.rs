//! What a peer can say to the `nntp` example: whatever it is, each command has one answer, which is
//! well-formed, and nothing of the peer's becomes a line of it.

mod conversation;
mod words;

// The example's server, as it is.
#[allow(dead_code, reason = "nothing here keeps its posts in a database")]
#[path = "../../../examples/nntp/server/mod.rs"]
mod server;

use conversation::converse;

/// Says the bytes of `input` to a server, and feeds their words to the parsers of arguments.
pub fn nntp_command(input: &[u8]) {
    // Longer than any command line, so that limits are met.
    let input = input.get(..4096).unwrap_or(input);
    words::parse(input);
    converse(input);
}

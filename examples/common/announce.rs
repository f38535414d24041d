//! What a server says on standard output.

use std::fmt::Display;
use std::io::Write;

/// Says where a server listens, once it accepts.
pub(crate) fn announce(addr: impl Display) {
    say(format_args!("listening on {addr}"));
}

/// Writes a line to standard output. `println!` would panic if that is full or closed, and that is no
/// reason not to serve.
pub(crate) fn say(line: impl Display) {
    if let Err(error) = writeln!(std::io::stdout(), "{line}") {
        tracing::warn!(%error, %line, "standard output cannot be written to");
    }
}

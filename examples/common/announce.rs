//! Lines that a program prints on standard output.

use std::fmt::Display;
use std::io::Write;

/// Prints the address that a server listens on. Call it once the server accepts connections.
pub(crate) fn announce(addr: impl Display) {
    say(format_args!("listening on {addr}"));
}

/// Prints a line. `println!` would panic when standard output is full or closed, and a server should
/// continue then.
pub(crate) fn say(line: impl Display) {
    if let Err(error) = writeln!(std::io::stdout(), "{line}") {
        tracing::warn!(%error, %line, "cannot write to standard output");
    }
}

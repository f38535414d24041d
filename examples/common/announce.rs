//! What a program prints. `println!` and `eprintln!` would panic when their stream is full or closed.

use std::fmt::Display;
use std::io::{self, Write};

/// Prints the address that a server listens on. Call it once the server accepts connections.
pub(crate) fn announce(addr: impl Display) {
    say(format_args!("listening on {addr}"));
}

/// Prints a line on standard output. A server continues when that fails.
pub(crate) fn say(line: impl Display) {
    if let Err(error) = print(format_args!("{line}\n")) {
        tracing::warn!(%error, %line, "cannot write to standard output");
    }
}

/// Prints a text on standard output. If the reader has left (`| head`), that is no failure.
pub(crate) fn print(text: impl Display) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match write!(output, "{text}").and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// Prints a line on standard error, mostly why the program ends. When that fails, only the exit status is left to tell.
pub(crate) fn print_to_stderr(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

//! An access log: a line for each request, written when there are many, as nginx and `files` do in the comparison.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::Path;

/// The start of a line in the combined format. Its time is that of the epoch, and it names neither a status nor a user
/// agent: to find these costs little beside the line.
pub(crate) struct AccessLog(BufWriter<File>);

impl AccessLog {
    pub(crate) fn create(path: &Path) -> io::Result<AccessLog> {
        let file = File::create(path)?;
        Ok(AccessLog(BufWriter::with_capacity(32 << 10, file)))
    }

    pub(crate) fn add(&mut self, peer: Option<SocketAddr>, method: &str, target: &str) {
        let ip = peer.map_or(std::net::Ipv4Addr::UNSPECIFIED.into(), |peer| peer.ip());
        let outcome = writeln!(
            self.0,
            "{ip} - - [01/Jan/1970:00:00:00 +0000] \"{method} {target} HTTP/1.1\" 200 -"
        );
        if let Err(error) = outcome {
            eprintln!("the access log cannot be written: {error}");
        }
    }
}

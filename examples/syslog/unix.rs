//! A socket in the Unix domain, at a path.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use asynchat::Result;

/// A socket for datagrams at this path. A socket that refuses connections is left over from a program
/// that was killed, and is replaced.
pub(crate) fn bind(path: &Path) -> Result<UnixDatagram> {
    if is_stale(path) {
        tracing::info!(path = %path.display(), "replacing a socket that is left over");
        fs::remove_file(path)?;
    }
    let socket = UnixDatagram::bind(path)
        .map_err(|error| format!("listen on {}: {error}", path.display()))?;
    Ok(socket)
}

/// Linux refuses connections to files of other types too. Those must not be removed.
fn is_stale(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let probe = || UnixDatagram::unbound()?.connect(path);
    is_socket && probe().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

//! Creates the Unix-domain socket.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use asynchat::Result;

/// Creates a datagram socket at this path. If a socket is there that refuses connections, a killed program
/// has left it, and it is replaced.
pub(crate) fn bind(path: &Path) -> Result<UnixDatagram> {
    if is_stale(path) {
        tracing::info!(path = %path.display(), "replacing a stale socket");
        fs::remove_file(path)?;
    }
    let socket = UnixDatagram::bind(path)
        .map_err(|error| format!("listen on {}: {error}", path.display()))?;
    Ok(socket)
}

/// Whether the path is a socket that nobody listens on. The type is checked, because Linux also refuses
/// connections to other files, which must not be removed.
fn is_stale(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let probe = || UnixDatagram::unbound()?.connect(path);
    is_socket && probe().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

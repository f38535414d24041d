//! [`SocketFile`]: the file of a Unix-domain listener.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{self, Path, PathBuf};

use socket2::Socket;

use super::path_lock::PathLock;
use crate::log::log;

/// The file of a listening socket, which is removed when this is dropped, unless its path has another file by
/// then.
///
/// It is dropped before its socket closes. Until then the number of its inode is not used again, and nobody who
/// connects takes the file for a stale one. Therefore no other socket can be at the path unnoticed.
pub(crate) struct SocketFile {
    path: PathBuf,
    /// The device and the number of its inode.
    inode: (u64, u64),
    /// It is released after the file is removed.
    lock: Option<PathLock>,
}

impl SocketFile {
    /// `found` describes the file.
    pub(super) fn new(path: &Path, found: &Metadata) -> io::Result<Self> {
        let inode = inode_of(found);
        // The program may change its working directory.
        let path = path::absolute(path)?;
        let lock = None;
        Ok(SocketFile { path, inode, lock })
    }

    /// Has this lock of the path as long as it exists.
    pub(super) fn keep(&mut self, lock: Option<PathLock>) {
        self.lock = lock;
    }

    /// Sets the mode exactly, whatever the umask is. Where others may write to the folder, somebody may have put a
    /// symbolic link in the place of the file: the mode of the file that it names does not change.
    pub(super) fn set_mode(&self, mode: u32) -> io::Result<()> {
        let found = fs::symlink_metadata(&self.path)?;
        if inode_of(&found) == self.inode && found.permissions().mode() & 0o7777 == mode {
            return Ok(());
        }
        platform::set_mode(&self.path, self.inode, mode)
    }

    /// Does not remove the file.
    pub(crate) fn leave(mut self) {
        self.path.clear();
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| inode_of(&found) == self.inode)
            && let Err(error) = fs::remove_file(&self.path)
        {
            log!(debug, path = %self.path.display(), %error, "a socket file is not removed");
        }
    }
}

/// Sets the mode that the file of this socket has from its first moment, less the umask, where the system can.
pub(super) fn set_first_mode(socket: &Socket, mode: u32) {
    platform::set_first_mode(socket, mode);
}

fn inode_of(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod platform {
    use std::fs::{self, File, Permissions};
    use std::io;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use rustix::fs::{Mode, OFlags, fchmod, open};
    use socket2::Socket;

    use super::inode_of;

    /// unix(7) does not say so, but `bind` gives the file the mode of the descriptor (`unix_bind_bsd`). Not every
    /// emulation of Linux does. The mode is checked later.
    pub(super) fn set_first_mode(socket: &Socket, mode: u32) {
        let _ = fchmod(socket, Mode::from_raw_mode(mode));
    }

    /// `fchmodat` follows symbolic links before Linux 6.6. `O_PATH` with `O_NOFOLLOW` does not: open(2).
    pub(super) fn set_mode(path: &Path, inode: (u64, u64), mode: u32) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(open(path, flags, Mode::empty())?);
        if inode_of(&file.metadata()?) != inode {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another process has replaced the file",
            ));
        }
        let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
        fs::set_permissions(opened, Permissions::from_mode(mode))
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "redox")))]
mod platform {
    use std::io;
    use std::path::Path;

    use rustix::fs::{AtFlags, CWD, Mode, RawMode, chmodat};
    use socket2::Socket;

    /// `bind` does not use the mode of the descriptor, and some systems refuse `fchmod` for sockets.
    pub(super) fn set_first_mode(_: &Socket, _: u32) {}

    pub(super) fn set_mode(path: &Path, _: (u64, u64), mode: u32) -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode as RawMode);
        Ok(chmodat(CWD, path, mode, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

/// Redox has no `fchmodat`.
#[cfg(target_os = "redox")]
mod platform {
    use std::fs::{self, Permissions};
    use std::io;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use socket2::Socket;

    pub(super) fn set_first_mode(_: &Socket, _: u32) {}

    pub(super) fn set_mode(path: &Path, _: (u64, u64), mode: u32) -> io::Result<()> {
        fs::set_permissions(path, Permissions::from_mode(mode))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    /// `victim` has mode 600. The socket is replaced by what `replace` makes.
    fn replaced(replace: impl FnOnce(&Path, &Path)) {
        let folder = tempfile::tempdir().unwrap();
        let (path, victim) = (folder.path().join("socket"), folder.path().join("victim"));
        fs::write(&victim, "precious").unwrap();
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
        let _listener = UnixListener::bind(&path).unwrap();
        let file = SocketFile::new(&path, &fs::symlink_metadata(&path).unwrap()).unwrap();
        fs::remove_file(&path).unwrap();
        replace(&victim, &path);
        let outcome = file.set_mode(0o666);
        if cfg!(target_os = "linux") {
            assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        }
        assert_eq!(mode_of(&victim), 0o600);
        drop(file);
        assert!(fs::symlink_metadata(&path).is_ok() && victim.exists());
    }

    #[test]
    fn a_symbolic_link_in_the_place_of_the_file_is_not_followed() {
        replaced(|victim, path| symlink(victim, path).unwrap());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_hard_link_in_the_place_of_the_file_is_recognized() {
        replaced(|victim, path| fs::hard_link(victim, path).unwrap());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_file_never_has_more_than_the_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let socket = Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        set_first_mode(&socket, 0o600);
        socket
            .bind(&socket2::SockAddr::unix(&path).unwrap())
            .unwrap();
        assert_eq!(mode_of(&path), 0o600);
    }
}

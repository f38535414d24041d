//! New sockets of the Unix domain: listening and connecting.

#[cfg(unix)]
mod platform {
    use std::fs::{self, Metadata, Permissions};
    use std::io;
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
    use std::path::{self, Path, PathBuf};

    use socket2::{Domain, SockAddr, SockRef, Socket, Type};

    use crate::log::log;
    use crate::sys::socket::{ConnectOptions, Fd, ListenOptions};
    use crate::target::UnixName;

    /// A socket that listens, and the file that it has unless its name is abstract.
    pub(crate) fn listen(
        name: &UnixName,
        options: &ListenOptions,
    ) -> io::Result<(Fd, Option<SocketFile>)> {
        let (socket, addr) = (new()?, addr_of(name)?);
        let UnixName::Path(path) = name else {
            socket.bind(&addr)?;
            socket.listen(options.backlog)?;
            return Ok((Fd::Listener(socket), None));
        };
        if let Err(error) = socket.bind(&addr) {
            if error.kind() != io::ErrorKind::AddrInUse {
                return Err(error);
            }
            remove_stale(path, &addr)?;
            socket.bind(&addr)?;
        }
        let file = SocketFile::at(path)?;
        // Before it listens, no client can connect, whatever the mode is.
        if let Some(mode) = options.unix_mode {
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        socket.listen(options.backlog)?;
        Ok((Fd::Listener(socket), Some(file)))
    }

    /// A socket that is connected. Unlike TCP, the outcome does not have to be waited for.
    pub(crate) fn connect(name: &UnixName, options: &ConnectOptions) -> io::Result<Fd> {
        let (socket, addr) = (new()?, addr_of(name)?);
        if let Some(configure) = &options.configure {
            configure.call(&SockRef::from(&socket))?;
        }
        match socket.connect(&addr) {
            Ok(()) => Ok(Fd::Stream(socket)),
            // Linux: EAGAIN. Nothing says when there is room again.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "the backlog of the listener is full",
            )),
            Err(error) => Err(error),
        }
    }

    fn new() -> io::Result<Socket> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    fn addr_of(name: &UnixName) -> io::Result<SockAddr> {
        match name {
            UnixName::Path(path) => SockAddr::unix(path),
            #[cfg(any(target_os = "linux", target_os = "android"))]
            UnixName::Abstract(name) => SockAddr::unix(format!("\0{name}")),
            #[cfg(not(any(target_os = "linux", target_os = "android")))]
            UnixName::Abstract(_) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "only Linux has abstract names",
            )),
        }
    }

    /// Removes a socket file whose listener is gone, so that its path can be bound again.
    ///
    /// # Errors
    /// When the file is no socket, or when a process listens on it. Two processes that do this at the same moment
    /// may both succeed. The path is that of the second one then.
    fn remove_stale(path: &Path, addr: &SockAddr) -> io::Result<()> {
        if !fs::symlink_metadata(path)?.file_type().is_socket() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is a file, which is no socket",
            ));
        }
        let file = SocketFile::at(path)?;
        match new()?.connect(addr) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                log!(debug, path = %path.display(), "a stale socket is replaced");
                drop(file);
                return Ok(());
            }
            // Its backlog may be full.
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                file.leave();
                return Err(error);
            }
        }
        file.leave();
        Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process listens on it",
        ))
    }

    /// The file of a listening socket, which is removed when this is dropped, unless its path has another file by
    /// then.
    pub(crate) struct SocketFile {
        path: PathBuf,
        /// The device and the number of its inode.
        inode: (u64, u64),
    }

    impl SocketFile {
        fn at(path: &Path) -> io::Result<Self> {
            let inode = inode_of(&fs::symlink_metadata(path)?);
            // The program may change its working directory.
            let path = path::absolute(path)?;
            Ok(SocketFile { path, inode })
        }

        /// Does not remove the file.
        fn leave(mut self) {
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

    fn inode_of(file: &Metadata) -> (u64, u64) {
        (file.dev(), file.ino())
    }
}

#[cfg(not(unix))]
mod platform {
    use std::io;

    use crate::sys::socket::{ConnectOptions, Fd, ListenOptions};
    use crate::target::UnixName;

    /// The file of a listening socket.
    pub(crate) enum SocketFile {}

    pub(crate) fn listen(_: &UnixName, _: &ListenOptions) -> io::Result<(Fd, Option<SocketFile>)> {
        Err(unsupported())
    }

    pub(crate) fn connect(_: &UnixName, _: &ConnectOptions) -> io::Result<Fd> {
        Err(unsupported())
    }

    fn unsupported() -> io::Error {
        io::Error::new(
            io::ErrorKind::Unsupported,
            "this system has no Unix-domain sockets that can be waited for: use 127.0.0.1",
        )
    }
}

pub(crate) use platform::{SocketFile, connect, listen};

//! New sockets of the Unix domain: listening and connecting.

#[cfg(unix)]
mod platform {
    use std::fs;
    use std::io;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::FileTypeExt;
    use std::path::Path;

    use socket2::{Domain, SockAddr, SockRef, Socket, Type};

    use crate::log::log;
    use crate::sys::socket::path_lock::PathLock;
    use crate::sys::socket::socket_file;
    pub(crate) use crate::sys::socket::socket_file::SocketFile;
    use crate::sys::socket::{ConnectOptions, Fd, ListenOptions};
    use crate::target::UnixName;

    /// Whether a connection to a listener whose backlog is full is refused, as if nobody listened. Linux says EAGAIN
    /// instead. So elsewhere a listener keeps the lock of its path, and another one that has the lock knows that the
    /// socket it finds is stale.
    const REFUSES_WHEN_FULL: bool = cfg!(not(any(target_os = "linux", target_os = "android")));

    /// A socket that listens, and the file that it has unless its name is abstract.
    pub(crate) fn listen(
        name: &UnixName,
        options: &ListenOptions,
    ) -> io::Result<(Fd, Option<SocketFile>)> {
        listen_with(name, options, REFUSES_WHEN_FULL)
    }

    fn listen_with(
        name: &UnixName,
        options: &ListenOptions,
        keeps_lock: bool,
    ) -> io::Result<(Fd, Option<SocketFile>)> {
        let (socket, addr) = (new()?, addr_of(name)?);
        let UnixName::Path(path) = name else {
            socket.bind(&addr)?;
            socket.listen(options.backlog)?;
            return Ok((Fd::Listener(socket), None));
        };
        // Until it listens, a socket looks like a stale one to other processes.
        let lock = PathLock::acquire(path)?;
        if let Some(mode) = options.unix_mode {
            socket_file::set_first_mode(&socket, mode);
        }
        if let Err(error) = socket.bind(&addr) {
            if error.kind() != io::ErrorKind::AddrInUse {
                return Err(error);
            }
            remove_stale(path, &addr)?;
            socket.bind(&addr)?;
        }
        let mut file = SocketFile::new(path, &fs::symlink_metadata(path)?)?;
        // Before it listens, no client can connect, whatever the mode is.
        if let Some(mode) = options.unix_mode {
            file.set_mode(mode)?;
        }
        socket.listen(options.backlog)?;
        if keeps_lock {
            file.keep(lock);
        }
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
            // The system would read the path up to this byte only.
            UnixName::Path(path) if path.as_os_str().as_bytes().contains(&0) => Err(
                io::Error::new(io::ErrorKind::InvalidInput, "the path contains a NUL byte"),
            ),
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
    /// When the file is no socket, or when a process listens on it.
    fn remove_stale(path: &Path, addr: &SockAddr) -> io::Result<()> {
        let file = match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => SocketFile::new(path, &found)?,
            Ok(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "there is a file, which is no socket",
                ));
            }
            // Its listener has closed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
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
                return match error.kind() {
                    io::ErrorKind::NotFound => Ok(()),
                    _ => Err(error),
                };
            }
        }
        file.leave();
        Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process listens on it",
        ))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        /// As on macOS and the BSDs, where a full backlog of the first one looks like a stale socket.
        #[test]
        fn a_listener_that_keeps_its_lock_is_not_replaced() {
            let folder = tempfile::tempdir().unwrap();
            let name = UnixName::Path(folder.path().join("socket"));
            let options = ListenOptions::default();
            let first = listen_with(&name, &options, true).unwrap();
            let second = listen(&name, &options).map_err(|error| error.kind());
            assert_eq!(second.err(), Some(io::ErrorKind::AddrInUse));
            drop(first);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
            listen(&name, &options).unwrap();
        }
    }
}

#[cfg(not(unix))]
mod platform {
    use std::io;

    use crate::sys::socket::{ConnectOptions, Fd, ListenOptions};
    use crate::target::UnixName;

    /// The file of a listening socket.
    pub(crate) enum SocketFile {}

    impl SocketFile {
        pub(crate) fn leave(self) {
            match self {}
        }
    }

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

//! Who is at the other end of a Unix-domain connection.

use std::io;

use socket2::{Domain, SockRef};

/// The user and the process at the other end of a Unix-domain connection: those of the moment at which it
/// connected, or began to listen. From [`Chat::peer_credentials`](crate::Chat::peer_credentials).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Credentials {
    /// The effective user id.
    pub uid: u32,
    /// The effective group id.
    pub gid: u32,
    /// The process id. Only Linux and Android have it, and not for a process of another PID namespace. The
    /// process may have ended, and another may have its id.
    pub pid: Option<u32>,
}

/// The credentials of the peer of this socket.
///
/// # Errors
/// `Unsupported` when it is no Unix-domain socket, or when the system does not have them.
pub(super) fn peer_credentials(socket: &SockRef<'_>) -> io::Result<Credentials> {
    // Linux answers for other sockets as well, with ids that do not exist.
    match socket.local_addr()?.domain() {
        Domain::UNIX => platform::peer_credentials(socket),
        _ => Err(unsupported("only a Unix-domain socket has them")),
    }
}

fn unsupported(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, why)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod platform {
    use std::ffi::{c_int, c_uint, c_void};
    use std::os::fd::AsRawFd;

    use super::{Credentials, SockRef, io};

    /// `struct ucred`, unix(7). rustix has a safe function, but its type has no process id of 0, which the
    /// kernel returns for a process of another PID namespace.
    #[repr(C)]
    struct UCred {
        pid: c_int,
        uid: c_uint,
        gid: c_uint,
    }

    const SOL_SOCKET: c_int = if cfg!(any(
        target_arch = "mips",
        target_arch = "mips64",
        target_arch = "sparc",
        target_arch = "sparc64"
    )) {
        0xffff
    } else {
        1
    };

    const SO_PEERCRED: c_int = if cfg!(any(target_arch = "mips", target_arch = "mips64")) {
        18
    } else if cfg!(any(target_arch = "powerpc", target_arch = "powerpc64")) {
        21
    } else if cfg!(any(target_arch = "sparc", target_arch = "sparc64")) {
        0x40
    } else {
        17
    };

    #[allow(unsafe_code)]
    pub(super) fn peer_credentials(socket: &SockRef<'_>) -> io::Result<Credentials> {
        unsafe extern "C" {
            fn getsockopt(
                socket: c_int,
                level: c_int,
                option: c_int,
                value: *mut c_void,
                length: *mut c_uint,
            ) -> c_int;
        }

        let mut peer = UCred {
            pid: 0,
            uid: c_uint::MAX,
            gid: c_uint::MAX,
        };
        let mut length = size_of::<UCred>() as c_uint;
        // SAFETY: the declaration is that of sys/socket.h, where `socklen_t` is an unsigned int. The descriptor
        // is open, because `socket` borrows it. getsockopt writes at most `length` bytes through the first
        // pointer, which is to a struct of that size, and their number through the second. Both variables
        // outlive the call, and every bit pattern is valid for their types.
        let outcome = unsafe {
            getsockopt(
                socket.as_raw_fd(),
                SOL_SOCKET,
                SO_PEERCRED,
                (&raw mut peer).cast(),
                &raw mut length,
            )
        };
        if outcome < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Credentials {
            uid: peer.uid,
            gid: peer.gid,
            pid: u32::try_from(peer.pid).ok().filter(|pid| *pid > 0),
        })
    }
}

#[cfg(any(
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly"
))]
mod platform {
    use std::ffi::{c_int, c_uint};
    use std::os::fd::AsRawFd;

    use super::{Credentials, SockRef, io};

    #[allow(unsafe_code)]
    pub(super) fn peer_credentials(socket: &SockRef<'_>) -> io::Result<Credentials> {
        unsafe extern "C" {
            fn getpeereid(socket: c_int, uid: *mut c_uint, gid: *mut c_uint) -> c_int;
        }

        let (mut uid, mut gid): (c_uint, c_uint) = (c_uint::MAX, c_uint::MAX);
        // SAFETY: the declaration is that of getpeereid(3), where `uid_t` and `gid_t` are 32-bit unsigned
        // integers. The descriptor is open, because `socket` borrows it. getpeereid writes one such integer
        // through each pointer. Both variables outlive the call.
        let outcome = unsafe { getpeereid(socket.as_raw_fd(), &raw mut uid, &raw mut gid) };
        if outcome < 0 {
            return Err(io::Error::last_os_error());
        }
        let pid = None;
        Ok(Credentials { uid, gid, pid })
    }
}

/// Other systems have other calls for it.
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly"
)))]
mod platform {
    use super::{Credentials, SockRef, io, unsupported};

    pub(super) fn peer_credentials(_: &SockRef<'_>) -> io::Result<Credentials> {
        Err(unsupported("this system does not have them"))
    }
}

//! How many sent bytes a socket's kernel holds that the peer's kernel has not acknowledged.
//!
//! Neither `rustix` nor `socket2` has a safe function for this. The calls here are `unsafe` because
//! the system writes through a pointer. Each call writes one `int`, and the pointer is to an `int`.

#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "netbsd"
))]
#[allow(unsafe_code)]
pub(super) fn unsent(socket: &socket2::Socket) -> Option<usize> {
    use std::ffi::c_int;

    use rustix::ioctl::{Getter, ioctl};

    // Only a socket has a type. For a device, the request's number may mean something else.
    socket.r#type().ok()?;
    // SAFETY: the descriptor is a socket. Every socket family that knows this request writes one `int`
    // and changes nothing else. The other families refuse the request.
    let count = unsafe { ioctl(socket, Getter::<UNSENT, c_int>::new()) };
    usize::try_from(count.ok()?).ok()
}

/// SIOCOUTQ (tcp(7), unix(7)), which has the same number as TIOCOUTQ. The number depends on the
/// architecture.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: rustix::ioctl::Opcode = if cfg!(any(target_arch = "mips", target_arch = "mips64")) {
    0x7472
} else if cfg!(any(
    target_arch = "powerpc",
    target_arch = "powerpc64",
    target_arch = "sparc",
    target_arch = "sparc64"
)) {
    0x4004_7473
} else {
    0x5411
};

/// FIONWRITE.
#[cfg(target_os = "freebsd")]
const UNSENT: rustix::ioctl::Opcode = rustix::ioctl::opcode::read::<std::ffi::c_int>(b'f', 119);
#[cfg(target_os = "netbsd")]
const UNSENT: rustix::ioctl::Opcode = rustix::ioctl::opcode::read::<std::ffi::c_int>(b'f', 121);

#[cfg(target_vendor = "apple")]
#[allow(unsafe_code)]
pub(super) fn unsent(socket: &socket2::Socket) -> Option<usize> {
    use std::ffi::{c_int, c_uint, c_void};
    use std::os::fd::AsRawFd;

    const SOL_SOCKET: c_int = 0xffff;
    const SO_NWRITE: c_int = 0x1024;

    unsafe extern "C" {
        fn getsockopt(
            socket: c_int,
            level: c_int,
            option: c_int,
            value: *mut c_void,
            length: *mut c_uint,
        ) -> c_int;
    }

    let mut count: c_int = 0;
    let mut length = size_of::<c_int>() as c_uint;
    // SAFETY: the declaration is that of sys/socket.h. The descriptor is open, because `socket` is
    // borrowed. getsockopt writes at most `length` bytes through the first pointer, which is to an
    // `int` of that size, and their number through the second. Both variables outlive the call.
    let outcome = unsafe {
        getsockopt(
            socket.as_raw_fd(),
            SOL_SOCKET,
            SO_NWRITE,
            (&raw mut count).cast(),
            &raw mut length,
        )
    };
    if outcome < 0 {
        return None;
    }
    usize::try_from(count).ok()
}

/// Other systems do not say.
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "netbsd",
    target_vendor = "apple"
)))]
pub(super) fn unsent(_: &socket2::Socket) -> Option<usize> {
    None
}

#[cfg(all(test, any(target_os = "linux", target_vendor = "apple")))]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use socket2::SockRef;

    use super::unsent;

    /// The peer's kernel may delay an acknowledgement.
    fn wait_for(stream: &TcpStream, done: impl Fn(usize) -> bool) {
        let started = std::time::Instant::now();
        while !done(unsent(&SockRef::from(stream)).unwrap()) {
            assert!(started.elapsed().as_secs() < 20, "the count stays as it is");
            std::thread::yield_now();
        }
    }

    #[test]
    fn bytes_are_unsent_until_the_peer_reads() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        wait_for(&near, |left| left == 0);

        near.set_nonblocking(true).unwrap();
        while near.write(&[b'x'; 64 * 1024]).is_ok() {}
        wait_for(&near, |left| left > 0);

        near.shutdown(std::net::Shutdown::Write).unwrap();
        far.read_to_end(&mut Vec::new()).unwrap();
        wait_for(&near, |left| left == 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn other_descriptors_have_no_count() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let not_a_socket = socket2::Socket::from(std::os::fd::OwnedFd::from(file));
        assert_eq!(unsent(&not_a_socket), None);
    }
}

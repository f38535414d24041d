//! How many bytes a socket's kernel holds that the peer's has not taken yet.
//!
//! Neither `rustix` nor `socket2` has a safe function for this. The calls here are `unsafe` because
//! they write through a pointer: each writes one `int`, and the pointer is to one.

#[cfg(any(target_os = "freebsd", target_os = "netbsd"))]
use libc::FIONWRITE as UNSENT;
/// For sockets it is called SIOCOUTQ: tcp(7), unix(7).
#[cfg(any(target_os = "linux", target_os = "android"))]
use libc::TIOCOUTQ as UNSENT;

#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "netbsd"
))]
#[allow(unsafe_code)]
pub(super) fn unsent(socket: &socket2::Socket) -> Option<usize> {
    use std::os::fd::AsRawFd;

    // Only a socket has a type. A device might take the request for another of its own.
    socket.r#type().ok()?;
    let mut count: libc::c_int = 0;
    // SAFETY: the descriptor is open, for `socket` is borrowed, and it is a socket. All families of
    // sockets that know this request write one `int` through the pointer, which is to an `int` that
    // outlives the call, and change nothing else; the others refuse it.
    let outcome = unsafe { libc::ioctl(socket.as_raw_fd(), UNSENT, &raw mut count) };
    if outcome < 0 {
        return None;
    }
    usize::try_from(count).ok()
}

#[cfg(target_vendor = "apple")]
#[allow(unsafe_code)]
pub(super) fn unsent(socket: &socket2::Socket) -> Option<usize> {
    use std::os::fd::AsRawFd;

    let mut count: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open, for `socket` is borrowed. getsockopt writes at most `length`
    // bytes through the first pointer, which is to an `int` of that size, and the number of them
    // through the second; both outlive the call.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NWRITE,
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

    /// What the peer's kernel has taken it acknowledges in its own time.
    fn wait_for(stream: &TcpStream, done: impl Fn(usize) -> bool) {
        let started = std::time::Instant::now();
        while !done(unsent(&SockRef::from(stream)).unwrap()) {
            assert!(started.elapsed().as_secs() < 20, "it did not come to that");
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_the_peer_has_not_taken_is_unsent_until_it_reads() {
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
    fn of_what_is_no_socket_nothing_is_asked() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let disguised = socket2::Socket::from(std::os::fd::OwnedFd::from(file));
        assert_eq!(unsent(&disguised), None);
    }
}

//! The kinds of stream sockets. A test runs over each of them, as in CPython's suite.

use std::net::{SocketAddr, TcpListener, TcpStream};

use asynchat::Socket;

/// A kind of stream sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
    #[cfg(unix)]
    Unix,
}

/// The address of a listener.
pub(crate) enum ListenAddr {
    Inet(SocketAddr),
    #[cfg(unix)]
    Unix(std::path::PathBuf),
}

impl Family {
    /// Whether this machine supports it.
    pub(crate) fn is_supported(self) -> bool {
        self != Family::Ipv6 || TcpListener::bind("[::1]:0").is_ok()
    }

    /// Whether its addresses are IP addresses rather than paths.
    pub(crate) fn is_inet(self) -> bool {
        matches!(self, Family::Ipv4 | Family::Ipv6)
    }

    /// A listening socket, and its address.
    pub(crate) fn listen(self) -> (Socket, ListenAddr) {
        let addr = match self {
            Family::Ipv4 => "127.0.0.1:0",
            Family::Ipv6 => "[::1]:0",
            #[cfg(unix)]
            Family::Unix => return listen_on_a_path(),
        };
        let listener = TcpListener::bind(addr).expect("a port is free");
        let addr = listener.local_addr().expect("it is bound");
        (listener.into(), ListenAddr::Inet(addr))
    }

    /// The two ends of a connection.
    pub(crate) fn pair(self) -> (Socket, Socket) {
        #[cfg(unix)]
        if self == Family::Unix {
            let pair = std::os::unix::net::UnixStream::pair();
            let (near, far) = pair.expect("sockets can be made");
            return (near.into(), far.into());
        }
        let addr = if self == Family::Ipv6 {
            "[::1]:0"
        } else {
            "127.0.0.1:0"
        };
        let listener = TcpListener::bind(addr).expect("a port is free");
        let addr = listener.local_addr().expect("it is bound");
        let near = TcpStream::connect(addr).expect("it listens");
        let (far, _) = listener.accept().expect("it has a connection");
        (near.into(), far.into())
    }
}

#[cfg(unix)]
fn listen_on_a_path() -> (Socket, ListenAddr) {
    use std::sync::atomic::{AtomicUsize, Ordering};

    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("asynchat-{}-{count}.socket", std::process::id());
    let path = std::env::temp_dir().join(name);
    // A file that an earlier process with the same number has left.
    let _ = std::fs::remove_file(&path);
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a path can be bound");
    (listener.into(), ListenAddr::Unix(path))
}

impl ListenAddr {
    /// A socket connected to this address.
    pub(crate) fn connect(&self) -> Socket {
        match self {
            ListenAddr::Inet(addr) => TcpStream::connect(addr).expect("it listens").into(),
            #[cfg(unix)]
            ListenAddr::Unix(path) => {
                let stream = std::os::unix::net::UnixStream::connect(path);
                stream.expect("it listens").into()
            }
        }
    }
}

impl Drop for ListenAddr {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let ListenAddr::Unix(path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Makes a test of each function for each family.
macro_rules! over_all_families {
    ($($test:ident),* $(,)?) => {
        $(mod $test {
            use crate::common::family::Family;

            #[test]
            fn ipv4() {
                super::$test(Family::Ipv4);
            }

            #[test]
            fn ipv6() {
                if Family::Ipv6.is_supported() {
                    super::$test(Family::Ipv6);
                }
            }

            #[cfg(unix)]
            #[test]
            fn unix() {
                super::$test(Family::Unix);
            }
        })*
    };
}
pub(crate) use over_all_families;

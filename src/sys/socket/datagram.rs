//! Sockets of datagrams.

use std::io;
use std::net::UdpSocket;
#[cfg(target_os = "android")]
use std::os::android::net::SocketAddrExt;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;

use socket2::SockRef;

use crate::Addr;
use crate::log::log;

/// A socket of datagrams.
pub(super) enum Datagram {
    Udp(UdpSocket),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixDatagram),
}

impl Datagram {
    pub(super) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Datagram::Udp(socket) => socket.recv(buffer),
            #[cfg(unix)]
            Datagram::Unix(socket) => socket.recv(buffer),
        }
    }

    /// What an earlier datagram to somebody else has come to (an ICMP message: ECONNREFUSED, on
    /// Windows WSAECONNRESET) is nothing that the next one's receiver can act on.
    pub(super) fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, Addr)> {
        match self {
            Datagram::Udp(socket) => loop {
                match socket.recv_from(buffer) {
                    Err(error) if is_of_another(&error) || is_too_long(&error) => {
                        log!(debug, %error, "a datagram is lost");
                    }
                    outcome => return outcome.map(|(count, peer)| (count, peer.into())),
                }
            },
            #[cfg(unix)]
            Datagram::Unix(socket) => {
                let (count, peer) = socket.recv_from(buffer)?;
                Ok((count, unix_addr(&peer)))
            }
        }
    }

    pub(super) fn send(&self, data: &[u8]) -> io::Result<usize> {
        match self {
            Datagram::Udp(socket) => socket.send(data),
            #[cfg(unix)]
            Datagram::Unix(socket) => socket.send(data),
        }
    }

    pub(super) fn send_to(&self, data: &[u8], addr: &Addr) -> io::Result<usize> {
        match (self, addr) {
            (Datagram::Udp(socket), Addr::Inet(addr)) => match socket.send_to(data, addr) {
                // Told now, of one sent before; it is told once.
                Err(error) if is_of_another(&error) => socket.send_to(data, addr),
                outcome => outcome,
            },
            #[cfg(unix)]
            (Datagram::Unix(socket), Addr::Unix(Some(path))) => socket.send_to(data, path),
            #[cfg(any(target_os = "linux", target_os = "android"))]
            (Datagram::Unix(socket), Addr::Abstract(name)) => {
                use std::os::unix::net::SocketAddr;
                socket.send_to_addr(data, &SocketAddr::from_abstract_name(name)?)
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "an address of another family than the socket's, or one without a name",
            )),
        }
    }

    pub(super) fn view(&self) -> SockRef<'_> {
        match self {
            Datagram::Udp(socket) => SockRef::from(socket),
            #[cfg(unix)]
            Datagram::Unix(socket) => SockRef::from(socket),
        }
    }
}

/// Windows tells of a datagram that does not fit as an error (WSAEMSGSIZE), without its sender; others
/// cut it.
fn is_too_long(error: &io::Error) -> bool {
    cfg!(windows) && error.raw_os_error() == Some(10_040)
}

#[cfg(unix)]
fn unix_addr(addr: &std::os::unix::net::SocketAddr) -> Addr {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(name) = addr.as_abstract_name() {
        return Addr::Abstract(name.into());
    }
    Addr::Unix(addr.as_pathname().map(Into::into))
}

fn is_of_another(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionRefused | ConnectionReset)
}

//! Datagram sockets.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use socket2::SockRef;

#[cfg(unix)]
use super::address::from_std;
use super::retry_interrupted;
use crate::addr::Addr;
use crate::log::log;

/// How many lost datagrams one call skips. Their senders must not occupy the loop.
const MOST_LOST: usize = 64;

const WINDOWS: bool = cfg!(windows);

/// A datagram socket.
pub(crate) enum Datagram {
    Udp(UdpSocket, Family),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixDatagram),
}

/// The address family of a UDP socket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Datagram {
    pub(super) fn udp(socket: UdpSocket) -> Self {
        let family = match socket.local_addr() {
            Ok(SocketAddr::V6(_)) => Family::V6,
            _ => Family::V4,
        };
        Datagram::Udp(socket, family)
    }

    #[inline(never)]
    pub(super) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            // Of a connected socket, the errors of earlier sends are its own.
            Datagram::Udp(socket, _) => {
                let received = retry_interrupted(|| socket.recv(buffer));
                received.map_err(|error| Lost::when(is_too_long(&error, WINDOWS), error))
            }
            #[cfg(unix)]
            Datagram::Unix(socket) => retry_interrupted(|| socket.recv(buffer)),
        }
    }

    /// Receives the next datagram. The error of another one is [`Lost`].
    pub(super) fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, Addr)> {
        match self {
            Datagram::Udp(socket, _) => {
                let received = retry_interrupted(|| socket.recv_from(buffer));
                let (count, peer) = received.map_err(|error| {
                    let is_lost =
                        is_of_earlier_send(&error, WINDOWS) || is_too_long(&error, WINDOWS);
                    Lost::when(is_lost, error)
                })?;
                Ok((count, peer.into()))
            }
            #[cfg(unix)]
            Datagram::Unix(socket) => {
                let (count, peer) = retry_interrupted(|| socket.recv_from(buffer))?;
                Ok((count, from_std(&peer)))
            }
        }
    }

    #[inline(never)]
    pub(super) fn send(&self, data: &[u8]) -> io::Result<usize> {
        retry_interrupted(|| match self {
            Datagram::Udp(socket, _) => socket.send(data),
            #[cfg(unix)]
            Datagram::Unix(socket) => socket.send(data),
        })
    }

    pub(super) fn send_to(&self, data: &[u8], addr: &Addr) -> io::Result<usize> {
        retry_interrupted(|| match (self, addr) {
            (Datagram::Udp(socket, family), Addr::Inet(addr)) => {
                let addr = addr_for(*family, *addr);
                match socket.send_to(data, addr) {
                    // The system reports it once, and has not sent this datagram.
                    Err(error) if is_of_earlier_send(&error, WINDOWS) => socket.send_to(data, addr),
                    outcome => outcome,
                }
            }
            #[cfg(unix)]
            (Datagram::Unix(socket), Addr::Unix(Some(path))) => socket.send_to(data, path),
            #[cfg(any(target_os = "linux", target_os = "android"))]
            (Datagram::Unix(socket), Addr::Abstract(name)) => {
                #[cfg(target_os = "android")]
                use std::os::android::net::SocketAddrExt;
                #[cfg(target_os = "linux")]
                use std::os::linux::net::SocketAddrExt;
                use std::os::unix::net::SocketAddr;
                socket.send_to_addr(data, &SocketAddr::from_abstract_name(name)?)
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the address is of another family than the socket, or has no name",
            )),
        })
    }

    pub(super) fn view(&self) -> SockRef<'_> {
        match self {
            Datagram::Udp(socket, _) => SockRef::from(socket),
            #[cfg(unix)]
            Datagram::Unix(socket) => SockRef::from(socket),
        }
    }
}

/// The address as a socket of this family takes it. A socket of both families receives from an IPv4 peer, whose
/// [`Addr`] is canonical. Of the IPv4 addresses it may only take IPv4-mapped ones (RFC 3493 section 3.7).
fn addr_for(family: Family, addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) if family == Family::V6 => (ip.to_ipv6_mapped(), addr.port()).into(),
        _ => addr,
    }
}

/// The error of a datagram that is lost, not of the receiver of the next one, who cannot act on it.
#[derive(Debug)]
struct Lost(io::Error);

impl Lost {
    fn when(is_lost: bool, error: io::Error) -> io::Error {
        if is_lost {
            io::Error::new(error.kind(), Lost(error))
        } else {
            error
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Lost {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

pub(crate) fn log_lost(error: &io::Error) {
    log!(debug, %error, "a datagram is lost");
}

/// Whether the error is that of a lost datagram.
pub(crate) fn is_lost(error: &io::Error) -> bool {
    matches!(error.get_ref(), Some(inner) if inner.is::<Lost>())
}

/// Makes the call again while its error is that of a lost datagram, which is logged. `receive` must hold no borrow when it
/// returns: a subscriber is user code, and may close the channel.
pub(crate) fn skip_lost<T>(mut receive: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..MOST_LOST {
        match receive() {
            Err(error) if is_lost(&error) => log_lost(&error),
            outcome => return outcome,
        }
    }
    // The poller reports the rest.
    Err(io::ErrorKind::WouldBlock.into())
}

/// Whether the error is the answer (an ICMP message) to a datagram that was sent before, perhaps to
/// somebody else: ECONNREFUSED, on Windows WSAECONNRESET, and WSAENETRESET when its time to live has expired.
fn is_of_earlier_send(error: &io::Error, on_windows: bool) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionRefused | ConnectionReset)
        || (on_windows && error.raw_os_error() == Some(10_052))
}

/// Windows reports a datagram that is longer than the buffer as an error (WSAEMSGSIZE), without its
/// sender. Other systems truncate it.
fn is_too_long(error: &io::Error, on_windows: bool) -> bool {
    on_windows && error.raw_os_error() == Some(10_040)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_lost_datagrams_does_not_occupy_the_loop() {
        let mut calls = 0;
        let outcome: io::Result<()> = skip_lost(|| {
            calls += 1;
            let refused = io::ErrorKind::ConnectionRefused.into();
            Err(Lost::when(true, refused))
        });
        assert_eq!(
            outcome.err().map(|it| it.kind()),
            Some(io::ErrorKind::WouldBlock)
        );
        assert_eq!(calls, MOST_LOST);
    }

    #[test]
    fn the_errors_of_windows_that_concern_other_datagrams_are_known() {
        let (net_reset, too_long) = (10_052, 10_040);
        let error = io::Error::from_raw_os_error;
        assert!(is_of_earlier_send(&error(net_reset), true));
        assert!(!is_of_earlier_send(&error(net_reset), false));
        assert!(!is_of_earlier_send(&error(too_long), true));
        assert!(is_too_long(&error(too_long), true));
        assert!(!is_too_long(&error(too_long), false));
    }

    /// Windows reports the first one as an error, and other systems truncate it.
    #[test]
    fn a_datagram_that_is_longer_than_the_buffer_hides_no_other() {
        let near = UdpSocket::bind("127.0.0.1:0").unwrap();
        let far = UdpSocket::bind("127.0.0.1:0").unwrap();
        near.connect(far.local_addr().unwrap()).unwrap();
        far.connect(near.local_addr().unwrap()).unwrap();
        let from = Addr::from(far.local_addr().unwrap());
        let near = Datagram::udp(near);
        let mut buffer = [0; 5];
        let long = if cfg!(windows) { None } else { Some(*b"a lon") };
        let expected: Vec<[u8; 5]> = long.into_iter().chain([*b"short"]).collect();
        let send = || {
            far.send(b"a long datagram").unwrap();
            far.send(b"short").unwrap();
        };

        send();
        for datagram in &expected {
            let received = skip_lost(|| near.recv(&mut buffer));
            assert_eq!(received.unwrap(), 5);
            assert_eq!(buffer, *datagram);
        }
        send();
        for datagram in &expected {
            let received = skip_lost(|| near.recv_from(&mut buffer));
            assert_eq!(received.unwrap(), (5, from.clone()));
            assert_eq!(buffer, *datagram);
        }
    }

    #[test]
    fn an_ipv6_socket_sends_to_the_ipv4_mapped_address() {
        let v4 = SocketAddr::from(([127, 0, 0, 1], 7));
        let v6 = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 7));
        let mapped: SocketAddr = "[::ffff:127.0.0.1]:7".parse().unwrap();
        assert_eq!(addr_for(Family::V6, v4), mapped);
        assert_eq!(addr_for(Family::V6, v6), v6);
        assert_eq!(addr_for(Family::V4, v4), v4);
    }
}

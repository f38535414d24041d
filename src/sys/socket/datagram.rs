//! Datagram sockets.

use std::io;
use std::net::UdpSocket;

use socket2::SockRef;

#[cfg(unix)]
use super::address::from_std;
use super::retry_interrupted;
use crate::addr::Addr;
use crate::log::log;

/// How many lost datagrams one call skips. Their senders must not occupy the loop.
const MOST_LOST: usize = 64;

/// A datagram socket.
pub(crate) enum Datagram {
    Udp(UdpSocket),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixDatagram),
}

impl Datagram {
    #[inline(never)]
    pub(super) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            // Of a connected socket, the errors of earlier sends are its own.
            Datagram::Udp(socket) => skip(is_too_long, || socket.recv(buffer)),
            #[cfg(unix)]
            Datagram::Unix(socket) => retry_interrupted(|| socket.recv(buffer)),
        }
    }

    /// Receives the next datagram. The errors of others are logged and skipped: the receiver of this
    /// one cannot act on them.
    pub(super) fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, Addr)> {
        match self {
            Datagram::Udp(socket) => {
                let (count, peer) = skip(
                    |error| is_of_earlier_send(error) || is_too_long(error),
                    || socket.recv_from(buffer),
                )?;
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
            Datagram::Udp(socket) => socket.send(data),
            #[cfg(unix)]
            Datagram::Unix(socket) => socket.send(data),
        })
    }

    pub(super) fn send_to(&self, data: &[u8], addr: &Addr) -> io::Result<usize> {
        retry_interrupted(|| match (self, addr) {
            (Datagram::Udp(socket), Addr::Inet(addr)) => match socket.send_to(data, addr) {
                // The system reports it once, and has not sent this datagram.
                Err(error) if is_of_earlier_send(&error) => socket.send_to(data, addr),
                outcome => outcome,
            },
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
            Datagram::Udp(socket) => SockRef::from(socket),
            #[cfg(unix)]
            Datagram::Unix(socket) => SockRef::from(socket),
        }
    }
}

/// Makes the call again while its error is that of a lost datagram.
fn skip<T>(
    is_lost: impl Fn(&io::Error) -> bool,
    mut receive: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    for _ in 0..MOST_LOST {
        match retry_interrupted(&mut receive) {
            Err(error) if is_lost(&error) => log!(debug, %error, "a datagram is lost"),
            outcome => return outcome,
        }
    }
    // The poller reports the rest.
    Err(io::ErrorKind::WouldBlock.into())
}

/// Whether the error is the answer (an ICMP message) to a datagram that was sent before, perhaps to
/// somebody else: ECONNREFUSED, on Windows WSAECONNRESET, and WSAENETRESET when its time to live has expired.
fn is_of_earlier_send(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionRefused | ConnectionReset)
        || (cfg!(windows) && error.raw_os_error() == Some(10_052))
}

/// Windows reports a datagram that is longer than the buffer as an error (WSAEMSGSIZE), without its
/// sender. Other systems truncate it.
fn is_too_long(error: &io::Error) -> bool {
    cfg!(windows) && error.raw_os_error() == Some(10_040)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_lost_datagrams_does_not_occupy_the_loop() {
        let mut calls = 0;
        let outcome: io::Result<()> = skip(is_of_earlier_send, || {
            calls += 1;
            Err(io::ErrorKind::ConnectionRefused.into())
        });
        assert_eq!(
            outcome.err().map(|it| it.kind()),
            Some(io::ErrorKind::WouldBlock)
        );
        assert_eq!(calls, MOST_LOST);
    }
}

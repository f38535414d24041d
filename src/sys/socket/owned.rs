//! Sockets that leave the crate.

use std::io;
#[cfg(unix)]
use std::os::fd::OwnedFd as Owned;
#[cfg(windows)]
use std::os::windows::io::OwnedSocket as Owned;

use super::datagram::Datagram;
#[cfg(unix)]
use super::descriptor::Descriptor;
use super::{Fd, Socket};

/// The descriptor of a socket that a channel has [released](crate::Channel::release), or that
/// `handle_accepted` has received. It is non-blocking if it was a channel's. The file of a Unix-domain listener is
/// yours to remove from now on.
///
/// The error is `Unsupported` for a socket of [two descriptors](Socket::halves), a standard stream, and a
/// simulated socket. The socket is closed then.
impl TryFrom<Socket> for Owned {
    type Error = io::Error;

    fn try_from(mut socket: Socket) -> io::Result<Self> {
        if let Some(file) = socket.take_file() {
            file.leave();
        }
        match socket.into_halves() {
            (Fd::Stream(socket) | Fd::Ended(socket) | Fd::Listener(socket), None) => {
                Ok(socket.into())
            }
            (Fd::Datagram(Datagram::Udp(socket, _)), None) => Ok(socket.into()),
            #[cfg(unix)]
            (Fd::Datagram(Datagram::Unix(socket)), None) => Ok(socket.into()),
            #[cfg(unix)]
            (Fd::Descriptor(Descriptor::Owned(descriptor)), None) => Ok(descriptor),
            _ => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "two descriptors, a standard stream and a simulated socket have no descriptor to give away",
            )),
        }
    }
}

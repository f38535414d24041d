//! Whether an inherited stream socket listens.

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use socket2::Socket;

pub(super) fn listens(socket: &Socket) -> bool {
    #[cfg(not(target_vendor = "apple"))]
    if let Ok(listens) = rustix::net::sockopt::socket_acceptconn(socket) {
        return listens;
    }
    cannot_receive(socket)
}

/// The answer where the system has none: SO_ACCEPTCONN cannot be read on Apple's systems, DragonFly and older
/// versions of OpenBSD. A listener cannot receive, and reports that at once. A stream can, also when its peer is gone.
/// (getpeername(2) does not tell the two apart: on the BSDs a dead stream has no peer either.)
fn cannot_receive(socket: &Socket) -> bool {
    let mut byte = [0];
    let peeked = recv(socket, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    matches!(peeked, Err(Errno::NOTCONN))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use socket2::SockRef;

    use super::*;

    #[track_caller]
    fn assert_both(socket: impl Into<Socket>, expected: bool) {
        let socket = socket.into();
        assert_eq!(listens(&socket), expected);
        assert_eq!(cannot_receive(&socket), expected, "without SO_ACCEPTCONN");
    }

    #[test]
    fn a_listener_is_told_from_a_live_and_from_a_dead_stream() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let pair = || {
            let near = TcpStream::connect(addr).unwrap();
            (near, listener.accept().unwrap().0)
        };

        let (silent, _peer) = pair();
        assert_both(silent, false);
        let (sent_to, mut peer) = pair();
        peer.write_all(b"hello").unwrap();
        assert_both(sent_to, false);

        let (mut reset, peer) = pair();
        let linger = Some(Duration::ZERO);
        SockRef::from(&peer).set_linger(linger).unwrap();
        drop(peer);
        // Waits for the reset, and receives its error.
        assert!(reset.read(&mut [0]).is_err());
        assert!(reset.peer_addr().is_err(), "no peer is left to ask for");
        assert_both(reset, false);

        let _waiting = TcpStream::connect(addr).unwrap();
        assert_both(listener, true);
    }
}

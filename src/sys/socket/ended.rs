//! A connection that has ended in both directions before it is adopted. What it has received can still be read.
//!
//! XNU refuses every option of such a socket with EINVAL, and its non-blocking mode too (swift-nio #1030, #1041).
//! Without SO_NOSIGPIPE a send to it would raise SIGPIPE, so nothing is sent: [`Fd::Ended`](super::Fd::Ended).

use std::io;

use socket2::Socket;

/// Whether the system refuses options of a connection that has ended.
pub(super) const REFUSES_OPTIONS: bool = cfg!(target_vendor = "apple");

/// Makes a stream non-blocking, and keeps it from raising SIGPIPE.
pub(super) fn prepare(stream: &Socket) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    #[cfg(target_vendor = "apple")]
    stream.set_nosigpipe(true)?;
    Ok(())
}

/// Receives without blocking, whatever the mode of the socket is.
#[cfg(unix)]
#[cold]
pub(super) fn recv(stream: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
    use rustix::io::retry_on_intr;
    use rustix::net::{RecvFlags, recv};

    let mut receive = || recv(stream, &mut *buffer, RecvFlags::DONTWAIT);
    Ok(retry_on_intr(&mut receive)?.0)
}

#[cfg(not(unix))]
#[cold]
pub(super) fn recv(mut stream: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
    io::Read::read(&mut stream, buffer)
}

#[cfg(test)]
mod tests {
    use std::io::{IoSlice, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::super::Fd;

    /// One end of a connection that both sides have finished, with unread input. It blocks.
    fn ended() -> (Fd, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        far.write_all(b"last words").unwrap();
        far.shutdown(Shutdown::Write).unwrap();
        near.shutdown(Shutdown::Write).unwrap();
        (Fd::stream(near), far)
    }

    fn refused() -> std::io::Result<()> {
        Err(std::io::ErrorKind::InvalidInput.into())
    }

    /// The error of a preparation is injected, as XNU reports it.
    #[test]
    fn what_an_ended_connection_has_received_is_read_and_nothing_is_sent() {
        let (mut fd, _far) = ended();
        fd.prepared(refused(), true).unwrap();
        fd.prepare().unwrap();
        let sent = [
            fd.send(b"x"),
            fd.send_vectored(&[IoSlice::new(b"x"), IoSlice::new(b"y")]),
            fd.send_urgent(b"x"),
        ];
        for outcome in sent {
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
            assert_eq!(error.raw_os_error(), None, "no call was made");
        }
        let mut buffer = [0; 100];
        assert_eq!(fd.recv(&mut buffer).unwrap(), b"last words".len());
        assert_eq!(fd.recv(&mut buffer).unwrap(), 0);
        assert!(fd.is_stream() && fd.view().is_ok());
    }

    #[test]
    fn elsewhere_a_refused_option_is_an_error() {
        assert!(ended().0.prepared(refused(), false).is_err());
        let other = Err(std::io::ErrorKind::PermissionDenied.into());
        assert!(ended().0.prepared(other, true).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn the_input_of_an_ended_connection_never_blocks() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut fd = Fd::stream(silent);
        fd.prepared(refused(), true).unwrap();
        let error = fd.recv(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    }
}

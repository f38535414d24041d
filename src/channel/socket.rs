//! What a channel offers of its socket: urgent data, any option, and the socket itself.

use std::io;

use socket2::SockRef;

use super::handle::Channel;
#[cfg(feature = "tls-no-provider")]
use crate::error::{Error, Result};
#[cfg(feature = "tls-no-provider")]
use crate::stage::{info::Info, side::Side as TlsSide};
#[cfg(feature = "tls-no-provider")]
use crate::state::Phase;
use crate::state::{Flag, Side, no_urgent_data};
use crate::sys::socket::{Fd, Socket};

#[cfg(doc)]
use crate::error::Close;

impl Channel {
    /// Sends `data` with its last byte marked as TCP urgent data. Python: `sock.send(data, MSG_OOB)`. The
    /// kernel may accept only a part, as for [`send`](Channel::send); send the rest with this method as well.
    ///
    /// Peers differ in how they receive that byte: at its place in the stream (SO_OOBINLINE), which RFC 6093
    /// section 6 recommends and a [`Chat`](crate::Chat) does, or apart from the stream, as
    /// [`recv_urgent`](Channel::recv_urgent) does.
    ///
    /// ```
    /// # fn abort_transfer(control: &asynchat::Channel) -> std::io::Result<()> {
    /// control.send_urgent(b"ABOR\r\n")?; // as ftplib sends it
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`send`](Channel::send). `Unsupported` when it is no stream socket.
    pub fn send_urgent(&self, data: &[u8]) -> io::Result<usize> {
        if self.0.flags.has(Flag::STAGED) {
            return Err(no_urgent_data());
        }
        self.send_by(Fd::send_urgent, data)
    }

    /// Receives the byte of TCP urgent data that [`handle_expt`](crate::Dispatcher::handle_expt) reports.
    /// Python: `sock.recv(1, MSG_OOB)`. The byte is no part of the stream that [`recv`](Channel::recv)
    /// returns. A byte that `handle_expt` does not receive is discarded after it.
    ///
    /// # Errors
    /// `WouldBlock` when there is none: a callback may return it with `?`. `Unsupported` on Windows, and when it
    /// is no stream socket. Others as [`recv`](Channel::recv).
    pub fn recv_urgent(&self) -> io::Result<u8> {
        let outcome = self.0.recv_urgent();
        let noted = outcome
            .as_ref()
            .map(|_| 1)
            .map_err(|error| error.kind().into());
        self.0.note(&noted, Side::Receiving);
        outcome
    }

    /// Calls `configure` with the socket: for the options that have no method here, to set them and to read
    /// them. It is [`socket2::SockRef`](https://docs.rs/socket2/latest/socket2/struct.SockRef.html), so no
    /// dependency has to be added for it. It belongs to a duplicate of the descriptor, which exists for the time
    /// of the call; options are shared by all duplicates. Do not read, write or shut down the socket through it,
    /// and do not make it blocking.
    ///
    /// With two descriptors ([`Socket::halves`]) it is that of the input.
    ///
    /// ```
    /// # fn main() -> asynchat::Result {
    /// # let channel = asynchat::Channel::bind("127.0.0.1:0")?;
    /// channel.configure(|socket| socket.set_broadcast(true))?;
    /// assert!(channel.configure(|socket| socket.broadcast())?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of `configure`. `NotConnected` when the channel is closed or not up yet. `Unsupported` when its
    /// socket is simulated. When the process has no descriptor left.
    pub fn configure<T>(
        &self,
        configure: impl FnOnce(&SockRef<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        // The closure is user code, so the socket is not borrowed while it runs.
        let duplicate = self.0.on_socket(Fd::duplicate)?;
        configure(&SockRef::from(&duplicate))
    }

    /// Begins TLS, as the side that `tls` is: an `Arc<ServerConfig>` or a [`tls::Acceptor`](crate::tls::Acceptor), or a
    /// [`tls::Client`](crate::tls::Client) or an `Arc<ClientConfig>`. Without a name in the client, the name of the
    /// server is the host name or the address that [`connect`](Channel::connect) was given. What this side has sent before is in clear. The
    /// dispatcher gets no callback for its socket until the handshake is complete; then
    /// [`handle_tls`](crate::Dispatcher::handle_tls) is called. On an outgoing channel that is not up yet, TLS begins
    /// when it is, and [`handle_connect`](crate::Dispatcher::handle_connect) is called after the handshake. If the
    /// handshake fails, the channel ends with [`Close::Tls`], or with [`Close::ConnectFailed`].
    ///
    /// Needs the feature `tls` or `tls-no-provider`.
    ///
    /// In STARTTLS, call this when the command, or the reply that permits TLS, has been received, and nothing after
    /// it: bytes that the dispatcher has received after it are somebody else's (CVE-2011-0411), and must be an error.
    ///
    /// Afterwards [`recv`](Channel::recv) and [`send`](Channel::send) are of plaintext. At the end of the input without the
    /// peer's announcement (`close_notify`), `recv` returns an error of the kind `UnexpectedEof`, and the channel ends with
    /// [`Close::Truncated`]. [`shutdown_write`](Channel::shutdown_write) announces the end of the output. There is no
    /// urgent data.
    ///
    /// # Errors
    /// When the channel is closed, listens or uses TLS already, or is no stream. When this side has finished sending, or a
    /// send has failed. When a client has no name of its server.
    #[cfg(feature = "tls-no-provider")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn start_tls(&self, tls: impl Into<TlsSide>) -> Result<(), Error> {
        let make = tls.into().prepare(self.0.target_name().as_deref())?;
        if self.is_connecting() && !self.0.flags.has(Flag::STAGED) {
            if self.0.plans_tls() {
                return Err(Error::new("TLS is to begin already"));
            }
            self.0.secure_when_up(make);
            return Ok(());
        }
        self.0.can_begin_tls()?;
        self.0.begin_handshake(make, Phase::Open);
        Ok(())
    }

    /// What the TLS handshake has agreed on. `None` before it is complete, without TLS, and after
    /// [`handle_close`](crate::Dispatcher::handle_close) has returned.
    ///
    /// Needs the feature `tls` or `tls-no-provider`.
    #[cfg(feature = "tls-no-provider")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn tls(&self) -> Option<Info> {
        self.0.tls()
    }

    /// Takes the socket out of the channel, which ends with [`Close::Local`]: the loop no longer watches the
    /// socket and does not close it. Python: `del_channel`, after which `self.socket` is still open. The loop
    /// calls `handle_close` as for [`close`](Channel::close). The socket stays non-blocking. It can be adopted
    /// by another channel, of any loop, or converted into an `OwnedFd` (on Windows an `OwnedSocket`) with
    /// [`TryFrom`].
    ///
    /// ```
    /// # fn main() -> asynchat::Result {
    /// use std::net::{TcpListener, TcpStream};
    /// use asynchat::Channel;
    ///
    /// let listener = Channel::listen("127.0.0.1:0")?;
    /// let socket = listener.release()?;
    /// assert!(!listener.is_open());
    /// # #[cfg(unix)] {
    /// let listener = TcpListener::from(std::os::fd::OwnedFd::try_from(socket)?);
    /// TcpStream::connect(listener.local_addr()?)?;
    /// # }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `NotConnected` when the channel is closed or not up yet. `ResourceBusy` inside a tracing subscriber, while
    /// the poller is asked to watch the socket.
    pub fn release(&self) -> io::Result<Socket> {
        let socket = self.0.release_socket()?;
        self.close();
        Ok(socket)
    }
}

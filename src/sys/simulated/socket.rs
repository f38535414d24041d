//! The simulated arm of the socket.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;

use super::SharedNet;
use super::end::Owner;
use super::net::Id;
use crate::addr::Addr;

/// A socket of a loop on a simulated network.
pub(crate) struct Socket {
    net: SharedNet,
    id: Id,
    is_listening: bool,
}

impl Socket {
    pub(crate) fn new(net: &SharedNet, id: Id, is_listening: bool) -> Self {
        Socket {
            net: net.clone(),
            id,
            is_listening,
        }
    }

    pub(super) fn id(&self) -> Id {
        self.id
    }

    pub(super) fn is_of(&self, net: &SharedNet) -> bool {
        self.net.is(net)
    }

    pub(crate) fn is_listening(&self) -> bool {
        self.is_listening
    }

    pub(crate) fn peer_addr(&self) -> io::Result<Addr> {
        let mut net = self.net.lock();
        let end = net.end(self.id)?;
        if end.is_up() {
            Ok(end.remote.into())
        } else {
            Err(io::ErrorKind::NotConnected.into())
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<Addr> {
        let mut net = self.net.lock();
        let addr: SocketAddr = if self.is_listening {
            net.listening_at(self.id)?
        } else {
            net.end(self.id)?.local
        };
        Ok(addr.into())
    }

    pub(crate) fn connected(&self) -> io::Result<Option<Addr>> {
        let mut net = self.net.lock();
        let end = net.end(self.id)?;
        if let Some(error) = end.error.take() {
            return Err(error.into());
        }
        Ok(end.is_up().then(|| end.remote.into()))
    }

    pub(crate) fn accept(&self) -> io::Result<(Socket, Addr)> {
        let (id, peer) = self.net.lock().accept(self.id, Owner::Loop)?;
        Ok((Socket::new(&self.net, id, false), peer.into()))
    }

    pub(crate) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.net.lock().recv(self.id, buffer)
    }

    pub(crate) fn peek(&self) -> io::Result<usize> {
        self.net.lock().peek(self.id)
    }

    /// Sends `data`, of which the last byte is urgent: it is no part of the stream.
    pub(crate) fn send_urgent(&self, data: &[u8]) -> io::Result<usize> {
        let Some((urgent, before)) = data.split_last() else {
            return Ok(0);
        };
        let mut net = self.net.lock();
        let count = net.send(self.id, &[IoSlice::new(before)])?;
        if count < before.len() {
            return Ok(count);
        }
        net.send_urgent(self.id, *urgent);
        Ok(data.len())
    }

    pub(crate) fn recv_urgent(&self) -> io::Result<u8> {
        let urgent = self.net.lock().end(self.id)?.urgent.take();
        urgent.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    pub(crate) fn discard_urgent(&self) {
        if let Ok(end) = self.net.lock().end(self.id) {
            end.urgent = None;
        }
    }

    pub(crate) fn send(&self, data: &[u8]) -> io::Result<usize> {
        self.send_vectored(&[IoSlice::new(data)])
    }

    pub(crate) fn send_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.net.lock().send(self.id, parts)
    }

    pub(crate) fn unsent(&self) -> usize {
        self.net.lock().unsent(self.id)
    }

    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        self.net.lock().shutdown_write(self.id)
    }

    pub(crate) fn has_hung_up(&self) -> bool {
        let mut net = self.net.lock();
        net.end(self.id).is_ok_and(|end| end.has_hung_up())
    }

    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        let mut net = self.net.lock();
        Ok(net.end(self.id)?.error.take().map(io::Error::from))
    }

    pub(crate) fn reset_on_close(&self) -> io::Result<()> {
        if !self.is_listening {
            self.net.lock().end(self.id)?.reset_on_close = true;
        }
        Ok(())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.net.lock().close(self.id, false);
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("simulated", &self.id)
            .field("listening", &self.is_listening)
            .finish()
    }
}

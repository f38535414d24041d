//! What the loop still sends for a channel that has ended: output that TLS has encrypted, and that the kernel had
//! not accepted.

use std::io;

use crate::sys::interest::Interest;
use crate::sys::socket::Fd;

pub(super) struct Rest {
    bytes: Vec<u8>,
    sent: usize,
    /// Whether the descriptor has input to discard.
    reads: bool,
}

impl Rest {
    pub(super) fn new(bytes: Vec<u8>, reads: bool) -> Self {
        let sent = 0;
        Rest { bytes, sent, reads }
    }

    /// Nothing is left to send.
    pub(super) fn none() -> Self {
        Rest::new(Vec::new(), true)
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn interest(&self) -> Interest {
        Interest::new(self.reads, !self.is_empty())
    }

    /// Receives nothing more: the peer has finished sending.
    pub(super) fn stop_reading(&mut self) {
        self.reads = false;
    }

    /// Sends as much as the kernel accepts, then shuts the sending side down. Returns whether there is something
    /// left to do: to send, or to receive.
    pub(super) fn send(&mut self, socket: &Fd) -> io::Result<bool> {
        match socket.send(self.bytes.get(self.sent..).unwrap_or_default()) {
            Ok(count) => self.sent = (self.sent + count).min(self.bytes.len()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if !self.is_empty() {
            return Ok(true);
        }
        self.bytes = Vec::new();
        self.sent = 0;
        socket.shutdown_write()?;
        Ok(self.reads)
    }
}

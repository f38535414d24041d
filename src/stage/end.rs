//! A TLS stage as the fuzzers see it, which are outside of the crate.

use std::fmt;
use std::io::IoSlice;
use std::sync::Arc;

use rustls::ServerConfig;

use super::Stage;
use super::acceptor::Acceptor;
use super::client::Client;
use super::tls::TlsStage;
use crate::error::Error;

/// One end of a TLS connection, without a socket.
pub struct TlsEnd {
    stage: TlsStage,
    plaintext: Vec<u8>,
    buffer: Vec<u8>,
}

impl TlsEnd {
    /// The end of a server.
    pub fn server(config: Arc<ServerConfig>) -> Self {
        TlsEnd::with(TlsStage::accept(Acceptor::from(config)))
    }

    /// The end of a client. Its output is its first message.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn client(client: impl Into<Client>) -> Result<Self, Error> {
        let server = client.into().server(None)?;
        Ok(TlsEnd::with(TlsStage::connect(&server)?))
    }

    fn with(stage: TlsStage) -> Self {
        TlsEnd {
            stage,
            plaintext: Vec::new(),
            buffer: Vec::new(),
        }
    }

    /// Takes bytes that were received together, by a channel that takes `room` bytes of plaintext at once.
    pub fn receive(&mut self, bytes: &[u8], room: usize) {
        let mut input = vec![0xa5; self.stage.headroom()];
        input.extend_from_slice(bytes);
        self.buffer.resize(room, 0);
        let mut count = self.stage.feed(&mut input, &mut self.buffer);
        while count > 0 {
            let received = self.buffer.get(..count).unwrap_or_default();
            self.plaintext.extend_from_slice(received);
            count = self.stage.take(&mut self.buffer);
        }
    }

    /// Sends bytes. Returns whether that was possible.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        let parts = [IoSlice::new(bytes)];
        matches!(self.stage.encrypt(&parts, bytes.len()), Ok(count) if count == bytes.len())
    }

    /// Takes what is to be sent to the peer.
    pub fn take_output(&mut self) -> Vec<u8> {
        let output = self.stage.output().to_vec();
        self.stage.sent(output.len());
        output
    }

    /// All plaintext that was received.
    pub fn plaintext(&self) -> &[u8] {
        &self.plaintext
    }

    /// Whether the handshake is not complete.
    pub fn is_handshaking(&self) -> bool {
        self.stage.is_handshaking()
    }

    /// Why nothing can be received any more.
    pub fn failure(&self) -> Option<Error> {
        self.stage.failure()
    }

    /// Whether the peer has announced the end of its output.
    pub fn peer_has_closed(&self) -> bool {
        self.stage.peer_has_closed()
    }

    /// How many bytes the buffers of the stage have, without those of rustls.
    pub fn memory(&self) -> usize {
        self.stage.memory()
    }
}

impl fmt::Debug for TlsEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsEnd").finish_non_exhaustive()
    }
}

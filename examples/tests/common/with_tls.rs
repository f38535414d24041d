//! Clients of an example program that use TLS, from the beginning or with STARTTLS.

use asynchat::Result;
use asynchat::sim::Peer;

use crate::scene::Scene;
use crate::tls::{TlsPeer, client_config};

impl Scene {
    /// The handshake of a client.
    pub(crate) fn handshake(&self, client: Peer) -> TlsPeer {
        let mut client = TlsPeer::client(client, client_config());
        self.exchange(&mut client);
        assert!(!client.tls.is_handshaking());
        client
    }

    /// The handshake of a client that STARTTLS is permitted to with this reply.
    pub(crate) fn upgrade(&self, client: Peer, permission: &str) -> Result<TlsPeer> {
        assert_eq!(self.ask(&client, "STARTTLS\r\n")?, permission);
        Ok(self.handshake(client))
    }

    pub(crate) fn exchange(&self, client: &mut TlsPeer) {
        client.exchange(|| self.settle().unwrap());
        assert_eq!(client.error, None);
    }

    /// Sends input with TLS, and returns the replies.
    pub(crate) fn ask_tls(&self, client: &mut TlsPeer, input: &str) -> Result<String> {
        client.send(input);
        self.exchange(client);
        Ok(String::from_utf8(std::mem::take(&mut client.plaintext))?)
    }
}

/// Whether this is what is sent in clear when STARTTLS has failed: its permission, if any, and an alert of TLS, if any.
pub(crate) fn is_refusal(replies: &[u8], permission: &[u8]) -> bool {
    let at = replies
        .windows(permission.len())
        .position(|part| part == permission);
    // The permission is missing if the rest arrived with the command.
    let after = at.map_or(&b""[..], |at| &replies[at + permission.len()..]);
    after.is_empty() || after.starts_with(b"\x15\x03")
}

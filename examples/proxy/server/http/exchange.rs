//! A request and its response: what the session of the client and that of the server share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use asynchat::Chat;

use crate::http1::Version;

/// While more than this is queued for one of the two connections, the other one is not read. A piece of a body has at
/// most 64 KiB, so twice as much is queued at most, however slow a peer is.
pub const MARK: usize = 64 << 10;

/// The high-water mark of the connection to a server. It is above what [`MARK`] lets pass, because a server may reply
/// before it has read the request (with 413, for example). Its reply has to be read then, although the queue is full.
pub const SERVER_HIGH_WATER: usize = 1 << 20;

pub struct Exchange {
    pub client: Chat,
    pub method: String,
    /// That of the request.
    pub version: Version,
    /// Whether the client may send another request on its connection.
    pub keep_alive: Cell<bool>,
    /// Whether the request was received to its end.
    pub request_complete: Cell<bool>,
    /// Whether reading from the client is paused, because the server does not take what is queued.
    pub is_paused: Cell<bool>,
    /// Whether reading from the server is paused, because the client does not take what is queued.
    pub server_is_paused: Cell<bool>,
    pub has_body: bool,
    /// Whether the client has finished sending, behind its request.
    pub client_has_finished: Cell<bool>,
    /// How long the server may be silent while the client has not.
    pub idle: Duration,
    /// The status of the response, 0 before it is known.
    pub status: Cell<u16>,
    pub sent: Cell<Sent>,
    /// Bytes that the server's connection had received before.
    pub bytes_before: Cell<u64>,
}

/// How long the server may be silent when the client has finished sending: before its response, if the request has no body,
/// and in it. A body may still wait in the kernel for a slow server, which is not silent then. The client may
/// have left, and then has no use for a response. nginx and Squid end the request at once
/// (`proxy_ignore_client_abort off`, `half_closed_clients off`). Others wait for the response (`nc -N`), so HAProxy goes on,
/// without `option abortonclose`, and has a shorter time for it, `timeout client-fin`. So has this proxy.
const SILENCE_WITHOUT_CLIENT: Duration = Duration::from_secs(10);

impl Exchange {
    /// Applies the time for silence to the connection to the server. It has none while it is not read.
    pub fn limit_silence(&self, server: &Chat) {
        // A status of 0: the head of the final response has not arrived.
        let may_be_uploading = self.has_body && self.status.get() == 0;
        let silence = if self.client_has_finished.get() && !may_be_uploading {
            self.idle.min(SILENCE_WITHOUT_CLIENT)
        } else {
            self.idle
        };
        server.set_idle_timeout((!self.server_is_paused.get()).then_some(silence));
    }
}

/// What the client has got of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    Nothing,
    /// The head of the final response. A body that is cut is seen to be incomplete.
    Head,
    /// The same, but the end of the connection is that of the body.
    HeadUntilClose,
}

/// The exchange in progress on a connection to a server. The client's session puts it there, and the server's session
/// takes it when the response is complete or will not be.
pub type Slot = Rc<RefCell<Option<Rc<Exchange>>>>;

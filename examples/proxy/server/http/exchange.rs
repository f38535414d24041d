//! A request and its response: what the session of the client and that of the server share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

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
    /// The status of the response, 0 before it is known.
    pub status: Cell<u16>,
    pub sent: Cell<Sent>,
    /// Bytes that the server's connection had received before.
    pub bytes_before: Cell<u64>,
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

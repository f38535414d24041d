//! Which clients a server admits. Its listener asks for each connection, or, behind a proxy, the connection itself when
//! its PROXY header has said who the client is.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;

use crate::Addr;
use crate::log::{Escaped, log, log_throttled};
use crate::runtime::Runtime;
use crate::state::quota::{Exceeded, Quota};
use crate::sys::socket::Socket;
use crate::time::deadlines::Deadlines;
use crate::user_code::{discard, enter};

pub(super) type AcceptIf = Box<dyn FnMut(&Addr) -> bool>;

/// Which clients a server admits, and what it sends to those that are too many.
#[derive(Default)]
pub(super) struct Policy {
    pub(super) refusal: Bytes,
    /// Taken out while it is called, because it is user code.
    pub(super) accept_if: Cell<Option<AcceptIf>>,
    pub(super) quota: Rc<Quota>,
}

impl Policy {
    #[inline]
    pub(super) fn accepts(&self, peer: &Addr) -> bool {
        match self.accept_if.take() {
            Some(accept_if) => self.ask(accept_if, peer),
            None => true,
        }
    }

    #[inline(never)] // Most servers have no `accept_if`.
    fn ask(&self, mut accept_if: AcceptIf, peer: &Addr) -> bool {
        let answer = enter(|| accept_if(peer));
        self.accept_if.set(Some(accept_if));
        match answer {
            Ok(true) => true,
            Ok(false) => {
                log!(debug, peer = %Escaped(peer), "accept_if has refused a connection");
                false
            }
            Err(panic) => {
                log_throttled!(error, peer = %Escaped(peer), panic = %Escaped(panic), "accept_if panicked");
                false
            }
        }
    }

    /// The clients expect TLS, and not the words of its protocol in clear.
    #[cfg(feature = "tls-no-provider")]
    pub(super) fn refusing_with_alert(mut self) -> Self {
        if !self.refusal.is_empty() {
            let alert = Bytes::from_static(crate::stage::REFUSAL);
            discard(std::mem::replace(&mut self.refusal, alert));
        }
        self
    }

    /// Sends the refusal to a client above the quota, and closes the connection.
    pub(super) fn refuse(
        &self,
        runtime: &Runtime,
        socket: Socket,
        peer: &Addr,
        exceeded: Exceeded,
        deadlines: Deadlines,
    ) {
        let peer = Escaped(peer);
        log_throttled!(warn, %peer, limit = ?exceeded, "a connection was refused: too many connections");
        self.send_refusal(Some(runtime), socket, deadlines);
    }

    /// Sends the refusal on a connection that its worker has received after its end. Without a runtime, which is about
    /// to be dropped, the socket does not linger.
    pub(super) fn refuse_late(
        &self,
        runtime: Option<&Runtime>,
        socket: Socket,
        peer: &Addr,
        deadlines: Deadlines,
    ) {
        let peer = Escaped(peer);
        log_throttled!(warn, %peer, "a connection was refused: its worker has ended");
        if let Some(runtime) = runtime {
            runtime.counters.refused.add(1);
        }
        self.send_refusal(runtime, socket, deadlines);
    }

    fn send_refusal(&self, runtime: Option<&Runtime>, socket: Socket, deadlines: Deadlines) {
        if self.refusal.is_empty() {
            return;
        }
        // The send buffer of a new connection has room for a line.
        match (socket.send(&self.refusal), runtime) {
            (Ok(_), Some(runtime)) => runtime.linger_for_refused(socket, deadlines),
            (Ok(_), None) => {}
            (Err(error), _) => log!(debug, %error, "a refusal could not be sent"),
        }
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        // The destructors are the user's (`Bytes::from_owner`). Two panics of destructors must not meet.
        discard(std::mem::take(&mut self.refusal));
        discard(self.accept_if.take());
    }
}

//! The body of a request: it is forwarded piece by piece, and has to make progress.

use std::mem;
use std::rc::Rc;

use super::super::exchange::{Exchange, MARK, Sent};
use super::{Client, State};
use crate::http1::{Rejected, chunked};
use crate::server::failure::Failure;

/// How much of a body has to arrive in twice the `idle` time.
const PROGRESS: u64 = 64 << 10;

impl Client {
    /// Reads the body, or more of it.
    pub(super) fn receive_body(&mut self) {
        self.set_timer(2 * self.proxy.options.idle);
        self.chat.resume_reading();
    }

    /// Prepares for the next record of the body. If there is none, the request is complete. The head of the next one is
    /// read, so that the end of the client is noticed, and waits for the response.
    pub(super) fn set_body_terminator(&mut self) {
        let State::Forward(forwarding) = &self.state else {
            return;
        };
        if let Some(terminator) = forwarding.body.terminator() {
            return self.chat.set_terminator(terminator);
        }
        self.chat.set_terminator(self.proxy.head.clone());
        self.chat.cancel(self.timer);
        forwarding.exchange.request_complete.set(true);
        if let Some(link) = self.server.as_ref().filter(|_| forwarding.chunked) {
            link.chat.push(chunked::LAST_CHUNK);
        }
    }

    /// Forwards a piece of the body. The client waits while the server does not take what is queued.
    pub(super) fn forward_piece(&mut self, piece: &[u8]) {
        let (State::Forward(forwarding), Some(link)) = (&mut self.state, &self.server) else {
            return;
        };
        forwarding.received += piece.len() as u64;
        if forwarding.chunked {
            chunked::push_chunk(&link.chat, piece);
        } else {
            link.chat.push_slice(piece);
        }
        forwarding.left = forwarding.left.saturating_sub(piece.len() as u64);
        // The end of a body does not pause reading: the server may respond as soon as it has the last byte.
        if link.chat.queued() > MARK && forwarding.left > 0 {
            self.chat.pause_reading();
            let exchange = Rc::clone(&forwarding.exchange);
            exchange.is_paused.set(true);
            link.chat.push_hook(move || {
                let client = exchange.client.clone();
                // An error means that the client has left.
                let _ = client.post::<Client>(move |client| {
                    client.resume_body(&exchange);
                    Ok(())
                });
            });
        }
    }

    fn resume_body(&mut self, exchange: &Rc<Exchange>) {
        exchange.is_paused.set(false);
        if self.is_forwarding(exchange) && !exchange.request_complete.get() {
            self.receive_body();
        }
    }

    /// Ends a request whose body trickles. The `input` deadline of the loop is no bound on it: each chunk would start
    /// that deadline again, and a response that ends with the connection would look complete.
    pub(super) fn check_progress(&mut self) {
        let State::Forward(forwarding) = &mut self.state else {
            return;
        };
        let exchange = Rc::clone(&forwarding.exchange);
        let has_progress = mem::take(&mut forwarding.received) >= PROGRESS;
        // While a response waits for the client, the `drain` deadline applies, and the body may not be read.
        let is_receiving = self.chat.queued() > 0;
        if has_progress || is_receiving || exchange.is_paused.get() {
            return self.set_timer(2 * self.proxy.options.idle);
        }
        if let Some(link) = &self.server {
            link.slot.take();
            link.chat.abort();
        }
        self.response_failed(&exchange, Failure::SlowRequest, false);
    }

    /// The body cannot be understood. The server must not take what it has got for a request.
    pub(super) fn refuse_body(&mut self, rejected: Rejected) {
        let State::Forward(forwarding) = &self.state else {
            return;
        };
        let sent = forwarding.exchange.sent.get();
        if let Some(link) = self.server.take() {
            link.slot.take();
            link.chat.abort();
        }
        match sent {
            Sent::Nothing => self.refuse(rejected),
            _ => self.chat.abort(),
        }
    }
}

//! Lingering: a close that does not destroy the last output.
//!
//! When a socket is closed while input is unread, or while its peer is still sending, the kernel resets the
//! connection. The reset destroys the output that the peer has not received yet, and on some systems also
//! what the peer has received and not read (RFC 9112 section 9.6). Therefore the loop keeps the socket of a
//! channel that closes after its queue was sent. Its sending side is shut down. The loop reads and discards
//! the input, until the peer has closed as well, or has sent nothing for the linger time, or has sent for too long.
//! The channel has ended by then: only the socket is left, watched under the same poll key.
//!
//! A stream that was cut in its middle has to end with a reset, which would destroy what was sent before.
//! Its socket lingers until the peer has received that.
//!
//! A peer that reads slowly may need longer than the linger time, because the kernel holds up to megabytes
//! of output for it. Where the kernel reports how much (`Fd::unsent`), `linger/delivery.rs` extends the time
//! while the peer receives some of it.
//!
//! With TLS a part of what a dispatcher has sent may be encrypted and not yet accepted by the kernel. The loop
//! sends it before it shuts the sending side down (`linger/rest.rs`).

mod delivery;
mod rest;

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::time::Instant;

use tracing::Span;

use super::Runtime;
use super::registry::Registry;
use crate::log::log;
use crate::state::agenda::{Deferred, Task};
use crate::state::{ChannelState, Flag};
use crate::sys::interest::{Event, Interest, Ready};
use crate::sys::socket::{Fd, Socket};
use crate::sys::watched_socket::WatchedSocket;
use crate::time::deadlines::Deadlines;
use crate::time::timer::TimerId;
use crate::user_code::{discard, in_span};
use delivery::Delivery;
use rest::Rest;

/// How many sockets of ended channels linger at a time. One more closes the oldest of them.
const MAX_ENDED: usize = 1024;

/// How many sockets of refused clients linger at a time. They have a limit of their own: a flood of refused
/// clients must not close the sockets of ended channels, whose last output may still be under way.
const MAX_REFUSED: usize = 64;

/// The sockets that linger.
#[derive(Default)]
pub(super) struct Lingering {
    /// By poll key. Boxed, because a socket is taken out and put back for each event.
    sockets: BTreeMap<usize, Box<Lingerer>>,
    /// How many of them belonged to ended channels, and how many to refused clients.
    ended: usize,
    refused: usize,
    /// The number of the newest socket.
    last: u64,
}

struct Lingerer {
    source: WatchedSocket,
    class: Class,
    /// Sockets are numbered in the order in which they began to linger.
    number: u64,
    rest: Rest,
    delivery: Delivery,
    /// When it fires, the loop decides whether the socket has lingered long enough.
    timer: TimerId,
    /// The span of the channel that the socket belonged to.
    span: Option<Box<Span>>,
}

impl Runtime {
    /// Makes the socket of an ending channel linger, if its queue was sent and the peer may still send.
    pub(super) fn linger_for(&self, state: &ChannelState) {
        if state.flags.has(Flag::STAGED) {
            let rest = state.take_ciphertext();
            if !rest.is_empty() {
                return self.send_rest_for(state, rest);
            }
        }
        let (is_drained, is_cut) = {
            let out = state.out.borrow();
            (out.is_closed(), out.is_cut())
        };
        // An alert is to reach the peer, as the last reply is.
        let has_alert = state.has_sent_alert();
        if !(is_drained || has_alert) || (state.expects_no_input() && !is_cut) {
            return;
        }
        let deadlines = state.deadlines();
        if !deadlines.linger.is_zero()
            && let Some(source) = state.give_up_socket(is_cut)
        {
            let class = class_of(state);
            let delivery = Delivery::new(deadlines, state.end_of_life(), is_cut, self.now());
            let delivery = if state.flags.has(Flag::PIPED) {
                delivery.piped()
            } else {
                delivery
            };
            let span = state.span().cloned().map(Box::new);
            self.linger(source, Rest::none(), delivery, span, class);
        }
    }

    /// Sends the rest of the output of an ending channel, as the kernel does with what it has accepted.
    #[cold]
    fn send_rest_for(&self, state: &ChannelState, rest: Vec<u8>) {
        let class = class_of(state);
        let reads = !state.has_own_output();
        let Some(source) = state.give_up_output() else {
            return;
        };
        let deadlines = state.deadlines();
        let ends_at_once = deadlines.linger.is_zero();
        let delivery = Delivery::new(deadlines, state.end_of_life(), ends_at_once, self.now());
        let span = state.span().cloned().map(Box::new);
        self.linger(source, Rest::new(rest, reads), delivery, span, class);
    }

    /// Makes the socket of a refused client linger.
    pub(crate) fn linger_for_refused(&self, socket: Socket, deadlines: Deadlines) {
        if !deadlines.linger.is_zero() && socket.shutdown_write().is_ok() {
            let source = WatchedSocket::new(socket.into_halves().0);
            let delivery = Delivery::new(deadlines, None, false, self.now());
            self.linger(source, Rest::none(), delivery, None, Class::Refused);
        }
    }

    /// Keeps a socket. If its class is above its limit, the oldest socket of the class is closed.
    fn linger(
        &self,
        source: WatchedSocket,
        rest: Rest,
        mut delivery: Delivery,
        span: Option<Box<Span>>,
        class: Class,
    ) {
        let new_key = || self.unused_key(Registry::unregistered_key);
        if let Err(error) = source.watch(&self.poller, rest.interest(), new_key) {
            return in_span(span.as_deref(), || {
                log!(debug, %error, "the socket cannot linger");
            });
        }
        let Some(key) = source.key() else { return };
        let unsent = source.socket().unsent() + rest.len();
        let now = self.now();
        let Some(deadline) = delivery.look(now, unsent) else {
            return reset_if_overdue(source.socket(), &delivery, now, unsent);
        };
        let timer = self.agenda.set_timer_at(deadline, Task::Linger(key));
        let too_many = {
            let mut lingering = self.lingering.borrow_mut();
            lingering.last += 1;
            let number = lingering.last;
            let lingerer = Box::new(Lingerer {
                source,
                class,
                number,
                rest,
                delivery,
                timer,
                span,
            });
            lingering.sockets.insert(key, lingerer);
            lingering.count_in(class)
        };
        too_many
            .into_iter()
            .for_each(|oldest| self.close_lingering(oldest));
    }

    /// An event was reported under a key that belongs to no channel. It belongs to a lingering socket, or is
    /// stale.
    #[cold]
    pub(super) fn report_lingering(&self, report: &Event) {
        // The socket is taken out, so that nothing is borrowed when the poller logs: a subscriber is user
        // code.
        let Some(mut lingerer) = self.lingering.borrow_mut().sockets.remove(&report.key) else {
            return;
        };
        match lingerer.read_on(self, report) {
            Ok(true) => {
                let sockets = &mut self.lingering.borrow_mut().sockets;
                sockets.insert(report.key, lingerer);
            }
            Ok(false) => self.end_lingering(lingerer, None),
            Err(error) => self.end_lingering(lingerer, Some(&error)),
        }
    }

    /// Closes a socket that has lingered long enough. Otherwise returns when to check again.
    pub(super) fn look_at_lingering(&self, key: usize) -> Option<Instant> {
        let now = self.now();
        let next = {
            let sockets = &mut self.lingering.borrow_mut().sockets;
            let lingerer = sockets.get_mut(&key)?;
            let socket = lingerer.source.socket();
            let unsent = socket.unsent() + lingerer.rest.len();
            let mut next = lingerer.delivery.look(now, unsent);
            // The kernel may have input that it has not reported: a turn that was cut goes on without a wait, and one
            // wait reports a limited number of sockets.
            if next.is_none() && socket.peek().is_ok_and(|count| count > 0) {
                lingerer.delivery.peer_sends(now);
                next = lingerer.delivery.look(now, unsent);
            }
            if next.is_none() {
                reset_if_overdue(socket, &lingerer.delivery, now, unsent);
            }
            next
        };
        if next.is_none() {
            self.close_lingering(key);
        }
        next
    }

    /// Closes a lingering socket, if it still lingers.
    pub(super) fn close_lingering(&self, key: usize) {
        let gone = self.lingering.borrow_mut().sockets.remove(&key);
        if let Some(gone) = gone {
            self.end_lingering(gone, None);
        }
    }

    /// Makes the loop close all lingering sockets. A handle's method must not do that itself: closing one
    /// logs an event, and a subscriber is user code.
    pub(crate) fn stop_lingering_soon(&self) {
        if self.lingering.borrow().len() > 0 {
            self.agenda.defer(Deferred::StopLingering);
        }
    }

    /// Closes all lingering sockets, because their descriptors are needed or the loop closes everything.
    pub(super) fn stop_lingering(&self) {
        let keys: Vec<usize> = self.lingering.borrow().sockets.keys().copied().collect();
        keys.into_iter().for_each(|key| self.close_lingering(key));
    }

    /// The poller may have lost the registrations of the lingering sockets.
    pub(super) fn reregister_lingering(&self) {
        let keys: Vec<usize> = self.lingering.borrow().sockets.keys().copied().collect();
        for key in keys {
            // Taken out, as for an event.
            let Some(lingerer) = self.lingering.borrow_mut().sockets.remove(&key) else {
                continue;
            };
            // A close could destroy output that is on its way. Without a registration the socket waits for its timer.
            if let Err(error) = lingerer.source.reregister() {
                in_span(lingerer.span.as_deref(), || {
                    log!(warn, %error, "a lingering socket is not watched any more");
                });
            }
            self.lingering.borrow_mut().sockets.insert(key, lingerer);
        }
    }

    fn end_lingering(&self, gone: Box<Lingerer>, failed: Option<&io::Error>) {
        let gone = *gone;
        self.agenda.forget_timer(gone.timer);
        self.lingering.borrow_mut().count_out(gone.class);
        in_span(gone.span.as_deref(), || {
            drop(gone.source);
            let error = failed.map(tracing::field::display);
            log!(
                debug,
                bytes_in = gone.delivery.discarded(),
                error,
                "lingered"
            );
        });
        discard(gone.span);
        self.resume_accepting();
    }

    /// Closes all lingering sockets of a loop that is being dropped. Nothing is logged.
    pub(super) fn drop_lingering(&self) {
        for lingerer in self.lingering.take().sockets.into_values() {
            drop(lingerer.source);
            // The end of a span would notify the subscriber.
            if self.torn_down.get() {
                mem::forget(lingerer.span);
            }
        }
    }
}

impl Lingering {
    pub(super) fn len(&self) -> usize {
        self.sockets.len()
    }

    pub(super) fn has(&self, key: usize) -> bool {
        self.sockets.contains_key(&key)
    }

    /// Counts a socket in its class. Returns the key of the oldest socket if the class is above its limit.
    fn count_in(&mut self, class: Class) -> Option<usize> {
        let (count, most) = match class {
            Class::Ended => (&mut self.ended, MAX_ENDED),
            Class::Refused => (&mut self.refused, MAX_REFUSED),
        };
        *count += 1;
        // A linear search finds the oldest socket. The limits bound it, and nothing else needs the order.
        if *count <= most {
            return None;
        }
        let of_class = self.sockets.iter().filter(|(_, it)| it.class == class);
        of_class
            .min_by_key(|(_, it)| it.number)
            .map(|(key, _)| *key)
    }

    /// A socket of this class is closed.
    fn count_out(&mut self, class: Class) {
        match class {
            Class::Ended => self.ended -= 1,
            Class::Refused => self.refused -= 1,
        }
    }
}

/// The two classes of lingering sockets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// The channel of the socket has ended.
    Ended,
    /// The client was refused: it never had a channel.
    Refused,
}

/// Makes the close a reset if a deadline of the program has passed.
fn reset_if_overdue(socket: &Fd, delivery: &Delivery, now: Instant, unsent: usize) {
    if delivery.has_missed_deadline(now, unsent) {
        // If the system refuses it, nothing is left to reset.
        let _ = socket.reset_on_close();
    }
}

/// The class of an ending channel. An alert is to reach the peer of a handshake that has failed.
fn class_of(state: &ChannelState) -> Class {
    if state.has_sent_alert() && state.is_unsecured() {
        Class::Refused
    } else {
        Class::Ended
    }
}

impl Lingerer {
    /// Sends what is left. Reads once and discards the input. Returns whether the socket continues to linger.
    fn read_on(&mut self, runtime: &Runtime, report: &Event) -> io::Result<bool> {
        self.source.disarm_if_one_shot();
        let socket = self.source.socket();
        if !self.rest.is_empty() {
            if !self.rest.send(socket)? {
                return Ok(false);
            }
            if !self.rest.interest().reads() {
                return Ok(true);
            }
        }
        if report.ready.has(Ready::URGENT) {
            socket.discard_urgent();
        }
        let mut buffers = runtime.buffers.take().unwrap_or_default();
        let mut buffer = buffers.take_read();
        let outcome = socket.recv(&mut buffer);
        buffers.return_read(buffer);
        runtime.buffers.set(Some(buffers));
        let interest = match outcome {
            // The peer may still receive the rest.
            Ok(0) if !self.rest.is_empty() => {
                self.rest.stop_reading();
                self.rest.interest()
            }
            Ok(0) if report.ready.has(Ready::HUNG_UP) || !self.delivery.ends_at_once() => {
                return Ok(false);
            }
            // The peer has finished sending. It may still have to receive what was sent before the cut.
            Ok(0) => Interest::HANG_UP,
            // Also after a hang-up, which is reported when both sides have finished sending: a close with
            // unread input would reset the connection and destroy the output.
            Ok(count) => {
                runtime.counters.bytes_in.add(count as u64);
                if !self.delivery.discard(count, runtime.now()) {
                    return Ok(false);
                }
                self.rest.interest()
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.rest.interest(),
            Err(error) => return Err(error),
        };
        let watched = self.source.watch(&runtime.poller, interest, || report.key);
        watched.map(|()| true)
    }
}

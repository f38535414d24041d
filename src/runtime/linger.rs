//! Closing without losing what was said last.
//!
//! Closing a socket with input that nobody has read, or one whose peer goes on sending, makes the
//! kernel reset the connection: what the peer has not received yet is destroyed, and on some
//! systems what it has received and not read too. So a connection that is to be closed when done
//! shuts its sending side down, and the loop keeps the socket and reads on into nothing, for a
//! while, until the peer has closed as well. The channel has ended by then: what lingers is a
//! socket, watched under the key it had, and nothing else.
//!
//! A stream that is cut in its middle ends with a reset instead, which destroys just as much. So its
//! socket lingers, too, until the peer has received what was sent before the cut.
//!
//! A peer that reads slowly may need longer than that: the kernel holds up to megabytes of output for
//! it. Where the kernel says how much (`Fd::unsent`), the loop waits for as long as the peer receives
//! some of it (`lingering/delivery.rs`).

mod delivery;

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
use crate::sys::interest::{Event, Interest};
use crate::sys::socket::Socket;
use crate::sys::watched_socket::WatchedSocket;
use crate::time::deadlines::Deadlines;
use crate::time::timer::TimerId;
use crate::user_code::{discard, in_span};
use delivery::Delivery;

/// How much is read for nothing. More than what is on its way when a peer that sent all it could
/// is told: its kernel and this one hold some megabytes each.
const MOST: usize = 16 << 20;

/// How many linger at a time. When one more does, the oldest of them is closed.
const PLACES: usize = 1024;

/// How many of those who were refused: they have had no reply that could be lost, and a flood of
/// them must not take the places of those who have.
const REFUSED: usize = 64;

/// The sockets that linger.
#[derive(Default)]
pub(super) struct Lingering {
    /// By their poll keys.
    sockets: BTreeMap<usize, Box<Lingerer>>,
    /// The keys of those that had a channel, and of those that were refused: by their numbers, so
    /// that the oldest is first.
    ended: BTreeMap<u64, usize>,
    refused: BTreeMap<u64, usize>,
    /// The number of the newest.
    last: u64,
}

struct Lingerer {
    source: WatchedSocket,
    number: u64,
    /// How much was read for nothing.
    read: usize,
    delivery: Delivery,
    /// Has it lingered long enough?
    timer: TimerId,
    /// That of the channel it was.
    span: Option<Box<Span>>,
}

impl Runtime {
    /// Has the socket of a channel that is ending linger, if the channel is one to.
    pub(super) fn linger_for(&self, state: &ChannelState) {
        let (is_drained, is_cut) = {
            let out = state.out.borrow();
            (out.is_closed(), out.is_cut())
        };
        if !is_drained || (state.flags.has(Flag::EOF) && !is_cut) {
            return;
        }
        let deadlines = state.deadlines();
        if !deadlines.linger.is_zero()
            && let Some(source) = state.give_up_socket(is_cut)
        {
            let delivery = Delivery::new(deadlines, state.end_of_life(), is_cut, self.now());
            self.linger(
                source,
                delivery,
                state.span().cloned().map(Box::new),
                Class::Ended,
            );
        }
    }

    /// Has the socket of a client linger who was refused.
    pub(crate) fn linger_for_refused(&self, socket: Socket, deadlines: Deadlines) {
        if !deadlines.linger.is_zero() && socket.shutdown_write().is_ok() {
            let source = WatchedSocket::new(socket.into_halves().0);
            let delivery = Delivery::new(deadlines, None, false, self.now());
            self.linger(source, delivery, None, Class::Refused);
        }
    }

    /// Keeps a socket. The oldest of its class is closed for it, if there are too many.
    fn linger(
        &self,
        source: WatchedSocket,
        mut delivery: Delivery,
        span: Option<Box<Span>>,
        class: Class,
    ) {
        let new_key = || self.unused_key(Registry::unregistered_key);
        if let Err(error) = source.watch(&self.poller, Interest::READ, new_key) {
            return in_span(span.as_deref(), || {
                log!(debug, %error, "it cannot linger");
            });
        }
        let Some(key) = source.key() else { return };
        let Some(deadline) = delivery.look(self.now(), source.socket().unsent()) else {
            return;
        };
        let timer = self.agenda.set_timer_at(deadline, Task::Linger(key));
        let too_many = {
            let mut lingering = self.lingering.borrow_mut();
            lingering.last += 1;
            let number = lingering.last;
            let lingerer = Box::new(Lingerer {
                source,
                number,
                read: 0,
                delivery,
                timer,
                span,
            });
            lingering.sockets.insert(key, lingerer);
            lingering.enroll(class, number, key)
        };
        too_many.into_iter().for_each(|oldest| self.let_go(oldest));
    }

    /// Something was reported under a key that is no channel's: it is that of one who lingers, or stale.
    #[cold]
    pub(super) fn report_lingering(&self, report: &Event) {
        // Not while it is borrowed: what a poller logs goes to the user's subscriber.
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

    /// Closes a socket that has lingered long enough. Otherwise says when to look again.
    pub(super) fn look_at_lingering(&self, key: usize) -> Option<Instant> {
        let now = self.now();
        let next = {
            let sockets = &mut self.lingering.borrow_mut().sockets;
            let lingerer = sockets.get_mut(&key)?;
            let unsent = lingerer.source.socket().unsent();
            lingerer.delivery.look(now, unsent)
        };
        if next.is_none() {
            self.let_go(key);
        }
        next
    }

    /// Closes one that lingers, if it still does.
    pub(super) fn let_go(&self, key: usize) {
        let gone = self.lingering.borrow_mut().sockets.remove(&key);
        if let Some(gone) = gone {
            self.end_lingering(gone, None);
        }
    }

    /// Has the loop close all that linger: what is logged as they go is not for a method of a handle,
    /// which calls nothing of the user's.
    pub(crate) fn stop_lingering_soon(&self) {
        if self.lingering.borrow().len() > 0 {
            self.agenda.defer(Deferred::StopLingering);
        }
    }

    /// Closes all that linger: their descriptors are needed, or all is to be closed.
    pub(super) fn stop_lingering(&self) {
        let keys: Vec<usize> = self.lingering.borrow().sockets.keys().copied().collect();
        keys.into_iter().for_each(|key| self.let_go(key));
    }

    fn end_lingering(&self, gone: Box<Lingerer>, failed: Option<&io::Error>) {
        let gone = *gone;
        self.agenda.forget_timer(gone.timer);
        self.lingering.borrow_mut().strike_out(gone.number);
        in_span(gone.span.as_deref(), || {
            drop(gone.source);
            let error = failed.map(tracing::field::display);
            log!(debug, bytes_in = gone.read, error, "lingered");
        });
        discard(gone.span);
        self.resume_accepting();
    }

    /// Closes all that linger: their loop is gone, and nothing is to be told.
    pub(super) fn drop_lingering(&self) {
        for lingerer in self.lingering.take().sockets.into_values() {
            drop(lingerer.source);
            // It would tell the subscriber of its end.
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

    /// Counts one in, and says who has to go for it.
    fn enroll(&mut self, class: Class, number: u64, key: usize) -> Option<usize> {
        let (keys, most) = match class {
            Class::Ended => (&mut self.ended, PLACES),
            Class::Refused => (&mut self.refused, REFUSED),
        };
        keys.insert(number, key);
        let oldest = keys.first_key_value().map(|(_, key)| *key);
        oldest.filter(|_| keys.len() > most)
    }

    /// One that is gone counts no more.
    fn strike_out(&mut self, number: u64) {
        self.ended.remove(&number);
        self.refused.remove(&number);
    }
}

/// What a socket was before it lingered.
#[derive(Clone, Copy)]
enum Class {
    /// A channel's.
    Ended,
    /// That of a client who was refused.
    Refused,
}

impl Lingerer {
    /// Reads once; says whether there may be more to come.
    fn read_on(&mut self, runtime: &Runtime, report: &Event) -> io::Result<bool> {
        self.source.disarm_if_one_shot();
        let socket = self.source.socket();
        if report.ready.urgent {
            socket.discard_urgent();
        }
        let mut buffers = runtime.buffers.take().unwrap_or_default();
        let mut buffer = buffers.take_read();
        let outcome = socket.recv(&mut buffer);
        buffers.return_read(buffer);
        runtime.buffers.set(Some(buffers));
        match outcome {
            Ok(count) => {
                self.read += count;
                runtime.counters.bytes_in.add(count as u64);
                let hung_up = report.ready.hung_up || self.read >= MOST;
                if hung_up || (count == 0 && !self.delivery.ends_at_once()) {
                    return Ok(false);
                }
                // The peer has finished sending, and may still receive what was sent before the cut.
                if count == 0 {
                    let watched = self
                        .source
                        .watch(&runtime.poller, Interest::HANG_UP, || report.key);
                    return watched.map(|()| true);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        let watched = self
            .source
            .watch(&runtime.poller, Interest::READ, || report.key);
        watched.map(|()| true)
    }
}

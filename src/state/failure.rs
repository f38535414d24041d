//! A connection whose output, or whose handler, has failed.
//!
//! A failed send does not hide the input that the kernel still has: it is delivered first. No event says
//! when that input ends, so three rules bound it. The channel ends with the error of the send when its
//! session is paused, when the pushes since (they are counted and dropped) reach the high-water mark, or
//! when nothing was received for the linger time.
//!
//! After a failed callback, `handle_close` is the only callback. What was pushed before the failure is sent
//! first, so that the peer receives the same output however its input was segmented.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::agenda::{ONE_TURN, Task};
use super::io::Output;
use super::{ChannelState, Flag};
use crate::error::{Close, TlsFailure};
use crate::log::log;
use crate::sys::socket::Fd;
use crate::time::deadlines::Deadlines;
use crate::user_code::discard;

/// How many bytes a piped connection whose output has failed passes on at most: as much as the kernel may have received
/// before the failure.
const RECEIVED: u64 = 8 << 20;

impl ChannelState {
    /// A send has failed. If the connection is over in both directions, what the peer sent before is still
    /// delivered. Any other error (ENOBUFS) ends the channel at once: the input of such a connection may
    /// never end.
    pub(crate) fn fail_sending(self: &Rc<Self>, error: io::Error) {
        if self.flags.has(Flag::EOF) || !is_over(&error) {
            return self.end(Close::from_io(error));
        }
        // After a failure of TLS the descriptor still takes the alert.
        if self.has_own_output() && !is_of_tls(&error) {
            log!(debug, %error, "the output has failed");
            let output = self.with_cold(|cold| std::mem::replace(&mut cold.output, Output::Failed));
            drop(output);
        }
        // The error is reported once. The next receive returns the end of the stream, which a pipe would take for
        // complete. Where a reset that follows the end looks the same, what was received completely must not be lost.
        let reports_end = || self.on_socket(|socket| Ok(socket.reports_reset_after_end()));
        if error.kind() == io::ErrorKind::ConnectionReset && reports_end().unwrap_or(false) {
            self.with_cold(|cold| cold.lacks_end = true);
        }
        // The old error is dropped after the borrow: an error that a dispatcher returned may have a
        // destructor of the user.
        let earlier = self.with_cold(|cold| cold.send_error.replace(error));
        if earlier.is_some() {
            return drop(earlier);
        }
        self.with_cold(|cold| cold.received = self.bytes_in());
        let lost = self.out.borrow_mut().fail();
        self.drop_later(lost);
        self.await_progress(None);
        self.schedule();
    }

    /// Whether a send has failed, so that nothing can be sent any more.
    #[inline]
    pub(crate) fn has_failed_sending(&self) -> bool {
        self.cold(|cold| cold.send_error.is_some()) == Some(true)
    }

    /// Whether it had a separate descriptor for output, which has failed.
    pub(crate) fn has_lost_output(&self) -> bool {
        self.cold(|cold| matches!(cold.output, Output::Failed)) == Some(true)
    }

    pub(crate) fn take_send_error(&self) -> Option<io::Error> {
        self.cold(|cold| cold.send_error.take())?
    }

    /// Ends the channel with the error of its failed send. Returns whether there was one.
    pub(crate) fn end_with_send_error(self: &Rc<Self>) -> bool {
        let error = self.take_send_error();
        error.map(|error| self.end(Close::from_io(error))).is_some()
    }

    /// Ends a channel that cannot send, if it is not `reading` either, or if its session has pushed as much
    /// as is queued for a peer that does not read. Returns whether it has ended the channel. A piped
    /// connection does not end here: its pushes come from the other end of the pipe, which is paused, and
    /// its own input is passed on first.
    pub(crate) fn end_if_useless(self: &Rc<Self>, reading: bool) -> bool {
        let is_over =
            || self.flags.has(Flag::BACK_PRESSURED) || self.out.borrow().is_over_high_water();
        !self.flags.has(Flag::PIPED) && (!reading || is_over()) && self.end_with_send_error()
    }

    /// A callback of the handler has returned an error or panicked. The queue of a session is sent, then the
    /// channel ends for this reason.
    pub(crate) fn fail(self: &Rc<Self>, why: Close) {
        let can_send = !self.has_failed_sending() && !self.has_lost_output();
        let is_open_chat = self.is_chat() && self.is_up();
        if self.has_ended() || !is_open_chat || !can_send {
            return self.end(why);
        }
        // The second failure is that of a producer: what was pushed after it is dropped.
        let why = self.first_reason(why);
        let has_failed = self.flags.replace(Flag::FAILED, true);
        let lost = {
            let mut out = self.out.borrow_mut();
            // The rest of the input is not parsed any more. After a panic it is still charged.
            out.set_backlog(0);
            out.replace_close(why)
        };
        self.drop_later(lost);
        self.begin_closing();
        if !has_failed {
            self.await_progress(Some(self.moved()));
        }
    }

    /// The reason of the first failure of the handler, if it has failed before; else `why`.
    pub(super) fn first_reason(&self, why: Close) -> Close {
        let first = if self.flags.has(Flag::FAILED) {
            self.out.borrow_mut().take_close()
        } else {
            None
        };
        let Some(first) = first else { return why };
        discard(why);
        first
    }

    /// Sets a timer for the linger time. When it fires, the loop checks whether any byte has moved since. A
    /// connection without progress therefore lasts for at least that time, and for at most twice that time.
    /// With `None` another check always follows, after a turn in which input could be read.
    fn await_progress(&self, since: Option<u64>) {
        let Some(agenda) = self.agenda() else {
            return;
        };
        let linger = self.deadlines().linger;
        let patience = match since {
            None => Duration::ZERO,
            Some(_) if self.flags.has(Flag::FAILED) => linger.max(Deadlines::default().linger),
            Some(_)
                if self.flags.has(Flag::PIPED)
                    && !self.flags.has(Flag::PAUSED)
                    && !self.flags.has(Flag::AWAITS_WORKER)
                    && !self.is_pipe_full() =>
            {
                // It waits for input that may have arrived already.
                ONE_TURN
            }
            Some(_) => linger.max(ONE_TURN),
        };
        let timer = agenda.set_timer(patience, Task::Progress(self.id.get(), since));
        self.add_timer(timer);
    }

    /// The timer of `await_progress` has fired.
    pub(crate) fn look_for_progress(self: &Rc<Self>, since: Option<u64>) {
        let moved = self.moved();
        let received = self.cold(|cold| cold.received).unwrap_or(0);
        let passed_on = self.bytes_in().saturating_sub(received);
        let is_endless =
            self.flags.has(Flag::PIPED) && !self.flags.has(Flag::FAILED) && passed_on > RECEIVED;
        let waits = self.is_held() && !self.flags.has(Flag::FAILED);
        if waits || (since != Some(moved) && !is_endless) {
            return self.await_progress(Some(moved));
        }
        if self.flags.has(Flag::FAILED) {
            self.end(Close::Reset);
        } else {
            self.end_with_send_error();
        }
    }

    /// Bytes received, and bytes that the peer has received, as far as the system knows. The count of bytes
    /// sent does not show progress: the kernel may accept megabytes, and then accept nothing for a long time
    /// while the peer reads.
    ///
    /// A piped connection receives nothing while the other end is full, so what the peer of that end receives is counted, too.
    fn moved(&self) -> u64 {
        let other = self
            .piped_to()
            .filter(|_| !self.flags.has(Flag::FAILED) && self.is_pipe_full());
        let of_other = other.map_or(0, |other| other.received_by_peer());
        let moved = self.bytes_in().wrapping_add(self.received_by_peer());
        moved.wrapping_add(of_other)
    }

    fn received_by_peer(&self) -> u64 {
        let unsent = self.on_output(|output| Ok(output.unsent())).unwrap_or(0);
        self.accepted_out().wrapping_sub(unsent as u64)
    }

    /// The kernel has reported a hang-up while the channel is not read. If the peer has reset the
    /// connection, the channel ends: nothing can be sent, and nobody reads what could still be received.
    /// Otherwise the peer has finished sending. What is left of the input, and its end, are delivered when
    /// reading resumes. The channel does not wait for that if the end has been received already, or if
    /// nothing can be sent and no input is left: neither in the kernel nor here (`has_partial`: a part of a
    /// record).
    pub(crate) fn hang_up(self: &Rc<Self>, has_partial: bool) {
        let output = self.own_output();
        if output
            .as_ref()
            .is_some_and(|output| !output.socket().has_hung_up())
        {
            // Only the input has hung up.
            return self.flags.set(Flag::HUNG_UP, true);
        }
        let is_unfinished = self.out.borrow().is_unfinished();
        let has_sent_all = self.flags.has(Flag::FINISHED) && !is_unfinished;
        if self.is_closing() && self.has_announced_end() {
            // All that it waits for is that the announcement is sent, or fails.
            return;
        }
        if self.is_closing() && !has_sent_all {
            return self.end(Close::Reset);
        }
        if output.is_some() {
            return self.fail_sending(io::ErrorKind::BrokenPipe.into());
        }
        self.flags.set(Flag::HUNG_UP, true);
        if self.is_held() {
            // What was received before is delivered when the other worker has caught up, and the error is found then.
            return;
        }
        // It is not read because the other end of its pipe is full. That end receives the rest later. The error is
        // that of a reset, unless the input has an end: then all of it is here.
        if self.flags.has(Flag::PIPED) && !self.flags.has(Flag::PAUSED) {
            if !self.flags.has(Flag::EOF)
                && let Ok(Some(error)) = self.on_connected(Fd::take_error)
                && error.kind() != io::ErrorKind::BrokenPipe
            {
                self.fail_sending(error);
            }
            return;
        }
        // The kernel reports an error once, and may have reported this one to a send.
        if self.end_with_send_error() {
            return;
        }
        if let Some(error) = self.on_connected(Fd::take_error).ok().flatten() {
            return self.end(Close::from_io(error));
        }
        match self.on_connected(Fd::peek) {
            Ok(0) if !self.flags.has(Flag::BACKLOG) && !self.has_decrypted() => {
                let is_waited_for = has_sent_all || has_partial || self.flags.has(Flag::PIPED);
                if is_waited_for && !is_unfinished && !self.flags.has(Flag::EOF) {
                    return;
                }
                // The input is complete. The other end of a pipe sends all of it.
                self.flags.set(Flag::EOF, true);
                self.end(if is_unfinished {
                    Close::Reset
                } else {
                    self.end_of_input()
                });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.end(Close::from_io(error)),
        }
    }

    /// Whether a hang-up has to be noticed: that of a socket, or that of a separate output.
    pub(crate) fn can_hang_up(&self) -> bool {
        let is_socket = || self.on_connected(|socket| Ok(socket.can_be_reset()));
        self.own_output().is_some()
            || (!self.flags.has(Flag::HUNG_UP) && is_socket().unwrap_or(false))
    }
}

/// Whether the send has failed because the connection is over in both directions. That is so after a failure of TLS,
/// too: it is reported when the records before it are delivered, so that these do not depend on how the input was
/// segmented.
fn is_over(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    let is_lost = matches!(
        error.kind(),
        Kind::BrokenPipe
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::NotConnected
            | Kind::TimedOut
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
    );
    is_lost || is_of_tls(error)
}

fn is_of_tls(error: &io::Error) -> bool {
    matches!(error.get_ref(), Some(inner) if inner.is::<TlsFailure>())
}

//! A channel's calls on its socket.

use std::io::{self, IoSlice};
use std::rc::Rc;

use super::cold::Cold;
use super::{ChannelState, Flag};
use crate::Addr;
use crate::log::log;
use crate::output::fifo::Sink;
use crate::sys::interest::Interest;
use crate::sys::poller::Poller;
use crate::sys::socket::Fd;
use crate::sys::watched_socket::WatchedSocket;
use crate::time::deadlines::Clocks;

/// One direction of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Receiving,
    Sending,
}

/// Where a channel's output goes.
#[derive(Default)]
pub(super) enum Output {
    /// To the descriptor that its input comes from.
    #[default]
    Same,
    /// To another descriptor. Shared while the poller is told to watch it.
    Separate(Rc<WatchedSocket>),
    /// Nowhere: it was shut down.
    Ended,
    /// Nowhere: sending has failed. Its input may go on.
    Failed,
}

impl ChannelState {
    /// Makes a call on its socket, if it has one and is not ending.
    pub(crate) fn on_socket<T>(&self, call: impl FnOnce(&Fd) -> io::Result<T>) -> io::Result<T> {
        match &*self.source.borrow() {
            Some(source) if !self.has_ended() => call(source.socket()),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Makes a call on its socket, if the connection is up.
    #[inline]
    pub(crate) fn on_connected<T>(&self, call: impl FnOnce(&Fd) -> io::Result<T>) -> io::Result<T> {
        match &*self.source.borrow() {
            Some(source) if self.is_up() => call(source.socket()),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Makes a call on where its output goes, if the connection is up.
    #[inline]
    pub(crate) fn on_output<T>(&self, call: impl FnOnce(&Fd) -> io::Result<T>) -> io::Result<T> {
        if let Some(cold) = self.cold.get()
            && self.is_up()
        {
            match &cold.borrow().output {
                Output::Same => {}
                Output::Separate(output) => return call(output.socket()),
                Output::Ended | Output::Failed => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
        self.on_connected(call)
    }

    /// Its output goes elsewhere than where its input comes from.
    pub(crate) fn set_output(&self, output: WatchedSocket) {
        self.with_cold(|cold| cold.output = Output::Separate(Rc::new(output)));
    }

    /// Ends the sending side. Of one with two descriptors, that is the end of the one.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        if let Some(cold) = self.cold.get()
            && self.is_up()
        {
            let ended = match &mut cold.borrow_mut().output {
                Output::Same => None,
                output => Some(std::mem::replace(output, Output::Ended)),
            };
            // Not while it is borrowed: what is logged as it closes goes to the user's subscriber.
            if let Some(ended) = ended {
                // A socket that is both standard input and output (inetd's) does not end with one of
                // its descriptors.
                let outcome = match &ended {
                    Output::Separate(output) => output.socket().shutdown_write(),
                    _ => Ok(()),
                };
                drop(ended);
                return outcome;
            }
        }
        self.on_connected(Fd::shutdown_write)
    }

    /// Whether its input is a stream of bytes, which has an end.
    pub(crate) fn is_stream(&self) -> bool {
        match &*self.source.borrow() {
            Some(source) => source.socket().is_stream(),
            None => true,
        }
    }

    pub(crate) fn set_urgent_inline(&self) {
        let outcome = match &*self.source.borrow() {
            Some(source) => source.socket().set_urgent_inline(),
            None => Ok(()),
        };
        // Not while it is borrowed: what is logged goes to the user's subscriber.
        if let Err(error) = outcome {
            // A socket without the option has no urgent data.
            log!(debug, %error, "SO_OOBINLINE is not set");
        }
    }

    pub(crate) fn discard_urgent(&self) {
        if let Some(source) = &*self.source.borrow() {
            source.socket().discard_urgent();
        }
    }

    /// Whether this poller can watch its socket, if it has one.
    ///
    /// # Errors
    /// When it can not.
    pub(crate) fn can_be_watched(&self, poller: &Poller) -> io::Result<()> {
        match &*self.source.borrow() {
            Some(source) => poller.can_watch(source.socket())?,
            None => return Ok(()),
        }
        match self.cold.get().map(|cold| cold.borrow()).as_deref() {
            Some(Cold {
                output: Output::Separate(output),
                ..
            }) => poller.can_watch(output.socket()),
            _ => Ok(()),
        }
    }

    /// Receives, and remembers the end of it.
    pub(crate) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.on_connected(|socket| socket.recv(buffer))?;
        if count == 0 && !buffer.is_empty() && self.is_stream() {
            self.flags.set(Flag::EOF, true);
        }
        self.bytes_in.set(self.bytes_in.get() + count as u64);
        self.time(Clocks::moved);
        Ok(count)
    }

    /// Receives a datagram.
    pub(crate) fn recv_from(self: &Rc<Self>, buffer: &mut [u8]) -> io::Result<(usize, Addr)> {
        let received = self.on_connected(|socket| socket.recv_from(buffer));
        self.schedule();
        let (count, peer) = received?;
        self.bytes_in.set(self.bytes_in.get() + count as u64);
        self.time(Clocks::moved);
        Ok((count, peer))
    }

    /// A chat's socket belongs to its splitter and its queue.
    pub(crate) fn refuse_chat(&self, what: &str) -> io::Result<()> {
        if self.is_chat() {
            let why = format!("{what} would go past the chat's own queue and records");
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        Ok(())
    }

    /// Notes how a dispatcher's own call on the socket has ended.
    pub(crate) fn note(self: &Rc<Self>, outcome: &io::Result<usize>, side: Side) {
        if let Err(error) = outcome
            && error.kind() != io::ErrorKind::WouldBlock
            && self.is_stream()
        {
            self.failed_call.set(Some((side, error.kind())));
        }
        self.schedule();
    }

    /// Accounts for a send, and remembers whether the kernel wants more.
    pub(crate) fn sent(&self, outcome: io::Result<usize>, offered: usize) -> io::Result<usize> {
        match &outcome {
            Ok(count) => {
                self.bytes_out.set(self.bytes_out.get() + *count as u64);
                // What cannot be waited for says at the next try why it has not taken all.
                let is_short = *count < offered && !self.is_always_writable();
                self.flags.set(Flag::BLOCKED, is_short);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.flags.set(Flag::BLOCKED, true)
            }
            Err(_) => return outcome,
        }
        let (all, sent) = (!self.flags.has(Flag::BLOCKED), self.bytes_out.get());
        self.time(|clocks, now| {
            if outcome.is_ok() {
                clocks.moved(now);
            }
            clocks.offered(now, all, sent);
        });
        outcome
    }

    fn is_always_writable(&self) -> bool {
        self.own_output()
            .is_some_and(|output| output.socket().is_always_writable())
    }

    /// Gives the socket up, watched as it is, with its sending side shut down; or, for a stream that
    /// is cut in its middle, with a reset to come. `None` when the connection is gone, or its close can
    /// not destroy what was sent: only sockets are reset, and only what was sent through the same one
    /// is lost by it.
    pub(crate) fn give_up_socket(&self, is_cut: bool) -> Option<WatchedSocket> {
        let mut source = self.source.borrow_mut();
        let socket = source.as_ref()?.socket();
        if self.has_own_output() || !socket.can_be_reset() {
            return None;
        }
        match is_cut {
            true => socket.reset_on_close().ok()?,
            false => socket.shutdown_write().ok()?,
        }
        source.take()
    }

    /// Whether its output goes, or went, elsewhere than where its input comes from.
    pub(crate) fn has_own_output(&self) -> bool {
        let cold = self.cold.get();
        cold.is_some_and(|cold| !matches!(cold.borrow().output, Output::Same))
    }

    /// Gives it the socket of the attempt that has come up, or takes the one that it has.
    pub(crate) fn replace_source(&self, source: Option<WatchedSocket>) {
        self.source.replace(source);
    }

    /// Makes the close to come a reset.
    pub(crate) fn reset_on_close(&self) {
        let outcome = match &*self.source.borrow() {
            Some(source) => source.socket().reset_on_close(),
            None => Ok(()),
        };
        // Not while it is borrowed: what is logged goes to the user's subscriber.
        if let Err(error) = outcome {
            // A socket that can not be told is at least closed.
            log!(debug, %error, "a reset will be an ordinary close");
        }
    }

    /// Has the poller watch the socket for this, and for nothing if it is nothing. `new_key` is a poll key
    /// that the channel has not had, `known_key` the last one, which its two descriptors share.
    pub(crate) fn watch(
        &self,
        poller: &Rc<Poller>,
        interest: Interest,
        new_key: impl Fn() -> usize,
        known_key: impl Fn() -> usize,
    ) -> io::Result<()> {
        let source = self.source.borrow();
        let Some(source) = &*source else {
            return Ok(());
        };
        let Some(output) = self.own_output() else {
            return source.watch(poller, interest, new_key);
        };
        // The hang-up of the input alone has been reported.
        let of_input = match self.flags.has(Flag::HUNG_UP) && interest == Interest::HANG_UP {
            true => Interest::NONE,
            false => interest.only_read(),
        };
        // A new key for one of them would make that of the other stale.
        source.watch(poller, of_input, &known_key)?;
        // A regular file does not hang up, and no poller takes it.
        let of_output = match interest == Interest::HANG_UP && self.is_always_writable() {
            true => Interest::NONE,
            false => interest.only_write(),
        };
        output.watch(poller, of_output, known_key)
    }

    /// An event was delivered for it.
    pub(crate) fn reported(&self) {
        self.wakeups.set(self.wakeups.get() + 1);
        if let Some(source) = &*self.source.borrow() {
            source.disarm_if_one_shot();
        } else {
            self.connect_event_reported();
        }
        if let Some(output) = self.own_output() {
            output.disarm_if_one_shot();
        }
    }

    /// Nothing can be sent any more.
    pub(super) fn end_output(&self) {
        let Some(cold) = self.cold.get() else { return };
        let output = std::mem::replace(&mut cold.borrow_mut().output, Output::Ended);
        // Not while it is borrowed: what is logged as it closes goes to the user's subscriber.
        drop(output);
    }

    /// Where its output goes, if that is elsewhere.
    pub(super) fn own_output(&self) -> Option<Rc<WatchedSocket>> {
        match &self.cold.get()?.borrow().output {
            Output::Separate(output) => Some(Rc::clone(output)),
            _ => None,
        }
    }
}

/// Where a chat's queue is sent.
pub(crate) struct ToSocket<'a>(pub(crate) &'a ChannelState);

impl Sink for ToSocket<'_> {
    fn send(&mut self, data: &[u8]) -> io::Result<usize> {
        let outcome = self.0.on_output(|output| output.send(data));
        self.0.sent(outcome, data.len())
    }

    fn send_gathered(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let outcome = self.0.on_output(|output| output.send_vectored(parts));
        self.0
            .sent(outcome, parts.iter().map(|part| part.len()).sum())
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.shutdown_write()
    }

    fn is_open(&self) -> bool {
        !self.0.has_ended()
    }
}

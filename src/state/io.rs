//! The calls of a channel on its socket.

use std::io::{self, IoSlice};
use std::rc::Rc;

use super::{ChannelState, Flag, Phase};
use crate::Addr;
use crate::log::log;
use crate::output::fifo::Sink;
use crate::sys::interest::Interest;
use crate::sys::poller::Poller;
use crate::sys::socket::{Fd, Socket, is_lost, log_lost, skip_lost};
use crate::sys::watched_socket::WatchedSocket;
use crate::time::deadlines::Clocks;

/// One direction of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Receiving,
    Sending,
}

/// Where the output of a channel goes.
#[derive(Default)]
pub(super) enum Output {
    /// To the descriptor that the input comes from.
    #[default]
    Same,
    /// To another descriptor. Shared while the poller is asked to watch it.
    Separate(Rc<WatchedSocket>),
    /// Nowhere: the sending side was shut down.
    Ended,
    /// Nowhere: sending has failed. The input may continue.
    Failed,
}

impl ChannelState {
    /// Makes a call on the socket, if there is one and the channel is not ending. The call must not log: a subscriber is
    /// user code, and it may close a channel that is not registered, which needs the socket. An accept may log on some
    /// systems: its listener is registered, so its close waits for the loop.
    pub(crate) fn on_socket<T>(&self, call: impl FnOnce(&Fd) -> io::Result<T>) -> io::Result<T> {
        match &*self.source.borrow() {
            Some(source) if !self.has_ended() => call(source.socket()),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Makes a call on the socket, if the connection is up.
    #[inline]
    pub(crate) fn on_connected<T>(&self, call: impl FnOnce(&Fd) -> io::Result<T>) -> io::Result<T> {
        match &*self.source.borrow() {
            Some(source) if self.is_up() => call(source.socket()),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Makes a call on the descriptor for output, if the connection is up.
    #[inline]
    pub(crate) fn on_output<T>(&self, call: impl FnOnce(&Fd) -> io::Result<T>) -> io::Result<T> {
        if self.has_cold.get()
            && self.is_up()
            && let Some(output) = self.other_output()
        {
            return call(output?.socket());
        }
        self.on_connected(call)
    }

    /// Where the output goes, if not to the descriptor for input. That may be a socket, which must not get it.
    #[inline(never)] // Few connections have cold state.
    fn other_output(&self) -> Option<io::Result<Rc<WatchedSocket>>> {
        self.cold(|cold| match &cold.output {
            Output::Same => None,
            Output::Separate(output) => Some(Ok(Rc::clone(output))),
            Output::Ended | Output::Failed => Some(Err(io::ErrorKind::BrokenPipe.into())),
        })?
    }

    /// Sets an option of the descriptor for output, also during a handshake in the middle of a connection.
    pub(crate) fn set_output_option(
        &self,
        set: impl FnOnce(&Fd) -> io::Result<()>,
    ) -> io::Result<()> {
        if !self.is_upgrading() {
            return self.on_output(set);
        }
        match self.own_output() {
            Some(output) => set(output.socket()),
            None => self.on_socket(set),
        }
    }

    /// Sends the output to another descriptor than that of the input.
    pub(crate) fn set_output(&self, output: WatchedSocket) {
        self.with_cold(|cold| cold.output = Output::Separate(Rc::new(output)));
    }

    /// Ends the sending side. With two descriptors, that closes the one for output.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        if self.flags.has(Flag::STAGED) && (self.is_up() || self.is_upgrading()) {
            self.shut_down_secured()
        } else {
            self.shut_down_socket()
        }
    }

    pub(super) fn shut_down_socket(&self) -> io::Result<()> {
        if self.is_up() {
            let ended = self.cold(|cold| match &mut cold.output {
                Output::Same => None,
                output => Some(std::mem::replace(output, Output::Ended)),
            });
            // After the borrow: closing may log an event, and a subscriber is user code.
            if let Some(ended) = ended.flatten() {
                // A socket that is standard input and standard output (inetd) has two descriptors: closing
                // one of them does not end it.
                let outcome = match &ended {
                    Output::Separate(output) => output.socket().shutdown_write(),
                    _ => Ok(()),
                };
                drop(ended);
                // A hang-up of the input that was reported before is to be reported once more: now it may end
                // the channel.
                self.flags.set(Flag::HUNG_UP, false);
                if outcome.is_ok() {
                    self.flags.set(Flag::FINISHED, true);
                }
                return outcome;
            }
        }
        self.on_connected(Fd::shutdown_write)?;
        self.flags.set(Flag::FINISHED, true);
        Ok(())
    }

    /// Whether the input is a stream of bytes, which has an end.
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
        // After the borrow: a subscriber is user code.
        if let Err(error) = outcome {
            // A socket without this option has no urgent data.
            log!(debug, %error, "SO_OOBINLINE is not set");
        }
    }

    pub(crate) fn discard_urgent(&self) {
        if let Some(source) = &*self.source.borrow() {
            source.socket().discard_urgent();
        }
    }

    /// Whether this poller can watch the descriptors of the channel, if it has any.
    ///
    /// # Errors
    /// When it cannot.
    pub(crate) fn can_be_watched(&self, poller: &Poller) -> io::Result<()> {
        match &*self.source.borrow() {
            Some(source) => poller.can_watch(source.socket())?,
            None => return Ok(()),
        }
        match self.own_output() {
            Some(output) => poller.can_watch(output.socket()),
            None => Ok(()),
        }
    }

    /// Receives, and notes the end of the stream.
    pub(crate) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = if self.flags.has(Flag::STAGED) {
            self.recv_secured(buffer)
        } else {
            match self.on_connected(|socket| socket.recv(buffer)) {
                // Not while the socket is borrowed: a lost datagram is logged.
                Err(error) if is_lost(&error) => {
                    log_lost(&error);
                    skip_lost(|| self.on_connected(|socket| socket.recv(buffer)))
                }
                outcome => outcome,
            }
        }?;
        if count == 0 && !buffer.is_empty() && self.is_stream() {
            self.flags.set(Flag::EOF, true);
            // A hang-up that was reported before is to be reported once more: now it ends the channel.
            self.flags.set(Flag::HUNG_UP, false);
        }
        self.bytes_in.set(self.bytes_in.get() + count as u64);
        // What a stage has received is timed when it comes from the socket.
        if self.is_timed() && !self.flags.has(Flag::STAGED) {
            self.time_received(count, buffer.len());
        }
        Ok(count)
    }

    /// Whether a stage takes the output. A channel with a stage has cold state. Every send checks for cold state anyway, so
    /// most sends need not read the flag.
    #[inline]
    fn is_staged(&self) -> bool {
        self.has_cold.get() && self.flags.has(Flag::STAGED)
    }

    /// Receives from the descriptor, below a stage.
    pub(super) fn receive_raw(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &*self.source.borrow() {
            Some(source) => source.socket().recv(buffer),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Sends to the descriptor for output, below a stage.
    pub(super) fn send_raw(&self, data: &[u8]) -> io::Result<usize> {
        if let Some(output) = self.other_output() {
            return output?.socket().send(data);
        }
        match &*self.source.borrow() {
            Some(source) => source.socket().send(data),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Receives the urgent byte.
    pub(crate) fn recv_urgent(&self) -> io::Result<u8> {
        if self.flags.has(Flag::STAGED) {
            return Err(no_urgent_data());
        }
        let byte = self.on_connected(Fd::recv_urgent)?;
        self.bytes_in.set(self.bytes_in.get() + 1);
        self.time(Clocks::moved);
        Ok(byte)
    }

    /// Receives a datagram.
    pub(crate) fn recv_from(self: &Rc<Self>, buffer: &mut [u8]) -> io::Result<(usize, Addr)> {
        let received = skip_lost(|| self.on_connected(|socket| socket.recv_from(buffer)));
        self.schedule();
        let (count, peer) = received?;
        self.bytes_in.set(self.bytes_in.get() + count as u64);
        self.time(Clocks::moved);
        Ok((count, peer))
    }

    /// Notes the outcome of a dispatcher's own call on the socket. If the dispatcher returns the error from
    /// a callback, the error is known to be the connection's.
    pub(crate) fn note(self: &Rc<Self>, outcome: &io::Result<usize>, side: Side) {
        if let Err(error) = outcome
            && error.kind() != io::ErrorKind::WouldBlock
            && self.is_stream()
        {
            self.failed_call.set(Some((side, error.kind())));
        }
        self.schedule();
    }

    /// Counts what was sent, and notes whether the kernel accepts more.
    #[inline(always)] // Each turn that sends calls it.
    pub(crate) fn sent(&self, outcome: io::Result<usize>, offered: usize) -> io::Result<usize> {
        match &outcome {
            Ok(count) => {
                self.bytes_out.set(self.bytes_out.get() + *count as u64);
                // A descriptor that cannot be waited for reports with the next send why it has not accepted
                // everything.
                let is_short = *count < offered && !self.is_always_writable();
                self.flags.set(Flag::BLOCKED, is_short);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.flags.set(Flag::BLOCKED, true);
            }
            Err(_) => return outcome,
        }
        if self.is_timed() {
            self.time_sent(outcome.as_ref().ok().copied(), offered);
        }
        outcome
    }

    /// How many bytes the kernel has accepted in the life of the connection: with TLS, of ciphertext.
    pub(super) fn accepted_out(&self) -> u64 {
        if self.flags.has(Flag::STAGED) {
            self.ciphertext_out()
        } else {
            self.bytes_out()
        }
    }

    /// Counts what a stage has taken.
    pub(super) fn count_sent(&self, count: usize) {
        self.bytes_out.set(self.bytes_out.get() + count as u64);
    }

    fn is_always_writable(&self) -> bool {
        self.own_output()
            .is_some_and(|output| output.socket().is_always_writable())
    }

    /// Gives up the socket for lingering, still watched. Its sending side is shut down; a stream that is cut
    /// in its middle is prepared for a reset instead. `None` when the connection is gone, or when closing it
    /// cannot destroy what was sent: only sockets are reset, and a reset only destroys what was sent through
    /// the same socket.
    pub(crate) fn give_up_socket(&self, is_cut: bool) -> Option<WatchedSocket> {
        let mut source = self.source.borrow_mut();
        let socket = source.as_ref()?.socket();
        if self.has_own_output() || !socket.can_be_reset() {
            return None;
        }
        if is_cut {
            socket.reset_on_close().ok()?;
        } else {
            socket.shutdown_write().ok()?;
        }
        source.take()
    }

    /// Gives up the descriptor for output, still watched, so that the loop sends the rest of the output.
    pub(crate) fn give_up_output(&self) -> Option<WatchedSocket> {
        if !self.has_own_output() {
            return self.source.borrow_mut().take();
        }
        match self.cold(|cold| std::mem::replace(&mut cold.output, Output::Ended))? {
            Output::Separate(output) => Rc::into_inner(output),
            Output::Same | Output::Ended | Output::Failed => None,
        }
    }

    /// Gives up the socket for the user. It is no longer watched.
    pub(crate) fn release_socket(&self) -> io::Result<Socket> {
        if !self.is_up() && self.phase.get() != Phase::Listening {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if self.flags.has(Flag::STAGED) || self.flags.has(Flag::UPGRADING) {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a connection with TLS cannot be released without its keys",
            ));
        }
        // A subscriber may call this while `polling` logs: see `watch`.
        let source = match self.source.try_borrow_mut() {
            Ok(mut source) => source.take(),
            Err(_) => return Err(io::ErrorKind::ResourceBusy.into()),
        };
        let Some(source) = source else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let output = self.own_output();
        if output.is_some() {
            self.end_output();
        }
        let output = output.and_then(Rc::into_inner);
        let mut socket =
            Socket::from_parts(source.into_socket(), output.map(WatchedSocket::into_socket));
        socket.set_file(self.take_socket_file());
        Ok(socket)
    }

    /// Whether it has, or had, another descriptor for output than for input.
    pub(crate) fn has_own_output(&self) -> bool {
        self.cold(|cold| !matches!(cold.output, Output::Same)) == Some(true)
    }

    /// Sets the socket: that of the attempt which is connected, or none.
    pub(crate) fn replace_source(&self, source: Option<WatchedSocket>) {
        self.source.replace(source);
    }

    /// Makes the close of the socket a reset (TCP RST).
    pub(crate) fn reset_on_close(&self) {
        let outcome = match &*self.source.borrow() {
            Some(source) => source.socket().reset_on_close(),
            None => Ok(()),
        };
        // After the borrow: a subscriber is user code.
        if let Err(error) = outcome {
            // Without a reset the socket is closed all the same. XNU refuses SO_LINGER, as every option, to a
            // connection that has ended in both directions, where there is nothing to reset.
            log!(debug, %error, "a reset will be an ordinary close");
        }
    }

    /// Makes the poller watch the socket for `interest`, or stop watching it if there is none. `new_key`
    /// makes a poll key that the channel has not had. `known_key` is the current one, which two descriptors
    /// share.
    ///
    /// The source is borrowed while `polling` may log, which calls a subscriber. The borrow is shared, and
    /// methods of handles borrow the source shared as well.
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
        // The hang-up of the input alone was reported already.
        let of_input = if self.flags.has(Flag::HUNG_UP) && interest == Interest::HANG_UP {
            Interest::NONE
        } else {
            interest.only_read()
        };
        // A new key for one descriptor would make that of the other stale.
        source.watch(poller, of_input, &known_key)?;
        // A regular file does not hang up, and no poller watches it.
        let of_output = if interest == Interest::HANG_UP && self.is_always_writable() {
            Interest::NONE
        } else {
            interest.only_write()
        };
        output.watch(poller, of_output, known_key)
    }

    /// Makes the poller watch none of the channel's sockets, until its next turn. See [`watch`](ChannelState::watch).
    pub(crate) fn unwatch(&self) {
        if let Some(source) = &*self.source.borrow() {
            source.unwatch();
        } else {
            self.unwatch_attempts();
        }
        if let Some(output) = self.own_output() {
            output.unwatch();
        }
    }

    /// The poller has reported an event of this channel.
    pub(crate) fn reported(&self) {
        self.wakeups.set(self.wakeups.get().wrapping_add(1));
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
        let output = self.cold(|cold| std::mem::replace(&mut cold.output, Output::Ended));
        // After the borrow: closing may log an event, and a subscriber is user code.
        drop(output);
    }

    /// The descriptor for output, if it is not that of the input.
    #[inline(always)] // Few connections have one.
    pub(super) fn own_output(&self) -> Option<Rc<WatchedSocket>> {
        self.cold(|cold| match &cold.output {
            Output::Separate(output) => Some(Rc::clone(output)),
            _ => None,
        })?
    }
}

/// The sink of the queue of a chat: its socket.
pub(crate) struct ToSocket<'a>(pub(crate) &'a ChannelState);

impl Sink for ToSocket<'_> {
    #[inline(always)] // The pump calls it in one place.
    fn send(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.0.is_staged() {
            return self.0.send_secured(&[IoSlice::new(data)]);
        }
        let outcome = self.0.on_output(|output| output.send(data));
        self.0.sent(outcome, data.len())
    }

    fn send_gathered(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.0.is_staged() {
            return self.0.send_secured(parts);
        }
        let outcome = self.0.on_output(|output| output.send_vectored(parts));
        self.0
            .sent(outcome, parts.iter().map(|part| part.len()).sum())
    }

    /// A stage holds no more than the budget of a turn.
    fn takes_excess(&self) -> bool {
        !self.0.flags.has(Flag::STAGED)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.0.flags.has(Flag::STAGED) {
            self.0.finish_secured(false)
        } else {
            Ok(())
        }
    }

    fn finish(&mut self, is_whole: bool) -> io::Result<()> {
        if self.0.flags.has(Flag::STAGED) {
            self.0.finish_secured(is_whole)
        } else {
            Ok(())
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.shutdown_write()
    }

    fn is_open(&self) -> bool {
        !self.0.has_ended()
    }
}

/// Urgent data is outside the stream of records.
pub(crate) fn no_urgent_data() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "TLS has no urgent data")
}

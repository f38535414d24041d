//! A channel's calls on its socket.

use std::io;
use std::rc::Rc;

use super::rare::Rare;
use super::{ChannelState, Phase};
use crate::Addr;
use crate::log::log;
use crate::runtime::Runtime;
use crate::sys::interest::Interest;
use crate::sys::poller::Poller;
use crate::sys::socket::Fd;
use crate::sys::watched_socket::WatchedSocket;
use crate::time::deadlines::Clocks;

/// The side of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Receiving,
    Sending,
}

/// Where a channel's output goes.
#[derive(Default)]
pub(super) enum Output {
    /// Where its input comes from.
    #[default]
    Same,
    /// Shared for as long as it is being watched.
    Apart(Rc<WatchedSocket>),
    /// It was shut down.
    Ended,
    /// It could not be sent to any more. What its input brings is another matter.
    Failed,
}

impl ChannelState {
    /// Makes a call on its socket, if it has one.
    pub(crate) fn on_socket<T>(&self, call: impl FnOnce(&Fd) -> io::Result<T>) -> io::Result<T> {
        match &*self.source.borrow() {
            Some(source) if !self.is_ending() => call(source.socket()),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Makes a call on its socket, if the connection is up.
    pub(crate) fn on_connected<T>(&self, call: impl FnOnce(&Fd) -> io::Result<T>) -> io::Result<T> {
        match self.phase.get() {
            Phase::Open => self.on_socket(call),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Makes a call on where its output goes, if the connection is up.
    pub(crate) fn on_output<T>(&self, call: impl FnOnce(&Fd) -> io::Result<T>) -> io::Result<T> {
        if let Some(rare) = self.rare.get()
            && self.phase.get() == Phase::Open
            && !self.is_ending()
        {
            match &rare.borrow().output {
                Output::Same => {}
                Output::Apart(output) => return call(output.socket()),
                Output::Ended | Output::Failed => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
        self.on_connected(call)
    }

    /// Its output goes elsewhere than where its input comes from.
    pub(crate) fn set_output(&self, output: WatchedSocket) {
        self.rarely(|rare| rare.output = Output::Apart(Rc::new(output)));
    }

    /// Ends the sending side. Of one with two descriptors, that is the end of the one.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        if let Some(rare) = self.rare.get()
            && self.phase.get() == Phase::Open
        {
            let ended = match &mut rare.borrow_mut().output {
                Output::Same => None,
                output => Some(std::mem::replace(output, Output::Ended)),
            };
            // Not while it is borrowed: what is logged as it closes goes to the user's subscriber.
            if let Some(ended) = ended {
                // A socket that is both standard input and output (inetd's) does not end with one of
                // its descriptors.
                let outcome = match &ended {
                    Output::Apart(output) => output.socket().shutdown_write(),
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

    pub(crate) fn drop_out_of_band(&self) {
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
        match self.rare.get().map(|rare| rare.borrow()).as_deref() {
            Some(Rare {
                output: Output::Apart(output),
                ..
            }) => poller.can_watch(output.socket()),
            _ => Ok(()),
        }
    }

    /// Receives, and remembers the end of it.
    pub(crate) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.on_connected(|socket| socket.recv(buffer))?;
        if count == 0 && !buffer.is_empty() && self.is_stream() {
            self.eof.set(true);
        }
        self.bytes_in.set(self.bytes_in.get() + count as u64);
        self.time(Clocks::moved);
        Ok(count)
    }

    /// Receives a datagram.
    pub(crate) fn recv_from(self: &Rc<Self>, buffer: &mut [u8]) -> io::Result<(usize, Addr)> {
        let received = self.on_connected(|socket| socket.recv_from(buffer));
        self.touch();
        let (count, peer) = received?;
        self.bytes_in.set(self.bytes_in.get() + count as u64);
        self.time(Clocks::moved);
        Ok((count, peer))
    }

    /// A chat's socket belongs to its splitter and its queue.
    pub(crate) fn refuse_chat(&self, what: &str) -> io::Result<()> {
        if self.chat.is_chat.get() {
            let why = format!("{what} would go past the chat's own queue and records");
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        Ok(())
    }

    /// Notes what a dispatcher's own call on the socket has come to.
    pub(crate) fn note(self: &Rc<Self>, outcome: &io::Result<usize>, side: Broken) {
        if let Err(error) = outcome
            && error.kind() != io::ErrorKind::WouldBlock
            && self.is_stream()
        {
            self.broken.set(Some((side, error.kind())));
        }
        self.touch();
    }

    /// Accounts for a send, and remembers whether the kernel wants more.
    pub(crate) fn sent(&self, outcome: io::Result<usize>, offered: usize) -> io::Result<usize> {
        match &outcome {
            Ok(count) => {
                self.bytes_out.set(self.bytes_out.get() + *count as u64);
                // What cannot be waited for says at the next try why it has not taken all.
                self.blocked
                    .set(*count < offered && !self.is_always_writable());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.blocked.set(true),
            Err(_) => return outcome,
        }
        let (all, sent) = (!self.blocked.get(), self.bytes_out.get());
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
        let rare = self.rare.get();
        rare.is_some_and(|rare| !matches!(rare.borrow().output, Output::Same))
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

    /// Watches the socket for this, and for nothing if it is nothing.
    pub(crate) fn watch(&self, runtime: &Rc<Runtime>, interest: Interest) -> io::Result<()> {
        let source = self.source.borrow();
        let Some(source) = &*source else {
            return Ok(());
        };
        if let Some(output) = self.own_output() {
            // One key for both: a new one for the one would make that of the other stale.
            let key = || runtime.shared_poll_key(self.id.get());
            // The hang-up of the input alone has been reported.
            let of_input = match self.hung_up.get() && interest == Interest::HANG_UP {
                true => Interest::NONE,
                false => interest.only_read(),
            };
            source.watch(&runtime.poller, of_input, key)?;
            // A regular file does not hang up, and no poller takes it.
            let of_output = match interest == Interest::HANG_UP && self.is_always_writable() {
                true => Interest::NONE,
                false => interest.only_write(),
            };
            return output.watch(&runtime.poller, of_output, key);
        }
        let key = || runtime.poll_key(self.id.get());
        source.watch(&runtime.poller, interest, key)
    }

    /// An event was delivered for it.
    pub(crate) fn reported(&self) {
        self.wakeups.set(self.wakeups.get() + 1);
        if let Some(source) = &*self.source.borrow() {
            source.disarm_if_one_shot();
        } else if let Some(mut connecting) = self.connecting() {
            connecting.reported();
        }
        if let Some(output) = self.own_output() {
            output.disarm_if_one_shot();
        }
    }

    /// Where its output goes, if that is elsewhere.
    pub(super) fn own_output(&self) -> Option<Rc<WatchedSocket>> {
        match &self.rare.get()?.borrow().output {
            Output::Apart(output) => Some(Rc::clone(output)),
            _ => None,
        }
    }
}

//! `Chat`: the handle of a session's connection.

use std::fmt;
use std::io;
use std::rc::Rc;

use bytes::Bytes;

use crate::channel::handle::Channel;
use crate::chat::session::AsyncChat;
use crate::error::{Close, Error, Result};
use crate::framing::terminator::Terminator;
use crate::limits::Limits;
use crate::log::log_throttled;
use crate::output::fifo::Item;
use crate::output::producers::Producer;
use crate::state::{ChannelState, Flag, Kind, Request};

/// A handle to the connection of a session. asynchat's `async_chat` had its methods in `self`.
///
/// All clones of a handle are the same connection. A chat can be kept anywhere on its thread: a chat room is
/// a map of chats, and a proxy is two sessions, each with the chat of the other. No method makes a callback,
/// so all can be called anywhere, also while the state that sessions share is borrowed. When the connection
/// has ended, they have no effect.
///
/// ```
/// use std::cell::RefCell;
/// use std::rc::Rc;
/// use asynchat::Chat;
///
/// let room: Rc<RefCell<Vec<Chat>>> = Rc::default();
/// # let listener =
/// asynchat::listen("127.0.0.1:0", move |chat| {
///     room.borrow_mut().push(chat);
///     let room = Rc::clone(&room);
///     move |line: &[u8]| {
///         for member in room.borrow().iter() {
///             member.push_slice(line);
///             member.push("\r\n");
///         }
///         Ok(())
///     }
/// })?;
/// # listener.close();
/// # asynchat::run()?;
/// # Ok::<(), asynchat::Error>(())
/// ```
#[derive(Clone)]
pub struct Chat(Channel);

impl Chat {
    pub(crate) fn new(channel: Channel, limits: Option<Rc<Limits>>) -> Self {
        channel.0.kind.set(Kind::Chat);
        channel.0.set_limits(limits);
        Chat(channel)
    }

    /// The chat of a channel whose kind is [`Kind::Chat`].
    pub(crate) fn of(channel: Channel) -> Self {
        Chat(channel)
    }

    /// Queues `data`. The loop sends it after the callback has returned, together with everything else that
    /// was pushed. Large [`Bytes`] are not copied: clones that are pushed to several chats share their
    /// memory.
    ///
    /// A push cannot fail. The bytes are dropped when the connection has ended, or when a close or the end of the
    /// sending side ([`shutdown_write`](Chat::shutdown_write)) is queued.
    #[inline]
    pub fn push(&self, data: impl Into<Bytes>) {
        // The conversion and the destructor may be user code: they run while nothing is borrowed.
        self.push_shared(&data.into());
    }

    /// Queues `data`. A large one is shared.
    #[inline]
    pub(super) fn push_shared(&self, data: &Bytes) {
        let full = self.state().out.borrow_mut().push_bytes(data);
        self.state().pushed(full, || data.len());
    }

    /// Queues a copy of `data`. Small pushes are collected in one buffer, so this does not allocate for each
    /// call. A record of 32 KiB or more that is just being delivered may be queued by reference. Its buffer is at most a
    /// quarter longer.
    #[inline(always)]
    pub fn push_slice(&self, data: &[u8]) {
        self.push_slices(&[data]);
    }

    /// Queues these slices, one after the other, each as [`push_slice`](Chat::push_slice) does. It costs less than a
    /// push of each.
    ///
    /// ```
    /// # fn reply(chat: &asynchat::Chat, group: &[u8]) {
    /// chat.push_slices(&[b"411 no such group: ", group, b"\r\n"]);
    /// # }
    /// ```
    #[inline(always)]
    pub fn push_slices(&self, parts: &[&[u8]]) {
        // This pointer stays in a register. `self.state()` would be read again after the push.
        let state: &ChannelState = self.state();
        let full = (state.out.borrow_mut()).push_slices(parts, |part| state.shared_part(part));
        if full || !state.is_scheduled() {
            let weight = || parts.iter().map(|part| part.len()).sum();
            self.state().pushed(full, weight);
        }
    }

    /// Queues formatted text. `write!(chat, "211 {count}\r\n")` calls it, without an import and without a
    /// `Result`. The text is formatted directly into the queue. A `Display` implementation that fails cuts
    /// its text short, which is logged as a warning.
    ///
    /// ```
    /// # fn reply(chat: &asynchat::Chat) {
    /// let (count, low, high) = (1234, 3000234, 3002322);
    /// write!(chat, "211 {count} {low} {high} misc.test\r\n");
    /// # }
    /// ```
    pub fn write_fmt(&self, text: fmt::Arguments<'_>) {
        struct Tail<'a>(&'a Chat);
        impl fmt::Write for Tail<'_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0.push_slice(text.as_bytes());
                Ok(())
            }
        }
        if fmt::Write::write_fmt(&mut Tail(self), text).is_err() {
            log_throttled!(
                warn,
                "a Display implementation failed: its text is cut short"
            );
        }
    }

    /// Queues a producer. When everything before it has been sent, the loop asks it for bytes, as fast as
    /// the peer takes them. The loop drops it when it is done, or when the connection has ended. A producer
    /// that returns an error ends the connection with [`Close::Handler`]. The peer receives what was sent before
    /// the error, and then a reset, so that it does not take the output for complete. The reset waits until the peer has
    /// that, so it may come after [`handle_close`](crate::AsyncChat::handle_close). The rest of the queue is dropped.
    pub fn push_with_producer(&self, producer: impl Producer + 'static) {
        self.state().push_item(Item::Producer(Box::new(producer)));
    }

    /// Queues a function. The loop calls it when the kernel has accepted everything pushed before it. If the
    /// connection ends before that, the loop drops it uncalled. Where a close is queued behind the hook, what the
    /// hook pushes is dropped, and a call that it [posts](Chat::post) to the session comes too late: use
    /// [`Close::sent_all`] in `handle_close` instead.
    pub fn push_hook(&self, hook: impl FnOnce() + 'static) {
        self.state().push_item(Item::Hook(Box::new(hook)));
    }

    /// Queues a close: the connection closes with [`Close::Local`] when the kernel has accepted everything
    /// pushed before. From this call on nothing more can be pushed, and no more records are delivered. The
    /// socket then [lingers](crate::Deadlines#structfield.linger), so that the output also reaches a peer
    /// that is still sending.
    pub fn close_when_done(&self) {
        self.state().close_when_done(Close::Local);
    }

    /// The socket is closed as soon as the connection closes, and does not [linger](crate::Deadlines#structfield.linger).
    /// Call it for a peer that has said that it sends nothing more: with QUIT (RFC 5321 section 4.1.1.10, RFC 3977
    /// section 5.4), or with `Connection: close` in a request that has been received whole (RFC 9112 section 9.6). It saves
    /// five system calls.
    ///
    /// A peer that sends something all the same may lose the last output. A lingering socket is closed when its peer
    /// receives nothing for too long; here the kernel alone decides how long it keeps what it has accepted, and
    /// [`run`](crate::run) and [`shutdown`](crate::shutdown) do not wait for it. Has no effect with TLS, where the peer
    /// answers the end with an alert, nor after a producer that has failed: the reset would destroy what was sent before.
    ///
    /// ```
    /// # fn quit(chat: &asynchat::Chat) {
    /// chat.push("205 goodbye\r\n");
    /// chat.close_when_done();
    /// chat.skip_linger();
    /// # }
    /// ```
    pub fn skip_linger(&self) {
        self.state().flags.set(Flag::SKIPS_LINGER, true);
    }

    /// Queues the end of the sending side (TCP FIN), after everything pushed before. Records are still
    /// delivered. From this call on what is pushed is dropped, except hooks and a close.
    pub fn shutdown_write(&self) {
        self.state().push_item(Item::ShutdownWrite);
    }

    /// Sets the terminator of the records that follow. It applies to the first byte that has not been
    /// delivered, also if it was received already. Inside a [`dot_block`](Terminator::dot_block) the dots
    /// that were removed so far are not restored: set the next terminator after the block's end.
    pub fn set_terminator(&self, terminator: Terminator) {
        self.state().set_terminator(terminator);
    }

    /// The current terminator. Default: [`Terminator::crlf`].
    pub fn terminator(&self) -> Terminator {
        self.state().terminator()
    }

    /// Sets the limits of this connection. Default: those of its server, its connector or its loop. A new
    /// record limit applies to the current record as well.
    pub fn set_limits(&self, limits: Limits) {
        let state = self.state();
        state.set_limits(Some(Rc::new(limits)));
        state.flags.set(Flag::LIMITS_SET, true);
        state.requests.add(Request::CHECK);
        // A queue above the old marks may be below the new ones: the next turn checks it.
        state.flags.set(Flag::BLOCKED, false);
        state.schedule();
    }

    /// The limits of this connection.
    pub fn limits(&self) -> Limits {
        self.state().limit(|limits| *limits)
    }

    /// How many bytes are queued and not yet accepted by the kernel. What producers will make is not
    /// counted. With TLS, bytes that are encrypted count as they are: a record of at most 16 KiB takes about
    /// 20 bytes more. They count towards no limit; there are at most about 64 KiB.
    pub fn queued(&self) -> usize {
        self.state().out.borrow().queued() + self.state().ciphertext_held()
    }

    /// Makes the loop ask the producer at the front of the queue again, after it has returned
    /// [`More::Pending`](crate::More::Pending).
    pub fn resume_producing(&self) {
        self.state().resume_producing();
    }

    /// Drops the queued output, with its producers and hooks, and the input that was received and not
    /// delivered. A queued close stays. What is dropped here does not count for
    /// [`Close::sent_all`]. As in asynchat, this is for emergencies: the current record is lost,
    /// and the next byte received begins a new record.
    pub fn discard_buffers(&self) {
        let state = self.state();
        state.requests.add(Request::DISCARD);
        let discarded = state.out.borrow_mut().discard();
        state.drop_later(discarded);
        state.flags.set(Flag::BLOCKED, false);
        state.time(|clocks, _| {
            clocks.drained();
            clocks.end_record();
        });
        state.schedule();
    }

    /// Makes the loop call `callback` with this connection's handler, which must be a `C`, in its next turn.
    /// A timer, a hook or another session changes the state of a session this way. It is a callback like any
    /// other: an error that it returns closes the connection. If the connection ends before the call, it is
    /// dropped uncalled.
    ///
    /// On an accepted connection [`handle_connect`](AsyncChat::handle_connect) comes first. On an outgoing one that is
    /// not up yet the call follows the factory, and comes before `handle_connect`, or before a `handle_close` with
    /// [`Close::ConnectFailed`]. What it pushes is sent when the connection is up.
    ///
    /// [`Remote::post_to`](crate::Remote::post_to) does the same from another thread.
    ///
    /// ```
    /// # struct Player { score: u32 }
    /// # impl asynchat::AsyncChat for Player {
    /// # fn found_terminator(&mut self, _: &[u8]) -> asynchat::Result { Ok(()) }
    /// # }
    /// # fn score(player: &asynchat::Chat) {
    /// // Write the type of the handler: the compiler does not infer it. An error means that the player has left.
    /// let _ = player.post(|player: &mut Player| {
    ///     player.score += 1;
    ///     Ok(())
    /// });
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the connection has ended, or its handler is not a `C`.
    pub fn post<C: AsyncChat>(
        &self,
        callback: impl FnOnce(&mut C) -> Result + 'static,
    ) -> Result<(), Error> {
        self.channel().post_to_handler(callback)
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.0
    }

    #[inline]
    pub(crate) fn state(&self) -> &Rc<ChannelState> {
        &self.0.0
    }
}

/// For functions that write to any writer. Writing never fails. `write!` on a [`Chat`] itself calls
/// [`Chat::write_fmt`], which needs no import and returns nothing.
impl io::Write for &Chat {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.push_slice(data);
        Ok(data.len())
    }

    /// Does nothing: the loop sends the queue.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Chat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chat")
            .field("id", &self.id())
            .field("peer", &self.peer_addr())
            .field("queued", &self.queued())
            .finish()
    }
}
